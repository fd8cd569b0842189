//! Opening the store of all cores: to write, when another process may still hold it, or only to read.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::broadcast;

use crate::env::{BoxFuture, Clock as _, Entropy as _, Env, Planted, ReadOnlyEnv, knob, watch};
use crate::hypercore::cores::{CoreLimits, OpenCores};
use crate::hypercore::corestore::{Corestore, CorestoreOptions, CorestoreShared};
use crate::hypercore::error::CoreError;
use crate::hypercore::event::BACKLOG;
use crate::hypercore::keys::{Namespace, PrimaryKey};
use crate::hypercore::offered_heads;
use crate::hypercore::record::StoreRecord;
use crate::store::{Key, Seglog, StoreBatch, StoreError, StoreHandle};
use crate::wire::compact::{Decode as _, Encode as _};

/// How long to wait before a directory that is in use is tried again.
pub(super) const LOCKED_WAIT: Duration = Duration::from_millis(10);

/// How often.
pub(super) const LOCKED_TRIES: u32 = 200;

/// How often a directory is read again that changed meanwhile.
const READ_TRIES: u32 = 5;

impl<E: Env> Corestore<E> {
    /// Opens the store in the directory of `env`, or makes one there: the segmented log, and no options.
    ///
    /// The last handles of a store that was dropped and not closed go when the tasks that hold them have had their turn. So
    /// a directory that is in use is tried again for two seconds.
    ///
    /// # Errors
    /// When another process has the directory, or the store fails.
    pub async fn open_default(env: E) -> Result<Self, CoreError> {
        let engine = Seglog::default().tuned(&env);
        let mut tries = 0;
        let store = loop {
            match StoreHandle::open(&env, &engine) {
                Err(StoreError::Locked) if tries < LOCKED_TRIES => tries += 1,
                opened => break opened?,
            }
            env.clock().sleep(LOCKED_WAIT).await;
        };
        Self::open(env, store, CorestoreOptions::default()).await
    }

    /// Opens the store in the directory of `env` to read it: on media that cannot be written, in a directory of another
    /// user, or while another process has it. The directory is neither written nor locked. What a database writes that is
    /// opened in it stays in memory; it takes no appends and no peers. If somebody writes there meanwhile, that is not seen.
    ///
    /// ```
    /// use autobee::apply::OrderOnly;
    /// use autobee::env::Env as _;
    /// use autobee::env::memory::MemoryEnv;
    /// use autobee::{Autobee, Corestore, ErrorKind};
    ///
    /// # let env = MemoryEnv::new(1);
    /// # env.run(async {
    /// let db = Autobee::builder(Corestore::open_default(env.clone()).await?).apply(OrderOnly).open().await?;
    /// db.append(b"hello").await?;
    ///
    /// let store = Corestore::open_read_only(env.clone()).await?; // the other one goes on
    /// assert!(autobee::store::verify(&*store.env().disk())?.damages.is_empty());
    /// let copy = Autobee::builder(store).apply(OrderOnly).open().await?;
    /// assert_eq!(copy.order()?, db.order()?);
    /// assert_eq!(copy.append(b"more").await.unwrap_err().kind(), ErrorKind::Denied);
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// # }).unwrap().unwrap();
    /// ```
    ///
    /// # Errors
    /// When the store fails.
    pub async fn open_read_only(env: E) -> Result<Corestore<ReadOnlyEnv<E>>, CoreError> {
        let mut tries = 0;
        let (env, store) = loop {
            let layered = ReadOnlyEnv::new(env.clone());
            let engine = Seglog::default().tuned(&env).still();
            match StoreHandle::open(&layered, &engine) {
                // Who has it may have removed a file between two looks.
                Err(StoreError::Io { .. } | StoreError::Corrupt(_)) if tries < READ_TRIES => tries += 1,
                opened => break (layered, opened?),
            }
            env.clock().sleep(LOCKED_WAIT).await;
        };
        Corestore::open(env, store, CorestoreOptions::default()).await
    }

    /// Opens the cores of a store; a store without any is new, and gets a primary key.
    ///
    /// # Errors
    /// When the store fails, or has another primary key than the one that is given.
    pub async fn open(env: E, store: StoreHandle, options: CorestoreOptions) -> Result<Self, CoreError> {
        Self::opened(env, store, options).await
    }

    fn opened(
        env: E,
        store: StoreHandle,
        options: CorestoreOptions,
    ) -> BoxFuture<'static, Result<Self, CoreError>> {
        Box::pin(async move {
            // What is shown to peers must be durable: what the store holds now is, from here on.
            store.synced(store.seq()?).await?;
            let record = match store.get(&Key::StoreHead)? {
                Some(bytes) => {
                    let record = StoreRecord::from_bytes(&bytes)?;
                    if options.primary_key.is_some_and(|key| key != record.primary_key) {
                        return Err(CoreError::Conflict("primary key"));
                    }
                    record
                }
                None => {
                    let record = StoreRecord {
                        primary_key: options
                            .primary_key
                            .unwrap_or_else(|| PrimaryKey::new(env.entropy().array())),
                        next_core: 1,
                        next_data: 1,
                    };
                    store
                        .commit_durable(StoreBatch::default().put(Key::StoreHead, record.to_bytes()?))
                        .await?;
                    record
                }
            };
            let limits = CoreLimits {
                backlog: knob::CORE_EVENTS.size(&env, BACKLOG),
                heads_waiting: knob::CORE_HEADS_WAITING.size(&env, offered_heads::WAITING_MAX),
            };
            let planted = Planted::of(&env);
            let shared = CorestoreShared {
                env,
                store,
                primary_key: record.primary_key.clone(),
                cores: Mutex::new(OpenCores {
                    store: record,
                    open: std::collections::BTreeMap::new(),
                    next_session: 0,
                    let_go: 0,
                    is_parted: false,
                    limits,
                    openings: watch::Sender::new(0),
                    is_closed: false,
                    is_fenced: false,
                    planted,
                }),
                groups: broadcast::Sender::new(BACKLOG),
                held: Mutex::default(),
                planted,
            };
            Ok(Self {
                shared: Arc::new(shared),
                namespace: Namespace::ROOT,
                is_writable: !options.is_read_only,
            })
        })
    }
}
