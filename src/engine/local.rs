//! Own batches: in the order first, in the log of the local writer then.
//!
//! Source: spec/autobee.md 4 and 7.4. A batch is applied before it is written, because its last block says where the
//! views stand behind it and attests what it granted.
//!
//! ```text
//! append   the batch is composed on what is applied, and taken in like anybody's
//! drain    it is ordered and applied; this ends the round
//! stamp    its last block gets stamps and attestations; write these bytes, all of them at once
//! ```
//!
//! One batch at a time: what was appended must be written, or withdrawn ([`Engine::withdraw`]), or the engine be given up,
//! before the next one.

use bytes::Bytes;

use super::attestations::WeightEffects;
use super::compose::{self, ComposeError, OWN_BLOCK_BYTES_MAX};
use super::forget::Unwritten;
use super::linearizer::MAX_OPTIMISTIC_NODES;
use super::outcome::Outcomes;
use super::replay::ReplayState;
use super::{Engine, STRANGER_BLOCKS_MAX, STRANGER_BYTES_MAX, witness};
use crate::apply::TreeSnapshot;
use crate::crypto::{CoreKey, SecretKey, Sign, Verify};
use crate::env::{Point, Slip};
use crate::wire::compact::UINT_MAX;
use crate::wire::oplog::{Attestation, Backer, OplogBlock, TrustedHead, ViewStamp, ViewStamps, Witness};
use crate::wire::{Encode as _, EncodeError, Index, Length, Link, Timestamp};

/// A batch of the local writer that the engine has and its log has not.
#[derive(Debug, Clone)]
#[must_use = "its blocks must be written to the log of the local writer"]
pub struct OwnBatch {
    first: Length,
    last: OplogBlock,
    blocks: Vec<Bytes>,
}

/// The heads of the local trees at the end of a round.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Round {
    flushes: u64,
    system: Length,
    view: Length,
}

impl OwnBatch {
    /// The length of the local log with the first block of the batch.
    #[must_use]
    pub const fn first(&self) -> Length {
        self.first
    }

    /// The length of the local log with the last block of the batch.
    #[must_use]
    pub const fn end(&self) -> Length {
        Length(self.first.0 + self.blocks.len() as u64 - 1)
    }
}

impl<V: Verify> Engine<V> {
    /// Whose log [`Engine::append`] continues from now on. What is applied already counts as attested; what it says
    /// about this writer counts.
    pub fn set_local(&mut self, local: CoreKey) {
        if self.planted.has(Slip::OwedForgotten) {
            self.attestations = super::Attestations::default();
        }
        self.attestations.set_local(local, self.system().clone());
        if self.planted.has(Slip::HeardForgotten) {
            self.attestations.forget_received();
        }
        self.listen(0);
    }

    /// Another log is the local writer's from now on. It attests what the one of before owed to others, and what that one
    /// attested counts for it; what became of the batches of before is told no more.
    pub fn change_local(&mut self, local: CoreKey) {
        self.outcomes = Outcomes::default();
        let former = self.attestations.local().filter(|former| *former != local);
        self.attestations.change_local(local);
        self.listen(0);
        let Some(former) = former else { return };
        // A batch was applied before its last block attested anything, and nobody needed that here.
        for (at, (entry, _)) in (self.forgotten() as u64..).zip(self.order.entries_since(0)) {
            let batch = self.dag.batch(entry.batch);
            if batch.writer == former
                && let Some(reader) = self.readers.get(&former)
            {
                let said = WeightEffects::by(batch.first, reader.blocks_of(batch.first, batch.last));
                self.attestations.receive_of(at, former, &said);
            }
        }
    }

    /// Has everything attested with the next own batch that is granted in the order and that the own log does not attest
    /// yet, also what lies in the past of own batches: the apply that wrote those may not have granted it. After
    /// [`Engine::set_local`], before anything is ingested.
    pub fn attest_anew(&mut self) {
        self.attestations.attest_again();
    }

    /// Begins a batch of the local writer: links to everything that is applied, a time that is not before theirs,
    /// and, while its ceiling is above its standing, the best attestation for that. Drain, then write what
    /// [`Engine::stamp`] gives.
    ///
    /// `manifests` are those of other writers' cores.
    ///
    /// # Errors
    ///
    /// When there is no local writer, it is no member and the batch is not `optimistic`, or no peer would take the
    /// batch. Nothing changed then.
    pub fn append(
        &mut self,
        values: &[Bytes],
        optimistic: bool,
        now: Timestamp,
        manifests: impl Fn(&CoreKey) -> Option<Bytes>,
    ) -> Result<OwnBatch, ComposeError> {
        let local = self.attestations.local().ok_or(ComposeError::NoWriter)?;
        let batch = self.compose_blocks(local, values, optimistic, now)?;
        if self.system().member(&local).is_none() && !self.is_writer(&local) {
            self.check_room(&local, &batch)?;
        }
        self.take_own(local, batch, manifests)
    }

    /// Refuses what peers would not look at behind the log of somebody who is no member.
    fn check_room(&self, local: &CoreKey, batch: &[OplogBlock]) -> Result<(), ComposeError> {
        let here = self.fed_from(local);
        let written = self.readers.get(local);
        let written = written.map_or(&[][..], |reader| reader.blocks_of(Length(1), here));
        let blocks = here.0.saturating_add(batch.len() as u64);
        let mut bytes = 0;
        for block in written.iter().chain(batch) {
            bytes += block.to_bytes()?.len() as u64;
        }
        let most = STRANGER_BLOCKS_MAX.max(self.needed(local).0);
        let is_over = blocks > most || bytes > STRANGER_BYTES_MAX;
        if is_over && !self.planted.has(Slip::RoomUnchecked) {
            return Err(ComposeError::NoRoom { blocks, bytes });
        }
        Ok(())
    }

    /// Begins the batch that acknowledges a stranger's: one block without a value. None when [`Engine::owes_ack`] is
    /// false. It belongs to the round that brought the stranger's batch.
    ///
    /// # Errors
    ///
    /// As [`Engine::append`].
    pub fn append_ack(
        &mut self,
        now: Timestamp,
        manifests: impl Fn(&CoreKey) -> Option<Bytes>,
    ) -> Result<Option<OwnBatch>, ComposeError> {
        let Some(local) = self.attestations.local().filter(|_| self.owes_ack()) else {
            return Ok(None);
        };
        let system = self.system();
        let blocks = vec![OplogBlock {
            timestamp: now.max(system.timestamp()).max(self.vouched.latest()),
            links: self.own_links(&local),
            ..OplogBlock::default()
        }];
        let batch = self.take_own(local, blocks, manifests)?;
        self.round_over = false;
        Ok(Some(batch))
    }

    /// True when the last drain brought a batch of a stranger that apply acknowledged, and the local writer, a
    /// member, has written nothing since: peers that hear of this one alone should hear of that batch too. There is
    /// at most one acknowledgement of each batch, and none of an acknowledgement. Under safe rules, where a batch of a
    /// stranger takes part only as an ancestor of a member's: when apply accepts one that nobody links yet.
    #[must_use]
    pub fn owes_ack(&self) -> bool {
        let is_writer = |local: CoreKey| self.is_writer(&local);
        !self.planted.has(Slip::AckNotBegun)
            && (self.attestations.wants_ack() || !self.vouched.is_empty())
            && self.attestations.local().is_some_and(is_writer)
    }

    /// The blocks of a batch as its log gets them, at the end of the round that applied it. The last one says where
    /// the views stand behind the batch, and carries all attestations that are due, signed for its length.
    ///
    /// A batch that could not be applied yet, because a block of the view is missing, goes without both. They are due
    /// with the next one.
    ///
    /// # Errors
    ///
    /// None that an honest clock and tree can cause: the numbers fit.
    pub fn stamp(
        &mut self,
        batch: OwnBatch,
        crypto: &impl Sign,
        secret: &SecretKey,
    ) -> Result<Vec<Bytes>, EncodeError> {
        let end = batch.end();
        self.past.own = None;
        let OwnBatch {
            mut last, mut blocks, ..
        } = batch;
        let Some(local) = self.attestations.local() else {
            return Ok(blocks);
        };
        if !self.round_over || self.dag.ready_length(&local) < end {
            self.sights.note(Point::StampMissing);
            self.note_waiting(end);
            return Ok(blocks);
        }
        last.views = Some(self.stamps(Link {
            key: local,
            length: end,
        }));
        let flushes = self.system().flushes();
        last.trusted = self.named.take().map(|head| {
            vec![TrustedHead {
                key: head.key,
                length: head.length,
                flushes,
            }]
        });
        let system = self.order.state().system.clone();
        if let Some(unwritten) = &mut self.past.unwritten {
            unwritten.attestations = Some(self.attestations.clone());
        }
        let attestations = self.attestations.take_pending(&system).map(|grant| {
            Ok(Attestation {
                key: grant.key,
                weight: grant.weight,
                signature: witness::attest(crypto, secret, &local, &grant.key, end, grant.weight)?,
            })
        });
        let attestations = attestations.collect::<Result<Vec<_>, EncodeError>>()?;
        self.sights
            .note_if(Point::AttestationWritten, !attestations.is_empty());
        last.attestations = Some(attestations).filter(|attestations| !attestations.is_empty());
        if let Some(block) = blocks.last_mut() {
            *block = last.to_bytes()?.into();
        }
        if let Some(reader) = self.readers.get_mut(&local) {
            reader.replace_last(end, last);
        }
        Ok(blocks)
    }

    /// Sets whom the next own entry calls trusted: the end of its log. A length that no log can have names nobody.
    pub fn name_trusted(&mut self, head: Option<Link>) {
        self.named = head.filter(|head| head.length.0 <= UINT_MAX);
    }

    /// Stops the engine: an own batch is in it that is not in the log of the local writer, and will not be.
    pub fn give_up(&mut self, reason: impl Into<String>) {
        self.stopped.get_or_insert(reason.into());
    }

    /// Notes where the trees stand, once for each round.
    pub(super) fn begin_round(&mut self) {
        if std::mem::take(&mut self.round_over) {
            let ReplayState {
                system,
                records,
                view,
                ..
            } = self.order.state();
            self.round = Round {
                flushes: system.flushes(),
                system: records.tree().length(),
                view: view.tree().length(),
            };
        }
    }

    /// What an append of `local` links.
    fn own_links(&self, local: &CoreKey) -> Vec<Link> {
        let most = if self.planted.has(Slip::HeadsCapped) {
            4
        } else {
            usize::MAX
        };
        let missed = usize::from(self.planted.has(Slip::OldestHeadMissed));
        let heads = self.system().links_for(local).skip(missed).take(most);
        // A stranger's batch covers the head that its writer has.
        let heads = heads.filter(|head| !self.vouched.has(&head.key));
        heads.chain(self.vouched.links()).collect()
    }

    fn compose_blocks(
        &self,
        local: CoreKey,
        values: &[Bytes],
        optimistic: bool,
        now: Timestamp,
    ) -> Result<Vec<OplogBlock>, ComposeError> {
        let is_writer = self.is_writer(&local);
        if !is_writer && !optimistic {
            return Err(ComposeError::NotWritable(local));
        }
        let system = self.system();
        if system.member(&local).is_none() && !is_writer && values.len() as u64 > MAX_OPTIMISTIC_NODES {
            return Err(ComposeError::LongOptimistic {
                blocks: values.len() as u64,
            });
        }
        let links = self.own_links(&local);
        let timestamp = if self.planted.has(Slip::ClockGoesBack) {
            now
        } else {
            now.max(system.timestamp()).max(self.vouched.latest())
        };
        Ok(compose::batch(values, links, timestamp, !is_writer))
    }

    fn take_own(
        &mut self,
        local: CoreKey,
        mut batch: Vec<OplogBlock>,
        manifests: impl Fn(&CoreKey) -> Option<Bytes>,
    ) -> Result<OwnBatch, ComposeError> {
        let length = self.readers.get(&local).map_or_else(
            || Some(self.fed_from(&local).0),
            super::reader::WriterReader::boundary,
        );
        let length = length.ok_or(ComposeError::BrokenLog(local))?;
        if let Some(first) = batch.first_mut() {
            first.witness = self.witness(&local, manifests);
            self.sights.note_if(Point::WitnessUsed, first.witness.is_some());
        }
        let blocks = batch.iter().map(|block| block.to_bytes().map(Bytes::from));
        let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
        let too_large = blocks.iter().position(|block| block.len() > OWN_BLOCK_BYTES_MAX);
        if let Some(position) = too_large {
            let bytes = blocks[position].len();
            return Err(ComposeError::TooLarge { position, bytes });
        }
        let last = batch.pop().ok_or(ComposeError::Empty)?;
        self.vouched.clear();
        self.past.own = Some((local, Index(length), blocks.clone()));
        self.past.unwritten = Some(Unwritten {
            local,
            before: Length(length),
            moves: self.past.moves(),
            attestations: None,
        });
        self.ingest(local, Index(length), &blocks);
        Ok(OwnBatch {
            first: Length(length + 1),
            last,
            blocks,
        })
    }

    /// The best attestation that raises the weight of the next own batch; none when there is none, or nothing to raise.
    fn witness(&self, local: &CoreKey, manifests: impl Fn(&CoreKey) -> Option<Bytes>) -> Option<Witness> {
        let record = self.system().record(local)?;
        let ceiling = record.max_weight.unwrap_or_default();
        let standing = witness::standing(Some(record));
        if ceiling <= standing {
            return None;
        }
        self.attestations.received().iter().find_map(|received| {
            let (backer, attestation) = (received.backer, received.attestation);
            let is_usable = (attestation.weight <= ceiling || self.planted.has(Slip::ClaimAboveCeiling))
                && self.system().is_writer(&backer.key)
                && self.system().has(&backer);
            let manifest = is_usable.then(|| manifests(&backer.key)).flatten()?;
            let witness = Witness {
                weight: attestation.weight,
                backer: Backer {
                    key: backer.key,
                    length: backer.length,
                    signature: attestation.signature,
                    manifest,
                },
            };
            // A faulty backer must not keep a good one's attestation out.
            witness::verify(&self.verify, local, &witness).then_some(witness)
        })
    }

    /// Where the views stand behind the own batch that ends at `own`.
    fn stamps(&self, own: Link) -> ViewStamps {
        let state = self.order.state();
        // What apply refused left no trace: the views are where the round found them.
        let behind = state.system.has(&own).then(|| self.own_state(own)).flatten();
        let stamp = |tree: &TreeSnapshot, head: Option<Link>, start: Length| {
            let key = tree.tree().core();
            // A tree that moved onto a core of others has no position in ours until something is written.
            let end = head
                .filter(|head| head.key == key)
                .map_or(start, |head| head.length);
            ViewStamp {
                key,
                start: start.min(end),
                length: Length(end.0.saturating_sub(start.0)),
            }
        };
        ViewStamps {
            flushes: behind.map_or(self.round.flushes, |behind| behind.system.flushes()),
            system: stamp(
                &state.records,
                behind.map(|behind| behind.records.head()),
                self.round.system,
            ),
            view: Some(stamp(
                &state.view,
                behind.map(|behind| match self.planted.has(Slip::StampOfTheEnd) {
                    true => state.view.head(),
                    false => behind.view.head(),
                }),
                self.round.view,
            )),
        }
    }

    /// The state behind the batch that ends at `own`.
    fn own_state(&self, own: Link) -> Option<&ReplayState> {
        self.order.entries_since(0).rev().find_map(|(entry, state)| {
            let batch = self.dag.batch(entry.batch);
            (batch.writer == own.key && batch.last == own.length).then_some(state)
        })
    }
}
