//! Trees of which the disk damaged blocks are made anew from the logs, once the disk is sound.
//!
//! Source: `db::trees`: a damaged block of the own trees is dropped when it is read, and the next opening makes both anew. So
//! an opening may find damage that nobody met before, and the one after it finds none. What the disk took of the store
//! itself, or of logs, does not come back in this way, and is not asked for.

use std::time::Duration;

use autobee::db::sim_hooks;
use autobee::env::Env as _;

use super::look::at_once;
use super::trees::shapes;
use super::{SimError, Simulation};
use crate::invariant::Violation;
use crate::replica::Crash;
use crate::simulated_world::SimulatedWorld;

/// How long a database may take to open, and to make its trees anew from what it has.
const REBUILD: Duration = Duration::from_secs(6);

/// After how many openings nothing of the trees is damaged any more.
const OPENINGS: usize = 2;

impl<S: SimulatedWorld> Simulation<'_, S> {
    /// Whose disk damaged what it stored, and is sound again, reads its trees after two openings, and they are what its logs
    /// say.
    pub(super) fn rebuilt(&mut self) -> Result<(), SimError> {
        let mut left: Vec<usize> = self.checks.claims().damaged.iter().copied().collect();
        left.retain(|replica| !self.group.is_lost(*replica) && self.group.has_run(*replica));
        for opening in 1..=OPENINGS {
            if left.is_empty() {
                break;
            }
            for replica in &left {
                self.group.crash(&self.world, *replica, Crash::Kill);
                self.group.restart(&self.world, *replica);
            }
            self.world.run_for(REBUILD)?;
            let looks = self.take_looks();
            let now = self.world.now();
            let verify = self.world.env(self.group.id(0)).crypto().clone();
            self.checks.tick(&self.group, &looks, now, true, &verify);
            self.checks.judge_each(&self.group, &looks, now, &left, &verify);
            let unread = |simulation: &mut Self| {
                let unread = left.iter().map(|replica| (*replica, simulation.unread(*replica)));
                unread.collect::<Vec<_>>()
            };
            let unread = self.observe(unread);
            let mut is_last = opening == OPENINGS;
            left.clear();
            for (replica, what) in unread {
                let Some(what) = what else { continue };
                left.push(replica);
                if std::mem::take(&mut is_last) {
                    let name = self.group.name(replica);
                    let what = format!("{name}: after {OPENINGS} openings on a sound disk {what}");
                    let invariant = "rebuilt";
                    self.checks.found(Violation { invariant, what });
                }
            }
        }
        Ok(())
    }

    /// What a replica does not read of its trees.
    fn unread(&self, replica: usize) -> Option<String> {
        let Some(db) = self.group.db(replica) else {
            let why = self.group.unopened(replica)?;
            return Some(format!("it does not open: {why}"));
        };
        if let Some(reason) = db.status().stopped {
            return Some(format!("it stopped: {reason}"));
        }
        if let Err(error) = sim_hooks::order(&db) {
            return Some(format!("its order cannot be read: {error}"));
        }
        if let Some(Err(error)) = at_once(db.view().all()) {
            return Some(format!("its view cannot be read: {error}"));
        }
        // Trees that go on from those of others lack blocks until somebody reads these.
        shapes(&db).filter(|_| !self.group.has_moved(replica))
    }
}
