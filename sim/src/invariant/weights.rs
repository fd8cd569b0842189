//! What was granted is reached: once all agree and each member has written a few times, its weight is not
//! below its ceiling. Nobody claims more than that either.
//!
//! Source: spec/autobee.md 7 (record, attest, attach, verify, apply): the grantor attests with its next append, and the
//! writer claims with its next one after that.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Length, Weight};

use super::{Invariant, Look, Moment};

/// See the module.
#[derive(Debug, Default)]
pub struct WeightsReached {
    writers: u64,
    before: BTreeMap<usize, CeilingLook>,
    claims: u64,
}

/// A replica when it was looked at last.
#[derive(Debug)]
struct CeilingLook {
    life: u32,
    local: CoreKey,
    own: Length,
    ceiling: Weight,
    /// Batches that were undone: its ceiling may have been another one in between.
    undone: u64,
}

impl WeightsReached {
    /// What the entries claim that a writer appended since the last look, in which its ceiling was what it is now.
    fn claimed(&mut self, look: &Look, from: Length, ceiling: Weight) -> Option<String> {
        let log = look.logs.get(&look.local)?;
        (from.0 + 1..=log.length().0).find_map(|length| {
            let block = OplogBlock::from_bytes(log.block(Length(length))?).ok()?;
            let claim = block.witness?;
            self.claims += 1;
            (claim.weight > ceiling).then(|| {
                format!(
                    "its entry {length} claims the weight {}, and it may have {}",
                    claim.weight.0, ceiling.0
                )
            })
        })
    }
}

impl Invariant for WeightsReached {
    fn name(&self) -> &'static str {
        "weights reached"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (replica, look) in moment.open() {
            let own = look.writers.iter().find(|writer| writer.key == look.local);
            // What somebody else signs with its key, and what it wrote under another ceiling and is fetched again, is not
            // what it claims now. Who is removed may have been granted weight since the last look.
            let has_other_blocks = moment.claims.has_other_blocks(replica.replica);
            let Some(own) = own.filter(|own| !has_other_blocks && !own.is_removed) else {
                self.before.remove(&replica.replica);
                continue;
            };
            let log = look.logs.get(&look.local);
            let now = CeilingLook {
                life: replica.life,
                local: look.local,
                own: log.map(|log| log.length()).unwrap_or_default(),
                ceiling: own.max_weight,
                undone: look.stats.undone,
            };
            if let Some(before) = self.before.get(&replica.replica)
                && (before.life, before.local) == (now.life, now.local)
                && (before.ceiling, before.undone) == (now.ceiling, now.undone)
                && before.own < now.own
            {
                let from = before.own;
                if let Some(what) = self.claimed(look, from, now.ceiling) {
                    return Err(format!("{}: {what}", replica.name));
                }
            }
            self.before.insert(replica.replica, now);
        }
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
            // What others attested before the place from which somebody went on with their trees is not looked for.
            let is_there = moment.open().any(|(other, owner)| {
                owner.local == writer.key && !claims.forwarding.contains(&other.replica)
            });
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
        vec![
            ("weights reached", self.writers),
            ("weights claimed", self.claims),
        ]
    }
}
