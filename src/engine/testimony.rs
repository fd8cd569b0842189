//! What this peer owes to others, and what it heard about itself: attestations to sign, attestations to attach, and
//! strangers to acknowledge.
//!
//! Source: spec/autobee.md 4, 5.7, 7.4, 10. The original keeps lists that grow while it applies, so that they depend
//! on how often it reordered, and are lost by a restart. Here all of it is a function of the order and of one more
//! thing, [`Testimony::told`]: what was applied when the last own block with stamps was written, which is how much of
//! each log lies in the past of that block. Every entry of the order that is not in it owes what it granted. So a
//! reorder makes nobody testify twice, an entry that leaves the order takes back what it asked for, and a restart
//! finds again what a block without stamps left open.

use std::sync::Arc;

use super::system::{Grant, System};
use crate::crypto::CoreKey;
use crate::wire::oplog::{Attestation, OplogBlock};
use crate::wire::{Length, Link};

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
}

/// What an entry of the order said, and the membership behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spoken<'a> {
    /// The last block of its batch.
    pub(super) batch: Link,
    pub(super) system: &'a System,
    pub(super) said: Option<&'a Said>,
}

/// An attestation about the local writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    at: usize,
    /// The block that carried it.
    pub(super) backer: Link,
    pub(super) attestation: Attestation,
}

/// A grant that the next own block should attest.
#[derive(Debug, Clone, Copy)]
struct Duty {
    at: usize,
    grant: Grant,
}

/// Duties of the local writer. Positions are those of entries in the order.
#[derive(Debug, Clone, Default)]
pub(super) struct Testimony {
    local: Option<CoreKey>,
    /// The membership when the last own block with stamps was written. As each log is applied from its start, its
    /// lengths say what lies in the past of that block.
    told: System,
    duties: Vec<Duty>,
    heard: Vec<Heard>,
    wants_ack: bool,
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

    /// Shared, or nothing when nothing was said.
    pub(super) fn shared(self) -> Option<Arc<Self>> {
        let silent = self.grants.is_empty() && self.attestations.is_empty();
        (!silent || self.is_stamped || self.wants_ack).then(|| Arc::new(self))
    }
}

impl Testimony {
    /// Whose duties are kept, beginning behind `told`. What was owed and heard before is forgotten.
    pub(super) fn set_local(&mut self, local: CoreKey, told: System) {
        *self = Self {
            local: Some(local),
            told,
            ..Self::default()
        };
    }

    /// Whose duties are kept.
    pub(super) const fn local(&self) -> Option<CoreKey> {
        self.local
    }

    /// Follows a change of the order, of which the first `shared` entries stayed and `entries` came behind them.
    pub(super) fn follow<'a>(&mut self, shared: usize, entries: impl Iterator<Item = Spoken<'a>> + Clone) {
        let Some(local) = self.local else { return };
        self.duties.retain(|duty| duty.at < shared);
        self.heard.retain(|heard| heard.at < shared);
        self.wants_ack = false;
        for entry in entries.clone() {
            let is_newer = entry.batch.key == local && entry.batch.length > self.told.length(&local);
            if is_newer && entry.said.is_some_and(|said| said.is_stamped) {
                self.told = entry.system.clone();
            }
        }
        for (at, entry) in (shared..).zip(entries) {
            if let Some(said) = entry.said {
                self.hear(at, entry.batch.key, &said.attestations);
                if !self.told.has(&entry.batch) {
                    self.owe(at, &said.grants);
                    self.wants_ack |= said.wants_ack && entry.batch.key != local;
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
        self.told = system.clone();
        self.wants_ack = false;
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

    fn owe(&mut self, at: usize, grants: &[Grant]) {
        for grant in grants {
            let known = self.duties.iter().any(|duty| duty.grant == *grant);
            if Some(grant.key) != self.local && !known && self.duties.len() < ATTESTATIONS_MAX {
                self.duties.push(Duty { at, grant: *grant });
            }
        }
    }

    fn hear(&mut self, at: usize, backer: CoreKey, attestations: &[(Length, Attestation)]) {
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
