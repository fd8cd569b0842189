//! From working nodes to blocks (spec/hyperbee.md 7.3 to 7.5).

use bytes::Bytes;

use crate::env::Slip;
use crate::wire::EncodeError;

use super::super::block::{Block, KeyRecord, NodeLogs, Previous};
use super::super::error::BeeError;
use super::super::family::FamilyReader;
use super::super::node::{Edit, KeyAt, KeySlot, KidAt, Target};
use super::super::numbers::Numbers;
use super::super::place::{CoreId, ElementPlace};
use super::super::pointer::{BlockEdit, EditKind, Pointer, ValuePointer};
use super::super::source::Blocks;
use super::written::{WrittenBatch, WrittenNode};
use super::{TreeBatch, Working, index};

/// What a pointer counts for when blocks are filled, in bytes.
const POINTER_COST: usize = 12;

/// A log of more edits is replaced by the list that it makes.
const LOG_EDITS_MAX: usize = 16;

/// The content of one block to be.
#[derive(Debug, Default)]
struct BlockContent {
    size: usize,
    nodes: Vec<u32>,
    keys: Vec<u32>,
    /// Keys whose values are stored here.
    values: Vec<u32>,
}

/// A position in a block to be: which block, and where in its list.
#[derive(Debug, Clone, Copy)]
struct Slot {
    group: usize,
    offset: usize,
}

/// Everything about a batch that is known once its content is spread over groups.
struct Layout {
    groups: Vec<BlockContent>,
    /// Seq of the block before the first one.
    length: u64,
    nodes: Vec<Option<Slot>>,
    keys: Vec<Option<Slot>>,
    values: Vec<Option<Slot>>,
}

impl TreeBatch {
    /// Makes the blocks. Nothing changes until they are appended and the result is given to
    /// [`super::super::Tree::commit`].
    ///
    /// # Errors
    ///
    /// When the newest block of the local core, or the block with its core list, is missing or corrupt; or when a
    /// node has grown beyond what the format can hold, which happens only on trees of a degree above 128.
    pub fn finish(mut self, blocks: &dyn Blocks) -> Result<WrittenBatch, BeeError> {
        let nothing = WrittenBatch::nothing(self.bee.clone(), self.local, self.length, self.unchanged);
        let KidAt::Working(root) = self.root else {
            return Ok(nothing);
        };
        // An empty batch makes the first block of a core, but no other.
        if self.applied == 0 && self.length > 0 {
            return Ok(nothing);
        }
        let bee = self.bee.clone();
        let reader = FamilyReader { bee: &bee, blocks };
        let mut numbers = match bee.numbers(self.local) {
            Some(numbers) if numbers.length == self.length => Numbers::clone(&numbers),
            _ => Numbers::read(&reader, self.local, self.length)?,
        };
        let layout = self.lay_out(root);
        let written = self.encode(&reader, &layout, &mut numbers)?;
        Ok(self.written(&layout, numbers, written, nothing))
    }

    /// Spreads nodes and keys over groups: depth first, the last child first. Every rewritten child is noted in its
    /// parent's log.
    fn lay_out(&mut self, root: u32) -> Layout {
        let mut groups = vec![BlockContent::default()];
        let mut nodes = vec![None; self.nodes.len()];
        let mut keys = vec![None; self.keys.len()];
        let mut values = vec![None; self.keys.len()];
        let mut external = Vec::new();
        let mut stack = vec![root];
        while let Some(id) = stack.pop() {
            let last = &groups[groups.len() - 1];
            if last.size >= self.block_bytes_preferred && !last.nodes.is_empty() {
                groups.push(BlockContent::default());
            }
            let at = groups.len() - 1;
            let group = &mut groups[at];
            let node = &mut self.nodes[index(id)].node;
            nodes[index(id)] = Some(Slot {
                group: at,
                offset: group.nodes.len(),
            });
            group.nodes.push(id);
            group.size += POINTER_COST * (node.key_log.len() + node.kid_log.len());
            for slot in &node.keys {
                let KeyAt::Fresh(key) = slot.at else { continue };
                let record = &self.keys[index(key)];
                group.size += record.key.len();
                if record.value.len() > self.value_inline_bytes_max {
                    external.push(key);
                    group.size += POINTER_COST;
                }
                keys[index(key)] = Some(Slot {
                    group: at,
                    offset: group.keys.len(),
                });
                group.keys.push(key);
            }
            for position in 0..node.kids.len() {
                if let KidAt::Working(kid) = node.kids[position].at {
                    node.log_kid(EditKind::Set, position, Target::Working(kid));
                    stack.push(kid);
                }
            }
        }
        let mut open = false;
        for key in external {
            if !open {
                groups.push(BlockContent::default());
            }
            let at = groups.len() - 1;
            let group = &mut groups[at];
            values[index(key)] = Some(Slot {
                group: at,
                offset: group.values.len(),
            });
            group.values.push(key);
            group.size += self.keys[index(key)].value.len();
            open = group.size < self.block_bytes_preferred;
        }
        Layout {
            groups,
            length: self.length,
            nodes,
            keys,
            values,
        }
    }

    /// Encodes the groups, the root's first, and gives the blocks in the order of the core. Logs are left as they
    /// were written.
    fn encode(
        &mut self,
        reader: &FamilyReader<'_>,
        layout: &Layout,
        numbers: &mut Numbers,
    ) -> Result<Vec<Bytes>, BeeError> {
        let root = layout.groups[0].nodes[0];
        let degree = self.nodes[index(root)].node.degree;
        let count = layout.groups.len();
        let mut blocks = Vec::with_capacity(count);
        for (at, group) in layout.groups.iter().enumerate() {
            let mut block = Block::empty();
            block.degree = degree;
            block.batch_start = to_u64(count - 1 - at);
            block.batch_end = to_u64(at);
            block.values = some_list(
                group
                    .values
                    .iter()
                    .map(|key| std::mem::take(&mut self.keys[index(*key)].value)),
            );
            block.keys = some_list(group.keys.iter().map(|key| self.key_record(*key, layout)));
            let mut cohorts = Vec::new();
            let mut nodes = Vec::with_capacity(group.nodes.len());
            for id in &group.nodes {
                let mut pen = Pen {
                    batch: self,
                    reader,
                    layout,
                    numbers,
                    group: at,
                    cohorts: &mut cohorts,
                };
                nodes.push(pen.node(*id)?);
            }
            block.tree = some_list(nodes.into_iter());
            block.cohorts = some_list(cohorts.into_iter());
            blocks.push(block);
        }
        let previous = self.previous.map(|place| Previous {
            core: numbers.number(reader, place.core),
            seq: place.seq,
        });
        blocks[0].previous = previous;
        let mut listed = numbers.grown();
        if let Some(cores) = listed.as_mut().filter(|_| reader.bee.has(Slip::LastCoreListed)) {
            cores.drain(..cores.len().saturating_sub(1));
        }
        blocks[0].metadata = listed;
        let checkpoint = if blocks[0].metadata.is_some() {
            match reader.bee.has(Slip::ListInFirstBlock) {
                true => self.length + 1,
                false => self.length + to_u64(count),
            }
        } else {
            numbers.checkpoint
        };
        numbers.commit(self.length + to_u64(count), checkpoint);
        let encoded = blocks.into_iter().rev().map(|mut block| {
            block.checkpoint = checkpoint;
            Ok(Bytes::from(block.encode()?))
        });
        encoded.collect()
    }

    /// Takes a key record out of the batch. A value that is stored elsewhere stays there.
    fn key_record(&mut self, key: u32, layout: &Layout) -> KeyRecord {
        let record = &mut self.keys[index(key)];
        let pointer = layout.values[index(key)].map(|slot| ValuePointer {
            at: layout.pointer(slot),
            split: 0,
        });
        KeyRecord {
            key: std::mem::take(&mut record.key),
            value: pointer.is_none().then(|| std::mem::take(&mut record.value)),
            value_pointer: pointer,
        }
    }

    fn written(
        self,
        layout: &Layout,
        numbers: Numbers,
        blocks: Vec<Bytes>,
        nothing: WrittenBatch,
    ) -> WrittenBatch {
        let place = |slot: &Option<Slot>| slot.map(|slot| layout.place(slot, self.local));
        let keys = layout.keys.iter().map(place).collect();
        let mut nodes: Vec<Option<Working>> = self.nodes.into_iter().map(Some).collect();
        // Parents stand before their children in the walk.
        let order = layout.groups.iter().flat_map(|group| &group.nodes).rev();
        let nodes = order.filter_map(|id| {
            Some(WrittenNode {
                id: *id,
                place: place(&layout.nodes[index(*id)])?,
                node: nodes[index(*id)].take()?.node,
            })
        });
        nothing.with(blocks, self.applied, nodes.collect(), keys, numbers)
    }
}

impl Layout {
    fn seq(&self, slot: Slot) -> u64 {
        self.length + to_u64(self.groups.len() - 1 - slot.group)
    }

    /// As a pointer inside of the batch, whose blocks are all in one core.
    fn pointer(&self, slot: Slot) -> Pointer {
        Pointer {
            core: 0,
            seq: self.seq(slot),
            offset: to_u64(slot.offset),
        }
    }

    fn place(&self, slot: Slot, local: CoreId) -> ElementPlace {
        ElementPlace {
            core: local,
            seq: self.seq(slot),
            offset: u32::try_from(slot.offset).unwrap_or(u32::MAX),
        }
    }
}

/// Writes the nodes of one group.
struct Pen<'a, 'r> {
    batch: &'a mut TreeBatch,
    reader: &'a FamilyReader<'r>,
    layout: &'a Layout,
    numbers: &'a mut Numbers,
    group: usize,
    cohorts: &'a mut Vec<Vec<BlockEdit>>,
}

impl Pen<'_, '_> {
    fn node(&mut self, id: u32) -> Result<NodeLogs, BeeError> {
        let node = &mut self.batch.nodes[index(id)].node;
        let key_log = std::mem::take(&mut node.key_log);
        let kid_log = std::mem::take(&mut node.kid_log);
        let key_list =
            must_rebase(node.keys.len(), &key_log).then(|| inserts(node.keys.iter().map(KeySlot::target)));
        let kid_list = must_rebase(node.kids.len(), &kid_log).then(|| {
            inserts(node.kids.iter().map(|slot| match slot.at {
                KidAt::Stored(place) => Target::Stored(place),
                KidAt::Working(id) => Target::Working(id),
            }))
        });
        let (key_log, keys) = self.log(key_log, key_list)?;
        let (kid_log, children) = self.log(kid_log, kid_list)?;
        let node = &mut self.batch.nodes[index(id)].node;
        node.key_log = key_log;
        node.kid_log = kid_log;
        Ok(NodeLogs { keys, children })
    }

    /// Writes a log, or the whole list in its stead: as it is kept in memory, and as it goes into the block.
    fn log(
        &mut self,
        log: Vec<Edit>,
        list: Option<Vec<Edit>>,
    ) -> Result<(Vec<Edit>, Vec<BlockEdit>), BeeError> {
        let Some(list) = list else {
            return self.edits(log);
        };
        let (_, edits) = self.edits(list)?;
        let slot = Slot {
            group: self.group,
            offset: self.cohorts.len(),
        };
        self.cohorts.push(edits);
        let kept = Edit {
            kind: EditKind::Cohort,
            index: 0,
            target: Target::Stored(self.layout.place(slot, self.batch.local)),
        };
        let edit = BlockEdit {
            kind: EditKind::Cohort,
            index: 0,
            pointer: Some(self.layout.pointer(slot)),
        };
        Ok((vec![kept], vec![edit]))
    }

    fn edits(&mut self, mut edits: Vec<Edit>) -> Result<(Vec<Edit>, Vec<BlockEdit>), BeeError> {
        let mut encoded = Vec::with_capacity(edits.len());
        for edit in &mut edits {
            let (target, pointer) = self.target(edit.target);
            let index = u8::try_from(edit.index).map_err(|_| {
                BeeError::Encode(EncodeError::Unsupported {
                    what: "tree node of more than 256 elements",
                })
            })?;
            edit.target = target;
            encoded.push(BlockEdit {
                kind: edit.kind,
                index,
                pointer,
            });
        }
        Ok((edits, encoded))
    }

    /// Registers the core that a pointer is in at this moment, and gives its final place.
    fn target(&mut self, target: Target) -> (Target, Option<Pointer>) {
        match target {
            Target::Nothing => (Target::Nothing, None),
            Target::Stored(place) => {
                let pointer = Pointer {
                    core: self.numbers.number(self.reader, place.core),
                    seq: place.seq,
                    offset: u64::from(place.offset),
                };
                (target, Some(pointer))
            }
            // A key that gets its place in a later group, or never, is a placeholder here.
            Target::Fresh(id) => match self.layout.keys[index(id)] {
                Some(slot) if slot.group <= self.group => self.own(slot),
                _ => (Target::Nothing, None),
            },
            Target::Working(id) => {
                // The node gets its place only after its parent: until then it is where its old version is.
                let origin = self.batch.nodes[index(id)].origin;
                self.numbers.number(self.reader, origin.core);
                match self.layout.nodes[index(id)] {
                    Some(slot) => self.own(slot),
                    None => (Target::Nothing, None),
                }
            }
        }
    }

    fn own(&self, slot: Slot) -> (Target, Option<Pointer>) {
        let place = self.layout.place(slot, self.batch.local);
        (Target::Stored(place), Some(self.layout.pointer(slot)))
    }
}

/// True when a log is replaced by the list that it makes.
fn must_rebase(elements: usize, log: &[Edit]) -> bool {
    elements < log.len() || log.len() > LOG_EDITS_MAX || log.iter().any(|edit| edit.index > 255)
}

/// The edits that make a list from nothing.
fn inserts(targets: impl Iterator<Item = Target>) -> Vec<Edit> {
    (0..)
        .zip(targets)
        .map(|(index, target)| Edit {
            kind: EditKind::Insert,
            index,
            target,
        })
        .collect()
}

fn some_list<T>(items: impl ExactSizeIterator<Item = T>) -> Option<Vec<T>> {
    (items.len() > 0).then(|| items.collect())
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
