//! That the owner of a log signed two histories stays known, also when the power goes, and its owner hears of it from whoever
//! is connected to it.
//!
//! Source: the documentation of `db::Stalled::Conflict`: nothing more of such a log is taken, and a power cut does not bring
//! it back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::replication::capability::HandshakeHash;
use autobee::wire::Length;

use super::{Invariant, Look, Moment};

/// Nobody waits for it to be synced: it survives a power cut after that time at the latest.
const SYNCED: Duration = Duration::from_secs(4);

/// How long the word of it may take to the owner, once everything is healed.
const TOLD: Duration = Duration::from_secs(4);

/// See the module.
#[derive(Debug, Default)]
pub struct Contradictions {
    known: BTreeMap<(usize, CoreKey), KnownContradiction>,
    survived: u64,
    /// The streams of each replica, and what it knew, at the last look.
    before: BTreeMap<usize, (BTreeSet<HandshakeHash>, BTreeSet<CoreKey>)>,
    untold: BTreeMap<(usize, usize), Untold>,
    told: u64,
}

/// What one found of the log of another one, with which it was connected then.
#[derive(Debug, Clone, Copy)]
struct Untold {
    log: CoreKey,
    stream: HandshakeHash,
    /// Since when both have been connected and nothing has disturbed them.
    since: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct KnownContradiction {
    life: u32,
    since: Duration,
    last: Duration,
}

impl Invariant for Contradictions {
    fn name(&self) -> &'static str {
        "contradictions"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (replica, look) in moment.open() {
            let claims = moment.claims;
            let may_forget = [&claims.forgetful, &claims.damaged, &claims.unsound, &claims.wiped];
            if may_forget.iter().any(|those| those.contains(&replica.replica)) {
                continue;
            }
            let here = look.progress.iter().filter(|log| log.have > Length::ZERO);
            for log in here {
                let at = (replica.replica, log.key);
                let known = self.known.get(&at).copied();
                let is_later_life = known.is_some_and(|known| known.life != replica.life);
                if look.contradicted.contains(&log.key) {
                    self.survived += u64::from(is_later_life);
                    let now = moment.now;
                    let since = known.map_or(now, |known| known.since);
                    let (life, last) = (replica.life, now);
                    self.known.insert(at, KnownContradiction { life, since, last });
                } else if let Some(known) = known {
                    if is_later_life && known.last.saturating_sub(known.since) >= SYNCED {
                        return Err(format!(
                            "{} was started again, and does not know any more that the owner of the log of {} signed two histories",
                            replica.name,
                            moment.name_of(&log.key)
                        ));
                    }
                    self.known.remove(&at);
                }
            }
        }
        self.hear(moment)
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("contradictions known after a start", self.survived),
            ("contradictions that owners heard of", self.told),
        ]
    }
}

impl Contradictions {
    /// The owner of a log hears that it has two, from whoever finds it out while they are connected.
    fn hear(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let open: BTreeMap<usize, &Look> = moment
            .open()
            .map(|(replica, look)| (replica.replica, look))
            .collect();
        for (finder, look) in &open {
            let Some((streams, knew)) = self.before.get(finder) else {
                continue;
            };
            for log in look.contradicted.difference(knew) {
                let mut owners = open.iter().filter(|(_, owner)| owner.local == *log);
                let Some((owner, of)) = owners.next() else {
                    continue;
                };
                let common = streams_of(look).into_iter().find(|stream| {
                    let had = self
                        .before
                        .get(owner)
                        .is_some_and(|(had, _)| had.contains(stream));
                    had && streams.contains(stream) && streams_of(of).contains(stream)
                });
                if let Some(stream) = common {
                    let (log, since) = (*log, None);
                    self.untold
                        .insert((*finder, *owner), Untold { log, stream, since });
                }
            }
        }
        let told = &mut self.told;
        let mut overdue = None;
        self.untold.retain(|(finder, owner), untold| {
            let (Some(from), Some(to)) = (open.get(finder), open.get(owner)) else {
                return false;
            };
            if to.contradicted.contains(&untold.log) {
                *told += 1;
                return false;
            }
            let is_connected = [from, to].map(|look| streams_of(look).contains(&untold.stream));
            if is_connected != [true, true] {
                return false;
            }
            if moment.is_calm {
                let since = *untold.since.get_or_insert(moment.now);
                if moment.now.saturating_sub(since) > TOLD {
                    overdue = Some((*finder, *owner));
                }
            }
            true
        });
        self.before = open
            .iter()
            .map(|(replica, look)| (*replica, (streams_of(look), look.contradicted.clone())))
            .collect();
        match overdue {
            None => Ok(()),
            Some((finder, owner)) => Err(format!(
                "{} knows that the owner of the log of {} signed two histories, and the owner has not heard of it",
                moment.replicas[finder].name, moment.replicas[owner].name
            )),
        }
    }
}

fn streams_of(look: &Look) -> BTreeSet<HandshakeHash> {
    let connections = look.connections.iter();
    connections
        .filter_map(|connection| connection.progress.stream)
        .collect()
}
