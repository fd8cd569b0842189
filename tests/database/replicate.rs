//! Databases on the wire protocol of the original: two and three of them, strangers, relays, cuts, and peers that are none.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use autobee::crypto::{CoreKey, PublicKey, Seed};
use autobee::db::{AppendOptions, CloseReason, Misbehaviour, Secured, Stalled};
use autobee::env::{Env as _, Spawn as _};
use autobee::hypercore::{CoreOptions, Corestore, DownloadRange, Wait};
use autobee::wire::oplog::OplogBlock;
use autobee::wire::{Decode as _, Encode as _, Index, Length, Link};
use autobee::{Autobee, Error, ErrorKind, Role, Rules, Settings};
use autobee_sim::workload::{JsonApply, Op};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{Db, Raw, World, add, connect_through, in_world, put};

const ALL: DownloadRange = DownloadRange::ALL;

// Two.

#[test]
fn who_has_the_key_joins_and_both_sides_append() {
    in_world(async |world| {
        let a = world.create(1).await;
        put(&a, "before", "1").await;
        let b = world.join(2, &a).await;
        let (near, far) = connect_through(&a, &b, 1 << 16);
        world.until(|| b.order().unwrap().len() == 1).await;
        assert_eq!(b.append(b"x").await.unwrap_err().kind(), ErrorKind::Denied);

        add(&a, &b, 2).await;
        world.until(|| b.writable()).await;
        for number in 0..20 {
            put(&b, &format!("b{number}"), "x").await;
            put(&a, &format!("a{number}"), "x").await;
        }
        agree(&world, &[&a, &b], 42).await;

        assert!(near.synced().await && far.synced().await);
        assert_eq!(near.remote(), Some(b.public_key()));
        let progress = far.progress();
        assert_eq!((progress.cores, progress.have, progress.want), (2, 42, 42));
        assert!(progress.received > 0 && progress.sent > 0);
        assert!(a.stalled().is_empty() && b.stalled().is_empty());
    });
}

#[test]
fn a_batch_larger_than_any_window_goes_through_a_pipe_of_one_byte() {
    in_world(async |world| {
        let a = world.create(1).await;
        let values = (0..100).map(|number| Op::put(format!("k{number}"), "v").to_value().into());
        a.append_batch(values.collect()).await.unwrap();
        let b = world.join(2, &a).await;
        connect_through(&a, &b, 1);
        agree(&world, &[&a, &b], 100).await;
    });
}

/// The core of a stranger is one that nobody else has a reason to know: only its announcement makes it be fetched.
#[test]
fn a_stranger_is_heard_of_and_becomes_a_member() {
    in_world(async |world| {
        let a = world.create(1).await;
        put(&a, "before", "1").await;
        let b = world.join(2, &a).await;
        connect_through(&a, &b, 4096);
        world.until(|| b.order().unwrap().len() == 1).await;
        b.append_optimistic(Op::put("hello", "there").to_value())
            .await
            .unwrap();
        agree(&world, &[&a, &b], 2).await;
        assert!(b.writable());
        put(&b, "and", "more").await;
        agree(&world, &[&a, &b], 3).await;

        // Written before anybody is met.
        let c = world.join(3, &a).await;
        c.append_optimistic(Op::put("c", "1").to_value()).await.unwrap();
        connect_through(&c, &a, 4096);
        world
            .until(|| a.writers().iter().any(|writer| writer.key == c.local()))
            .await;
        agree(&world, &[&a, &b, &c], 4).await;
    });
}

#[test]
fn strangers_are_looked_at_only_up_to_the_bound() {
    in_world(async |world| {
        let settings = Settings::with(|settings| settings.stranger_cores_max = 2);
        let store = world.store(1).await;
        let a = Autobee::builder(store).apply(JsonApply).settings(settings);
        let a = a.rules(Rules::interop()).open().await.unwrap();
        put(&a, "before", "1").await;
        let mut strangers = Vec::new();
        for seed in 2..7 {
            let stranger = world.join(seed, &a).await;
            let mut refused = Op::put("x", "y");
            refused.reject = true;
            stranger.append_optimistic(refused.to_value()).await.unwrap();
            connect_through(&stranger, &a, 4096);
            strangers.push(stranger);
        }
        world.wait(Duration::from_secs(20)).await;
        assert_eq!(a.cores().len(), 3, "the creator's and two of strangers");
        assert_eq!(a.order().unwrap().len(), 1);

        // Members are none of them.
        let member = world.join(9, &a).await;
        connect_through(&member, &a, 4096);
        add(&a, &member, 2).await;
        world.until(|| member.writable()).await;
        put(&member, "m", "1").await;
        agree(&world, &[&a, &member], 3).await;
    });
}

/// Others announce cores that nobody serves, or serve ones that nobody wants, without end.
#[test]
fn a_stranger_gets_its_turn_among_a_thousand_that_others_announce() {
    in_world(async |world| {
        let settings = Settings::with(|settings| {
            settings.stranger_cores_max = 2;
            settings.stranger_quiet_ms = 500;
            settings.window_batches = 2;
        });
        let open = async || {
            let builder = Autobee::builder(world.store(1).await).apply(JsonApply);
            let builder = builder.rules(Rules::interop());
            builder.settings(settings.clone()).open().await.unwrap()
        };
        let a = open().await;
        put(&a, "before", "1").await;
        let raw = Raw::open(&world, 2).await;
        let _core = raw.store.get(CoreOptions::key(a.key())).await.unwrap();
        let topic = raw.replication.wakeup(a.key());
        for number in 0..1_000_u32 {
            let mut key = [0xee; 32];
            key[..4].copy_from_slice(&number.to_le_bytes());
            topic.couple(CoreKey::new(key), Length(1));
        }
        raw.connect(&a);
        let mut served = Vec::new();
        for seed in 10..15 {
            let refused = world.join(seed, &a).await;
            let mut op = Op::put("x", "y");
            op.reject = true;
            refused.append_optimistic(op.to_value()).await.unwrap();
            connect_through(&refused, &a, 4096);
            served.push(refused);
        }
        world.wait(Duration::from_secs(5)).await;
        let honest = world.join(3, &a).await;
        connect_through(&honest, &a, 4096);
        world.until(|| honest.order().unwrap().len() == 1).await;
        honest
            .append_optimistic(Op::put("hello", "there").to_value())
            .await
            .unwrap();
        world.until(|| a.writers().len() == 2).await;
        // All of those that are served had their turns.
        world.wait(Duration::from_secs(60)).await;
        assert!(a.cores().len() <= 4, "{:?}", a.cores());
        assert_eq!(a.order().unwrap().len(), 2);
        for number in 0..20 {
            put(&a, "more", &number.to_string()).await;
        }
        assert!(a.held().batches < 16, "{:?}", a.held());
        let order = a.order().unwrap();
        a.close().await.unwrap();

        // Those that gave up their slots are none of its any more, and nothing waits for them.
        let a = open().await;
        assert_eq!(a.order().unwrap(), order);
        assert!(a.cores().len() <= 4, "{:?}", a.cores());
        for number in 0..20 {
            put(&a, "more", &number.to_string()).await;
        }
        assert!(a.held().batches < 16, "{:?}", a.held());
    });
}

// Three.

#[test]
fn what_one_wrote_reaches_a_third_through_a_second() {
    in_world(async |world| {
        let a = world.create(1).await;
        let (b, c) = (world.join(2, &a).await, world.join(3, &a).await);
        connect_through(&a, &b, 4096);
        connect_through(&b, &c, 4096);
        add(&a, &c, 2).await;
        world.until(|| c.writable()).await;
        put(&c, "far", "away").await;
        agree(&world, &[&a, &b, &c], 2).await;

        // A stranger at the far end, of whom the first hears once the second took it.
        let d = world.join(4, &a).await;
        connect_through(&c, &d, 4096);
        d.append_optimistic(Op::put("d", "1").to_value()).await.unwrap();
        agree(&world, &[&a, &b, &c, &d], 3).await;
    });
}

#[test]
fn a_joiner_gets_all_writers_from_one_peer() {
    in_world(async |world| {
        let a = world.create(1).await;
        let mut writers = Vec::new();
        for seed in 2..8 {
            let writer = world.join(seed, &a).await;
            connect_through(&a, &writer, 4096);
            add(&a, &writer, 2).await;
            world.until(|| writer.writable()).await;
            put(&writer, &format!("w{seed}"), "1").await;
            writers.push(writer);
        }
        world.until(|| a.order().unwrap().len() == 12).await;
        for writer in &writers {
            writer.close().await.unwrap();
        }
        let joiner = world.join(9, &a).await;
        connect_through(&joiner, &a, 4096);
        agree(&world, &[&a, &joiner], 12).await;
    });
}

// Cuts and ends.

#[test]
fn a_cut_connection_is_resumed() {
    in_world(async |world| {
        let a = world.create(1).await;
        let b = world.join(2, &a).await;
        add(&a, &b, 2).await;
        for number in 0..5 {
            let (near, far) = connect_through(&a, &b, 512);
            world.until(|| b.order().unwrap().len() > number).await;
            put(&a, &format!("a{number}"), "x").await;
            near.close();
            assert!(matches!(near.ended().await, CloseReason::Closed));
            assert!(matches!(far.ended().await, CloseReason::PeerEnded));
            // While they are apart.
            put(&a, &format!("a{number}"), "y").await;
            put(&b, &format!("b{number}"), "y").await;
        }
        connect_through(&b, &a, 512);
        agree(&world, &[&a, &b], 16).await;
        // Two streams at a time do no harm.
        connect_through(&a, &b, 512);
        put(&a, "last", "1").await;
        agree(&world, &[&a, &b], 17).await;
    });
}

#[test]
fn closing_a_database_ends_its_sessions_and_lets_its_store_go() {
    in_world(async |world| {
        let a = world.create(1).await;
        put(&a, "x", "1").await;
        let b = world.join(2, &a).await;
        let (near, far) = connect_through(&a, &b, 4096);
        world.until(|| b.order().unwrap().len() == 1).await;
        b.close().await.unwrap();
        b.close().await.unwrap();
        assert!(matches!(far.ended().await, CloseReason::Closed));
        assert!(matches!(near.ended().await, CloseReason::PeerEnded));
        let (left, _right) = tokio::io::duplex(64);
        assert!(matches!(b.replicate(left, Role::Initiator), Err(Error::Closed)));
        drop(b);

        let store = Corestore::open_default(world.env(2)).await.unwrap();
        let b = Autobee::builder(store).apply(JsonApply).open().await.unwrap();
        assert_eq!(b.order().unwrap(), a.order().unwrap());
        // Without a close: with the last handle.
        let (near, _far) = connect_through(&a, &b, 4096);
        world.until(|| near.progress().cores > 0).await;
        drop(b);
        assert!(matches!(near.ended().await, CloseReason::PeerEnded));
    });
}

#[test]
fn who_is_not_admitted_is_refused() {
    in_world(async |world| {
        let a = world.create(1).await;
        let seed = Seed::new([7; 32]);
        let store = world.store(2).await;
        let friend = Autobee::builder(store)
            .key(a.key())
            .apply(JsonApply)
            .identity(seed);
        let friend = friend.open().await.unwrap();
        let foe = world.join(3, &a).await;
        let known = friend.public_key();
        let store = world.store(4).await;
        let strict = Autobee::builder(store).key(a.key()).apply(JsonApply);
        let strict = strict.admit(move |key| *key == known).open().await.unwrap();

        let (near, far) = connect_through(&strict, &foe, 4096);
        assert!(matches!(near.ended().await, CloseReason::Refused(key) if key == foe.public_key()));
        far.ended().await;
        let (near, _far) = connect_through(&strict, &friend, 4096);
        assert!(near.reached(|progress| progress.cores > 0).await);
    });
}

// Peers that are something else.

#[test]
fn peers_of_two_databases_have_nothing_to_tell_each_other() {
    in_world(async |world| {
        let (a, b) = (world.create(1).await, world.create(2).await);
        put(&a, "a", "1").await;
        put(&b, "b", "1").await;
        let (near, far) = connect_through(&a, &b, 4096);
        assert!(near.reached(|progress| progress.stream.is_some()).await);
        world.wait(Duration::from_secs(40)).await;
        assert_eq!((near.progress().cores, far.progress().cores), (0, 0));
        assert!(near.close_reason().is_none() && far.close_reason().is_none());
        assert_eq!((a.cores(), b.cores()), (vec![a.key()], vec![b.key()]));
        // The stream is as good as any other: whoever joins one of them later, on another stream, gets it.
        let c = world.join(3, &a).await;
        connect_through(&a, &c, 4096);
        agree(&world, &[&a, &c], 1).await;
    });
}

#[test]
fn who_speaks_something_else_is_blamed_and_who_says_nothing_is_left() {
    in_world(async |world| {
        let a = world.create(1).await;
        let (near, mut far) = tokio::io::duplex(4096);
        let session = a.replicate(near, Role::Responder).unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut far, &[9; 64])
            .await
            .unwrap();
        let reason = session.ended().await;
        let is_right = matches!(reason, CloseReason::PeerMisbehaved(Misbehaviour::Stream(_)));
        assert!(is_right, "{reason}");
        let (near, _far) = tokio::io::duplex(64);
        let session = a.replicate(near, Role::Responder).unwrap();
        assert!(matches!(session.ended().await, CloseReason::TimedOut));
    });
}

#[test]
fn a_peer_of_cores_reads_the_bootstrap_core() {
    in_world(async |world| {
        let a = world.create(1).await;
        for number in 0..30 {
            put(&a, &format!("k{number}"), "v").await;
        }
        let raw = Raw::open(&world, 2).await;
        let copy = raw.store.get(CoreOptions::key(a.key())).await.unwrap();
        let _download = copy.download(ALL).unwrap();
        let session = raw.connect(&a).0;
        assert_eq!(
            copy.get(Index(29), Wait::Forever).await.unwrap(),
            a.blocks(&a.key())[29],
            "as it was appended"
        );
        session.reached(|progress| progress.have == 30).await;
        put(&a, "live", "1").await;
        copy.get(Index(30), Wait::Forever).await.unwrap();
        let blocks: Vec<_> = (0..31)
            .filter_map(|index| copy.get_local(Index(index)).unwrap())
            .collect();
        assert_eq!(blocks, a.blocks(&a.key()));
    });
}

/// Who knows the key of the database takes part in its topic: is told of writers, and may tell of them.
#[test]
fn a_peer_of_cores_hears_of_writers_and_tells_of_them() {
    in_world(async |world| {
        let a = world.create(1).await;
        let b = world.join(2, &a).await;
        let wire = connect_through(&a, &b, 4096);
        add(&a, &b, 2).await;
        world.until(|| b.writable()).await;
        put(&b, "b", "1").await;
        agree(&world, &[&a, &b], 2).await;
        wire.0.close();

        let raw = Raw::open(&world, 3).await;
        let _bootstrap = raw.store.get(CoreOptions::key(a.key())).await.unwrap();
        let topic = raw.replication.wakeup(a.key());
        raw.connect(&a);
        let link = |key, length| Link {
            key,
            length: Length(length),
        };
        assert_eq!(topic.announced().await, [link(b.local(), 1)]);

        let copy = raw.store.get(CoreOptions::key(b.local())).await.unwrap();
        let _download = copy.download(ALL).unwrap();
        assert_eq!(
            copy.get(Index(0), Wait::Forever).await.unwrap(),
            b.blocks(&b.local())[0]
        );

        // A stranger that lives at that peer only.
        let stranger = raw.store.get(CoreOptions::name("stranger")).await.unwrap();
        let mut block = OplogBlock::from_bytes(&b.blocks(&b.local())[0]).unwrap();
        block.optimistic = true;
        block.value = Some(Op::put("stranger", "1").to_value().into());
        block.links = vec![link(a.key(), 1)];
        stranger
            .append(vec![block.to_bytes().unwrap().into()])
            .await
            .unwrap();
        topic.couple(stranger.key(), Length(1));
        world.until(|| a.order().unwrap().len() == 3).await;
        assert!(a.writers().iter().any(|writer| writer.key == stranger.key()));
    });
}

/// What a member's batch links is fetched though nobody announced it; what a stranger's links counts as a stranger.
#[test]
fn what_batches_link_is_fetched() {
    in_world(async |world| {
        let a = world.create(1).await;
        let b = world.join(2, &a).await;
        let (near, _) = connect_through(&a, &b, 4096);
        add(&a, &b, 2).await;
        world.until(|| b.writable()).await;
        near.close();
        near.ended().await;
        // B takes a stranger in while nobody else is there, links it, and is gone. What it has is at a peer of cores.
        let c = world.join(3, &a).await;
        connect_through(&b, &c, 4096);
        c.append_optimistic(Op::put("c", "1").to_value()).await.unwrap();
        world.until(|| b.order().unwrap().len() == 2).await;
        put(&b, "b", "1").await;
        agree(&world, &[&b, &c], 3).await;
        b.close().await.unwrap();
        c.close().await.unwrap();

        let raw = Raw::open(&world, 2).await;
        let _cores = [
            raw.store.get(CoreOptions::key(b.local())).await.unwrap(),
            raw.store.get(CoreOptions::key(c.local())).await.unwrap(),
        ];
        raw.connect(&a);
        world.until(|| a.order().unwrap().len() == 3).await;
    });
}

/// A signed log that its owner cut off and wrote anew is followed by hypercore, but not by the order: that says so, and
/// goes on.
#[test]
fn a_rewritten_log_is_reported_and_the_others_go_on() {
    in_world(async |world| {
        let a = world.create(1).await;
        let b = world.join(2, &a).await;
        connect_through(&a, &b, 4096);
        add(&a, &b, 2).await;
        world.until(|| b.writable()).await;
        put(&b, "x", "1").await;
        put(&b, "x", "2").await;
        agree(&world, &[&a, &b], 3).await;
        let order = a.order().unwrap();
        let local = b.local();
        b.close().await.unwrap();
        drop(b);

        let raw = Raw::open(&world, 2).await;
        let log = raw.store.get(CoreOptions::key(local)).await.unwrap();
        let mut block = OplogBlock::from_bytes(&log.get(Index(1), Wait::Local).await.unwrap()).unwrap();
        block.value = Some(Op::put("x", "3").to_value().into());
        log.truncate(Length(1), None).await.unwrap();
        let block = block.to_bytes().unwrap();
        log.append(vec![block.clone().into(), block.into()])
            .await
            .unwrap();
        raw.connect(&a);
        world.until(|| !a.stalled().is_empty()).await;
        let rewritten = Stalled::Rewritten {
            kept: Length(1),
            taken: Length(2),
            fork: 1,
        };
        assert_eq!(a.stalled(), [(local, rewritten)]);
        assert_eq!(a.order().unwrap(), order);

        let c = world.join(3, &a).await;
        connect_through(&a, &c, 4096);
        put(&a, "y", "1").await;
        assert_eq!(a.view().get(b"y").await.unwrap().unwrap(), "1");
        world.until(|| c.cores().contains(&local)).await;
    });
}

/// ```text
/// a1: add b, c --+-- b1 -- a2 -- b2 ... a20     a holds the last few
///                \-- c1, from before all of these
/// b is cut off and written anew from b2 on; then c1 comes
/// ```
#[test]
fn going_back_finds_what_an_opening_finds_also_when_a_log_was_rewritten_or_contradicted() {
    for contradicts in [false, true] {
        in_world(async |world| {
            let a = create_with_window(&world, 1, 2).await;
            let [b, c] = [world.join(2, &a).await, world.join(3, &a).await];
            let lines = [connect_through(&a, &b, 4096), connect_through(&a, &c, 4096)];
            add(&a, &b, 2).await;
            add(&a, &c, 2).await;
            world.until(|| b.writable() && c.writable()).await;
            put(&b, "b", "1").await;
            agree(&world, &[&a, &b, &c], 3).await;
            for (near, far) in lines {
                near.close();
                far.ended().await;
            }
            let local = b.local();
            b.close().await.unwrap();
            put(&c, "c", "1").await;

            let raw = Raw::open(&world, 2).await;
            let log = raw.store.get(CoreOptions::key(local)).await.unwrap();
            let mut block = OplogBlock::from_bytes(&log.get(Index(0), Wait::Local).await.unwrap()).unwrap();
            block.views = None;
            block.attestations = None;
            let mut more = |value: &str| {
                block.value = Some(Op::put("b", value).to_value().into());
                vec![block.to_bytes().unwrap().into()]
            };
            log.append(more("2")).await.unwrap();
            let session = raw.connect(&a).0;
            world.until(|| a.order().unwrap().len() == 4).await;
            session.close();
            session.ended().await;
            for number in 0..20 {
                put(&a, "a", &number.to_string()).await;
            }
            assert!(a.held().batches < 10);
            let order = a.order().unwrap();
            if contradicts {
                let pair = log.key_pair().unwrap().unwrap();
                let other = Raw::open(&world, 4).await;
                let mut options = CoreOptions::key_pair(pair);
                options.manifest_version = 2;
                let copy = other.store.get(options).await.unwrap();
                assert_eq!(copy.key(), local);
                for value in ["3", "4", "5"] {
                    copy.append(more(value)).await.unwrap();
                }
                other.connect(&a);
            } else {
                log.truncate(Length::ZERO, None).await.unwrap();
                for value in ["3", "4", "5"] {
                    log.append(more(value)).await.unwrap();
                }
                raw.connect(&a);
            }
            world.until(|| !a.stalled().is_empty()).await;
            assert_eq!(a.order().unwrap(), order);

            connect_through(&a, &c, 4096);
            let has_c = |order: &[autobee::db::OrderedEntry]| {
                let of_c = |entry: &&autobee::db::OrderedEntry| entry.key == c.local();
                order.iter().filter(of_c).count() == 1
            };
            world.until(|| has_c(&a.order().unwrap())).await;
            let found = async |db: &Db| (db.order().unwrap(), db.writers(), db.view().all().await.unwrap());
            let before = found(&a).await;
            let of_b = before.0.iter().filter(|entry| entry.key == local).count();
            assert_eq!(of_b, if contradicts { 2 } else { 3 });
            assert_eq!(a.stalled().len(), usize::from(contradicts));
            a.close().await.unwrap();
            let a = create_with_window(&world, 1, 2).await;
            assert_eq!(found(&a).await, before);
            assert_eq!(a.stalled().len(), usize::from(contradicts));
        });
    }
}

#[test]
fn a_core_of_garbage_is_reported_and_the_others_go_on() {
    in_world(async |world| {
        let a = world.create(1).await;
        let raw = Raw::open(&world, 2).await;
        let garbage = raw.store.get(CoreOptions::name("garbage")).await.unwrap();
        garbage.append(vec!["no oplog block".into()]).await.unwrap();
        a.append(Op::add_writer(garbage.key(), 1).to_value())
            .await
            .unwrap();
        raw.connect(&a);
        world.until(|| !a.stalled().is_empty()).await;
        let stalled = a.stalled();
        assert!(
            matches!(&stalled[..], [(key, Stalled::Frozen(_))] if *key == garbage.key()),
            "{stalled:?}"
        );
        put(&a, "x", "1").await;
    });
}

/// On a stream that is encrypted below, what is written crosses in the clear, and the peer is who the stream says.
#[test]
fn nothing_is_encrypted_twice() {
    in_world(async |world| {
        let a = world.create(1).await;
        let b = world.join(2, &a).await;
        let (near, mut from_a) = tokio::io::duplex(4096);
        let (far, mut from_b) = tokio::io::duplex(4096);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let wire = Arc::clone(&seen);
        world.env(1).spawn().spawn("wire", async move {
            let (mut out, mut back) = ([0; 500], [0; 500]);
            loop {
                tokio::select! {
                    biased;
                    size = from_a.read(&mut out) => {
                        let size = size.unwrap();
                        if size == 0 || from_b.write_all(&out[..size]).await.is_err() {
                            return;
                        }
                        wire.lock().unwrap().extend_from_slice(&out[..size]);
                    }
                    size = from_b.read(&mut back) => {
                        let size = size.unwrap();
                        if size == 0 || from_a.write_all(&back[..size]).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        let key = |n| PublicKey::new([n; 32]);
        let secured = |remote| Secured {
            remote: key(remote),
            stream: [9; 64],
        };
        let session = a.replicate_secured(near, Role::Initiator, secured(2)).unwrap();
        b.replicate_secured(far, Role::Responder, secured(1)).unwrap();
        put(&a, "in the clear", "1").await;
        agree(&world, &[&a, &b], 1).await;
        assert_eq!(session.remote(), Some(key(2)));
        assert_eq!(session.progress().stream, Some([9; 64]));
        let is_clear = |bytes: &[u8]| bytes.windows(12).any(|bytes| bytes == b"in the clear");
        assert!(is_clear(&seen.lock().unwrap()));

        // Who says another name for the stream proves nothing.
        let c = world.join(3, &a).await;
        let (near, far) = tokio::io::duplex(4096);
        a.replicate_secured(near, Role::Initiator, secured(3)).unwrap();
        let other = Secured {
            remote: key(1),
            stream: [8; 64],
        };
        c.replicate_secured(far, Role::Responder, other).unwrap();
        world.wait(Duration::from_secs(10)).await;
        assert_eq!(c.order().unwrap(), []);
    });
}

/// Peers see an own log only as far as it is durable, also when appends do not wait for that.
#[test]
fn announced_lengths_are_durable_ones() {
    in_world(async |world| {
        let settings = Settings::with(|settings| settings.durability = autobee::db::Durability::Visible);
        let a = world.create(1).await;
        put(&a, "x", "1").await;
        let store = world.store(2).await;
        let b = Autobee::builder(store)
            .key(a.key())
            .apply(JsonApply)
            .settings(settings);
        let b = b.open().await.unwrap();
        connect_through(&a, &b, 4096);
        let options = AppendOptions { optimistic: true };
        for number in 0..10 {
            let value = Op::put("b", number.to_string()).to_value().into();
            b.append_with(vec![value], options).await.unwrap();
        }
        agree(&world, &[&a, &b], 11).await;
    });
}

// Around them.

/// A database that holds so many batches.
async fn create_with_window(world: &World, seed: u64, window_batches: usize) -> Db {
    let settings = Settings::with(|settings| settings.window_batches = window_batches);
    world.open(seed, None, JsonApply, settings).await
}

/// Waits until all have the same order of `entries` entries, and compares what else they have.
async fn agree(world: &World, all: &[&Db], entries: usize) {
    let orders = || all.iter().map(|db| db.order().unwrap()).collect::<Vec<_>>();
    let is_done = || orders().iter().all(|order| order.len() >= entries);
    for _ in 0..12_000 {
        if is_done() {
            break;
        }
        world.wait(Duration::from_millis(10)).await;
    }
    let lengths: Vec<usize> = orders().iter().map(Vec::len).collect();
    assert_eq!(lengths, vec![entries; all.len()]);
    for db in all {
        assert_eq!(db.order().unwrap(), all[0].order().unwrap());
        assert_eq!(db.writers(), all[0].writers());
        assert_eq!(db.view().all().await.unwrap(), all[0].view().all().await.unwrap());
    }
}
