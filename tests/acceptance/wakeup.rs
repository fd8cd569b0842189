//! How peers hear of logs.

use autobee::db::Stalled;
use autobee::hypercore::CoreOptions;
use autobee::wire::Length;

use crate::world::{Raw, carry, connect, converged, get, put, run};

/// 21.98
#[test]
fn two_of_three_peers_exchange_two_logs() {
    run(async |world| {
        let all = world.peers(3).await;
        world.play(&all, "a>b2 a-b b").await;
        let (near, far) = connect(&all[0], &all[1]);
        world.until(|| all[0].order().unwrap().len() == 2).await;
        assert!(near.synced().await && far.synced().await);
        assert_eq!((near.progress().cores, far.progress().cores), (2, 2));
        converged(&[&all[0], &all[1]]).await;
        assert_eq!(all[2].order().unwrap(), []);
    });
}

/// 21.100
#[test]
fn a_log_that_grows_is_applied_though_nobody_announces_it() {
    run(async |world| {
        let all = world.peers(2).await;
        world.play(&all, "a>b1 a-b b a-b").await;
        world.wait(60).await;
        put(&all[1], "more", "1").await;
        carry(&world, 9, &all[1], &all[0]).await;
        assert_eq!(get(&all[0], "more").await.unwrap(), "1");
    });
}

/// 21.102
#[test]
fn a_log_of_garbage_that_is_announced_is_frozen() {
    run(async |world| {
        let all = world.members(2).await;
        let raw = Raw::open(&world, 9).await;
        let _bootstrap = raw.store.get(CoreOptions::key(all[0].key())).await.unwrap();
        let garbage = raw.store.get(CoreOptions::name("garbage")).await.unwrap();
        garbage
            .append(vec!["no oplog block".into(), "neither".into()])
            .await
            .unwrap();
        let topic = raw.replication.wakeup(all[0].key());
        raw.connect(&all[0]);
        topic.couple(garbage.key(), Length(2));
        world.until(|| !all[0].stalled().is_empty()).await;
        let stalled = all[0].stalled();
        assert!(
            matches!(&stalled[..], [(key, Stalled::Frozen(_))] if *key == garbage.key()),
            "{stalled:?}"
        );

        connect(&all[0], &all[1]);
        put(&all[1], "b", "1").await;
        world.until(|| all[0].order().unwrap().len() == 2).await;
        put(&all[0], "a", "1").await;
        world
            .until(|| all[1].order().unwrap() == all[0].order().unwrap())
            .await;
    });
}
