//! The replication of one core with all its peers: messages and time in, messages and events out.
//!
//! A *peer* is one open channel of the core on one stream. The shell hands in what arrives with
//! [`Replicator::receive`], and takes what is to be sent with [`Replicator::pull`], peer by peer and only as fast as
//! the stream takes it: answers are made and requests are chosen at that moment, so nothing piles up behind a slow
//! stream. Every bound is in [`ReplicatorSettings`].
//!
//! Two traps of the original shape what we send. A request that it cannot prove destroys its stream: so an upgrade is
//! asked for only when it was acknowledged, a block only when it was announced. And while it mistrusts us it crashes when
//! it must answer without data: so a peer that checks on us is asked nothing for a while.
//!
//! Source: spec/replication.md 6 to 8 (`hypercore/lib/replicator.js`).

mod ask;
mod check;
mod demand;
mod event;
mod fork;
mod peer;
mod receive;
mod requests;
mod scout;
mod serve;
mod time;
mod wants;
mod wishes;

use self::check::Check;
pub use self::demand::RangeId;
use self::demand::WantedBlocks;
pub use self::event::{PeerFault, PeerStatus, ReplicatorEvent};
use self::fork::{Move, Probe};
use self::peer::{Compared, Peer};
use self::requests::{InFlight, Requests};
use super::core::{LogState, OfferedLog};
use super::message::{DataMessage, Message, WANT_MAX};
use super::settings::ReplicatorSettings;
use crate::env::{Mono, Planted, Sights, Slip};
use crate::hypercore::CoreError;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

/// Names one channel of a core to a peer. Chosen by the shell, never used twice for one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// Blocks that are too large to be fetched, of so many is looked whether a peer has anything else.
const LEFT_OUT_LOOKS: usize = 64;

/// The replication of one core.
///
/// ```
/// use autobee::crypto::{Ed25519, Seed, Sign as _};
/// use autobee::env::Mono;
/// use autobee::hypercore::log::Log;
/// use autobee::replication::core::MemoryCore;
/// use autobee::replication::replicator::{PeerId, Replicator};
/// use autobee::replication::settings::ReplicatorSettings;
///
/// let mut log = Log::create(Ed25519.key_pair(&Seed::new([7; 32])));
/// log.append(&Ed25519, [b"hello".to_vec(), b"world".to_vec()])?;
/// let mut copy = MemoryCore::new(Log::replica(log.key()), Ed25519);
/// let mut source = MemoryCore::new(log, Ed25519);
///
/// let (alice, bob, now) = (PeerId(1), PeerId(2), Mono(0));
/// let mut at_alice = Replicator::new(&source, ReplicatorSettings::default())?;
/// let mut at_bob = Replicator::new(&copy, ReplicatorSettings::default())?;
/// at_bob.download(0, None, &copy)?;
/// at_alice.open(bob, true, &source)?;
/// at_bob.open(alice, true, &copy)?;
/// loop {
///     let mut silent = true;
///     while let Some(message) = at_alice.pull(bob, &source, now)? {
///         at_bob.receive(alice, message, &mut copy, now)?;
///         silent = false;
///     }
///     while let Some(message) = at_bob.pull(alice, &copy, now)? {
///         at_alice.receive(bob, message, &mut source, now)?;
///         silent = false;
///     }
///     if silent {
///         break;
///     }
/// }
/// assert_eq!(copy.log.contiguous_length(), source.log.length());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Replicator {
    settings: ReplicatorSettings,
    peers: BTreeMap<PeerId, Peer>,
    requests: Requests,
    demand: WantedBlocks,
    /// The requests for an upgrade that are under way.
    upgrades: Vec<u64>,
    /// The request for the manifest alone that is under way.
    manifest: Option<u64>,
    moving: Option<Move>,
    /// Forks that peers were asked to prove.
    probes: BTreeMap<PeerId, Probe>,
    downloading: bool,
    /// Both sides of a contradiction that was found, by this replicator or one before.
    evidence: Vec<DataMessage>,
    /// The core as it was last seen.
    known: LogState,
    events: VecDeque<ReplicatorEvent>,
    /// Peers that were asked to prove themselves.
    checks: BTreeMap<PeerId, Check>,
    /// Peers for which [`Replicator::pull`] may give something that it did not give before.
    ready: BTreeSet<PeerId>,
    /// No peer rests after that.
    rests_until: Mono,
    /// Something began that time ends, since [`Replicator::take_deadline`].
    has_deadline: bool,
    planted: Planted,
    sights: Sights,
}

impl Replicator {
    /// The replication of a core that has no peers yet. It says that it is downloading, which keeps channels open.
    ///
    /// # Errors
    ///
    /// When the core is closed.
    pub fn new(core: &impl OfferedLog, settings: ReplicatorSettings) -> Result<Self, CoreError> {
        let mut replicator = Self {
            settings,
            peers: BTreeMap::new(),
            requests: Requests::default(),
            demand: WantedBlocks::default(),
            upgrades: Vec::new(),
            manifest: None,
            moving: None,
            probes: BTreeMap::new(),
            downloading: true,
            evidence: Vec::new(),
            known: core.state()?,
            events: VecDeque::new(),
            checks: BTreeMap::new(),
            ready: BTreeSet::new(),
            rests_until: Mono(0),
            has_deadline: false,
            planted: Planted::default(),
            sights: Sights::default(),
        };
        replicator.recall_contradiction(core)?;
        Ok(replicator)
    }

    /// How many peers are remembered, by whoever remembers most.
    pub(crate) fn peers_kept(&self) -> usize {
        let kept = [
            self.peers.len(),
            self.probes.len(),
            self.checks.len(),
            self.ready.len(),
        ];
        kept.into_iter().max().unwrap_or_default()
    }

    /// Has it make slips.
    pub(crate) const fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    // What is going on.

    /// What a peer says of itself, and how it does.
    #[must_use]
    pub fn status(&self, peer: PeerId) -> Option<PeerStatus> {
        let peer = self.peers.get(&peer)?;
        Some(PeerStatus {
            fork: peer.sync.fork,
            length: peer.sync.length,
            contiguous: peer.have.contiguous().min(peer.sync.length),
            downloading: peer.sync.downloading,
            in_flight: peer.in_flight,
            unanswered: peer.requests_due.len() + peer.wants_due.len(),
            paused: peer.paused,
            service: peer.speed.service,
        })
    }

    /// True when the peer said where its core stands, and has nothing that is to be here and is not. What is fetched up to a
    /// block, or no larger than so many bytes, is no more than that.
    ///
    /// # Errors
    ///
    /// When the store failed.
    pub fn is_synced(&mut self, peer: PeerId, core: &impl OfferedLog) -> Result<bool, CoreError> {
        let is_synced = self.has_all_of(peer, core)?;
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.is_behind = !is_synced;
        }
        Ok(is_synced)
    }

    /// True when this peer has as much of the core as is here, and nothing more.
    pub(crate) fn has_as_much(&self, peer: PeerId, core: &impl OfferedLog) -> Result<bool, CoreError> {
        let sync = self.peers.get(&peer).map(|peer| peer.sync.length);
        Ok(sync >= Some(self.known.length) && self.has_all_of(peer, core)?)
    }

    /// True when this peer has nothing of the core that is to be here and is not.
    pub(crate) fn has_all_of(&self, peer: PeerId, core: &impl OfferedLog) -> Result<bool, CoreError> {
        let Some(peer) = self.peers.get(&peer).filter(|peer| peer.synced) else {
            return Ok(false);
        };
        let LogState {
            fork,
            length,
            contiguous,
            ..
        } = self.known;
        if peer.sync.fork != fork {
            return Ok(peer.sync.fork < fork);
        }
        if peer.sync.length > length {
            return Ok(false);
        }
        let end = self.demand.end().unwrap_or(length).min(length);
        let mut from = contiguous;
        for _ in 0..LEFT_OUT_LOOKS {
            let Some(offered) = peer.have.next(from..end) else {
                return Ok(true);
            };
            let missing = core.first_missing(offered..end)?;
            if missing >= end {
                return Ok(true);
            }
            if peer.have.contains(missing) && !self.is_left_out(missing, core)? {
                return Ok(false);
            }
            from = missing + 1;
        }
        Ok(false)
    }

    /// The open channels.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.peers.keys().copied()
    }

    /// The largest contiguous length that a peer of our fork has announced.
    #[must_use]
    pub fn remote_contiguous_length(&self) -> u64 {
        let of_fork = self
            .peers
            .values()
            .filter(|peer| peer.sync.fork == self.known.fork);
        of_fork.map(|peer| peer.have.contiguous()).max().unwrap_or(0)
    }

    /// Number of leading blocks that are here.
    #[must_use]
    pub const fn contiguous_length(&self) -> u64 {
        self.known.contiguous
    }

    /// Requests that wait for an answer, of all peers.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// True when something is wanted.
    #[must_use]
    pub fn has_demand(&self) -> bool {
        !self.demand.is_empty()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ReplicatorEvent> {
        self.events.pop_front()
    }

    /// The points that it passed since the last call; see [`Sights`].
    pub const fn take_sights(&mut self) -> Sights {
        self.sights.take()
    }

    // Peers.

    /// A channel is open on both sides, and the capability of the peer was right.
    ///
    /// # Errors
    ///
    /// When the store failed.
    pub fn open(&mut self, id: PeerId, seeks: bool, core: &impl OfferedLog) -> Result<(), CoreError> {
        self.refresh(core)?;
        let mut peer = Peer::new(seeks, &self.settings);
        peer.evidence_due = !self.evidence.is_empty();
        self.peers.insert(id, peer);
        self.ready.insert(id);
        Ok(())
    }

    /// A channel is closed, whoever did it. What was asked there is asked elsewhere. True when we should open it again at
    /// once: the peer closed only because it has no use for it itself.
    pub fn close(&mut self, id: PeerId) -> bool {
        let Some(peer) = self.peers.remove(&id) else {
            return false;
        };
        self.ready.remove(&id);
        self.checks.remove(&id);
        if !self.planted.has(Slip::ClosedKeepsRequests) {
            for request in self.requests.close(id) {
                self.give_back(&request);
            }
        }
        if self.peers.len() == 1 || !self.demand.blocks.is_empty() {
            // The last one is given as much as it takes, and what was kept for a faster one is anybody's.
            self.all_ready();
        }
        peer.synced && !peer.sync.downloading && peer.sync.uploading && !peer.paused && self.downloading
    }

    // Changes of the core that did not come from a peer.

    /// The core became longer, or its manifest known: by us, or by another part of the program.
    ///
    /// # Errors
    ///
    /// When the store failed.
    pub fn changed(&mut self, core: &impl OfferedLog) -> Result<(), CoreError> {
        self.refresh(core)
    }

    /// The core was cut to `length` blocks and has another fork now. It may have grown again since.
    ///
    /// # Errors
    ///
    /// When the store failed.
    pub fn truncated(&mut self, length: u64, core: &impl OfferedLog) -> Result<(), CoreError> {
        self.rewound(core, length)
    }

    /// Blocks were stored that did not come from a peer.
    ///
    /// # Errors
    ///
    /// When the store failed.
    pub fn filled(&mut self, blocks: Range<u64>, core: &impl OfferedLog) -> Result<(), CoreError> {
        self.refresh(core)?;
        self.tell_of(blocks, core)
    }

    /// Blocks were dropped from the store. The length is as before.
    ///
    /// # Errors
    ///
    /// When the store failed.
    pub fn cleared(&mut self, blocks: Range<u64>, core: &impl OfferedLog) -> Result<(), CoreError> {
        self.refresh(core)?;
        self.demand.rewind(blocks.start);
        for peer in self.peers.values_mut() {
            peer.look_from(blocks.start);
            peer.withdraw(blocks.clone(), self.settings.announcements);
        }
        self.all_ready();
        Ok(())
    }

    /// Blocks may have been dropped here, nobody knows which: peers hear where the leading ones end.
    ///
    /// # Errors
    ///
    /// As [`Replicator::cleared`].
    pub fn cleared_somewhere(&mut self, core: &impl OfferedLog) -> Result<(), CoreError> {
        let LogState {
            length, contiguous, ..
        } = core.state()?;
        if contiguous < length {
            return self.cleared(contiguous..contiguous + 1, core);
        }
        Ok(())
    }

    // What is to be sent.

    /// The peers for which [`Replicator::pull`] may give something that it did not give when it last gave nothing: because
    /// of what happened since, to them or to others. What only the passing of time brings is not among it; see
    /// [`Replicator::tick`].
    pub fn take_ready(&mut self) -> BTreeSet<PeerId> {
        std::mem::take(&mut self.ready)
    }

    /// The next message to a peer. None: nothing until something else happens.
    ///
    /// # Errors
    ///
    /// When the store failed.
    pub fn pull(
        &mut self,
        id: PeerId,
        core: &impl OfferedLog,
        now: Mono,
    ) -> Result<Option<Message>, CoreError> {
        self.refresh(core)?;
        let message = self.next_message(id, core, now)?;
        if message.is_none() {
            self.ready.remove(&id);
        }
        Ok(message)
    }

    fn next_message(
        &mut self,
        id: PeerId,
        core: &impl OfferedLog,
        now: Mono,
    ) -> Result<Option<Message>, CoreError> {
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(None);
        };
        if !peer.paused
            && let Some(range) = peer.take_announcement()
        {
            return Ok(Some(Message::Range(range)));
        }
        if peer.sync_due {
            peer.sync_due = false;
            return self.our_sync(id, core).map(|sync| sync.map(Message::Sync));
        }
        if peer.evidence_due {
            self.show_evidence(id);
        }
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(None);
        };
        if peer.contiguous_due {
            peer.contiguous_due = false;
            if self.known.contiguous > 0 && !peer.paused {
                return Ok(Some(serve::contiguous_range(self.known.contiguous)));
            }
        }
        if let Some(message) = peer.outbox.pop_front() {
            return Ok(Some(message));
        }
        if let Some(message) = self.next_ask(id, core, now)? {
            return Ok(Some(message));
        }
        self.next_answer(id, core)
    }

    // Bookkeeping.

    /// Notices what changed in the core since the last call.
    fn refresh(&mut self, core: &impl OfferedLog) -> Result<(), CoreError> {
        let (before, state) = (self.known, core.state()?);
        if state == before {
            return Ok(());
        }
        if state.fork != before.fork || state.length < before.length {
            return self.rewound(core, 0);
        }
        self.known = state;
        if before.is_rewriting && !state.is_rewriting {
            self.all_ready();
        }
        if state.length == before.length && state.knows_manifest == before.knows_manifest {
            return Ok(());
        }
        for peer in self.peers.values_mut() {
            peer.sync_due = true;
        }
        self.all_ready();
        if state.length > before.length {
            self.cancel_late_upgrades();
        }
        // Blocks that are here already: those of an append, not of an upgrade.
        let end = core.first_missing(before.length..state.length)?;
        if end > before.length {
            self.tell_of(before.length..end, core)?;
        }
        Ok(())
    }

    /// The blocks are here now: tells the peers, and ends what waited for them.
    fn tell_of(&mut self, blocks: Range<u64>, core: &impl OfferedLog) -> Result<(), CoreError> {
        self.known = core.state()?;
        let LogState {
            length, contiguous, ..
        } = self.known;
        for (id, peer) in &mut self.peers {
            if peer.sync.length < length {
                // It may be able to prove more.
                self.ready.insert(*id);
            }
            // With the nodes that came along, what the peer was denied may be provable.
            if peer.lacks_roots
                && !self.planted.has(Slip::RootsUntold)
                && blocks.start < peer.sync.length
                && core.has_roots(peer.sync.length)?
            {
                peer.lacks_roots = false;
                peer.sync_due = true;
                self.ready.insert(*id);
            }
            let near_end = blocks.start.saturating_add(256) >= length;
            if contiguous == length {
                peer.added.clear();
                peer.contiguous_due = true;
                self.ready.insert(*id);
            } else if near_end || peer.wants.touches(blocks.clone()) {
                let is_known = peer.have.contiguous() >= blocks.end
                    || (blocks.end - blocks.start == 1 && peer.have.contains(blocks.start));
                if !is_known {
                    peer.announce(blocks.clone(), self.settings.announcements);
                    self.ready.insert(*id);
                }
            }
        }
        self.demand.fill(blocks.clone());
        let mut done = Vec::new();
        let mut is_elsewhere = false;
        for (id, range) in &mut self.demand.ranges {
            let end = range.end.unwrap_or(u64::MAX);
            if blocks.contains(&range.cursor) {
                let before = range.cursor;
                range.cursor = core.first_missing(before..end.min(length).max(before))?;
                // Other announcements may be asked for.
                is_elsewhere |= range.cursor / WANT_MAX > before / WANT_MAX;
            }
            if range.cursor >= end {
                done.push(*id);
            }
        }
        if is_elsewhere {
            self.all_ready();
        }
        for id in done {
            self.demand.done(id);
            self.forget_range(id);
            self.events.push_back(ReplicatorEvent::RangeDone(id));
        }
        Ok(())
    }

    /// Pulling for any peer may give something.
    fn all_ready(&mut self) {
        self.ready.extend(self.peers.keys());
    }

    fn drop_range(&mut self, id: RangeId) {
        self.demand.ranges.remove(&id);
        for peer in self.peers.values_mut() {
            peer.hints.remove(&id);
        }
    }

    /// Gives a request up, tells the peer, and lets others do it.
    fn cancel(&mut self, id: u64) {
        let cancelled = if self.planted.has(Slip::NumberReused) {
            self.requests.cancel_at_once(id)
        } else {
            self.requests.cancel(id)
        };
        let Some(request) = cancelled else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&request.peer) {
            peer.in_flight = peer.in_flight.saturating_sub(1);
            if peer.compared == Compared::Asked(id) {
                peer.compared = Compared::Due;
            }
            peer.outbox.push_back(Message::Cancel { request: id });
            self.ready.insert(request.peer);
        }
        self.give_back(&request);
    }

    /// Somebody else is to do what the request was for.
    fn give_back(&mut self, request: &InFlight) {
        let id = request.message.id;
        if !self.planted.has(Slip::LostUpgradeCounts) {
            self.upgrades.retain(|upgrade| *upgrade != id);
        }
        self.probes.retain(|_, probe| probe.request != id);
        if self.manifest == Some(id) {
            self.manifest = None;
        }
        if let Some(moving) = &mut self.moving
            && moving.request == Some(id)
            && !self.planted.has(Slip::MoveOutlives)
        {
            // Without an answer the move begins anew, perhaps with another peer.
            self.moving = None;
        }
        if let Some(block) = request.message.request.block
            && !self.planted.has(Slip::GivenUpForgotten)
            && self
                .demand
                .ranges
                .values()
                .any(|range| range.contains(block.index))
        {
            self.demand.again.insert(block.index);
        }
        if self.planted.has(Slip::GivenBackUnwoken) {
            return;
        }
        self.all_ready();
        if !self.planted.has(Slip::SizeForgotten) {
            self.look_again(request);
        }
    }

    /// A request for the size of a block is over: blocks of a range may be asked for from there on.
    fn look_again(&mut self, request: &InFlight) {
        let Some(hash) = request.message.request.hash else {
            return;
        };
        let index = hash.index / 2;
        if self.demand.block_bytes_max(index).is_some() {
            for peer in self.peers.values_mut() {
                peer.look_from(index);
            }
            self.all_ready();
        }
    }

    /// Answers to these would contradict the length that is known by now.
    fn cancel_late_upgrades(&mut self) {
        let length = self.known.length;
        let late = |id: &u64| {
            let upgrade = self.requests.get(*id)?.message.request.upgrade;
            upgrade.filter(|upgrade| upgrade.start != length)
        };
        let late: Vec<u64> = self
            .upgrades
            .iter()
            .copied()
            .filter(|id| late(id).is_some())
            .collect();
        for id in late {
            self.cancel(id);
        }
    }

    /// Tells of a change of a peer, once for many in a row.
    fn notice_remote(&mut self, id: PeerId) {
        if !matches!(self.events.back(), Some(ReplicatorEvent::Remote(last)) if *last == id) {
            self.events.push_back(ReplicatorEvent::Remote(id));
        }
    }

    fn cancel_unwanted(&mut self) {
        let unwanted: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, request)| {
                let asked = request.message.request;
                let block = asked.block.filter(|_| asked.upgrade.is_none());
                block.is_some_and(|block| !self.demand.wants(block.index))
            })
            .map(|(id, _)| id)
            .collect();
        for id in unwanted {
            self.cancel(id);
        }
        let demand = &mut self.demand;
        if demand.ranges.is_empty() {
            demand.again.clear();
        }
    }

    fn close_idle(&mut self) {
        if self.downloading {
            return;
        }
        for (id, peer) in &self.peers {
            if peer.synced && !peer.sync.downloading {
                let close = ReplicatorEvent::Close {
                    peer: *id,
                    fault: None,
                };
                self.events.push_back(close);
            }
        }
    }

    fn pause(&mut self, id: PeerId, fault: PeerFault) {
        if self.peers.get(&id).is_some_and(|peer| !peer.paused) {
            self.ask_nothing_more(id);
            self.tell_paused(id, fault);
        }
    }

    fn ask_nothing_more(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.paused = true;
            peer.wants_due.clear();
        }
        for request in self.requests.of_peer(id) {
            self.cancel(request);
        }
    }

    fn tell_paused(&mut self, id: PeerId, fault: PeerFault) {
        self.events.push_back(ReplicatorEvent::Paused { peer: id, fault });
    }

    /// The peer is hostile: its channel is to be closed.
    fn blame(&mut self, id: PeerId, fault: PeerFault) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.paused = true;
            peer.requests_due.clear();
            peer.wants_due.clear();
            let close = ReplicatorEvent::Close {
                peer: id,
                fault: Some(fault),
            };
            self.events.push_back(close);
        }
    }
}

#[cfg(test)]
mod tests;
