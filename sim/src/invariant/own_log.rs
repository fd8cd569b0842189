//! The log of a writer never gets shorter or other on the disk of its owner than what was acknowledged or shown of it.
//!
//! Source: ARCHITECTURE.md, invariant 6; nobody signs two continuations of an own log.

use std::collections::BTreeMap;

use autobee::crypto::{CoreKey, Hash};
use autobee::wire::Length;

use super::{Invariant, Moment};

/// See the module.
#[derive(Debug, Default)]
pub struct OwnLogs {
    /// How long each own log was in which life, and its digest there.
    known: BTreeMap<(usize, CoreKey), Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    life: u32,
    length: Length,
    digest: Hash,
    /// What peers are shown.
    shown: Length,
    /// What was acknowledged, or shown to peers.
    durable: Length,
}

impl Invariant for OwnLogs {
    fn name(&self) -> &'static str {
        "own log"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for (replica, look) in moment.open() {
            if moment.claims.forgetful.contains(&replica.replica) {
                continue;
            }
            let Some(log) = look.logs.get(&look.local) else {
                continue;
            };
            let at = (replica.replica, look.local);
            let acknowledged = moment.acknowledged.iter().rev();
            let acknowledged = acknowledged
                .filter(|entry| entry.replica == replica.replica && entry.key == look.local)
                .map(|entry| entry.length);
            let durable = acknowledged
                .max()
                .unwrap_or_default()
                .max(look.shown.min(log.length()));
            if let Some(known) = self.known.get(&at) {
                // A program cuts no log of a database.
                if known.life == replica.life && look.shown < known.shown {
                    return Err(format!(
                        "peers of {} are shown {} blocks of its log, they were shown {}",
                        replica.name, look.shown, known.shown
                    ));
                }
                // What was written and not synced may go with the power.
                let kept = if known.life == replica.life {
                    known.length
                } else {
                    known.durable
                };
                if log.length() < kept {
                    return Err(format!(
                        "the log of {} has {} blocks, it had {kept}",
                        replica.name,
                        log.length()
                    ));
                }
                if known.life == replica.life && log.digest(known.length) != Some(known.digest) {
                    return Err(format!(
                        "the first {} blocks of the log of {} are not what they were",
                        known.length, replica.name
                    ));
                }
            }
            if log.length() < durable {
                return Err(format!(
                    "the log of {} has {} blocks, {durable} were acknowledged",
                    replica.name,
                    log.length()
                ));
            }
            let Some(digest) = log.digest(log.length()) else {
                continue;
            };
            let known = Known {
                life: replica.life,
                length: log.length(),
                digest,
                shown: look.shown,
                durable,
            };
            self.known.insert(at, known);
        }
        Ok(())
    }
}
