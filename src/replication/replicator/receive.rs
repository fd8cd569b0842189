//! What peers send us.
//!
//! Source: spec/replication.md 6.3, 6.7 and 6.9.

use super::peer::Compared;
use super::requests::InFlight;
use super::{PeerFault, PeerId, Replicator, ReplicatorEvent, ask, fork};
use crate::env::{Mono, Point, Slip};
use crate::hypercore::CoreError;
use crate::hypercore::merkle::Seek;
use crate::hypercore::proof::Proof;
use crate::replication::core::{OfferedLog, ProofOutcome, ReplicatedLog};
use crate::replication::message::{
    DataMessage, Message, NoData, RangeMessage, RequestMessage, Sync, WANT_MAX, Want,
};

impl Replicator {
    /// A message came from a peer. What follows from it shows in [`Replicator::poll_event`] and [`Replicator::pull`],
    /// of this and of other peers.
    ///
    /// # Errors
    ///
    /// When the store failed. The peer's faults are events.
    pub fn receive(
        &mut self,
        id: PeerId,
        message: Message,
        core: &mut impl ReplicatedLog,
        now: Mono,
    ) -> Result<(), CoreError> {
        self.refresh(core)?;
        if !self.peers.contains_key(&id) {
            return Ok(());
        }
        self.heard(id, now);
        match message {
            Message::Sync(sync) => self.receive_sync(id, sync),
            Message::Request(request) => self.receive_request(id, request, now),
            Message::Cancel { request } => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.requests_due.retain(|due| due.id != request);
                }
            }
            Message::Data(data) => {
                let fitting = self.take_data(id, *data, core, now)?;
                self.accept(id, fitting.into_iter().collect(), core, now)?;
            }
            Message::NoData(none) => self.receive_no_data(id, none, now),
            Message::Want(want) => self.receive_want(id, want),
            Message::Unwant(want) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.wants.remove(want);
                }
            }
            Message::Bitfield(bitfield) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.have.write(&bitfield);
                    peer.look_from(bitfield.start);
                }
                self.notice_remote(id);
            }
            Message::Range(range) => self.receive_range(id, range, now),
            // None is registered: the original's own users send none either.
            Message::Extension(_) => {}
        }
        Ok(())
    }

    /// As [`Replicator::receive`], for data that came one after the other: blocks that need nothing of each other are
    /// stored in one step.
    ///
    /// # Errors
    ///
    /// As [`Replicator::receive`].
    pub fn receive_data(
        &mut self,
        id: PeerId,
        data: Vec<DataMessage>,
        core: &mut impl ReplicatedLog,
        now: Mono,
    ) -> Result<(), CoreError> {
        let mut fitting = Vec::new();
        for data in data {
            // A node may be one that a move to another fork waits for.
            let is_plain = is_plain(&data) && (data.proof.block.is_some() || self.moving.is_none());
            if !is_plain {
                self.accept(id, std::mem::take(&mut fitting), core, now)?;
                self.receive(id, Message::Data(Box::new(data)), core, now)?;
                continue;
            }
            if fitting.is_empty() {
                self.refresh(core)?;
            }
            if self.peers.contains_key(&id) {
                self.heard(id, now);
                fitting.extend(self.take_data(id, data, core, now)?);
            }
        }
        self.accept(id, fitting, core, now)
    }

    /// A peer sent something: it may be asked for more, and others for what it takes too long with.
    fn heard(&mut self, id: PeerId, now: Mono) {
        self.ready.insert(id);
        if !self.demand.blocks.is_empty() {
            // Who is likely to be the fastest for them may be another one by now.
            self.all_ready();
            return;
        }
        let oldest = self.requests.oldest();
        let Some(slow) = oldest.filter(|request| now.since(request.sent) > ask::SLOW) else {
            return;
        };
        if let Some(block) = slow.message.request.block
            && self.peers.len() > 1
        {
            let fork = self.known.fork;
            let idle = self.peers.iter().filter(|(_, peer)| peer.in_flight == 0);
            let others = idle.filter(|(_, peer)| peer.offers(block.index, fork));
            self.ready.extend(others.map(|(id, _)| *id));
        }
    }

    fn receive_sync(&mut self, id: PeerId, sync: Sync) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let (fork, length) = (self.known.fork, self.known.length);
        let answers = !self.planted.has(Slip::BehindUnacknowledged);
        if sync.fork != peer.sync.fork || sync.length != peer.sync.length {
            peer.hints.clear();
        }
        peer.sync = sync;
        peer.synced = true;
        // It is behind: only a sync that repeats its length lets it ask for the upgrade. No answer to an equal or longer
        // side, or two of us would talk for ever.
        peer.sync_due |= answers && sync.fork == fork && sync.length < length;
        self.notice_remote(id);
        if !self.downloading && !sync.downloading {
            self.events.push_back(ReplicatorEvent::Close {
                peer: id,
                fault: None,
            });
        }
    }

    fn receive_request(&mut self, id: PeerId, request: RequestMessage, now: Mono) {
        let limit = self.settings.requests_queued;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.requests_due.retain(|due| due.id != request.id);
        if peer.requests_due.len() >= limit {
            self.blame(id, PeerFault::Flood { limit });
            return;
        }
        if request.id == 0 {
            // It mistrusts us. Until it has seen the answer it leaves our requests without one, or worse.
            peer.resting_until = peer.resting_until.max(now + self.settings.answer_timeout);
            self.rests_until = self.rests_until.max(peer.resting_until);
            self.has_deadline = true;
        }
        // Urgent ones first, otherwise in order of arrival.
        let place = match request.priority {
            0 => peer.requests_due.len(),
            priority => peer
                .requests_due
                .iter()
                .position(|due| due.priority < priority)
                .unwrap_or(peer.requests_due.len()),
        };
        peer.requests_due.insert(place, request);
    }

    fn receive_want(&mut self, id: PeerId, want: Want) {
        let limit = self.settings.wants_queued;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        peer.wants.insert(want);
        if peer.paused || (want.length > WANT_MAX && !want.any) {
            return;
        }
        if peer.wants_due.len() >= limit {
            self.blame(id, PeerFault::Flood { limit });
            return;
        }
        peer.wants_due.push_back(want);
    }

    fn receive_range(&mut self, id: PeerId, range: RangeMessage, now: Mono) {
        let burst = self.settings.announced_work;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let mut blocks = range.start..range.start.saturating_add(range.length);
        if self.planted.has(Slip::RangeOfOne) {
            blocks.end = blocks.end.min(range.start.saturating_add(1));
        }
        if !peer
            .allowance
            .take(peer.have.cost(&blocks, range.drop), burst, now)
        {
            self.blame(id, PeerFault::Announcements { pages: burst });
            return;
        }
        if range.drop {
            peer.have.clear(blocks);
        } else {
            if !self.planted.has(Slip::HintKept) {
                peer.look_from(range.start);
            }
            peer.have.set(blocks);
        }
        self.notice_remote(id);
    }

    fn receive_no_data(&mut self, id: PeerId, none: NoData, now: Mono) {
        if none.request == 0 {
            self.end_check(id);
        }
        let Some(request) = self.requests.answered(id, none.request) else {
            return;
        };
        let is_probe = self
            .probes
            .get(&id)
            .is_some_and(|probe| probe.request == none.request);
        let limit = self.settings.no_data;
        let mut count = 0;
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.in_flight = peer.in_flight.saturating_sub(1);
            peer.speed.last_answer = now;
            if is_probe {
                // A fork that it cannot prove now is not asked about again at once.
                peer.resting_until = peer.resting_until.max(now + fork::PROBE_REST);
                self.rests_until = self.rests_until.max(peer.resting_until);
                self.has_deadline = true;
            }
            if peer.compared == Compared::Asked(none.request) {
                // Its number is another request's from now on.
                peer.compared = Compared::Done;
            }
            // It may have said meanwhile that it has it no longer: then nothing is wrong.
            let asked = request.message;
            let claims = peer.claims(&asked);
            if claims {
                let counter = &mut peer.no_data[usize::from(none.reason == NoData::INVALID_REQUEST)];
                *counter += 1;
                count = *counter;
            }
            if asked.manifest {
                peer.sync.has_manifest = false;
            }
            // What it does not give it does not have, until it says so again. About a fork that it has left it says
            // nothing, and it has announced the blocks of the new one before.
            if asked.fork == peer.sync.fork {
                let is_refused = claims || self.planted.has(Slip::DropEndsUpgrades);
                if asked.request.upgrade.is_some() && is_refused {
                    peer.sync.can_upgrade = false;
                } else if let Some(block) = asked.request.block {
                    let end = match self.planted.has(Slip::DeniedTail) {
                        true => peer.sync.length,
                        false => block.index.saturating_add(1),
                    };
                    peer.have.clear(block.index..end);
                }
                if let Some(hash) = asked.request.hash {
                    let index = hash.index / 2;
                    peer.have.clear(index..index.saturating_add(1));
                }
            }
        }
        if !self.planted.has(Slip::NoDataForgotten) {
            self.give_back(&request);
        }
        if count >= limit {
            self.pause(id, PeerFault::NoData { count });
        }
    }

    /// Finds the request that data answers, and whether it fits. What is left to do with it is to store it.
    fn take_data(
        &mut self,
        id: PeerId,
        data: DataMessage,
        core: &mut impl ReplicatedLog,
        now: Mono,
    ) -> Result<Option<Fitting>, CoreError> {
        if data.request == 0 {
            self.receive_check(id, &data.proof, core)?;
            return Ok(None);
        }
        // An answer to nothing: cancelled, or a push.
        let Some(request) = self.requests.answered(id, data.request) else {
            return Ok(None);
        };
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.in_flight = peer.in_flight.saturating_sub(1);
            peer.speed.answered(request.sent, now);
            if !self.planted.has(Slip::SilenceUnforgiven) {
                peer.rests = 0;
            }
        }
        let is_probe = self
            .probes
            .get(&id)
            .is_some_and(|probe| probe.request == data.request);
        if is_probe {
            self.probes.remove(&id);
            self.all_ready();
        }
        let is_move = self
            .moving
            .as_ref()
            .is_some_and(|moving| moving.request == Some(data.request));
        if !fits(&request.message, &data.proof) {
            if let Some(peer) = self.peers.get_mut(&id)
                && peer.compared == Compared::Asked(data.request)
            {
                // The number is another request's from now on.
                peer.compared = Compared::Due;
            }
            self.give_back(&request);
            self.count_misfit(id, &request.message, &data.proof, now);
            return Ok(None);
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.no_data = [0; 2];
        }
        if self
            .peers
            .get(&id)
            .is_some_and(|peer| peer.compared == Compared::Asked(data.request))
        {
            self.receive_comparison(id, &data.proof, core)?;
            return Ok(None);
        }
        if is_probe {
            self.start_move(id, &data.proof, core, now)?;
            return Ok(None);
        }
        if is_move {
            self.advance_move(id, &data.proof, core, now)?;
            return Ok(None);
        }
        let asked = request.message.request;
        if asked.upgrade.is_some() || asked.seek.is_some() || request.message.manifest {
            // Others may be asked for the same from now on.
            self.all_ready();
        }
        self.upgrades.retain(|upgrade| *upgrade != data.request);
        if self.manifest == Some(data.request) {
            self.manifest = None;
            if data.proof.manifest.is_none()
                && let Some(peer) = self.peers.get_mut(&id)
            {
                peer.sync.has_manifest = false;
            }
        }
        let block = data
            .proof
            .block
            .as_ref()
            .map(|block| (block.index, block.value.len()));
        let is_new = match block {
            Some((index, _)) => !core.has(index)?,
            None => false,
        };
        Ok(Some(Fitting {
            request,
            proof: data.proof,
            block,
            is_new,
        }))
    }

    /// Stores what fits.
    fn accept(
        &mut self,
        id: PeerId,
        fitting: Vec<Fitting>,
        core: &mut impl ReplicatedLog,
        now: Mono,
    ) -> Result<(), CoreError> {
        let proofs: Vec<&Proof> = fitting.iter().map(|fitting| &fitting.proof).collect();
        let outcomes = core.accept(&proofs)?;
        for (fitting, outcome) in fitting.into_iter().zip(outcomes) {
            match outcome {
                ProofOutcome::Done(()) => {
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.void = 0;
                    }
                    if let Some((index, _)) = fitting.block {
                        self.demand.fill(index..index.saturating_add(1));
                    } else {
                        // Shorter copies can prove more with the nodes that came.
                        self.all_ready();
                    }
                    self.stored(id, fitting.block.filter(|_| fitting.is_new), core)?;
                    self.look_again(&fitting.request);
                }
                ProofOutcome::Stale => self.give_back(&fitting.request),
                ProofOutcome::Refused(error) => {
                    self.give_back(&fitting.request);
                    self.suspect(id, error, now);
                }
            }
        }
        if self.requests.len() == 0 {
            // Everything may be here by now, and peers are asked for nothing more that say so.
            let behind = self.peers.iter().filter(|(_, peer)| peer.is_behind);
            self.ready.extend(behind.map(|(id, _)| *id));
        }
        Ok(())
    }

    fn count_misfit(&mut self, id: PeerId, asked: &RequestMessage, proof: &Proof, now: Mono) {
        let limit = self.settings.misfits;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        // A source that has moved on, or dropped the block meanwhile, answers with its manifest alone. The sync with the
        // new fork is on its way.
        let is_manifest = asked.manifest && proof.manifest.is_some();
        let claims = peer.claims(asked);
        // Who has said that it dropped the block, or where it went, goes on proving lengths.
        let is_refused = claims || self.planted.has(Slip::DropEndsUpgrades);
        if is_refused && (proof.fork != asked.fork || is_manifest) {
            peer.sync.can_upgrade = false;
        }
        let is_void = is_manifest && (proof.fork > asked.fork || !claims);
        let is_void = is_void && !self.planted.has(Slip::VoidBlamed);
        self.sights.note(match is_void {
            true => Point::AnswerVoid,
            false => Point::AnswerMisfit,
        });
        peer.misfits += u32::from(!is_void);
        peer.void += u32::from(is_void);
        if peer.void > limit {
            // It need not move on as often as it says so: others are asked meanwhile.
            peer.resting_until = peer.resting_until.max(now + fork::PROBE_REST);
            self.rests_until = self.rests_until.max(peer.resting_until);
            self.has_deadline = true;
        }
        if let Some(block) = asked.request.block
            && asked.fork == peer.sync.fork
        {
            peer.have.clear(block.index..block.index.saturating_add(1));
        }
        if peer.misfits >= limit {
            let count = peer.misfits;
            self.pause(id, PeerFault::Misfit { count });
        }
    }

    /// A proof of the peer was stored, with this block of so many bytes.
    fn stored(
        &mut self,
        id: PeerId,
        block: Option<(u64, usize)>,
        core: &impl OfferedLog,
    ) -> Result<(), CoreError> {
        let before = self.known;
        self.refresh(core)?;
        if self.known.knows_manifest && !before.knows_manifest {
            self.events.push_back(ReplicatorEvent::Manifest);
        }
        if self.known.fork == before.fork && self.known.length > before.length {
            self.events.push_back(ReplicatorEvent::Upgraded {
                from: before.length,
                to: self.known.length,
            });
        }
        if let Some((index, bytes)) = block {
            self.cancel_duplicates(index);
            self.events.push_back(ReplicatorEvent::Block {
                index,
                peer: id,
                bytes,
            });
            if !self.planted.has(Slip::DownloadedUntold) {
                self.tell_of(index..index.saturating_add(1), core)?;
            }
        }
        if !self.demand.seeks.is_empty() {
            self.resolve_seeks(core)?;
        }
        Ok(())
    }

    /// Others were asked for the block too.
    fn cancel_duplicates(&mut self, index: u64) {
        let others: Vec<u64> = self.requests.of_block(index).collect();
        self.sights.note_if(Point::TakenFromOther, !others.is_empty());
        for id in others {
            let upgrades = self
                .requests
                .get(id)
                .is_some_and(|request| request.message.request.upgrade.is_some());
            if !upgrades {
                self.cancel(id);
                self.demand.again.remove(&index);
            }
        }
    }

    /// Answers the seeks that can be answered.
    pub(super) fn resolve_seeks(&mut self, core: &impl OfferedLog) -> Result<(), CoreError> {
        let mut resolved = Vec::new();
        for (bytes, padding) in self.demand.seeks.keys() {
            match core.seek(*bytes, *padding)? {
                Seek::Unresolved { .. } => {}
                Seek::Past if self.known.length == 0 => {}
                Seek::Past => resolved.push((*bytes, *padding, None)),
                Seek::Found { block, offset } => resolved.push((*bytes, *padding, Some((block, offset)))),
            }
        }
        for (bytes, padding, found) in resolved {
            self.demand.seeks.remove(&(bytes, padding));
            self.events.push_back(ReplicatorEvent::Sought {
                bytes,
                padding,
                found,
            });
        }
        Ok(())
    }
}

/// Data that answers a request of ours, not verified yet.
struct Fitting {
    request: InFlight,
    proof: Proof,
    /// The block, and its bytes.
    block: Option<(u64, usize)>,
    /// It was not here before.
    is_new: bool,
}

/// True for blocks and nodes of a log whose length is known: they can be verified whatever else comes with them.
const fn is_plain(data: &DataMessage) -> bool {
    let proof = &data.proof;
    let is_one = proof.block.is_some() || (proof.hash.is_some() && proof.seek.is_none());
    data.request != 0 && is_one && proof.upgrade.is_none() && proof.manifest.is_none()
}

/// True when the proof has what was asked for, and nothing else but perhaps the manifest.
fn fits(asked: &RequestMessage, proof: &Proof) -> bool {
    let request = &asked.request;
    let block = match (&request.block, &proof.block) {
        (Some(asked), Some(given)) => asked.index == given.index,
        (None, None) => true,
        _ => false,
    };
    // A hash is not looked at when a block is asked for too; we never ask for both.
    let hash = match (&request.hash, &proof.hash) {
        (Some(asked), Some(given)) => asked.index == given.index,
        (None, None) => true,
        _ => false,
    };
    let seek = match (&request.seek, &proof.seek) {
        (Some(asked), Some(given)) => asked.bytes == given.bytes,
        // The node that was sought may lie on the way of the hash.
        (_, None) => true,
        (None, Some(_)) => false,
    };
    let upgrade = match (&request.upgrade, &proof.upgrade) {
        (Some(_), Some(_)) | (None, None) => true,
        // An empty core has nothing to upgrade to.
        (Some(_), None) | (None, Some(_)) => false,
    };
    proof.fork == asked.fork && block && hash && seek && upgrade
}
