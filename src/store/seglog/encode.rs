//! From a batch to the records of a frame: blocks find the nodes that they complete.

use super::super::{DataPointer, Key, Op, StoreBatch};
use super::record::{NODE_BYTES, encode_block, encode_delete, encode_delete_range, encode_put};
use super::tree;

/// Writes the changes of a batch as records.
pub(super) fn encode_batch(out: &mut Vec<u8>, batch: &StoreBatch) {
    let mut run = BlockRun::default();
    for op in batch.ops() {
        match op {
            Op::Put(Key::Block(data, index), value) => run.blocks.push((*data, *index, value)),
            Op::Put(Key::Tree(data, node), value) if value.len() == NODE_BYTES => {
                match tree::completer(*node) {
                    Some((block, depth)) => run.nodes.push((*data, block, depth, value)),
                    None => encode_put(out, &Key::Tree(*data, *node), value),
                }
            }
            Op::Put(key @ Key::Tree(..), value) => {
                // No node of ours has this size. It may follow one of the same index.
                run.encode(out);
                encode_put(out, key, value);
            }
            Op::Put(key, value) => encode_put(out, key, value),
            Op::Delete(key) => {
                run.encode(out);
                encode_delete(out, key);
            }
            Op::DeleteRange(from, to) => {
                run.encode(out);
                if from < to {
                    encode_delete_range(out, from, to);
                }
            }
        }
    }
    run.encode(out);
}

/// Blocks and nodes that no removal stands between: their order does not matter, but for the last of each key.
#[derive(Default)]
struct BlockRun<'a> {
    blocks: Vec<(DataPointer, u64, &'a [u8])>,
    /// With the block that completes each, and how far above its leaf.
    nodes: Vec<(DataPointer, u64, u32, &'a [u8])>,
}

impl BlockRun<'_> {
    fn encode(&mut self, out: &mut Vec<u8>) {
        self.blocks.sort_by_key(|(data, index, _)| (*data, *index));
        self.nodes
            .sort_by_key(|(data, block, depth, _)| (*data, *block, *depth));
        keep_last(&mut self.blocks, |(data, index, _)| (*data, *index));
        keep_last(&mut self.nodes, |(data, block, depth, _)| (*data, *block, *depth));
        let mut nodes = &self.nodes[..];
        for (data, index, block) in &self.blocks {
            let strays = nodes.partition_point(|(of, block, ..)| (of, block) < (data, index));
            encode_strays(out, &nodes[..strays]);
            let own = nodes[strays..].partition_point(|(of, block, ..)| (of, block) == (data, index));
            let own_nodes = nodes[strays..strays + own].iter();
            let own_nodes = own_nodes.map(|(_, _, depth, node)| (*depth, *node));
            encode_block(out, *data, *index, own_nodes, Some(block));
            nodes = &nodes[strays + own..];
        }
        encode_strays(out, nodes);
        self.blocks.clear();
        self.nodes.clear();
    }
}

fn encode_strays(out: &mut Vec<u8>, nodes: &[(DataPointer, u64, u32, &[u8])]) {
    for (data, block, depth, value) in nodes {
        if let Some(node) = tree::node(*block, *depth) {
            encode_put(out, &Key::Tree(*data, node), value);
        }
    }
}

/// Of neighbours with the same key, the last stays.
fn keep_last<T, K: PartialEq>(items: &mut Vec<T>, key: impl Fn(&T) -> K) {
    items.dedup_by(|later, earlier| {
        let same = key(later) == key(earlier);
        if same {
            std::mem::swap(later, earlier);
        }
        same
    });
}
