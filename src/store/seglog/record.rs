//! One change as it stands in a segment, with a checksum of its own.
//!
//! ```text
//! block     1 | data | index | mask | length | crc of the block | crc of all before and the nodes | nodes | block
//! nodes     2 | data | index | mask |                             crc of all before and the nodes | nodes
//! put       3 | key length | key | value length | crc of all before and the value | value
//! delete    4 | key length | key | crc
//! range     5 | key length | from | key length | to | crc
//! ```
//!
//! Numbers are LEB128, checksums CRC-32 in little endian. A block stands with those nodes of the tree that it
//! completes: bit `d` of the mask says that the one `d` levels above the leaf is there, 40 bytes each. So the place of
//! a block is the place of its nodes too, and one read gets both.

use std::ops::Range;

use super::super::{DataPointer, Key};
use super::tree;

/// Bytes of a node: hash and size.
pub(super) const NODE_BYTES: usize = 40;

/// More than the head of any block record has, checksums included.
pub(super) const BLOCK_HEAD_BYTES: usize = 56;

const BLOCK: u8 = 1;
const NODES: u8 = 2;
const PUT: u8 = 3;
const DELETE: u8 = 4;
const RANGE: u8 = 5;

/// A change, borrowed from the bytes of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Block(BlockRecord<'a>),
    Put { key: Key, value: &'a [u8] },
    Delete { key: Key },
    DeleteRange { from: Key, to: Key },
}

/// A block with the nodes that it completes, or such nodes whose block was cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockRecord<'a> {
    pub(super) data: DataPointer,
    pub(super) index: u64,
    pub(super) mask: u64,
    /// As many as the mask has bits, lowest first.
    pub(super) nodes: &'a [u8],
    pub(super) block: Option<&'a [u8]>,
}

impl<'a> BlockRecord<'a> {
    pub(super) fn node(&self, depth: u32) -> Option<&'a [u8]> {
        let range = node_range(self.mask, depth)?;
        self.nodes.get(range)
    }

    /// Reads the part of a block record that holds its nodes: enough of the first bytes will do.
    pub(super) fn decode_nodes(bytes: &'a [u8]) -> Option<Self> {
        let head = BlockHead::decode(bytes)?;
        Some(Self {
            data: head.data,
            index: head.index,
            mask: head.mask,
            nodes: bytes.get(head.nodes)?,
            block: None,
        })
    }
}

/// Where a node stands among those of a record.
fn node_range(mask: u64, depth: u32) -> Option<Range<usize>> {
    let bit = 1_u64.checked_shl(depth)?;
    if mask & bit == 0 {
        return None;
    }
    let start = (mask & (bit - 1)).count_ones() as usize * NODE_BYTES;
    Some(start..start + NODE_BYTES)
}

struct BlockHead {
    data: DataPointer,
    index: u64,
    mask: u64,
    nodes: Range<usize>,
    /// Length and checksum, if a block is there.
    block: Option<(u64, u32)>,
}

impl BlockHead {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut at = 0;
        let tag = byte(bytes, &mut at)?;
        let data = DataPointer(number(bytes, &mut at)?);
        let index = number(bytes, &mut at)?;
        let mask = number(bytes, &mut at)?;
        let block = match tag {
            BLOCK => Some((number(bytes, &mut at)?, checksum(bytes, &mut at)?)),
            NODES => None,
            _ => return None,
        };
        let head = at;
        let crc = checksum(bytes, &mut at)?;
        if mask & !tree::mask_of(index) != 0 {
            return None;
        }
        let end = at + mask.count_ones() as usize * NODE_BYTES;
        let nodes = bytes.get(at..end)?;
        (crc_of(&[&bytes[..head], nodes]) == crc).then_some(Self {
            data,
            index,
            mask,
            nodes: at..end,
            block,
        })
    }
}

impl<'a> Record<'a> {
    /// Reads the record at the start of `bytes`, and says how long it is. None when the checksums do not fit.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<(Self, usize)> {
        match bytes.first()? {
            &BLOCK | &NODES => Self::decode_block(bytes),
            &PUT => {
                let mut at = 1;
                let key = key(bytes, &mut at)?;
                let length = usize::try_from(number(bytes, &mut at)?).ok()?;
                let head = at;
                let crc = checksum(bytes, &mut at)?;
                let end = at.checked_add(length)?;
                let value = bytes.get(at..end)?;
                (crc_of(&[&bytes[..head], value]) == crc).then_some((Self::Put { key, value }, end))
            }
            &DELETE => {
                let mut at = 1;
                let key = key(bytes, &mut at)?;
                let head = at;
                let crc = checksum(bytes, &mut at)?;
                (crc_of(&[&bytes[..head]]) == crc).then_some((Self::Delete { key }, at))
            }
            &RANGE => {
                let mut at = 1;
                let from = key(bytes, &mut at)?;
                let to = key(bytes, &mut at)?;
                let head = at;
                let crc = checksum(bytes, &mut at)?;
                (crc_of(&[&bytes[..head]]) == crc).then_some((Self::DeleteRange { from, to }, at))
            }
            _ => None,
        }
    }

    fn decode_block(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let head = BlockHead::decode(bytes)?;
        let mut end = head.nodes.end;
        let block = match head.block {
            Some((length, crc)) => {
                let start = end;
                end = start.checked_add(usize::try_from(length).ok()?)?;
                let block = bytes.get(start..end)?;
                if crc_of(&[block]) != crc {
                    return None;
                }
                Some(block)
            }
            None => None,
        };
        let record = BlockRecord {
            data: head.data,
            index: head.index,
            mask: head.mask,
            nodes: &bytes[head.nodes],
            block,
        };
        Some((Self::Block(record), end))
    }
}

/// Writes a block with its nodes: depth above the leaf, bytes; lowest first.
pub(super) fn encode_block<'a>(
    out: &mut Vec<u8>,
    data: DataPointer,
    index: u64,
    nodes: impl Iterator<Item = (u32, &'a [u8])> + Clone,
    block: Option<&[u8]>,
) {
    let start = out.len();
    out.push(if block.is_some() { BLOCK } else { NODES });
    put_number(out, data.0);
    put_number(out, index);
    let mask = nodes.clone().fold(0_u64, |mask, (depth, _)| {
        mask | 1_u64.checked_shl(depth).unwrap_or(0)
    });
    put_number(out, mask);
    if let Some(block) = block {
        put_number(out, block.len() as u64);
        out.extend_from_slice(&crc_of(&[block]).to_le_bytes());
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out[start..]);
    for (_, node) in nodes.clone() {
        crc.update(node);
    }
    out.extend_from_slice(&crc.finalize().to_le_bytes());
    for (_, node) in nodes {
        out.extend_from_slice(node);
    }
    out.extend_from_slice(block.unwrap_or_default());
}

pub(super) fn encode_put(out: &mut Vec<u8>, key: &Key, value: &[u8]) {
    let start = out.len();
    out.push(PUT);
    put_key(out, key);
    put_number(out, value.len() as u64);
    let crc = crc_of(&[&out[start..], value]);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(value);
}

pub(super) fn encode_delete(out: &mut Vec<u8>, key: &Key) {
    let start = out.len();
    out.push(DELETE);
    put_key(out, key);
    let crc = crc_of(&[&out[start..]]);
    out.extend_from_slice(&crc.to_le_bytes());
}

pub(super) fn encode_delete_range(out: &mut Vec<u8>, from: &Key, to: &Key) {
    let start = out.len();
    out.push(RANGE);
    put_key(out, from);
    put_key(out, to);
    let crc = crc_of(&[&out[start..]]);
    out.extend_from_slice(&crc.to_le_bytes());
}

pub(super) fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// A number at `at`, which moves behind it. None past the end, past 64 bits, or when it is longer than need be.
pub(super) fn number(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = byte(bytes, at)?;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            return None;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return (byte != 0 || shift == 0).then_some(value);
        }
    }
    None
}

pub(super) fn put_key(out: &mut Vec<u8>, key: &Key) {
    let at = out.len();
    out.push(0);
    key.encode_into(out);
    let length = out.len() - at - 1;
    match u8::try_from(length) {
        // The common case needs no second copy.
        Ok(length) if length < 0x80 => out[at] = length,
        _ => {
            let encoded = out.split_off(at + 1);
            out.truncate(at);
            put_number(out, length as u64);
            out.extend_from_slice(&encoded);
        }
    }
}

pub(super) fn key(bytes: &[u8], at: &mut usize) -> Option<Key> {
    let length = usize::try_from(number(bytes, at)?).ok()?;
    let end = at.checked_add(length)?;
    let key = Key::decode(bytes.get(*at..end)?)?;
    *at = end;
    Some(key)
}

pub(super) fn crc_of(parts: &[&[u8]]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for part in parts {
        crc.update(part);
    }
    crc.finalize()
}

fn byte(bytes: &[u8], at: &mut usize) -> Option<u8> {
    let byte = bytes.get(*at).copied()?;
    *at += 1;
    Some(byte)
}

fn checksum(bytes: &[u8], at: &mut usize) -> Option<u32> {
    let end = at.checked_add(4)?;
    let crc = u32::from_le_bytes(bytes.get(*at..end)?.try_into().ok()?);
    *at = end;
    Some(crc)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(value in prop_oneof![any::<u64>(), 0..300_u64, Just(u64::MAX)]) {
            let mut out = Vec::new();
            put_number(&mut out, value);
            let mut at = 0;
            prop_assert_eq!(number(&out, &mut at), Some(value));
            prop_assert_eq!(at, out.len());
        }

        #[test]
        fn any_bytes_are_a_record_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200), tag in 0..7_u8) {
            let bytes = [&[tag][..], &bytes].concat();
            let _ = Record::decode(&bytes);
            let _ = BlockRecord::decode_nodes(&bytes);
        }

        #[test]
        fn a_flipped_bit_is_noticed(index in 0..40_u64, length in 0..50_usize, at in 0..2000_usize, bit in 0..8) {
            let nodes: Vec<[u8; NODE_BYTES]> = tree::completed(index).map(|node| [node.to_le_bytes()[0]; NODE_BYTES]).collect();
            let nodes = nodes.iter().zip(0..).map(|(node, depth)| (depth, node.as_slice()));
            let mut out = Vec::new();
            encode_block(&mut out, DataPointer(3), index, nodes, Some(&vec![9; length]));
            let whole = out.clone();
            prop_assert_eq!(Record::decode(&whole).map(|(_, length)| length), Some(whole.len()));
            let at = at % out.len();
            out[at] ^= 1_u8 << bit;
            prop_assert_eq!(Record::decode(&out), None);
        }
    }

    #[test]
    fn every_kind_comes_back() {
        let long = Key::Ext(vec![7; 1000].into());
        let mut out = Vec::new();
        encode_put(&mut out, &long, b"value");
        encode_delete(&mut out, &Key::StoreHead);
        encode_delete_range(&mut out, &Key::Block(DataPointer(1), 2), &long);
        let (first, a) = Record::decode(&out).unwrap();
        let (second, b) = Record::decode(&out[a..]).unwrap();
        let (third, c) = Record::decode(&out[a + b..]).unwrap();
        assert_eq!(
            first,
            Record::Put {
                key: long.clone(),
                value: b"value"
            }
        );
        assert_eq!(second, Record::Delete { key: Key::StoreHead });
        assert_eq!(
            third,
            Record::DeleteRange {
                from: Key::Block(DataPointer(1), 2),
                to: long
            }
        );
        assert_eq!(a + b + c, out.len());
    }
}
