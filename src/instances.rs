//! Generic code, made for the native world and for the one in memory once: what each test and example of this package
//! would make again.
//!
//! Only the package itself turns this on, for its tests. A program that embeds the database makes what it needs.

use std::pin::Pin;

use tokio::io::DuplexStream;

use crate::apply::OrderOnly;
use crate::env::Env;
use crate::env::memory::MemoryEnv;
use crate::env::native::NativeEnv;
use crate::error::Error;
use crate::hypercore::{CoreOptions, SessionOptions, Wait};
use crate::replication::session::{Replication, SessionSettings};
use crate::wire::Index;
use crate::{AppendOptions, Autobee, Corestore, Range, Role};

/// Uses what most programs use, in the native world. Nobody calls it.
#[must_use]
pub fn native(
    env: NativeEnv,
    streams: [DuplexStream; 2],
) -> Pin<Box<dyn Future<Output = Result<(), Error>>>> {
    Box::pin(use_all(env, streams))
}

/// The same, in the world in memory.
#[must_use]
pub fn memory(
    env: MemoryEnv,
    streams: [DuplexStream; 2],
) -> Pin<Box<dyn Future<Output = Result<(), Error>>>> {
    Box::pin(use_all(env, streams))
}

/// Reads a database, in the native world. Nobody calls it.
#[must_use]
pub fn read_only(env: NativeEnv) -> Pin<Box<dyn Future<Output = Result<(), Error>>>> {
    Box::pin(async move {
        let store = Corestore::open_read_only(env).await?;
        store.get(CoreOptions::name("")).await?;
        let db = Autobee::builder(store).apply(OrderOnly).open().await?;
        db.update().await?;
        db.view().all().await?;
        db.settled(&[]).await?;
        let _read = (db.status(), db.writers(), db.stats(), db.held(), db.order()?);
        db.close().await
    })
}

async fn use_all<E: Env>(env: E, [first, second]: [DuplexStream; 2]) -> Result<(), Error> {
    let store = Corestore::open_default(env.clone()).await?;
    use_cores(&store).await?;
    let replication = Replication::new(&env, &store, SessionSettings::default());
    replication.start(first, Role::Initiator).ended().await;
    let db = Autobee::builder(store).apply(OrderOnly).open().await?;
    db.append("").await?;
    db.append_batch(Vec::new()).await?;
    db.append_optimistic("").await?;
    db.append_with(Vec::new(), AppendOptions::default()).await?;
    db.update().await?;
    db.view().all().await?;
    db.watch(Range::all()).next().await?;
    db.events().next().await?;
    db.settled(&[]).await?;
    let _read = (db.status(), db.writers(), db.stats(), db.held(), db.order()?);
    let local = db.create_writer().await?;
    db.set_local(local).await?;
    db.confirm().await?;
    let session = db.replicate(second, Role::Initiator)?;
    session.synced().await;
    session.ended().await;
    let _listening = db.listen("").await?;
    let _kept = db.keep_connected("")?;
    db.close().await
}

async fn use_cores<E: Env>(store: &Corestore<E>) -> Result<(), Error> {
    let core = store.get(CoreOptions::name("")).await?;
    core.append(Vec::new()).await?;
    core.get(Index(0), Wait::Local).await?;
    core.session(SessionOptions::default()).await?;
    core.snapshot()?;
    store.close().await?;
    Ok(())
}
