//! Frames of the multiplexer against an application that does this and that: no panic, and bounded memory.
//!
//! The input is a list of steps: a byte below 0x80 is the length of a frame that follows, one from 0x80 on is something
//! that the application does.
#![no_main]

use autobee::replication::mux::{Channel, Mux, MuxEvent, MuxSettings, OpenChannel};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let settings = MuxSettings {
        held_bytes: 4_096,
        offers: 8,
        channels: 16,
        ..MuxSettings::default()
    };
    let mut mux = Mux::new(settings);
    let mut channels: Vec<Channel> = Vec::new();
    let mut rest = input;
    while let Some((step, tail)) = rest.split_first() {
        rest = tail;
        if *step < 0x80 {
            let (frame, tail) = rest.split_at(usize::from(*step).min(rest.len()));
            mux.receive(frame.to_vec().into());
            rest = tail;
        } else {
            let id = [step >> 3 & 3];
            let open = OpenChannel {
                protocol: if step & 0x20 == 0 { "p" } else { "q" },
                aliases: &["r"],
                id: &id[..usize::from(step >> 3 & 1)],
                handshake: b"",
                unique: step & 0x40 == 0,
            };
            let some = channels.get(usize::from(step >> 3 & 7)).copied();
            match (step & 7, some) {
                (0 | 1, _) => channels.extend(mux.open(&open).ok()),
                (2, _) => mux.reject(open.protocol, open.id),
                (3, Some(channel)) => drop(mux.close(channel)),
                (4, Some(channel)) => drop(mux.send(channel, 1, b"hello")),
                (5, _) => mux.cork(),
                (6, _) => mux.uncork(),
                _ => {}
            }
        }
        while let Ok(Some(event)) = mux.poll() {
            if let MuxEvent::Opened { channel, .. } = event {
                assert!(mux.is_open(channel));
            }
        }
        while mux.take_frame().is_some() {}
    }
});
