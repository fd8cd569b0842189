//! The set of known batches and who must come before whom.
//!
//! Source: spec/autobee.md 5.6, 8.2, 8.6. A batch takes part in the order once it is *ready*: everything it names, and
//! everything those name, is here. Every link of every node gates; only the links of its first node, its own
//! predecessor and the backer of its witness order it, and all three are followed transitively (the original follows
//! a backer only for the batch itself, so that one faulty writer makes peers disagree for ever). Under safe rules a backer
//! gates, and orders nothing ([`Dag::following`]).
//!
//! A link to an anchor orders nothing. Which keys are anchors is told by [`Dag::add_anchor`]; so that the set of ready
//! batches stays a function of the known blocks alone, tell it every anchor that a known node could create (its key is
//! a pure function of the node), not only those that some run of apply did create.
//!
//! What is kept grows with the input and by nothing else: a link that never arrives costs its own bytes. What is settled
//! can be forgotten ([`Dag::forget`]): of each writer the set then begins at its *base length*. Links up to there are
//! satisfied and order nothing in the set; a batch keeps them, because they tell how much of what was forgotten it knew.

mod base;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use im::OrdSet;
use thiserror::Error;

use crate::crypto::CoreKey;
use crate::env::{Planted, Slip};
use crate::wire::{Length, Link, Timestamp, Weight};

pub use base::Renumbered;

/// A ready batch. Ids are given in the order in which batches become ready: parents have smaller ids than children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(u32);

impl BatchId {
    pub(crate) const FIRST: Self = Self(0);

    /// Position among the ready batches of the [`Dag`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A writer of the [`Dag`], in order of appearance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterId(u32);

impl WriterId {
    pub(crate) const FIRST: Self = Self(0);

    /// Position among the writers of the [`Dag`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A claim to a higher weight, carried by the first node of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The claimed weight.
    pub weight: Weight,
    /// The block of the backer that carried the attestation. An ordering edge, also when the signature is garbage.
    pub backer: Link,
    /// The attestation verifies as pure bytes (`engine::witness`). An invalid claim never counts.
    pub valid: bool,
}

/// A batch as its writer published it: all of its nodes, without their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBatch {
    /// The core that it is a run of.
    pub writer: CoreKey,
    /// Length of the core with the first node.
    pub first: Length,
    /// Length of the core with the last node.
    pub last: Length,
    /// Timestamp of the first node.
    pub timestamp: Timestamp,
    /// Flag of the first node.
    pub optimistic: bool,
    /// Links of the first node: they gate and they order.
    pub links: Vec<Link>,
    /// Links of the later nodes: they gate, but order nothing.
    pub gates: Vec<Link>,
    /// Witness of the first node.
    pub claim: Option<Claim>,
}

/// A ready batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The core that it is a run of.
    pub writer: CoreKey,
    /// The same, as a small number.
    pub writer_id: WriterId,
    /// Position among the batches of its writer that are not forgotten.
    pub sequence: u32,
    /// Length of the core with the first node.
    pub first: Length,
    /// Length of the core with the last node.
    pub last: Length,
    /// Timestamp of the first node.
    pub timestamp: Timestamp,
    /// Flag of the first node.
    pub optimistic: bool,
    /// Witness of the first node.
    pub claim: Option<Claim>,
    /// Batches that must come before it, sorted, each once.
    pub parents: Vec<BatchId>,
    /// What else must: blocks of forgotten batches.
    pub behind: Vec<Link>,
}

impl Batch {
    /// Number of nodes.
    #[must_use]
    pub const fn nodes(&self) -> u64 {
        self.last.0 - self.first.0 + 1
    }
}

/// A batch cannot be added to the set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DagError {
    /// Batches of one writer are added in order, without gaps and without overlap.
    #[error("batch of {writer} starts at {found}, expected {expected}")]
    NotNext {
        /// The writer.
        writer: CoreKey,
        /// Where the next batch of this writer has to start.
        expected: Length,
        /// Where it starts.
        found: Length,
    },
    /// A batch has at least one node.
    #[error("batch of {writer} ends at {last}, before its start {first}")]
    Empty {
        /// The writer.
        writer: CoreKey,
        /// Start of the batch.
        first: Length,
        /// End of the batch.
        last: Length,
    },
    /// There are as many batches as ids.
    #[error("more than {} batches", u32::MAX - 1)]
    Full,
}

/// The set of known batches.
///
/// ```
/// use autobee::crypto::CoreKey;
/// use autobee::engine::dag::{Dag, NewBatch};
/// use autobee::wire::{Length, Link, Timestamp};
///
/// let batch = |writer: [u8; 32], links| NewBatch {
///     writer: CoreKey::new(writer),
///     first: Length(1),
///     last: Length(1),
///     timestamp: Timestamp(1),
///     optimistic: false,
///     links,
///     gates: Vec::new(),
///     claim: None,
/// };
/// let mut dag = Dag::new();
/// let link = Link { key: CoreKey::new([1; 32]), length: Length(1) };
/// dag.insert(batch([2; 32], vec![link])).unwrap();
/// assert_eq!(dag.len(), 0, "its link is not here");
/// assert_eq!(dag.missing().collect::<Vec<_>>(), [link]);
/// dag.insert(batch([1; 32], vec![])).unwrap();
/// assert_eq!(dag.len(), 2);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Dag {
    batches: Vec<Batch>,
    ids: BTreeMap<CoreKey, WriterId>,
    writers: Vec<Writer>,
    /// Whose first waiting batch continues when `key` is ready up to `length`.
    waits: BTreeMap<(CoreKey, Length), Vec<WriterId>>,
    /// Those of them that were not added yet, as a value for readers.
    absent: OrdSet<(CoreKey, Length)>,
    /// What ready batches need without being ordered by it.
    gates: Vec<Gate>,
    /// Places of writers of whom nothing is left.
    free: Vec<WriterId>,
    anchors: BTreeSet<CoreKey>,
    /// Backers gate, and do not order.
    follows_links_alone: bool,
    known: usize,
    planted: Planted,
}

#[derive(Debug, Clone)]
struct Writer {
    key: CoreKey,
    /// Everything up to here is forgotten.
    base: Length,
    ready: Vec<BatchId>,
    ready_length: Length,
    known_length: Length,
    waiting: VecDeque<Waiting>,
}

/// A link that had to be here before a batch, and does not order it: of a later node, or to an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gate {
    /// The batch, by its writer and last block.
    pub(crate) batch: Link,
    /// What it needs.
    pub(crate) needs: Link,
}

#[derive(Debug, Clone)]
struct Waiting {
    batch: NewBatch,
    /// Gates before this one are open: links first, then gates, then the backer.
    next: usize,
}

impl Waiting {
    fn gate(&self) -> Option<Link> {
        let NewBatch {
            links, gates, claim, ..
        } = &self.batch;
        let later = self.next.checked_sub(links.len());
        match later {
            None => links.get(self.next).copied(),
            Some(at) if at < gates.len() => gates.get(at).copied(),
            Some(at) if at == gates.len() => claim.map(|claim| claim.backer),
            Some(_) => None,
        }
    }
}

impl Dag {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) const fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    /// Has backers of witnesses gate alone, as under [`Rules::safe`](crate::wire::Rules::safe): a claim does not count then
    /// whose backer does not come before it anyway. Before anything is added.
    #[must_use]
    pub const fn following(mut self, rules: crate::wire::Rules) -> Self {
        self.follows_links_alone = rules.is_safe();
        self
    }

    // ---- growing

    /// Adds a batch. It, and what waited for it, become ready as soon as everything they name is.
    pub fn insert(&mut self, mut batch: NewBatch) -> Result<(), DagError> {
        if self.planted.has(Slip::ClaimUnchecked)
            && let Some(claim) = &mut batch.claim
        {
            claim.valid = true;
        }
        let NewBatch {
            writer, first, last, ..
        } = batch;
        let expected = Length(self.known_length(&writer).0.saturating_add(1));
        if first != expected {
            return Err(DagError::NotNext {
                writer,
                expected,
                found: first,
            });
        }
        if last < first {
            return Err(DagError::Empty { writer, first, last });
        }
        if self.known >= u32::MAX as usize - 1 {
            return Err(DagError::Full);
        }
        self.known += 1;
        let id = self.writer_mut(writer);
        let state = &mut self.writers[id.index()];
        state.known_length = last;
        let least = u64::from(self.planted.has(Slip::MissingListed));
        let added = (writer, Length::ZERO)..=(writer, Length(last.0.saturating_sub(least)));
        let added: Vec<_> = self.absent.range(added).copied().collect();
        for at in added {
            self.absent.remove(&at);
        }
        state.waiting.push_back(Waiting { batch, next: 0 });
        if state.waiting.len() == 1 {
            self.advance(vec![id]);
        }
        Ok(())
    }

    /// Makes links to the first block of `key` order nothing and gate nothing.
    pub fn add_anchor(&mut self, key: CoreKey) {
        if self.anchors.insert(key)
            && let Some(woken) = self.waits.remove(&(key, Length(1)))
        {
            self.absent.remove(&(key, Length(1)));
            self.advance(woken);
        }
    }

    // ---- reading

    /// Number of ready batches.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.batches.len()
    }

    /// True when no batch is ready.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Number of batches that wait for something they name.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.known - self.batches.len()
    }

    /// The ready batch with this id. Ids are of this set; one of another set may panic.
    #[must_use]
    pub fn batch(&self, id: BatchId) -> &Batch {
        &self.batches[id.index()]
    }

    /// All ready batches, parents before children.
    pub fn ready(&self) -> impl ExactSizeIterator<Item = (BatchId, &Batch)> + DoubleEndedIterator {
        self.ready_since(0)
    }

    /// Ready batches without the first `known` of them.
    pub(crate) fn ready_since(
        &self,
        known: usize,
    ) -> impl ExactSizeIterator<Item = (BatchId, &Batch)> + DoubleEndedIterator {
        let from = known.min(self.batches.len());
        self.batches[from..]
            .iter()
            .enumerate()
            .map(move |(at, batch)| (id(from + at), batch))
    }

    /// The ready batch that contains this block. None for what was forgotten.
    #[must_use]
    pub fn find(&self, link: Link) -> Option<BatchId> {
        let writer = &self.writers[self.ids.get(&link.key)?.index()];
        if link.length <= writer.base || link.length > writer.ready_length {
            return None;
        }
        let at = writer
            .ready
            .partition_point(|id| self.batch(*id).last < link.length);
        writer.ready.get(at).copied()
    }

    /// Number of writers that were ever named by a batch of theirs.
    #[must_use]
    pub const fn writers(&self) -> usize {
        self.writers.len()
    }

    /// The ready batches of a writer, oldest first, without those that were forgotten.
    #[must_use]
    pub fn batches_of(&self, writer: &CoreKey) -> &[BatchId] {
        self.ids
            .get(writer)
            .map_or(&[], |id| &self.writers[id.index()].ready)
    }

    /// How much of a writer is ready.
    #[must_use]
    pub fn ready_length(&self, writer: &CoreKey) -> Length {
        self.ids
            .get(writer)
            .map_or(Length::ZERO, |id| self.writers[id.index()].ready_length)
    }

    /// How much of a writer was added.
    #[must_use]
    pub fn known_length(&self, writer: &CoreKey) -> Length {
        self.ids
            .get(writer)
            .map_or(Length::ZERO, |id| self.writers[id.index()].known_length)
    }

    /// What ready batches cannot be built without: the first link that each stuck writer waits for and that was not
    /// added yet.
    pub fn missing(&self) -> impl Iterator<Item = Link> {
        self.absent.iter().map(|(key, length)| Link {
            key: *key,
            length: *length,
        })
    }

    /// The same, as a value that costs nothing to make.
    pub(crate) fn absent(&self) -> OrdSet<(CoreKey, Length)> {
        self.absent.clone()
    }

    /// What comes before a ready batch, with itself: how much of each log. Of what was forgotten, what is linked directly.
    pub(crate) fn past_of(&self, id: BatchId) -> BTreeMap<CoreKey, Length> {
        let mut lengths: BTreeMap<CoreKey, Length> = BTreeMap::new();
        let mut is_before = vec![false; self.batches.len()];
        is_before[id.index()] = true;
        // Parents become ready before their children.
        for at in (0..=id.index()).rev() {
            if !is_before[at] {
                continue;
            }
            let batch = &self.batches[at];
            for parent in &batch.parents {
                is_before[parent.index()] = true;
            }
            let own = Link {
                key: batch.writer,
                length: batch.last,
            };
            for link in batch.behind.iter().chain([&own]) {
                let length = lengths.entry(link.key).or_default();
                *length = (*length).max(link.length);
            }
        }
        lengths
    }

    /// Who waits for what: each stuck writer with the first link that it waits for.
    pub(crate) fn stuck(&self) -> impl Iterator<Item = (CoreKey, Link)> {
        self.waits.iter().flat_map(move |((key, length), writers)| {
            let link = Link {
                key: *key,
                length: *length,
            };
            let waiting = move |id: &WriterId| (self.writers[id.index()].key, link);
            writers.iter().map(waiting)
        })
    }

    /// What ready batches need without being ordered by it, as long as they are here and nobody took it.
    pub(crate) fn gates(&self) -> &[Gate] {
        &self.gates
    }

    /// Everything that the waiting batches of a writer name, each with the first and the last block of its batch.
    pub(crate) fn waiting_for(&self, writer: &CoreKey) -> impl Iterator<Item = (Length, Length, Link)> {
        let writer = self.ids.get(writer).map(|id| &self.writers[id.index()]);
        let waiting = writer.into_iter().flat_map(|writer| &writer.waiting);
        waiting.flat_map(|Waiting { batch, .. }| {
            let backer = batch.claim.map(|claim| claim.backer);
            let named = batch.links.iter().chain(&batch.gates).copied().chain(backer);
            named.map(|link| (batch.first, batch.last, link))
        })
    }

    // ---- private

    fn writer_mut(&mut self, key: CoreKey) -> WriterId {
        // One writer needs at least one batch, and batches are counted with 32 bits.
        let next = WriterId(u32::try_from(self.writers.len()).unwrap_or(u32::MAX));
        let next = self.free.last().copied().unwrap_or(next);
        let id = *self.ids.entry(key).or_insert(next);
        if id == next {
            let writer = Writer {
                key,
                base: Length::ZERO,
                ready: Vec::new(),
                ready_length: Length::ZERO,
                known_length: Length::ZERO,
                waiting: VecDeque::new(),
            };
            if self.free.pop().is_some() {
                self.writers[id.index()] = writer;
            } else {
                self.writers.push(writer);
            }
        }
        id
    }

    /// Opens gates of the first waiting batch of each of these writers, and of all that follows from it.
    fn advance(&mut self, mut woken: Vec<WriterId>) {
        while let Some(id) = woken.pop() {
            while let Some(waiting) = self.writers[id.index()].waiting.front() {
                let Some(gate) = waiting.gate() else {
                    self.make_ready(id, &mut woken);
                    continue;
                };
                if !self.is_open(gate) {
                    let at = (gate.key, gate.length);
                    if gate.length > self.known_length(&gate.key) {
                        self.absent.insert(at);
                    }
                    self.waits.entry(at).or_default().push(id);
                    break;
                }
                if let Some(waiting) = self.writers[id.index()].waiting.front_mut() {
                    waiting.next += 1;
                }
            }
        }
    }

    fn is_open(&self, gate: Link) -> bool {
        if gate.length == Length::ZERO {
            // No honest writer names nothing; waiting is the one answer that cannot differ between peers.
            return false;
        }
        let ready = self.ready_length(&gate.key);
        let is_start = gate.length == self.base_length(&gate.key) && gate.length == ready;
        if is_start && self.planted.has(Slip::BaseLinkWaits) {
            return false;
        }
        gate.length <= ready || self.is_anchor(gate) || self.planted.has(Slip::EarlyDrain)
    }

    fn is_anchor(&self, link: Link) -> bool {
        link.length == Length(1) && self.anchors.contains(&link.key)
    }

    fn make_ready(&mut self, writer_id: WriterId, woken: &mut Vec<WriterId>) {
        let Some(Waiting { batch, .. }) = self.writers[writer_id.index()].waiting.pop_front() else {
            return;
        };
        let backer = batch.claim.map(|claim| claim.backer);
        let gating_backer = backer.filter(|_| self.follows_links_alone);
        let backer =
            backer.filter(|_| !self.follows_links_alone && !self.planted.has(Slip::UnfollowedBacker));
        let own = Link {
            key: batch.writer,
            length: batch.last,
        };
        let ordering = batch.links.iter().copied().chain(backer);
        let anchors = ordering.clone().filter(|link| self.is_anchor(*link));
        let gates = batch.gates.iter().copied().chain(anchors).chain(gating_backer);
        let gates: Vec<Gate> = gates.map(|needs| Gate { batch: own, needs }).collect();
        self.gates.extend(gates);
        let mut parents = Vec::new();
        let mut behind = Vec::new();
        for link in ordering {
            if link.length <= self.base_length(&link.key) {
                behind.push(link);
            } else {
                parents.extend(self.find(link));
            }
        }
        let writer = &mut self.writers[writer_id.index()];
        parents.extend(writer.ready.last());
        if writer.ready.is_empty() && writer.base > Length::ZERO {
            behind.push(Link {
                key: writer.key,
                length: writer.base,
            });
        }
        parents.sort_unstable();
        parents.dedup();
        let id = id(self.batches.len());
        let sequence = u32::try_from(writer.ready.len()).unwrap_or(u32::MAX);
        writer.ready.push(id);
        writer.ready_length = batch.last;
        self.batches.push(Batch {
            writer: batch.writer,
            writer_id,
            sequence,
            first: batch.first,
            last: batch.last,
            timestamp: batch.timestamp,
            optimistic: batch.optimistic,
            claim: batch.claim,
            parents,
            behind,
        });
        let key = writer.key;
        let reached = (key, Length::ZERO)..=(key, batch.last);
        let open: Vec<_> = self.waits.range(reached).map(|(at, _)| *at).collect();
        for at in open {
            let waiters = self.waits.remove(&at).unwrap_or_default();
            let most = match self.planted.has(Slip::OneWaiterWoken) {
                true => 1,
                false => usize::MAX,
            };
            woken.extend(waiters.into_iter().take(most));
        }
    }
}

fn id(index: usize) -> BatchId {
    // `insert` refuses more batches than ids.
    BatchId(u32::try_from(index).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
