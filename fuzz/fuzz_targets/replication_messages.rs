//! Messages of replication and wakeup channels come from peers: no bytes may panic or take more memory than they are
//! worth, and what was read is written and read again as the same.
//!
//! The first byte chooses the message.
#![no_main]

use autobee::replication::message::{Message, OpenMessage};
use autobee::replication::mux::Frame;
use autobee::replication::wakeup;
use autobee::wire::{Decode as _, Encode as _};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else {
        return;
    };
    match kind {
        0..=10 => {
            if let Ok(Some(message)) = Message::decode(u64::from(*kind), bytes) {
                let written = message.encode().expect("a message that was read can be written");
                assert_eq!(Message::decode(message.kind(), &written), Ok(Some(message)));
            }
        }
        16..=19 => {
            if let Ok(Some(message)) = wakeup::WakeupMessage::decode(u64::from(*kind) - 16, bytes) {
                let written = message.encode().expect("a message that was read can be written");
                assert_eq!(
                    wakeup::WakeupMessage::decode(message.kind(), &written),
                    Ok(Some(message))
                );
            }
        }
        32 => {
            if let Ok(handshake) = OpenMessage::from_bytes(bytes) {
                let written = handshake
                    .to_bytes()
                    .expect("a handshake that was read can be written");
                assert_eq!(OpenMessage::from_bytes(&written), Ok(handshake));
            }
        }
        33 => {
            if let Ok(handshake) = wakeup::WakeupHandshake::from_bytes(bytes) {
                let written = handshake
                    .to_bytes()
                    .expect("a handshake that was read can be written");
                assert_eq!(wakeup::WakeupHandshake::from_bytes(&written), Ok(handshake));
            }
        }
        _ => {
            if let Ok(frame) = Frame::decode(bytes.to_vec().into()) {
                assert_eq!(Frame::decode(frame.encode()).as_ref(), Ok(&frame));
                let _ = frame.into_items();
            }
        }
    }
});
