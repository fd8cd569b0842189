//! What can go on goes on soon, also when nothing else happens that would wake it.
//!
//! Source: the documentation of `db::ViewWatch` and `db::Durability`; spec/autobee.md 5.6 (entries from the future). In the
//! end everything is written to and read once more, which heals whoever only waits to be asked.

use std::collections::BTreeMap;
use std::time::Duration;

use autobee::WriterStatus;
use autobee::wire::{Length, Link, Timestamp};

use super::{Invariant, Look, Moment};

/// How long it may take: the clock is looked at every second, and a delayed task takes less.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long it may take on a slow disk that has to sync many short segments before.
const PATIENCE_OF_DISK: Duration = Duration::from_secs(4);

/// So long nothing is ordered while the trees of another writer are looked at.
const LOOK_AHEAD: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub struct Promptness {
    waiting: BTreeMap<(usize, What), Waiting>,
    waits: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A watch has not told of the view.
    Watch,
    /// Own blocks are not durable, and so shown to nobody.
    Own,
    /// An own batch that is in the order is not written to the log, as its caller went away.
    Unwritten,
    /// The core of a writer is not known to `status()`.
    Writer,
    /// An entry from the future waits, though its time has come.
    Clock,
    /// By `status()` a block is missing that is in the set.
    Missing,
}

#[derive(Debug)]
struct Waiting {
    life: u32,
    since: Duration,
    state: (Option<Link>, Length, Option<Timestamp>),
}

impl Invariant for Promptness {
    fn name(&self) -> &'static str {
        "promptness"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (replica, look) in moment.open() {
            let claims = moment.claims;
            let number = replica.replica;
            let is_held_up = claims.paused.contains(&number) || claims.unsound.contains(&number);
            if claims.damaged.contains(&number) || (is_held_up && !moment.is_calm) {
                continue;
            }
            let none = (None, Length::ZERO, None);
            let own = look
                .logs
                .get(&look.local)
                .map(|log| log.length())
                .unwrap_or_default();
            let states = [
                (
                    What::Watch,
                    is_behind(look).then_some((Some(look.view_head), Length::ZERO, None)),
                ),
                (What::Writer, is_unknown(look).then_some(none)),
                // What is added meanwhile may be what is synced next.
                (What::Own, (look.shown < own).then_some((None, look.shown, None))),
                // A drain that waits for a block goes on with the batch when that is there.
                (
                    What::Unwritten,
                    (look.has_unwritten && look.missing.is_empty()).then_some((None, own, None)),
                ),
                (
                    What::Missing,
                    said_to_be_missing(look).map(|link| (Some(link), Length::ZERO, None)),
                ),
                (What::Clock, look.overdue.map(|at| (None, Length::ZERO, Some(at)))),
            ];
            for (what, state) in states {
                let Some(state) = state.filter(|_| look.stopped.is_none()) else {
                    self.waiting.remove(&(number, what));
                    continue;
                };
                let waiting = self.waiting.entry((number, what)).or_insert(Waiting {
                    life: 0,
                    since: moment.now,
                    state,
                });
                if (waiting.life, waiting.state) != (replica.life, state) {
                    *waiting = Waiting {
                        life: replica.life,
                        since: moment.now,
                        state,
                    };
                    self.waits += 1;
                }
                let waited = moment.now.saturating_sub(waiting.since);
                let patience = match what {
                    What::Own => PATIENCE_OF_DISK,
                    _ if claims.forwarding.contains(&number) => PATIENCE + LOOK_AHEAD,
                    _ => PATIENCE,
                };
                if waited > patience {
                    let what = match what {
                        What::Watch => "a watch does not tell of the view as it is".to_owned(),
                        What::Own => {
                            format!("own blocks behind the first {} are not made durable", look.shown)
                        }
                        What::Unwritten => "an own batch is not written to the log".to_owned(),
                        What::Missing => "`status()` calls a block missing that is in the set".to_owned(),
                        What::Writer => "`status()` does not know a writer".to_owned(),
                        What::Clock => "an entry waits for the clock, which is beyond its time".to_owned(),
                    };
                    return Err(format!("{}: for {waited:?} {what}", replica.name));
                }
            }
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("waits", self.waits)]
    }
}

/// True when a watch leads to another view than the present one. It does not tell of versions with equal contents.
fn is_behind(look: &Look) -> bool {
    look.seen.view.as_ref().is_some_and(|(head, told)| {
        *head != look.view_head
            && (told.len() != look.view.len()
                || told
                    .iter()
                    .zip(look.view.iter())
                    .any(|((key, value), (other_key, other_value))| key != other_key || value != other_value))
    })
}

/// True when the core of a writer is not known. Just after it was granted it may not be open yet.
fn is_unknown(look: &Look) -> bool {
    let known = |key| look.progress.iter().any(|progress| progress.key == key);
    let mut writers = look.writers.iter();
    // Nobody fetches the log of a guest before a member needs it.
    let is_wanted = |writer: &WriterStatus| !(writer.is_anchor || writer.is_guest && writer.length.0 == 0);
    writers.any(|writer| is_wanted(writer) && !known(writer.key))
}

/// A block that is in the set, and that `status()` calls missing.
fn said_to_be_missing(look: &Look) -> Option<Link> {
    let known = look.known.as_ref()?;
    let is_known = |link: &&Link| known.get(&link.key).is_some_and(|length| *length >= link.length);
    look.missing.iter().find(is_known).copied()
}
