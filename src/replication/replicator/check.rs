//! Whether the owner of a core contradicts itself.
//!
//! A peer that sent a wrong proof is asked nothing more but this: the signature over the length that both sides have. Two
//! valid signatures over different trees are the owner's doing, and end the replication of the core for good; anything
//! else is the peer's.
//!
//! Source: spec/replication.md 8.2.

use std::time::Duration;

use super::{Fault, PeerId, Replicator};
use crate::env::Mono;
use crate::hypercore::CoreError;
use crate::hypercore::proof::{Proof, ProofError, Request, UpgradeRequest};
use crate::replication::core::Core;
use crate::replication::message::{Message, RequestMessage};

/// How long the answer may take.
const CHECK_TIME: Duration = Duration::from_secs(5);

/// A check that is under way.
#[derive(Debug)]
pub(super) struct Check {
    fault: Fault,
    until: Mono,
}

impl Replicator {
    /// The peer sent a wrong proof.
    pub(super) fn suspect(&mut self, id: PeerId, error: ProofError, now: Mono) {
        let (fork, length) = (self.known.fork, self.known.length);
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.paused) else {
            return;
        };
        let fault = Fault::Proof(error);
        let sync = &peer.sync;
        // Only what it can prove for certain: its own length, or ours if it has acknowledged it.
        let is_provable = sync.length <= length || (sync.can_upgrade && sync.remote_length == length);
        let common = sync.length.min(length);
        if sync.fork != fork || common == 0 || !is_provable {
            self.pause(id, fault);
            return;
        }
        peer.outbox.push_back(Message::Request(RequestMessage {
            id: 0,
            fork,
            request: Request {
                upgrade: Some(UpgradeRequest {
                    start: 0,
                    length: common,
                }),
                ..Request::default()
            },
            ..RequestMessage::default()
        }));
        peer.check = Some(Check {
            fault,
            until: now + CHECK_TIME,
        });
        self.ask_nothing_more(id);
    }

    /// Takes the answer.
    pub(super) fn receive_check(
        &mut self,
        id: PeerId,
        proof: &Proof,
        core: &mut impl Core,
    ) -> Result<(), CoreError> {
        if self.peers.get(&id).is_some_and(|peer| peer.check.is_some()) {
            // Whatever comes of it, the first proof was wrong.
            let _ = core.check_conflict(proof)?;
            self.end_check(id);
        }
        Ok(())
    }

    /// There is no answer, or nothing to learn from it.
    pub(super) fn end_check(&mut self, id: PeerId) {
        let check = self.peers.get_mut(&id).and_then(|peer| peer.check.take());
        if let Some(check) = check {
            self.tell_paused(id, check.fault);
        }
    }

    pub(super) fn end_late_checks(&mut self, now: Mono) {
        let is_late = |check: &Check| check.until <= now;
        let late = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.check.as_ref().is_some_and(is_late));
        let late: Vec<PeerId> = late.map(|(id, _)| *id).collect();
        for id in late {
            self.end_check(id);
        }
    }

    pub(super) fn check_deadlines(&self) -> impl Iterator<Item = Mono> {
        self.peers
            .values()
            .filter_map(|peer| peer.check.as_ref().map(|check| check.until))
    }
}
