//! The rules of a database: fixed when it is made, part of its key, and learned by whoever joins.

use std::time::Duration;

use autobee::crypto::{Ed25519, KeyPair, Seed, Sign as _};
use autobee::db::Event;
use autobee::{Autobee, CoreKey, Outcome, Rules, Settings};
use autobee_sim::workload::{JsonApply, Op};

use crate::support::{Db, World, add, connect, in_world, put};

const SECRET: [u8; 32] = [9; 32];

async fn create(world: &World, seed: u64, rules: Rules) -> Db {
    let builder = Autobee::builder(world.store(seed).await).apply(JsonApply);
    builder.rules(rules).open().await.unwrap()
}

fn pair() -> KeyPair {
    Ed25519.key_pair(&Seed::new([77; 32]))
}

#[test]
fn a_database_has_the_rules_with_which_it_was_made() {
    in_world(async |world| {
        for (seed, rules) in [(1, Rules::safe()), (2, Rules::interop())] {
            let a = create(&world, seed, rules).await;
            assert_eq!(a.rules(), Some(rules));
            put(&a, "x", "1").await;
            let key = a.key();
            a.close().await.unwrap();
            // What is said at a later opening counts for nothing.
            for other in [Rules::interop(), Rules::safe()] {
                let a = create(&world, seed, other).await;
                assert_eq!((a.key(), a.rules()), (key, Some(rules)));
                assert_eq!(a.order().unwrap().len(), 1);
                a.close().await.unwrap();
            }
        }
    });
}

#[test]
fn who_joins_learns_the_rules_with_the_first_block_of_the_creator() {
    in_world(async |world| {
        for (seed, rules) in [(10, Rules::safe()), (20, Rules::interop())] {
            let a = create(&world, seed, rules).await;
            put(&a, "x", "1").await;
            let join = async |seed| {
                let builder = Autobee::builder(world.store(seed).await).apply(JsonApply);
                builder.key(a.key()).optimistic(false).open().await.unwrap()
            };
            let b = join(seed + 1).await;
            assert_eq!(b.rules(), None, "nothing of the creator is here");
            connect(&a, &b);
            world.until(|| b.order().unwrap().len() == 1).await;
            assert_eq!(b.rules(), Some(rules));
            add(&a, &b, 2).await;
            world.until(|| b.writable()).await;
            put(&b, "y", "2").await;
            world.until(|| a.order().unwrap().len() == 3).await;
            b.close().await.unwrap();
            let b = join(seed + 1).await;
            assert_eq!(b.rules(), Some(rules), "it is here now");
            assert_eq!(a.order().unwrap(), b.order().unwrap());
        }
    });
}

#[test]
fn the_rules_are_part_of_the_key() {
    in_world(async |world| {
        let mut keys = Vec::new();
        for (seed, rules, optimistic) in [
            (1, Rules::safe(), true),
            (2, Rules::safe(), false),
            (3, Rules::interop(), true),
            (4, Rules::interop(), false),
        ] {
            let open = async || {
                let builder = Autobee::builder(world.store(seed).await).apply(JsonApply);
                builder.key_pair(pair()).whole_log()
            };
            let db = open()
                .await
                .rules(rules)
                .optimistic(optimistic)
                .open()
                .await
                .unwrap();
            put(&db, "x", "1").await;
            let key = db.key();
            assert_eq!(db.local(), key);
            db.close().await.unwrap();
            // The creator finds its log by its key pair, whatever is said about rules.
            for other in [Rules::safe(), Rules::interop()] {
                let db = open().await.rules(other).open().await.unwrap();
                assert_eq!((db.key(), db.rules()), (key, Some(rules)));
                put(&db, "y", "2").await;
                db.close().await.unwrap();
            }
            keys.push(key);
        }
        assert_eq!(keys[2], keys[3], "the original records nothing");
        keys.dedup();
        assert_eq!(keys.len(), 3);
    });
}

/// A lost device whose owner has the key pair and the key of the database.
#[test]
fn a_creator_goes_on_elsewhere_with_its_key_pair() {
    in_world(async |world| {
        let builder = Autobee::builder(world.store(1).await).apply(JsonApply);
        let builder = builder.rules(Rules::safe()).key_pair(pair()).whole_log();
        let a = builder.open().await.unwrap();
        put(&a, "x", "1").await;
        let b = world.join(2, &a).await;
        connect(&a, &b);
        world.until(|| b.order().unwrap().len() == 1).await;
        a.close().await.unwrap();

        let builder = Autobee::builder(world.store(3).await).apply(JsonApply);
        let c = builder.key(b.key()).key_pair(pair()).open().await.unwrap();
        assert_eq!(c.local(), b.key(), "it is the creator");
        connect(&c, &b);
        world.until(|| c.order().unwrap().len() == 1).await;
        put(&c, "y", "2").await;
        world.until(|| b.order().unwrap().len() == 2).await;
        assert_eq!(b.rules(), Some(Rules::safe()));
    });
}

/// ```text
/// a: creator ---- b: member ---- c: stranger
/// ```
#[test]
fn under_safe_rules_a_stranger_is_heard_through_a_member_and_stays_one() {
    in_world(async |world| {
        let a = create(&world, 1, Rules::safe()).await;
        let b = world.join(2, &a).await;
        let c = world.join(3, &a).await;
        connect(&a, &b);
        connect(&b, &c);
        add(&a, &b, 2).await;
        world
            .until(|| b.writable() && c.order().unwrap().len() == 1)
            .await;
        let asked = Op::put("c", "1").to_value();
        let options = autobee::AppendOptions { optimistic: true };
        let appended = c.append_with(vec![asked.into()], options).await.unwrap();
        assert!(
            matches!(&appended.outcome, Outcome::Rejected(why) if why.contains("acknowledged")),
            "{appended:?}"
        );
        // Its entry, and one acknowledgement of each member at most.
        world
            .until(|| {
                let lengths = [&a, &b, &c].map(|db| db.order().unwrap().len());
                lengths
                    .iter()
                    .all(|length| *length == lengths[0] && (3..=4).contains(length))
            })
            .await;
        for db in [&a, &b, &c] {
            let read = db.view().get(b"c").await.unwrap();
            assert_eq!(read.as_deref(), Some(&b"1"[..]));
            let record = db.writer(&c.local()).unwrap();
            assert!(record.is_guest && !record.is_removed, "{record:?}");
        }
        assert!(!c.writable());
        assert!(c.append(Op::put("c", "2").to_value()).await.is_err());

        // What apply refuses, or would change who is a member, leaves nothing.
        let before = a.order().unwrap().len();
        let mut refused = Op::put("c", "3");
        refused.reject = true;
        c.append_optimistic(refused.to_value()).await.unwrap();
        c.append_optimistic(Op::add_writer(c.local(), 2).to_value())
            .await
            .unwrap();
        world.wait(Duration::from_secs(5)).await;
        assert_eq!(a.order().unwrap().len(), before);

        // A member that adds it makes it one.
        add(&b, &c, 2).await;
        world.until(|| c.writable()).await;
        put(&c, "c", "4").await;
        world
            .until(|| {
                [&a, &b, &c]
                    .iter()
                    .all(|db| db.order().unwrap() == c.order().unwrap())
            })
            .await;
        world
            .until(|| a.writer(&c.local()).is_some_and(|record| !record.is_guest))
            .await;
    });
}

/// ```text
/// a: creator ---- b: stranger
/// ```
#[test]
fn under_safe_rules_a_refused_entry_keeps_nobody_from_being_heard_later() {
    in_world(async |world| {
        let a = create(&world, 1, Rules::safe()).await;
        put(&a, "a", "1").await;
        let b = world.join(2, &a).await;
        connect(&a, &b);
        world.until(|| b.order().unwrap().len() == 1).await;
        let mut refused = Op::put("b", "1");
        refused.reject = true;
        b.append_optimistic(refused.to_value()).await.unwrap();
        world.wait(Duration::from_secs(5)).await;
        assert_eq!(a.order().unwrap().len(), 1);
        b.append_optimistic(Op::put("b", "2").to_value()).await.unwrap();
        // Its second entry, and what acknowledges that.
        world
            .until(|| [&a, &b].iter().all(|db| db.order().unwrap().len() == 3))
            .await;
        for db in [&a, &b] {
            let read = db.view().get(b"b").await.unwrap();
            assert_eq!(read.as_deref(), Some(&b"2"[..]));
        }
        assert_eq!(a.order().unwrap(), b.order().unwrap());
    });
}

#[test]
fn under_safe_rules_nobody_reads_the_trees_without_the_secret() {
    in_world(async |world| {
        let builder = Autobee::builder(world.store(1).await).apply(JsonApply);
        let builder = builder.rules(Rules::safe()).encryption_key(SECRET);
        let a = builder.open().await.unwrap();
        put(&a, "plain", "as day").await;
        let builder = Autobee::builder(world.store(2).await).apply(JsonApply);
        let builder = builder.key(a.key()).encryption_key(SECRET);
        let b = builder.settings(Settings::default()).open().await.unwrap();
        connect(&a, &b);
        world.until(|| b.order().unwrap().len() == 1).await;
        // Both are opened again on what they wrote, the second by the rules that it learned.
        let order = a.order().unwrap();
        for (seed, db) in [(1, a), (2, b)] {
            let key = db.key();
            db.close().await.unwrap();
            let builder = Autobee::builder(world.store(seed).await).apply(JsonApply);
            let db = builder.key(key).open().await.unwrap();
            assert_eq!(db.order().unwrap(), order);
            assert_eq!(db.stats().applies, 0, "the trees are read");
            let read = db.view().get(b"plain").await.unwrap();
            assert_eq!(read.as_deref(), Some(&b"as day"[..]));
        }
    });
}

/// ```text
/// a (creator) ---- b, added by a ---- c, added by b         x joins by the key of b's log, or of c's, and meets c
/// ```
#[test]
fn who_joins_by_the_key_of_a_writer_hears_of_it() {
    in_world(async |world| {
        for (seed, rules) in [(10, Rules::safe()), (20, Rules::interop())] {
            let a = create(&world, seed, rules).await;
            let join = async |seed, key: CoreKey| {
                let builder = Autobee::builder(world.store(seed).await).apply(JsonApply);
                builder.key(key).open().await.unwrap()
            };
            let (b, c) = (join(seed + 1, a.key()).await, join(seed + 2, a.key()).await);
            connect(&a, &b);
            connect(&b, &c);
            put(&a, "a", "1").await;
            add(&a, &b, 2).await;
            world.until(|| b.writable()).await;
            put(&b, "b", "2").await;
            add(&b, &c, 2).await;
            world.until(|| c.writable()).await;
            put(&c, "c", "3").await;
            let last = c.local();
            world
                .until(|| a.writer(&last).is_some_and(|writer| writer.length.0 == 1))
                .await;
            for (number, key) in [(3, b.local()), (4, c.local())] {
                let x = join(seed + number, key).await;
                connect(&c, &x);
                world.wait(Duration::from_secs(30)).await;
                let expected = rules.is_safe().then_some(a.key());
                assert_eq!(x.status().writer_of, expected);
                // It was told before anybody listened.
                if let Some(database) = expected {
                    assert_eq!(x.events().next().await.unwrap(), Event::WritersKey { database });
                }
                x.close().await.unwrap();
                let x = join(seed + number, key).await;
                assert_eq!(x.status().writer_of, expected, "also after it was opened again");
            }
            for db in [&a, &b, &c] {
                assert_eq!(db.status().writer_of, None);
            }
        }
    });
}
