//! Databases in directories of their own, with the workload that the figures of the JavaScript package are for: values of
//! 108 bytes, one view flush an apply call.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host, WriterOptions};
use autobee::crypto::CoreKey;
use autobee::db::Changes;
use autobee::db::Durability;
use autobee::env::native::NativeEnv;
use autobee::{Autobee, Corestore, Settings};
use bytes::Bytes;

pub(crate) type Database = Autobee<NativeEnv>;

/// Writes what starts with `k` under its first eight bytes; `+` and a key lets somebody write.
struct Workload;

impl Apply for Workload {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        let mut write = view.write();
        for entry in entries {
            let value = entry.value();
            match value.split_first() {
                Some((b'+', key)) => {
                    let key = CoreKey::try_from(key)
                        .map_err(|_| ApplyError::reject("a grant to what is no key"))?;
                    host.add_writer(key, WriterOptions::default());
                }
                _ => write.put(&value[..8], &value[8..]),
            }
        }
        write.flush().await
    }
}

/// A database and its directory, which goes with it.
pub(crate) struct Peer {
    pub(crate) db: Database,
    pub(crate) store: Corestore<NativeEnv>,
    pub(crate) directory: PathBuf,
}

impl Peer {
    pub(crate) async fn open(key: Option<CoreKey>, durability: Durability) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let at = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("autobee-bench-{}-{at}", std::process::id()));
        Self::open_in(directory, key, durability).await
    }

    pub(crate) async fn open_in(directory: PathBuf, key: Option<CoreKey>, durability: Durability) -> Self {
        let env = NativeEnv::new(&directory).unwrap();
        let store = Corestore::open_default(env).await.unwrap();
        let mut builder = Autobee::builder(store.clone())
            .apply(Workload)
            .optimistic(false)
            .settings(Settings::with(|settings| settings.durability = durability));
        if let Some(key) = key {
            builder = builder.key(key);
        }
        Self {
            db: builder.open().await.unwrap(),
            store,
            directory,
        }
    }

    /// Waits until all that was written is durable, and so may be shown to others.
    pub(crate) async fn synced(&self) {
        let ((), seq) = self.store.transact(|_| Ok(())).unwrap();
        self.store.synced(seq).await.unwrap();
    }

    pub(crate) async fn close(self) {
        self.synced().await;
        self.db.close().await.unwrap();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn value(at: usize) -> Bytes {
    let mut value = vec![b'a' + (at % 26) as u8; 108];
    value[..8].copy_from_slice(format!("k{at:07}").as_bytes());
    value.into()
}

/// Waits until the database is as wished.
pub(crate) async fn until(db: &Database, is_wished: impl Fn(&Database) -> bool) {
    let mut changes = Changes::default();
    while !is_wished(db) {
        db.changed(&mut changes).await;
    }
}

/// Waits until this much of a writer is applied.
pub(crate) async fn applied(db: &Database, writer: CoreKey, length: u64) {
    until(db, |db| {
        db.writers()
            .iter()
            .any(|record| record.key == writer && record.length.0 >= length)
    })
    .await;
}
