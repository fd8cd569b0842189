//! What we ask of a peer next.
//!
//! In this order: a move to a higher fork, a longer length, the manifest, blocks that somebody waits for, byte offsets,
//! ranges; then announcements of blocks that nobody offers; and when a peer has nothing left to do, blocks that a slower
//! one has been asked for.
//!
//! Source: spec/replication.md 6.4 to 6.7. Fast peers come back for more work sooner, so work goes to them without any
//! plan; a slow one is given only as much as it does in [`ReplicatorSettings::queue_time`].
//!
//! [`ReplicatorSettings::queue_time`]: crate::replication::settings::ReplicatorSettings::queue_time

use std::ops::Range;
use std::time::Duration;

use super::demand::RangeDemand;
use super::fork::Probe;
use super::peer::{Compared, Peer};
use super::{PeerId, RangeId, Replicator};
use crate::env::{Mono, Point};
use crate::hypercore::merkle::Seek;
use crate::hypercore::proof::{BlockRequest, HashRequest, Request, SeekRequest, UpgradeRequest};
use crate::hypercore::{CoreError, flat_tree};
use crate::replication::core::{LogState, OfferedLog};
use crate::replication::message::{Message, RequestMessage, WANT_MAX, Want};

/// How long a block that somebody waits for is kept for a peer that is likely to be faster.
pub(super) const CLAIM_TIME: Duration = Duration::from_millis(100);

/// How long one peer alone is asked for a longer length or another fork, before a second one is.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How long an answer takes at least that a second peer may be asked for.
pub(super) const SLOW: Duration = Duration::from_millis(20);

/// Wants of ours that one peer holds at a time.
const WANTS_MAX: usize = 4;

/// How many candidates are looked at in one go.
const LOOK_MAX: usize = 256;

impl Replicator {
    /// The next request, want or unwant for a peer.
    pub(super) fn next_ask(
        &mut self,
        id: PeerId,
        core: &impl OfferedLog,
        now: Mono,
    ) -> Result<Option<Message>, CoreError> {
        let Some(peer) = self.peers.get(&id) else {
            return Ok(None);
        };
        if !peer.synced || !peer.is_askable(now) || peer.in_flight >= self.window(peer) {
            return Ok(None);
        }
        if let Some(message) = self.next_move(id) {
            let message = self.start(id, message, now);
            if let Some(moving) = &mut self.moving {
                moving.peer = id;
                moving.request = Some(message.id);
            }
            return Ok(Some(Message::Request(message)));
        }
        if let Some(message) = self.next_probe(id, now) {
            let message = self.start(id, message, now);
            let probe = Probe {
                fork: message.fork,
                request: message.id,
                sent: now,
            };
            self.probes.insert(id, probe);
            return Ok(Some(Message::Request(message)));
        }
        if let Some(message) = self.next_comparison(id) {
            let message = self.start(id, message, now);
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.compared = Compared::Asked(message.id);
            }
            return Ok(Some(Message::Request(message)));
        }
        if let Some(message) = self.next_upgrade(id, now) {
            let message = self.start(id, message, now);
            self.upgrades.push(message.id);
            return Ok(Some(Message::Request(message)));
        }
        if let Some(message) = self.next_manifest(id) {
            let message = self.start(id, message, now);
            self.manifest = Some(message.id);
            return Ok(Some(Message::Request(message)));
        }
        if peer_fork(&self.peers, id) != Some(self.known.fork) {
            return Ok(None);
        }
        if let Some(index) = self.next_waited_block(id, core, now)? {
            let priority = self.demand.blocks.get(&index).map_or(0, |block| block.priority);
            return self.ask_block(id, index, priority, core, now).map(Some);
        }
        if let Some(request) = self.next_seek(id, core)? {
            let message = self.request(request);
            return Ok(Some(Message::Request(self.start(id, message, now))));
        }
        if let Some(index) = self.next_range_block(id, core)? {
            if self.fit(index, core)? == Fit::Unknown {
                return self.ask_size(id, index, core, now).map(Some);
            }
            self.scout(id, index, core, now)?;
            return self.ask_block(id, index, 0, core, now).map(Some);
        }
        if let Some(want) = self.next_want(id) {
            return Ok(Some(want));
        }
        if let Some(index) = self.next_slow_block(id, core, now)? {
            self.sights.note(Point::AskedAgain);
            return self.ask_block(id, index, 0, core, now).map(Some);
        }
        Ok(None)
    }

    /// How many requests the peer may have at one time.
    pub(super) fn window(&self, peer: &Peer) -> usize {
        let block = self.known.byte_length / self.known.length.max(1);
        let by_bytes = self.settings.bytes_in_flight / block.max(1);
        let by_time = match peer.speed.service {
            Some(service) if self.peers.len() > 1 && !service.is_zero() => {
                self.settings.queue_time.as_nanos() / service.as_nanos()
            }
            _ => u128::MAX,
        };
        let window = self.settings.requests_in_flight;
        let window = window.min(usize::try_from(by_bytes).unwrap_or(usize::MAX));
        window
            .min(usize::try_from(by_time).unwrap_or(usize::MAX).max(2))
            .max(1)
    }

    pub(super) fn request(&self, request: Request) -> RequestMessage {
        RequestMessage {
            fork: self.known.fork,
            request,
            ..RequestMessage::default()
        }
    }

    pub(super) fn start(&mut self, id: PeerId, message: RequestMessage, now: Mono) -> RequestMessage {
        if let Some(peer) = self.peers.get_mut(&id) {
            if peer.in_flight == 0 {
                peer.asked_since = now;
            }
            peer.in_flight += 1;
        }
        self.has_deadline = true;
        self.requests.start(id, message, now)
    }

    fn ask_block(
        &mut self,
        id: PeerId,
        index: u64,
        priority: u64,
        core: &impl OfferedLog,
        now: Mono,
    ) -> Result<Message, CoreError> {
        let nodes = core.missing_nodes(index.saturating_mul(2))?;
        let mut message = self.request(Request {
            block: Some(BlockRequest { index, nodes }),
            ..Request::default()
        });
        message.priority = priority;
        Ok(Message::Request(self.start(id, message, now)))
    }

    /// Asks how large a block is, with the proof of that.
    fn ask_size(
        &mut self,
        id: PeerId,
        index: u64,
        core: &impl OfferedLog,
        now: Mono,
    ) -> Result<Message, CoreError> {
        let leaf = index.saturating_mul(2);
        let nodes = core.missing_nodes(leaf)?;
        let message = self.request(Request {
            hash: Some(HashRequest { index: leaf, nodes }),
            ..Request::default()
        });
        self.sights.note(Point::SizeAsked);
        Ok(Message::Request(self.start(id, message, now)))
    }

    /// Whether a block is small enough for the ranges that want it.
    fn fit(&self, index: u64, core: &impl OfferedLog) -> Result<Fit, CoreError> {
        let Some(most) = self.demand.block_bytes_max(index) else {
            return Ok(Fit::Fits);
        };
        if self.known.byte_length <= most {
            return Ok(Fit::Fits);
        }
        Ok(match core.stored_size(index)? {
            Some(size) if size <= most => Fit::Fits,
            Some(_) => Fit::TooLarge,
            None if self.requests.is_sized(index) => Fit::Asked,
            None => Fit::Unknown,
        })
    }

    /// True when the block is larger than those that are fetched.
    pub(super) fn is_left_out(&self, index: u64, core: &impl OfferedLog) -> Result<bool, CoreError> {
        Ok(self.fit(index, core)? == Fit::TooLarge)
    }

    /// A longer length, if the peer has acknowledged ours and can prove it.
    fn next_upgrade(&self, id: PeerId, now: Mono) -> Option<RequestMessage> {
        let peer = self.peers.get(&id)?;
        let LogState { fork, length, .. } = self.known;
        let sync = &peer.sync;
        let due = self.settings.follow
            && self.has_time_for_upgrade(id, now)
            && self.moving.is_none()
            && sync.can_upgrade
            && sync.fork == fork
            && sync.length > length
            && sync.remote_length == length;
        if !due {
            return None;
        }
        // A block that is waited for, or the last one of a live download, comes along.
        let waited = self
            .demand
            .blocks
            .range(length..sync.length)
            .map(|(index, _)| *index);
        let live = self.demand.ranges.values().any(|range| {
            // How large the block is nobody knows yet.
            let is_any = range.block_bytes_max.is_none() && !range.is_linear;
            is_any && range.end.is_none() && range.start < sync.length
        });
        let last = live.then(|| sync.length - 1).filter(|last| *last >= length);
        let block = waited
            .chain(last)
            .find(|index| peer.offers(*index, fork) && !self.requests.is_asked(*index));
        let mut message = self.request(Request {
            block: block.map(|index| BlockRequest { index, nodes: 0 }),
            upgrade: Some(UpgradeRequest {
                start: length,
                length: sync.length - length,
            }),
            ..Request::default()
        });
        message.manifest = !self.known.knows_manifest && sync.has_manifest;
        message.priority = block
            .and_then(|index| self.demand.blocks.get(&index))
            .map_or(0, |demand| demand.priority);
        Some(message)
    }

    /// True when nobody is asked for an upgrade, or those who are take too long.
    fn has_time_for_upgrade(&self, id: PeerId, now: Mono) -> bool {
        let mut asked = self
            .upgrades
            .iter()
            .filter_map(|request| self.requests.get(*request));
        self.upgrades.len() < self.settings.peers_per_block.max(1)
            && asked.all(|request| request.peer != id && now.since(request.sent) >= PATIENCE)
    }

    /// The manifest alone, of a core in which nothing is written yet.
    fn next_manifest(&self, id: PeerId) -> Option<RequestMessage> {
        let sync = &self.peers.get(&id)?.sync;
        let due = !self.known.knows_manifest
            && self.manifest.is_none()
            && self.upgrades.is_empty()
            && sync.has_manifest
            && sync.length == 0
            && sync.fork == self.known.fork;
        due.then(|| RequestMessage {
            manifest: true,
            ..self.request(Request::default())
        })
    }

    /// True when the peer, if it has the block, can prove it to us. The proof climbs to a node that is stored here, and
    /// that may lie beyond the end of a shorter copy.
    pub(super) fn is_provable(
        &self,
        peer: &Peer,
        index: u64,
        core: &impl OfferedLog,
    ) -> Result<bool, CoreError> {
        if peer.sync.length >= self.known.length {
            return Ok(true);
        }
        let leaf = index.saturating_mul(2);
        let nodes = core.missing_nodes(leaf)?;
        let top = (0..nodes).fold(leaf, |node, _| flat_tree::parent(node));
        Ok(flat_tree::end_block(top) <= peer.sync.length)
    }

    fn next_waited_block(
        &self,
        id: PeerId,
        core: &impl OfferedLog,
        now: Mono,
    ) -> Result<Option<u64>, CoreError> {
        let LogState { fork, length, .. } = self.known;
        let Some(peer) = self.peers.get(&id) else {
            return Ok(None);
        };
        let mut best: Option<(u64, u64)> = None;
        for (index, block) in self.demand.blocks.range(..length) {
            if best.is_none_or(|(priority, _)| block.priority > priority)
                && peer.offers(*index, fork)
                && !self.requests.is_asked(*index)
                && !core.has(*index)?
                && (now.since(block.since) >= CLAIM_TIME || !self.is_faster_elsewhere(id, *index, now))
                && self.is_provable(peer, *index, core)?
            {
                best = Some((block.priority, *index));
            }
        }
        Ok(best.map(|(_, index)| index))
    }

    /// True when another peer with room is likely to answer in less than half of the time.
    fn is_faster_elsewhere(&self, id: PeerId, index: u64, now: Mono) -> bool {
        let Some(peer) = self.peers.get(&id).filter(|_| self.peers.len() > 1) else {
            return false;
        };
        let ours = peer.speed.estimate(peer.in_flight + 1);
        self.peers.iter().any(|(other, peer)| {
            *other != id
                && peer.synced
                && peer.is_askable(now)
                && peer.speed.service.is_some()
                && peer.in_flight < self.settings.requests_in_flight / 2
                && peer.offers(index, self.known.fork)
                && peer.speed.estimate(peer.in_flight + 1) * 2 < ours
        })
    }

    fn next_seek(&self, id: PeerId, core: &impl OfferedLog) -> Result<Option<Request>, CoreError> {
        let Some(peer) = self.peers.get(&id).filter(|peer| peer.seeks) else {
            return Ok(None);
        };
        for (bytes, padding) in self.demand.seeks.keys() {
            let Seek::Unresolved { start, end } = core.seek(*bytes, *padding)? else {
                continue;
            };
            let seek = SeekRequest {
                bytes: *bytes,
                padding: *padding,
            };
            let asked = self
                .requests
                .iter()
                .any(|(_, request)| request.message.request.seek == Some(seek));
            // A block that it has comes with all nodes above it.
            let Some(index) = peer.have.next(start..end).filter(|_| !asked) else {
                continue;
            };
            if !self.is_provable(peer, index, core)? {
                continue;
            }
            let leaf = index.saturating_mul(2);
            return Ok(Some(Request {
                hash: Some(HashRequest {
                    index: leaf,
                    nodes: core.missing_nodes(leaf)?,
                }),
                seek: Some(seek),
                ..Request::default()
            }));
        }
        Ok(None)
    }

    fn next_range_block(&mut self, id: PeerId, core: &impl OfferedLog) -> Result<Option<u64>, CoreError> {
        let LogState { fork, length, .. } = self.known;
        let Some(peer) = self.peers.get(&id) else {
            return Ok(None);
        };
        // First what was asked for in vain.
        let mut from = 0;
        let mut stale = Vec::new();
        let mut found = None;
        for _ in 0..LOOK_MAX {
            let Some(index) = self.demand.again.range(from..length).next().copied() else {
                break;
            };
            from = index + 1;
            if core.has(index)? || !self.demand.wants(index) {
                stale.push(index);
            } else if !peer.offers(index, fork) {
                from = peer.have.next(from..length).unwrap_or(length);
            } else if !self.requests.is_asked(index)
                && self.is_provable(peer, index, core)?
                && self.fit(index, core)?.is_askable()
            {
                found = Some(index);
                break;
            }
        }
        let limit = peer.sync.length.min(length);
        for index in stale.into_iter().chain(found) {
            self.demand.again.remove(&index);
        }
        if found.is_some() {
            return Ok(found);
        }
        let ranges: Vec<(RangeId, RangeDemand)> = self
            .demand
            .ranges
            .iter()
            .map(|(id, range)| (*id, *range))
            .collect();
        for (range_id, range) in ranges {
            let end = range.end.unwrap_or(u64::MAX).min(limit);
            let (found, hint) = self.look(id, range_id, range.cursor..end, core)?;
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.hints.insert(range_id, hint);
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first block of the range that the peer has, that is missing here and not asked for; and from where to look
    /// the next time.
    fn look(
        &self,
        id: PeerId,
        range_id: RangeId,
        range: Range<u64>,
        core: &impl OfferedLog,
    ) -> Result<(Option<u64>, u64), CoreError> {
        let Some(peer) = self.peers.get(&id) else {
            return Ok((None, range.start));
        };
        let hint = peer.hints.get(&range_id).copied().unwrap_or_default();
        let mut at = range.start.max(hint);
        loop {
            let Some(offered) = peer.have.next(at..range.end) else {
                return Ok((None, at));
            };
            at = core.first_missing(offered..range.end)?;
            if at >= range.end {
                return Ok((None, range.end));
            }
            if peer.have.contains(at) {
                if !self.requests.is_asked(at)
                    && self.is_provable(peer, at, core)?
                    && self.fit(at, core)?.is_askable()
                {
                    return Ok((Some(at), at + 1));
                }
                at += 1;
            }
        }
    }

    /// An announcement to ask for: of blocks that are wanted and that the peer may have.
    fn next_want(&mut self, id: PeerId) -> Option<Message> {
        let length = self.known.length;
        let peer = self.peers.get(&id)?;
        let limit = peer.sync.length.min(length);
        let contiguous = peer.have.contiguous();
        let waited = self.demand.blocks.range(contiguous..limit.max(contiguous));
        let waited = waited
            .map(|(index, _)| *index)
            .filter(|index| !peer.have.contains(*index) && !self.requests.is_asked(*index));
        let mut regions: Vec<u64> = Vec::new();
        for index in waited.take(LOOK_MAX) {
            push_new(&mut regions, index / WANT_MAX);
        }
        for range in self.demand.ranges.values() {
            let end = range.end.unwrap_or(u64::MAX).min(limit);
            let start = range.cursor.max(contiguous);
            if start < end {
                for region in (start / WANT_MAX..=(end - 1) / WANT_MAX).take(WANTS_MAX) {
                    push_new(&mut regions, region);
                }
            }
        }
        let new = regions
            .iter()
            .copied()
            .find(|region| !peer.our_wants.contains(region))?;
        let want = |region: u64| Want {
            start: region * WANT_MAX,
            length: WANT_MAX,
            any: false,
        };
        let full = peer.our_wants.len() >= WANTS_MAX;
        let over = peer.our_wants.iter().position(|region| !regions.contains(region));
        let peer = self.peers.get_mut(&id)?;
        if full {
            // None is over: the new one has to wait.
            let over = peer.our_wants.remove(over?)?;
            return Some(Message::Unwant(want(over)));
        }
        peer.our_wants.push_back(new);
        Some(Message::Want(want(new)))
    }

    /// A block that a slower peer was asked for, when this one has nothing else to do.
    fn next_slow_block(
        &self,
        id: PeerId,
        core: &impl OfferedLog,
        now: Mono,
    ) -> Result<Option<u64>, CoreError> {
        let Some(peer) = self.peers.get(&id) else {
            return Ok(None);
        };
        if self.peers.len() < 2 || self.settings.peers_per_block < 2 {
            return Ok(None);
        }
        let ours = peer.speed.estimate(peer.in_flight + 1);
        let slow = self.requests.iter().take(LOOK_MAX).find(|(_, request)| {
            let asked = request.message.request;
            let Some(block) = asked
                .block
                .filter(|_| asked.upgrade.is_none() && request.peer != id)
            else {
                return false;
            };
            let Some(other) = self.peers.get(&request.peer) else {
                return false;
            };
            let waited = now.since(request.sent);
            let left = other.speed.estimate(other.in_flight).max(waited);
            let askers = self.requests.of_block(block.index);
            let ids: Vec<u64> = askers.take(self.settings.peers_per_block).collect();
            let is_ours = ids
                .iter()
                .filter_map(|asker| self.requests.get(*asker))
                .any(|request| request.peer == id);
            left > ours.saturating_mul(2) + SLOW
                && waited > SLOW
                && ids.len() < self.settings.peers_per_block
                && !is_ours
                && peer.offers(block.index, self.known.fork)
        });
        let index = slow
            .and_then(|(_, request)| request.message.request.block)
            .map(|block| block.index);
        match index {
            Some(index) if self.is_provable(peer, index, core)? => Ok(Some(index)),
            _ => Ok(None),
        }
    }
}

/// Whether a block is small enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Fits,
    TooLarge,
    /// Its size is not known, and a peer was asked for it.
    Asked,
    /// Its size is not known.
    Unknown,
}

impl Fit {
    const fn is_askable(self) -> bool {
        matches!(self, Self::Fits | Self::Unknown)
    }
}

fn push_new(list: &mut Vec<u64>, item: u64) {
    if !list.contains(&item) {
        list.push(item);
    }
}

fn peer_fork(peers: &std::collections::BTreeMap<PeerId, Peer>, id: PeerId) -> Option<u64> {
    peers.get(&id).map(|peer| peer.sync.fork)
}
