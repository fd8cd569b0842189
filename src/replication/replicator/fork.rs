//! Following a core to a higher fork.
//!
//! A signed proof of the whole new tree first, then hash proofs that find how many leading blocks both forks share; only
//! when that is known anything changes here, in one step.
//!
//! Source: spec/replication.md 8.1.

use super::{Event, Fault, PeerId, Replicator};
use crate::hypercore::proof::{HashRequest, Proof, Reorg, Request, UpgradeRequest};
use crate::hypercore::{CoreError, flat_tree};
use crate::replication::core::{Core, Outcome};
use crate::replication::message::RequestMessage;

/// A move that is under way.
#[derive(Debug)]
pub(super) struct Move {
    /// Who was asked last.
    pub(super) peer: PeerId,
    /// To which fork.
    pub(super) fork: u64,
    /// The request that is under way.
    pub(super) request: Option<u64>,
    /// None until the proof of the new tree is there.
    reorg: Option<Reorg>,
}

impl Replicator {
    /// What to ask of a peer for a move: begins one if it has a higher fork than any we know of.
    pub(super) fn next_move(&mut self, id: PeerId) -> Option<RequestMessage> {
        let peer = self.peers.get(&id)?;
        let (fork, length) = (peer.sync.fork, peer.sync.length);
        let target = self.moving.as_ref().map_or(self.known.fork, |moving| moving.fork);
        if self.settings.follow && fork > target && length > 0 {
            let given_up = self.moving.take().and_then(|moving| moving.request);
            if let Some(request) = given_up {
                self.cancel(request);
            }
            let has_manifest = self.peers.get(&id)?.sync.has_manifest;
            self.moving = Some(Move {
                peer: id,
                fork,
                request: None,
                reorg: None,
            });
            return Some(RequestMessage {
                fork,
                request: Request {
                    upgrade: Some(UpgradeRequest { start: 0, length }),
                    ..Request::default()
                },
                manifest: !self.known.knows_manifest && has_manifest,
                ..RequestMessage::default()
            });
        }
        let moving = self.moving.as_ref();
        let moving = moving.filter(|moving| moving.fork == fork && moving.request.is_none())?;
        let wanted = moving.reorg.as_ref()?.wanted()?;
        let peer = self.peers.get(&id)?;
        // A block that it has comes with all nodes above it: other nodes a copy may lack, and the original cannot say so.
        let index = peer.have.next(wanted.start..wanted.end)?;
        let difference = moving.reorg.as_ref().and_then(Reorg::difference)?;
        if flat_tree::end_block(difference) > length {
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

    /// Takes the answer to a request of the move.
    pub(super) fn advance_move(
        &mut self,
        id: PeerId,
        proof: &Proof,
        core: &mut impl Core,
    ) -> Result<(), CoreError> {
        let Some(mut moving) = self.moving.take_if(|moving| moving.peer == id) else {
            return Ok(());
        };
        moving.request = None;
        if proof.fork != moving.fork {
            return Ok(());
        }
        let advanced = match &mut moving.reorg {
            None => match core.start_move(proof)? {
                Outcome::Done(reorg) => {
                    moving.reorg = Some(reorg);
                    Outcome::Done(true)
                }
                Outcome::Stale => Outcome::Stale,
                Outcome::Refused(error) => Outcome::Refused(error),
            },
            Some(reorg) => core.advance_move(reorg, proof)?,
        };
        match advanced {
            Outcome::Done(true) => {}
            Outcome::Done(false) | Outcome::Stale => return Ok(()),
            Outcome::Refused(error) => {
                self.pause(id, Fault::Proof(error));
                return Ok(());
            }
        }
        let Some(reorg) = moving.reorg.take_if(|reorg| reorg.is_finished()) else {
            self.moving = Some(moving);
            return Ok(());
        };
        let kept = reorg.ancestors();
        let old_length = self.known.length;
        if core.finish_move(reorg)? {
            self.rewound(core, kept)?;
            self.events.push_back(Event::Rewound {
                kept,
                old_length,
                fork: moving.fork,
            });
        }
        Ok(())
    }

    /// The core is at another fork now, of which it shares the first `kept` blocks with the old one.
    pub(super) fn rewound(&mut self, core: &impl Core, kept: u64) -> Result<(), CoreError> {
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
        Ok(())
    }
}
