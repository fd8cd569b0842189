//! Nothing is ordered before what it links, or is older than that by its timestamp, and each log is ordered from its
//! beginning.
//!
//! Source: spec/autobee.md 5.6 and 8.2.

use std::collections::BTreeMap;

use autobee::crypto::{CoreKey, Hash};
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Length, Link, Timestamp};

use super::{Invariant, Look, Moment, ReplicaLook};

/// See the module.
#[derive(Debug, Default)]
pub struct CausalOrder {
    /// What the first block of each batch links, by the digest of the log with it.
    links: BTreeMap<(CoreKey, Hash), Outline>,
    /// The order that was looked at last.
    looked: BTreeMap<usize, (u32, u64, usize)>,
    batches: u64,
    unknown: Outline,
}

/// What the order has to respect of a block.
#[derive(Debug, Clone, Default)]
struct Outline {
    timestamp: Timestamp,
    /// Of the first block of a batch.
    links: Vec<Link>,
}

impl Invariant for CausalOrder {
    fn name(&self) -> &'static str {
        "causal order"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        if moment.claims.may_fork() {
            return Ok(());
        }
        for (replica, look) in moment.open() {
            let state = (replica.life, look.stats.undone, look.order.len());
            if self.looked.insert(replica.replica, state) != Some(state) {
                self.check(moment, replica, look)?;
            }
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("batches in causal order", self.batches)]
    }
}

impl CausalOrder {
    fn check(&mut self, moment: &Moment<'_>, replica: &ReplicaLook, look: &Look) -> Result<(), String> {
        let mut reached: BTreeMap<CoreKey, Length> = BTreeMap::new();
        let ordered: BTreeMap<CoreKey, Length> =
            look.order.iter().map(|entry| (entry.key, entry.length)).collect();
        for entry in &look.order {
            let before = reached.insert(entry.key, entry.length).unwrap_or_default();
            if entry.length <= before {
                return Err(format!(
                    "{} has {} after {before} of the same log",
                    replica.name,
                    moment.block(&entry.key, entry.length)
                ));
            }
            let outline = self.outline_of(look, &entry.key, entry.length).clone();
            let ahead = outline.links.iter().find(|link| {
                // A link to what no order has, an anchor or a refused batch, orders nothing.
                let is_ordered = ordered.get(&link.key).is_some_and(|last| *last >= link.length);
                is_ordered && reached.get(&link.key) < Some(&link.length)
            });
            if let Some(link) = ahead.filter(|_| is_in_order(look, ahead)) {
                return Err(format!(
                    "{} has {} before {}, which it links",
                    replica.name,
                    moment.block(&entry.key, entry.length),
                    moment.block(&link.key, link.length)
                ));
            }
            if !is_program(moment, &entry.key) {
                continue;
            }
            for link in outline.links.iter().filter(|link| is_program(moment, &link.key)) {
                if self.outline_of(look, &link.key, link.length).timestamp > outline.timestamp {
                    return Err(format!(
                        "{} is older by its timestamp than {}, which it links",
                        moment.block(&entry.key, entry.length),
                        moment.block(&link.key, link.length)
                    ));
                }
            }
            self.batches += 1;
        }
        Ok(())
    }

    fn outline_of(&mut self, look: &Look, core: &CoreKey, length: Length) -> &Outline {
        let Some((log, digest)) = look
            .logs
            .get(core)
            .and_then(|log| Some((log, log.digest(length)?)))
        else {
            return &self.unknown;
        };
        self.links.entry((*core, digest)).or_insert_with(|| {
            let block = |length| {
                let block = log.block(length);
                block.and_then(|block| OplogBlock::from_bytes(block).ok())
            };
            // Whether a batch begins with a block the one before it says: nobody checks what a block says of that itself.
            let before = block(Length(length.0.saturating_sub(1)));
            let is_first = before.is_none_or(|before| before.batch.after == 0);
            block(length).map_or_else(Outline::default, |block| Outline {
                timestamp: block.timestamp,
                // Links of later blocks of a batch only say what must be here.
                links: if is_first { block.links } else { Vec::new() },
            })
        })
    }
}

/// True for a log that only the program of a replica wrote to.
fn is_program(moment: &Moment<'_>, core: &CoreKey) -> bool {
    let mut open = moment.open();
    open.any(|(replica, look)| look.writes(core) && !moment.claims.forged.contains(&replica.replica))
}

fn is_in_order(look: &Look, link: Option<&Link>) -> bool {
    link.is_some_and(|link| {
        look.order
            .iter()
            .any(|entry| entry.key == link.key && entry.length == link.length)
    })
}
