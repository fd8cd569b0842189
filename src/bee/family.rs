//! What all trees over the same cores share: settings, core numbers and caches. Reads blocks and builds nodes.
//!
//! Core numbers are resolved with the list that the block's own checkpoint names (spec/hyperbee.md 4), so that no
//! read ever needs a newer block than the data itself.

use std::cmp;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use crate::crypto::CoreKey;
use crate::env::{Planted, Slip};
use crate::wire::{Index, Link};

use super::block::{Block, KeyRecord};
use super::cache::{Cache, Cached, Charge, UsedMark};
use super::error::{BeeError, BlockFault};
use super::node::{self, BeeNode, Edit, KeyAt, KeySlot, KidAt, KidSlot, LIST_LENGTH_MAX, Target, Text};
use super::numbers::Numbers;
use super::place::{CoreId, ElementPlace, NamedCores};
use super::pointer::{BlockEdit, EditKind, Pointer};
use super::settings::BeeSettings;
use super::source::Blocks;
use super::tree::Tree;

/// No sound tree is deeper: at the least degree that is 2^64 keys.
pub(super) const DEPTH_MAX: usize = 64;

/// Most steps that rebuilding one list of a node may take.
const LOG_STEPS_MAX: usize = 1 << 15;

/// Most blocks that are asked for ahead at a time.
const WANTED_MAX: usize = 128;

/// A family of trees: caches and settings that any number of [`Tree`]s share. Cloning gives another handle to it.
#[derive(Debug, Clone)]
pub struct Bee {
    shared: Arc<FamilyInner>,
}

/// Memory that a family takes at the moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheUse {
    /// Decoded blocks.
    pub block_bytes: usize,
    /// Tree nodes, also those that a tree or a walk holds beyond the cache.
    pub node_bytes: usize,
}

#[derive(Debug)]
struct FamilyInner {
    settings: BeeSettings,
    cores: Mutex<NamedCores>,
    blocks: Mutex<Cache<(CoreId, u64), CachedBlock>>,
    block_gauge: Arc<AtomicUsize>,
    nodes: Mutex<Cache<ElementPlace, BeeNode>>,
    node_gauge: Arc<AtomicUsize>,
    numbers: Mutex<BTreeMap<CoreId, Arc<Numbers>>>,
    planted: OnceLock<Planted>,
}

impl Bee {
    /// A family without trees.
    ///
    /// # Errors
    ///
    /// [`BeeError::Setting`] when the settings contradict the format.
    pub fn new(settings: BeeSettings) -> Result<Self, BeeError> {
        settings.check()?;
        let blocks = Cache::new(settings.block_cache_bytes_max);
        let nodes = Cache::new(settings.node_cache_bytes_max);
        Ok(Self {
            shared: Arc::new(FamilyInner {
                settings,
                cores: Mutex::default(),
                block_gauge: blocks.gauge(),
                blocks: Mutex::new(blocks),
                node_gauge: nodes.gauge(),
                nodes: Mutex::new(nodes),
                numbers: Mutex::default(),
                planted: OnceLock::new(),
            }),
        })
    }

    /// Has it make slips. Before anything is read.
    pub(crate) fn plant(&self, planted: Planted) {
        self.shared.planted.get_or_init(|| planted);
    }

    /// True when the slip is to be made.
    pub(crate) fn has(&self, slip: Slip) -> bool {
        self.shared.planted.get().is_some_and(|planted| planted.has(slip))
    }

    /// The tree whose root is the last block below `head`. Nothing is read: a head that does not exist is noticed by
    /// the first read.
    #[must_use]
    pub fn tree(&self, head: Link) -> Tree {
        Tree::new(self.clone(), head)
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &BeeSettings {
        &self.shared.settings
    }

    /// Forgets all blocks and nodes that no tree holds. Changes no result.
    pub fn drop_caches(&self) {
        lock(&self.shared.blocks).clear();
        lock(&self.shared.nodes).clear();
        lock(&self.shared.numbers).clear();
    }

    /// How much memory the caches take.
    #[must_use]
    pub fn cache_use(&self) -> CacheUse {
        CacheUse {
            block_bytes: self.shared.block_gauge.load(Ordering::Relaxed),
            node_bytes: self.shared.node_gauge.load(Ordering::Relaxed),
        }
    }

    /// True when both are handles to one family.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// The root of a version. None for the empty tree.
    pub(super) fn place(&self, head: Link) -> Option<ElementPlace> {
        head.length.last().map(|last| ElementPlace {
            core: self.core_id(&head.key),
            seq: last.0,
            offset: 0,
        })
    }

    pub(super) fn core_id(&self, key: &CoreKey) -> CoreId {
        lock(&self.shared.cores).id(key)
    }

    pub(super) fn core_key(&self, id: CoreId) -> CoreKey {
        lock(&self.shared.cores).key(id)
    }

    /// The node at `place`, to be worked on. When only the cache holds it too, it is taken from there as it is:
    /// whoever needs the old version again builds it from its blocks.
    pub(super) fn own(&self, place: ElementPlace, node: Arc<BeeNode>) -> BeeNode {
        if Arc::strong_count(&node) <= 2 {
            lock(&self.shared.nodes).remove(&place);
        }
        let mut node = Arc::try_unwrap(node).unwrap_or_else(|shared| shared.fork());
        node.charge_to(None);
        node
    }

    /// Puts a node in the cache.
    pub(super) fn keep(&self, place: ElementPlace, mut node: BeeNode) -> Arc<BeeNode> {
        node.charge_to(Some(&self.shared.node_gauge));
        let node = Arc::new(node);
        lock(&self.shared.nodes).insert(place, Arc::clone(&node));
        node
    }

    pub(super) fn numbers(&self, local: CoreId) -> Option<Arc<Numbers>> {
        lock(&self.shared.numbers).get(&local).map(Arc::clone)
    }

    pub(super) fn keep_numbers(&self, local: CoreId, numbers: Arc<Numbers>) {
        lock(&self.shared.numbers).insert(local, numbers);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A decoded block that knows where it stands.
#[derive(Debug)]
pub(super) struct CachedBlock {
    block: Block,
    pub(super) core: CoreKey,
    mark: UsedMark,
    _charge: Charge,
}

impl Cached for CachedBlock {
    fn mark(&self) -> &UsedMark {
        &self.mark
    }
}

impl Deref for CachedBlock {
    type Target = Block;

    fn deref(&self) -> &Block {
        &self.block
    }
}

/// A family together with where its blocks come from, for the time of one operation.
#[derive(Clone, Copy)]
pub(super) struct FamilyReader<'a> {
    pub(super) bee: &'a Bee,
    pub(super) blocks: &'a dyn Blocks,
}

impl FamilyReader<'_> {
    // Blocks.

    pub(super) fn block(&self, core: CoreId, seq: u64) -> Result<Arc<CachedBlock>, BeeError> {
        let shared = &self.bee.shared;
        if let Some(block) = self.cached(core, seq) {
            return Ok(block);
        }
        let key = self.bee.core_key(core);
        let index = Index(seq);
        let bytes = self
            .blocks
            .block(&key, index)
            .map_err(|error| error.at(key, index))?;
        let block = Block::decode(&bytes, index)
            .map_err(|error| self.corrupt(core, seq, BlockFault::Encoding(error)))?;
        let charge = Charge::new(&shared.block_gauge, bytes.len() + block.footprint());
        let block = Arc::new(CachedBlock {
            block,
            core: key,
            mark: UsedMark::default(),
            _charge: charge,
        });
        lock(&shared.blocks).insert((core, seq), Arc::clone(&block));
        Ok(block)
    }

    pub(super) fn corrupt(&self, core: CoreId, seq: u64, what: BlockFault) -> BeeError {
        BeeError::Corrupt {
            core: self.bee.core_key(core),
            seq: Index(seq),
            what,
        }
    }

    pub(super) fn corrupt_at(&self, place: ElementPlace, what: BlockFault) -> BeeError {
        self.corrupt(place.core, place.seq, what)
    }

    /// The core that a number in a block stands for.
    pub(super) fn resolve(&self, core: CoreId, seq: u64, number: u64) -> Result<CoreId, BeeError> {
        let block = self.block(core, seq)?;
        Numbering::new(core, seq, &block).core(self, number)
    }

    // Keys and values.

    /// The bytes of a key of `node`.
    pub(super) fn text<'n>(&self, node: &'n BeeNode, slot: &'n KeySlot) -> Result<&'n Bytes, BeeError> {
        match slot.text() {
            Some(text) => Ok(text.bytes()),
            None => self.fetch_text(node, slot).map(Text::bytes),
        }
    }

    #[cold]
    fn fetch_text<'n>(&self, node: &'n BeeNode, slot: &'n KeySlot) -> Result<&'n Text, BeeError> {
        let KeyAt::Stored(place) = slot.at else {
            // Not reached: a fresh key record is made with its bytes.
            return Ok(node.remember(slot, Bytes::new()));
        };
        let block = self.block(place.core, place.seq)?;
        let record = self.record(&block, place)?;
        // A copy, so that a node of a few keys does not hold all the blocks that these were written in.
        Ok(node.remember(slot, Bytes::copy_from_slice(&record.key)))
    }

    pub(super) fn record<'b>(
        &self,
        block: &'b CachedBlock,
        place: ElementPlace,
    ) -> Result<&'b KeyRecord, BeeError> {
        element(block.keys.as_deref(), place.offset)
            .ok_or_else(|| self.corrupt_at(place, dangling("key", place.offset)))
    }

    /// The value of a key record, wherever it is.
    pub(super) fn value(
        &self,
        block: &CachedBlock,
        place: ElementPlace,
        record: &KeyRecord,
    ) -> Result<Option<Bytes>, BeeError> {
        if record.value.is_some() {
            return Ok(record.value.clone());
        }
        let Some(pointer) = record.value_pointer else {
            return Ok(None);
        };
        if pointer.split != 0 {
            return Err(BeeError::Unsupported {
                core: block.core,
                seq: Index(place.seq),
                what: "value spread over several blocks",
            });
        }
        let place = Numbering::new(place.core, place.seq, block).place(self, pointer.at)?;
        let block = self.block(place.core, place.seq)?;
        let is_first_read = self.bee.has(Slip::FirstValueRead);
        let offset = if is_first_read { 0 } else { place.offset };
        element(block.values.as_deref(), offset)
            .cloned()
            .map(Some)
            .ok_or_else(|| self.corrupt_at(place, dangling("value", place.offset)))
    }

    /// Binary search as every implementation does it: the first key that is equal is not necessarily the leftmost.
    pub(super) fn search(&self, node: &BeeNode, key: &[u8]) -> Result<Result<usize, usize>, BeeError> {
        let head = node::head(key);
        let is_short = self.bee.has(Slip::HeadsCompared);
        let mut low = 0;
        let mut high = node.keys.len();
        while low < high {
            let middle = usize::midpoint(low, high);
            let slot = &node.keys[middle];
            let text = match slot.text() {
                Some(text) => text,
                None => self
                    .fetch_text(node, slot)
                    .inspect_err(|error| self.want_halves(error, node, low, high))?,
            };
            let order = match is_short {
                true => text.compare_heads(head),
                false => text.compare(key, head),
            };
            match order {
                cmp::Ordering::Equal => return Ok(Ok(middle)),
                cmp::Ordering::Less => high = middle,
                cmp::Ordering::Greater => low = middle + 1,
            }
        }
        Ok(Err(low))
    }

    // Blocks that will be needed soon.

    /// Asks for blocks that are not in the cache, after one was missing.
    pub(super) fn want(&self, error: &BeeError, blocks: impl Iterator<Item = (CoreId, u64)>) {
        if !matches!(error, BeeError::Unavailable { .. }) {
            return;
        }
        let mut wanted = BTreeSet::new();
        for (core, seq) in blocks {
            if wanted.len() == WANTED_MAX {
                return;
            }
            if self.cached(core, seq).is_none() && wanted.insert((core, seq)) {
                self.blocks.want(&self.bee.core_key(core), Index(seq));
            }
        }
    }

    /// The blocks that a node and its keys are in, as far as is known: what is not here hides what it refers to.
    pub(super) fn wanted_for(&self, place: ElementPlace) -> Vec<(CoreId, u64)> {
        if let Ok(node) = self.node(place) {
            return node.keys.iter().filter_map(KeySlot::wanted).collect();
        }
        let mut wanted = vec![(place.core, place.seq)];
        let Ok(block) = self.block(place.core, place.seq) else {
            return wanted;
        };
        let logs = element(block.tree.as_deref(), place.offset);
        let mut numbering = Numbering::new(place.core, place.seq, &block);
        let edits = logs
            .iter()
            .flat_map(|logs| logs.keys.iter().chain(&logs.children));
        for pointer in edits.filter_map(|edit| edit.pointer) {
            if let Ok(place) = numbering.place(self, pointer) {
                wanted.push((place.core, place.seq));
            }
        }
        wanted
    }

    fn cached(&self, core: CoreId, seq: u64) -> Option<Arc<CachedBlock>> {
        lock(&self.bee.shared.blocks).get(&(core, seq))
    }

    /// The keys that the next steps of a binary search may look at.
    fn want_halves(&self, error: &BeeError, node: &BeeNode, low: usize, high: usize) {
        let eighth = |part: usize| low + (high - low) * part / 8;
        let slots = (1..8).filter_map(|part| node.keys.get(eighth(part)));
        self.want(error, slots.filter_map(KeySlot::wanted));
    }

    // Nodes.

    pub(super) fn node(&self, place: ElementPlace) -> Result<Arc<BeeNode>, BeeError> {
        if let Some(node) = lock(&self.bee.shared.nodes).get(&place) {
            return Ok(node);
        }
        Ok(self.bee.keep(place, self.build(place)?))
    }

    /// The child of a node that came from a block.
    pub(super) fn kid(&self, slot: &KidSlot, place: ElementPlace) -> Result<Arc<BeeNode>, BeeError> {
        if let Some(node) = slot.linked() {
            return Ok(node);
        }
        let node = self.node(place)?;
        slot.link(&node);
        Ok(node)
    }

    fn build(&self, place: ElementPlace) -> Result<BeeNode, BeeError> {
        let block = self.block(place.core, place.seq)?;
        let logs = element(block.tree.as_deref(), place.offset)
            .ok_or_else(|| self.corrupt_at(place, dangling("node", place.offset)))?;
        let (keys, key_log) = self.replay(place, &block, &logs.keys)?;
        let (kids, kid_log) = self.replay(place, &block, &logs.children)?;
        if !kids.is_empty() && kids.len() != keys.len() + 1 {
            let what = BlockFault::ChildCount {
                keys: keys.len(),
                children: kids.len(),
            };
            return Err(self.corrupt_at(place, what));
        }
        let mut node = BeeNode::empty(block.degree);
        node.keys = keys.into_iter().map(KeySlot::stored).collect();
        node.kids = kids
            .into_iter()
            .map(|kid| KidSlot::new(KidAt::Stored(kid)))
            .collect();
        node.key_log = key_log;
        node.kid_log = kid_log;
        Ok(node)
    }

    /// Runs a log: the list that it makes, and the log with absolute places.
    fn replay(
        &self,
        place: ElementPlace,
        block: &CachedBlock,
        log: &[BlockEdit],
    ) -> Result<(Vec<ElementPlace>, Vec<Edit>), BeeError> {
        let mut replay = LogReplay {
            list: Vec::new(),
            steps: 0,
        };
        let mut edits = Vec::new();
        let mut numbering = Numbering::new(place.core, place.seq, block);
        for edit in log {
            let pointer = edit
                .pointer
                .map(|pointer| numbering.place(self, pointer))
                .transpose()?;
            let mut index = u16::from(edit.index);
            if edit.kind == EditKind::Cohort {
                let cohort =
                    pointer.ok_or_else(|| self.corrupt_at(place, BlockFault::CohortWithoutPointer))?;
                index = 0;
                self.run_cohort(place, cohort, &mut replay)?;
            } else {
                replay
                    .step(edit, pointer)
                    .map_err(|what| self.corrupt_at(place, what))?;
            }
            edits.push(Edit {
                kind: edit.kind,
                index,
                target: pointer.map_or(Target::Nothing, Target::Stored),
            });
        }
        let list: Option<Vec<ElementPlace>> = replay.list.into_iter().collect();
        let list = list.ok_or_else(|| self.corrupt_at(place, BlockFault::Placeholder))?;
        Ok((list, edits))
    }

    fn run_cohort(
        &self,
        node: ElementPlace,
        cohort: ElementPlace,
        replay: &mut LogReplay,
    ) -> Result<(), BeeError> {
        let block = self.block(cohort.core, cohort.seq)?;
        let edits = element(block.cohorts.as_deref(), cohort.offset)
            .ok_or_else(|| self.corrupt_at(cohort, dangling("cohort", cohort.offset)))?;
        let mut numbering = Numbering::new(cohort.core, cohort.seq, &block);
        for edit in edits {
            let pointer = edit
                .pointer
                .map(|pointer| numbering.place(self, pointer))
                .transpose()?;
            replay
                .step(edit, pointer)
                .map_err(|what| self.corrupt_at(node, what))?;
        }
        Ok(())
    }
}

/// A list that is being rebuilt from its log.
struct LogReplay {
    list: Vec<Option<ElementPlace>>,
    steps: usize,
}

impl LogReplay {
    fn step(&mut self, edit: &BlockEdit, element: Option<ElementPlace>) -> Result<(), BlockFault> {
        let list = &mut self.list;
        let index = usize::from(edit.index);
        match edit.kind {
            EditKind::Insert if index <= list.len() => list.insert(index, element),
            EditKind::Set if index < list.len() => list[index] = element,
            EditKind::Remove if index < list.len() => {
                list.remove(index);
            }
            // Out of range, a cohort inside of a cohort, or a kind that nobody knows: without effect.
            _ => {}
        }
        self.steps += 1;
        if self.steps > LOG_STEPS_MAX || list.len() > LIST_LENGTH_MAX {
            return Err(BlockFault::LogTooLong);
        }
        Ok(())
    }
}

/// The core numbers of one block.
struct Numbering<'b> {
    core: CoreId,
    seq: u64,
    block: &'b CachedBlock,
    /// The last number that was asked for: neighbours mostly lie in the same core.
    last: Option<(u64, CoreId)>,
    list: Option<Arc<CachedBlock>>,
}

impl<'b> Numbering<'b> {
    const fn new(core: CoreId, seq: u64, block: &'b CachedBlock) -> Self {
        Self {
            core,
            seq,
            block,
            last: None,
            list: None,
        }
    }

    fn place(&mut self, reader: &FamilyReader<'_>, pointer: Pointer) -> Result<ElementPlace, BeeError> {
        let core = self.core(reader, pointer.core)?;
        let offset = u32::try_from(pointer.offset).map_err(|_| {
            let what = BlockFault::Dangling {
                what: "element",
                offset: pointer.offset,
            };
            reader.corrupt(self.core, self.seq, what)
        })?;
        Ok(ElementPlace {
            core,
            seq: pointer.seq,
            offset,
        })
    }

    fn core(&mut self, reader: &FamilyReader<'_>, number: u64) -> Result<CoreId, BeeError> {
        let Some(position) = number.checked_sub(1) else {
            return Ok(self.core);
        };
        if let Some((last, core)) = self.last
            && last == number
        {
            return Ok(core);
        }
        if self.list.is_none()
            && let Some(seq) = self.block.checkpoint.checked_sub(1)
        {
            self.list = Some(reader.block(self.core, seq)?);
        }
        let listed = self.list.as_ref().and_then(|block| block.metadata.as_deref());
        let record = usize::try_from(position)
            .ok()
            .and_then(|position| listed?.get(position))
            .ok_or_else(|| {
                let listed = listed.map_or(0, <[_]>::len);
                reader.corrupt(self.core, self.seq, BlockFault::CoreNumber { number, listed })
            })?;
        let core = reader.bee.core_id(&record.key);
        self.last = Some((number, core));
        Ok(core)
    }
}

fn element<T>(list: Option<&[T]>, offset: u32) -> Option<&T> {
    list?.get(usize::try_from(offset).ok()?)
}

fn dangling(what: &'static str, offset: u32) -> BlockFault {
    BlockFault::Dangling {
        what,
        offset: u64::from(offset),
    }
}
