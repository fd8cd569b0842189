//! A tree node in memory: its two lists, and the logs that rebuild them (spec/hyperbee.md 5).
//!
//! A node that came from a block is never changed. A batch works on a copy, where list elements may also be key
//! records and nodes that have no place yet.

use std::cmp::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;

use super::cache::{Cached, Charge, UsedMark};
use super::place::{CoreId, ElementPlace};
use super::pointer::EditKind;

/// No list of a node is longer, also in old trees whose degree nobody wrote down.
pub(super) const LIST_LENGTH_MAX: usize = 1024;

/// Keys, children, and how both came about.
#[derive(Debug)]
pub(super) struct BeeNode {
    /// Half of the most children that it may have.
    pub(super) degree: u64,
    pub(super) keys: Vec<KeySlot>,
    pub(super) kids: Vec<KidSlot>,
    pub(super) key_log: Vec<Edit>,
    pub(super) kid_log: Vec<Edit>,
    mark: UsedMark,
    /// Only nodes that are, or were, in the cache count.
    charge: Option<Charge>,
}

/// One key of a node. Its bytes are fetched when they are first compared.
#[derive(Debug, Clone)]
pub(super) struct KeySlot {
    pub(super) at: KeyAt,
    text: OnceLock<Text>,
}

/// The bytes of a key, with the first of them close at hand: most comparisons are decided by these alone.
#[derive(Debug, Clone)]
pub(super) struct Text {
    head: u64,
    bytes: Bytes,
}

/// The place of a key record: in memory, or in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyAt {
    /// In a block.
    Stored(ElementPlace),
    /// In the batch at work, by its position there.
    Fresh(u32),
}

/// One child of a node.
#[derive(Debug)]
pub(super) struct KidSlot {
    pub(super) at: KidAt,
    /// The node, as long as the cache keeps it.
    link: Mutex<Weak<BeeNode>>,
}

/// The place of a child: in memory, or in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KidAt {
    /// In a block.
    Stored(ElementPlace),
    /// In the batch at work, by its position there.
    Working(u32),
}

/// One step of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) kind: EditKind,
    /// Above 255 only until the log is written, which then rebases it.
    pub(super) index: u16,
    pub(super) target: Target,
}

/// The target of one step of a node's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Nothing: a removal, or a placeholder.
    Nothing,
    /// Something in a block. Stays what it is, also when that thing is written again elsewhere.
    Stored(ElementPlace),
    /// A key record of the batch at work.
    Fresh(u32),
    /// The place that a node of the batch at work will get.
    Working(u32),
}

impl BeeNode {
    /// A node without elements.
    pub(super) fn empty(degree: u64) -> Self {
        Self {
            degree,
            keys: Vec::new(),
            kids: Vec::new(),
            key_log: Vec::new(),
            kid_log: Vec::new(),
            mark: UsedMark::default(),
            charge: None,
        }
    }

    /// A copy to work on.
    pub(super) fn fork(&self) -> Self {
        Self {
            degree: self.degree,
            keys: self.keys.clone(),
            kids: self.kids.iter().map(KidSlot::fork).collect(),
            key_log: self.key_log.clone(),
            kid_log: self.kid_log.clone(),
            mark: UsedMark::default(),
            charge: None,
        }
    }

    pub(super) const fn is_leaf(&self) -> bool {
        self.kids.is_empty()
    }

    // Memory.

    /// Starts, or with none ends, to count the node's bytes.
    pub(super) fn charge_to(&mut self, gauge: Option<&Arc<std::sync::atomic::AtomicUsize>>) {
        self.charge = gauge.map(|gauge| Charge::new(gauge, self.footprint()));
    }

    fn footprint(&self) -> usize {
        let texts: usize = self
            .keys
            .iter()
            .filter_map(KeySlot::text)
            .map(|text| text_footprint(&text.bytes))
            .sum();
        size_of::<Self>()
            + texts
            + self.keys.capacity() * size_of::<KeySlot>()
            + self.kids.capacity() * size_of::<KidSlot>()
            + (self.key_log.capacity() + self.kid_log.capacity()) * size_of::<Edit>()
    }

    /// Keeps the bytes of a key that was just fetched.
    pub(super) fn remember<'a>(&'a self, slot: &'a KeySlot, text: Bytes) -> &'a Text {
        let bytes = text_footprint(&text);
        let mut first = false;
        let text = slot.text.get_or_init(|| {
            first = true;
            Text::new(text)
        });
        if let Some(charge) = self.charge.as_ref().filter(|_| first) {
            charge.add(bytes);
        }
        text
    }

    // Edits of the key list.

    pub(super) fn insert_key(&mut self, index: usize, slot: KeySlot) {
        self.log_key(EditKind::Insert, index, slot.target());
        self.keys.insert(index, slot);
    }

    pub(super) fn push_key(&mut self, slot: KeySlot) {
        self.insert_key(self.keys.len(), slot);
    }

    pub(super) fn set_key(&mut self, index: usize, slot: KeySlot) {
        self.log_key(EditKind::Set, index, slot.target());
        self.keys[index] = slot;
    }

    pub(super) fn remove_key(&mut self, index: usize) -> KeySlot {
        self.log_key(EditKind::Remove, index, Target::Nothing);
        self.keys.remove(index)
    }

    fn log_key(&mut self, kind: EditKind, index: usize, target: Target) {
        let index = log_index(index);
        self.key_log.push(Edit { kind, index, target });
    }

    // Edits of the child list. `target` is the place that the child's pointer has at this moment.

    pub(super) fn insert_kid(&mut self, index: usize, slot: KidSlot, target: ElementPlace) {
        self.log_kid(EditKind::Insert, index, Target::Stored(target));
        self.kids.insert(index, slot);
    }

    pub(super) fn push_kid(&mut self, slot: KidSlot, target: ElementPlace) {
        self.insert_kid(self.kids.len(), slot, target);
    }

    pub(super) fn remove_kid(&mut self, index: usize) -> KidSlot {
        self.log_kid(EditKind::Remove, index, Target::Nothing);
        self.kids.remove(index)
    }

    pub(super) fn log_kid(&mut self, kind: EditKind, index: usize, target: Target) {
        let index = log_index(index);
        self.kid_log.push(Edit { kind, index, target });
    }
}

impl Cached for BeeNode {
    fn mark(&self) -> &UsedMark {
        &self.mark
    }
}

impl KeySlot {
    /// A key whose bytes are still only in its block.
    pub(super) const fn stored(place: ElementPlace) -> Self {
        Self {
            at: KeyAt::Stored(place),
            text: OnceLock::new(),
        }
    }

    /// A key record of the batch at work.
    pub(super) fn fresh(id: u32, text: Bytes) -> Self {
        Self {
            at: KeyAt::Fresh(id),
            text: OnceLock::from(Text::new(text)),
        }
    }

    /// The key, when it was fetched before.
    pub(super) fn text(&self) -> Option<&Text> {
        self.text.get()
    }

    /// The block with the bytes of the key, if these are still only there.
    pub(super) fn wanted(&self) -> Option<(CoreId, u64)> {
        match (self.at, self.text()) {
            (KeyAt::Stored(place), None) => Some((place.core, place.seq)),
            _ => None,
        }
    }

    pub(super) const fn target(&self) -> Target {
        match self.at {
            KeyAt::Stored(place) => Target::Stored(place),
            KeyAt::Fresh(id) => Target::Fresh(id),
        }
    }
}

impl Text {
    fn new(bytes: Bytes) -> Self {
        let head = head(&bytes);
        Self { head, bytes }
    }

    pub(super) const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How `key`, whose first bytes are `head`, compares with this key.
    pub(super) fn compare(&self, key: &[u8], head: u64) -> Ordering {
        head.cmp(&self.head).then_with(|| key.cmp(&self.bytes))
    }
}

impl Text {
    /// The same of their first bytes alone: a slip.
    pub(super) fn compare_heads(&self, head: u64) -> Ordering {
        head.cmp(&self.head)
    }
}

/// The first eight bytes of a key as a number that compares as they do. What is too short is filled up with zeros.
pub(super) fn head(key: &[u8]) -> u64 {
    let mut head = [0; 8];
    let size = key.len().min(8);
    head[..size].copy_from_slice(&key[..size]);
    u64::from_be_bytes(head)
}

impl KidSlot {
    pub(super) const fn new(at: KidAt) -> Self {
        Self {
            at,
            link: Mutex::new(Weak::new()),
        }
    }

    fn fork(&self) -> Self {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            at: self.at,
            link: Mutex::new(Weak::clone(&link)),
        }
    }

    /// The child, when the cache still has it.
    pub(super) fn linked(&self) -> Option<Arc<BeeNode>> {
        let node = self
            .link
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .upgrade()?;
        node.mark.set();
        Some(node)
    }

    pub(super) fn link(&self, node: &Arc<BeeNode>) {
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(node);
    }
}

/// What the heap holds for one key.
fn text_footprint(text: &Bytes) -> usize {
    // The allocation itself, and the shared header in front of it.
    text.len() + 32
}

/// Positions beyond what the log can hold end up as the largest one, which forces the log to be rebased.
fn log_index(index: usize) -> u16 {
    u16::try_from(index).unwrap_or(u16::MAX)
}
