//! One block of the tree, as bytes and as parts (spec/hyperbee.md 2 and 3).
//!
//! Type 1 is written and read; types 0 and 10 are only read, as the type 1 block that means the same
//! (`legacy`). Decoding keeps keys and values as slices of the block and checks nothing but the form: whether
//! a pointer leads anywhere is found out by whoever follows it.

use bytes::Bytes;

use crate::crypto::{CoreKey, Hash};
use crate::wire::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, Index};

use super::legacy;
use super::pointer::{BlockEdit, ValuePointer};

/// The degree that a block has when it does not say.
pub const DEGREE_DEFAULT: u64 = 128;

/// The block types of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Type 0, the first format of Hyperbee 2.
    First,
    /// Type 1, the current format.
    Current,
    /// Type 10, Hyperbee 1.
    Legacy,
}

/// Everything that one block holds.
///
/// ```
/// use autobee::bee::Block;
/// use autobee::wire::Index;
/// use bytes::Bytes;
///
/// // The first batch of a tree: one node, whose log inserts the one key of the block.
/// let bytes = Bytes::from_static(&[1, 0, 0, 0, 12, 1, 1, 0x11, 0, 1, 1, b'k', 1, 1, b'v']);
/// let block = Block::decode(&bytes, Index(0))?;
/// assert_eq!(block.keys.as_ref().map(|keys| keys[0].key.clone()), Some(Bytes::from_static(b"k")));
/// assert_eq!(block.encode()?, bytes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The format that it was read from.
    pub kind: BlockKind,
    /// Length of the core whose last block holds the list that core numbers of this block refer to; 0 for none.
    pub checkpoint: u64,
    /// Blocks of the same batch before this one.
    pub batch_start: u64,
    /// Blocks of the same batch after this one.
    pub batch_end: u64,
    /// The head that the batch was built on. Only in the last block of a batch.
    pub previous: Option<Previous>,
    /// The complete list of other cores, when it grew. Only in the last block of a batch.
    pub metadata: Option<Vec<CoreRecord>>,
    /// Tree nodes.
    pub tree: Option<Vec<NodeLogs>>,
    /// Key records.
    pub keys: Option<Vec<KeyRecord>>,
    /// Values that are stored apart from their keys.
    pub values: Option<Vec<Bytes>>,
    /// Edit lists that logs refer to.
    pub cohorts: Option<Vec<Vec<BlockEdit>>>,
    /// Half of the most children that a node may have.
    pub degree: u64,
}

/// The head below a batch: its core, and the last block of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Previous {
    /// Number of the core.
    pub core: u64,
    /// Its last block.
    pub seq: u64,
}

/// A node as it is stored: the edits that rebuild its two lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeLogs {
    /// Edits of the key list.
    pub keys: Vec<BlockEdit>,
    /// Edits of the child list.
    pub children: Vec<BlockEdit>,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The key.
    pub key: Bytes,
    /// The value, when it is stored here. It wins over the pointer.
    pub value: Option<Bytes>,
    /// Where the value is, when it is stored elsewhere.
    pub value_pointer: Option<ValuePointer>,
}

/// An entry of a core list. Only the key is ever written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreRecord {
    /// The core.
    pub key: CoreKey,
    /// Reserved.
    pub fork: u64,
    /// Reserved.
    pub length: u64,
    /// Reserved.
    pub tree_hash: Option<Hash>,
}

impl Block {
    /// A block of type 1 without content.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            kind: BlockKind::Current,
            checkpoint: 0,
            batch_start: 0,
            batch_end: 0,
            previous: None,
            metadata: None,
            tree: None,
            keys: None,
            values: None,
            cohorts: None,
            degree: DEGREE_DEFAULT,
        }
    }

    /// Reads the block that stands at `seq` of its core. Keys and values stay slices of `bytes`.
    ///
    /// # Errors
    ///
    /// When the bytes are no block of a known type. Bytes after the block are ignored.
    pub fn decode(bytes: &Bytes, seq: Index) -> Result<Self, DecodeError> {
        let mut from = Decoder::new(bytes);
        match from.uint()? {
            0 => legacy::first(bytes, &mut from, seq),
            1 => current(bytes, &mut from),
            10 => legacy::hyperbee1(bytes, seq),
            other => Err(from.unknown("block type", other)),
        }
    }

    /// The block in the current format, whatever it was read from.
    ///
    /// # Errors
    ///
    /// When a number or a list is larger than the format allows.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut to = Encoder::with_capacity(self.encoded_about());
        let degree = Some(self.degree).filter(|degree| *degree != DEGREE_DEFAULT && *degree != 0);
        to.uint(1)
            .uint(self.checkpoint)
            .uint(self.batch_start)
            .uint(self.batch_end);
        to.uint(
            u64::from(self.previous.is_some())
                | u64::from(self.metadata.is_some()) << 1
                | u64::from(self.tree.is_some()) << 2
                | u64::from(self.keys.is_some()) << 3
                | u64::from(self.values.is_some()) << 4
                | u64::from(self.cohorts.is_some()) << 5
                | u64::from(degree.is_some()) << 6,
        );
        if let Some(previous) = &self.previous {
            to.uint(previous.core).uint(previous.seq);
        }
        if let Some(cores) = &self.metadata {
            to.frame(|to| {
                to.array(cores, CoreRecord::encode);
            });
        }
        if let Some(nodes) = &self.tree {
            to.array(nodes, |node, to| {
                to.array(&node.keys, BlockEdit::encode)
                    .array(&node.children, BlockEdit::encode);
            });
        }
        if let Some(keys) = &self.keys {
            to.array(keys, KeyRecord::encode);
        }
        if let Some(values) = &self.values {
            to.array(values, |value, to| {
                to.buffer(value);
            });
        }
        if let Some(cohorts) = &self.cohorts {
            to.array(cohorts, |edits, to| {
                to.array(edits, BlockEdit::encode);
            });
        }
        if let Some(degree) = degree {
            to.uint(degree);
        }
        to.finish()
    }

    /// About how many bytes the block is, mostly a few more than it is.
    fn encoded_about(&self) -> usize {
        const HEADER: usize = 32;
        const EDIT: usize = 8;
        let nodes = self.tree.iter().flatten();
        let edits = nodes.map(|node| 2 + EDIT * (node.keys.len() + node.children.len()));
        let records = self.keys.iter().flatten();
        let pairs = records.map(|record| 12 + record.key.len() + record.value.as_ref().map_or(0, Bytes::len));
        let values = self.values.iter().flatten().map(|value| 5 + value.len());
        let cohorts = self.cohorts.iter().flatten().map(|edits| 2 + EDIT * edits.len());
        let cores = self.metadata.iter().flatten().map(|_| 33);
        let parts = edits.chain(pairs).chain(values).chain(cohorts).chain(cores);
        parts.fold(HEADER, usize::saturating_add)
    }

    /// Bytes of memory that the decoded block takes, without the block's own bytes.
    pub(super) fn footprint(&self) -> usize {
        fn edits(count: usize) -> usize {
            size_of::<BlockEdit>().saturating_mul(count)
        }
        let nodes = self.tree.iter().flatten().fold(0, |sum: usize, node| {
            sum.saturating_add(size_of::<NodeLogs>())
                .saturating_add(edits(node.keys.len()))
                .saturating_add(edits(node.children.len()))
        });
        let cohorts = self.cohorts.iter().flatten().fold(0, |sum: usize, list| {
            sum.saturating_add(size_of::<Vec<BlockEdit>>())
                .saturating_add(edits(list.len()))
        });
        let keys = self.keys.as_ref().map_or(0, Vec::len) * size_of::<KeyRecord>();
        let values = self.values.as_ref().map_or(0, Vec::len) * size_of::<Bytes>();
        let cores = self.metadata.as_ref().map_or(0, Vec::len) * size_of::<CoreRecord>();
        size_of::<Self>() + nodes + cohorts + keys + values + cores
    }
}

impl KeyRecord {
    /// Reads a record; key and value are slices of `whole`, which `from` reads.
    ///
    /// # Errors
    ///
    /// When the bytes end early.
    pub fn decode(whole: &Bytes, from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let key = slice(whole, from)?;
        let flags = from.byte()?;
        let value = if flags & 1 == 0 {
            None
        } else {
            Some(slice(whole, from)?)
        };
        let value_pointer = if flags & 2 == 0 {
            None
        } else {
            Some(ValuePointer::parts(from, flags >> 2)?)
        };
        Ok(Self {
            key,
            value,
            value_pointer,
        })
    }
}

impl Encode for KeyRecord {
    fn encode(&self, to: &mut Encoder) {
        let pointer = self
            .value_pointer
            .map_or(0, |pointer| 2 | pointer.presence() << 2);
        to.buffer(&self.key)
            .raw(&[u8::from(self.value.is_some()) | pointer]);
        if let Some(value) = &self.value {
            to.buffer(value);
        }
        if let Some(pointer) = self.value_pointer {
            pointer.encode_parts(to);
        }
    }
}

impl From<CoreKey> for CoreRecord {
    fn from(key: CoreKey) -> Self {
        Self {
            key,
            fork: 0,
            length: 0,
            tree_hash: None,
        }
    }
}

impl Decode for CoreRecord {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let key = CoreKey::decode(from)?;
        let flags = from.byte()?;
        Ok(Self {
            key,
            fork: if flags & 1 == 0 { 0 } else { from.uint()? },
            length: if flags & 2 == 0 { 0 } else { from.uint()? },
            tree_hash: if flags & 4 == 0 {
                None
            } else {
                Some(Hash::decode(from)?)
            },
        })
    }
}

impl Encode for CoreRecord {
    fn encode(&self, to: &mut Encoder) {
        let flags = u8::from(self.fork != 0)
            | u8::from(self.length != 0) << 1
            | u8::from(self.tree_hash.is_some()) << 2;
        to.raw(self.key.as_bytes()).raw(&[flags]);
        if self.fork != 0 {
            to.uint(self.fork);
        }
        if self.length != 0 {
            to.uint(self.length);
        }
        if let Some(hash) = &self.tree_hash {
            hash.encode(to);
        }
    }
}

/// The next bytes with a length in front, as a slice of `whole`.
pub(super) fn slice(whole: &Bytes, from: &mut Decoder<'_>) -> Result<Bytes, DecodeError> {
    Ok(whole.slice_ref(from.buffer()?))
}

/// The rest of a block of type 1.
fn current(whole: &Bytes, from: &mut Decoder<'_>) -> Result<Block, DecodeError> {
    let mut block = Block::empty();
    block.checkpoint = from.uint()?;
    block.batch_start = from.uint()?;
    block.batch_end = from.uint()?;
    let flags = from.uint()?;
    if flags & 1 != 0 {
        block.previous = Some(Previous {
            core: from.uint()?,
            seq: from.uint()?,
        });
    }
    if flags & 2 != 0 {
        block.metadata = Some(from.frame(|from| from.array(CoreRecord::decode))?);
    }
    if flags & 4 != 0 {
        block.tree = Some(from.array(|from| {
            Ok(NodeLogs {
                keys: from.array(BlockEdit::decode)?,
                children: from.array(BlockEdit::decode)?,
            })
        })?);
    }
    if flags & 8 != 0 {
        block.keys = Some(from.array(|from| KeyRecord::decode(whole, from))?);
    }
    if flags & 16 != 0 {
        block.values = Some(from.array(|from| slice(whole, from))?);
    }
    if flags & 32 != 0 {
        block.cohorts = Some(from.array(|from| from.array(BlockEdit::decode))?);
    }
    if flags & 64 != 0 {
        block.degree = Some(from.uint()?)
            .filter(|degree| *degree != 0)
            .unwrap_or(DEGREE_DEFAULT);
    }
    Ok(block)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::pointer::{EditKind, Pointer};
    use super::*;

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0..4_u64, 0..0x1_0000_u64, 0..=crate::wire::compact::UINT_MAX]
    }

    fn pointer() -> impl Strategy<Value = Pointer> {
        (number(), number(), number()).prop_map(|(core, seq, offset)| Pointer { core, seq, offset })
    }

    fn edit() -> impl Strategy<Value = BlockEdit> {
        (0..8_u8, any::<u8>(), proptest::option::of(pointer())).prop_map(|(kind, index, pointer)| BlockEdit {
            kind: EditKind::from_bits(kind),
            index,
            pointer,
        })
    }

    fn text() -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..6).prop_map(Bytes::from)
    }

    prop_compose! {
        fn key_record()(
            key in text(),
            value in proptest::option::of(text()),
            at in proptest::option::of((pointer(), 0..3_u64)),
        ) -> KeyRecord {
            KeyRecord { key, value, value_pointer: at.map(|(at, split)| ValuePointer { at, split }) }
        }
    }

    prop_compose! {
        fn any_block()(
            (checkpoint, batch_start, batch_end) in (number(), number(), number()),
            previous in proptest::option::of((number(), number())),
            metadata in proptest::option::of(vec(any::<[u8; 32]>(), 0..3)),
            tree in proptest::option::of(vec((vec(edit(), 0..4), vec(edit(), 0..4)), 0..3)),
            keys in proptest::option::of(vec(key_record(), 0..4)),
            values in proptest::option::of(vec(text(), 0..3)),
            cohorts in proptest::option::of(vec(vec(edit(), 0..4), 0..3)),
            degree in 1..300_u64,
        ) -> Block {
            Block {
                kind: BlockKind::Current,
                checkpoint,
                batch_start,
                batch_end,
                previous: previous.map(|(core, seq)| Previous { core, seq }),
                metadata: metadata.map(|keys| keys.into_iter().map(|key| CoreKey::new(key).into()).collect()),
                tree: tree.map(|nodes| {
                    nodes.into_iter().map(|(keys, children)| NodeLogs { keys, children }).collect()
                }),
                keys,
                values,
                cohorts,
                degree,
            }
        }
    }

    proptest! {
        #[test]
        fn every_block_survives(block in any_block()) {
            let bytes = Bytes::from(block.encode().unwrap());
            prop_assert_eq!(Block::decode(&bytes, Index(7)).unwrap(), block);
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            kind in prop_oneof![Just(0_u8), Just(1), Just(10)],
            rest in vec(any::<u8>(), 0..96),
            seq in 0..3_u64,
        ) {
            let mut bytes = vec![kind];
            bytes.extend(rest);
            let bytes = Bytes::from(bytes);
            if let Ok(block) = Block::decode(&bytes, Index(seq)) {
                let again = Bytes::from(block.encode().unwrap());
                let mut back = Block::decode(&again, Index(seq)).unwrap();
                back.kind = block.kind;
                prop_assert_eq!(back, block);
            }
        }
    }
}
