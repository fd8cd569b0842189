//! Who writes into a log of its own what no program would write, and serves it in good order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use autobee::Corestore;
use autobee::crypto::CoreKey;
use autobee::engine::encryption::DatabaseKeys;
use autobee::env::{Clock as _, Entropy as _, Env, Network as _, PeerAddr, Spawn as _, TaskHandle, watch};
use autobee::hypercore::{Core, CoreError, CoreOptions, Download, DownloadRange, Encryption, SessionOptions};
use autobee::replication::Role;
use autobee::replication::session::{Replication, SessionSettings, Wakeup};
use bytes::Bytes;

use super::account::lock;
use super::context::{Context, address};
use super::misdeed::{Misdeed, Scene};
use super::{Hostility, RETRY};

/// Version of the manifests of writers.
const MANIFEST_VERSION: u64 = 2;

/// The longest pause between two misdeeds, in milliseconds.
const PAUSE_MS_MAX: u64 = 600;

/// Everything there is and will be.
const ALL: DownloadRange = DownloadRange::ALL.in_order();

struct Author<E: Env> {
    context: Context<E>,
    store: Corestore<E>,
    own: Core<E>,
    /// The own log without the encryption of the database.
    plain: Core<E>,
    /// The logs of replicas that it copies.
    others: BTreeMap<CoreKey, (Core<E>, Download<E>)>,
}

pub(super) async fn live<E: Env>(context: Context<E>, mut gate: watch::Receiver<bool>) {
    let Ok(mut author) = Author::open(context).await else {
        return;
    };
    let Some(end) = author.context.enter(&mut gate).await else {
        return;
    };
    let env = author.context.env.clone();
    let replication = Replication::new(&env, &author.store, SessionSettings::default());
    let Some(database) = author.context.known.database() else {
        return;
    };
    let topic = replication.wakeup(database);
    let dials = author.dial(&replication);
    // It has to see something of the others before it can link to it.
    env.clock().sleep(Duration::from_millis(300)).await;
    for misdeed in Misdeed::plan(&mut |bound| below(&env, bound)) {
        let pause = Duration::from_millis(1 + below(&env, PAUSE_MS_MAX));
        env.clock().sleep(pause).await;
        if env.clock().now() >= end || author.commit(misdeed, &topic).await.is_err() {
            break;
        }
    }
    env.clock().sleep_until(end).await;
    for dial in dials {
        dial.abort();
    }
    replication.close();
}

impl<E: Env> Author<E> {
    async fn open(context: Context<E>) -> Result<Self, CoreError> {
        let store = Corestore::open_default(context.env.clone()).await?;
        let mut options = CoreOptions::key_pair(context.key_pair().await);
        options.manifest_version = MANIFEST_VERSION;
        let plain = store.get(options).await?;
        let keys = context
            .known
            .encryption()
            .zip(context.known.database())
            .map(|(key, database)| DatabaseKeys::new(database, key));
        let encryption = keys.map(|keys| {
            Encryption::ByManifest(Arc::new(move |core, manifest| {
                Arc::new(keys.writer(core, manifest))
            }))
        });
        let options = SessionOptions {
            encryption,
            ..SessionOptions::default()
        };
        let own = plain.session(options).await?;
        lock(&context.account).key = Some(own.key());
        Ok(Self {
            context,
            store,
            own,
            plain,
            others: BTreeMap::new(),
        })
    }

    /// Keeps a connection to each target.
    fn dial(&self, replication: &Replication<E>) -> Vec<TaskHandle> {
        let env = &self.context.env;
        let dial = |target: &usize| {
            let (env, replication) = (env.clone(), replication.clone());
            let account = Arc::clone(&self.context.account);
            let target = PeerAddr::new(address(*target));
            self.context.env.spawn().spawn("dial", async move {
                loop {
                    if let Ok(stream) = env.network().dial(&target).await {
                        lock(&account).streams += 1;
                        replication.start(stream, Role::Initiator).ended().await;
                    }
                    env.clock().sleep(RETRY).await;
                }
            })
        };
        self.context.targets.iter().map(dial).collect()
    }

    /// Appends the blocks of a misdeed, and tells everybody.
    async fn commit(&mut self, misdeed: Misdeed, topic: &Wakeup) -> Result<(), CoreError> {
        self.copy_others().await?;
        let env = self.context.env.clone();
        let heads = self
            .others
            .iter()
            .filter_map(|(key, (core, _))| Some((*key, core.length().ok()?.0)));
        let scene = Scene {
            now: env.clock().wall().0,
            own: self.own.key(),
            length: self.own.length()?.0,
            heads: heads.collect(),
            optimistic: self.context.hostile.kind == Hostility::Stranger,
        };
        let blocks: Vec<Bytes> = misdeed.blocks(&scene, &mut |bound| below(&env, bound));
        let log = if misdeed.is_plain() {
            &self.plain
        } else {
            &self.own
        };
        log.append(blocks).await?;
        topic.couple(self.own.key(), self.own.length()?);
        lock(&self.context.account).misdeeds += 1;
        Ok(())
    }

    /// Copies the logs of replicas, to link to what is in them.
    async fn copy_others(&mut self) -> Result<(), CoreError> {
        for replica in 0..self.context.replicas {
            let Some(key) = self.context.known.log(replica) else {
                continue;
            };
            if !self.others.contains_key(&key) {
                let core = self.store.get(CoreOptions::key(key)).await?;
                let download = core.download(ALL)?;
                self.others.insert(key, (core, download));
            }
        }
        Ok(())
    }
}

/// A number below `bound`.
fn below<E: Env>(env: &E, bound: u64) -> u64 {
    let bytes: [u8; 8] = env.entropy().array();
    u64::from_le_bytes(bytes).checked_rem(bound).unwrap_or(0)
}
