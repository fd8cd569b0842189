//! Where the trees stand, as the store says it, and what is to be written so that it says so again.
//!
//! What was applied is written in one commit: the new blocks of both trees, and the head of the system tree, from which
//! all the rest can be read. It is derived from the logs of the writers and comes after them, so a crash leaves a
//! state that these logs lead to, and what was lost is applied again. Nothing waits for its sync.
//!
//! Source: spec/autobee.md 3.1, 3.2, 3.6.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::apply::LocalTree;
use crate::crypto::{CoreKey, Verify, hash};
use crate::engine::{Checkpoint, Engine, Trees};
use crate::hypercore::CoreError;
use crate::store::Seq;
use crate::wire::{Decode as _, DecodeError, Decoder, Encode, EncodeError, Encoder, Length, Link};

/// Where the head of the system tree is kept: with the core of the local writer.
pub(in crate::db) const BOOT: &str = "autobee/head";

/// Which forks of the writers' cores led there, kept in the same place: a name of our own. What was applied is taken up
/// again only if nobody rewrote his log since.
pub(in crate::db) const FORKS: &str = "autobee/forks";

/// From where the order can be taken up without what came before, newest first, behind a hash of it all, kept in the
/// same place: a name of our own.
pub(in crate::db) const CHECKPOINTS: &str = "autobee/checkpoints";

/// How much of each log need not be here, because what was applied goes on from the trees of another writer, kept in the same
/// place: a name of our own.
pub(super) const PASSED_OVER: &str = "autobee/passed-over";

/// Which version of the user's apply made it, kept in the same place: a name of our own. Where there is none, version 0.
const APPLY_VERSION: &str = "autobee/apply-version";

/// How long the cores of both trees were when the trees were begun anew, system first, kept in the same place: a name of our own.
/// Nothing that counts is in blocks before.
const TREES_FROM: &str = "autobee/trees-from";

/// All of these: they go with the local writer when its core is another one.
pub(in crate::db) const KEPT_WITH_LOCAL: [&str; 6] =
    [BOOT, FORKS, CHECKPOINTS, APPLY_VERSION, PASSED_OVER, TREES_FROM];

/// Bytes that are to be written in one commit, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreeCommit {
    /// Blocks behind the end of the core of the system tree, whose signature is put off.
    pub system: Vec<Bytes>,
    /// The same of the view.
    pub view: Vec<Bytes>,
    /// Values that are kept with the core of the local writer; none: erased.
    pub values: Vec<(&'static str, Option<Bytes>)>,
    /// Blocks of the local writer, to be signed. They are shown to peers once the commit is durable.
    pub own: Vec<Bytes>,
}

/// What a commit came to: how long the cores are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeLengths {
    /// The core of the system tree.
    pub system: Length,
    /// The core of the view.
    pub view: Length,
    /// The log of the local writer, when it got blocks.
    pub own: Option<Length>,
    /// The commit.
    pub seq: Seq,
}

/// Where the trees stand, and what that rests on.
#[derive(Debug, Clone, Default)]
struct Stored {
    /// The head of the system tree.
    boot: Option<Link>,
    /// The forks of the logs that led there.
    forks: BTreeMap<CoreKey, u64>,
    /// Which checkpoints there are, by [`Engine::moves`]; none when they are of an earlier opening.
    moves: Option<u64>,
    /// The version of apply that led there.
    apply_version: u64,
    /// Leading blocks of logs that need not be here.
    passed_over: BTreeMap<CoreKey, Length>,
    /// How long the cores of both trees were when these were begun anew, system first.
    trees_from: [Length; 2],
}

/// From which version of apply to which the trees are made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db) struct ApplyChange {
    /// The version that made the trees that are stored.
    pub(in crate::db) from: u64,
    /// The version that makes them anew.
    pub(in crate::db) to: u64,
}

/// What the store says of the trees, and what it does not have yet.
pub struct TreeRecord {
    trees: Trees,
    stored: Stored,
    /// The version of apply that goes on.
    apply_version: u64,
    /// Leading blocks of logs that need not be here, as it is now.
    passed_over: BTreeMap<CoreKey, Length>,
    /// As it is now.
    trees_from: [Length; 2],
    /// Blocks of the trees that are stored were damaged: these are made anew, by whatever version.
    is_damaged: bool,
    /// The store says something that cannot be so: to be erased before anything is written that could be taken for it.
    is_void: bool,
    /// What the write that is under way makes of it.
    writing: Option<Stored>,
    /// The core of the system tree had blocks at the opening.
    had_blocks: bool,
}

impl TreeRecord {
    /// Of trees whose record is stored like this; nothing, when they are.
    ///
    /// # Errors
    ///
    /// With the name of the value that does not decode.
    pub fn new(
        trees: Trees,
        boot: Option<Bytes>,
        forks: Option<Bytes>,
    ) -> Result<Self, (&'static str, DecodeError)> {
        let boot = boot.map(|bytes| Link::from_bytes(&bytes));
        let forks = forks.map(|bytes| decode_forks(&bytes));
        Ok(Self {
            stored: Stored {
                boot: boot.transpose().map_err(|error| (BOOT, error))?,
                forks: forks
                    .transpose()
                    .map_err(|error| (FORKS, error))?
                    .unwrap_or_default(),
                moves: None,
                apply_version: 0,
                passed_over: BTreeMap::new(),
                trees_from: [Length::ZERO; 2],
            },
            apply_version: 0,
            passed_over: BTreeMap::new(),
            trees_from: [Length::ZERO; 2],
            is_damaged: false,
            is_void: false,
            writing: None,
            had_blocks: trees.system.length() > Length::ZERO,
            trees,
        })
    }

    /// Takes note of the version of apply that goes on, and of the one that led there, as it is stored under
    /// [`APPLY_VERSION`]. What cannot be read is no version of now.
    pub(in crate::db) fn set_apply_version(&mut self, version: u64, stored: Option<&Bytes>) {
        self.apply_version = version;
        self.stored.apply_version = match stored.map(|bytes| <[u8; 8]>::try_from(&bytes[..])) {
            None => 0,
            Some(Ok(bytes)) => u64::from_le_bytes(bytes),
            Some(Err(_)) => version.wrapping_add(1),
        };
    }

    /// Takes note of the logs that need not be here from their start, as it is stored under [`PASSED_OVER`].
    ///
    /// # Errors
    ///
    /// With the name of the value, when it does not decode.
    pub(in crate::db) fn set_passed_over(
        &mut self,
        stored: Option<&Bytes>,
    ) -> Result<(), (&'static str, DecodeError)> {
        if let Some(bytes) = stored {
            let mut from = Decoder::new(bytes);
            let lengths = crate::engine::map(&mut from).map_err(|error| (PASSED_OVER, error))?;
            self.stored.passed_over.clone_from(&lengths);
            self.passed_over = lengths;
        }
        Ok(())
    }

    /// Takes note of where the trees begin in their cores, as it is stored under [`TREES_FROM`].
    ///
    /// # Errors
    ///
    /// With the name of the value, when it does not decode.
    pub(in crate::db) fn set_trees_from(
        &mut self,
        stored: Option<&Bytes>,
    ) -> Result<(), (&'static str, DecodeError)> {
        if let Some(bytes) = stored {
            let mut from = Decoder::new(bytes);
            let lengths = from.uint().and_then(|system| Ok([system, from.uint()?]));
            let lengths = lengths.map_err(|error| (TREES_FROM, error))?;
            self.stored.trees_from = lengths.map(Length);
            self.trees_from = self.stored.trees_from;
        }
        Ok(())
    }

    /// How long the cores of both trees were when the trees were begun anew, system first.
    pub(in crate::db) const fn trees_from(&self) -> [Length; 2] {
        self.trees_from
    }

    /// Has the trees made anew, as blocks of those that are stored were damaged.
    pub(in crate::db) const fn distrust_trees(&mut self) {
        self.is_damaged = true;
        self.distrust_apply();
    }

    /// True when blocks of the trees that are stored were damaged.
    pub(in crate::db) const fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// How many leading blocks of a log need not be here.
    pub(in crate::db) fn passed_over(&self, log: &CoreKey) -> Length {
        self.passed_over.get(log).copied().unwrap_or_default()
    }

    /// The version of the system tree up to which everything is stored.
    pub(in crate::db) const fn boot(&self) -> Option<Link> {
        self.stored.boot
    }

    /// True when logs need not be here from their start.
    pub(in crate::db) fn passes_over(&self) -> bool {
        !self.passed_over.is_empty()
    }

    /// Nothing that was applied is gone on from: logs are needed from their start.
    pub(in crate::db) fn start_over(&mut self) {
        self.passed_over.clear();
    }

    /// So many leading blocks of logs need not be here from now on.
    pub(super) fn pass_over(&mut self, lengths: BTreeMap<CoreKey, Length>) {
        self.passed_over = lengths;
    }

    /// Has what is stored count as made by another version of apply.
    pub(in crate::db) const fn distrust_apply(&mut self) {
        self.stored.apply_version = self.apply_version.wrapping_add(1);
    }

    /// What is made anew because another version of apply made it, or because it was damaged, until that is stored; none when
    /// nothing is.
    pub(in crate::db) fn rebuild(&self) -> Option<ApplyChange> {
        let (from, to) = (self.stored.apply_version, self.apply_version);
        let has_trees = self.stored.boot.is_some() || self.had_blocks;
        (has_trees && from != to).then_some(ApplyChange {
            from: if self.is_damaged { to } else { from },
            to,
        })
    }

    /// From where an engine can go on, newest first, by what is stored under [`CHECKPOINTS`]. Nowhere when a log was
    /// rewritten since, or another version of apply led there. None when it was stored by another version of this software, or is damaged: then everything is
    /// ordered from the start.
    pub(in crate::db) fn checkpoints(
        &self,
        stored: Option<Bytes>,
        forks: &BTreeMap<CoreKey, u64>,
    ) -> Option<Vec<Checkpoint>> {
        let is_good = self.stored.forks == *forks && self.stored.apply_version == self.apply_version;
        match stored.filter(|_| is_good) {
            Some(bytes) => decode_checkpoints(&bytes),
            None => Some(Vec::new()),
        }
    }

    /// Tells an engine what was applied before. What cannot be read is applied anew, and written behind the end.
    /// `is_as_stored` when it goes on from the newest checkpoint that the store has.
    pub(in crate::db) fn resume<V: Verify>(
        &mut self,
        engine: &mut Engine<V>,
        forks: &BTreeMap<CoreKey, u64>,
        is_as_stored: bool,
    ) {
        if self.stored.apply_version != self.apply_version {
            // What this version makes is written behind it, and counts once it is complete.
            self.trees_from = [&self.trees.system, &self.trees.view].map(LocalTree::length);
            self.is_void = self.stored.boot.take().is_some();
            return;
        }
        if self.stored.forks == *forks {
            if let Some(boot) = self.stored.boot {
                self.is_void = engine.resume_from(boot).is_err();
            }
            self.stored.moves = is_as_stored.then(|| engine.moves());
        }
        self.is_void |= !is_as_stored;
        if self.is_void {
            self.stored.boot = None;
        }
    }

    /// True when what the store says of them cannot be gone on from.
    pub(in crate::db) const fn is_void(&self) -> bool {
        self.is_void
    }

    /// True when the store does not have all blocks, or has another head than this.
    pub(super) fn has_news<V: Verify>(&self, forks: &BTreeMap<CoreKey, u64>, engine: &Engine<V>) -> bool {
        let has_blocks = self.trees.system.kept() > 0 || self.trees.view.kept() > 0;
        has_blocks || (engine.is_settled() && self.is_elsewhere(forks, engine))
    }

    fn is_elsewhere<V: Verify>(&self, forks: &BTreeMap<CoreKey, u64>, engine: &Engine<V>) -> bool {
        let head = engine.records().head();
        let has_moved = match self.stored.boot {
            Some(boot) => boot != head,
            None => head.length > Length::ZERO,
        };
        has_moved
            || self.stored.forks != *forks
            || self.stored.moves != Some(engine.moves())
            || self.stored.apply_version != self.apply_version
            || self.stored.passed_over != self.passed_over
            || self.stored.trees_from != self.trees_from
    }

    /// What is new, and where the system tree stands. Give what came of it to [`TreeRecord::saved`].
    ///
    /// The logs that led there must be in the store already, or come with the same commit. While the engine is on its way
    /// from an earlier place, what the store says stays: it leads to the same end, and is not behind it.
    pub(super) fn write<V: Verify>(
        &mut self,
        forks: &BTreeMap<CoreKey, u64>,
        engine: &mut Engine<V>,
    ) -> Result<TreeCommit, CoreError> {
        let mut write = TreeCommit {
            system: self.trees.system.unsaved(),
            view: self.trees.view.unsaved(),
            ..TreeCommit::default()
        };
        self.writing = None;
        if self.is_void {
            write.values.extend([BOOT, CHECKPOINTS].map(|name| (name, None)));
            self.writing = Some(Stored {
                moves: None,
                ..self.stored.clone()
            });
        }
        if !engine.is_settled() {
            return Ok(write);
        }
        let stored = Stored {
            boot: Some(engine.records().head()),
            forks: forks.clone(),
            moves: Some(engine.moves()),
            apply_version: self.apply_version,
            passed_over: self.passed_over.clone(),
            trees_from: self.trees_from,
        };
        if stored.trees_from != self.stored.trees_from {
            let from = encode_trees_from(stored.trees_from)?;
            write.values.push((TREES_FROM, Some(from)));
        }
        if stored.passed_over != self.stored.passed_over {
            let bytes = encode_passed_over(&stored.passed_over)?;
            write.values.push((PASSED_OVER, bytes));
        }
        if stored.apply_version != self.stored.apply_version {
            let version = stored.apply_version.to_le_bytes();
            write
                .values
                .push((APPLY_VERSION, Some(Bytes::copy_from_slice(&version))));
        }
        if stored.forks != self.stored.forks {
            write.values.push((FORKS, Some(encode_forks(&stored.forks)?)));
        }
        if stored.moves != self.stored.moves {
            let checkpoints = encode_checkpoints(engine.checkpoints())?;
            write.values.push((CHECKPOINTS, checkpoints));
        }
        if stored.boot != self.stored.boot {
            let boot = engine.records().head().to_bytes().map_err(unwritable)?;
            write.values.push((BOOT, Some(boot.into())));
        }
        self.writing = Some(stored);
        Ok(write)
    }

    /// Takes note of a commit.
    pub(super) fn saved(&mut self, written: &TreeLengths) {
        self.trees.system.saved(written.system);
        self.trees.view.saved(written.view);
        if let Some(stored) = self.writing.take() {
            self.stored = stored;
            self.is_void = false;
        }
    }
}

fn decode_forks(bytes: &[u8]) -> Result<BTreeMap<CoreKey, u64>, DecodeError> {
    let mut from = Decoder::new(bytes);
    let forks = from.array(|from| Ok((CoreKey::decode(from)?, from.uint()?)))?;
    Ok(forks.into_iter().collect())
}

fn encode_forks(forks: &BTreeMap<CoreKey, u64>) -> Result<Bytes, CoreError> {
    struct Forks(Vec<(CoreKey, u64)>);
    impl Encode for Forks {
        fn encode(&self, to: &mut Encoder) {
            to.array(&self.0, |(key, fork), to| {
                key.encode(to);
                to.uint(*fork);
            });
        }
    }
    let forks = Forks(forks.iter().map(|(key, fork)| (*key, *fork)).collect());
    Ok(forks.to_bytes().map_err(unwritable)?.into())
}

/// None when there are none.
fn encode_passed_over(lengths: &BTreeMap<CoreKey, Length>) -> Result<Option<Bytes>, CoreError> {
    struct PassedOver<'a>(&'a BTreeMap<CoreKey, Length>);
    impl Encode for PassedOver<'_> {
        fn encode(&self, to: &mut Encoder) {
            crate::engine::pairs(to, self.0);
        }
    }
    if lengths.is_empty() {
        return Ok(None);
    }
    Ok(Some(PassedOver(lengths).to_bytes().map_err(unwritable)?.into()))
}

fn encode_trees_from(lengths: [Length; 2]) -> Result<Bytes, CoreError> {
    struct TreesFrom([Length; 2]);
    impl Encode for TreesFrom {
        fn encode(&self, to: &mut Encoder) {
            for length in self.0 {
                to.uint(length.0);
            }
        }
    }
    Ok(TreesFrom(lengths).to_bytes().map_err(unwritable)?.into())
}

/// None when there are none.
fn encode_checkpoints(checkpoints: Vec<Checkpoint>) -> Result<Option<Bytes>, CoreError> {
    struct Checkpoints(Vec<Checkpoint>);
    impl Encode for Checkpoints {
        fn encode(&self, to: &mut Encoder) {
            to.array(&self.0, |checkpoint, to| checkpoint.encode(to));
        }
    }
    if checkpoints.is_empty() {
        return Ok(None);
    }
    let bytes = Checkpoints(checkpoints).to_bytes().map_err(unwritable)?;
    let sum = *hash(&[&bytes]).as_bytes();
    Ok(Some([&sum, bytes.as_slice()].concat().into()))
}

/// None when they are not what was written: a place that is a little wrong could not be told from one that is right.
fn decode_checkpoints(bytes: &[u8]) -> Option<Vec<Checkpoint>> {
    let (sum, bytes) = bytes.split_first_chunk()?;
    if hash(&[bytes]).as_bytes() != sum {
        return None;
    }
    Decoder::new(bytes).array(Checkpoint::decode).ok()
}

fn unwritable(error: EncodeError) -> CoreError {
    CoreError::Record(error.into())
}
