//! A log in memory, of which blocks come in any order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use autobee::crypto::{CoreKey, KeyPair};
use autobee::hypercore::manifest::Manifest;
use autobee::hypercore::{CoreError, CoreEvent};
use autobee::sim_hooks::machine::{LogEvents, StoredLog};
use autobee::store::StoreError;
use autobee::wire::Length;
use bytes::Bytes;

/// What one peer has of a log.
#[derive(Debug)]
pub struct HeldLog {
    key: CoreKey,
    /// Of the log that the peer writes.
    pair: Option<KeyPair>,
    blocks: Mutex<BTreeMap<u64, Bytes>>,
    manifest: Option<Bytes>,
    is_broken: AtomicBool,
    is_contradicted: AtomicBool,
}

impl HeldLog {
    /// An empty one that the owner of this key pair writes.
    #[must_use]
    pub fn own(pair: KeyPair) -> Self {
        let manifest = Manifest::single(pair.public);
        Self {
            key: manifest.key(),
            manifest: Some(Bytes::copy_from_slice(manifest.as_bytes())),
            pair: Some(pair),
            blocks: Mutex::default(),
            is_broken: AtomicBool::new(false),
            is_contradicted: AtomicBool::new(false),
        }
    }

    /// An empty one of somebody else.
    #[must_use]
    pub fn of(key: CoreKey, manifest: Option<Bytes>) -> Self {
        Self {
            key,
            pair: None,
            blocks: Mutex::default(),
            manifest,
            is_broken: AtomicBool::new(false),
            is_contradicted: AtomicBool::new(false),
        }
    }

    /// A block came.
    pub fn put(&self, index: u64, block: Bytes) {
        self.blocks().insert(index, block);
    }

    /// Blocks come behind its end. Gives the length.
    pub fn append(&self, blocks: Vec<Bytes>) -> u64 {
        let mut held = self.blocks();
        for block in blocks {
            let end = held.len() as u64;
            held.insert(end, block);
        }
        held.len() as u64
    }

    /// From now on no block of it can be read.
    pub fn fail(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }

    /// From now on it is known that its owner signed two histories of it.
    pub fn contradict(&self) {
        self.is_contradicted.store(true, Ordering::Relaxed);
    }

    /// All leading blocks.
    #[must_use]
    pub fn leading(&self) -> Vec<Bytes> {
        let held = self.blocks();
        (0..).map_while(|index| held.get(&index).cloned()).collect()
    }

    /// How many leading blocks there are.
    #[must_use]
    pub fn leading_length(&self) -> u64 {
        let held = self.blocks();
        (0..).take_while(|index| held.contains_key(index)).count() as u64
    }

    /// What a session of it says, of a length of which there are two.
    fn check(&self) -> Result<(), CoreError> {
        if self.is_contradicted.load(Ordering::Relaxed) {
            let length = Length(self.leading_length());
            return Err(CoreError::Signatures { length, fork: 0 });
        }
        Ok(())
    }

    fn stored(&self, index: u64) -> Result<Option<Bytes>, CoreError> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(StoreError::Fenced.into());
        }
        Ok(self.blocks().get(&index).cloned())
    }

    fn blocks(&self) -> MutexGuard<'_, BTreeMap<u64, Bytes>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nobody rewrites a log here.
#[derive(Debug)]
pub struct NoEvents;

impl LogEvents for NoEvents {
    fn try_next(&mut self) -> Option<CoreEvent> {
        None
    }
}

impl StoredLog for HeldLog {
    type Events = NoEvents;

    fn key(&self) -> CoreKey {
        self.key
    }

    fn length(&self) -> Result<u64, CoreError> {
        self.check()?;
        let last = self.blocks().last_key_value().map(|(index, _)| *index);
        Ok(last.map_or(0, |last| last + 1))
    }

    fn contiguous_length(&self) -> Result<u64, CoreError> {
        Ok(self.leading_length())
    }

    fn offered_length(&self) -> Result<u64, CoreError> {
        self.contiguous_length()
    }

    fn fork(&self) -> Result<u64, CoreError> {
        self.check()?;
        Ok(0)
    }

    fn block(&self, index: u64) -> Result<Option<Bytes>, CoreError> {
        self.check()?;
        self.stored(index)
    }

    fn contradicted_block(&self, index: u64) -> Result<Option<Bytes>, CoreError> {
        self.stored(index)
    }

    fn contradicted_lengths(&self) -> Result<(u64, u64), CoreError> {
        let last = self.blocks().last_key_value().map(|(index, _)| index + 1);
        Ok((last.unwrap_or_default(), self.leading().len() as u64))
    }

    fn manifest(&self) -> Result<Option<Bytes>, CoreError> {
        Ok(self.manifest.clone())
    }

    fn key_pair(&self) -> Result<Option<KeyPair>, CoreError> {
        Ok(self.pair.clone())
    }

    fn events(&self) -> Result<NoEvents, CoreError> {
        Ok(NoEvents)
    }
}
