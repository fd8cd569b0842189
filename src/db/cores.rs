//! The cores of one database in its store: which are open, and how much of each went to the engine.
//!
//! Values that are kept with cores have the names of the original, so that a store says what is in it: each core of a
//! database has `referrer`, the key of the database; the creator's has `autobee/local` too, the key of the local writer;
//! the local writer's has `autobee/encryption`, from which the keys of an encrypted database follow, in clear.
//!
//! # Logs that their owners contradict
//!
//! The state is a function of the causally complete blocks that are here. When the owner of a log replaces blocks that
//! were taken, those of both forks are here for a while: the old ones in the order, the new ones in the store. Nothing
//! more is taken then, and what was taken stays, until the order has to be made anew from the store: when the database
//! is opened, or when what came belongs before what is in memory. Either makes it from the start, with the new fork, as
//! no checkpoint tells what the old one did. When an owner signed two logs of the same length, what is stored stays, and
//! is taken at any time.
//!
//! Source: spec/autobee.md 3.1 and 3.2.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::crypto::{CoreKey, KeyPair};
use crate::engine::Frozen;
use crate::engine::encryption::DatabaseKeys;
use crate::env::{Env, Point, watch};
use crate::error::Error;
use crate::hypercore::encryption::CipherError;
use crate::hypercore::{
    Core, CoreError, CoreOptions, Corestore, Download, DownloadRange, Encryption, Event, Events,
    SessionOptions,
};
use crate::wire::oplog::{OplogBlock, VERSION};
use crate::wire::{Decode as _, Index, Length};

const REFERRER: &str = "referrer";
const LOCAL: &str = "autobee/local";
const ENCRYPTION: &str = "autobee/encryption";
/// What earlier versions of the original call [`LOCAL`].
const LOCAL_LEGACY: &str = "autobase/local";
/// The name of the local writer in the store.
const LOCAL_NAME: &str = "local";

/// Version of the manifests that we make.
pub(super) const MANIFEST_VERSION: u64 = 2;

/// The open cores of a database.
pub(super) struct DatabaseCores<E: Env> {
    store: Corestore<E>,
    database: CoreKey,
    local: CoreKey,
    keys: Option<DatabaseKeys>,
    open: BTreeMap<CoreKey, Member<E>>,
    /// Of the blocks that were taken, as far as cores were ever truncated.
    forks: BTreeMap<CoreKey, u64>,
    /// Cores that were closed although the engine has blocks of them: how many, and their fork.
    closed: BTreeMap<CoreKey, (u64, u64)>,
    /// Cores that lacked blocks when they changed last.
    filling: BTreeSet<CoreKey>,
}

struct Member<E: Env> {
    core: Core<E>,
    /// Asks peers for all blocks, as long as it lives. None for the core that only we write.
    _download: Option<Download<E>>,
    events: Events,
    /// Leading blocks that the engine has.
    fed: u64,
    /// Events were missed since the last look.
    has_missed: bool,
    /// The fork that they are of.
    fork: u64,
    stalled: Option<Stalled>,
}

/// How much there is of one log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) key: CoreKey,
    /// As far as a peer proved it.
    pub(super) length: Length,
    /// Leading blocks that are here.
    pub(super) have: Length,
}

/// Why nothing more of a core is taken. The database goes on without it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Stalled {
    /// Its owner rewrote blocks that were in the order already. They stay there until the database is opened again, or
    /// the order is made anew for another reason.
    #[error("its owner rewrote it from block {kept} on, and {taken} blocks were taken before")]
    Rewritten {
        /// Leading blocks that are as before, as far as is known.
        kept: u64,
        /// Leading blocks that were taken.
        taken: u64,
        /// The fork that replaced them.
        fork: u64,
    },
    /// Its owner signed two logs of the same length.
    #[error("its owner signed two logs of {length} blocks at fork {fork}")]
    Conflict {
        /// The length.
        length: u64,
        /// The fork.
        fork: u64,
    },
    /// It holds a block that is not encrypted as it should be.
    #[error(transparent)]
    Sealed(CipherError),
    /// It holds a block that no peer takes.
    #[error(transparent)]
    Frozen(#[from] Frozen),
}

/// All blocks there are and will be.
const ALL: DownloadRange = DownloadRange {
    start: 0,
    end: None,
    is_linear: true,
};

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
        key_pair: Option<KeyPair>,
    ) -> Result<Self, Error> {
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
            forks: BTreeMap::new(),
            closed: BTreeMap::new(),
            filling: BTreeSet::new(),
            store,
        };
        cores.add(local)?;
        cores.add(bootstrap)?;
        for name in cores.store.list()? {
            let mut options = CoreOptions::discovery_key(name);
            options.session = encrypted.clone();
            let core = cores.store.get(options).await?;
            if key_at(&core, REFERRER)? == Some(database) {
                cores.add(core)?;
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

    /// Takes a core in, and asks peers for its blocks from now on. False when it is here already.
    pub(super) fn add(&mut self, core: Core<E>) -> Result<bool, CoreError> {
        let key = core.key();
        if self.open.contains_key(&key) {
            return Ok(false);
        }
        let download = if key == self.local {
            None
        } else {
            Some(core.download(ALL)?)
        };
        let mut member = Member {
            _download: download,
            events: core.events()?,
            fed: 0,
            has_missed: false,
            fork: core.fork()?,
            stalled: None,
            core,
        };
        if let Some((fed, fork)) = self.closed.remove(&key) {
            member.fed = fed;
            member.stalled = (fork != member.fork).then_some(Stalled::Rewritten {
                kept: 0,
                taken: fed,
                fork: member.fork,
            });
        }
        self.forks
            .extend(Some((key, member.fork)).filter(|(_, fork)| *fork > 0));
        self.open.insert(key, member);
        self.look(&key);
        Ok(true)
    }

    /// Lets go of a core: it is not fetched any more, and is none of this database's when that is opened again.
    pub(super) fn close(&mut self, key: &CoreKey) -> Result<(), CoreError> {
        let Some(member) = self.open.remove(key) else {
            return Ok(());
        };
        if member.fed > 0 {
            self.closed.insert(*key, (member.fed, member.fork));
        }
        self.forks.remove(key);
        self.filling.remove(key);
        self.store
            .transact(|change| change.set_user_data(&member.core, REFERRER, None))?;
        Ok(())
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

    /// The first blocks of a core that are stored here, when they are those that were taken of it.
    pub(super) fn taken_blocks(&self, key: &CoreKey, length: Length) -> Option<Vec<Bytes>> {
        let member = self.open.get(key)?;
        let is_taken = !member.is_rewritten() && length.0 <= member.fed;
        let blocks = (0..length.0).map(|index| member.core.get_local(index).ok().flatten());
        is_taken.then(|| blocks.collect()).flatten()
    }

    /// How many blocks of its batch come before the last one of these.
    ///
    /// Those are counted by what they say of the blocks behind them, which every peer checks. What the last one says of
    /// them nobody does.
    pub(super) fn blocks_before(&self, key: &CoreKey, last: Length) -> Option<u64> {
        let core = self.get(key)?;
        let block = |index: u64| {
            let block = core.get_local(index).ok()??;
            OplogBlock::from_bytes(&block).ok()
        };
        let last = last.last()?.0;
        if block(last)?.version < VERSION {
            return Some(0);
        }
        let is_before = |before: &u64| {
            let found = last.checked_sub(*before).and_then(block);
            found.is_some_and(|block| block.batch.after == *before)
        };
        Some((1..=last).take_while(is_before).count() as u64)
    }

    /// How long the logs are, by key.
    pub(super) fn known(&self) -> impl Iterator<Item = Known> {
        self.open.iter().map(|(key, member)| member.known(*key))
    }

    /// The cores of which blocks are on their way that a peer has proved to exist.
    pub(super) fn filling(&self) -> impl Iterator<Item = CoreKey> {
        self.filling.iter().copied()
    }

    /// Takes note that a core changed.
    fn look(&mut self, key: &CoreKey) {
        let known = self.open.get(key).map(|member| member.known(*key));
        if known.is_some_and(|known| known.have < known.length) {
            self.filling.insert(*key);
        } else {
            self.filling.remove(key);
        }
    }

    /// Hears of every change of a core.
    pub(super) fn changes(&self, key: &CoreKey) -> Result<watch::Receiver<u64>, CoreError> {
        self.get(key).ok_or(CoreError::Unknown)?.changes()
    }

    // Blocks.

    /// The blocks that came after those that were taken before, with the index of the first.
    pub(super) fn take_new(&mut self, key: &CoreKey) -> Result<(Index, Vec<Bytes>), CoreError> {
        self.look(key);
        let member = self.open.get_mut(key).ok_or(CoreError::Unknown)?;
        let from = Index(member.fed);
        let taken = member.take_new();
        let has_missed = std::mem::take(&mut member.has_missed);
        self.store.env().sometimes(Point::EventsMissed, has_missed);
        match taken {
            Err(CoreError::Signatures { .. }) if member.is_rewritten() => Ok((from, Vec::new())),
            Err(CoreError::Signatures { length, fork }) => {
                member.stalled = Some(Stalled::Conflict { length, fork });
                Ok((from, member.take_stored()?))
            }
            taken => {
                let taken = taken?;
                // Of a core that was rewritten stays what was taken before.
                let fork = Some(member.fork).filter(|fork| *fork > 0 && member.stalled.is_none());
                self.forks.extend(fork.map(|fork| (*key, fork)));
                Ok((from, taken))
            }
        }
    }

    /// The forks of the blocks that were taken; cores that are not here were never truncated.
    pub(super) const fn forks(&self) -> &BTreeMap<CoreKey, u64> {
        &self.forks
    }

    /// Makes blocks count as taken up to these lengths, before anything is taken.
    pub(super) fn begin_at(&mut self, length: impl Fn(&CoreKey) -> Length) {
        for (key, member) in &mut self.open {
            member.fed = length(key).0;
        }
    }

    /// True when blocks that were taken are not those of their core any more.
    pub(super) fn are_rewritten(&self) -> bool {
        self.open.values().any(Member::is_rewritten)
    }

    /// Makes blocks count as not taken from these lengths on: all, when some were rewritten. Gives the cores that are
    /// open.
    pub(super) fn feed_from(&mut self, length: impl Fn(&CoreKey) -> Length) -> Vec<CoreKey> {
        for (key, member) in &mut self.open {
            member.fed = member.fed.min(length(key).0);
            // What is wrong with its blocks is found again at the same one.
            member.stalled = None;
        }
        // What is closed is not here any more.
        self.closed.clear();
        self.open.keys().copied().collect()
    }

    /// Why nothing more of a core is taken; none when all is well with it.
    pub(super) fn stalled(&self, key: &CoreKey) -> Option<&Stalled> {
        self.open.get(key)?.stalled.as_ref()
    }

    /// How much of a core peers may see.
    pub(super) fn offered_length(&self, key: &CoreKey) -> Length {
        let offered = self.get(key).and_then(|core| core.offered_contiguous().ok());
        Length(offered.unwrap_or_default())
    }

    /// How many leading blocks of a core were taken.
    pub(super) fn taken(&self, key: &CoreKey) -> Length {
        Length(self.open.get(key).map_or(0, |member| member.fed))
    }

    /// How many leading blocks of a core are here; none when it is not open.
    pub(super) fn here(&self, key: &CoreKey) -> Option<Length> {
        self.get(key)?.contiguous_length().ok().map(Length)
    }

    /// How long the local log is.
    pub(super) fn local_length(&self) -> Result<Length, CoreError> {
        let core = self.get(&self.local).ok_or(CoreError::Unknown)?;
        core.length().map(Length)
    }

    /// The local log.
    pub(super) fn local_core(&self) -> Result<&Core<E>, CoreError> {
        self.get(&self.local).ok_or(CoreError::Closed)
    }

    /// Ends all sessions.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}

impl<E: Env> Member<E> {
    fn known(&self, key: CoreKey) -> Known {
        Known {
            key,
            length: Length(self.core.length().unwrap_or_default()),
            have: Length(self.core.contiguous_length().unwrap_or_default()),
        }
    }

    fn take_new(&mut self) -> Result<Vec<Bytes>, CoreError> {
        loop {
            self.notice_rewriting()?;
            if self.stalled.is_some() {
                return Ok(Vec::new());
            }
            let mut blocks = Vec::new();
            // Nothing counts as taken when one of them cannot be read.
            let mut next = self.fed;
            let mut sealed = None;
            loop {
                match self.core.get_local(next) {
                    Ok(Some(block)) => blocks.push(block),
                    Ok(None) => break,
                    Err(CoreError::Cipher(source)) => {
                        sealed = Some(source);
                        break;
                    }
                    Err(error) => return Err(error),
                }
                next += 1;
            }
            // Blocks of two forks would be mixed otherwise.
            if self.core.fork()? == self.fork {
                self.fed = next;
                self.stalled = sealed.map(Stalled::Sealed);
                return Ok(blocks);
            }
        }
    }

    /// The blocks that are stored, of a core that is closed for good.
    fn take_stored(&mut self) -> Result<Vec<Bytes>, CoreError> {
        let mut blocks = Vec::new();
        loop {
            match self.core.get_contradicted(self.fed) {
                Ok(Some(block)) => blocks.push(block),
                Ok(None) | Err(CoreError::Cipher(_)) => return Ok(blocks),
                Err(error) => return Err(error),
            }
            self.fed += 1;
        }
    }

    const fn is_rewritten(&self) -> bool {
        matches!(self.stalled, Some(Stalled::Rewritten { .. }))
    }

    /// Looks whether blocks that were taken are not those of the core any more.
    fn notice_rewriting(&mut self) -> Result<(), CoreError> {
        let fork = self.core.fork()?;
        let mut kept = u64::MAX;
        while let Some(event) = self.events.try_next() {
            match event {
                Event::Truncate { ancestors, .. } => kept = ancestors.min(kept),
                Event::Missed(_) => {
                    self.has_missed = true;
                    if fork != self.fork {
                        // Perhaps a truncation was among them.
                        kept = 0;
                    }
                }
                _ => {}
            }
        }
        self.fork = fork;
        if kept < self.fed {
            self.stalled = Some(Stalled::Rewritten {
                kept,
                taken: self.fed,
                fork,
            });
        }
        Ok(())
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
