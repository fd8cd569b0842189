//! The cores of one database in its store: which are open, and how much of each went to the engine.
//!
//! Values that are kept with cores have the names of the original, so that a store says what is in it: each core of a
//! database has `referrer`, the key of the database; the creator's has `autobee/local` too, the key of the local writer;
//! the local writer's has `autobee/encryption`, from which the keys of an encrypted database follow, in clear.
//!
//! Source: spec/autobee.md 3.1 and 3.2.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::crypto::CoreKey;
use crate::engine::encryption::DatabaseKeys;
use crate::env::{Env, watch};
use crate::error::Error;
use crate::hypercore::{AppendOptions, Core, CoreError, CoreOptions, Corestore, Encryption, SessionOptions};
use crate::store::Seq;
use crate::wire::{Index, Length};

const REFERRER: &str = "referrer";
const LOCAL: &str = "autobee/local";
const ENCRYPTION: &str = "autobee/encryption";
/// What earlier versions of the original call [`LOCAL`].
const LOCAL_LEGACY: &str = "autobase/local";
/// The name of the local writer in the store.
const LOCAL_NAME: &str = "local";

/// Version of the manifests that we make.
const MANIFEST_VERSION: u64 = 2;

/// The open cores of a database.
pub(super) struct DatabaseCores<E: Env> {
    store: Corestore<E>,
    database: CoreKey,
    local: CoreKey,
    keys: Option<DatabaseKeys>,
    open: BTreeMap<CoreKey, Member<E>>,
}

struct Member<E: Env> {
    core: Core<E>,
    /// Leading blocks that the engine has.
    fed: u64,
}

impl<E: Env> DatabaseCores<E> {
    /// Finds out which database the store holds, or makes one, and opens all of its cores that are here.
    ///
    /// # Errors
    ///
    /// `Invalid` when the store holds another database than `wanted`, or one in clear although there is an encryption
    /// key; or what the store says.
    pub(super) async fn open(
        store: Corestore<E>,
        wanted: Option<CoreKey>,
        encryption_key: Option<[u8; 32]>,
    ) -> Result<Self, Error> {
        let mut options = CoreOptions::name(LOCAL_NAME);
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
            Some(key) if key != named.key() => store.get(CoreOptions::key(key)).await?,
            Some(_) => named,
            None if bootstrap.is_writable() => store.get(CoreOptions::key(database)).await?,
            None => named,
        };
        let stored_key = encryption_key_of(&local)?;
        let new_key = encryption_key.filter(|_| stored_key.is_none());
        if new_key.is_some() && local.length()? > 0 {
            return Err(Error::Invalid {
                what: format!(
                    "the database {database} is here in clear: it cannot be given an encryption key"
                ),
            });
        }
        let keys = stored_key.or(new_key).map(|key| DatabaseKeys::new(database, key));
        if known.is_none() || remembered != Some(local.key()) || new_key.is_some() {
            // In one step: no crash leaves a local writer that does not know its database.
            let ((), seq) = store.transact(|change| {
                let key = |key: CoreKey| Some(Bytes::copy_from_slice(key.as_bytes()));
                change.set_user_data(&local, REFERRER, key(database))?;
                change.set_user_data(&bootstrap, REFERRER, key(database))?;
                if let Some(new_key) = &new_key {
                    let new_key = Bytes::copy_from_slice(new_key);
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
        let mut cores = Self {
            local: local.key(),
            database,
            keys,
            open: BTreeMap::new(),
            store,
        };
        cores.add(local);
        cores.add(bootstrap);
        for name in cores.store.list()? {
            let mut options = CoreOptions::discovery_key(name);
            options.session = encrypted.clone();
            let core = cores.store.get(options).await?;
            if key_at(&core, REFERRER)? == Some(database) {
                cores.add(core);
            }
        }
        Ok(cores)
    }

    /// The session of a core that takes part, made if need be; give it to [`DatabaseCores::add`].
    pub(super) async fn session(
        store: &Corestore<E>,
        database: CoreKey,
        keys: Option<&DatabaseKeys>,
        key: CoreKey,
    ) -> Result<Core<E>, CoreError> {
        let mut options = CoreOptions::key(key);
        options.session.encryption = keys.map(encryption);
        let core = store.get(options).await?;
        store.transact(|change| {
            let database = Bytes::copy_from_slice(database.as_bytes());
            change.set_user_data(&core, REFERRER, Some(database))
        })?;
        Ok(core)
    }

    /// Takes a core in. False when it is here already.
    pub(super) fn add(&mut self, core: Core<E>) -> bool {
        let key = core.key();
        if self.open.contains_key(&key) {
            return false;
        }
        self.open.insert(key, Member { core, fed: 0 });
        true
    }

    // What there is.

    pub(super) const fn store(&self) -> &Corestore<E> {
        &self.store
    }

    pub(super) const fn database(&self) -> CoreKey {
        self.database
    }

    pub(super) const fn local(&self) -> CoreKey {
        self.local
    }

    /// Of an encrypted database.
    pub(super) const fn encryption(&self) -> Option<&DatabaseKeys> {
        self.keys.as_ref()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = CoreKey> {
        self.open.keys().copied()
    }

    pub(super) fn get(&self, key: &CoreKey) -> Option<&Core<E>> {
        self.open.get(key).map(|member| &member.core)
    }

    /// All leading blocks of a core that are stored here.
    pub(super) fn blocks(&self, key: &CoreKey) -> Vec<Bytes> {
        let Some(core) = self.get(key) else {
            return Vec::new();
        };
        (0..)
            .map_while(|index| core.get_local(index).ok().flatten())
            .collect()
    }

    /// Hears of every change of a core.
    pub(super) fn changes(&self, key: &CoreKey) -> Result<watch::Receiver<u64>, CoreError> {
        self.get(key).ok_or(CoreError::Unknown)?.changes()
    }

    // Blocks.

    /// The blocks that came after those that were taken before, with the index of the first.
    pub(super) fn take_new(&mut self, key: &CoreKey) -> Result<(Index, Vec<Bytes>), CoreError> {
        let Some(member) = self.open.get_mut(key) else {
            return Err(CoreError::Unknown);
        };
        let from = member.fed;
        let mut blocks = Vec::new();
        // Nothing counts as taken when one of them cannot be read.
        let mut next = from;
        loop {
            match member.core.get_local(next) {
                Ok(Some(block)) => blocks.push(block),
                // What is not encrypted as it should be, no peer can read: the log ends before it.
                Ok(None) | Err(CoreError::Cipher(_)) => break,
                Err(error) => return Err(error),
            }
            next += 1;
        }
        member.fed = next;
        Ok((Index(from), blocks))
    }

    /// How many leading blocks of a core were taken.
    pub(super) fn taken(&self, key: &CoreKey) -> Length {
        Length(self.open.get(key).map_or(0, |member| member.fed))
    }

    /// Signs own blocks and makes them visible here; they are shown to peers once the commit is durable.
    pub(super) fn append(&self, blocks: Vec<Bytes>) -> Result<(Length, Seq), CoreError> {
        let core = self.get(&self.local).ok_or(CoreError::Unknown)?;
        let (appended, seq) = core.append_visible(blocks, AppendOptions::default())?;
        Ok((Length(appended.length), seq))
    }

    /// How long the local log is.
    pub(super) fn local_length(&self) -> Result<Length, CoreError> {
        let core = self.get(&self.local).ok_or(CoreError::Unknown)?;
        core.length().map(Length)
    }

    /// Ends all sessions.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}

/// How logs of writers are encrypted.
fn encryption(keys: &DatabaseKeys) -> Encryption {
    let keys = keys.clone();
    Encryption::ByManifest(Arc::new(move |core, manifest| {
        Arc::new(keys.writer(core, manifest))
    }))
}

fn encryption_key_of<E: Env>(local: &Core<E>) -> Result<Option<[u8; 32]>, Error> {
    let Some(bytes) = local.user_data(ENCRYPTION)? else {
        return Ok(None);
    };
    match bytes.as_ref().try_into() {
        Ok(key) => Ok(Some(key)),
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
