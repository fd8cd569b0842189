//! That the owner of a log signed two histories stays known, also when the power goes.
//!
//! Source: the documentation of `db::Stalled::Conflict`: nothing more of such a log is taken, and a power cut does not bring
//! it back.

use std::collections::BTreeMap;
use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::wire::Length;

use super::{Invariant, Moment};

/// Nobody waits for it to be synced: it survives a power cut after that time at the latest.
const SYNCED: Duration = Duration::from_secs(4);

/// See the module.
#[derive(Debug, Default)]
pub struct Contradictions {
    known: BTreeMap<(usize, CoreKey), KnownContradiction>,
    survived: u64,
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
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("contradictions known after a start", self.survived)]
    }
}
