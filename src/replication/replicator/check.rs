//! Whether the owner of a core contradicts itself.
//!
//! A peer that sent a wrong proof is asked nothing more but this: the signature over the length that both sides have. Two
//! valid signatures over different trees are the owner's doing, and end the replication of the core between those two;
//! anything else is the peer's. Whoever has the same log is served on, and later ones are: what of it was applied here is
//! needed by who joins. Who found two shows both to its peers, of which each has one at most: a peer may be the owner, whose
//! copy of the log is an older one, or written on two machines. What proves it is kept with the core, and shown to those who
//! come later, too. The original shows the one that it has itself.
//!
//! Source: spec/replication.md 8.2.

use std::time::Duration;

use super::peer::Compared;
use super::{PeerFault, PeerId, Replicator, ReplicatorEvent};
use crate::env::{Mono, Point, Slip};
use crate::hypercore::CoreError;
use crate::hypercore::proof::{Proof, ProofError, Request, UpgradeRequest};
use crate::replication::core::{Answer, LogState, OfferedLog, ProofOutcome, ReplicatedLog};
use crate::replication::message::{DataMessage, Message, RequestMessage};

/// How long the answer may take.
const CHECK_TIME: Duration = Duration::from_secs(5);

/// The two histories that a contradiction is between.
const SIDES: u8 = 2;

/// A check that is under way.
#[derive(Debug)]
pub(super) struct Check {
    fault: PeerFault,
    until: Mono,
}

impl Replicator {
    /// The peer sent a wrong proof.
    pub(super) fn suspect(&mut self, id: PeerId, error: ProofError, now: Mono) {
        let (fork, length) = (self.known.fork, self.known.length);
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.paused) else {
            return;
        };
        self.sights.note(Point::ProofRefused);
        let fault = PeerFault::Proof(error);
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
        let until = now + CHECK_TIME;
        self.checks.insert(id, Check { fault, until });
        self.has_deadline = true;
        self.ready.insert(id);
        self.ask_nothing_more(id);
    }

    /// The owner of the core asks a peer that has as much of it as there is here, once: of two logs of one length neither
    /// side would ask for more, and a block that is appended to either fits to that one only.
    pub(super) fn next_comparison(&self, id: PeerId) -> Option<RequestMessage> {
        let LogState { fork, length, .. } = self.known;
        let peer = self.peers.get(&id)?;
        let is_as_long = peer.sync.fork == fork && peer.sync.length == length && length > 0;
        let due = self.settings.is_owner && is_as_long && peer.compared == Compared::Due;
        due.then(|| {
            self.request(Request {
                upgrade: Some(UpgradeRequest { start: 0, length }),
                ..Request::default()
            })
        })
    }

    /// Takes what the peer has for the own log.
    pub(super) fn receive_comparison(
        &mut self,
        id: PeerId,
        proof: &Proof,
        core: &mut impl ReplicatedLog,
    ) -> Result<(), CoreError> {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.compared = Compared::Done;
        }
        if self.find_contradiction(proof, core)? {
            self.part_from(id);
        }
        Ok(())
    }

    /// The peer has another log than the one here, which the owner signed too: neither has a use for the other's.
    fn part_from(&mut self, peer: PeerId) {
        self.ask_nothing_more(peer);
        self.events.push_back(ReplicatorEvent::Contradicted(peer));
    }

    /// True when the owner signed two logs of the length that the proof is about.
    fn find_contradiction(
        &mut self,
        proof: &Proof,
        core: &mut impl ReplicatedLog,
    ) -> Result<bool, CoreError> {
        let own = self.evidence_of(proof, core)?;
        let is_contradicted = matches!(core.check_conflict(proof)?, ProofOutcome::Done(true));
        if is_contradicted {
            // A block, which the proof may need, would be kept with it.
            let is_kept = proof.block.is_none();
            let other = is_kept.then(|| DataMessage {
                request: 0,
                proof: proof.clone(),
            });
            self.evidence = own.into_iter().chain(other).collect();
        }
        Ok(is_contradicted)
    }

    /// Takes the answer, or what a peer shows that has found a contradiction itself: both sides of it, once from each peer.
    pub(super) fn receive_check(
        &mut self,
        id: PeerId,
        proof: &Proof,
        core: &mut impl ReplicatedLog,
    ) -> Result<(), CoreError> {
        let Some(peer) = self.peers.get_mut(&id) else {
            return Ok(());
        };
        if !self.checks.contains_key(&id) {
            // A core that is what it is here has no other side, and who knows both need not be shown them.
            let is_idle = !self.settings.follow || peer.sides_shown == SIDES || !self.evidence.is_empty();
            peer.sides_shown = SIDES.min(peer.sides_shown + 1);
            if is_idle {
                return Ok(());
            }
        }
        if self.find_contradiction(proof, core)? {
            // It was the owner's doing, and not the peer's.
            if self.checks.remove(&id).is_some() {
                self.part_from(id);
            }
            return Ok(());
        }
        // Nothing follows for the owner, and a proof that led to a check was wrong.
        self.end_check(id);
        Ok(())
    }

    /// The own side of the length that a proof is about: once the core is contradicted nothing can be proven of it.
    fn evidence_of(&self, proof: &Proof, core: &impl OfferedLog) -> Result<Option<DataMessage>, CoreError> {
        let Some(upgrade) = proof.upgrade.as_ref().filter(|upgrade| upgrade.start == 0) else {
            return Ok(None);
        };
        let length = upgrade.length.min(self.known.length);
        if length == 0 {
            return Ok(None);
        }
        let request = Request {
            upgrade: Some(UpgradeRequest { start: 0, length }),
            ..Request::default()
        };
        Ok(match core.prove(&request, true)? {
            Answer::Proof(proof) => Some(DataMessage { request: 0, proof }),
            _ => None,
        })
    }

    /// Takes both sides of a contradiction that was found earlier.
    pub(super) fn recall_contradiction(&mut self, core: &impl OfferedLog) -> Result<(), CoreError> {
        if let Some(other) = core.other_history()? {
            let own = self.evidence_of(&other.proof, core)?;
            self.evidence = own.into_iter().chain([other]).collect();
        }
        Ok(())
    }

    /// Shows a peer that came later what contradicts the log, once it has so many leading blocks that it can tell.
    pub(super) fn show_evidence(&mut self, id: PeerId) {
        let upgrades = self
            .evidence
            .iter()
            .filter_map(|side| side.proof.upgrade.as_ref());
        let length = upgrades
            .map(|upgrade| upgrade.start.saturating_add(upgrade.length))
            .max();
        let fork = self.known.fork;
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let here = peer.have.contiguous().min(peer.sync.length);
        let is_as_long = peer.synced && peer.sync.fork == fork && Some(here) >= length;
        if !is_as_long || self.planted.has(Slip::EvidenceNotRecalled) {
            return;
        }
        peer.evidence_due = false;
        self.sights.note(Point::EvidenceRecalled);
        let sides = self.evidence().to_vec();
        if let Some(peer) = self.peers.get_mut(&id) {
            let sides = sides.into_iter().map(|side| Message::Data(Box::new(side)));
            peer.outbox.extend(sides);
        }
    }

    /// The two sides of the contradiction that was found: nobody knows which one a peer has. None when there is none.
    pub(crate) fn evidence(&self) -> &[DataMessage] {
        let shown = if self.planted.has(Slip::EvidenceForgotten) {
            0
        } else if self.planted.has(Slip::OneSideShown) {
            1
        } else {
            self.evidence.len()
        };
        self.evidence.get(..shown).unwrap_or_default()
    }

    /// There is no answer, or nothing to learn from it.
    pub(super) fn end_check(&mut self, id: PeerId) {
        if let Some(check) = self.checks.remove(&id) {
            self.tell_paused(id, check.fault);
        }
    }

    pub(super) fn end_late_checks(&mut self, now: Mono) {
        let late = self.checks.iter().filter(|(_, check)| check.until <= now);
        let late: Vec<PeerId> = late.map(|(id, _)| *id).collect();
        for id in late {
            self.end_check(id);
        }
    }

    pub(super) fn check_deadlines(&self) -> impl Iterator<Item = Mono> {
        self.checks.values().map(|check| check.until)
    }
}
