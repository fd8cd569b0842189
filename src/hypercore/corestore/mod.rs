//! All cores of one store: found by name, key, key pair or manifest; one primary key for all names.
//!
//! A name has the core that was made when it was first used, for good, whatever manifest version is asked for later.
//! Where the reference opens a core with a manifest or key pair that does not belong to its key, this one refuses:
//! nobody could verify such a core.
//!
//! Source: spec/hypercore.md 11 (`corestore`).

mod groups;
mod open;

use groups::{join_group, successor};
use open::{LOCKED_TRIES, LOCKED_WAIT};

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::broadcast;

use super::change::{LineSelector, StoreChange};
use super::cores::{Demand, OpenCore, OpenCores, scan};
use super::error::CoreError;
use super::event::GroupEvent;
use super::keys::{Namespace, PrimaryKey};
use super::lookup::CoreOptions;
use super::manifest::{Manifest, ManifestOptions, Prologue};
use super::session::{Core, SessionPlace};
use super::transaction::Transaction;
use crate::crypto::{DiscoveryKey, KeyPair};
use crate::env::{BoxFuture, Clock as _, Env, Planted, Slip, watch};
use crate::store::{CorePointer, Housekeeping, Key, Recovered, Seq, Space, StoreError, StoreHandle};
use crate::wire::Length;
use crate::wire::compact::Decode as _;

/// The cores of one store. Cloning gives another handle to the same ones.
///
/// ```
/// use autobee::env::memory::MemoryEnv;
/// use autobee::hypercore::{CoreOptions, Corestore, CorestoreOptions, Wait};
/// use autobee::store::{Seglog, StoreHandle};
/// use autobee::wire::Index;
///
/// let env = MemoryEnv::new(1);
/// let block = env.run(async {
///     let store = StoreHandle::open(&env, &Seglog::default())?;
///     let store = Corestore::open(env.clone(), store, CorestoreOptions::default()).await?;
///     let core = store.get(CoreOptions::name("notes")).await?;
///     core.append(vec!["hello".into(), "world".into()]).await?; // durable now
///     core.get(Index(1), Wait::Local).await
/// });
/// assert_eq!(block.unwrap()?, "world");
/// # Ok::<(), autobee::hypercore::CoreError>(())
/// ```
#[derive(Clone)]
pub struct Corestore<E: Env> {
    pub(super) shared: Arc<CorestoreShared<E>>,
    namespace: Namespace,
    is_writable: bool,
}

/// Options of a store of cores.
#[derive(Debug, Clone, Default)]
pub struct CorestoreOptions {
    /// The primary key of a new store, instead of a random one. An existing store must have the same.
    pub primary_key: Option<PrimaryKey>,
    /// No session of this handle may write.
    pub is_read_only: bool,
}

/// The state that all handles of a store share.
pub(super) struct CorestoreShared<E: Env> {
    pub(super) env: E,
    pub(super) store: StoreHandle,
    cores: Mutex<OpenCores>,
    groups: broadcast::Sender<GroupEvent>,
    /// What of this store somebody has alone.
    held: Mutex<BTreeSet<[u8; 32]>>,
    primary_key: PrimaryKey,
    pub(super) planted: Planted,
}

/// Something of a store that one user has alone, see [`Corestore::hold`].
pub struct Hold<E: Env> {
    shared: Arc<CorestoreShared<E>>,
    what: [u8; 32],
}

impl<E: Env> Drop for Hold<E> {
    fn drop(&mut self) {
        if self.shared.planted.has(Slip::HoldKept) {
            return;
        }
        self.shared.held().remove(&self.what);
    }
}

impl<E: Env> fmt::Debug for Hold<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}

impl<E: Env> Corestore<E> {
    // Handles.

    /// The same store, where names are those of a namespace inside this one.
    #[must_use]
    pub fn namespace(&self, name: impl AsRef<[u8]>) -> Self {
        Self {
            namespace: self.namespace.child(name),
            ..self.clone()
        }
    }

    /// The same store, with the names of another namespace.
    #[must_use]
    pub fn in_namespace(&self, namespace: Namespace) -> Self {
        Self {
            namespace,
            ..self.clone()
        }
    }

    /// The same store, with sessions that cannot write.
    #[must_use]
    pub fn read_only(&self) -> Self {
        Self {
            is_writable: false,
            ..self.clone()
        }
    }

    /// The world in which it was opened.
    #[must_use]
    pub fn env(&self) -> &E {
        &self.shared.env
    }

    /// The slips that are to be made.
    pub(crate) fn planted(&self) -> Planted {
        self.shared.planted
    }

    // Keys.

    /// The namespace of names here.
    #[must_use]
    pub const fn namespace_key(&self) -> &Namespace {
        &self.namespace
    }

    /// The key pair of a name.
    #[must_use]
    pub fn create_key_pair(&self, name: impl AsRef<[u8]>) -> KeyPair {
        let crypto = self.shared.env.crypto();
        self.shared.primary_key.key_pair(crypto, &self.namespace, name)
    }

    // Cores.

    /// Opens a session of a core, which is made if need be. An exclusive session waits for its turn.
    ///
    /// # Errors
    /// When the options name no core, contradict each other or what is stored, or the store fails.
    pub async fn get(&self, options: CoreOptions) -> Result<Core<E>, CoreError> {
        self.core(options).await
    }

    fn core(&self, options: CoreOptions) -> BoxFuture<'_, Result<Core<E>, CoreError>> {
        Box::pin(async move {
            let mut session = options.session.clone();
            session.is_read_only |= !self.is_writable;
            let key_pair = self.key_pair_of(&options);
            let (taken, _) = self.shared.change(|change| {
                let pointer = self.resolve(&options, change)?;
                if let Some(topic) = options.group {
                    join_group(change, pointer, topic)?;
                }
                SessionPlace::take(change.cores, pointer, &session)
            })?;
            let core = Core::with_session_place(
                Arc::clone(&self.shared),
                taken,
                LineSelector::Main,
                session,
                key_pair,
            );
            core.wait_for_turn().await?;
            let durable = self.shared.store.durable();
            let open = |cores: &OpenCores| {
                let core = cores.open.get(&core.pointer())?;
                Some(core.offer.awaits(durable))
            };
            if open(&self.shared.lock()) == Some(true) && !self.shared.planted.has(Slip::OwnHeadWaits) {
                // An own head that was just read is shown once all up to now is durable, and perhaps nobody else asks for that.
                self.shared.store.request_sync();
            }
            Ok(core)
        })
    }

    /// A core without signers that holds what `source` holds now, for good.
    ///
    /// # Errors
    /// When the source is empty, or the store fails.
    pub async fn staticify(&self, source: &Core<E>) -> Result<Core<E>, CoreError> {
        let head = source.head()?;
        if head.tree.length() == 0 {
            return Err(CoreError::NoCore);
        }
        let manifest = Manifest::new(ManifestOptions {
            version: Some(1),
            quorum: Some(0),
            prologue: Some(Prologue {
                hash: head.tree.hash(),
                length: head.tree.length(),
            }),
            ..ManifestOptions::default()
        })?;
        let copy = self.get(CoreOptions::manifest(manifest)).await?;
        let (source, target) = (source.pointer(), copy.pointer());
        let ((), seq) = self.shared.change(|change| change.copy_main(source, target))?;
        self.shared.wait_durable(target, seq).await?;
        Ok(copy)
    }

    /// Public names of all stored cores, in order.
    ///
    /// # Errors
    /// When the store fails.
    pub fn list(&self) -> Result<Vec<DiscoveryKey>, CoreError> {
        let snapshot = self.shared.store.snapshot()?;
        let first = Key::CoreByDiscovery(DiscoveryKey::new([0; 32]));
        let found = scan(&*snapshot, &first, &Key::CoreByAlias([0; 32], Bytes::new()))?;
        Ok(found
            .into_iter()
            .filter_map(|(key, _)| match key {
                Key::CoreByDiscovery(name) => Some(name),
                _ => None,
            })
            .collect())
    }

    /// Public names of the cores that are open here, in no order that means anything. Sessions that only serve peers do not
    /// count.
    #[must_use]
    pub fn open_cores(&self) -> Vec<DiscoveryKey> {
        let cores = self.shared.lock();
        // Those that only serve who asked for them are offered to nobody.
        let open = cores.open.values().filter(|core| core.is_used());
        open.map(|core| core.discovery_key).collect()
    }

    /// How often a core was let go: the last session went that did more than serve its peers.
    #[must_use]
    pub(crate) fn let_go(&self) -> u64 {
        self.shared.lock().let_go
    }

    /// Notes that a peer left the channel of a core: it has to be asked again when something of the core is wanted later.
    pub(crate) fn note_parted(&self) {
        self.shared.lock().is_parted = true;
    }

    /// Public names of the cores of which something is wanted.
    pub(crate) fn wanted_cores(&self) -> Vec<DiscoveryKey> {
        let cores = self.shared.lock();
        let is_wanted = |core: &&OpenCore| core.demand != Demand::default();
        let wanted = cores.open.values().filter(is_wanted);
        wanted.map(|core| core.discovery_key).collect()
    }

    /// Limits of downloads that are over, in the cores that are open: none, if nothing is forgotten.
    pub(crate) fn limits_left(&self) -> usize {
        let cores = self.shared.lock();
        let demands = cores.open.values().map(|core| &core.demand);
        let left = demands.flat_map(|demand| {
            let limits = demand.block_bytes_max.keys();
            limits.filter(|id| !demand.ranges.contains_key(id))
        });
        left.count()
    }

    /// Wakes whenever a core was opened that was not open before, was let go, or is wanted by who lost its peers.
    #[must_use]
    pub fn openings(&self) -> watch::Receiver<u64> {
        self.shared.lock().openings.subscribe()
    }

    /// The names of this namespace, with the public names of their cores.
    ///
    /// # Errors
    /// When the store fails.
    pub fn names(&self) -> Result<Vec<(Bytes, DiscoveryKey)>, CoreError> {
        let snapshot = self.shared.store.snapshot()?;
        let space = *self.namespace.as_bytes();
        let from = Key::CoreByAlias(space, Bytes::new());
        let to = match successor(space) {
            Some(next) => Key::CoreByAlias(next, Bytes::new()),
            None => Key::Auth(CorePointer(0)),
        };
        let mut names = Vec::new();
        for (key, value) in scan(&*snapshot, &from, &to)? {
            if let Key::CoreByAlias(_, name) = key {
                names.push((name, DiscoveryKey::new(<[u8; 32]>::from_bytes(&value)?)));
            }
        }
        Ok(names)
    }

    /// Changes many cores in one step: all of it happens, or nothing. Gives what `run` gives and the commit, see
    /// [`Corestore::synced`]. The store is locked meanwhile: inside, use only the transaction.
    ///
    /// # Errors
    /// What `run` fails with, or the store.
    pub fn transact<T>(
        &self,
        run: impl FnOnce(&mut Transaction<'_, '_, E>) -> Result<T, CoreError>,
    ) -> Result<(T, Seq), CoreError> {
        self.shared.change(|change| run(&mut Transaction { change }))
    }

    /// Has something of this store alone, for as long as the value lives: a namespace, or a core that is written. It is a
    /// convention between those who ask; it waits two seconds for one who is about to let go.
    ///
    /// # Errors
    /// [`CoreError::InUse`].
    pub async fn hold(&self, what: [u8; 32]) -> Result<Hold<E>, CoreError> {
        let mut tries = 0;
        while !self.shared.held().insert(what) {
            if tries == LOCKED_TRIES {
                return Err(CoreError::InUse);
            }
            tries += 1;
            self.shared.env.clock().sleep(LOCKED_WAIT).await;
        }
        Ok(Hold {
            shared: Arc::clone(&self.shared),
            what,
        })
    }

    /// True while somebody has something of this store, see [`Corestore::hold`].
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.shared.held().is_empty()
    }

    /// What the opening of the store found and dealt with.
    #[must_use]
    pub fn recovered(&self) -> &Recovered {
        self.shared.store.recovered()
    }

    /// What the files of the store take on the disk. None when its engine does not know, or the store was closed.
    #[must_use]
    pub fn space(&self) -> Option<Space> {
        self.shared.store.space()
    }

    /// How often the store did what nobody asked for.
    #[must_use]
    pub fn housekeeping(&self) -> Housekeeping {
        self.shared.store.housekeeping()
    }

    /// Waits until a commit survives a power cut.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn synced(&self, seq: Seq) -> Result<(), CoreError> {
        self.shared.store.synced(seq).await?;
        Ok(())
    }

    /// The last commit, and the last one that survives power loss.
    pub(crate) fn commits(&self) -> Result<(Seq, Seq), CoreError> {
        Ok((self.shared.store.seq()?, self.shared.store.durable()))
    }

    /// How many wait for a sync, though one has failed.
    pub(crate) fn syncs_unanswered(&self) -> usize {
        self.shared.store.unanswered()
    }

    /// Asks for a sync of all commits so far, and does not wait.
    pub fn request_sync(&self) {
        self.shared.store.request_sync();
    }

    /// Waits until more is durable than up to a commit: then peers may see more of the own cores. Gives how much.
    ///
    /// # Errors
    /// When the store fails or is closed.
    pub async fn durable_past(&self, seq: Seq) -> Result<Seq, CoreError> {
        Ok(self.shared.store.durable_past(seq).await?)
    }

    // The end.

    /// Closes all sessions, and makes everything durable.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn close(&self) -> Result<(), CoreError> {
        {
            let mut cores = self.shared.lock();
            cores.is_closed = true;
            for core in cores.open.values() {
                core.bump();
            }
            cores.open.clear();
        }
        Ok(self.shared.store.close().await?)
    }

    pub(super) fn key_pair_of(&self, options: &CoreOptions) -> Option<KeyPair> {
        let name = options.name.as_ref().filter(|name| !name.is_empty());
        name.map(|name| self.create_key_pair(name))
            .or_else(|| options.key_pair.clone())
    }
}

impl<E: Env> CorestoreShared<E> {
    fn held(&self) -> MutexGuard<'_, BTreeSet<[u8; 32]>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, OpenCores> {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a change and commits it: the only way in which anything is written.
    pub(super) fn change<T>(
        &self,
        run: impl FnOnce(&mut StoreChange<'_, E::Crypto>) -> Result<T, CoreError>,
    ) -> Result<(T, Seq), CoreError> {
        let mut cores = self.lock();
        if cores.is_closed {
            return Err(CoreError::Closed);
        }
        if cores.is_fenced {
            return Err(StoreError::Fenced.into());
        }
        let snapshot = self.store.snapshot()?;
        let wall_ms = self.env.clock().wall().0;
        let mut change = StoreChange::new(&mut cores, self.env.crypto(), snapshot, wall_ms);
        let value = run(&mut change);
        let touched = change.touched();
        let value = match value {
            Ok(value) => value,
            Err(error) => {
                change.undo();
                cores.release_unused(touched);
                return Err(error);
            }
        };
        if change.is_empty() {
            cores.release_unused(touched);
            return Ok((value, self.store.seq()?));
        }
        let seq = match self.store.commit(change.batch()) {
            Ok(seq) => seq,
            Err(error) => {
                change.undo();
                cores.release_unused(touched);
                cores.is_fenced = true;
                return Err(error.into());
            }
        };
        for (pointer, topic) in change.publish(seq) {
            if let Some(core) = cores.open.get(&pointer) {
                let tree = &core.main.head.tree;
                // Nobody listening is fine.
                let _ = self.groups.send(GroupEvent {
                    topic,
                    key: *core.key(),
                    length: Length(tree.length()),
                    fork: tree.fork(),
                });
            }
        }
        cores.release_unused(touched);
        Ok((value, seq))
    }

    /// Waits until a commit survives a power cut. Then peers may see more of the core, so whoever serves them is woken.
    pub(super) async fn wait_durable(&self, pointer: CorePointer, seq: Seq) -> Result<(), CoreError> {
        self.store.synced(seq).await?;
        if let Some(core) = self.lock().open.get(&pointer) {
            core.bump();
        }
        Ok(())
    }

    /// A receiver that hears of every change of a core.
    pub(super) fn changes(&self, pointer: CorePointer) -> Result<watch::Receiver<u64>, CoreError> {
        Ok(self.lock().get(pointer)?.changes.subscribe())
    }
}

impl<E: Env> fmt::Debug for Corestore<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Corestore({:?})", self.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519, Seed, Sign as _};
    use crate::env::memory::MemoryEnv;
    use crate::store::Seglog;
    use crate::wire::Length;

    #[test]
    fn a_refused_core_does_not_stay_loaded() {
        let env = MemoryEnv::new(1);
        let done = env.run(async {
            let store = StoreHandle::open(&env, &Seglog::default()).unwrap();
            let options = CorestoreOptions::default();
            let store = Corestore::open(env.clone(), store, options).await.unwrap();
            let core = store.get(CoreOptions::name("log")).await.unwrap();
            let key = core.key();
            drop(core);
            assert_eq!(store.shared.lock().open.len(), 0);
            let mut mixed = CoreOptions::key(key);
            mixed.key_pair = Some(Ed25519.key_pair(&Seed::new([3; 32])));
            assert!(store.get(mixed).await.is_err());
            assert_eq!(store.shared.lock().open.len(), 0);
            // One that is in use stays.
            let core = store.get(CoreOptions::key(key)).await.unwrap();
            let mut mixed = CoreOptions::key(key);
            mixed.key_pair = Some(Ed25519.key_pair(&Seed::new([3; 32])));
            assert!(store.get(mixed).await.is_err());
            core.append(vec!["a".into()]).await.unwrap();
            assert_eq!(core.length().unwrap(), Length(1));
        });
        assert!(done.is_some());
    }

    /// Looking a core up costs no walk over those that are open.
    #[test]
    fn many_cores_are_opened_one_after_the_other() {
        let env = MemoryEnv::new(1);
        let done = env.run(async {
            let store = StoreHandle::open(&env, &Seglog::default()).unwrap();
            let options = CorestoreOptions::default();
            let store = Corestore::open(env.clone(), store, options).await.unwrap();
            let mut cores = Vec::new();
            for number in 0..300 {
                cores.push(store.get(CoreOptions::name(format!("{number}"))).await.unwrap());
            }
            for (number, core) in cores.iter().enumerate() {
                let same = store.get(CoreOptions::name(format!("{number}"))).await.unwrap();
                assert_eq!(same.key(), core.key());
            }
            assert_eq!(store.shared.lock().open.len(), 300);
        });
        assert!(done.is_some());
    }
}
