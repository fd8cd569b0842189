//! What a replica is told that appends without being a writer: that there is room for its entry, and why apply refused it.

use autobee::db::{Appended, Autobee, Outcome, sim_hooks};
use autobee::engine::STRANGER_BLOCKS_MAX;
use autobee::env::Env;

use super::Group;
use crate::invariant::Violation;

impl<E: Env> Group<E> {
    /// What a writer without a record appended is what peers take of it, or it needs no bound: it is in the order.
    pub(in crate::run) fn has_room(&self, replica: usize, db: &Autobee<E>, appended: &Appended) {
        let local = appended.core;
        let has_record = db.writers().iter().any(|writer| writer.key == local);
        let Ok(order) = sim_hooks::order(db) else { return };
        let own = order.iter().filter(|entry| entry.key == local);
        let needed = own.map(|entry| entry.length.0).max().unwrap_or_default();
        let most = STRANGER_BLOCKS_MAX.max(needed);
        if has_record || appended.length.0 <= most {
            return;
        }
        let mut members = self.lock();
        let what = format!(
            "{} appended block {} as a stranger, and peers take {most} of its log",
            members.replicas[replica].name, appended.length.0
        );
        let invariant = "room";
        members.failures.push(Violation { invariant, what });
    }

    /// Who appended as a stranger, right behind what is in the order, what apply refuses is told the reason of apply.
    pub(in crate::run) fn says_why(
        &self,
        replica: usize,
        db: &Autobee<E>,
        appended: &Appended,
        values: usize,
        why: &str,
    ) {
        let Outcome::Rejected(reason) = &appended.outcome else {
            return;
        };
        let local = appended.core;
        let has_record = db.writers().iter().any(|writer| writer.key == local);
        let Ok(order) = sim_hooks::order(db) else { return };
        let own = order.iter().filter(|entry| entry.key == local).count();
        let mut members = self.lock();
        // Nobody is tried before there is something to let him in.
        let is_tried =
            !order.is_empty() && !members.scenario.safe && !members.scenario.members_only && !has_record;
        let is_next = (own + values) as u64 == appended.length.0;
        if is_tried && is_next && !reason.starts_with(why) {
            let name = &members.replicas[replica].name;
            let what = format!("{name} appended what apply refuses ({why}), and was told: {reason}");
            let invariant = "outcomes";
            members.failures.push(Violation { invariant, what });
        }
    }
}
