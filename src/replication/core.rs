//! What replication needs of a core: reading it, and storing what was verified.

use std::ops::Range;

use crate::crypto::Verify;
use crate::env::Env;
use crate::hypercore::flat_tree;
use crate::hypercore::log::Log;
use crate::hypercore::manifest::Manifest;
use crate::hypercore::merkle::{MerkleTree, Seek};
use crate::hypercore::proof::{DataMessage, Proof, ProofError, Reorg, Request, RequestError};
use crate::hypercore::{CoreError, OfferedSnapshot, PeerAccess};

pub use crate::hypercore::LogState;

/// The answer of a core to a request.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "lives for a moment, on the stack")]
pub enum Answer {
    /// The proof.
    Proof(Proof),
    /// The block is not here.
    Absent,
    /// Tree nodes are not here that the proof needs. Nobody's fault.
    Incomplete,
    /// Nobody could prove that: the asker is to blame.
    Nonsense,
}

/// The outcome of a proof.
#[derive(Debug)]
pub enum ProofOutcome<T> {
    /// It was right.
    Done(T),
    /// It is about another fork, or the core changed meanwhile.
    Stale,
    /// It is wrong: the peer is to blame.
    Refused(ProofError),
}

/// A core as peers may see it, now or at one moment.
///
/// An own core shows only what is durable: a peer that has seen a signed length must never see another log of that
/// length. Errors are those of the store, and never the fault of a peer.
pub trait OfferedLog {
    /// Where it stands.
    ///
    /// # Errors
    /// When the core is closed.
    fn state(&self) -> Result<LogState, CoreError>;

    /// The manifest, if it is one that peers cannot make from the key.
    ///
    /// # Errors
    /// When the core is closed.
    fn offered_manifest(&self) -> Result<Option<Manifest>, CoreError>;

    /// Whether a block is here.
    ///
    /// # Errors
    /// When the core is closed.
    fn has(&self, index: u64) -> Result<bool, CoreError>;

    /// The first block of the range that is not here; its end when all are.
    ///
    /// # Errors
    /// When the core is closed.
    fn first_missing(&self, range: Range<u64>) -> Result<u64, CoreError>;

    /// Which blocks of the range are here: 32 to a word, the first in the lowest bit. Words of zero at the end are left
    /// out.
    ///
    /// # Errors
    /// When the core is closed.
    fn words(&self, range: Range<u64>) -> Result<Vec<u32>, CoreError>;

    /// Whether all roots of a shorter length are here, so that an upgrade from it can be proven.
    ///
    /// # Errors
    /// When the store failed.
    fn has_roots(&self, length: u64) -> Result<bool, CoreError>;

    /// How many levels a peer has to climb from a tree node to one that is here.
    ///
    /// # Errors
    /// When the store failed.
    fn missing_nodes(&self, node: u64) -> Result<u64, CoreError>;

    /// Bytes of a block, as far as a tree node that is here tells.
    ///
    /// # Errors
    /// When the store failed.
    fn stored_size(&self, index: u64) -> Result<Option<u64>, CoreError>;

    /// Where a byte offset lies.
    ///
    /// # Errors
    /// When the store failed.
    fn seek(&self, bytes: u64, padding: u64) -> Result<Seek, CoreError>;

    /// The other history of a core whose owner was found to contradict itself, as it proves that; none of any other core.
    ///
    /// # Errors
    /// When the core is closed.
    fn other_history(&self) -> Result<Option<DataMessage>, CoreError> {
        Ok(None)
    }

    /// Answers a request about our own fork.
    ///
    /// # Errors
    /// When the store failed.
    fn prove(&self, request: &Request, wants_manifest: bool) -> Result<Answer, CoreError>;
}

/// A core that takes what peers send.
///
/// Everything is synchronous; a store that waits for its disk stages what is stored here, and answers reads from what it
/// staged. Errors are those of the store, and never the fault of a peer.
pub trait ReplicatedLog: OfferedLog {
    /// Checks proofs, each by itself, and stores what they bring. Several at once are only blocks, without upgrades.
    /// Gives as many outcomes.
    ///
    /// # Errors
    /// When the store failed.
    fn accept(&mut self, proofs: &[&Proof]) -> Result<Vec<ProofOutcome<()>>, CoreError>;

    /// Compares the proof of a length that is here too, from the first block on. True when the owner signed two logs of
    /// this length and fork: from then on the core cannot be used.
    ///
    /// # Errors
    /// When the store failed.
    fn check_conflict(&mut self, proof: &Proof) -> Result<ProofOutcome<bool>, CoreError>;

    /// Starts a move to another fork with the proof of the whole of it.
    ///
    /// # Errors
    /// When the store failed.
    fn start_move(&mut self, proof: &Proof) -> Result<ProofOutcome<Reorg>, CoreError>;

    /// Takes a hash proof that a move wanted. False when it is of no use.
    ///
    /// # Errors
    /// When the store failed.
    fn advance_move(&mut self, reorg: &mut Reorg, proof: &Proof) -> Result<ProofOutcome<bool>, CoreError>;

    /// Applies a finished move. False, and nothing done, when the core changed meanwhile.
    ///
    /// # Errors
    /// When the store failed.
    fn finish_move(&mut self, reorg: Reorg) -> Result<bool, CoreError>;
}

/// A log in memory, for replicas that live there and for tests.
#[derive(Debug, Clone)]
pub struct MemoryCore<V> {
    /// The log.
    pub log: Log,
    /// Checks its signatures.
    pub verifier: V,
    contiguous: std::cell::Cell<u64>,
}

impl<V: Verify> MemoryCore<V> {
    /// Shows a log to peers.
    #[must_use]
    pub fn new(log: Log, verifier: V) -> Self {
        let contiguous = std::cell::Cell::new(log.contiguous_length().0);
        Self {
            log,
            verifier,
            contiguous,
        }
    }

    fn tree(&self) -> &MerkleTree {
        &self.log.head().tree
    }

    fn holds(&self, index: u64) -> bool {
        self.log.get(crate::wire::Index(index)).is_some()
    }
}

impl<V: Verify> OfferedLog for MemoryCore<V> {
    fn state(&self) -> Result<LogState, CoreError> {
        let tree = self.tree();
        // Counted on from the last time: a log in memory would count from the start.
        let mut contiguous = self.contiguous.get().min(tree.length());
        if contiguous > 0 && !self.holds(contiguous - 1) {
            contiguous = self.log.contiguous_length().0;
        }
        while contiguous < tree.length() && self.holds(contiguous) {
            contiguous += 1;
        }
        self.contiguous.set(contiguous);
        let manifest = self.log.manifest();
        Ok(LogState {
            fork: tree.fork(),
            length: tree.length(),
            byte_length: tree.byte_length(),
            contiguous,
            knows_manifest: manifest.is_some(),
            offers_manifest: manifest.is_some_and(|manifest| !manifest.is_compat(&self.log.key())),
            is_rewriting: false,
        })
    }

    fn offered_manifest(&self) -> Result<Option<Manifest>, CoreError> {
        let key = self.log.key();
        let manifest = self.log.manifest().filter(|manifest| !manifest.is_compat(&key));
        Ok(manifest.cloned())
    }

    fn has(&self, index: u64) -> Result<bool, CoreError> {
        Ok(self.holds(index))
    }

    fn first_missing(&self, mut range: Range<u64>) -> Result<u64, CoreError> {
        let end = range.end;
        Ok(range.find(|index| !self.holds(*index)).unwrap_or(end))
    }

    fn words(&self, range: Range<u64>) -> Result<Vec<u32>, CoreError> {
        let word = |start: u64| (0..32).fold(0, |word, bit| word | u32::from(self.holds(start + bit)) << bit);
        let mut words: Vec<u32> = range.step_by(32).map(word).collect();
        while words.pop_if(|word| *word == 0).is_some() {}
        Ok(words)
    }

    fn has_roots(&self, length: u64) -> Result<bool, CoreError> {
        Ok(flat_tree::full_roots(length).all(|root| self.log.nodes().contains_key(&root)))
    }

    fn missing_nodes(&self, node: u64) -> Result<u64, CoreError> {
        Ok(self.tree().missing_nodes(node, self.log.nodes())?)
    }

    fn stored_size(&self, index: u64) -> Result<Option<u64>, CoreError> {
        let is_here = index < self.tree().length();
        let leaf = self
            .tree()
            .node_if_stored(index.saturating_mul(2), self.log.nodes())?;
        Ok(leaf.filter(|_| is_here).map(|leaf| leaf.size))
    }

    fn seek(&self, bytes: u64, padding: u64) -> Result<Seek, CoreError> {
        Ok(self.tree().seek(bytes, padding, self.log.nodes())?)
    }

    fn prove(&self, request: &Request, wants_manifest: bool) -> Result<Answer, CoreError> {
        let proof = self.log.prove(request).map_err(CoreError::Request);
        let mut answer = answer_of(proof)?;
        if wants_manifest && let Answer::Proof(proof) = &mut answer {
            proof.manifest = self.offered_manifest()?;
        }
        Ok(answer)
    }
}

impl<V: Verify> ReplicatedLog for MemoryCore<V> {
    fn accept(&mut self, proofs: &[&Proof]) -> Result<Vec<ProofOutcome<()>>, CoreError> {
        let mut accept = |proof: &Proof| {
            let done = self.log.verify(&self.verifier, proof);
            outcome(done.map_err(CoreError::Proof).map(|done| done.then_some(())))
        };
        proofs.iter().map(|proof| accept(proof)).collect()
    }

    /// Only says so: nothing here would end.
    fn check_conflict(&mut self, proof: &Proof) -> Result<ProofOutcome<bool>, CoreError> {
        let reorg = match self.start_move(proof)? {
            ProofOutcome::Done(reorg) => reorg,
            ProofOutcome::Stale => return Ok(ProofOutcome::Stale),
            ProofOutcome::Refused(error) => return Ok(ProofOutcome::Refused(error)),
        };
        let (ours, theirs) = (self.tree(), &reorg.head().tree);
        let is_same = (theirs.fork(), theirs.length()) == (ours.fork(), ours.length());
        Ok(ProofOutcome::Done(is_same && theirs.hash() != ours.hash()))
    }

    fn start_move(&mut self, proof: &Proof) -> Result<ProofOutcome<Reorg>, CoreError> {
        let receiver = self.log.receiver(&self.verifier);
        outcome(Reorg::start(&receiver, proof).map_err(CoreError::Proof).map(Some))
    }

    fn advance_move(&mut self, reorg: &mut Reorg, proof: &Proof) -> Result<ProofOutcome<bool>, CoreError> {
        let receiver = self.log.receiver(&self.verifier);
        outcome(
            reorg
                .advance(&receiver, proof)
                .map_err(CoreError::Proof)
                .map(Some),
        )
    }

    fn finish_move(&mut self, reorg: Reorg) -> Result<bool, CoreError> {
        Ok(reorg.finish().is_some_and(|rewound| self.log.rewind(rewound)))
    }
}

impl<E: Env> OfferedLog for PeerAccess<'_, E> {
    fn state(&self) -> Result<LogState, CoreError> {
        self.offered_state()
    }

    fn offered_manifest(&self) -> Result<Option<Manifest>, CoreError> {
        self.offered_manifest()
    }

    fn has(&self, index: u64) -> Result<bool, CoreError> {
        self.has_offered(index)
    }

    fn first_missing(&self, range: Range<u64>) -> Result<u64, CoreError> {
        Ok(self
            .next_missing(range.start)?
            .clamp(range.start, range.end.max(range.start)))
    }

    fn words(&self, range: Range<u64>) -> Result<Vec<u32>, CoreError> {
        self.offered_words(range)
    }

    fn has_roots(&self, length: u64) -> Result<bool, CoreError> {
        self.has_roots(length)
    }

    fn missing_nodes(&self, node: u64) -> Result<u64, CoreError> {
        self.missing_nodes(node)
    }

    fn stored_size(&self, index: u64) -> Result<Option<u64>, CoreError> {
        self.stored_size(index)
    }

    fn seek(&self, bytes: u64, padding: u64) -> Result<Seek, CoreError> {
        self.seek_stored(bytes, padding)
    }

    fn other_history(&self) -> Result<Option<DataMessage>, CoreError> {
        self.other_history()
    }

    fn prove(&self, request: &Request, wants_manifest: bool) -> Result<Answer, CoreError> {
        answer_of(self.prove(request, wants_manifest))
    }
}

/// One moment, but for what is said of single blocks: those are here now.
impl<E: Env> OfferedLog for OfferedSnapshot<'_, E> {
    fn state(&self) -> Result<LogState, CoreError> {
        Ok(self.offered())
    }

    fn offered_manifest(&self) -> Result<Option<Manifest>, CoreError> {
        self.access().offered_manifest()
    }

    fn has(&self, index: u64) -> Result<bool, CoreError> {
        self.access().has_offered(index)
    }

    fn first_missing(&self, range: Range<u64>) -> Result<u64, CoreError> {
        self.access().first_missing(range)
    }

    fn words(&self, range: Range<u64>) -> Result<Vec<u32>, CoreError> {
        self.access().offered_words(range)
    }

    fn has_roots(&self, length: u64) -> Result<bool, CoreError> {
        self.access().has_roots(length)
    }

    fn missing_nodes(&self, node: u64) -> Result<u64, CoreError> {
        Self::missing_nodes(self, node)
    }

    fn stored_size(&self, index: u64) -> Result<Option<u64>, CoreError> {
        Self::stored_size(self, index)
    }

    fn seek(&self, bytes: u64, padding: u64) -> Result<Seek, CoreError> {
        self.access().seek_stored(bytes, padding)
    }

    fn prove(&self, request: &Request, wants_manifest: bool) -> Result<Answer, CoreError> {
        answer_of(Self::prove(self, request, wants_manifest))
    }
}

impl<E: Env> ReplicatedLog for PeerAccess<'_, E> {
    fn accept(&mut self, proofs: &[&Proof]) -> Result<Vec<ProofOutcome<()>>, CoreError> {
        let received = match proofs {
            [] => Vec::new(),
            [proof] => vec![self.receive(proof)],
            several => self.receive_blocks(several)?,
        };
        received
            .into_iter()
            .map(|received| outcome(received.map(|done| done.then_some(()))))
            .collect()
    }

    fn check_conflict(&mut self, proof: &Proof) -> Result<ProofOutcome<bool>, CoreError> {
        outcome(PeerAccess::check_conflict(self, proof).map(Some))
    }

    fn start_move(&mut self, proof: &Proof) -> Result<ProofOutcome<Reorg>, CoreError> {
        outcome(self.start_reorg(proof).map(Some))
    }

    fn advance_move(&mut self, reorg: &mut Reorg, proof: &Proof) -> Result<ProofOutcome<bool>, CoreError> {
        outcome(self.advance_reorg(reorg, proof).map(Some))
    }

    fn finish_move(&mut self, reorg: Reorg) -> Result<bool, CoreError> {
        self.finish_reorg(reorg)
    }
}

/// Sorts what went wrong with a request by who is to blame.
fn answer_of(result: Result<Option<Proof>, impl Into<CoreError>>) -> Result<Answer, CoreError> {
    match result.map_err(Into::into) {
        Ok(Some(proof)) => Ok(Answer::Proof(proof)),
        Ok(None) => Ok(Answer::Absent),
        Err(CoreError::Request(RequestError::Tree(error))) => match CoreError::from(error) {
            error @ (CoreError::Store(_) | CoreError::Read(_)) => Err(error),
            _ => Ok(Answer::Incomplete),
        },
        Err(CoreError::Request(_)) => Ok(Answer::Nonsense),
        Err(error) => Err(error),
    }
}

/// Sorts what went wrong with a proof by who is to blame.
fn outcome<T>(result: Result<Option<T>, CoreError>) -> Result<ProofOutcome<T>, CoreError> {
    match result {
        Ok(Some(done)) => Ok(ProofOutcome::Done(done)),
        Ok(None) => Ok(ProofOutcome::Stale),
        Err(CoreError::Proof(error)) if error.blames_peer() => Ok(ProofOutcome::Refused(error)),
        Err(error) => Err(error),
    }
}
