//! Fast-forward: going on from the trees of a trusted writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::db::{AllMembers, Boot, Event, FastForward, Trust, View};
use autobee::hypercore::{CoreOptions, Wait};
use autobee::wire::oplog::{OplogBlock, TrustedHead};
use autobee::wire::{Decode as _, Index, Length, Link};
use autobee::{Autobee, Corestore, ErrorKind, Settings};
use autobee_sim::workload::JsonApply;

use crate::support::{Db, World, add, connect, in_world, put};

async fn join(world: &World, seed: u64, key: CoreKey, forward: FastForward) -> Db {
    let store: Corestore<_> = world.store(seed).await;
    let builder = Autobee::builder(store).apply(JsonApply).key(key);
    builder.fast_forward(forward).open().await.unwrap()
}

async fn fill(db: &Db, from: usize, to: usize) {
    for i in from..to {
        put(db, &format!("k{i:04}"), &format!("v{i}")).await;
    }
}

async fn same_view(a: &Db, b: &Db) {
    assert_eq!(a.view().all().await.unwrap(), b.view().all().await.unwrap());
    assert_eq!(a.writers(), b.writers());
}

fn moved(db: &Db) -> bool {
    db.stats().fast_forwards > 0
}

/// Names the writer that the view has under `trusted`.
struct NamedByView(CoreKey);

impl Trust for NamedByView {
    async fn is_trusted(&self, _: &CoreKey, _: &View) -> bool {
        false
    }

    async fn most_recent_trusted(&self, target: &View, _: &View) -> Option<Link> {
        let length = target.get(b"trusted").await.ok()??.len() as u64;
        Some(Link {
            key: self.0,
            length: Length(length),
        })
    }
}

#[test]
fn own_entries_tell_whom_the_view_names_as_trusted() {
    in_world(async |world| {
        let store: Corestore<_> = world.store(1).await;
        let named = CoreKey::new([7; 32]);
        let forward = FastForward::trusting(NamedByView(named));
        let builder = Autobee::builder(store.clone())
            .apply(JsonApply)
            .fast_forward(forward);
        let a = builder.open().await.unwrap();
        put(&a, "other", "1").await;
        put(&a, "trusted", "123").await;
        put(&a, "other", "2").await;
        let log = store.get(CoreOptions::key(a.local())).await.unwrap();
        let mut trusted = Vec::new();
        for index in 0..3 {
            let block = log.get(Index(index), Wait::Local).await.unwrap();
            trusted.push(OplogBlock::from_bytes(&block).unwrap().trusted);
        }
        // As the view is before the entry, and how many entries there are with it.
        let head = TrustedHead {
            key: named,
            length: Length(3),
            flushes: 3,
        };
        assert_eq!(trusted, [None, None, Some(vec![head])]);
    });
}

#[test]
fn a_newcomer_goes_on_from_the_creators_trees() {
    in_world(async |world| {
        let a = world.create(1).await;
        fill(&a, 0, 300).await;
        let b = join(&world, 2, a.key(), FastForward::trusting(AllMembers)).await;
        let mut events = b.events();
        connect(&a, &b);
        world.until(|| moved(&b)).await;
        let told = events.next().await.unwrap();
        assert!(matches!(told, Event::MoveTo { .. }), "{told:?}");
        world.until(|| b.writers() == a.writers()).await;
        same_view(&a, &b).await;
        assert!(b.stats().applies < 32, "{:?}", b.stats());
        assert!(b.most_recent_head() == a.most_recent_head());

        // What comes next is applied here, and written behind the other's tree.
        fill(&a, 300, 310).await;
        add(&a, &b, 2).await;
        world.until(|| b.writable()).await;
        put(&b, "own", "1").await;
        world.until(|| b.writers() == a.writers()).await;
        same_view(&a, &b).await;

        // Opened again it goes on from there.
        b.close().await.unwrap();
        let b = world.join(2, &a).await;
        assert_eq!(b.stats().applies, 0);
        put(&b, "own", "2").await;
        fill(&a, 310, 320).await;
        connect(&a, &b);
        world
            .until(|| b.writers() == a.writers() && a.writers().iter().any(|w| w.length == Length(2)))
            .await;
        same_view(&a, &b).await;
    });
}

#[test]
fn nobody_is_trusted_by_default() {
    in_world(async |world| {
        let a = world.create(1).await;
        fill(&a, 0, 100).await;
        let asked = Arc::new(AtomicUsize::new(0));
        let asks = Arc::clone(&asked);
        let trust = move |writer: &CoreKey| {
            asks.fetch_add(1, Ordering::Relaxed);
            *writer == CoreKey::new([7; 32])
        };
        let b = world.join(2, &a).await;
        let c = join(&world, 3, a.key(), FastForward::trusting(trust)).await;
        connect(&a, &b);
        connect(&a, &c);
        world
            .until(|| b.writers() == a.writers() && c.writers() == a.writers())
            .await;
        assert!(!moved(&b) && !moved(&c));
        assert!(b.stats().applies >= 100 && c.stats().applies >= 100);
        assert!(
            asked.load(Ordering::Relaxed) > 0,
            "it was asked about the creator"
        );
    });
}

#[test]
fn a_newcomer_comes_by_way_of_the_creator_to_the_members() {
    in_world(async |world| {
        let a = world.create(1).await;
        let b = world.join(2, &a).await;
        connect(&a, &b);
        fill(&a, 0, 60).await;
        add(&a, &b, 2).await;
        world.until(|| b.writable()).await;
        // The creator says nothing after that.
        fill(&b, 60, 260).await;
        world.until(|| a.writers() == b.writers()).await;
        let c = join(&world, 3, a.key(), FastForward::trusting(AllMembers)).await;
        connect(&a, &c);
        connect(&b, &c);
        world.until(|| c.writers() == a.writers()).await;
        same_view(&a, &c).await;
        assert_eq!(c.stats().fast_forwards, 2);
        assert!(c.stats().applies < 100, "{:?}", c.stats());
    });
}

#[test]
fn only_whole_logs_count_unless_it_is_liberal() {
    in_world(async |world| {
        let a = world.create(1).await;
        fill(&a, 0, 200).await;
        let b = join(&world, 2, a.key(), FastForward::trusting(AllMembers)).await;
        let (session, _) = connect(&a, &b);
        world.until(|| moved(&b) && b.writers() == a.writers()).await;
        // All of the view is read, so that b has it, too.
        same_view(&a, &b).await;
        session.close();
        // b has the end of the log alone.
        let careful = join(&world, 3, a.key(), FastForward::trusting(AllMembers)).await;
        let liberal = join(&world, 4, a.key(), FastForward::trusting(AllMembers).liberal()).await;
        connect(&b, &careful);
        connect(&b, &liberal);
        world
            .until(|| moved(&liberal) && liberal.writers() == a.writers())
            .await;
        same_view(&a, &liberal).await;
        world.wait(Duration::from_secs(5)).await;
        assert!(!moved(&careful) && careful.most_recent_head() != a.most_recent_head());
        // The whole log comes along.
        connect(&a, &careful);
        world.until(|| careful.writers() == a.writers()).await;
        same_view(&a, &careful).await;
    });
}

#[test]
fn what_belongs_before_has_all_fetched() {
    in_world(async |world| {
        let a = world.create(1).await;
        let b = world.join(2, &a).await;
        let (session, _) = connect(&a, &b);
        add(&a, &b, 2).await;
        world.until(|| b.writable()).await;
        put(&b, "b", "1").await;
        world.until(|| a.writers() == b.writers()).await;
        session.close();
        // b writes early, and is heard late.
        put(&b, "b", "2").await;
        world.wait(Duration::from_secs(1)).await;
        fill(&a, 0, 200).await;
        let c = join(&world, 3, a.key(), FastForward::trusting(AllMembers)).await;
        connect(&a, &c);
        world.until(|| moved(&c) && c.writers() == a.writers()).await;
        let d = world.join(4, &a).await;
        connect(&a, &b);
        connect(&a, &d);
        world
            .until(|| a.writers() == b.writers() && a.writers() == d.writers())
            .await;
        world.until(|| c.writers() == a.writers()).await;
        same_view(&a, &d).await;
        same_view(&a, &c).await;
        assert_eq!(c.order().unwrap(), a.order().unwrap(), "all of it is here");
    });
}

#[test]
fn own_entries_that_others_do_not_have_keep_it_from_moving() {
    in_world(async |world| {
        let a = world.create(1).await;
        let b = join(&world, 2, a.key(), FastForward::trusting(AllMembers)).await;
        let (session, _) = connect(&a, &b);
        add(&a, &b, 2).await;
        world.until(|| b.writable()).await;
        session.close();
        put(&b, "own", "1").await;
        fill(&a, 0, 100).await;
        connect(&a, &b);
        world.until(|| a.writers() == b.writers()).await;
        assert!(!moved(&b));
        same_view(&a, &b).await;
    });
}

#[test]
fn it_is_booted_from_a_head_once_its_view_is_accepted() {
    in_world(async |world| {
        let a = world.create(1).await;
        fill(&a, 0, 100).await;
        let head = a.most_recent_head().unwrap();
        assert_eq!(
            head,
            Link {
                key: a.key(),
                length: Length(100)
            }
        );
        let b = join(&world, 2, a.key(), FastForward::off().boot(Boot::head(head))).await;
        let has_late = async |view: View| view.get(b"k0150").await.is_ok_and(|value| value.is_some());
        let late = Boot::head(head).when(has_late).wait(Duration::from_secs(60));
        let c = join(&world, 3, a.key(), FastForward::off().boot(late)).await;
        let never = Boot::head(head)
            .when(async |_| false)
            .wait(Duration::from_secs(3));
        let d = join(&world, 4, a.key(), FastForward::off().boot(never)).await;
        for joined in [&b, &c, &d] {
            connect(&a, joined);
        }
        world.until(|| moved(&b) && b.writers() == a.writers()).await;
        same_view(&a, &b).await;
        world.until(|| d.writers() == a.writers()).await;
        assert!(!moved(&d));
        fill(&a, 100, 200).await;
        for joined in [&b, &c, &d] {
            world.until(|| joined.writers() == a.writers()).await;
            same_view(&a, joined).await;
        }
    });
}

#[test]
fn it_moves_where_it_is_told_to() {
    in_world(async |world| {
        let a = world.create(1).await;
        fill(&a, 0, 60).await;
        let b = world.join(2, &a).await;
        let nowhere = Link {
            key: a.key(),
            length: Length::ZERO,
        };
        let early = b.move_to(nowhere).await.unwrap_err();
        assert_eq!(
            early.kind(),
            ErrorKind::Unavailable,
            "the rules are not known yet"
        );
        let (session, _) = connect(&a, &b);
        world.until(|| a.writers() == b.writers()).await;
        assert_eq!(b.move_to(nowhere).await.unwrap(), None);
        session.close();
        fill(&a, 60, 120).await;
        connect(&a, &b);
        let from = b.views().unwrap()[2];
        let moved = b.move_to(a.most_recent_head().unwrap()).await.unwrap();
        if let Some((before, after)) = moved {
            assert_eq!((before.key, before.length), (from.key, from.length));
            assert_eq!(after.key, a.views().unwrap()[0].key);
        }
        world.until(|| a.writers() == b.writers()).await;
        same_view(&a, &b).await;
        // It is there already.
        assert_eq!(b.move_to(a.most_recent_head().unwrap()).await.unwrap(), None);
    });
}

#[test]
fn an_encrypted_database_goes_forward() {
    in_world(async |world| {
        let open = async |seed, key: Option<CoreKey>, forward| {
            let store = world.store(seed).await;
            let mut builder = Autobee::builder(store).apply(JsonApply).encryption_key([5; 32]);
            if let Some(key) = key {
                builder = builder.key(key);
            }
            builder.fast_forward(forward).open().await.unwrap()
        };
        let a = open(1, None, FastForward::off()).await;
        fill(&a, 0, 150).await;
        let b = open(2, Some(a.key()), FastForward::trusting(AllMembers)).await;
        connect(&a, &b);
        world.until(|| moved(&b) && b.writers() == a.writers()).await;
        same_view(&a, &b).await;
        assert!(b.stats().applies < 32);
    });
}

#[test]
fn a_short_window_moves_on_behind_a_move() {
    in_world(async |world| {
        let a = world.create(1).await;
        fill(&a, 0, 150).await;
        let store = world.store(2).await;
        let settings = Settings::with(|settings| settings.window_batches = 8);
        let builder = Autobee::builder(store)
            .apply(JsonApply)
            .key(a.key())
            .settings(settings);
        let b = builder
            .fast_forward(FastForward::trusting(AllMembers))
            .open()
            .await
            .unwrap();
        let (session, _) = connect(&a, &b);
        world.until(|| moved(&b) && b.writers() == a.writers()).await;
        add(&a, &b, 2).await;
        world.until(|| b.writable()).await;
        session.close();
        // Both write, and meet again.
        for round in 0..3 {
            for i in 0..4 {
                put(&a, &format!("a{round}{i}"), "1").await;
                put(&b, &format!("b{round}{i}"), "1").await;
                world.wait(Duration::from_millis(20)).await;
            }
            let (session, _) = connect(&a, &b);
            world.until(|| a.writers() == b.writers()).await;
            same_view(&a, &b).await;
            session.close();
        }
    });
}
