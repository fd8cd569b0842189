//! A core as replication uses it: what to offer, proofs made and checked, moves to new forks, and what is wanted.
//!
//! Whoever only reads and writes a log needs [`Core`] alone. Everything that leaves towards peers is made from
//! [`PeerAccess::offered`]: the sole way out, and it shows own blocks only once they are durable.

use bytes::Bytes;

use super::change::LineSelector;
use super::cores::{Conflict, Demand, OpenCore};
use super::error::CoreError;
use super::event::CoreEvent;
use super::line::{Line, LineNodes};
use super::manifest::Manifest;
use super::merkle::{MerkleTree, TreeError};
use super::proof::{DataMessage, Head, Proof, ProofError, ProofReceiver, Reorg, Request, UpgradeProof};
use super::session::Core;
use crate::crypto::CoreKey;
use crate::env::{Env, Slip, watch};
use crate::store::{Seq, Snapshot};
use crate::wire::Length;
use crate::wire::compact::{Decode as _, Encode as _};

/// How often a proof is checked again when the core changed meanwhile.
const CHECKS_MAX: usize = 4;

/// Most bytes of the history that proves a contradiction of the owner and is kept for that: the roots of a log, and signatures.
const EVIDENCE_BYTES_MAX: usize = 16 * 1024;

/// A copy of everything that checking proofs needs, so that it holds nothing up.
pub(super) struct CheckedAgainst {
    key: CoreKey,
    manifest: Option<Manifest>,
    line: Line,
    snapshot: Box<dyn Snapshot>,
}

/// A core as replication uses it, see [`Core::peer_access`].
pub struct PeerAccess<'a, E: Env> {
    core: &'a Core<E>,
}

impl<E: Env> Clone for PeerAccess<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Env> Copy for PeerAccess<'_, E> {}

impl<E: Env> Core<E> {
    /// The core as replication uses it.
    #[must_use]
    pub const fn peer_access(&self) -> PeerAccess<'_, E> {
        PeerAccess { core: self }
    }

    /// Has a core that is written here take over what peers have beyond it, from the next connection on: a log of which
    /// this may be an older copy. Others that are written here are what they are here, whatever peers say.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn follow_own(&self) -> Result<(), CoreError> {
        let mut cores = self.shared.lock();
        self.open_core(&cores)?;
        cores.get_mut(self.pointer())?.is_followed = true;
        Ok(())
    }

    /// Whether what peers have beyond a core is taken over.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn is_followed(&self) -> Result<bool, CoreError> {
        let signers = self.manifest()?.map_or(0, |manifest| manifest.signers().len());
        let is_own = self.is_writable() && signers <= 1;
        self.look(|core, _| Ok(!is_own || core.is_followed))
    }

    /// Wakes whenever the core changed.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn changes(&self) -> Result<watch::Receiver<u64>, CoreError> {
        self.look(|core, _| Ok(core.changes.subscribe()))
    }
}

impl<'a, E: Env> PeerAccess<'a, E> {
    /// The session that this is of.
    #[must_use]
    pub const fn core(self) -> &'a Core<E> {
        self.core
    }

    // Sending.

    /// The head that peers may see: for an own core the newest durable one.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn offered(&self) -> Result<Head, CoreError> {
        self.offer(|_, head| Ok(head.clone()))
    }

    /// Answers a request. None when it is about a block that is not stored here. The manifest is added when it is
    /// asked for and the core has one that peers need.
    ///
    /// # Errors
    /// When the request makes no sense, a node that it needs is not here, or the store fails.
    pub fn prove(&self, request: &Request, wants_manifest: bool) -> Result<Option<Proof>, CoreError> {
        self.offered_snapshot()?.prove(request, wants_manifest)
    }

    /// The stored blocks of a page of [`super::bitfield::WIRE_PAGE_BLOCKS`] blocks, as far as they are offered.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn offered_page(&self, page: u64) -> Result<Vec<u8>, CoreError> {
        self.offer(|core, head| Ok(core.main.blocks.wire_page(page, head.tree.length())))
    }

    /// Number of leading blocks that are stored and offered.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn offered_contiguous(&self) -> Result<u64, CoreError> {
        self.offer(|core, head| Ok(core.main.blocks.contiguous_length().min(head.tree.length())))
    }

    // Receiving.

    /// Checks a proof of this fork and stores what it brings. False when it is about another fork, or the core changed
    /// too quickly to tell.
    ///
    /// # Errors
    /// When the proof is wrong, which blames the peer, or the store fails.
    pub fn receive(&self, proof: &Proof) -> Result<bool, CoreError> {
        for _ in 0..CHECKS_MAX {
            // Hashes and signatures take long: nobody waits meanwhile.
            let known = self.known()?;
            let accepted = {
                let nodes = known.nodes();
                match known
                    .receiver(&nodes, self.core.shared.env.crypto())
                    .check(proof)?
                {
                    Some(accepted) => accepted,
                    None => return Ok(false),
                }
            };
            let version = known.version();
            // Else the change would have to copy what it is about to write to.
            drop(known);
            let is_done = self.core.shared.change(|change| {
                let core = change.cores.get(self.core.pointer())?;
                if !version.is_current(core) {
                    return Ok(false);
                }
                change.accept(self.core.pointer(), accepted)?;
                Ok(true)
            })?;
            if is_done.0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// As [`PeerAccess::receive`] for each of several proofs of blocks without upgrades, one after the other: what they bring is
    /// stored in one step.
    ///
    /// # Errors
    /// When the store fails. What is wrong with a proof is said in its place.
    pub fn receive_blocks(&self, proofs: &[&Proof]) -> Result<Vec<Result<bool, CoreError>>, CoreError> {
        let known = self.known()?;
        let checked = {
            let nodes = known.nodes();
            known
                .receiver(&nodes, self.core.shared.env.crypto())
                .check_all(proofs)
        };
        let version = known.version();
        drop(known);
        let is_current = self.core.shared.change(|change| {
            let core = change.cores.get(self.core.pointer())?;
            if !version.is_current(core) {
                return Ok(None);
            }
            let mut done = Vec::with_capacity(checked.len());
            let ends = self.core.shared.planted.has(Slip::WrongEndsRow);
            for checked in checked {
                if ends && done.last().is_some_and(Result::is_err) {
                    break;
                }
                done.push(match checked {
                    Ok(Some(accepted)) => {
                        change.accept(self.core.pointer(), accepted)?;
                        Ok(true)
                    }
                    Ok(None) => Ok(false),
                    Err(error) => Err(CoreError::from(error)),
                });
            }
            Ok(Some(done))
        })?;
        match is_current.0 {
            Some(done) => Ok(done),
            // It grew meanwhile: one by one.
            None => Ok(proofs.iter().map(|proof| self.receive(proof)).collect()),
        }
    }

    /// Starts a move to a new fork with the proof of the whole new log.
    ///
    /// # Errors
    /// When the proof is wrong, or the store fails.
    pub fn start_reorg(&self, proof: &Proof) -> Result<Reorg, CoreError> {
        let known = self.known()?;
        let nodes = known.nodes();
        Ok(Reorg::start(
            &known.receiver(&nodes, self.core.shared.env.crypto()),
            proof,
        )?)
    }

    /// Takes a hash proof that a move wanted. False when it was of no use.
    ///
    /// # Errors
    /// When the proof is malformed, or the store fails.
    pub fn advance_reorg(&self, reorg: &mut Reorg, proof: &Proof) -> Result<bool, CoreError> {
        let known = self.known()?;
        let nodes = known.nodes();
        Ok(reorg.advance(&known.receiver(&nodes, self.core.shared.env.crypto()), proof)?)
    }

    /// Applies a finished move. False, and nothing done, when it is not finished or the core changed meanwhile.
    ///
    /// # Errors
    /// When the store fails.
    pub fn finish_reorg(&self, reorg: Reorg) -> Result<bool, CoreError> {
        let Some(rewound) = reorg.finish() else {
            return Ok(false);
        };
        Ok(self
            .core
            .shared
            .change(|change| change.rewind(self.core.pointer(), rewound))?
            .0)
    }

    /// Compares the proof of a shorter or equal length with the local log. When both are signed and differ, the owner
    /// contradicts itself: the first time all sessions of the core end with [`CoreError::Signatures`]. Those that are opened
    /// later know it ([`crate::hypercore::Core::contradiction`]). True when that is so.
    ///
    /// # Errors
    /// When the proof is wrong, or the store fails.
    pub fn check_conflict(&self, proof: &Proof) -> Result<bool, CoreError> {
        let known = self.known()?;
        let nodes = known.nodes();
        let Some(upgrade) = &proof.upgrade else {
            return Ok(false);
        };
        let length = upgrade.start.saturating_add(upgrade.length);
        if proof.fork != known.tree().fork() || upgrade.start != 0 || length > known.tree().length() {
            return Ok(false);
        }
        if length < known.tree().length() && self.core.shared.planted.has(Slip::ShorterUncompared) {
            return Ok(false);
        }
        let receiver = known.receiver(&nodes, self.core.shared.env.crypto());
        let other = Reorg::start(&receiver, proof)?;
        // The signature covers the additional nodes too; what counts is the common length.
        let theirs = first_tree(upgrade, proof.fork).ok_or(ProofError::Roots { length })?;
        let ours = match known.tree().truncated(length, proof.fork, &nodes) {
            Ok(ours) => ours,
            // Of a log that is here in part, not every length has its roots here: nothing follows then.
            Err(TreeError::Missing(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if other.head().tree.length() < length || theirs.hash() == ours.hash() {
            return Ok(false);
        }
        if self.core.contradiction()?.is_some() {
            // Whoever has it open knows.
            return Ok(true);
        }
        let fork = proof.fork;
        let shared = &self.core.shared;
        // With a block, which it need not have, it may be of any size.
        let other = proof.block.is_none().then(|| {
            let other = DataMessage {
                request: 0,
                proof: proof.clone(),
            };
            other.to_bytes().ok()
        });
        let other = other.flatten().filter(|other| other.len() <= EVIDENCE_BYTES_MAX);
        let other = other.map(Bytes::from);
        let kept =
            shared.change(|change| change.contradicted(self.core.pointer(), Length(length), fork, other));
        if let Err(error) = kept {
            // It holds as long as the store is open, though the store cannot keep it.
            let mut cores = shared.lock();
            let sessions = cores.next_session;
            let core = cores.get_mut(self.core.pointer())?;
            let length = Length(length);
            core.conflict = Some(Conflict {
                length,
                fork,
                sessions,
            });
            // Nobody listening is fine.
            let _ = core.events.send(CoreEvent::Conflict { length, fork });
            core.bump();
            return Err(error);
        }
        // Nobody waits for it, and a power cut must not bring the log back.
        if !shared.planted.has(Slip::ContradictionUnsynced) {
            shared.store.request_sync();
        }
        Ok(true)
    }

    /// What proves to peers that the owner of the core contradicted itself, with the history that is here: the other one. None
    /// when it did not, as far as is known, or when that was not kept.
    ///
    /// # Errors
    /// When the session is closed, or what was kept does not decode.
    pub fn other_history(&self) -> Result<Option<DataMessage>, CoreError> {
        let other = {
            let cores = self.core.shared.lock();
            self.core.open_core(&cores)?.auth.other_history.clone()
        };
        let decoded = other.map(|other| DataMessage::from_bytes(&other)).transpose();
        decoded.map_err(|error| super::record::RecordError::from(error).into())
    }

    /// How many levels a peer has to climb from a tree node to one that is stored here: what a request says.
    ///
    /// # Errors
    /// When the session is closed, or the store fails.
    pub fn missing_nodes(&self, node: u64) -> Result<u64, CoreError> {
        self.offered_snapshot()?.missing_nodes(node)
    }

    /// Bytes of a block, as far as a tree node that is stored here tells.
    ///
    /// # Errors
    /// When the session is closed, or the store fails.
    pub fn stored_size(&self, index: u64) -> Result<Option<u64>, CoreError> {
        self.offered_snapshot()?.stored_size(index)
    }

    // Wanting.

    /// How often the core was let go; none while a session uses it.
    ///
    /// # Errors
    /// When the session is closed.
    pub(crate) fn unused_since(&self) -> Result<Option<u64>, CoreError> {
        self.core
            .look(|core, _| Ok((!core.is_used()).then_some(core.let_go)))
    }

    /// How often the core was let go.
    ///
    /// # Errors
    /// When the session is closed.
    pub(crate) fn times_let_go(&self) -> Result<u64, CoreError> {
        self.core.look(|core, _| Ok(core.let_go))
    }

    /// What sessions of the core wait for.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn demand(&self) -> Result<Demand, CoreError> {
        self.core.look(|core, _| Ok(core.demand.clone()))
    }

    /// True while peers are not shown what was signed here last, as it is not durable.
    ///
    /// # Errors
    /// When the session is closed.
    pub(crate) fn awaits_sync(&self) -> Result<bool, CoreError> {
        let durable = self.core.shared.store.durable();
        self.core.look(|core, _| Ok(core.offer.awaits(durable)))
    }

    /// The first block at or after `from` that is not stored here.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn next_missing(&self, from: u64) -> Result<u64, CoreError> {
        self.core.look(|core, _| Ok(core.main.blocks.next_missing(from)))
    }

    /// Wakes whenever something is wanted or no longer wanted.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn demand_changes(&self) -> Result<watch::Receiver<u64>, CoreError> {
        self.core.look(|core, _| Ok(core.wishes.subscribe()))
    }

    /// The one place where it is decided what peers see.
    pub(super) fn offer<T>(
        &self,
        look: impl FnOnce(&OpenCore, &Head) -> Result<T, CoreError>,
    ) -> Result<T, CoreError> {
        let durable = self.core.shared.store.durable();
        let mut cores = self.core.shared.lock();
        // Also finds out whether the session is open.
        self.core.open_core(&cores)?;
        let core = cores.get_mut(self.core.pointer())?;
        let late = u64::from(self.core.shared.planted.has(Slip::OfferedLate));
        core.offer.advance(Seq(durable.0.saturating_sub(late)));
        if self.core.shared.planted.has(Slip::UnsyncedOffer) {
            return look(core, core.offer.newest());
        }
        look(core, core.offer.current())
    }

    pub(super) fn known(&self) -> Result<CheckedAgainst, CoreError> {
        debug_assert_eq!(
            *self.core.place(),
            LineSelector::Main,
            "peers see the main line only"
        );
        self.core.look(|core, _| {
            Ok(CheckedAgainst {
                key: *core.key(),
                manifest: core.manifest().cloned(),
                line: core.main.shadow(),
                snapshot: self.core.shared.store.snapshot()?,
            })
        })
    }
}

impl CheckedAgainst {
    pub(super) const fn tree(&self) -> &MerkleTree {
        &self.line.head.tree
    }

    pub(super) fn nodes(&self) -> LineNodes<'_> {
        self.line.nodes(&*self.snapshot)
    }

    const fn receiver<'a, V>(
        &'a self,
        nodes: &'a LineNodes<'a>,
        verifier: &'a V,
    ) -> ProofReceiver<'a, LineNodes<'a>, V> {
        ProofReceiver {
            key: &self.key,
            manifest: self.manifest.as_ref(),
            tree: self.tree(),
            nodes,
            verifier,
        }
    }

    const fn version(&self) -> CheckedVersion {
        CheckedVersion {
            length: self.tree().length(),
            fork: self.tree().fork(),
            knows_manifest: self.manifest.is_some(),
        }
    }
}

/// The version of a core that a proof was checked against.
struct CheckedVersion {
    length: u64,
    fork: u64,
    knows_manifest: bool,
}

impl CheckedVersion {
    fn is_current(&self, core: &OpenCore) -> bool {
        let tree = &core.main.head.tree;
        tree.length() == self.length
            && tree.fork() == self.fork
            && core.manifest().is_some() == self.knows_manifest
    }
}

/// The tree of an upgrade from nothing, without its additional nodes.
fn first_tree(upgrade: &UpgradeProof, fork: u64) -> Option<MerkleTree> {
    let mut tree = MerkleTree::empty(fork);
    let mut added = Vec::new();
    for node in &upgrade.nodes {
        if tree.length() < upgrade.length && !tree.append_root(*node, &mut added) {
            return None;
        }
    }
    (tree.length() == upgrade.length).then_some(tree)
}
