//! What this peer owes to others, and what it heard about itself: attestations to sign, attestations to attach, and
//! strangers to acknowledge.
//!
//! Source: spec/autobee.md 4, 5.7, 7.4, 10. The original keeps lists that grow while it applies, so that they depend
//! on how often it reordered, and are lost by a restart. Here all of it is a function of the order and of one more
//! thing, [`Testimony::told`]: what was applied when the last own block with stamps was written, which is how much of
//! each log lies in the past of that block. Every entry of the order that is not in it owes what it granted. So a
//! reorder makes nobody testify twice, an entry that leaves the order takes back what it asked for, and a restart
//! finds again what a block without stamps left open. What entries say that are forgotten stays ([`Kept`]), and is
//! stored with the checkpoint behind them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::linearizer::{map, pairs};
use super::system::{Grant, System};
use crate::crypto::CoreKey;
use crate::wire::oplog::{Attestation, OplogBlock};
use crate::wire::{Decode, DecodeError, Decoder, Encode, Encoder, Length, Link, Weight};

/// Most attestations that wait to be signed. Further grants are not attested by this peer.
pub const ATTESTATIONS_MAX: usize = 4096;

/// Most attestations about the local writer that are remembered of one backer, and of all.
const HEARD_OF_ONE_MAX: usize = 16;
const HEARD_MAX: usize = 1024;

/// What applying one batch said about weights, besides the records. Most batches say nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    /// Ceilings that it raised.
    pub(super) grants: Vec<Grant>,
    /// Attestations on its blocks, each with the length of its block.
    attestations: Vec<(Length, Attestation)>,
    /// Its last block has stamps.
    is_stamped: bool,
    /// It is a stranger's, and apply acknowledged somebody.
    pub(super) wants_ack: bool,
    /// It is the local writer's, and has no effect: why.
    pub(super) rejected: Option<Arc<str>>,
}

/// What an entry of the order said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spoken<'a> {
    /// The last block of its batch.
    pub(super) batch: Link,
    pub(super) said: Option<&'a Said>,
}

/// An attestation about the local writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    at: u64,
    /// The block that carried it.
    pub(super) backer: Link,
    pub(super) attestation: Attestation,
}

/// A grant that the next own block should attest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Duty {
    at: u64,
    /// The last block of the batch that granted.
    batch: Link,
    grant: Grant,
}

/// What lies in the past of an own block with stamps.
#[derive(Debug, Clone, Default)]
struct Told {
    /// All of this. As each log is applied from its start, lengths say it.
    system: System,
    /// And of these logs that much.
    lengths: BTreeMap<CoreKey, Length>,
}

impl Told {
    fn has(&self, link: &Link) -> bool {
        self.system.has(link)
            || self
                .lengths
                .get(&link.key)
                .is_some_and(|length| *length >= link.length)
    }

    fn lengths(&self) -> BTreeMap<CoreKey, Length> {
        let records = self.system.records().map(|(key, record)| (*key, record.length));
        let mut lengths: BTreeMap<_, _> = records.filter(|(_, length)| *length > Length::ZERO).collect();
        for (key, length) in &self.lengths {
            let known = lengths.entry(*key).or_default();
            *known = (*known).max(*length);
        }
        lengths
    }
}

/// What must be known of entries that are forgotten, and of how much of the order the local writer attested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    local: CoreKey,
    told: BTreeMap<CoreKey, Length>,
    duties: Vec<Duty>,
    heard: Vec<Heard>,
}

/// Duties of the local writer. Positions are those of entries in the order.
#[derive(Debug, Clone, Default)]
pub(super) struct Testimony {
    local: Option<CoreKey>,
    /// What lies in the past of the last own block with stamps.
    told: Told,
    duties: Vec<Duty>,
    heard: Vec<Heard>,
    wants_ack: bool,
    /// What own blocks attest tells what is owed, and not what lies in their past: another apply granted that.
    is_anew: bool,
    /// Of an earlier engine, until it is said whose duties are kept.
    kept: Option<Kept>,
}

impl Said {
    /// What the blocks of a batch say, the first of them at `first`.
    pub(super) fn by(first: Length, blocks: &[OplogBlock]) -> Self {
        let attestations = (first.0..).zip(blocks).flat_map(|(length, block)| {
            let attestations = block.attestations.iter().flatten();
            attestations.map(move |attestation| (Length(length), *attestation))
        });
        Self {
            attestations: attestations.collect(),
            is_stamped: blocks.last().is_some_and(|block| block.views.is_some()),
            ..Self::default()
        }
    }

    /// True when the last block of the batch says where the trees of its writer stand.
    pub(super) const fn is_stamped(&self) -> bool {
        self.is_stamped
    }

    /// Shared, or nothing when nothing was said.
    pub(super) fn shared(self) -> Option<Arc<Self>> {
        let silent = self.grants.is_empty() && self.attestations.is_empty();
        let is_rejected = self.rejected.is_some();
        (!silent || self.is_stamped || self.wants_ack || is_rejected).then(|| Arc::new(self))
    }
}

impl Testimony {
    /// Goes on with what an earlier engine kept of the first `entries` entries, if it was about the same writer.
    pub(super) fn resume(kept: Option<Kept>, entries: u64) -> Self {
        let kept = kept.map(|mut kept| {
            kept.duties.retain(|duty| duty.at < entries);
            kept.heard.retain(|heard| heard.at < entries);
            kept.duties.truncate(ATTESTATIONS_MAX);
            kept.heard.truncate(HEARD_MAX);
            kept
        });
        Self {
            kept,
            ..Self::default()
        }
    }

    /// What has to be known of the first `entries` entries once they are forgotten. None without a local writer.
    pub(super) fn keep(&self, entries: u64) -> Option<Kept> {
        Some(Kept {
            local: self.local?,
            told: self.told.lengths(),
            duties: self
                .duties
                .iter()
                .filter(|duty| duty.at < entries)
                .copied()
                .collect(),
            heard: self
                .heard
                .iter()
                .filter(|heard| heard.at < entries)
                .copied()
                .collect(),
        })
    }

    /// Whose duties are kept, beginning behind `told`, or where an earlier engine left off. What was owed and heard
    /// before is forgotten.
    pub(super) fn set_local(&mut self, local: CoreKey, told: System) {
        let kept = self.kept.take().filter(|kept| kept.local == local);
        *self = match kept {
            Some(kept) => Self {
                local: Some(local),
                told: Told {
                    lengths: kept.told,
                    ..Told::default()
                },
                duties: kept.duties,
                heard: kept.heard,
                ..Self::default()
            },
            None => Self {
                local: Some(local),
                told: Told {
                    system: told,
                    ..Told::default()
                },
                ..Self::default()
            },
        };
    }

    /// Owes what is granted in the order and the own log does not attest, until the next own block with stamps.
    pub(super) const fn attest_anew(&mut self) {
        self.is_anew = true;
    }

    /// Forgets what others attested: a slip.
    pub(super) fn forget_heard(&mut self) {
        self.heard.clear();
    }

    /// Whose duties are kept.
    pub(super) const fn local(&self) -> Option<CoreKey> {
        self.local
    }

    /// True for an own block that says where the views stand, and is not known to have been written.
    pub(super) fn is_news(&self, entry: &Spoken<'_>) -> bool {
        Some(entry.batch.key) == self.local
            && entry.said.is_some_and(|said| said.is_stamped)
            && !self.told.has(&entry.batch)
    }

    /// Takes note of an own block with stamps that an earlier engine wrote: of what lies in its past, by the length of
    /// each log, and by a membership state that all of does.
    pub(super) fn recall(&mut self, past: BTreeMap<CoreKey, Length>, system: Option<System>) {
        let mut lengths = self.told.lengths();
        for (key, length) in past {
            let known = lengths.entry(key).or_default();
            *known = (*known).max(length);
        }
        self.told = Told {
            system: system.unwrap_or_default(),
            lengths,
        };
        if !self.is_anew {
            self.duties.retain(|duty| !self.told.has(&duty.batch));
        }
    }

    /// Follows a change of the order, of which the first `shared` entries stayed and `entries` came behind them.
    pub(super) fn follow<'a>(&mut self, shared: u64, entries: impl Iterator<Item = Spoken<'a>>) {
        let Some(local) = self.local else { return };
        self.duties.retain(|duty| duty.at < shared);
        self.heard.retain(|heard| heard.at < shared);
        self.wants_ack = false;
        for (at, entry) in (shared..).zip(entries) {
            if let Some(said) = entry.said {
                self.hear(at, entry.batch.key, &said.attestations);
                let is_told = self.told.has(&entry.batch);
                if !is_told || self.is_anew {
                    self.owe(at, entry.batch, &said.grants);
                }
                self.wants_ack |= !is_told && said.wants_ack && entry.batch.key != local;
                if self.is_anew && entry.batch.key == local {
                    self.settle(&said.attestations);
                }
            }
        }
    }

    /// True when the last change of the order brought a stranger's batch that apply acknowledged, and no own block
    /// has it in its past.
    pub(super) const fn wants_ack(&self) -> bool {
        self.wants_ack
    }

    /// What the next own block attests, with the state that its stamps are about.
    pub(super) fn tell(&mut self, system: &System) -> impl Iterator<Item = Grant> {
        self.told = Told {
            system: system.clone(),
            ..Told::default()
        };
        self.wants_ack = false;
        self.is_anew = false;
        std::mem::take(&mut self.duties)
            .into_iter()
            .map(|duty| duty.grant)
    }

    /// Attestations about the local writer, of the highest weight first, of the same weight as they stand in the
    /// order.
    pub(super) fn heard(&self) -> Vec<Heard> {
        let mut heard = self.heard.clone();
        heard.sort_by_key(|heard| std::cmp::Reverse(heard.attestation.weight));
        heard
    }

    fn owe(&mut self, at: u64, batch: Link, grants: &[Grant]) {
        for grant in grants {
            let known = self.duties.iter().any(|duty| duty.grant == *grant);
            if Some(grant.key) != self.local && !known && self.duties.len() < ATTESTATIONS_MAX {
                self.duties.push(Duty {
                    at,
                    batch,
                    grant: *grant,
                });
            }
        }
    }

    /// What an own block attests is not owed.
    fn settle(&mut self, attestations: &[(Length, Attestation)]) {
        self.duties.retain(|duty| {
            let mut attested = attestations.iter().map(|(_, attestation)| attestation);
            !attested.any(|found| (found.key, found.weight) == (duty.grant.key, duty.grant.weight))
        });
    }

    fn hear(&mut self, at: u64, backer: CoreKey, attestations: &[(Length, Attestation)]) {
        let about_us = |(_, attestation): &&(Length, Attestation)| Some(attestation.key) == self.local;
        let new: Vec<_> = attestations.iter().filter(about_us).copied().collect();
        for (length, attestation) in new {
            if Some(backer) == self.local || self.heard.len() >= HEARD_MAX {
                continue;
            }
            let mut of_one = self.heard.iter().filter(|heard| heard.backer.key == backer);
            let known = of_one
                .clone()
                .any(|heard| heard.attestation.weight == attestation.weight);
            if known || of_one.nth(HEARD_OF_ONE_MAX - 1).is_some() {
                continue;
            }
            self.heard.push(Heard {
                at,
                backer: Link { key: backer, length },
                attestation,
            });
        }
    }
}

impl Encode for Kept {
    fn encode(&self, to: &mut Encoder) {
        self.local.encode(to);
        pairs(to, &self.told);
        to.array(&self.duties, |duty, to| {
            to.uint(duty.at);
            duty.batch.encode(to);
            duty.grant.key.encode(to);
            duty.grant.weight.encode(to);
        });
        to.array(&self.heard, |heard, to| {
            to.uint(heard.at);
            heard.backer.encode(to);
            heard.attestation.encode(to);
        });
    }
}

impl Decode for Kept {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            local: CoreKey::decode(from)?,
            told: map(from)?,
            duties: from.array(|from| {
                Ok(Duty {
                    at: from.uint()?,
                    batch: Link::decode(from)?,
                    grant: Grant {
                        key: CoreKey::decode(from)?,
                        weight: Weight::decode(from)?,
                    },
                })
            })?,
            heard: from.array(|from| {
                Ok(Heard {
                    at: from.uint()?,
                    backer: Link::decode(from)?,
                    attestation: Attestation::decode(from)?,
                })
            })?,
        })
    }
}
