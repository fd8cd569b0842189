//! Blocks of a writer's log are read from peers: no bytes may panic, hang, or take more memory than they are worth, and
//! what was read is written and read again as the same.
//!
//! ```text
//! cargo +stable fuzz run -s none oplog -- -len_control=0 -max_len=4096
//! ```
//!
//! The first form is free: arbitrary bytes. A corpus grows fastest from real blocks, such as those in
//! `tests/vectors/oplog.json`. `-s none` does without a sanitizer, which stable Rust lacks; there is no unsafe code to
//! find with one. Memory is watched by libFuzzer itself (`-rss_limit_mb`, `-malloc_limit_mb=16`).
#![no_main]

use autobee::wire::oplog::{OplogBlock, VERSION, decode_value};
use autobee::wire::{Decode as _, Encode as _};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(block) = OplogBlock::from_bytes(bytes) else {
        assert!(decode_value(bytes).is_err());
        return;
    };
    assert_eq!(decode_value(bytes).as_ref(), Ok(&block.value));
    // What was read fits the encoding, so it can be written. Older versions come back in the newest one.
    let written = block.to_bytes().expect("a block that was read can be written");
    let again = OplogBlock::from_bytes(&written).expect("a block that was written can be read");
    assert_eq!(
        again,
        OplogBlock {
            version: VERSION,
            legacy: None,
            ..block
        }
    );
    assert!(
        written.len() <= bytes.len().max(8) * 2,
        "writing does not blow up"
    );
});
