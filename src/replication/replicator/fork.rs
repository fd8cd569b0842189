//! Following a core to a higher fork.
//!
//! A signed proof of the whole new tree first, then hash proofs that find how many leading blocks both forks share; only
//! when that is known anything changes here, in one step.
//!
//! Source: spec/replication.md 8.1.

use std::time::Duration;

use super::{PeerId, Replicator, ReplicatorEvent, ask};
use crate::env::{Mono, Point};
use crate::hypercore::proof::{HashRequest, Proof, Reorg, Request, UpgradeRequest};
use crate::hypercore::{CoreError, flat_tree};
use crate::replication::core::{OfferedLog, ProofOutcome, ReplicatedLog};
use crate::replication::message::RequestMessage;

/// How long a peer is left alone that could not prove its fork.
pub(super) const PROBE_REST: Duration = Duration::from_secs(1);

/// A move to a fork that its owner signed.
#[derive(Debug)]
pub(super) struct Move {
    /// Who was asked last.
    pub(super) peer: PeerId,
    /// To which fork.
    pub(super) fork: u64,
    /// The request that is under way.
    pub(super) request: Option<u64>,
    reorg: Reorg,
}

/// A fork that a peer claims, and was asked to prove. Until it has, it counts for nothing: neither upgrades nor other
/// forks wait for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    pub(super) fork: u64,
    pub(super) request: u64,
    pub(super) sent: Mono,
}

impl Replicator {
    /// What to ask of a peer to find out about its fork, if it is higher than any that is proven.
    pub(super) fn next_probe(&self, id: PeerId, now: Mono) -> Option<RequestMessage> {
        let sync = &self.peers.get(&id)?.sync;
        let target = self.moving.as_ref().map_or(self.known.fork, |moving| moving.fork);
        // One proof is enough, unless its sender takes its time.
        let is_asked = |probe: &Probe| probe.fork == sync.fork && now.since(probe.sent) < ask::PATIENCE;
        let due = self.settings.follow
            && sync.fork > target
            && sync.length > 0
            && !self.probes.contains_key(&id)
            && !self.probes.values().any(is_asked);
        due.then(|| RequestMessage {
            fork: sync.fork,
            request: Request {
                upgrade: Some(UpgradeRequest {
                    start: 0,
                    length: sync.length,
                }),
                ..Request::default()
            },
            manifest: !self.known.knows_manifest && sync.has_manifest,
            ..RequestMessage::default()
        })
    }

    /// What to ask of a peer for the move that is under way.
    pub(super) fn next_move(&self, id: PeerId) -> Option<RequestMessage> {
        let peer = self.peers.get(&id)?;
        let moving = self.moving.as_ref();
        let moving = moving.filter(|moving| moving.fork == peer.sync.fork && moving.request.is_none())?;
        let wanted = moving.reorg.wanted()?;
        // A block that it has comes with all nodes above it: other nodes a copy may lack, and the original cannot say so.
        let index = peer.have.next(wanted.start..wanted.end)?;
        let difference = moving.reorg.difference()?;
        if flat_tree::end_block(difference) > peer.sync.length {
            return None;
        }
        Some(RequestMessage {
            fork: moving.fork,
            request: Request {
                hash: Some(HashRequest {
                    index: index.saturating_mul(2),
                    nodes: wanted.nodes,
                }),
                ..Request::default()
            },
            ..RequestMessage::default()
        })
    }

    /// Takes the proof of another fork.
    pub(super) fn start_move(
        &mut self,
        id: PeerId,
        proof: &Proof,
        core: &mut impl ReplicatedLog,
        now: Mono,
    ) -> Result<(), CoreError> {
        let target = self.moving.as_ref().map_or(self.known.fork, |moving| moving.fork);
        if proof.fork <= target {
            return Ok(());
        }
        self.all_ready();
        match core.start_move(proof)? {
            ProofOutcome::Done(reorg) => {
                let given_up = self.moving.take().and_then(|moving| moving.request);
                if let Some(request) = given_up {
                    self.cancel(request);
                }
                let moving = Move {
                    peer: id,
                    fork: proof.fork,
                    request: None,
                    reorg,
                };
                self.finish_move(moving, core)
            }
            ProofOutcome::Stale => Ok(()),
            ProofOutcome::Refused(error) => {
                self.suspect(id, error, now);
                Ok(())
            }
        }
    }

    /// Takes the answer to a request of the move.
    pub(super) fn advance_move(
        &mut self,
        id: PeerId,
        proof: &Proof,
        core: &mut impl ReplicatedLog,
        now: Mono,
    ) -> Result<(), CoreError> {
        let Some(mut moving) = self.moving.take_if(|moving| moving.peer == id) else {
            return Ok(());
        };
        moving.request = None;
        self.all_ready();
        if proof.fork != moving.fork {
            return Ok(());
        }
        match core.advance_move(&mut moving.reorg, proof)? {
            ProofOutcome::Done(true) => self.finish_move(moving, core),
            ProofOutcome::Done(false) | ProofOutcome::Stale => Ok(()),
            ProofOutcome::Refused(error) => {
                self.suspect(id, error, now);
                Ok(())
            }
        }
    }

    /// Applies the move, if nothing is missing.
    fn finish_move(&mut self, moving: Move, core: &mut impl ReplicatedLog) -> Result<(), CoreError> {
        if !moving.reorg.is_finished() {
            self.moving = Some(moving);
            return Ok(());
        }
        let (kept, fork, old_length) = (moving.reorg.ancestors(), moving.fork, self.known.length);
        if core.finish_move(moving.reorg)? {
            self.rewound(core, kept)?;
            self.sights.note(Point::ForkFollowed);
            self.events.push_back(ReplicatorEvent::Rewound {
                kept,
                old_length,
                fork,
            });
        }
        Ok(())
    }

    /// The core is at another fork now, of which it shares the first `kept` blocks with the old one.
    pub(super) fn rewound(&mut self, core: &impl OfferedLog, kept: u64) -> Result<(), CoreError> {
        let old_length = self.known.length;
        self.known = core.state()?;
        let all: Vec<u64> = self.requests.iter().map(|(id, _)| id).collect();
        for id in all {
            self.cancel(id);
        }
        self.moving = None;
        self.demand.rewind(kept);
        for peer in self.peers.values_mut() {
            peer.hints.clear();
            peer.added.clear();
            if kept < old_length {
                peer.withdraw(kept..old_length, self.settings.announcements);
            }
            peer.contiguous_due = true;
            peer.sync_due = true;
        }
        self.all_ready();
        Ok(())
    }
}
