//! That the owner of a log signed two histories stays known, also when the power goes, and its owner hears of it from whoever
//! is connected to it. What others have of such a log is had by who joins.
//!
//! Source: the documentation of `db::Stalled::Conflict`: nothing more of such a log is taken, and a power cut does not bring
//! it back. What was taken stands in the order of those who took it, and others can only agree with them if they get it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use autobee::WriterStatus;
use autobee::crypto::CoreKey;
use autobee::replication::capability::HandshakeHash;
use autobee::wire::Length;

use super::{Invariant, Look, Moment, ReplicaLook};

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
    served: u64,
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

    fn end(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        self.tick(moment)?;
        for (replica, look) in moment.open() {
            self.has_what_others_have(moment, replica, look)?;
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("contradictions known after a start", self.survived),
            ("contradictions that owners heard of", self.told),
            ("logs of two histories served on", self.served),
        ]
    }
}

impl Contradictions {
    /// Who does not know that a log has two histories has something of it when a neighbour has; all of it when there is only
    /// one among those that are here.
    fn has_what_others_have(
        &mut self,
        moment: &Moment<'_>,
        replica: &ReplicaLook,
        look: &Look,
    ) -> Result<(), String> {
        let claims = moment.claims;
        let is_sound = |number: &usize| {
            let bad = [&claims.damaged, &claims.unsound, &claims.forwarding];
            !bad.iter().any(|those| those.contains(number))
        };
        if !is_sound(&replica.replica) || look.stopped.is_some() {
            return Ok(());
        }
        let member = |writer: &&WriterStatus| !(writer.is_removed || writer.is_guest || writer.is_anchor);
        for writer in look.writers.iter().filter(member) {
            let log = writer.key;
            let is_contradicted = moment.open().any(|(_, other)| other.contradicted.contains(&log));
            let neighbours = moment.open().filter(|(other, _)| {
                claims.staying.contains(&(replica.replica, other.replica)) && is_sound(&other.replica)
            });
            let best = neighbours.filter_map(|(other, theirs)| {
                let length = theirs.logs.get(&log)?.length();
                let shown = if theirs.local == log {
                    length.min(theirs.shown)
                } else {
                    length
                };
                Some((shown, &other.name))
            });
            let Some((there, who)) = best.max() else { continue };
            if !is_contradicted || look.local == log || look.former.contains(&log) {
                continue;
            }
            let here = look.logs.get(&log).map(|log| log.length()).unwrap_or_default();
            let proven = look.progress.iter().find(|progress| progress.key == log);
            let proven = proven.map(|progress| progress.length).unwrap_or_default();
            // What is proven and not here may be of the other history, and who knows of it takes no more of either.
            if proven > here || look.contradicted.contains(&log) {
                continue;
            }
            let wanted = if is_one_history(moment, &log) {
                there
            } else {
                there.min(Length(1))
            };
            if let Some(who) = neighbour_who_knows(moment, replica, look, &log) {
                return Err(format!(
                    "{} has the log of {} as {who} has it, who knows that it has two histories, and does not know that",
                    replica.name,
                    moment.name_of(&log)
                ));
            }
            if here < wanted {
                return Err(format!(
                    "{} has {here} blocks of the log of {}, which has two histories, and {who} has {there}",
                    replica.name,
                    moment.name_of(&log)
                ));
            }
            self.served += 1;
        }
        Ok(())
    }

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

/// The neighbour of a replica that knows of two histories of a log, and has no more of it than that one has.
fn neighbour_who_knows<'a>(
    moment: &'a Moment<'_>,
    replica: &ReplicaLook,
    look: &Look,
    log: &CoreKey,
) -> Option<&'a str> {
    let here = look.logs.get(log)?;
    let mut others = moment.open().filter(|(other, theirs)| {
        let pair = (replica.replica, other.replica);
        moment.claims.staying.contains(&pair) && theirs.contradicted.contains(log) && theirs.local != *log
    });
    others.find_map(|(other, theirs)| {
        let there = theirs.logs.get(log)?;
        let length = there.length();
        let proven = theirs.progress.iter().find(|progress| progress.key == *log);
        let is_whole = proven.is_some_and(|progress| progress.length <= length);
        let is_same = length > Length::ZERO && here.digest(length) == there.digest(length);
        (is_whole && is_same).then_some(&*other.name)
    })
}

/// True when what replicas have of a log are beginnings of one.
fn is_one_history(moment: &Moment<'_>, log: &CoreKey) -> bool {
    let mut copies: Vec<_> = moment.open().filter_map(|(_, look)| look.logs.get(log)).collect();
    copies.sort_by_key(|copy| copy.length());
    copies.windows(2).all(|pair| {
        pair[0].length() == Length::ZERO
            || pair[1].digest(pair[0].length()) == pair[0].digest(pair[0].length())
    })
}

fn streams_of(look: &Look) -> BTreeSet<HandshakeHash> {
    let connections = look.connections.iter();
    connections
        .filter_map(|connection| connection.progress.stream)
        .collect()
}
