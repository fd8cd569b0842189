//! What a connection says of how far it is, is so: it counts the cores that both sides replicate, and when it is synced,
//! all is here that the peer had of them when the connection began.
//!
//! Source: the documentation of `replication::session::Progress` and `db::Session::synced`. Cores whose channels are not open
//! yet are in none of it.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::replication::capability::HandshakeHash;

use super::{Invariant, Look, Moment, ReplicaLook};

/// See the module.
#[derive(Debug, Default)]
pub struct SyncedSessions {
    /// What replicas had of each log at the last look, and in which life.
    before: BTreeMap<usize, (u32, Lengths)>,
    /// What those had who are connected by a stream, when it was seen first.
    began: BTreeMap<HandshakeHash, BTreeMap<usize, Lengths>>,
    synced: u64,
    compared: u64,
}

type Lengths = BTreeMap<CoreKey, u64>;

impl Invariant for SyncedSessions {
    fn name(&self) -> &'static str {
        "synced"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let mut ends: BTreeMap<HandshakeHash, Vec<usize>> = BTreeMap::new();
        for (replica, look) in moment.open() {
            for connection in &look.connections {
                let (said, open) = (connection.progress, connection.cores.len());
                if said.cores > open {
                    return Err(format!(
                        "{}: a connection says that both sides replicate {} cores, of which {open} are open there",
                        replica.name, said.cores
                    ));
                }
                if let Some(stream) = said.stream {
                    ends.entry(stream).or_default().push(replica.replica);
                }
            }
        }
        self.began.retain(|stream, _| ends.contains_key(stream));
        for (stream, ends) in &ends {
            let before = &self.before;
            self.began.entry(*stream).or_insert_with(|| {
                let had = ends.iter().filter_map(|end| {
                    // A crash may have taken what was not synced.
                    let life = moment.replicas.get(*end)?.life;
                    let (_, had) = before.get(end).filter(|(before, _)| *before == life)?;
                    Some((*end, had.clone()))
                });
                had.collect()
            });
        }
        for (replica, look) in moment.open() {
            self.has_all(moment, replica, look)?;
        }
        let lengths = moment.open().map(|(replica, look)| {
            let logs = look
                .progress
                .iter()
                .map(|log| (log.key, shown(look, log.key, log.have.0)));
            (replica.replica, (replica.life, logs.collect()))
        });
        self.before = lengths.collect();
        Ok(())
    }

    fn end(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        self.tick(moment)?;
        let claims = moment.claims;
        if claims.may_blame || claims.is_restless {
            return Ok(());
        }
        for (replica, look) in moment.open() {
            for connection in &look.connections {
                let said = connection.progress;
                // Trees, and logs beside the database, are not fetched as a whole.
                let is_full = said.cores == connection.cores.len()
                    && connection.cores.iter().all(|core| look.logs.contains_key(core));
                if !said.is_synced && said.cores > 0 && is_full {
                    return Err(format!(
                        "{}: a connection says that its peer has more of one of {} cores, at rest",
                        replica.name, said.cores
                    ));
                }
                if said.unanswered > 0 {
                    return Err(format!(
                        "{}: {} requests of a peer wait for an answer, at rest",
                        replica.name, said.unanswered
                    ));
                }
                self.synced += u64::from(said.is_synced);
                let Some(stream) = said.stream else { continue };
                let other = moment.open().find_map(|(other, look)| {
                    let mut ends = look
                        .connections
                        .iter()
                        .filter(|_| other.replica != replica.replica);
                    ends.find(|end| end.progress.stream == Some(stream))
                });
                let Some(other) = other else { continue };
                if other.cores != connection.cores {
                    return Err(format!(
                        "{}: a connection has {} cores on this side, and {} on the other, at rest",
                        replica.name,
                        connection.cores.len(),
                        other.cores.len()
                    ));
                }
                if said.taken > other.progress.offered {
                    return Err(format!(
                        "{}: a connection says that its peer has {} leading blocks, of {} that it has",
                        replica.name, said.taken, other.progress.offered
                    ));
                }
                // Of a log with a block that nobody takes the rest is not fetched.
                let other = other.progress;
                let is_whole = is_full && said.have == said.want && other.have == other.want;
                if is_whole && said.taken != said.offered {
                    return Err(format!(
                        "{}: a connection says that its peer has {} of {} leading blocks, at rest",
                        replica.name, said.taken, said.offered
                    ));
                }
            }
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("logs of synced connections", self.compared),
            ("connections synced at rest", self.synced),
        ]
    }
}

impl SyncedSessions {
    /// Who says that it is synced has what the peer had.
    fn has_all(&mut self, moment: &Moment<'_>, replica: &ReplicaLook, look: &Look) -> Result<(), String> {
        let claims = moment.claims;
        // Who goes on from the trees of others fetches the start of logs later, or never.
        let is_forwarding = claims.forwarding.contains(&replica.replica);
        if claims.may_blame || look.stopped.is_some() || is_forwarding {
            return Ok(());
        }
        for connection in &look.connections {
            let said = connection.progress;
            let is_told = said.is_synced && said.cores == connection.cores.len();
            let Some(began) = said
                .stream
                .filter(|_| is_told)
                .and_then(|stream| self.began.get(&stream))
            else {
                continue;
            };
            for (peer, had) in began.iter().filter(|(peer, _)| **peer != replica.replica) {
                for (core, had) in had.iter().filter(|(core, _)| connection.cores.contains(core)) {
                    let Some(log) = look.progress.iter().find(|log| log.key == *core) else {
                        continue;
                    };
                    // Of a stranger only so much is fetched.
                    let is_limited = log
                        .record
                        .is_none_or(|record| record.is_guest || record.is_removed);
                    if log.is_stalled || is_limited {
                        continue;
                    }
                    self.compared += 1;
                    if log.have.0 < *had {
                        let peer = moment.replicas.get(*peer).map_or("a peer", |peer| &peer.name);
                        return Err(format!(
                            "{}: a connection is said to be synced, {} of the log of {} are here, and {peer} had {had} when it began",
                            replica.name,
                            log.have.0,
                            moment.name_of(core),
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// How much of a log a replica shows to peers.
fn shown(look: &Look, core: CoreKey, have: u64) -> u64 {
    if look.local == core {
        have.min(look.shown.0)
    } else {
        have
    }
}
