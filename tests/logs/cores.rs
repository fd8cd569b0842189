//! Cores, sessions and corestores over the real storage engine, in a world in memory.

use std::future::Future;
use std::time::Duration;

use autobee::crypto::{Ed25519, KeyPair, Seed, Sign as _};
use autobee::env::memory::MemoryEnv;
use autobee::env::{Clock as _, Env as _};
use autobee::hypercore::log::Log;
use autobee::hypercore::manifest::{Manifest, ManifestOptions, Signer};
use autobee::hypercore::proof::{BlockRequest, HashRequest, Request, UpgradeRequest};
use autobee::hypercore::{
    Core, CoreAppendOptions, CoreError, CoreEvent, CoreOptions, Corestore, CorestoreOptions, DownloadRange,
    Encryption, NamedOptions, SessionOptions, Wait,
};
use autobee::store::{Seglog, StoreHandle};
use autobee::wire::{Index, Length};
use bytes::Bytes;
use proptest::prelude::*;

type Store = Corestore<MemoryEnv>;

const LOCAL: Wait = Wait::Local;

async fn open(env: &MemoryEnv) -> Store {
    let store = StoreHandle::open(env, &Seglog::default()).unwrap();
    Corestore::open(env.clone(), store, CorestoreOptions::default())
        .await
        .unwrap()
}

fn run(env: &MemoryEnv, test: impl Future<Output = ()>) {
    assert!(
        env.run(test).is_some(),
        "the test waits for something that cannot happen"
    );
}

fn blocks(texts: &[&str]) -> Vec<Bytes> {
    texts
        .iter()
        .map(|text| Bytes::copy_from_slice(text.as_bytes()))
        .collect()
}

fn pair(seed: u8) -> KeyPair {
    Ed25519.key_pair(&Seed::new([seed; 32]))
}

async fn texts(core: &Core<MemoryEnv>) -> Vec<String> {
    let mut texts = Vec::new();
    for index in 0..core.length().unwrap().0 {
        let block = core.get(Index(index), LOCAL).await;
        texts.push(block.map_or("-".into(), |block| String::from_utf8_lossy(&block).into_owned()));
    }
    texts
}

/// Asks `source` for all its length, and for the blocks that are named.
fn copy(source: &Core<MemoryEnv>, target: &Core<MemoryEnv>, wanted: &[u64]) {
    let start = target.length().unwrap().0;
    let end = source.peer_access().offered().unwrap().tree.length();
    if end > start {
        let request = Request {
            upgrade: Some(UpgradeRequest {
                start,
                length: end - start,
            }),
            ..Request::default()
        };
        let proof = source
            .peer_access()
            .prove(&request, target.manifest().unwrap().is_none())
            .unwrap()
            .unwrap();
        assert!(target.peer_access().receive(&proof).unwrap());
    }
    for &index in wanted {
        let nodes = target.peer_access().missing_nodes(2 * index).unwrap();
        let request = Request {
            block: Some(BlockRequest { index, nodes }),
            ..Request::default()
        };
        let proof = source.peer_access().prove(&request, false).unwrap().unwrap();
        assert!(target.peer_access().receive(&proof).unwrap());
    }
}

#[test]
fn a_head_is_signed_when_it_is_wanted() {
    let env = MemoryEnv::new(1);
    run(&env, async {
        let store = open(&env).await;
        let core = store.get(CoreOptions::name("lazy")).await.unwrap();
        core.append(blocks(&["a"])).await.unwrap();
        let replica = open(&env.sibling(2)).await;
        let replica = replica.get(CoreOptions::key(core.key())).await.unwrap();
        copy(&core, &replica, &[0]);

        let (length, seq) = store
            .transact(|change| change.append_unsigned(&core, blocks(&["b", "c"])))
            .unwrap();
        store.synced(seq).await.unwrap();
        let lengths = || {
            let offered = core.peer_access().offered().unwrap().tree.length();
            (core.length().unwrap().0, core.signed_length().unwrap().0, offered)
        };
        assert_eq!((length.0, lengths()), (3, (3, 1, 1)));
        assert_eq!(texts(&core).await, ["a", "b", "c"]);

        let seq = core.sign_head().unwrap().unwrap();
        assert_eq!(lengths(), (3, 3, 1), "not durable yet");
        store.synced(seq).await.unwrap();
        assert_eq!(lengths(), (3, 3, 3));
        copy(&core, &replica, &[1, 2]);
        assert_eq!(texts(&replica).await, ["a", "b", "c"]);
    });
}

#[test]
fn a_reopened_core_goes_on_from_an_unsigned_head() {
    let env = MemoryEnv::new(1);
    run(&env, async {
        let store = open(&env).await;
        let core = store.get(CoreOptions::name("lazy")).await.unwrap();
        store
            .transact(|change| change.append_unsigned(&core, blocks(&["a", "b"])))
            .unwrap();
        store.close().await.unwrap();

        let store = open(&env).await;
        let core = store.get(CoreOptions::name("lazy")).await.unwrap();
        let offered = core.peer_access().offered().unwrap().tree.length();
        assert_eq!(
            (core.length().unwrap().0, core.signed_length().unwrap().0, offered),
            (2, 0, 0)
        );
        core.append(blocks(&["c"])).await.unwrap();
        let replica = open(&env.sibling(2)).await;
        let replica = replica.get(CoreOptions::key(core.key())).await.unwrap();
        copy(&core, &replica, &[0, 1, 2]);
        assert_eq!(texts(&replica).await, ["a", "b", "c"]);
    });
}

#[test]
fn a_core_survives_a_reopening() {
    let env = MemoryEnv::new(1);
    run(&env, async {
        let store = open(&env).await;
        let core = store.get(CoreOptions::name("log")).await.unwrap();
        core.append(blocks(&["a", "b", "c"])).await.unwrap();
        core.truncate(Length(2), None).await.unwrap();
        core.append(blocks(&["d"])).await.unwrap();
        core.set_user_data("title", Some("x".into())).await.unwrap();
        let session = core.named("draft", NamedOptions::default()).await.unwrap();
        session.append(blocks(&["e"])).await.unwrap();
        let (key, head) = (core.key(), core.head().unwrap());
        store.close().await.unwrap();
        assert!(matches!(core.length(), Err(CoreError::Closed)));

        let store = open(&env).await;
        let mut options = CoreOptions::name("log");
        options.manifest_version = 2;
        let core = store.get(options).await.unwrap();
        assert_eq!((core.key(), core.head().unwrap()), (key, head));
        assert_eq!(texts(&core).await, ["a", "b", "d"]);
        assert_eq!(core.contiguous_length().unwrap(), Length(3));
        assert_eq!(core.user_data("title").unwrap().unwrap(), "x");
        assert_eq!(core.peer_access().offered().unwrap(), core.head().unwrap());
        let session = core.named("draft", NamedOptions::default()).await.unwrap();
        assert_eq!(texts(&session).await, ["a", "b", "d", "e"]);
        let by_key = store.get(CoreOptions::key(key)).await.unwrap();
        assert!(by_key.is_writable());
        assert_eq!(store.list().unwrap(), [core.discovery_key()]);
        assert_eq!(store.names().unwrap(), [("log".into(), core.discovery_key())]);
    });
}

#[test]
fn reads_wait_as_long_as_they_say() {
    let env = MemoryEnv::new(1);
    run(&env, async {
        let store = open(&env).await;
        let core = store.get(CoreOptions::name("log")).await.unwrap();
        core.append(blocks(&["a", "b"])).await.unwrap();
        assert!(matches!(
            core.get(Index(2), LOCAL).await,
            Err(CoreError::Unavailable(Index(2)))
        ));
        let before = env.clock().now();
        let late = core.get(Index(2), Wait::For(Duration::from_secs(3))).await;
        assert!(matches!(late, Err(CoreError::Timeout(Index(2)))));
        assert_eq!(env.clock().now().since(before), Duration::from_secs(3));

        // An append brings what is waited for.
        let reader = core.session(SessionOptions::default()).await.unwrap();
        let writing = async {
            env.clock().sleep(Duration::from_secs(1)).await;
            assert_eq!(
                core.peer_access()
                    .demand()
                    .unwrap()
                    .blocks
                    .keys()
                    .copied()
                    .collect::<Vec<_>>(),
                [2]
            );
            core.append(blocks(&["c"])).await.unwrap();
        };
        let (read, ()) = tokio::join!(reader.get(Index(2), Wait::Forever), writing);
        assert_eq!(read.unwrap(), "c");
        assert!(core.peer_access().demand().unwrap().blocks.is_empty());

        // A truncation below the block ends the wait, and so does the end of the session.
        core.clear(Index(1)..Index(2)).unwrap();
        let cutting = async {
            env.clock().sleep(Duration::from_secs(1)).await;
            core.truncate(Length(1), None).await.unwrap();
        };
        let (read, ()) = tokio::join!(reader.get(Index(1), Wait::Forever), cutting);
        assert!(matches!(read, Err(CoreError::Truncated(Index(1)))));
        let closing = async {
            env.clock().sleep(Duration::from_secs(1)).await;
            reader.close();
        };
        let (read, ()) = tokio::join!(reader.get(Index(7), Wait::Forever), closing);
        assert!(matches!(read, Err(CoreError::Closed)));
    });
}

#[test]
fn nothing_unsynced_is_offered() {
    let env = MemoryEnv::new(1);
    run(&env, async {
        let store = open(&env).await;
        let core = store.get(CoreOptions::name("log")).await.unwrap();
        let (_, first) = core
            .append_visible(blocks(&["a"]), CoreAppendOptions::default())
            .unwrap();
        assert_eq!(
            (
                core.length().unwrap().0,
                core.peer_access().offered().unwrap().tree.length()
            ),
            (1, 0)
        );
        let upgrade = Request {
            upgrade: Some(UpgradeRequest { start: 0, length: 1 }),
            ..Request::default()
        };
        assert!(
            core.peer_access()
                .prove(&upgrade, true)
                .unwrap()
                .unwrap()
                .upgrade
                .is_none()
        );
        store.synced(first).await.unwrap();
        assert_eq!(core.peer_access().offered().unwrap(), core.head().unwrap());
        core.append_visible(blocks(&["b"]), CoreAppendOptions::default())
            .unwrap();
        assert_eq!(core.peer_access().offered().unwrap().tree.length(), 1);
        assert_eq!(core.peer_access().offered_contiguous().unwrap(), 1);
        let proof = core.peer_access().prove(&upgrade, true).unwrap().unwrap();
        assert!(proof.upgrade.unwrap().additional_nodes.is_empty());
    });
}

#[test]
fn a_sparse_copy_remembers_what_it_has() {
    let env = MemoryEnv::new(1);
    let other = env.sibling(2);
    run(&env, async {
        let source = open(&env).await.get(CoreOptions::name("log")).await.unwrap();
        let texts: Vec<String> = (0..2_100).map(|at| at.to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        source.append(blocks(&texts)).await.unwrap();

        let store = open(&other).await;
        let target = store.get(CoreOptions::key(source.key())).await.unwrap();
        assert!(!target.is_writable());
        let mut events = target.events().unwrap();
        copy(&source, &target, &[0, 1, 5, 2_099, 1_030]);
        assert_eq!(events.next().await, Some(CoreEvent::Manifest));
        assert_eq!(
            events.next().await,
            Some(CoreEvent::Append {
                length: Length(2_100)
            })
        );
        assert_eq!(events.next().await, Some(CoreEvent::Download { index: Index(0) }));
        assert_eq!(target.contiguous_length().unwrap(), Length(2));
        assert_eq!(target.get(Index(2_099), LOCAL).await.unwrap(), "2099");
        let first = DownloadRange::from(Index(0)..Index(6)).in_order();
        let downloading = target.download(first).unwrap();
        assert!(!downloading.is_done().unwrap());
        copy(&source, &target, &[3, 4, 2]);
        assert!(downloading.done(Wait::Forever).await.unwrap());
        target.clear(Index(1)..Index(2)).unwrap();
        let pages = (
            target.peer_access().offered_page(0).unwrap(),
            target.contiguous_length().unwrap(),
        );
        store.close().await.unwrap();
        drop((target, downloading, store));

        let target = open(&other)
            .await
            .get(CoreOptions::key(source.key()))
            .await
            .unwrap();
        assert_eq!(
            (
                target.peer_access().offered_page(0).unwrap(),
                target.contiguous_length().unwrap()
            ),
            pages
        );
        assert!(target.has(Index(2)..Index(6)).unwrap() && !target.has(Index(0)..Index(2)).unwrap());
        // The tree is still whole: the cleared block comes again, and others can be proven.
        copy(&source, &target, &[1]);
        assert_eq!(target.contiguous_length().unwrap(), Length(6));
        let third = open(&env.sibling(3))
            .await
            .get(CoreOptions::key(source.key()))
            .await
            .unwrap();
        copy(&target, &third, &[2, 1_030]);
    });
}

#[test]
fn a_copy_follows_a_rewritten_log() {
    let env = MemoryEnv::new(1);
    run(&env, async {
        let source = open(&env).await.get(CoreOptions::name("log")).await.unwrap();
        let target = open(&env.sibling(2))
            .await
            .get(CoreOptions::key(source.key()))
            .await
            .unwrap();
        source.append(blocks(&["a", "b", "c", "d", "e"])).await.unwrap();
        copy(&source, &target, &[0, 1, 2, 3, 4]);
        let snapshot = target.snapshot().unwrap();
        source.truncate(Length(3), None).await.unwrap();
        source.append(blocks(&["x", "y", "z"])).await.unwrap();
        let request = Request {
            upgrade: Some(UpgradeRequest { start: 0, length: 6 }),
            ..Request::default()
        };
        let proof = source.peer_access().prove(&request, false).unwrap().unwrap();
        assert!(!target.peer_access().receive(&proof).unwrap());
        let mut reorg = target.peer_access().start_reorg(&proof).unwrap();
        while let Some(wanted) = reorg.wanted() {
            let request = Request {
                hash: Some(HashRequest {
                    index: 2 * wanted.start,
                    nodes: wanted.nodes,
                }),
                ..Request::default()
            };
            let proof = source.peer_access().prove(&request, false).unwrap().unwrap();
            assert!(target.peer_access().advance_reorg(&mut reorg, &proof).unwrap());
        }
        let mut events = target.events().unwrap();
        assert!(target.peer_access().finish_reorg(reorg).unwrap());
        assert_eq!(
            events.next().await,
            Some(CoreEvent::Truncate {
                ancestors: Length(3),
                fork: 1
            })
        );
        assert_eq!(texts(&target).await, ["a", "b", "c", "-", "-", "-"]);
        assert_eq!(snapshot.get(Index(4), LOCAL).await.unwrap(), "e");
        copy(&source, &target, &[3, 4, 5]);
        assert_eq!(target.head().unwrap(), source.head().unwrap());
    });
}

#[test]
fn snapshots_and_named_sessions_keep_their_blocks() {
    let env = MemoryEnv::new(1);
    run(&env, async {
        let store = open(&env).await;
        let core = store.get(CoreOptions::name("log")).await.unwrap();
        core.append(blocks(&["a", "b", "c", "d", "e"])).await.unwrap();
        let snapshot = core.snapshot().unwrap();
        let session = core.named("draft", NamedOptions::default()).await.unwrap();
        session.append(blocks(&["f"])).await.unwrap();
        let early = core
            .named(
                "early",
                NamedOptions {
                    checkout: Some(Length(2)),
                    ..NamedOptions::default()
                },
            )
            .await
            .unwrap();
        let child = session.named("child", NamedOptions::default()).await.unwrap();
        let head = session.tree_hash().unwrap();

        core.truncate(Length(1), None).await.unwrap();
        core.append(blocks(&["x"])).await.unwrap();
        assert_eq!(texts(&core).await, ["a", "x"]);
        assert_eq!(texts(&session).await, ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(texts(&early).await, ["a", "b"]);
        assert_eq!(texts(&child).await, ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(session.tree_hash().unwrap(), head);
        for (index, text) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
            assert_eq!(snapshot.get(Index(index as u64), LOCAL).await.unwrap(), text);
        }
        assert_eq!(snapshot.checkout(Length(3)).unwrap().length(), Length(3));
        // The core went another way: the session cannot go into it any more.
        assert_eq!(core.commit(&session, None, None).await.unwrap(), None);
        let fresh = core.named(
            "draft",
            NamedOptions {
                overwrite: true,
                checkout: None,
            },
        );
        let fresh = fresh.await.unwrap();
        assert_eq!(texts(&fresh).await, ["a", "x"]);
        fresh.append(blocks(&["y"])).await.unwrap();
        assert_eq!(
            core.commit(&fresh, None, None).await.unwrap().unwrap().length,
            Length(3)
        );
        assert_eq!(texts(&core).await, ["a", "x", "y"]);
        core.remove_named("early").unwrap();
        assert!(matches!(early.length(), Err(CoreError::Closed)));
    });
}

#[test]
fn a_block_that_comes_later_counts_for_a_snapshot_of_the_same_log() {
    let env = MemoryEnv::new(1);
    run(&env, async {
        let source = open(&env).await.get(CoreOptions::name("log")).await.unwrap();
        let target = open(&env.sibling(2))
            .await
            .get(CoreOptions::key(source.key()))
            .await
            .unwrap();
        source.append(blocks(&["a", "b", "c"])).await.unwrap();
        copy(&source, &target, &[]);
        let snapshot = target.snapshot().unwrap();
        let fetching = async {
            env.clock().sleep(Duration::from_secs(1)).await;
            assert!(target.peer_access().demand().unwrap().blocks.contains_key(&1));
            copy(&source, &target, &[1]);
        };
        let (read, ()) = tokio::join!(snapshot.get(Index(1), Wait::Forever), fetching);
        assert_eq!(read.unwrap(), "b");
    });
}

#[test]
fn many_cores_change_together_or_not_at_all() {
    let env = MemoryEnv::new(1);
    run(&env, async {
        let store = open(&env).await;
        let one = store.get(CoreOptions::name("one")).await.unwrap();
        let two = store.get(CoreOptions::name("two")).await.unwrap();
        let reader = store.read_only().get(CoreOptions::key(two.key())).await.unwrap();
        one.append(blocks(&["a", "b"])).await.unwrap();
        let head = one.head().unwrap();
        let refused = store.transact(|change| {
            change.truncate(&one, Length(1))?;
            change.append(&one, blocks(&["c"]))?;
            change.append(&reader, blocks(&["d"]))
        });
        assert!(matches!(refused, Err(CoreError::NotWritable)));
        assert_eq!(
            (one.head().unwrap(), texts(&one).await),
            (head, vec!["a".into(), "b".into()])
        );
        let (lengths, seq) = store
            .transact(|change| {
                change.truncate(&one, Length(1))?;
                change.set_user_data(&one, "k", Some("v".into()))?;
                Ok((
                    change.append(&one, blocks(&["c"]))?,
                    change.append(&two, blocks(&["d"]))?,
                ))
            })
            .unwrap();
        assert_eq!(lengths, (Length(2), Length(1)));
        store.synced(seq).await.unwrap();
        assert_eq!(
            (texts(&one).await, texts(&two).await),
            (vec!["a".into(), "c".into()], vec!["d".into()])
        );
    });
}

#[test]
fn exclusive_sessions_take_turns() {
    let env = MemoryEnv::new(1);
    run(&env, async {
        let store = open(&env).await;
        let mut options = CoreOptions::name("log");
        options.session.is_exclusive = true;
        let first = store.get(options.clone()).await.unwrap();
        let waiting = async {
            let second = store.get(options.clone()).await.unwrap();
            assert_eq!(texts(&second).await, ["a"]);
        };
        let working = async {
            env.clock().sleep(Duration::from_secs(1)).await;
            first.append(blocks(&["a"])).await.unwrap();
            first.close();
        };
        tokio::join!(waiting, working);
    });
}

#[test]
fn a_group_hears_of_its_cores() {
    let env = MemoryEnv::new(1);
    let topic = [7; 32];
    run(&env, async {
        let store = open(&env).await;
        let mut heard = store.notify_group(Some(topic));
        let mut cores = Vec::new();
        for name in ["one", "two"] {
            let mut options = CoreOptions::name(name);
            options.group = Some(topic);
            cores.push(store.get(options).await.unwrap());
        }
        cores[0].append(blocks(&["a"])).await.unwrap();
        env.clock().sleep(Duration::from_secs(1)).await;
        cores[1].append(blocks(&["b", "c"])).await.unwrap();
        let first = heard.next().await.unwrap();
        assert_eq!((first.key, first.length), (cores[0].key(), Length(1)));
        assert_eq!(heard.next().await.unwrap().key, cores[1].key());
        let updates = store.group_updates(topic, 0).unwrap();
        let keys: Vec<_> = updates.iter().map(|(_, update)| update.key).collect();
        assert_eq!(keys, [cores[1].key(), cores[0].key()]);
        assert_eq!(store.group_updates(topic, updates[0].0).unwrap().len(), 1);
        let mut other = CoreOptions::name("one");
        other.group = Some([8; 32]);
        assert!(matches!(store.get(other).await, Err(CoreError::Conflict(_))));
    });
}

#[test]
fn an_owner_that_contradicts_itself_is_found_out() {
    let env = MemoryEnv::new(1);
    run(&env, async {
        let store = open(&env).await;
        let one = store.get(CoreOptions::key_pair(pair(5))).await.unwrap();
        let two = open(&env.sibling(2))
            .await
            .get(CoreOptions::key_pair(pair(5)))
            .await
            .unwrap();
        one.append(blocks(&["a", "b"])).await.unwrap();
        two.append(blocks(&["a", "c", "d"])).await.unwrap();
        let request = Request {
            upgrade: Some(UpgradeRequest { start: 0, length: 2 }),
            ..Request::default()
        };
        let honest = one.peer_access().prove(&request, false).unwrap().unwrap();
        assert!(!one.peer_access().check_conflict(&honest).unwrap());
        let proof = two.peer_access().prove(&request, false).unwrap().unwrap();
        assert!(one.peer_access().check_conflict(&proof).unwrap());
        assert!(matches!(
            one.length(),
            Err(CoreError::Signatures {
                length: Length(2),
                fork: 0
            })
        ));
        // Who opens it later knows, reads what is here, and shows it to peers, whom nobody has to convince again.
        let later = store.get(CoreOptions::key_pair(pair(5))).await.unwrap();
        assert!(later.contradiction().unwrap().is_some());
        assert_eq!(later.get(Index(1), LOCAL).await.unwrap(), "b");
        let mut serving = CoreOptions::key_pair(pair(5));
        serving.session.is_serving = true;
        let serving = store.get(serving).await.unwrap();
        assert!(serving.peer_access().prove(&request, false).unwrap().is_some());
        assert!(serving.peer_access().check_conflict(&proof).unwrap());
        assert_eq!(later.length().unwrap(), Length(2));
        assert!(matches!(one.length(), Err(CoreError::Signatures { .. })));
    });
}

#[test]
fn encrypted_cores_are_readable_with_the_key_alone() {
    let env = MemoryEnv::new(1);
    run(&env, async {
        let store = open(&env).await;
        let mut options = CoreOptions::name("secret");
        options.session.encryption = Some(Encryption::Key([9; 32]));
        let core = store.get(options).await.unwrap();
        let appended = core.append(blocks(&["hello", "world"])).await.unwrap();
        assert_eq!((appended.byte_length, core.byte_length().unwrap()), (26, 10));
        assert_eq!(core.get(Index(1), LOCAL).await.unwrap(), "world");
        assert_eq!(
            core.snapshot().unwrap().get(Index(0), LOCAL).await.unwrap(),
            "hello"
        );
        let plain = store.get(CoreOptions::name("secret")).await.unwrap();
        assert_ne!(plain.get(Index(1), LOCAL).await.unwrap().slice(8..), "world");

        // The copy learns only from the manifest how the keys are derived.
        let mut options = CoreOptions::key(core.key());
        options.session.encryption = Some(Encryption::Key([9; 32]));
        let target = open(&env.sibling(2)).await.get(options).await.unwrap();
        copy(&core, &target, &[0, 1]);
        assert_eq!(target.get(Index(0), LOCAL).await.unwrap(), "hello");
    });
}

#[test]
fn what_cannot_be_verified_is_not_written() {
    let env = MemoryEnv::new(1);
    run(&env, async {
        let store = open(&env).await;
        let of_two = |quorum| {
            Manifest::new(ManifestOptions {
                quorum: Some(quorum),
                signers: vec![Signer::new(pair(1).public), Signer::new(pair(2).public)],
                ..ManifestOptions::default()
            })
            .unwrap()
        };
        let mut options = CoreOptions::manifest(of_two(2));
        options.key_pair = Some(pair(1));
        let both = store.get(options).await.unwrap();
        assert!(matches!(
            both.append(blocks(&["a"])).await,
            Err(CoreError::Signature(_))
        ));
        assert_eq!(both.length().unwrap(), Length::ZERO);
        let mut options = CoreOptions::manifest(of_two(1));
        options.key_pair = Some(pair(2));
        let either = store.get(options).await.unwrap();
        either.append(blocks(&["a"])).await.unwrap();
        let target = open(&env.sibling(2))
            .await
            .get(CoreOptions::key(either.key()))
            .await
            .unwrap();
        copy(&either, &target, &[0]);

        let mut mixed = CoreOptions::key(either.key());
        mixed.key_pair = Some(pair(3));
        assert!(matches!(
            store.get(mixed).await,
            Err(CoreError::KeyMismatch { .. })
        ));
        let oversized = vec![Bytes::from(vec![0; 15 * 1024 * 1024 + 1])];
        let core = store.get(CoreOptions::name("log")).await.unwrap();
        assert!(matches!(
            core.append(oversized).await,
            Err(CoreError::BlockTooLarge(_))
        ));
        assert!(matches!(
            core.truncate(Length(1), None).await,
            Err(CoreError::Beyond { .. })
        ));
    });
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Vec<u8>>),
    Truncate(u64),
    Clear(u64, u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let block = proptest::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        4 => proptest::collection::vec(block, 0..9).prop_map(Step::Append),
        2 => any::<u64>().prop_map(Step::Truncate),
        1 => (any::<u64>(), 0..9u64).prop_map(|(start, count)| Step::Clear(start, count)),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_stored_core_is_the_log_in_memory(steps in proptest::collection::vec(step(), 1..25)) {
        let env = MemoryEnv::new(1);
        run(&env, async {
            let mut model = Log::create(pair(1));
            let mut store = open(&env).await;
            let mut core = store.get(CoreOptions::key_pair(pair(1))).await.unwrap();
            for step in steps {
                let length = model.length().0;
                match step {
                    Step::Append(blocks) => {
                        model.append(&Ed25519, blocks.clone()).unwrap();
                        core.append(blocks.into_iter().map(Bytes::from).collect()).await.unwrap();
                    }
                    Step::Truncate(to) => {
                        let to = to % (length + 1);
                        model.truncate(&Ed25519, Length(to), None).unwrap();
                        core.truncate(Length(to), None).await.unwrap();
                    }
                    Step::Clear(start, count) => {
                        let start = start % (length + 1);
                        model.clear(Index(start), Index(start + count));
                        core.clear(Index(start)..Index(start + count)).unwrap();
                    }
                    Step::Reopen => {
                        store.close().await.unwrap();
                        drop((core, store));
                        store = open(&env).await;
                        core = store.get(CoreOptions::key(model.key())).await.unwrap();
                    }
                }
                assert_eq!(&core.head().unwrap(), model.head());
                assert_eq!(core.contiguous_length().unwrap(), model.contiguous_length());
                for index in 0..model.length().0 {
                    let stored = core.get(Index(index), LOCAL).await.ok();
                    assert_eq!(stored.as_ref(), model.get(Index(index)));
                    let nodes = 0;
                    let request = Request {
                        block: Some(BlockRequest { index, nodes }),
                        upgrade: Some(UpgradeRequest { start: 0, length: model.length().0 }),
                        ..Request::default()
                    };
                    assert_eq!(core.peer_access().prove(&request, false).unwrap(), model.prove(&request).unwrap());
                }
            }
        });
    }
}
