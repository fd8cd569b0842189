//! The cores of one database in its store: which there are, and what is kept with them.
//!
//! Values that are kept with cores have the names of the original, so that a store says what is in it: each core of a
//! database has `referrer`, the key of the database; the creator's has `autobee/local` too, the key of the local writer;
//! the local writer's has `autobee/encryption`, from which the keys of an encrypted database follow, in clear.
//!
//! Source: spec/autobee.md 3.1 and 3.2.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::crypto::{CoreKey, KeyPair};
use crate::db::machine::{KEPT_WITH_LOCAL, Logs, StoredLog};
use crate::db::own_log::{Origin, Unconfirmed};
use crate::engine::encryption::{DatabaseKeys, KeyMismatch};
use crate::env::{Env, Point, Slip, watch};
use crate::error::Error;
use crate::hypercore::encryption::CoreCipher;
use crate::hypercore::manifest::{Manifest, ManifestOptions, Signer};
use crate::hypercore::{
    Contradiction, Core, CoreError, CoreEvents, CoreOptions, Corestore, Download, DownloadRange, Encryption,
    Hold, SessionOptions,
};
use crate::store::Seq;
use crate::wire::rules::RecordedRules;
use crate::wire::{Index, Length};

const REFERRER: &str = "referrer";
const LOCAL: &str = "autobee/local";
const ENCRYPTION: &str = "autobee/encryption";
/// Why peers may have more of the own log, as long as that is so: a name of our own.
const UNCONFIRMED: &str = "autobee/unconfirmed";
/// What earlier versions of the original call [`LOCAL`].
const LOCAL_LEGACY: &str = "autobase/local";
/// The name of the local writer in the store.
const LOCAL_NAME: &str = "local";

/// Bytes that encryption adds to a block.
const ENCRYPTED_EXTRA: u64 = CoreCipher::PADDING as u64;

/// Version of the manifests that we make.
pub(in crate::db) const MANIFEST_VERSION: u64 = 2;

/// A core that is open, and is fetched from peers as long as it is.
pub(in crate::db) struct OpenLog<E: Env> {
    core: Core<E>,
    /// Of an encrypted database.
    keys: Option<DatabaseKeys>,
    /// None before it is said how much is fetched.
    download: Mutex<Option<Download<E>>>,
    /// Blocks that were dropped, as the store gave other bytes of them.
    rotten: Mutex<Vec<u64>>,
    /// Leading blocks that need not be here.
    passed_over: AtomicU64,
}

impl<E: Env> OpenLog<E> {
    fn new(core: Core<E>, keys: Option<&DatabaseKeys>) -> Self {
        Self {
            core,
            keys: keys.cloned(),
            download: Mutex::new(None),
            rotten: Mutex::default(),
            passed_over: AtomicU64::new(0),
        }
    }

    /// Asks peers for the blocks of a core from now on, up to `end`; for all there are and will be without one. Larger ones
    /// than `block_bytes_max` are left out.
    pub(super) fn fetch(&self, end: Option<u64>, block_bytes_max: Option<u64>) -> Result<(), CoreError> {
        let range = DownloadRange {
            start: Index(self.passed_over.load(Ordering::Relaxed)),
            end: end.map(Index),
            is_linear: true,
        };
        let download = match block_bytes_max {
            // The machine counts what is written, and the encrypted block is longer.
            Some(most) => self
                .core
                .download_small(range, most.saturating_add(ENCRYPTED_EXTRA))?,
            None => self.core.download(range)?,
        };
        *self.download.lock().unwrap_or_else(PoisonError::into_inner) = Some(download);
        Ok(())
    }

    /// As many blocks as the core has; or those in front of the first one that is neither here nor passed over.
    fn leading(&self, length: u64) -> Result<u64, CoreError> {
        let from = self.passed_over.load(Ordering::Relaxed);
        let here = self.core.peer_access().next_missing(from)?;
        Ok(here.min(length))
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
    type Events = CoreEvents;

    fn key(&self) -> CoreKey {
        self.core.key()
    }

    fn length(&self) -> Result<u64, CoreError> {
        self.core.length().map(|length| length.0)
    }

    fn byte_length(&self) -> Result<u64, CoreError> {
        self.core.byte_length()
    }

    fn contiguous_length(&self) -> Result<u64, CoreError> {
        self.leading(self.core.length()?.0)
    }

    fn pass_over(&self, Length(blocks): Length) {
        self.passed_over.store(blocks, Ordering::Relaxed);
    }

    fn offered_length(&self) -> Result<u64, CoreError> {
        if self.passed_over.load(Ordering::Relaxed) == 0 {
            return self.core.peer_access().offered_contiguous();
        }
        self.leading(self.core.peer_access().offered()?.tree.length())
    }

    fn fork(&self) -> Result<u64, CoreError> {
        self.core.fork()
    }

    fn block(&self, index: u64) -> Result<Option<Bytes>, CoreError> {
        self.core.get_local(Index(index)).or_else(|error| {
            if !self.core.drop_rotten(index, &error) {
                return Err(error);
            }
            let mut rotten = self.rotten.lock().unwrap_or_else(PoisonError::into_inner);
            rotten.push(index);
            Ok(None)
        })
    }

    fn take_rotten(&self) -> Vec<u64> {
        std::mem::take(&mut *self.rotten.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn contradicted_block(&self, index: u64) -> Result<Option<Bytes>, CoreError> {
        self.core.get_contradicted(index)
    }

    fn contradicted_lengths(&self) -> Result<(u64, u64), CoreError> {
        let (length, contiguous) = self.core.contradicted_lengths()?;
        Ok((
            length,
            self.leading(length)
                .map_or(contiguous, |here| here.max(contiguous)),
        ))
    }

    fn contradiction(&self) -> Result<Option<Contradiction>, CoreError> {
        self.core.contradiction()
    }

    fn manifest(&self) -> Result<Option<Bytes>, CoreError> {
        let manifest = self.core.manifest()?;
        Ok(manifest.map(|manifest| Bytes::copy_from_slice(manifest.as_bytes())))
    }

    fn key_mismatch(&self) -> Option<KeyMismatch> {
        mismatch(&self.core, self.keys.as_ref())
    }

    fn key_pair(&self) -> Result<Option<KeyPair>, CoreError> {
        self.core.key_pair()
    }

    fn events(&self) -> Result<CoreEvents, CoreError> {
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
    /// What the creator's manifest says about rules; none as long as that is not here.
    pub(in crate::db) rules: Option<Option<RecordedRules>>,
    pub(in crate::db) logs: Logs<OpenLog<E>>,
    /// Its namespace and its own log: nobody else writes there.
    pub(in crate::db) holds: Vec<Hold<E>>,
}

impl<E: Env> Opened<E> {
    /// Finds out which database the store holds, or makes one, and opens all of its cores that are here.
    ///
    /// # Errors
    ///
    /// `Invalid` when the store holds another database than `wanted`; `EncryptionKey`; or what the store says.
    pub(in crate::db) async fn open(
        store: Corestore<E>,
        wanted: Option<CoreKey>,
        encryption_key: Option<Zeroizing<[u8; 32]>>,
        key_pair: Option<KeyPair>,
        new_rules: Option<RecordedRules>,
    ) -> Result<Self, Error> {
        let namespace = *store.namespace_key().as_bytes();
        let mut holds = vec![store.hold(namespace).await?];
        let is_given = key_pair.is_some();
        let mut options = match key_pair {
            Some(pair) => own_log(&store, wanted, pair, new_rules).await?,
            None => CoreOptions {
                // A log of this name that is here already stays what it is.
                manifest_data: data_of(new_rules.filter(|_| wanted.is_none()))?,
                ..CoreOptions::name(LOCAL_NAME)
            },
        };
        options.manifest_version = MANIFEST_VERSION;
        let named = store.get(options).await?;
        let known = key_at(&named, REFERRER)?;
        if E::READ_ONLY && known.is_none() {
            return Err(Error::Invalid {
                what: "there is no database here to be read, with this namespace and key pair".into(),
            });
        }
        let database = match (wanted, known) {
            (Some(wanted), Some(known)) if wanted != known => {
                return Err(Error::Invalid {
                    what: format!("this store holds the database {known}, not {wanted}"),
                });
            }
            (wanted, known) => wanted.or(known).unwrap_or(named.key()),
        };
        let bootstrap = store.get(CoreOptions::key(database)).await?;
        let rules = match bootstrap.manifest()? {
            Some(manifest) => Some(rules_of(manifest.user_data())?),
            None => None,
        };
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
        // Of a database in clear no right key can be given: a wrong one is forgotten.
        let old = stored_key.as_ref().filter(|_| encryption_key.is_none());
        let old = old.map(|key| DatabaseKeys::with_secret(database, key.clone()));
        let is_forgotten = local.length()? == Length::ZERO
            && old.is_some()
            && mismatch(&bootstrap, old.as_ref()) == Some(KeyMismatch::Clear);
        let stored_key = stored_key.filter(|_| !is_forgotten);
        // What is here of the creator's log, and of the own one, tells which key is right.
        let new_key = encryption_key.filter(|key| stored_key.as_ref() != Some(key));
        let encryption_key = new_key.as_ref().or(stored_key.as_ref());
        let keys = encryption_key.map(|key| DatabaseKeys::with_secret(database, key.clone()));
        if let (Some(keys), Some(Some(recorded))) = (&keys, &rules) {
            keys.set_rules(recorded.rules);
        }
        for core in [&bootstrap, &local] {
            if let Some(mismatch) = mismatch(core, keys.as_ref()) {
                return Err(Error::EncryptionKey { mismatch });
            }
        }
        if new_key.is_some() && stored_key.is_none() && local.length()? > Length::ZERO {
            let mismatch = KeyMismatch::Clear;
            return Err(Error::EncryptionKey { mismatch });
        }
        if known.is_none() || remembered != Some(local.key()) || new_key.is_some() || is_forgotten {
            // In one step: no crash leaves a local writer that does not know its database.
            let ((), seq) = store.transact(|change| {
                let key = |key: CoreKey| Some(Bytes::copy_from_slice(key.as_bytes()));
                change.set_user_data(&local, REFERRER, key(database))?;
                change.set_user_data(&bootstrap, REFERRER, key(database))?;
                if new_key.is_some() || is_forgotten {
                    let new_key = new_key.as_ref().map(|key| Bytes::copy_from_slice(&key[..]));
                    change.set_user_data(&local, ENCRYPTION, new_key)?;
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
        local.follow_own()?;
        let local = Arc::new(OpenLog::new(local, database_keys.as_ref()));
        let mut logs = Logs::new(local_key);
        logs.add(Arc::clone(&local))?;
        let mut add = |core: Core<E>| -> Result<(), CoreError> {
            if !logs.has(&core.key()) {
                logs.add(Arc::new(OpenLog::new(core, database_keys.as_ref())))?;
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
            rules,
            logs,
            holds,
        })
    }
}

/// How the log of a given key pair is opened. That of a creator has rules in its manifest, and so another key than the log
/// that the same pair has in a database of others: it is the one that is wanted, or that is here, or that is made.
async fn own_log<E: Env>(
    store: &Corestore<E>,
    wanted: Option<CoreKey>,
    pair: KeyPair,
    new_rules: Option<RecordedRules>,
) -> Result<CoreOptions, Error> {
    let manifest_data = if let Some(wanted) = wanted {
        creator_data(&pair, wanted)?
    } else {
        let mut found = data_of(new_rules)?;
        for data in manifest_data_variants()? {
            let key = manifest_of(&pair, data.clone())?.key();
            let known = CoreOptions::discovery_key(crate::crypto::discovery_key(&key));
            let core = match store.get(known).await {
                Ok(core) => core,
                Err(CoreError::Unknown) => continue,
                Err(error) => return Err(error.into()),
            };
            if key_at(&core, REFERRER)?.is_some() {
                found = data;
                break;
            }
        }
        found
    };
    Ok(CoreOptions {
        manifest_data,
        ..CoreOptions::key_pair(pair)
    })
}

/// The user data in the manifest of this key pair's log, if that is the creator's of this database.
fn creator_data(pair: &KeyPair, database: CoreKey) -> Result<Option<Vec<u8>>, Error> {
    for data in manifest_data_variants()? {
        if manifest_of(pair, data.clone())?.key() == database {
            return Ok(data);
        }
    }
    Ok(None)
}

/// All user data that the manifest of a creator's log can have, the one of members first.
fn manifest_data_variants() -> Result<Vec<Option<Vec<u8>>>, Error> {
    let recorded = RecordedRules::ALL.into_iter().map(Some);
    std::iter::once(None).chain(recorded).map(data_of).collect()
}

fn data_of(rules: Option<RecordedRules>) -> Result<Option<Vec<u8>>, Error> {
    let data = rules.map(RecordedRules::to_manifest_data).transpose();
    data.map_err(|error| Error::Internal {
        what: error.to_string(),
    })
}

fn manifest_of(pair: &KeyPair, user_data: Option<Vec<u8>>) -> Result<Manifest, Error> {
    let manifest = Manifest::new(ManifestOptions {
        version: Some(MANIFEST_VERSION),
        signers: vec![Signer::new(pair.public)],
        user_data,
        ..ManifestOptions::default()
    });
    manifest.map_err(|error| Error::Internal {
        what: error.to_string(),
    })
}

/// What the user data of the creator's manifest says about rules.
fn rules_of(data: Option<&[u8]>) -> Result<Option<RecordedRules>, Error> {
    RecordedRules::of_manifest_data(data).map_err(|_| Error::Unsupported {
        what: "a database with rules of a later version",
    })
}

/// Why peers may have more of the own log than is here. It is kept until a peer said otherwise.
pub(in crate::db) async fn doubt<E: Env>(
    store: &Corestore<E>,
    local: &Core<E>,
    origin: Origin,
) -> Result<Option<Unconfirmed>, Error> {
    let kept = local.user_data(UNCONFIRMED)?;
    let found = match kept.as_deref().map(Unconfirmed::named) {
        _ if origin.is_complete => None,
        Some(kept) => {
            store.env().sometimes(Point::DoubtKept, true);
            Some(kept)
        }
        None if origin.is_restored => Some(Unconfirmed::Restored),
        None if store.recovered().missing.is_some() => Some(Unconfirmed::CutOff),
        None if origin.is_given => Some(Unconfirmed::KeyPair),
        None if origin.is_joined_as && local.length()? == Length::ZERO => Some(Unconfirmed::KeyPair),
        None => None,
    };
    let name = found.map(|found| Bytes::from_static(found.name().as_bytes()));
    let is_news = name != kept && !(kept.is_none() && store.planted().has(Slip::DoubtUnstored));
    if is_news {
        let ((), seq) = store.transact(|change| change.set_user_data(local, UNCONFIRMED, name))?;
        store.synced(seq).await?;
    }
    Ok(found)
}

/// Opens a core that is to be the local writer's.
pub(super) async fn open_local<E: Env>(
    store: &Corestore<E>,
    database: CoreKey,
    keys: Option<&DatabaseKeys>,
    mut options: CoreOptions,
) -> Result<OpenLog<E>, Error> {
    options.manifest_version = MANIFEST_VERSION;
    options.session.encryption = keys.map(encryption);
    if let Some(pair) = &options.key_pair {
        options.manifest_data = creator_data(pair, database)?;
    }
    let core = store.get(options).await?;
    let key = core.key();
    if !core.is_writable() {
        let what = format!("the store has no key pair of the log {key}");
        return Err(Error::Invalid { what });
    }
    if let Some(other) = key_at(&core, REFERRER)?.filter(|known| *known != database) {
        let what = format!("the log {key} belongs to the database {other}");
        return Err(Error::Invalid { what });
    }
    if let Some(mismatch) = mismatch(&core, keys) {
        return Err(Error::EncryptionKey { mismatch });
    }
    core.follow_own()?;
    Ok(OpenLog::new(core, keys))
}

/// Takes note that a core is this database's. Gives the commit.
pub(super) fn claim<E: Env>(
    store: &Corestore<E>,
    database: CoreKey,
    log: &OpenLog<E>,
) -> Result<Seq, CoreError> {
    let database = Bytes::copy_from_slice(database.as_bytes());
    let ((), seq) = store.transact(|change| change.set_user_data(&log.core, REFERRER, Some(database)))?;
    Ok(seq)
}

/// Makes another log the local writer's, with all that was kept with the one of before. Gives the commit.
pub(super) fn set_local<E: Env>(
    store: &Corestore<E>,
    database: CoreKey,
    (bootstrap, old): (&OpenLog<E>, &OpenLog<E>),
    new: &OpenLog<E>,
) -> Result<Seq, CoreError> {
    let key = |key: CoreKey| Some(Bytes::copy_from_slice(key.as_bytes()));
    let names = KEPT_WITH_LOCAL.into_iter().chain([ENCRYPTION]);
    let kept = names.map(|name| old.core.user_data(name).map(|value| (name, value)));
    let kept: Vec<_> = kept.collect();
    let ((), seq) = store.transact(|change| {
        for value in kept {
            let (name, value) = value?;
            change.set_user_data(&new.core, name, value)?;
        }
        change.set_user_data(&new.core, REFERRER, key(database))?;
        if store.planted().has(Slip::RotationUnstored) {
            return Ok(());
        }
        change.set_user_data(&bootstrap.core, LOCAL, key(new.core.key()))
    })?;
    Ok(seq)
}

/// Nothing speaks any more for entries of the own log elsewhere. Gives the commit that says so.
pub(super) fn confirm<E: Env>(store: &Corestore<E>, local: &OpenLog<E>) -> Result<Seq, CoreError> {
    let ((), seq) = store.transact(|change| change.set_user_data(&local.core, UNCONFIRMED, None))?;
    Ok(seq)
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
    Ok(OpenLog::new(core, keys))
}

/// Opens a core to read some blocks of it. It is none of this database's for that.
pub(super) async fn read_log<E: Env>(
    store: &Corestore<E>,
    keys: Option<&DatabaseKeys>,
    key: CoreKey,
) -> Result<Core<E>, CoreError> {
    let mut options = CoreOptions::key(key);
    options.session.encryption = keys.map(encryption);
    store.get(options).await
}

/// Makes a core none of this database's when that is opened again, and forgets its blocks.
///
/// What this store wrote itself stays: the log was the local writer's once, and nobody else may have it.
pub(super) fn release<E: Env>(store: &Corestore<E>, log: &OpenLog<E>) -> Result<(), CoreError> {
    log.download.lock().unwrap_or_else(PoisonError::into_inner).take();
    if log.core.is_writable() {
        return Ok(());
    }
    let length = log.core.length()?;
    if length > Length::ZERO {
        log.core.clear(Index(0)..Index(length.0))?;
    }
    let ((), _) = store.transact(|change| change.set_user_data(&log.core, REFERRER, None))?;
    Ok(())
}

/// How the first block of a writer's log, if it is here, contradicts the key, or that there is none.
fn mismatch<E: Env>(core: &Core<E>, keys: Option<&DatabaseKeys>) -> Option<KeyMismatch> {
    let (manifest, block) = (core.manifest().ok()??, core.local(0).ok()??);
    DatabaseKeys::mismatch(keys, &core.key(), &manifest, (0, &block))
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
