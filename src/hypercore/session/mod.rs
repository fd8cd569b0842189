//! Sessions: handles to a core, or to a named line of its blocks.
//!
//! All sessions of a core see the same blocks. A named session has its own continuation of them, which is never
//! signed, survives a reopening, and can be committed into the core. Reading waits for blocks that peers may bring, as
//! long as [`Wait`] says; writing happens in one step, and an append that returned is durable.
//!
//! Source: spec/hypercore.md 9.

mod read;

pub(super) use read::open_block;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::authority::Authority;
use super::change::LineSelector;
use super::cores::{Conflict, Demand, OpenCore, OpenCores};
use super::corestore::CorestoreShared;
use super::encryption::{BlockCipher, CoreCipher};
use super::error::CoreError;
use super::event::CoreEvents;
use super::line::Line;
use super::manifest::Manifest;
use super::proof::Head;
use super::snapshot::CoreSnapshot;
use super::wait::{Woken, changed};
use crate::crypto::{CoreKey, DiscoveryKey, Hash, KeyPair};
use crate::env::{BoxFuture, Env, Planted, Slip};
use crate::store::{CorePointer, Key, Snapshot};
use crate::wire::{Index, Length};

/// Options of a session.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// The session cannot write, whatever key pair there is.
    pub is_read_only: bool,
    /// Only one exclusive session of a core is open at a time; others wait in order. Not for read-only ones.
    pub is_exclusive: bool,
    /// The session only serves peers: the core is let go when all others are closed.
    pub is_serving: bool,
    /// How blocks are encrypted.
    pub encryption: Option<Encryption>,
}

/// The choice of a cipher for the blocks of a core.
#[derive(Clone)]
pub enum Encryption {
    /// With keys that follow from this one and the core.
    Key([u8; 32]),
    /// With this key itself.
    BlockKey([u8; 32]),
    /// In some other way.
    Cipher(Arc<dyn BlockCipher>),
    /// In a way that depends on the core and its manifest.
    ByManifest(ChooseCipher),
}

/// Says how the blocks of a core with this key and manifest are encrypted.
pub type ChooseCipher = Arc<dyn Fn(&CoreKey, &Manifest) -> Arc<dyn BlockCipher> + Send + Sync>;

/// A handle to a core. Dropping it closes the session; a core without sessions is unloaded.
pub struct Core<E: Env> {
    pub(super) shared: Arc<CorestoreShared<E>>,
    pointer: CorePointer,
    place: LineSelector,
    id: u64,
    options: SessionOptions,
    /// Signs instead of the key pair that is stored with the core.
    key_pair: Option<KeyPair>,
    key: CoreKey,
    discovery_key: DiscoveryKey,
}

/// A place among the sessions of a core, which keeps it loaded.
#[derive(Clone, Copy)]
pub(super) struct SessionPlace {
    pointer: CorePointer,
    id: u64,
    key: CoreKey,
    discovery_key: DiscoveryKey,
}

impl SessionPlace {
    pub(super) fn take(
        cores: &mut OpenCores,
        pointer: CorePointer,
        options: &SessionOptions,
    ) -> Result<Self, CoreError> {
        let id = cores.next_session;
        cores.next_session += 1;
        let core = cores.get_mut(pointer)?;
        let is_first = !core.is_used();
        core.sessions.insert(id);
        if options.is_exclusive && !options.is_read_only {
            core.exclusive.push_back(id);
        }
        let taken = Self {
            pointer,
            id,
            key: *core.key(),
            discovery_key: core.discovery_key,
        };
        if options.is_serving {
            core.serving.insert(id);
        } else if is_first {
            cores.openings.send_modify(|count| *count = count.wrapping_add(1));
        }
        Ok(taken)
    }
}

impl<E: Env> Core<E> {
    pub(super) fn start(
        shared: Arc<CorestoreShared<E>>,
        pointer: CorePointer,
        place: LineSelector,
        options: SessionOptions,
        key_pair: Option<KeyPair>,
    ) -> Result<Self, CoreError> {
        let taken = SessionPlace::take(&mut shared.lock(), pointer, &options)?;
        Ok(Self::with_session_place(shared, taken, place, options, key_pair))
    }

    /// The session of a place that was taken in the change that opened the core.
    pub(super) const fn with_session_place(
        shared: Arc<CorestoreShared<E>>,
        taken: SessionPlace,
        place: LineSelector,
        options: SessionOptions,
        key_pair: Option<KeyPair>,
    ) -> Self {
        let SessionPlace {
            pointer,
            id,
            key,
            discovery_key,
        } = taken;
        Self {
            shared,
            pointer,
            place,
            id,
            options,
            key_pair,
            key,
            discovery_key,
        }
    }

    // Who it is.

    /// The key.
    #[must_use]
    pub const fn key(&self) -> CoreKey {
        self.key
    }

    /// What the core is called in public.
    #[must_use]
    pub const fn discovery_key(&self) -> DiscoveryKey {
        self.discovery_key
    }

    /// The manifest, once known.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn manifest(&self) -> Result<Option<Manifest>, CoreError> {
        self.look(|core, _| Ok(core.manifest().cloned()))
    }

    /// The key pair with which this session signs.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn key_pair(&self) -> Result<Option<KeyPair>, CoreError> {
        self.look(|core, _| Ok(self.key_pair.clone().or_else(|| core.auth.key_pair.clone())))
    }

    /// True when this session may append.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.authority(&self.shared.lock(), Authority::default()).is_ok()
    }

    // What it holds.

    /// Number of blocks.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn length(&self) -> Result<Length, CoreError> {
        self.look(|_, line| Ok(Length(line.head.tree.length())))
    }

    /// How often it was truncated.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn fork(&self) -> Result<u64, CoreError> {
        self.look(|_, line| Ok(line.head.tree.fork()))
    }

    /// Bytes of all blocks, without padding.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn byte_length(&self) -> Result<u64, CoreError> {
        let padding = self.padding()?;
        self.look(|_, line| {
            let tree = &line.head.tree;
            Ok(tree
                .byte_length()
                .saturating_sub(padding.saturating_mul(tree.length())))
        })
    }

    /// Number of leading blocks that are stored here.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn contiguous_length(&self) -> Result<Length, CoreError> {
        self.look(|core, line| {
            let main = core.main.blocks.contiguous_length();
            let length = match line.parent {
                Some(parent) if main >= parent.length => line.head.tree.length(),
                _ => main,
            };
            Ok(Length(length.min(line.head.tree.length())))
        })
    }

    /// Number of leading blocks that the owner's signature covers: for a named session those that it shares with the
    /// core. Of a core that was left unsigned by a crash that is not known before it is signed again: 0.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn signed_length(&self) -> Result<Length, CoreError> {
        self.look(|core, line| {
            let length = core.offer.newest().tree.length();
            Ok(Length(
                line.parent.map_or(length, |parent| parent.length.min(length)),
            ))
        })
    }

    /// The hash over all blocks.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn tree_hash(&self) -> Result<Hash, CoreError> {
        self.look(|_, line| Ok(line.head.tree.hash()))
    }

    /// The tree with its signature.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn head(&self) -> Result<Head, CoreError> {
        self.look(|_, line| Ok(line.head.clone()))
    }

    /// True when all blocks of the range are stored here. An empty range is.
    ///
    /// # Errors
    /// When the session is closed, or the store fails.
    pub fn has(&self, range: Range<Index>) -> Result<bool, CoreError> {
        let range = range.start.0..range.end.0;
        self.look(|core, line| {
            let base = line.base();
            if line.parent.is_none() {
                return Ok(core.main.blocks.has_all(range));
            }
            if range.start < base && !core.main.blocks.has_all(range.start..range.end.min(base)) {
                return Ok(false);
            }
            let snapshot = self.shared.store.snapshot()?;
            for index in range.start.max(base)..range.end {
                if !snapshot.contains(&Key::Block(line.data, index))? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    // Other sessions.

    /// Another session of the same blocks.
    ///
    /// # Errors
    /// When this session is closed.
    pub async fn session(&self, options: SessionOptions) -> Result<Self, CoreError> {
        self.another(options).await
    }

    fn another(&self, options: SessionOptions) -> BoxFuture<'_, Result<Self, CoreError>> {
        Box::pin(async move {
            self.look(|_, _| Ok(()))?;
            let session = self.child(self.place.clone(), options)?;
            session.wait_for_turn().await?;
            Ok(session)
        })
    }

    /// The blocks as they are now, whatever happens to the core.
    ///
    /// # Errors
    /// When this session is closed, or the store fails.
    pub fn snapshot(&self) -> Result<CoreSnapshot<E>, CoreError> {
        let padding_cipher = self.cipher(&self.shared.lock())?;
        let (line, snapshot) = self.line()?;
        CoreSnapshot::start(
            Arc::clone(&self.shared),
            self.pointer,
            line,
            snapshot,
            padding_cipher,
        )
    }

    /// Listens to the core.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn events(&self) -> Result<CoreEvents, CoreError> {
        self.look(|core, _| Ok(CoreEvents(core.events.subscribe())))
    }

    /// Ends the session: whoever waits in it is told so.
    pub fn close(&self) {
        self.leave();
    }

    // For the modules around.

    pub(super) const fn pointer(&self) -> CorePointer {
        self.pointer
    }

    /// The slips that are to be made.
    pub(crate) fn planted(&self) -> Planted {
        self.shared.planted
    }

    pub(super) const fn options(&self) -> &SessionOptions {
        &self.options
    }

    pub(super) const fn place(&self) -> &LineSelector {
        &self.place
    }

    /// Waits until this session is the exclusive one, if it is to be.
    pub(super) async fn wait_for_turn(&self) -> Result<(), CoreError> {
        let mut changes = self.shared.changes(self.pointer)?;
        loop {
            changes.mark_unchanged();
            let is_waiting = self.look(|core, _| {
                Ok(core.exclusive.contains(&self.id) && core.exclusive.front() != Some(&self.id))
            })?;
            if !is_waiting {
                return Ok(());
            }
            if changed(&mut changes, self.shared.env.clock(), None).await == Woken::Closed {
                return Err(CoreError::Closed);
            }
        }
    }

    /// Where this session writes, and in whose name.
    pub(super) fn authority(
        &self,
        cores: &OpenCores,
        given: Authority,
    ) -> Result<(LineSelector, Authority), CoreError> {
        let core = self.open_core(cores)?;
        if self.options.is_read_only {
            return Err(CoreError::NotWritable);
        }
        let key_pair = given
            .key_pair
            .clone()
            .or_else(|| self.key_pair.clone())
            .or_else(|| core.auth.key_pair.clone());
        let is_fixed = core
            .manifest()
            .is_some_and(|manifest| manifest.signers().is_empty());
        if self.place == LineSelector::Main && key_pair.is_none() && given.signature.is_none() && !is_fixed {
            return Err(CoreError::NotWritable);
        }
        let authority = Authority { key_pair, ..given };
        Ok((self.place.clone(), authority))
    }

    /// How blocks of this session are encrypted. Nothing while the manifest is unknown: it decides about the keys.
    pub(super) fn cipher(&self, cores: &OpenCores) -> Result<Option<Arc<dyn BlockCipher>>, CoreError> {
        Ok(self.cipher_of(self.open_core(cores)?))
    }

    fn cipher_of(&self, core: &OpenCore) -> Option<Arc<dyn BlockCipher>> {
        match &self.options.encryption {
            None => None,
            Some(Encryption::Cipher(cipher)) => Some(Arc::clone(cipher)),
            Some(Encryption::BlockKey(key)) => Some(Arc::new(CoreCipher::with_block_key(key))),
            Some(Encryption::ByManifest(choose)) => {
                core.manifest().map(|manifest| choose(&self.key, manifest))
            }
            Some(Encryption::Key(_)) if core.manifest().is_none() => None,
            Some(Encryption::Key(key)) => Some(Arc::new(CoreCipher::new(key, &self.key, core.is_compat()))),
        }
    }

    /// Runs `look` on the core and its line, if the session is open.
    pub(super) fn look<T>(
        &self,
        look: impl FnOnce(&OpenCore, &Line) -> Result<T, CoreError>,
    ) -> Result<T, CoreError> {
        let cores = self.shared.lock();
        let core = self.open_core(&cores)?;
        look(core, line_of(core, &self.place)?)
    }

    /// The line with the state of the store that belongs to it.
    pub(super) fn line(&self) -> Result<(Line, Box<dyn Snapshot>), CoreError> {
        self.look(|_, line| Ok((line.shadow(), self.shared.store.snapshot()?)))
    }

    pub(super) fn open_core<'a>(&self, cores: &'a OpenCores) -> Result<&'a OpenCore, CoreError> {
        let core = cores.get(self.pointer)?;
        if let Some(Conflict {
            length,
            fork,
            sessions,
        }) = core.conflict
            && (self.id < sessions
                || self.shared.planted.has(Slip::ConflictEndsLater)
                || (core.serving.contains(&self.id) && self.shared.planted.has(Slip::ContradictedUnserved)))
        {
            return Err(CoreError::Signatures { length, fork });
        }
        if core.sessions.contains(&self.id) {
            Ok(core)
        } else {
            Err(CoreError::Closed)
        }
    }

    pub(super) fn child(&self, place: LineSelector, mut options: SessionOptions) -> Result<Self, CoreError> {
        options.is_read_only |= self.options.is_read_only;
        options.encryption = self.options.encryption.clone().or(options.encryption);
        let shared = Arc::clone(&self.shared);
        Self::start(shared, self.pointer, place, options, self.key_pair.clone())
    }

    fn leave(&self) {
        let mut cores = self.shared.lock();
        let Some(core) = cores.open.get_mut(&self.pointer) else {
            return;
        };
        if !core.sessions.remove(&self.id) {
            return;
        }
        let served = core.serving.remove(&self.id);
        core.exclusive.retain(|id| *id != self.id);
        core.bump();
        if core.sessions.is_empty() {
            cores.open.remove(&self.pointer);
        } else if !served && !core.is_used() && core.demand == Demand::default() {
            core.let_go += 1;
            cores.let_go += 1;
            cores.openings.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

impl<E: Env> Drop for Core<E> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<E: Env> fmt::Debug for Core<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Core({}, {:?})", self.key, self.place)
    }
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encryption(..)")
    }
}

pub(super) fn line_of<'a>(core: &'a OpenCore, place: &LineSelector) -> Result<&'a Line, CoreError> {
    match place {
        LineSelector::Main => Ok(&core.main),
        LineSelector::Named(name) => core.named.get(name).ok_or(CoreError::Closed),
    }
}
