//! Applied lengths only go back by an undo that is counted.
//!
//! Source: spec/autobee.md 8.4; `Autobee::stats`.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::wire::Length;

use super::{Invariant, Moment};

/// See the module.
#[derive(Debug, Default)]
pub struct AppliedLengths {
    known: BTreeMap<usize, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    life: u32,
    undone: u64,
    entries: usize,
    applied: BTreeMap<CoreKey, Length>,
}

impl Invariant for AppliedLengths {
    fn name(&self) -> &'static str {
        "applied lengths"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (replica, look) in moment.open() {
            let known = Known {
                life: replica.life,
                undone: look.stats.undone,
                entries: look.order.len(),
                applied: look
                    .writers
                    .iter()
                    .map(|writer| (writer.key, writer.length))
                    .collect(),
            };
            let before = self.known.insert(replica.replica, known.clone());
            let Some(before) = before.filter(|before| before.life == known.life) else {
                continue;
            };
            if before.undone != known.undone {
                continue;
            }
            let shorter = before
                .applied
                .iter()
                .find(|(core, length)| known.applied.get(core) < Some(length));
            if let Some((core, length)) = shorter {
                return Err(format!(
                    "{} had applied {length} blocks of {} and has {:?}, and counts no undo",
                    replica.name,
                    moment.name_of(core),
                    known.applied.get(core)
                ));
            }
            if known.entries < before.entries {
                return Err(format!(
                    "the order of {} went from {} to {} entries, and it counts no undo",
                    replica.name, before.entries, known.entries
                ));
            }
        }
        Ok(())
    }
}
