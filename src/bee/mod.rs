//! The B-tree over cores.

mod block;
mod legacy;

pub use block::{
    Block, BlockEdit, BlockKind, CoreRecord, DEGREE_DEFAULT, EditKind, KeyRecord, NodeLogs, Pointer,
    Previous, ValuePointer,
};
