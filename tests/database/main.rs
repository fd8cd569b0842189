//! The database at its public handle: in worlds in memory, on this machine, and among strangers.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod attestations;
mod encrypted;
mod forward;
mod handles;
mod hooks;
mod hostile;
mod native;
mod peers;
mod released;
mod replicate;
mod rules;
mod settled;
mod status;
mod stored_trees;

use autobee::Corestore;
use autobee::env::memory::MemoryEnv;

use support::Db;

/// Runs a test on a replica in memory.
fn run<T>(test: impl AsyncFnOnce(&MemoryEnv) -> T) -> T {
    let env = MemoryEnv::new(1);
    let ended = env.run(test(&env));
    ended.expect("the test waits for something that cannot happen")
}

async fn memory_store(env: &MemoryEnv) -> Corestore<MemoryEnv> {
    Corestore::open_default(env.clone()).await.unwrap()
}

/// Waits until a change of a database makes something so.
async fn until(db: &Db, done: impl Fn(&Db) -> bool) {
    until_so(db, &done).await;
}

async fn until_so(db: &Db, done: &dyn Fn(&Db) -> bool) {
    let mut changes = Default::default();
    while !done(db) {
        db.changed(&mut changes).await;
    }
}
