//! Strangers.

use crate::world::{Db, Raw, World, get, have, head, length, run};
use autobee::wire::Index;

/// A stranger that wrote before anybody heard of it, and whose log is at a peer that announces nothing.
async fn heard_of_by_wakeup(world: &World) -> (Db, Db) {
    use autobee::hypercore::{CoreOptions, Wait};

    let all = world.peers(2).await;
    world.play(&all, "a a-b b~").await;
    let (a, x) = (&all[0], &all[1]);
    let raw = Raw::open(world, 9).await;
    let log = raw.store.get(CoreOptions::key(x.local())).await.unwrap();
    let session = raw.connect(x).1;
    log.get(Index(0), Wait::Forever).await.unwrap();
    session.close();
    session.ended().await;

    let session = raw.connect(a).1;
    world.wait(5).await;
    assert_eq!(
        (a.order().unwrap().len(), have(a, &x.local())),
        (1, 0),
        "nobody told it"
    );
    a.wakeup(head(x)).await.unwrap();
    world.until(|| a.order().unwrap().len() == 2).await;
    session.close();
    (a.clone(), x.clone())
}

/// 21.11, 21.74
#[test]
fn a_stranger_is_applied_after_a_wakeup() {
    run(async |world| {
        let (a, x) = heard_of_by_wakeup(&world).await;
        assert_eq!(a.writer(&x.local()).unwrap().length.0, length(&x));
        assert!(get(&a, "n").await.unwrap() == "2" && x.writable());
        world.exchange(&[&a, &x]).await;
    });
}

/// 21.75
#[test]
fn a_stranger_is_applied_each_time() {
    for _ in 0..20 {
        run(async |world| {
            let (a, x) = heard_of_by_wakeup(&world).await;
            assert_eq!(a.writer(&x.local()).unwrap().length.0, 1);
        });
    }
}

/// 21.76
#[test]
fn two_strangers_at_a_time() {
    run(async |world| {
        let all = world.peers(3).await;
        world.play(&all, "a * b~ c~ *").await;
        assert_eq!(all[0].order().unwrap().len(), 3);
        for stranger in &all[1..] {
            assert_eq!(all[0].writer(&stranger.local()).unwrap().length.0, 1);
        }
    });
}

/// 21.77
#[test]
fn ten_entries_of_one_stranger() {
    run(async |world| {
        let all = world.peers(2).await;
        world.play(&all, "a * b~ b~ b~ b~ b~ b~ b~ b~ b~ b~ *").await;
        assert_eq!(all[0].writer(&all[1].local()).unwrap().length.0, 10);
        assert_eq!(length(&all[1]), 10);
    });
}
