//! Finality: which start of the order can no longer change.

use std::time::Duration;

use autobee::Settings;
use autobee::db::Event;
use autobee_sim::workload::{JsonApply, Op};

use crate::support::{Db, World, add, connect, have, in_world, put};

async fn entries(db: &Db) -> u64 {
    db.settled(&[]).await.unwrap().entries
}

async fn agree(world: &World, dbs: &[&Db]) {
    world
        .until(|| dbs.iter().all(|db| db.writers() == dbs[0].writers()))
        .await;
}

#[test]
fn two_rounds_in_which_all_link_all_settle_the_first() {
    in_world(async |world| {
        let a = world.create(1).await;
        let [b, c] = [world.join(2, &a).await, world.join(3, &a).await];
        put(&a, "alone", "1").await;
        assert_eq!(entries(&a).await, 1, "nobody else may write");
        connect(&a, &b);
        connect(&a, &c);
        add(&a, &b, 2).await;
        add(&a, &c, 2).await;
        world.until(|| b.writable() && c.writable()).await;
        agree(&world, &[&a, &b, &c]).await;
        // Their first entries need not link anything that came after they were let in.
        let settled = a.settled(&[]).await.unwrap();
        assert_eq!(settled.entries, 2);
        assert!(settled.awaited.contains(&b.local()) && settled.awaited.contains(&c.local()));
        assert_eq!(a.settled(&[b.local(), c.local()]).await.unwrap().entries, 3);

        let round = async |name: &str| {
            for db in [&a, &b, &c] {
                put(db, name, "1").await;
                agree(&world, &[&a, &b, &c]).await;
            }
        };
        round("first").await;
        let first = a.order().unwrap().len() as u64;
        round("second").await;
        for db in [&a, &b, &c] {
            let settled = db.settled(&[]).await.unwrap();
            assert!(settled.entries >= first, "{settled:?} of {first}");
            assert!(
                settled.head.is_some() && !settled.rests_on_strangers,
                "{settled:?}"
            );
        }
    });
}

#[test]
fn who_was_away_keeps_things_open_and_moves_nothing_that_is_settled() {
    in_world(async |world| {
        let a = world.create(1).await;
        let b = world.join(2, &a).await;
        let (session, _) = connect(&a, &b);
        add(&a, &b, 2).await;
        world.until(|| b.writable()).await;
        put(&b, "b", "1").await;
        put(&a, "a", "1").await;
        agree(&world, &[&a, &b]).await;
        put(&b, "b", "2").await;
        agree(&world, &[&a, &b]).await;
        session.close();
        let before = entries(&a).await;
        let order = a.order().unwrap();
        for i in 0..20 {
            put(&a, &format!("a{i}"), "1").await;
        }
        let settled = a.settled(&[]).await.unwrap();
        // What b has linked is settled; the rest once b is silent, or back.
        assert!(settled.entries >= before && settled.entries < order.len() as u64 + 20);
        assert_eq!(settled.awaited, [b.local()]);
        let silent = a.settled(&[b.local()]).await.unwrap();
        assert_eq!(silent.entries, order.len() as u64 + 20);
        // b dates its entry back as far as it may.
        put(&b, "b", "3").await;
        connect(&a, &b);
        agree(&world, &[&a, &b]).await;
        let now = a.order().unwrap();
        let kept = usize::try_from(settled.entries).unwrap();
        assert_eq!(now[..kept], order[..kept]);
        assert!(entries(&a).await >= settled.entries, "what was settled stays so");
    });
}

/// `a` removes `b`, who does not know of that yet and lets `d` in. `d` knows nothing else, and comes before its removal.
#[test]
fn whom_a_removed_writer_lets_in_is_told_of() {
    in_world(async |world| {
        let a = world.create(1).await;
        let [b, c, d] = [
            world.join(2, &a).await,
            world.join(3, &a).await,
            world.join(4, &a).await,
        ];
        let (to_b, _) = connect(&a, &b);
        connect(&a, &c);
        let (to_d, _) = connect(&b, &d);
        add(&a, &b, 2).await;
        add(&a, &c, 2).await;
        world.until(|| b.writable() && c.writable()).await;
        agree(&world, &[&a, &b, &c, &d]).await;
        to_b.close();
        world.wait(Duration::from_millis(100)).await;
        a.append(Op::remove_writer(b.local()).to_value()).await.unwrap();
        world.wait(Duration::from_millis(100)).await;
        add(&b, &d, 7).await;
        // It attests the weight that it granted.
        put(&b, "b", "1").await;
        world.until(|| d.writable() && have(&d, &b.local()) == 2).await;
        to_d.close();
        world.wait(Duration::from_millis(100)).await;
        connect(&a, &b);
        world
            .until(|| have(&a, &b.local()) == 2 && have(&c, &b.local()) == 2)
            .await;
        for db in [&a, &c, &a] {
            put(db, "later", "1").await;
            agree(&world, &[&a, &c]).await;
        }
        let order = a.order().unwrap();
        let settled = a.settled(&[b.local()]).await.unwrap();
        assert!(settled.entries >= 3 && settled.rests_on_strangers, "{settled:?}");
        put(&d, "d", "1").await;
        connect(&a, &d);
        world.until(|| have(&a, &d.local()) == 1).await;
        let now = a.order().unwrap();
        assert_ne!(now[..3], order[..3], "the removal is behind what d wrote");
    });
}

#[test]
fn listeners_hear_of_it() {
    in_world(async |world| {
        let settings = Settings::with(|settings| settings.settled_ms = 100);
        let a = world.open(1, None, JsonApply, settings).await;
        let mut events = a.events();
        put(&a, "a", "1").await;
        world.wait(Duration::from_millis(200)).await;
        put(&a, "a", "2").await;
        loop {
            if let Event::Settled { entries, head } = events.next().await.unwrap() {
                assert!(entries > 0 && head.is_some());
                break;
            }
        }
    });
}
