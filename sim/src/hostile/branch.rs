//! Two logs under one key: of a second device with the key pair of a replica, or of who signs two on purpose.

use std::sync::Arc;
use std::time::Duration;

use autobee::crypto::KeyPair;
use autobee::db::{AppendOptions, Role};
use autobee::env::{Clock as _, Env, Network as _, PeerAddr, Spawn as _, TaskHandle, watch};
use autobee::hypercore::CorestoreOptions;
use autobee::store::{MemoryEngine, StoreHandle};
use autobee::{Autobee, Corestore, Error};
use bytes::Bytes;

use super::account::lock;
use super::context::{Context, address};
use super::{Hostility, RETRY};
use crate::workload::{JsonApply, Op};

/// How long it waits before it writes, to hear of its membership.
const HEAR: Duration = Duration::from_millis(500);

/// The most entries of one branch, and how long after one comes the next.
const ENTRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(350);

pub(super) async fn live<E: Env>(context: Context<E>, mut gate: watch::Receiver<bool>) {
    let key_pair = context.key_pair().await;
    let branches = match context.hostile.kind {
        Hostility::Twin => vec![context.targets.clone()],
        _ => (0..2)
            .map(|branch| context.targets.iter().copied().skip(branch).step_by(2).collect())
            .collect(),
    };
    let mut databases = Vec::new();
    for targets in branches {
        match open(&context, key_pair.clone()).await {
            Ok(db) => databases.push((db, targets)),
            Err(_) => return,
        }
    }
    lock(&context.account).key = databases.first().map(|(db, _)| db.local());
    let Some(end) = context.enter(&mut gate).await else {
        return;
    };
    let mut tasks = Vec::new();
    for (branch, (db, targets)) in databases.iter().enumerate() {
        tasks.extend(targets.iter().map(|target| dial(&context, db, *target)));
        tasks.push(write(&context, db, branch));
    }
    context.env.clock().sleep_until(end).await;
    for task in tasks {
        task.abort();
    }
    for (db, _) in databases {
        // Nobody is left whom an error would concern.
        let _ = db.close().await;
    }
}

/// A database of its own, from nothing but the key pair. What it holds is not worth keeping over a crash.
async fn open<E: Env>(context: &Context<E>, key_pair: KeyPair) -> Result<Autobee<E>, Error> {
    let env = context.env.clone();
    let store = StoreHandle::open(&env, &MemoryEngine).map_err(autobee::hypercore::CoreError::from)?;
    let store = Corestore::open(env, store, CorestoreOptions::default()).await?;
    let mut builder = Autobee::builder(store)
        .apply(JsonApply)
        .optimistic(context.known.takes_strangers())
        .key_pair(key_pair);
    if let Some(database) = context.known.database() {
        builder = builder.key(database);
    }
    if let Some(key) = context.known.encryption() {
        builder = builder.encryption_key(key);
    }
    builder.open().await
}

fn dial<E: Env>(context: &Context<E>, db: &Autobee<E>, target: usize) -> TaskHandle {
    let (env, db, account) = (context.env.clone(), db.clone(), Arc::clone(&context.account));
    let target = PeerAddr::new(address(target));
    context.env.spawn().spawn("dial", async move {
        loop {
            if let Ok(stream) = env.network().dial(&target).await {
                lock(&account).streams += 1;
                match db.replicate(stream, Role::Initiator) {
                    Ok(session) => drop(session.ended().await),
                    Err(_) => return,
                }
            }
            env.clock().sleep(RETRY).await;
        }
    })
}

/// Writes what differs between branches, an entry at a time.
fn write<E: Env>(context: &Context<E>, db: &Autobee<E>, branch: usize) -> TaskHandle {
    let (env, db, account) = (context.env.clone(), db.clone(), Arc::clone(&context.account));
    let name = super::account::name(context.number);
    context.env.spawn().spawn("write", async move {
        env.clock().sleep(HEAR).await;
        for number in 0..ENTRIES {
            let optimistic = !db.writable();
            let value = Bytes::from(Op::put(name.clone(), format!("{name} {branch} {number}")).to_value());
            let appended = db.append_with(vec![value], AppendOptions { optimistic }).await;
            lock(&account).misdeeds += u64::from(appended.is_ok());
            env.clock().sleep(PAUSE).await;
        }
    })
}
