//! What was granted is reached: once all agree and each member has written a few times, its weight is not
//! below its ceiling.
//!
//! Source: spec/autobee.md 7 (record, attest, attach, verify, apply): the grantor attests with its next append, and the
//! writer claims with its next one after that.

use super::{Invariant, Moment};

/// See the module.
#[derive(Debug, Default)]
pub struct WeightsReached {
    writers: u64,
}

impl Invariant for WeightsReached {
    fn name(&self) -> &'static str {
        "weights reached"
    }

    fn tick(&mut self, _: &Moment<'_>) -> Result<(), String> {
        Ok(())
    }

    fn end(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let claims = moment.claims;
        let grantor_may_be_gone =
            !claims.lost.is_empty() || !claims.wiped.is_empty() || !claims.is_whole() || claims.removes;
        if grantor_may_be_gone || claims.may_disagree || !claims.forged.is_empty() {
            return Ok(());
        }
        let Some((replica, look)) = moment.open().next() else {
            return Ok(());
        };
        for writer in &look.writers {
            let is_there = moment.open().any(|(_, other)| other.local == writer.key);
            if writer.is_removed || writer.is_anchor || writer.is_guest || !is_there {
                continue;
            }
            if writer.weight < writer.max_weight {
                return Err(format!(
                    "{} stands with weight {} at {}, and may have {}",
                    moment.name_of(&writer.key),
                    writer.weight.0,
                    replica.name,
                    writer.max_weight.0
                ));
            }
            self.writers += 1;
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("weights reached", self.writers)]
    }
}
