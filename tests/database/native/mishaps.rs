//! What people do to a database by mistake, and what they get.

use std::time::Duration;

use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host};
use autobee::bee::Range;
use autobee::db::{Changes, CloseReason, Event};
use autobee::env::memory::MemoryEnv;
use autobee::env::{Clock as _, Env as _, Open};
use autobee::store::Recovered;
use autobee::wire::{Length, Link};
use autobee::{Autobee, CoreKey, Corestore, Error, ErrorKind, Role, Settings};
use autobee_sim::workload::{JsonApply, Op};
use bytes::Bytes;

use super::{Directory, open};

use crate::{memory_store, run};

async fn in_namespace(store: &Corestore<MemoryEnv>, name: &str) -> Result<Autobee<MemoryEnv>, Error> {
    Autobee::builder(store.namespace(name))
        .apply(JsonApply)
        .open()
        .await
}

#[test]
fn one_of_two_databases_in_a_store_is_closed() {
    run(async |env| {
        let store = memory_store(env).await;
        let one = in_namespace(&store, "one").await.unwrap();
        let two = in_namespace(&store, "two").await.unwrap();
        assert_ne!(one.key(), two.key());
        one.append(Op::put("a", "1").to_value()).await.unwrap();
        one.close().await.unwrap();
        two.append(Op::put("b", "2").to_value()).await.unwrap();
        assert_eq!(two.view().get(b"b").await.unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(one.append(b"x").await.unwrap_err().kind(), ErrorKind::Closed);

        let one = in_namespace(&store, "one").await.unwrap();
        assert_eq!(one.view().get(b"a").await.unwrap().as_deref(), Some(&b"1"[..]));
        two.close().await.unwrap();
        one.close().await.unwrap();
        assert!(store.list().is_err(), "the last one closes the store");
    });
}

#[test]
fn a_database_is_opened_twice_on_clones_of_a_store() {
    run(async |env| {
        let store = memory_store(env).await;
        let db = Autobee::builder(store.clone())
            .apply(JsonApply)
            .open()
            .await
            .unwrap();
        let second = Autobee::builder(store.clone()).apply(JsonApply).open().await;
        assert!(matches!(second, Err(Error::InUse)), "{second:?}");
        db.append(Op::put("a", "1").to_value()).await.unwrap();
        drop(db);
        // What was dropped and not closed is not in the way.
        let again = Autobee::builder(store).apply(JsonApply).open().await.unwrap();
        assert_eq!(again.view().get(b"a").await.unwrap().as_deref(), Some(&b"1"[..]));
    });
}

#[test]
fn settings_that_make_no_sense_are_refused_at_opening() {
    run(async |env| {
        let settings = Settings::with(|settings| settings.append_values_max = 5000);
        let store = memory_store(env).await;
        let refused = Autobee::builder(store.clone()).settings(settings).open().await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert!(refused.to_string().contains("append_values_max"), "{refused}");
        Autobee::builder(store).open().await.unwrap();
    });
}

#[test]
fn a_batch_of_too_many_bytes_is_refused_before_anything_happens() {
    run(async |env| {
        let db = Autobee::builder(memory_store(env).await).open().await.unwrap();
        let values = vec![Bytes::from(vec![1; 8 << 20]); 140];
        let refused = db.append_batch(values).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        assert_eq!(db.append(b"x").await.unwrap(), Length(1));
    });
}

#[test]
fn who_waits_for_changes_of_a_closed_database_does_not_wait() {
    run(async |env| {
        let db = Autobee::builder(memory_store(env).await).open().await.unwrap();
        db.close().await.unwrap();
        let mut changes = Changes::default();
        for _ in 0..3 {
            db.changed(&mut changes).await;
        }
    });
}

#[test]
fn pages_of_a_prefix_come_to_an_end() {
    run(async |env| {
        let db = Autobee::builder(memory_store(env).await)
            .apply(JsonApply)
            .open()
            .await
            .unwrap();
        for number in 0..7 {
            let put = Op::put(format!("p/{number}"), "");
            db.append(put.to_value()).await.unwrap();
        }
        let (mut found, mut range) = (Vec::new(), Range::prefix("p/"));
        loop {
            let page = db.view().entries(range.clone().limit(3)).await.unwrap();
            let Some((last, _)) = page.last() else { break };
            range = range.gt(last);
            found.extend(page.into_iter().map(|(key, _)| key));
            assert!(found.len() <= 7);
        }
        assert_eq!(found.len(), 7);
    });
}

#[test]
fn a_watch_with_a_limit_tells_every_change() {
    run(async |env| {
        let db = Autobee::builder(memory_store(env).await)
            .apply(JsonApply)
            .open()
            .await
            .unwrap();
        let mut watch = db.watch(Range::prefix("w/").limit(1));
        let puts = ["w/a", "w/b", "w/c"].map(|key| Op::put(key, "1").to_value().into());
        db.append_batch(puts.to_vec()).await.unwrap();
        for key in ["w/a", "w/b", "w/c"] {
            let event = watch.next().await.unwrap();
            assert_eq!(event.changes.len(), 1);
            assert_eq!(event.changes[0].key, key);
        }
    });
}

#[test]
fn acknowledged_entries_that_somebody_cut_off_are_said() {
    run(async |env| {
        let db = async || {
            let store = memory_store(env).await;
            Autobee::builder(store).apply(JsonApply).open().await.unwrap()
        };
        let writer = db().await;
        assert_eq!(writer.status().recovered, Recovered::default());
        for number in 0..10 {
            let put = Op::put(format!("{number}"), "");
            writer.append(put.to_value()).await.unwrap();
        }
        drop(writer);
        env.clock().sleep(Duration::from_secs(1)).await;
        let file = env.disk().open("00000001.segment", Open::Write).unwrap();
        file.truncate(file.len().unwrap() - 700).unwrap();
        let again = db().await;
        let recovered = again.status().recovered;
        assert!(recovered.missing.is_some(), "{recovered:?}");
        assert!(again.order().unwrap().len() < 10);
    });
}

/// Puts a value, or a key, of as many bytes as an entry says.
struct Large;

impl Apply for Large {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        _: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            let text = String::from_utf8_lossy(entry.value()).into_owned();
            let (what, size) = text.split_once(' ').unwrap_or(("", ""));
            let bytes = vec![b'x'; size.parse().unwrap_or(0)];
            let mut write = view.write();
            match what {
                "value" => write.put(b"large", &bytes),
                "keys" => {
                    for number in 0..10 {
                        write.put(&[&bytes[..], &[number]].concat(), b"");
                    }
                }
                _ => write.put(text.as_bytes(), b""),
            }
            write.flush().await?;
        }
        Ok(())
    }
}

#[test]
fn what_no_block_can_hold_is_rejected_and_the_database_opens() {
    run(async |env| {
        let db = async || {
            let store = memory_store(env).await;
            Autobee::builder(store).apply(Large).open().await.unwrap()
        };
        let writer = db().await;
        for entry in ["value 16252928", "value 14680065", "keys 900000", "keys 2000000"] {
            writer.append(entry).await.unwrap();
            assert_eq!(writer.view().all().await.unwrap(), [], "{entry}");
        }
        writer.append("value 14680064").await.unwrap();
        writer.append("keys 800000").await.unwrap();
        writer.append("after").await.unwrap();
        writer.close().await.unwrap();
        let again = db().await;
        let keys = again.view().entries(Range::all()).await.unwrap();
        assert_eq!(keys.len(), 12);
        let large = again.view().get(b"large").await.unwrap().unwrap();
        assert_eq!(large.len(), 14 << 20);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_opened_again_right_after_a_drop() {
    let directory = Directory::new("dropped");
    for round in 0..20 {
        let db = open(&directory, None).await;
        let put = Op::put(format!("{round}"), "v").to_value();
        db.append(put).await.unwrap();
        drop(db);
    }
    let db = open(&directory, None).await;
    assert_eq!(db.order().unwrap().len(), 20);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_removed_is_noticed() {
    let directory = Directory::new("removed");
    let db = open(&directory, None).await;
    db.append(Op::put("a", "1").to_value()).await.unwrap();
    std::fs::remove_dir_all(&directory.0).unwrap();
    let append = db.append(Op::put("b", "2").to_value());
    let refused = tokio::time::timeout(Duration::from_secs(1), append).await;
    let refused = refused.unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Disk, "{refused}");
    // What was stored can still be read.
    assert_eq!(db.view().get(b"a").await.unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn the_same_database_in_two_namespaces_is_refused_in_words_that_are_so() {
    run(async |env| {
        let store = memory_store(env).await;
        let one = in_namespace(&store, "one").await.unwrap();
        let second = Autobee::builder(store.namespace("two")).key(one.key());
        let refused = second.apply(JsonApply).open().await.unwrap_err();
        assert!(matches!(refused, Error::InUse), "{refused}");
        assert!(
            refused.to_string().contains("the log of the local writer"),
            "{refused}"
        );
    });
}

#[test]
fn what_is_no_view_is_not_read_as_one() {
    run(async |env| {
        let db = Autobee::builder(memory_store(env).await)
            .apply(JsonApply)
            .open()
            .await
            .unwrap();
        db.append(Op::put("a", "1").to_value()).await.unwrap();
        let head = db.view().head();
        let [then, now] = [db.view_at(head).unwrap(), db.view()];
        assert_eq!(then.all().await.unwrap(), now.all().await.unwrap());
        for key in [db.local(), db.views().unwrap()[0].key] {
            let refused = db
                .view_at(Link {
                    key,
                    length: Length(1),
                })
                .unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
            assert!(refused.to_string().contains(&key.to_string()), "{refused}");
        }
        // Of a core that is not known nothing can be said.
        let key = CoreKey::new([9; 32]);
        db.view_at(Link {
            key,
            length: Length(1),
        })
        .unwrap();
    });
}

#[test]
fn the_order_of_a_closed_database_is_refused() {
    run(async |env| {
        let db = Autobee::builder(memory_store(env).await).open().await.unwrap();
        db.append(b"x").await.unwrap();
        assert_eq!(db.order().unwrap().len(), 1);
        db.close().await.unwrap();
        assert_eq!(db.order().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!((db.cores(), db.blocks(&db.key())), (Vec::new(), Vec::new()));
    });
}

#[test]
fn a_panic_of_who_admits_ends_the_connection_and_is_told() {
    run(async |env| {
        let builder = Autobee::builder(memory_store(env).await).apply(JsonApply);
        let admits = builder.admit(|_| panic!("no list")).open().await.unwrap();
        let joined = Autobee::builder(memory_store(&env.sibling(2)).await).key(admits.key());
        let joined = joined.open().await.unwrap();
        let mut events = admits.events();
        for count in 1..=3 {
            let (near, far) = tokio::io::duplex(1 << 16);
            let session = admits.replicate(near, Role::Responder).unwrap();
            let other = joined.replicate(far, Role::Initiator).unwrap();
            let reason = session.ended().await;
            assert!(
                matches!(&reason, CloseReason::AdmitPanicked(words) if words == "no list"),
                "{reason}"
            );
            other.ended().await;
            let told = events.next().await.unwrap();
            assert!(
                matches!(&told, Event::Error { what } if what.contains("no list")),
                "{told:?}"
            );
            assert_eq!(admits.status().peers.len(), 0);
            let stats = admits.stats();
            assert_eq!(
                (stats.connections_opened, stats.connections_closed, stats.errors),
                (count, count, count)
            );
        }
        admits.append(Op::put("a", "1").to_value()).await.unwrap();
    });
}
