//! The bytes of a stream, from the first on: a side that gets arbitrary bytes ends the stream or waits, and never gives
//! out a message that nobody sealed.
//!
//! The first byte chooses the role, and how the rest is cut.
#![no_main]

use autobee::crypto::Seed;
use autobee::env::Mono;
use autobee::replication::Role;
use autobee::replication::connection::{Connection, ConnectionEvent, ConnectionSettings};
use autobee::replication::noise::Keys;
use autobee::replication::stream::StreamKeys;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else {
        return;
    };
    let role = if first & 1 == 0 {
        Role::Initiator
    } else {
        Role::Responder
    };
    let keys = StreamKeys {
        noise: Keys {
            identity: Seed::new([1; 32]),
            ephemeral: Seed::new([2; 32]),
        },
        header: [3; 24],
    };
    let mut side = Connection::new(role, keys, ConnectionSettings::default(), Mono(0));
    for piece in bytes.chunks(usize::from(first >> 1) + 1) {
        side.receive(piece, Mono(0));
        while let Ok(Some(event)) = side.poll() {
            assert!(
                !matches!(event, ConnectionEvent::Channel(_)),
                "a message that nobody sealed"
            );
        }
        assert!(side.output().len() <= 35 + 99 + 59);
    }
});
