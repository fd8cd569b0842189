//! The cores of one database in its store: which there are, and what is kept with them.
//!
//! Values that are kept with cores have the names of the original, so that a store says what is in it: each core of a
//! database has `referrer`, the key of the database; the creator's has `autobee/local` too, the key of the local writer;
//! the local writer's has `autobee/encryption`, from which the keys of an encrypted database follow, in clear.
//!
//! Source: spec/autobee.md 3.1 and 3.2.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::crypto::{CoreKey, KeyPair};
use crate::db::machine::{Logs, StoredLog};
use crate::engine::encryption::DatabaseKeys;
use crate::env::{Env, watch};
use crate::error::Error;
use crate::hypercore::{
    Core, CoreError, CoreOptions, Corestore, Download, DownloadRange, Encryption, Events, Hold,
    SessionOptions,
};

const REFERRER: &str = "referrer";
const LOCAL: &str = "autobee/local";
const ENCRYPTION: &str = "autobee/encryption";
/// What earlier versions of the original call [`LOCAL`].
const LOCAL_LEGACY: &str = "autobase/local";
/// The name of the local writer in the store.
const LOCAL_NAME: &str = "local";

/// Version of the manifests that we make.
pub(in crate::db) const MANIFEST_VERSION: u64 = 2;

/// A core that is open, and is fetched from peers as long as it is.
pub(in crate::db) struct OpenLog<E: Env> {
    core: Core<E>,
    /// None before it is said how much is fetched, and for the core that only we write.
    download: Mutex<Option<Download<E>>>,
}

impl<E: Env> OpenLog<E> {
    const fn new(core: Core<E>) -> Self {
        Self {
            core,
            download: Mutex::new(None),
        }
    }

    /// Asks peers for the blocks of a core from now on, up to `end`; for all there are and will be without one.
    pub(super) fn fetch(&self, end: Option<u64>) -> Result<(), CoreError> {
        let range = DownloadRange {
            start: 0,
            end,
            is_linear: true,
        };
        let download = self.core.download(range)?;
        *self.download.lock().unwrap_or_else(PoisonError::into_inner) = Some(download);
        Ok(())
    }

    pub(in crate::db) const fn core(&self) -> &Core<E> {
        &self.core
    }

    /// Hears of every change.
    pub(super) fn changes(&self) -> Result<watch::Receiver<u64>, CoreError> {
        self.core.changes()
    }
}

impl<E: Env> StoredLog for OpenLog<E> {
    type Events = Events;

    fn key(&self) -> CoreKey {
        self.core.key()
    }

    fn length(&self) -> Result<u64, CoreError> {
        self.core.length()
    }

    fn byte_length(&self) -> Result<u64, CoreError> {
        self.core.byte_length()
    }

    fn contiguous_length(&self) -> Result<u64, CoreError> {
        self.core.contiguous_length()
    }

    fn offered_length(&self) -> Result<u64, CoreError> {
        self.core.offered_contiguous()
    }

    fn fork(&self) -> Result<u64, CoreError> {
        self.core.fork()
    }

    fn block(&self, index: u64) -> Result<Option<Bytes>, CoreError> {
        self.core.get_local(index)
    }

    fn contradicted_block(&self, index: u64) -> Result<Option<Bytes>, CoreError> {
        self.core.get_contradicted(index)
    }

    fn manifest(&self) -> Result<Option<Bytes>, CoreError> {
        let manifest = self.core.manifest()?;
        Ok(manifest.map(|manifest| Bytes::copy_from_slice(manifest.as_bytes())))
    }

    fn key_pair(&self) -> Result<Option<KeyPair>, CoreError> {
        self.core.key_pair()
    }

    fn events(&self) -> Result<Events, CoreError> {
        self.core.events()
    }
}

/// The database of a store, and its logs.
pub(in crate::db) struct Opened<E: Env> {
    pub(in crate::db) store: Corestore<E>,
    pub(in crate::db) database: CoreKey,
    pub(in crate::db) local: Arc<OpenLog<E>>,
    /// Of an encrypted database.
    pub(in crate::db) keys: Option<DatabaseKeys>,
    pub(in crate::db) logs: Logs<OpenLog<E>>,
    /// Its namespace and its own log: nobody else writes there.
    pub(in crate::db) holds: Vec<Hold<E>>,
}

impl<E: Env> Opened<E> {
    /// Finds out which database the store holds, or makes one, and opens all of its cores that are here.
    ///
    /// # Errors
    ///
    /// `Invalid` when the store holds another database than `wanted`, or one in clear although there is an encryption
    /// key; or what the store says.
    pub(in crate::db) async fn open(
        store: Corestore<E>,
        wanted: Option<CoreKey>,
        encryption_key: Option<Zeroizing<[u8; 32]>>,
        key_pair: Option<KeyPair>,
    ) -> Result<Self, Error> {
        let namespace = *store.namespace_key().as_bytes();
        let mut holds = vec![store.hold(namespace).await?];
        let is_given = key_pair.is_some();
        let mut options = key_pair.map_or_else(|| CoreOptions::name(LOCAL_NAME), CoreOptions::key_pair);
        options.manifest_version = MANIFEST_VERSION;
        let named = store.get(options).await?;
        let known = key_at(&named, REFERRER)?;
        let database = match (wanted, known) {
            (Some(wanted), Some(known)) if wanted != known => {
                return Err(Error::Invalid {
                    what: format!("this store holds the database {known}, not {wanted}"),
                });
            }
            (wanted, known) => wanted.or(known).unwrap_or(named.key()),
        };
        let bootstrap = store.get(CoreOptions::key(database)).await?;
        let remembered = match key_at(&bootstrap, LOCAL)? {
            Some(key) => Some(key),
            None => key_at(&bootstrap, LOCAL_LEGACY)?,
        };
        let local = match remembered {
            _ if is_given => named,
            Some(key) if key != named.key() => store.get(CoreOptions::key(key)).await?,
            Some(_) => named,
            None if bootstrap.is_writable() => store.get(CoreOptions::key(database)).await?,
            None => named,
        };
        holds.push(store.hold(*local.key().as_bytes()).await?);
        let stored_key = encryption_key_of(&local)?;
        let new_key = encryption_key.filter(|_| stored_key.is_none());
        if new_key.is_some() && local.length()? > 0 {
            return Err(Error::Invalid {
                what: format!(
                    "the database {database} is here in clear: it cannot be given an encryption key"
                ),
            });
        }
        let encryption_key = stored_key.as_ref().or(new_key.as_ref());
        let keys = encryption_key.map(|key| DatabaseKeys::with_secret(database, key.clone()));
        if known.is_none() || remembered != Some(local.key()) || new_key.is_some() {
            // In one step: no crash leaves a local writer that does not know its database.
            let ((), seq) = store.transact(|change| {
                let key = |key: CoreKey| Some(Bytes::copy_from_slice(key.as_bytes()));
                change.set_user_data(&local, REFERRER, key(database))?;
                change.set_user_data(&bootstrap, REFERRER, key(database))?;
                if let Some(new_key) = &new_key {
                    let new_key = Bytes::copy_from_slice(&new_key[..]);
                    change.set_user_data(&local, ENCRYPTION, Some(new_key))?;
                }
                change.set_user_data(&bootstrap, LOCAL, key(local.key()))
            })?;
            store.synced(seq).await?;
        }
        let encrypted = SessionOptions {
            encryption: keys.as_ref().map(encryption),
            ..SessionOptions::default()
        };
        let local = local.session(encrypted.clone()).await?;
        let bootstrap = bootstrap.session(encrypted.clone()).await?;
        let local_key = local.key();
        let database_keys = keys;
        let local = Arc::new(OpenLog::new(local));
        let mut logs = Logs::new(local_key);
        logs.add(Arc::clone(&local))?;
        let mut add = |core: Core<E>| -> Result<(), CoreError> {
            if !logs.has(&core.key()) {
                logs.add(Arc::new(OpenLog::new(core)))?;
            }
            Ok(())
        };
        add(bootstrap)?;
        for name in store.list()? {
            let mut options = CoreOptions::discovery_key(name);
            options.session = encrypted.clone();
            let core = store.get(options).await?;
            if key_at(&core, REFERRER)? == Some(database) {
                add(core)?;
            }
        }
        Ok(Self {
            store,
            database,
            local,
            keys: database_keys,
            logs,
            holds,
        })
    }
}

/// Opens a core that takes part.
pub(super) async fn open_log<E: Env>(
    store: &Corestore<E>,
    database: CoreKey,
    keys: Option<&DatabaseKeys>,
    key: CoreKey,
) -> Result<OpenLog<E>, CoreError> {
    let mut options = CoreOptions::key(key);
    options.session.encryption = keys.map(encryption);
    let core = store.get(options).await?;
    store.transact(|change| {
        let database = Bytes::copy_from_slice(database.as_bytes());
        change.set_user_data(&core, REFERRER, Some(database))
    })?;
    Ok(OpenLog::new(core))
}

/// Makes a core none of this database's when that is opened again, and forgets its blocks.
pub(super) fn release<E: Env>(store: &Corestore<E>, log: &OpenLog<E>) -> Result<(), CoreError> {
    log.download.lock().unwrap_or_else(PoisonError::into_inner).take();
    let length = log.core.length()?;
    if length > 0 {
        log.core.clear(0..length)?;
    }
    let ((), _) = store.transact(|change| change.set_user_data(&log.core, REFERRER, None))?;
    Ok(())
}

/// How logs of writers are encrypted.
fn encryption(keys: &DatabaseKeys) -> Encryption {
    let keys = keys.clone();
    Encryption::ByManifest(Arc::new(move |core, manifest| {
        Arc::new(keys.writer(core, manifest))
    }))
}

fn encryption_key_of<E: Env>(local: &Core<E>) -> Result<Option<Zeroizing<[u8; 32]>>, Error> {
    let Some(bytes) = local.user_data(ENCRYPTION)? else {
        return Ok(None);
    };
    match bytes.as_ref().try_into() {
        Ok(key) => Ok(Some(Zeroizing::new(key))),
        Err(_) => Err(Error::Corrupt {
            file: "store".into(),
            what: format!("{ENCRYPTION} of {} is no key", local.key()),
        }),
    }
}

fn key_at<E: Env>(core: &Core<E>, name: &str) -> Result<Option<CoreKey>, Error> {
    let Some(bytes) = core.user_data(name)? else {
        return Ok(None);
    };
    match CoreKey::try_from(bytes.as_ref()) {
        Ok(key) => Ok(Some(key)),
        Err(_) => Err(Error::Corrupt {
            file: "store".into(),
            what: format!("{name} of {} is no key", core.key()),
        }),
    }
}
