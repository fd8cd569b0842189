//! One log in memory: what its owner appends and signs, and what others have verified of it.
//!
//! Nothing here is durable. Cores that survive a crash keep the same state in a store; this one serves replicas that
//! live in memory, and tests as the obvious model.
//!
//! Source: spec/hypercore.md 6 and 7.

use std::collections::BTreeMap;

use bytes::Bytes;
use thiserror::Error;

use super::manifest::{Manifest, Prologue, SignError};
use super::merkle::{self, MerkleTree, Node, TreeError};
use super::proof::{
    Accepted, Head, Proof, ProofError, ProofReceiver, ProofSource, Request, RequestError, Rewound,
};
use crate::crypto::{self, CoreKey, DiscoveryKey, KeyPair, Sign, Verify};
use crate::wire::{Index, Length};

/// The largest block that may be appended, padding included.
pub const BLOCK_SIZE_MAX: usize = 15 * 1024 * 1024;

/// A log in memory.
///
/// ```
/// use autobee::crypto::{Ed25519, Seed, Sign as _};
/// use autobee::hypercore::log::Log;
/// use autobee::wire::Index;
///
/// let mut log = Log::create(Ed25519.key_pair(&Seed::new([7; 32])));
/// log.append(&Ed25519, [b"hello".to_vec(), b"world".to_vec()])?;
///
/// let mut copy = Log::replica(log.key());
/// copy.accept(&Ed25519, log.export(copy.length()))?;
/// assert_eq!(copy.get(Index(1)).unwrap(), "world");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Log {
    key: CoreKey,
    manifest: Option<Manifest>,
    key_pair: Option<KeyPair>,
    head: Head,
    nodes: BTreeMap<u64, Node>,
    blocks: BTreeMap<u64, Bytes>,
}

/// A run of blocks up to the end of a log, with what a replica needs to check them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRange {
    /// The manifest. None for compat cores, whose manifest follows from the key.
    pub manifest: Option<Manifest>,
    /// Fork of the log.
    pub fork: u64,
    /// Length before the first block.
    pub start: Length,
    /// The blocks, up to the signed length.
    pub blocks: Vec<Bytes>,
    /// The signature over the log with these blocks.
    pub signature: Option<Bytes>,
}

/// The owner of a log asked for something that cannot be done.
#[derive(Debug, Clone, Error)]
pub enum LogError {
    /// There is no key pair.
    #[error("the log is not writable")]
    NotWritable,
    /// A block is too large.
    #[error("a block of {0} bytes is too large")]
    BlockTooLarge(usize),
    /// The blocks are not those that the manifest fixes, or too few of them would stay.
    #[error("the first {0} blocks are fixed by the manifest")]
    Prologue(u64),
    /// The key pair is no signer of the manifest.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A length beyond the end, or a node that is not there.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// A range of blocks is refused. Nothing was changed.
#[derive(Debug, Clone, Error)]
pub enum RangeError {
    /// The range does not join the blocks that are here. Nobody's fault: ask again from this length and fork.
    #[error("a range from length {start} at fork {fork} does not join a log of length {length}")]
    Gap {
        /// Start of the range.
        start: Length,
        /// Fork of the range.
        fork: u64,
        /// Local length.
        length: Length,
    },
    /// The range is wrong.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl RangeError {
    /// True when the peer that sent the range is to blame.
    #[must_use]
    pub const fn blames_peer(&self) -> bool {
        match self {
            Self::Gap { .. } => false,
            Self::Proof(error) => error.blames_peer(),
        }
    }
}

impl Log {
    // Making one.

    /// An empty log with the default manifest of a key pair.
    #[must_use]
    pub fn create(key_pair: KeyPair) -> Self {
        let manifest = Manifest::single(key_pair.public);
        Self::with_manifest(manifest, Some(key_pair))
    }

    /// An empty log of any manifest. It can be written with the key pair of a signer, or, when its content is fixed by
    /// a prologue and nobody signs, without one.
    #[must_use]
    pub fn with_manifest(manifest: Manifest, key_pair: Option<KeyPair>) -> Self {
        let mut log = Self::replica(manifest.key());
        log.manifest = Some(manifest);
        log.key_pair = key_pair;
        log
    }

    /// An empty log whose key is the public key of its signer.
    #[must_use]
    pub fn compat(key_pair: KeyPair) -> Self {
        let mut log = Self::replica(CoreKey::new(*key_pair.public.as_bytes()));
        log.manifest = Some(Manifest::single(key_pair.public));
        log.key_pair = Some(key_pair);
        log
    }

    /// An empty copy of somebody's log, of which only the key is known.
    #[must_use]
    pub fn replica(key: CoreKey) -> Self {
        Self {
            key,
            manifest: None,
            key_pair: None,
            head: Head::default(),
            nodes: BTreeMap::new(),
            blocks: BTreeMap::new(),
        }
    }

    // Reading.

    /// The key of the core.
    #[must_use]
    pub const fn key(&self) -> CoreKey {
        self.key
    }

    /// Its public name.
    #[must_use]
    pub fn discovery_key(&self) -> DiscoveryKey {
        crypto::discovery_key(&self.key)
    }

    /// The manifest, once known.
    #[must_use]
    pub const fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Number of blocks.
    #[must_use]
    pub const fn length(&self) -> Length {
        Length(self.head.tree.length())
    }

    /// How often it was truncated.
    #[must_use]
    pub const fn fork(&self) -> u64 {
        self.head.tree.fork()
    }

    /// The tree and its signature.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The stored tree nodes.
    #[must_use]
    pub const fn nodes(&self) -> &BTreeMap<u64, Node> {
        &self.nodes
    }

    /// A block, if it is here.
    #[must_use]
    pub fn get(&self, index: Index) -> Option<&Bytes> {
        self.blocks.get(&index.0)
    }

    /// Number of leading blocks that are here.
    #[must_use]
    pub fn contiguous_length(&self) -> Length {
        let leading = (0..).zip(self.blocks.keys());
        Length(leading.take_while(|(at, block)| at == *block).count() as u64)
    }

    // Writing.

    /// Appends blocks under one signature, and gives the new length. No blocks: nothing happens.
    ///
    /// # Errors
    /// When the log is not ours to write, or a block is too large.
    pub fn append<B: Into<Bytes>>(
        &mut self,
        crypto: &impl Sign,
        blocks: impl IntoIterator<Item = B>,
    ) -> Result<Length, LogError> {
        let blocks: Vec<Bytes> = blocks.into_iter().map(Into::into).collect();
        if blocks.is_empty() {
            return Ok(self.length());
        }
        let mut tree = self.head.tree.clone();
        let mut added = Vec::new();
        for block in &blocks {
            if block.len() > BLOCK_SIZE_MAX {
                return Err(LogError::BlockTooLarge(block.len()));
            }
            tree.append(block, &mut added);
            if self
                .prologue()
                .is_some_and(|prologue| prologue.length == tree.length())
            {
                self.check_prologue(&tree)?;
            }
        }
        self.check_prologue(&tree)?;
        let signature = self.sign(crypto, &tree)?;
        let start = self.head.tree.length();
        self.blocks.extend((start..).zip(blocks));
        self.nodes
            .extend(added.into_iter().map(|node| (node.index, node)));
        self.head = Head { tree, signature };
        Ok(self.length())
    }

    /// Cuts the log to `length` blocks at another fork, by default the next one.
    ///
    /// # Errors
    /// When the log is not ours to write, `length` is beyond the end, or in a part that the manifest fixes.
    pub fn truncate(
        &mut self,
        crypto: &impl Sign,
        length: Length,
        fork: Option<u64>,
    ) -> Result<(), LogError> {
        let fork = fork.unwrap_or_else(|| self.fork().saturating_add(1));
        let tree = self.head.tree.truncated(length.0, fork, &self.nodes)?;
        self.check_prologue(&tree)?;
        let signature = self.sign(crypto, &tree)?;
        self.forget_from(length.0);
        self.head = Head { tree, signature };
        Ok(())
    }

    /// Drops local blocks, but keeps the length and the tree.
    pub fn clear(&mut self, start: Index, end: Index) {
        self.blocks.retain(|&block, _| block < start.0 || block >= end.0);
    }

    // Copying whole runs of blocks.

    /// The blocks from `start` on, for a replica that has those before. The signature covers the whole log, so the
    /// range always reaches its end; a replica refuses one with holes.
    #[must_use]
    pub fn export(&self, start: Length) -> LogRange {
        let is_compat = self
            .manifest
            .as_ref()
            .is_some_and(|manifest| manifest.is_compat(&self.key));
        LogRange {
            manifest: self.manifest.clone().filter(|_| !is_compat),
            fork: self.fork(),
            start,
            blocks: self
                .blocks
                .range(start.0..)
                .map(|(_, block)| block.clone())
                .collect(),
            signature: self.head.signature.clone(),
        }
    }

    /// Verifies a range and stores it. Gives the new length. A range of a higher fork that starts at 0 replaces the
    /// whole log; one that brings nothing new changes nothing.
    ///
    /// # Errors
    /// When the range does not join what is here, or is not signed by the owner.
    pub fn accept(&mut self, verifier: &impl Verify, range: LogRange) -> Result<Length, RangeError> {
        let local = &self.head.tree;
        let is_rewound = range.fork > local.fork() && range.start == Length::ZERO;
        if !is_rewound && (range.fork != local.fork() || range.start.0 > local.length()) {
            return Err(RangeError::Gap {
                start: range.start,
                fork: range.fork,
                length: self.length(),
            });
        }
        let mut tree = if is_rewound {
            MerkleTree::empty(range.fork)
        } else {
            local.clone()
        };
        let known = tree.length().saturating_sub(range.start.0);
        let new: Vec<Bytes> = range
            .blocks
            .into_iter()
            .skip(usize::try_from(known).unwrap_or(usize::MAX))
            .collect();
        if new.is_empty() {
            return Ok(self.length());
        }
        let start = tree.length();
        let mut added = Vec::new();
        for block in &new {
            tree.append(block, &mut added);
        }
        let receiver = self.receiver(verifier);
        let learnt = receiver.authorize(range.manifest.as_ref(), &tree, range.signature.as_ref())?;
        if is_rewound {
            self.forget_from(0);
        }
        self.blocks.extend((start..).zip(new));
        self.nodes
            .extend(added.into_iter().map(|node| (node.index, node)));
        self.manifest = learnt.or_else(|| self.manifest.take());
        self.head = Head {
            tree,
            signature: range.signature,
        };
        Ok(self.length())
    }

    // Proofs.

    /// Answers a request. None when it is about a block that is not here.
    ///
    /// # Errors
    /// When the request makes no sense, or a node that it needs is not here.
    pub fn prove(&self, request: &Request) -> Result<Option<Proof>, RequestError> {
        let mut proof = self.source().prove(request)?;
        if let Some(block) = &mut proof.block {
            match self.blocks.get(&block.index) {
                Some(value) => block.value = value.clone(),
                None => return Ok(None),
            }
        }
        Ok(Some(proof))
    }

    /// What proofs are made from.
    #[must_use]
    pub fn source(&self) -> ProofSource<'_, BTreeMap<u64, Node>> {
        ProofSource {
            tree: &self.head.tree,
            nodes: &self.nodes,
            prologue_length: self.prologue().map_or(0, |prologue| prologue.length),
            signature: self.head.signature.as_ref(),
        }
    }

    /// What proofs are checked against.
    pub const fn receiver<'a, V: Verify>(
        &'a self,
        verifier: &'a V,
    ) -> ProofReceiver<'a, BTreeMap<u64, Node>, V> {
        ProofReceiver {
            key: &self.key,
            manifest: self.manifest.as_ref(),
            tree: &self.head.tree,
            nodes: &self.nodes,
            verifier,
        }
    }

    /// Checks a proof of this fork and stores what it brings. False when it is about another fork.
    ///
    /// # Errors
    /// When the proof is wrong.
    pub fn verify(&mut self, verifier: &impl Verify, proof: &Proof) -> Result<bool, ProofError> {
        let Some(accepted) = self.receiver(verifier).check(proof)? else {
            return Ok(false);
        };
        self.store(accepted);
        Ok(true)
    }

    /// Stores what a proof brought. Nothing may have changed since it was checked against this log.
    pub fn store(&mut self, accepted: Accepted) {
        let Accepted {
            nodes,
            block,
            manifest,
            head,
        } = accepted;
        self.nodes
            .extend(nodes.into_iter().map(|node| (node.index, node)));
        self.blocks.extend(block);
        self.manifest = manifest.or_else(|| self.manifest.take());
        self.head = head.unwrap_or_else(|| self.head.clone());
    }

    /// Moves to another fork. False, and nothing done, when the log changed since the move began.
    pub fn rewind(&mut self, rewound: Rewound) -> bool {
        if rewound.old_length != self.length().0 || rewound.old_fork != self.fork() {
            return false;
        }
        self.forget_from(rewound.ancestors);
        for node in rewound.nodes {
            self.nodes.insert(node.index, node);
        }
        self.manifest = rewound.manifest.or_else(|| self.manifest.take());
        self.head = rewound.head;
        true
    }

    fn prologue(&self) -> Option<&Prologue> {
        self.manifest.as_ref().and_then(Manifest::prologue)
    }

    /// The reference appends anything in front of the end of a prologue; all its peers then refuse the log.
    fn check_prologue(&self, tree: &MerkleTree) -> Result<(), LogError> {
        match self.prologue() {
            Some(prologue)
                if tree.length() < prologue.length
                    || (tree.length() == prologue.length && tree.hash() != prologue.hash) =>
            {
                Err(LogError::Prologue(prologue.length))
            }
            _ => Ok(()),
        }
    }

    fn sign(&self, crypto: &impl Sign, tree: &MerkleTree) -> Result<Option<Bytes>, LogError> {
        let manifest = self.manifest.as_ref().ok_or(LogError::NotWritable)?;
        match &self.key_pair {
            Some(pair) => {
                let signature = manifest.sign(crypto, &self.key, pair, &tree.head())?;
                Ok(Some(signature.into()))
            }
            // The manifest itself vouches for exactly the prologue.
            None if self
                .prologue()
                .is_some_and(|prologue| prologue.length == tree.length()) =>
            {
                Ok(None)
            }
            None => Err(LogError::NotWritable),
        }
    }

    fn forget_from(&mut self, length: u64) {
        drop(self.blocks.split_off(&length));
        for parent in merkle::truncated_parents(length, self.head.tree.length()) {
            self.nodes.remove(&parent);
        }
        drop(self.nodes.split_off(&length.saturating_mul(2)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519, PublicKey, Seed};

    fn log() -> Log {
        Log::create(Ed25519.key_pair(&Seed::new([3; 32])))
    }

    fn counted(count: u8) -> impl Iterator<Item = Vec<u8>> {
        (0..count).map(|at| vec![at; usize::from(at)])
    }

    #[test]
    fn a_replica_catches_up_in_steps() {
        let mut log = log();
        let mut copy = Log::replica(log.key());
        for count in [1, 2, 5] {
            log.append(&Ed25519, counted(count)).unwrap();
            let length = copy.accept(&Ed25519, log.export(copy.length())).unwrap();
            assert_eq!(length, log.length());
        }
        assert_eq!(copy.head(), log.head());
        // Overlap is fine, a gap is nobody's fault.
        assert_eq!(copy.accept(&Ed25519, log.export(Length(3))).unwrap(), Length(8));
        let mut late = Log::replica(log.key());
        let gap = late.accept(&Ed25519, log.export(Length(3))).unwrap_err();
        assert!(!gap.blames_peer(), "{gap}");
    }

    #[test]
    fn a_changed_range_blames_the_peer() {
        let mut log = log();
        log.append(&Ed25519, counted(5)).unwrap();
        let good = log.export(Length::ZERO);
        let mut bad = vec![good; 4];
        bad[0].blocks[2] = Bytes::from_static(b"other");
        bad[1].blocks.pop();
        bad[2].signature = None;
        bad[3].manifest = Some(Manifest::single(PublicKey::new([1; 32])));
        for range in bad {
            let mut copy = Log::replica(log.key());
            let error = copy.accept(&Ed25519, range).unwrap_err();
            assert!(error.blames_peer(), "{error}");
            assert_eq!((copy.length(), copy.nodes().len()), (Length::ZERO, 0));
        }
    }

    #[test]
    fn a_rewritten_log_replaces_its_copy() {
        let mut log = log();
        log.append(&Ed25519, counted(6)).unwrap();
        let mut copy = Log::replica(log.key());
        copy.accept(&Ed25519, log.export(Length::ZERO)).unwrap();
        log.truncate(&Ed25519, Length(2), None).unwrap();
        log.append(&Ed25519, [b"new".to_vec()]).unwrap();
        assert!(copy.accept(&Ed25519, log.export(Length(2))).is_err());
        copy.accept(&Ed25519, log.export(Length::ZERO)).unwrap();
        assert_eq!(
            (copy.head(), copy.fork(), copy.length()),
            (log.head(), 1, Length(3))
        );
        assert_eq!(copy.nodes(), log.nodes());
    }

    #[test]
    fn a_prologue_admits_only_its_blocks() {
        let mut source = log();
        source.append(&Ed25519, counted(3)).unwrap();
        let prologue = Prologue {
            hash: source.head().tree.hash(),
            length: 3,
        };
        let manifest = Manifest::new(crate::hypercore::manifest::ManifestOptions {
            prologue: Some(prologue),
            ..Default::default()
        })
        .unwrap();
        let mut fixed = Log::with_manifest(manifest, None);
        assert!(fixed.append(&Ed25519, counted(2)).is_err());
        assert!(
            fixed
                .append(&Ed25519, [b"a", b"b", b"c"].map(|block| block.to_vec()))
                .is_err()
        );
        fixed.append(&Ed25519, counted(3)).unwrap();
        assert!(fixed.append(&Ed25519, counted(1)).is_err());
        let mut copy = Log::replica(fixed.key());
        assert_eq!(
            copy.accept(&Ed25519, fixed.export(Length::ZERO)).unwrap(),
            Length(3)
        );
    }
}
