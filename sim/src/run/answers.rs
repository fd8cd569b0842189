//! What a database at rest answers is so: there is nothing left to wait for, nothing speaks against an own log that no fault
//! touched, and an earlier version of the view has what it had.
//!
//! Source: the documentation of `Autobee::flush`, `Autobee::unconfirmed` and `Autobee::view_at`.

use std::sync::Arc;

use autobee::crypto::CoreKey;
use autobee::db::Autobee;
use autobee::env::Env;
use autobee::{Error, ErrorKind};

use super::{CALL_LIMIT, SimError, Simulation};
use crate::invariant::{ReplicaLook, Violation};
use crate::simulated_world::SimulatedWorld;

impl<S: SimulatedWorld> Simulation<'_, S> {
    /// Asks every database. `before` is what they showed when they agreed first.
    pub(super) fn ask(&mut self, before: &[ReplicaLook]) -> Result<(), SimError> {
        for replica in before {
            if let Some(what) = self.ask_one(replica)? {
                let what = format!("{}: {what}", replica.name);
                let invariant = "answers";
                self.checks.found(Violation { invariant, what });
            }
        }
        Ok(())
    }

    fn ask_one(&mut self, before: &ReplicaLook) -> Result<Option<String>, SimError> {
        let number = before.replica;
        let claims = self.checks.claims();
        let is_spoiled = claims.damaged.contains(&number) || claims.unsound.contains(&number);
        let is_connected = claims.is_whole() && !claims.is_restless;
        // What somebody wrote and lost may be known of, and be nowhere.
        let is_lost = !claims.wiped.is_empty() || !claims.lost.is_empty() || !claims.forgetful.is_empty();
        let is_whole = is_connected && !claims.may_disagree && !is_lost;
        let is_own = !claims.has_other_blocks(number);
        let (Some(db), false) = (self.group.db(number), is_spoiled || self.group.is_lost(number)) else {
            return Ok(None);
        };
        if let Some(why) = db.unconfirmed().filter(|_| is_own && is_whole) {
            return Ok(Some(format!("peers may have more of the own log: {why:?}")));
        }
        let earlier = before
            .look
            .as_ref()
            .filter(|_| before.life == self.group.life(number));
        let earlier = earlier.map(|look| (look.view_head, Arc::clone(&look.view)));
        let id = self.group.id(number);
        let asked = self.world.block_on_for(id, CALL_LIMIT, async move {
            if is_connected {
                match db.flush().await {
                    // Of a log with two continuations nobody may have the block; but what is stalled is not waited for.
                    Err(Error::Unavailable { core, .. }) if !is_whole && !is_stalled(&db, &core) => {}
                    flushed => flushed?,
                }
            }
            let Some((head, had)) = earlier else {
                return Ok::<_, Error>(false);
            };
            Ok(db.view_at(head)?.all().await? != *had)
        })?;
        Ok(match asked {
            Ok(true) => Some("an earlier version of the view has not what it had".to_owned()),
            Ok(false) => None,
            // Apply stopped it, or it was closed.
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::Closed) => None,
            Err(error) => Some(format!("it waits at rest: {error}")),
        })
    }
}

/// True when no more of a log is taken, so that nobody waits for it.
fn is_stalled<E: Env>(db: &Autobee<E>, core: &CoreKey) -> bool {
    db.stalled().iter().any(|(stalled, _)| stalled == core)
}
