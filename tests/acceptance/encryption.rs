//! What is stored of an encrypted database.

use autobee::Autobee;
use autobee::hypercore::{CoreOptions, Wait};
use autobee::wire::Index;
use autobee_sim::workload::JsonApply;

use crate::world::{World, add, converged, get, put, run};

/// 21.48, 21.49: of each core that is stored, logs of writers and views alike, and at both peers.
#[test]
fn no_core_is_stored_in_clear() {
    run(async |world| {
        let open = async |seed, key: Option<_>| {
            let mut builder = Autobee::builder(world.store(seed).await)
                .apply(JsonApply)
                .encryption_key([7; 32]);
            if let Some(key) = key {
                builder = builder.key(key);
            }
            builder.open().await.unwrap()
        };
        let a = open(1, None).await;
        let b = open(2, Some(a.key())).await;
        add(&a, &b, 2).await;
        put(&a, "plain", "as plain as day").await;
        world.exchange(&[&a, &b]).await;
        put(&b, "plain", "as plain as night").await;
        world.exchange(&[&a, &b]).await;
        converged(&[&a, &b]).await;
        assert_eq!(get(&a, "plain").await.unwrap(), "as plain as night");
        for (seed, db) in [(1, &a), (2, &b)] {
            let view = db.view().head();
            db.close().await.unwrap();
            assert_no_block_is_clear(&world, seed, view).await;
        }
    });
}

async fn assert_no_block_is_clear(world: &World, seed: u64, view: autobee::wire::Link) {
    let store = world.store(seed).await;
    let mut blocks = 0;
    let mut keys = Vec::new();
    for name in store.list().unwrap() {
        let core = store.get(CoreOptions::discovery_key(name)).await.unwrap();
        keys.push(core.key());
        for index in 0..core.length().unwrap().0 {
            let block = core.get_stored(Index(index), Wait::Local).await.unwrap();
            let is_clear = block.windows(5).any(|window| window == b"plain");
            assert!(!is_clear, "block {index} of {}", core.key());
            blocks += 1;
        }
    }
    assert!(
        keys.contains(&view.key) && blocks > view.length.0,
        "nothing is tested here"
    );
}
