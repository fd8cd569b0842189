//! Attestations of the local writer: those that it has to sign, those about itself that it received, and whether it has to
//! acknowledge a stranger.
//!
//! ```text
//! a grants b weight 2 (an entry)  ->  a signs an attestation in its next own block with stamps   pending
//! b reads that block              ->  b attaches it as witness to a block that claims the weight  received
//! ```
//!
//! Source: spec/autobee.md 4, 5.7, 7.4, 10. The original keeps lists that grow while it applies, so that they depend
//! on how often it reordered, and are lost by a restart. Here all of it is a function of the order and of one more
//! thing, [`Attestations::past`]: what was applied when the last own block with stamps was written, which is how much of
//! each log lies in the past of that block. What an entry of the order granted is pending unless it lies in there. So a
//! reorder makes nobody attest twice, an entry that leaves the order takes back what it asked for, and a restart
//! finds again what a block without stamps left open. What entries say that are forgotten stays
//! ([`StoredAttestations`]), and is stored with the checkpoint behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::linearizer::{map, pairs};
use super::system::{Grant, System};
use crate::crypto::CoreKey;
use crate::env::{Planted, Slip};
use crate::wire::oplog::{Attestation, OplogBlock};
use crate::wire::{Decode, DecodeError, Decoder, Encode, Encoder, Length, Link, Weight};

/// Most attestations that wait to be signed. Further grants are not attested by this peer.
pub const ATTESTATIONS_MAX: usize = 4096;

/// Most attestations about the local writer that are remembered of one backer, and of all.
const RECEIVED_OF_ONE_MAX: usize = 16;
const RECEIVED_MAX: usize = 1024;

/// The effects of one batch on weights, besides the records: grants, attestations, an acknowledgement. Most batches have
/// none.
#[derive(Debug, Clone, Default)]
pub(super) struct WeightEffects {
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
    /// Whom it gave a record, or would have where it has an effect.
    pub(super) named: Named,
}

/// Whom a batch gives a record wherever it is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    These(BTreeSet<CoreKey>),
    /// It was not applied, or an earlier engine did: it may be anybody.
    Unknown,
}

impl Default for Named {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Named {
    pub(super) fn may_be(&self, writer: &CoreKey) -> bool {
        match self {
            Self::These(these) => these.contains(writer),
            Self::Unknown => true,
        }
    }
}

/// An entry of the order with its effects on weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryEffects<'a> {
    /// The last block of its batch.
    pub(super) batch: Link,
    pub(super) said: Option<&'a WeightEffects>,
}

/// An attestation about the local writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReceivedAttestation {
    at: u64,
    /// The block that carried it.
    pub(super) backer: Link,
    pub(super) attestation: Attestation,
}

/// A grant that the next own block should attest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PendingAttestation {
    at: u64,
    /// The last block of the batch that granted.
    batch: Link,
    grant: Grant,
}

/// The past of an own block with stamps: everything that the block and those before it attest.
#[derive(Debug, Clone, Default)]
struct AttestedPast {
    /// All of this. As each log is applied from its start, lengths say it.
    system: System,
    /// And of these logs that much.
    lengths: BTreeMap<CoreKey, Length>,
}

impl AttestedPast {
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

/// The attestations of forgotten entries, and how much of the order the local writer attested; stored with a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredAttestations {
    local: CoreKey,
    past: BTreeMap<CoreKey, Length>,
    pending: Vec<PendingAttestation>,
    received: Vec<ReceivedAttestation>,
}

/// Attestations that are pending and received, of one local writer. Positions are those of entries in the order.
#[derive(Debug, Clone, Default)]
pub(super) struct Attestations {
    local: Option<CoreKey>,
    /// What lies in the past of the last own block with stamps.
    past: AttestedPast,
    pending: Vec<PendingAttestation>,
    received: Vec<ReceivedAttestation>,
    wants_ack: bool,
    /// What own blocks attest tells what is owed, and not what lies in their past: another apply granted that.
    attests_again: bool,
    /// Of an earlier engine, until it is said whose attestations are kept.
    stored: Option<StoredAttestations>,
}

impl WeightEffects {
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
        let names_nobody = self.named == Named::default();
        let is_rejected = self.rejected.is_some();
        let is_empty = silent && names_nobody && !(self.is_stamped || self.wants_ack || is_rejected);
        (!is_empty).then(|| Arc::new(self))
    }
}

impl Attestations {
    /// Goes on with what an earlier engine kept of the first `entries` entries, if it was about the same writer.
    pub(super) fn resume(kept: Option<StoredAttestations>, entries: u64) -> Self {
        let kept = kept.map(|mut kept| {
            kept.pending.retain(|pending| pending.at < entries);
            kept.received.retain(|received| received.at < entries);
            kept.pending.truncate(ATTESTATIONS_MAX);
            kept.received.truncate(RECEIVED_MAX);
            kept
        });
        Self {
            stored: kept,
            ..Self::default()
        }
    }

    /// What has to be known of the first `entries` entries once they are forgotten. None without a local writer.
    pub(super) fn keep(&self, entries: u64) -> Option<StoredAttestations> {
        Some(StoredAttestations {
            local: self.local?,
            past: self.past.lengths(),
            pending: self
                .pending
                .iter()
                .filter(|pending| pending.at < entries)
                .copied()
                .collect(),
            received: self
                .received
                .iter()
                .filter(|received| received.at < entries)
                .copied()
                .collect(),
        })
    }

    /// Whose attestations are kept, beginning behind `past`, or where an earlier engine left off. What was pending and received
    /// before is forgotten.
    pub(super) fn set_local(&mut self, local: CoreKey, past: System) {
        let kept = self.stored.take().filter(|kept| kept.local == local);
        *self = match kept {
            Some(kept) => Self {
                local: Some(local),
                past: AttestedPast {
                    lengths: kept.past,
                    ..AttestedPast::default()
                },
                pending: kept.pending,
                received: kept.received,
                ..Self::default()
            },
            None => Self {
                local: Some(local),
                past: AttestedPast {
                    system: past,
                    ..AttestedPast::default()
                },
                ..Self::default()
            },
        };
    }

    /// Goes on for another writer. What the one of before owed it owes; what was received was about that one.
    pub(super) fn change_local(&mut self, local: CoreKey) {
        self.local = Some(local);
        self.pending.retain(|pending| pending.grant.key != local);
        self.received.clear();
        self.wants_ack = false;
        self.stored = None;
    }

    /// Owes what is granted in the order and the own log does not attest, until the next own block with stamps.
    pub(super) const fn attest_again(&mut self) {
        self.attests_again = true;
    }

    /// Forgets what others attested: a slip.
    pub(super) fn forget_received(&mut self) {
        self.received.clear();
    }

    /// Whose attestations are kept.
    pub(super) const fn local(&self) -> Option<CoreKey> {
        self.local
    }

    /// True for an own block that says where the views stand, and is not known to have been written.
    pub(super) fn is_unknown_stamp(&self, entry: &EntryEffects<'_>) -> bool {
        Some(entry.batch.key) == self.local
            && entry.said.is_some_and(|said| said.is_stamped)
            && !self.past.has(&entry.batch)
    }

    /// Takes note of an own block with stamps that an earlier engine wrote: of what lies in its past, by the length of
    /// each log, and by a membership state that all of does.
    pub(super) fn restore_past(&mut self, past: BTreeMap<CoreKey, Length>, system: Option<System>) {
        let mut lengths = self.past.lengths();
        for (key, length) in past {
            let known = lengths.entry(key).or_default();
            *known = (*known).max(length);
        }
        self.past = AttestedPast {
            system: system.unwrap_or_default(),
            lengths,
        };
        if !self.attests_again {
            self.pending.retain(|pending| !self.past.has(&pending.batch));
        }
    }

    /// Follows a change of the order, of which the first `shared` entries stayed and `entries` came behind them.
    pub(super) fn follow<'a>(
        &mut self,
        shared: u64,
        entries: impl Iterator<Item = EntryEffects<'a>>,
        planted: Planted,
    ) {
        let Some(local) = self.local else { return };
        self.pending.retain(|pending| pending.at < shared);
        self.received.retain(|received| received.at < shared);
        self.wants_ack = false;
        for (at, entry) in (shared..).zip(entries) {
            if let Some(said) = entry.said {
                self.receive(at, entry.batch.key, &said.attestations);
                let is_attested = self.past.has(&entry.batch);
                if !is_attested || self.attests_again {
                    self.add_pending(at, entry.batch, &said.grants, planted);
                }
                self.wants_ack |= !is_attested && said.wants_ack && entry.batch.key != local;
                if self.attests_again && entry.batch.key == local {
                    self.remove_attested(&said.attestations);
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
    pub(super) fn take_pending(&mut self, system: &System) -> impl Iterator<Item = Grant> {
        self.past = AttestedPast {
            system: system.clone(),
            ..AttestedPast::default()
        };
        self.wants_ack = false;
        self.attests_again = false;
        std::mem::take(&mut self.pending)
            .into_iter()
            .map(|pending| pending.grant)
    }

    /// Attestations about the local writer, of the highest weight first, of the same weight as they stand in the
    /// order.
    pub(super) fn received(&self) -> Vec<ReceivedAttestation> {
        let mut received = self.received.clone();
        received.sort_by_key(|received| std::cmp::Reverse(received.attestation.weight));
        received
    }

    /// What a batch attests that stands at this position.
    pub(super) fn receive_of(&mut self, at: u64, backer: CoreKey, effects: &WeightEffects) {
        self.receive(at, backer, &effects.attestations);
    }

    fn add_pending(&mut self, at: u64, batch: Link, grants: &[Grant], planted: Planted) {
        let is_one_enough = planted.has(Slip::SecondGrantUnattested);
        for grant in grants {
            let is_same = |pending: &PendingAttestation| {
                pending.grant == *grant || is_one_enough && pending.grant.key == grant.key
            };
            let known = self.pending.iter().any(is_same);
            if Some(grant.key) != self.local && !known && self.pending.len() < ATTESTATIONS_MAX {
                self.pending.push(PendingAttestation {
                    at,
                    batch,
                    grant: *grant,
                });
            }
        }
    }

    /// What an own block attests is not owed.
    fn remove_attested(&mut self, attestations: &[(Length, Attestation)]) {
        self.pending.retain(|pending| {
            let mut attested = attestations.iter().map(|(_, attestation)| attestation);
            !attested.any(|found| (found.key, found.weight) == (pending.grant.key, pending.grant.weight))
        });
    }

    fn receive(&mut self, at: u64, backer: CoreKey, attestations: &[(Length, Attestation)]) {
        let about_us = |(_, attestation): &&(Length, Attestation)| Some(attestation.key) == self.local;
        let new: Vec<_> = attestations.iter().filter(about_us).copied().collect();
        for (length, attestation) in new {
            if Some(backer) == self.local || self.received.len() >= RECEIVED_MAX {
                continue;
            }
            let mut of_one = self
                .received
                .iter()
                .filter(|received| received.backer.key == backer);
            let known = of_one
                .clone()
                .any(|received| received.attestation.weight == attestation.weight);
            if known || of_one.nth(RECEIVED_OF_ONE_MAX - 1).is_some() {
                continue;
            }
            self.received.push(ReceivedAttestation {
                at,
                backer: Link { key: backer, length },
                attestation,
            });
        }
    }
}

impl Encode for StoredAttestations {
    fn encode(&self, to: &mut Encoder) {
        self.local.encode(to);
        pairs(to, &self.past);
        to.array(&self.pending, |pending, to| {
            to.uint(pending.at);
            pending.batch.encode(to);
            pending.grant.key.encode(to);
            pending.grant.weight.encode(to);
        });
        to.array(&self.received, |received, to| {
            to.uint(received.at);
            received.backer.encode(to);
            received.attestation.encode(to);
        });
    }
}

impl Decode for StoredAttestations {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            local: CoreKey::decode(from)?,
            past: map(from)?,
            pending: from.array(|from| {
                Ok(PendingAttestation {
                    at: from.uint()?,
                    batch: Link::decode(from)?,
                    grant: Grant {
                        key: CoreKey::decode(from)?,
                        weight: Weight::decode(from)?,
                    },
                })
            })?,
            received: from.array(|from| {
                Ok(ReceivedAttestation {
                    at: from.uint()?,
                    backer: Link::decode(from)?,
                    attestation: Attestation::decode(from)?,
                })
            })?,
        })
    }
}
