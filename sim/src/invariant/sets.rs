//! The set of batches of a replica that stays up only grows.
//!
//! Source: ARCHITECTURE.md, invariant 2. What a client saw may go back by an undo, as a value; what took part in the order
//! takes part in every later one. Strangers are left out: which of their batches take part is the choice of a replica
//! until a member's batch needs them.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::wire::Length;

use super::{Invariant, Moment};

/// See the module.
#[derive(Debug, Default)]
pub struct GrowingSets {
    known: BTreeMap<usize, (u32, BTreeMap<CoreKey, Length>)>,
    sets: u64,
}

impl Invariant for GrowingSets {
    fn name(&self) -> &'static str {
        "growing sets"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (replica, look) in moment.open() {
            let Some(set) = &look.set else { continue };
            if moment.claims.may_fork() || moment.claims.turned_back.contains(&replica.replica) {
                continue;
            }
            if let Some((life, known)) = self.known.get(&replica.replica)
                && *life == replica.life
            {
                for (core, length) in known {
                    let is_member = look
                        .writers
                        .iter()
                        .any(|writer| writer.key == *core && !writer.is_guest);
                    let now = set.get(core).copied().unwrap_or_default();
                    if is_member && now < *length {
                        return Err(format!(
                            "{} took {} batches of {} out of its set: {length} before, {now} now",
                            replica.name,
                            length.0 - now.0,
                            moment.name_of(core)
                        ));
                    }
                }
                self.sets += 1;
            }
            self.known.insert(replica.replica, (replica.life, set.clone()));
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("sets that grew", self.sets)]
    }
}
