//! An append that returned stays what it was: in the log of its writer, in the set of its replica, and in the end in
//! everybody's order.
//!
//! Source: ARCHITECTURE.md, invariant 6. Contents are compared, not lengths alone: a lost entry would hide behind the next one of
//! the same length.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Length};
use bytes::Bytes;

use super::{Acknowledged, Invariant, Look, Moment, is_beyond_reach};

/// See the module.
#[derive(Debug, Default)]
pub struct AcknowledgedEntries {
    /// Appends that were looked at for one place with two contents.
    taken: usize,
    contents: BTreeMap<(CoreKey, Length), Bytes>,
    /// Up to which append the logs of each life of a replica were compared.
    compared: BTreeMap<(usize, u32), usize>,
    entries: u64,
}

impl Invariant for AcknowledgedEntries {
    fn name(&self) -> &'static str {
        "acknowledged"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        self.take_contents(moment)?;
        for (replica, look) in moment.open() {
            if moment.claims.forgetful.contains(&replica.replica) {
                continue;
            }
            let done = self.compared.entry((replica.replica, replica.life)).or_default();
            for entry in &moment.acknowledged[*done..] {
                if entry.replica == replica.replica && look.writes(&entry.key) {
                    check_log(moment, look, entry)?;
                    self.entries += 1;
                }
            }
            *done = moment.acknowledged.len();
        }
        Ok(())
    }

    fn end(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        self.compared.clear();
        self.tick(moment)?;
        if moment.claims.may_disagree || is_beyond_reach(moment) {
            return Ok(());
        }
        for group in &moment.claims.groups {
            let members = moment
                .open()
                .filter(|(replica, _)| group.contains(&replica.replica));
            for (replica, look) in members {
                let ordered: std::collections::BTreeSet<_> =
                    look.order.iter().map(|entry| (entry.key, entry.length)).collect();
                for entry in moment.acknowledged {
                    let is_here = group.contains(&entry.replica)
                        && !moment.claims.forgetful.contains(&entry.replica)
                        && !moment.claims.forged.contains(&entry.replica)
                        && is_its_log(moment, entry);
                    // A stranger may write on once it was let in; the order may take that back, and what follows on it.
                    let is_known = look.writers.iter().any(|writer| writer.key == entry.key);
                    if is_here && is_known && !ordered.contains(&(entry.key, entry.length)) {
                        let block = moment.block(&entry.key, entry.length);
                        return Err(format!("{block} is not in the order of {}", replica.name));
                    }
                }
            }
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("acknowledged entries", self.entries)]
    }
}

impl AcknowledgedEntries {
    /// No place of a log is acknowledged twice with other contents.
    fn take_contents(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for entry in &moment.acknowledged[self.taken..] {
            if moment.claims.forgetful.contains(&entry.replica) {
                continue;
            }
            for (length, value) in numbered(entry) {
                let known = self
                    .contents
                    .entry((entry.key, length))
                    .or_insert_with(|| value.clone());
                if known != value {
                    let block = moment.block(&entry.key, length);
                    return Err(format!("{block} was acknowledged twice, with different values"));
                }
            }
        }
        self.taken = moment.acknowledged.len();
        Ok(())
    }
}

/// The writer of an entry still is the writer of its replica: its directory was not lost since.
fn is_its_log(moment: &Moment<'_>, entry: &Acknowledged) -> bool {
    let mut open = moment.open();
    open.any(|(replica, look)| replica.replica == entry.replica && look.writes(&entry.key))
}

fn numbered(entry: &Acknowledged) -> impl Iterator<Item = (Length, &Bytes)> {
    let first = entry.length.0.saturating_sub(entry.values.len() as u64) + 1;
    (first..).map(Length).zip(&entry.values)
}

fn check_log(moment: &Moment<'_>, look: &Look, entry: &Acknowledged) -> Result<(), String> {
    for (length, value) in numbered(entry) {
        let place = moment.block(&entry.key, length);
        let Some(block) = look.logs.get(&entry.key).and_then(|log| log.block(length)) else {
            return Err(format!("{place} was acknowledged and is not in its log"));
        };
        let found = OplogBlock::from_bytes(block).ok().and_then(|block| block.value);
        if found.as_deref() != Some(&value[..]) {
            return Err(format!(
                "{place} was acknowledged, and its log has another value there"
            ));
        }
    }
    Ok(())
}
