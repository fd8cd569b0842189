//! A log has one continuation: all replicas hold the same block at the same place.
//!
//! Source: spec/hypercore.md 5 and 9: a signature over a length commits its writer to every block below it.

use std::collections::BTreeMap;

use autobee::crypto::{CoreKey, Hash};
use autobee::wire::Length;

use super::{Invariant, Moment};

/// See the module.
#[derive(Debug, Default)]
pub struct EqualLogs {
    /// Of each core, the digest behind each block that somebody held, and who.
    known: BTreeMap<CoreKey, Vec<(Hash, String)>>,
    /// Up to where each replica was compared, in which life.
    compared: BTreeMap<(usize, CoreKey), (u32, Length)>,
    blocks: u64,
}

impl Invariant for EqualLogs {
    fn name(&self) -> &'static str {
        "equal logs"
    }

    fn tick(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        if moment.claims.may_fork() {
            return Ok(());
        }
        for (replica, look) in moment.open() {
            for (core, log) in &look.logs {
                let done = self.compared.entry((replica.replica, *core)).or_default();
                if done.0 != replica.life || done.1 > log.length() {
                    *done = (replica.life, Length::ZERO);
                }
                let known = self.known.entry(*core).or_default();
                // Its end may be gone with the power, or be other blocks after that.
                if look.former.contains(core) {
                    continue;
                }
                // What only its writer has, and the power may still take, is nobody's to compare.
                let end = if *core == look.local {
                    look.shown.min(log.length())
                } else {
                    log.length()
                };
                for length in done.1.0 + 1..=end.0 {
                    let Some(digest) = log.digest(Length(length)) else {
                        break;
                    };
                    let at = usize::try_from(length - 1).unwrap_or(usize::MAX);
                    match known.get(at) {
                        None => known.push((digest, replica.name.clone())),
                        Some((other, _)) if *other == digest => self.blocks += 1,
                        Some((_, other)) => {
                            let block = moment.block(core, Length(length));
                            return Err(format!(
                                "block {block} is not the same at {} and {other}",
                                replica.name
                            ));
                        }
                    }
                }
                done.1 = end;
            }
        }
        Ok(())
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        vec![("equal blocks", self.blocks)]
    }
}
