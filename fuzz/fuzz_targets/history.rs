//! Whatever a few peers write and hear: each orders and applies what it has as the model does, and all agree in the end.
//!
//! ```text
//! cargo +stable fuzz run -s none history -- -len_control=0 -max_len=512
//! ```
//!
//! Each byte is one choice of `PeerHistory::draw`; when there are no more all choices are the first.
#![no_main]

use autobee_sim::history::PeerHistory;
use autobee_sim::scenario::Choices;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let history = PeerHistory::draw(&mut Choices::Bytes(bytes));
    if let Err(failure) = history.play() {
        panic!("{failure}\n{}", history.to_toml());
    }
});
