//! Blocks of the tree and their parts, as bytes and decoded.

use autobee::bee::{
    Block, BlockEdit, BlockKind, CoreRecord, EditKind, KeyRecord, Pointer, Previous, ValuePointer,
};
use autobee::wire::{Decode, Decoder, Encode, Encoder, Index};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{hex, text, to_hex};

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let bytes = Bytes::from(hex(&case["hex"]));
    match text(&case["kind"]) {
        "struct" => return check_struct(case, &bytes),
        "block" => check_block(case, &bytes),
        "error" => {
            let read = Block::decode(&bytes, seq(case));
            assert!(read.is_err(), "{}: decoded to {read:?}", case["name"]);
        }
        other => return Err(format!("unknown kind {other}")),
    }
    Ok(())
}

fn seq(case: &Value) -> Index {
    Index(case["seq"].as_u64().unwrap())
}

fn check_block(case: &Value, bytes: &Bytes) {
    let name = &case["name"];
    let block = Block::decode(bytes, seq(case)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(block_json(&block), comparable(&case["decoded"]), "{name}");
    let encoded = block.encode().unwrap();
    if case["canonical"] == json!(true) {
        assert_eq!(encoded, *bytes, "{name}");
    }
}

fn check_struct(case: &Value, bytes: &Bytes) -> Result<(), String> {
    let name = &case["name"];
    let mut from = Decoder::new(bytes);
    let mut to = Encoder::new();
    let decoded = match text(&case["type"]) {
        "tree-delta" => {
            let edit = BlockEdit::decode(&mut from).unwrap();
            edit.encode(&mut to);
            edit_json(&edit)
        }
        "tree-pointer" => {
            let pointer = Pointer::decode(&mut from).unwrap();
            pointer.encode(&mut to);
            pointer_json(pointer)
        }
        "tree-pointer-0" => {
            // Three plain integers; inside of blocks they are read by the decoder of type 0.
            let parts = [from.uint().unwrap(), from.uint().unwrap(), from.uint().unwrap()];
            to.uint(parts[0]).uint(parts[1]).uint(parts[2]);
            json!(parts)
        }
        "value-pointer" => {
            let pointer = ValuePointer::decode(&mut from).unwrap();
            pointer.encode(&mut to);
            value_pointer_json(pointer)
        }
        "key" => {
            let record = KeyRecord::decode(bytes, &mut from).unwrap();
            record.encode(&mut to);
            key_json(&record)
        }
        "core" => {
            let record = CoreRecord::decode(&mut from).unwrap();
            record.encode(&mut to);
            core_json(&record)
        }
        "cohort" => {
            let edits = from.array(BlockEdit::decode).unwrap();
            to.array(&edits, BlockEdit::encode);
            edits_json(&edits)
        }
        other => return Err(format!("unknown type {other}")),
    };
    assert_eq!(decoded, case["decoded"], "{name}");
    assert_eq!(to.finish().unwrap(), *bytes, "{name}");
    Ok(())
}

/// Type 0 shows an absent core list as an object around null.
fn comparable(decoded: &Value) -> Value {
    let mut decoded = decoded.clone();
    if decoded["metadata"]["cores"].is_null() {
        decoded["metadata"] = Value::Null;
    }
    decoded
}

fn block_json(block: &Block) -> Value {
    json!({
        "type": match block.kind {
            BlockKind::First => 0,
            BlockKind::Current => 1,
            BlockKind::Legacy => 10,
        },
        "checkpoint": block.checkpoint,
        "batch": [block.batch_start, block.batch_end],
        "previous": block.previous.map(|Previous { core, seq }| [core, seq]),
        "metadata": block.metadata.as_ref().map(|cores| {
            json!({ "cores": cores.iter().map(core_json).collect::<Vec<_>>() })
        }),
        "tree": block.tree.as_ref().map(|nodes| {
            nodes
                .iter()
                .map(|node| json!({ "keys": edits_json(&node.keys), "children": edits_json(&node.children) }))
                .collect::<Vec<_>>()
        }),
        "keys": block.keys.as_ref().map(|keys| keys.iter().map(key_json).collect::<Vec<_>>()),
        "values": block.values.as_ref().map(|values| values.iter().map(|value| to_hex(value)).collect::<Vec<_>>()),
        "cohorts": block.cohorts.as_ref().map(|cohorts| {
            cohorts.iter().map(|edits| edits_json(edits)).collect::<Vec<_>>()
        }),
        "t": block.degree,
    })
}

fn edits_json(edits: &[BlockEdit]) -> Value {
    edits.iter().map(edit_json).collect()
}

fn edit_json(edit: &BlockEdit) -> Value {
    let kind = match edit.kind {
        EditKind::Set => 0,
        EditKind::Insert => 1,
        EditKind::Remove => 2,
        EditKind::Cohort => 3,
        EditKind::Unknown(number) => number,
    };
    json!([kind, edit.index, edit.pointer.map(pointer_json)])
}

fn pointer_json(pointer: Pointer) -> Value {
    json!([pointer.core, pointer.seq, pointer.offset])
}

fn value_pointer_json(pointer: ValuePointer) -> Value {
    json!([pointer.at.core, pointer.at.seq, pointer.at.offset, pointer.split])
}

fn key_json(record: &KeyRecord) -> Value {
    json!({
        "key": to_hex(&record.key),
        "value": record.value.as_ref().map(|value| to_hex(value)),
        "valuePointer": record.value_pointer.map(value_pointer_json),
    })
}

fn core_json(record: &CoreRecord) -> Value {
    json!({
        "key": record.key.to_hex(),
        "fork": record.fork,
        "length": record.length,
        "treeHash": record.tree_hash.map(|hash| hash.to_hex()),
    })
}
