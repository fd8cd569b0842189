//! An append stands on everything that its writer had applied.
//!
//! Source: spec/autobee.md 4: a batch links all heads of the order that its writer has. Nothing in the order that follows
//! from a batch shows that a link is missing: it would only say less than its writer knew.

use std::collections::BTreeMap;

use autobee::crypto::{CoreKey, Hash};
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Length, Link};

use super::{Invariant, Look, Moment};

/// See the module.
#[derive(Debug, Default)]
pub struct AppendLinks {
    before: BTreeMap<usize, Before>,
    /// What each block links, by the digest of the log with it: what the power took may be written again otherwise.
    links: BTreeMap<(CoreKey, Hash), Vec<Link>>,
    appends: u64,
}

/// A replica when it was looked at last, and had drained to the end.
#[derive(Debug)]
struct Before {
    local: CoreKey,
    life: u32,
    own: Length,
    /// Up to where each log was in the order.
    ordered: BTreeMap<CoreKey, Length>,
}

impl Invariant for AppendLinks {
    fn name(&self) -> &'static str {
        "append links"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        if moment.claims.may_fork() {
            return Ok(());
        }
        for (replica, look) in moment.open() {
            let is_claimed = !moment.claims.turned_back.contains(&replica.replica)
                && !moment.claims.forgetful.contains(&replica.replica)
                && !moment.claims.forged.contains(&replica.replica);
            if !is_claimed {
                continue;
            }
            let own = look
                .logs
                .get(&look.local)
                .map(|log| log.length())
                .unwrap_or_default();
            if let Some(before) = self.before.get(&replica.replica)
                && before.life == replica.life
                && before.local == look.local
                && before.own < own
            {
                let ordered = before.ordered.clone();
                let first = Length(before.own.0 + 1);
                let reached = self.reached(look, first);
                // A stranger's batch may have left the order before the append: apply decides, and an undo asks it again.
                let is_member = |key: &CoreKey| look.writers.iter().any(|writer| writer.key == *key);
                let left = ordered.iter().find(|(core, length)| {
                    **core != look.local
                        && is_member(core)
                        && reached.get(*core).copied().unwrap_or_default() < **length
                });
                if let Some((core, length)) = left {
                    return Err(format!(
                        "{} links nothing that stands on {}, which was in the order of {} before",
                        moment.block(&look.local, first),
                        moment.block(core, *length),
                        replica.name
                    ));
                }
                self.appends += 1;
            }
            // While a drain goes on, or waits for a block, what is appended stands on what is applied by then.
            if look.set.is_none() {
                self.before.remove(&replica.replica);
                continue;
            }
            let before = Before {
                life: replica.life,
                local: look.local,
                own,
                ordered: look
                    .order
                    .iter()
                    .filter(|entry| look.writers.iter().any(|writer| writer.key == entry.key))
                    .map(|entry| (entry.key, entry.length))
                    .collect(),
            };
            self.before.insert(replica.replica, before);
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("appends that link what they stand on", self.appends)]
    }
}

impl AppendLinks {
    /// Up to where each log is reached from a block of the own one.
    fn reached(&mut self, look: &Look, length: Length) -> BTreeMap<CoreKey, Length> {
        let mut reached: BTreeMap<CoreKey, Length> = BTreeMap::new();
        let mut next = vec![Link {
            key: look.local,
            length,
        }];
        while let Some(link) = next.pop() {
            let known = reached.entry(link.key).or_default();
            let from = known.0;
            *known = link.length.max(*known);
            for length in from + 1..=link.length.0 {
                next.extend_from_slice(self.links_of(look, link.key, Length(length)));
            }
        }
        reached
    }

    /// None of a block that is not here: it may come, and is not in the order before.
    fn links_of(&mut self, look: &Look, core: CoreKey, length: Length) -> &[Link] {
        let log = look.logs.get(&core);
        let Some((block, digest)) = log.and_then(|log| Some((log.block(length)?, log.digest(length)?)))
        else {
            return &[];
        };
        self.links.entry((core, digest)).or_insert_with(|| {
            let block = OplogBlock::from_bytes(block).ok();
            block.map(|block| block.links).unwrap_or_default()
        })
    }
}
