//! What was settled stays: the start of the order that a replica said could no longer change does not, as long as no log gets two
//! continuations.
//!
//! Source: `autobee::engine::Settled`. A start that has another version of the system tree behind it was ordered or applied anew.

use super::{Invariant, Moment};

/// See the module.
#[derive(Debug, Default)]
pub struct SettledStays {
    looks: u64,
    entries: u64,
}

impl Invariant for SettledStays {
    fn name(&self) -> &'static str {
        "settled stays"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let claims = moment.claims;
        if !claims.forking.is_empty() || !claims.forged.is_empty() || claims.is_split {
            return Ok(());
        }
        for (replica, look) in moment.open() {
            let Some(settled) = look.settled.filter(|settled| !settled.rests_on_strangers) else {
                continue;
            };
            if settled.has_moved {
                return Err(format!(
                    "{} said that {} entries can no longer change, and the version behind them is another one",
                    replica.name, settled.entries
                ));
            }
            self.looks += 1;
            self.entries = self.entries.max(settled.entries);
        }
        Ok(())
    }

    fn end(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        self.tick(moment)
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("settled looks", self.looks), ("settled entries", self.entries)]
    }
}
