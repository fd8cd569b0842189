//! Messages of a hostile peer against a replicator that is downloading and serving: no panic, bounded requests, and
//! nothing is stored that the writer did not sign.
//!
//! The input is a list of messages: their number, their length, their bytes.
#![no_main]

use autobee::crypto::{Ed25519, Seed, Sign as _};
use autobee::env::Mono;
use autobee::hypercore::log::Log;
use autobee::replication::core::MemoryCore;
use autobee::replication::message::Message;
use autobee::replication::replicator::{PeerId, Replicator};
use autobee::replication::settings::ReplicatorSettings;
use autobee::wire::Index;
use libfuzzer_sys::fuzz_target;

const LENGTH: u64 = 20;

fuzz_target!(|input: &[u8]| {
    let blocks = |count| (0..count).map(|index: u64| index.to_le_bytes().to_vec());
    let mut log = Log::create(Ed25519.key_pair(&Seed::new([7; 32])));
    log.append(&Ed25519, blocks(LENGTH)).expect("an own log");
    let mut copy = Log::replica(log.key());
    copy.accept(&Ed25519, log.export(copy.length())).expect("a copy");
    copy.clear(Index(3), Index(LENGTH));
    let mut core = MemoryCore::new(copy, Ed25519);
    let mut replicator = Replicator::new(&core, ReplicatorSettings::default()).expect("in memory");
    replicator.download(0, None, &core).expect("in memory");
    let (peer, mut now) = (PeerId(1), Mono(0));
    replicator.open(peer, true, &core).expect("in memory");

    let mut rest = input;
    while let [kind, length, tail @ ..] = rest {
        let (bytes, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        now.0 += u64::from(*kind) << 28;
        replicator.tick(now);
        if let Ok(Some(message)) = Message::decode(u64::from(kind % 10), bytes) {
            replicator
                .receive(peer, message, &mut core, now)
                .expect("in memory");
        }
        for _ in 0..64 {
            if replicator.pull(peer, &core, now).expect("in memory").is_none() {
                break;
            }
        }
        while replicator.poll_event().is_some() {}
        assert!(replicator.in_flight() <= 48);
        let _ = replicator.next_timeout(now);
    }
    assert_eq!(core.log.length(), log.length());
    for (index, block) in (0..).zip(blocks(LENGTH)) {
        assert!(core.log.get(Index(index)).is_none_or(|stored| *stored == block));
    }
});
