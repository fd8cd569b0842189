//! Following a core to a higher fork.
//!
//! A signed proof of the whole new tree first, then hash proofs that find how many leading blocks both forks share; only
//! when that is known anything changes here, in one step.
//!
//! Source: spec/replication.md 8.1.

use super::{Event, Fault, PeerId, Replicator};
use crate::crypto::Verify;
use crate::hypercore::flat_tree;
use crate::hypercore::merkle::ReadError;
use crate::hypercore::proof::{HashRequest, Proof, ProofError, Receiver, Reorg, Request, UpgradeRequest};
use crate::replication::core::Core;
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
        let target = self.moving.as_ref().map_or(self.known.0, |moving| moving.fork);
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
                manifest: !self.known_manifest && has_manifest,
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
        verifier: &impl Verify,
    ) -> Result<(), ReadError> {
        let Some(mut moving) = self.moving.take_if(|moving| moving.peer == id) else {
            return Ok(());
        };
        moving.request = None;
        if proof.fork != moving.fork {
            return Ok(());
        }
        let key = core.key();
        let receiver = Receiver {
            key: &key,
            manifest: core.manifest(),
            tree: &core.head().tree,
            nodes: core.nodes(),
            verifier,
        };
        let advanced = match &mut moving.reorg {
            None => Reorg::start(&receiver, proof).map(|reorg| {
                moving.reorg = Some(reorg);
                true
            }),
            Some(reorg) => reorg.advance(&receiver, proof),
        };
        match advanced {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(ProofError::Read(error)) => return Err(error),
            Err(error) => {
                self.pause(id, Fault::Proof(error));
                return Ok(());
            }
        }
        let is_finished = moving.reorg.as_ref().is_some_and(Reorg::is_finished);
        if !is_finished {
            self.moving = Some(moving);
            return Ok(());
        }
        let Some(rewound) = moving.reorg.and_then(Reorg::finish) else {
            return Ok(());
        };
        let (kept, old_length) = (rewound.ancestors, rewound.old_length);
        if core.rewind(rewound)? {
            self.rewound(core, kept);
            self.events.push_back(Event::Rewound {
                kept,
                old_length,
                fork: moving.fork,
            });
        }
        Ok(())
    }

    /// The core is at another fork now, of which it shares the first `kept` blocks with the old one.
    pub(super) fn rewound(&mut self, core: &impl Core, kept: u64) {
        let (_, old_length) = self.known;
        let tree = &core.head().tree;
        self.known = (tree.fork(), tree.length());
        self.known_manifest = core.manifest().is_some();
        let all: Vec<u64> = self.requests.iter().map(|(id, _)| id).collect();
        for id in all {
            self.cancel(id);
        }
        self.moving = None;
        self.contiguous = core.contiguous_length();
        self.demand.rewind(kept);
        for peer in self.peers.values_mut() {
            peer.hints.clear();
            peer.added.clear();
            if kept < old_length {
                peer.withdraw(kept..old_length, self.settings.announcements);
            }
            peer.sync_due = true;
        }
    }
}
