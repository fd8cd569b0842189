//! What a peer has that stays connected is here soon: not after a timeout, and not with the next message or connection.
//!
//! Source: spec/replication.md 6.4 and 6.5: what a peer announces is asked for as soon as it may be. Where connections end
//! all the time, each that is made begins with everything and mends what was forgotten. So this looks at runs in which
//! none ends: see [`Claims::is_undisturbed`](super::Claims::is_undisturbed).

use std::collections::BTreeMap;
use std::time::Duration;

use autobee::crypto::CoreKey;

use super::{Invariant, Look, Moment};

/// How long nothing of a log may come that a peer has: a slow disk syncs what the peer has before it shows it.
const PATIENCE: Duration = Duration::from_secs(4);

/// See the module.
#[derive(Debug, Default)]
pub struct HandedOn {
    waiting: BTreeMap<(usize, CoreKey), Waiting>,
    waits: u64,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    life: u32,
    since: Duration,
    have: u64,
}

impl Invariant for HandedOn {
    fn name(&self) -> &'static str {
        "handed on"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let claims = moment.claims;
        if !claims.is_undisturbed {
            return Ok(());
        }
        for (replica, look) in moment.open() {
            if look.stopped.is_some() || look.stats.fast_forwards > 0 {
                continue;
            }
            for (core, log) in &look.logs {
                let key = (replica.replica, *core);
                let have = log.length().0;
                let neighbours = moment.open().filter(|(other, _)| {
                    let pair = (replica.replica, other.replica);
                    claims.connected.contains(&pair)
                });
                let offers = neighbours.map(|(other, theirs)| {
                    let there = theirs.logs.get(core).map_or(0, |log| log.length().0);
                    let shown = if theirs.local == *core {
                        there.min(theirs.shown.0)
                    } else {
                        there
                    };
                    (shown, other.name.clone())
                });
                let readers = replica
                    .offered
                    .get(core)
                    .map(|held| (*held, "a reader".to_owned()));
                let best = offers.chain(readers).max();
                let Some((there, who)) =
                    best.filter(|(there, _)| *there > have && is_wanted(moment, look, *core))
                else {
                    self.waiting.remove(&key);
                    continue;
                };
                let begins = Waiting {
                    life: replica.life,
                    since: moment.now,
                    have,
                };
                let waiting = self.waiting.entry(key).or_insert(begins);
                if (waiting.life, waiting.have) != (begins.life, begins.have) {
                    *waiting = begins;
                }
                if waiting.since == moment.now {
                    self.waits += 1;
                }
                let waited = moment.now.saturating_sub(waiting.since);
                if waited > PATIENCE {
                    return Err(format!(
                        "{}: for {waited:?} nothing comes behind block {}, of which {who} has {there}",
                        replica.name,
                        moment.block(core, autobee::wire::Length(have)),
                    ));
                }
            }
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("waits for neighbours", self.waits)]
    }
}

/// True for the logs that are fetched as a whole: those of members.
fn is_wanted(moment: &Moment<'_>, look: &Look, core: CoreKey) -> bool {
    let is_member = |record: &autobee::WriterStatus| {
        record.key == core && !record.is_removed && !record.is_guest && !record.is_anchor
    };
    let is_stalled = look.progress.iter().any(|log| log.key == core && log.is_stalled);
    !look.writes(&core) && !is_stalled && (core == moment.database || look.writers.iter().any(is_member))
}
