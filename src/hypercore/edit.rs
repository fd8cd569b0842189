//! What a session changes: appends, truncations, values, named sessions and their commits.
//!
//! Source: spec/hypercore.md 9.1 and 9.3.

use std::ops::Range;

use bytes::Bytes;

use super::authority::Authority;
use super::change::{LengthAndSize, LineSelector};
use super::error::CoreError;
use super::manifest::Manifest;
use super::session::{Core, SessionOptions, line_of};
use crate::crypto::KeyPair;
use crate::env::Env;
use crate::store::{Seq, StoreError};
use crate::wire::{Index, Length};

/// Options of a named session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NamedOptions {
    /// Start over if it exists.
    pub overwrite: bool,
    /// Begin with only so many blocks.
    pub checkout: Option<Length>,
}

/// Options of an append.
#[derive(Debug, Clone, Default)]
pub struct CoreAppendOptions {
    /// Sign with this key pair.
    pub key_pair: Option<KeyPair>,
    /// Do not sign, but use this signature. It must hold.
    pub signature: Option<Bytes>,
    /// Append nothing if the core would become longer than this.
    pub length_max: Option<Length>,
}

impl<E: Env> Core<E> {
    // Writing.

    /// Appends blocks under one signature; when it returns they survive a power cut. No blocks: nothing happens.
    ///
    /// # Errors
    /// When the session may not write, a block is too large, or the store fails.
    pub async fn append(&self, blocks: Vec<Bytes>) -> Result<LengthAndSize, CoreError> {
        let (appended, seq) = self.append_visible(blocks, CoreAppendOptions::default())?;
        self.shared.wait_durable(self.pointer(), seq).await?;
        Ok(appended)
    }

    /// Appends blocks, and returns before they are durable; peers are not shown them until they are. Gives the commit
    /// that holds them, see [`super::Corestore::synced`].
    ///
    /// # Errors
    /// As [`Core::append`].
    pub fn append_visible(
        &self,
        blocks: Vec<Bytes>,
        options: CoreAppendOptions,
    ) -> Result<(LengthAndSize, Seq), CoreError> {
        let CoreAppendOptions {
            key_pair,
            signature,
            length_max,
        } = options;
        self.shared.change(|change| {
            let given = Authority {
                key_pair,
                signature,
                is_deferred: false,
            };
            let (place, authority) = self.authority(change.cores, given)?;
            let cipher = self.cipher(change.cores)?;
            let length = line_of(change.cores.get(self.pointer())?, self.place())?
                .head
                .tree
                .length();
            let end = length.saturating_add(blocks.len() as u64);
            let blocks = if length_max.is_some_and(|most| end > most.0) {
                Vec::new()
            } else {
                blocks
            };
            change.append(self.pointer(), &place, blocks, cipher.as_deref(), &authority)
        })
    }

    /// Signs the head if that was put off, see [`super::Transaction::append_unsigned`]. Peers are shown it once it is
    /// durable, which is asked for here and not waited for. Gives the commit; none when there is nothing to sign.
    ///
    /// # Errors
    /// When the session may not write, or the store fails.
    pub fn sign_head(&self) -> Result<Option<Seq>, CoreError> {
        if self.look(|core, _| Ok(!core.is_unsigned()))? {
            return Ok(None);
        }
        let ((), seq) = self.shared.change(|change| {
            let (_, authority) = self.authority(change.cores, Authority::default())?;
            change.sign_main(self.pointer(), &authority)
        })?;
        self.shared.store.request_sync();
        Ok(Some(seq))
    }

    /// Cuts the core to `length` blocks; the fork becomes `fork`, or the next one. Durable when it returns.
    ///
    /// # Errors
    /// When the session may not write, `length` is beyond the end, or the store fails.
    pub async fn truncate(&self, length: Length, fork: Option<u64>) -> Result<(), CoreError> {
        let ((), seq) = self.shared.change(|change| {
            let (place, authority) = self.authority(change.cores, Authority::default())?;
            change.truncate(self.pointer(), &place, length.0, fork, &authority)
        })?;
        self.shared.wait_durable(self.pointer(), seq).await
    }

    /// Drops blocks from the local store. Length, tree and signature stay, and peers may bring the blocks again.
    ///
    /// # Errors
    /// When the session is closed, or the store fails.
    pub fn clear(&self, range: Range<Index>) -> Result<(), CoreError> {
        let range = range.start.0..range.end.0;
        self.look(|_, _| Ok(()))?;
        self.shared
            .change(|change| change.clear(self.pointer(), self.place(), range))
            .map(|_| ())
    }

    /// Drops a block that the store gives other bytes of than it was given, so that peers bring it again. True when that is
    /// what this error says. Only the main session's blocks are at peers.
    pub(crate) fn drop_rotten(&self, index: u64, error: &CoreError) -> bool {
        let is_rotten = matches!(error, CoreError::Store(StoreError::Corrupt(_)));
        is_rotten
            && *self.place() == LineSelector::Main
            && self.clear(Index(index)..Index(index.saturating_add(1))).is_ok()
    }

    /// Keeps a value with the core, or with the named session; none removes it. Durable when it returns.
    ///
    /// # Errors
    /// When the session is closed, or the store fails.
    pub async fn set_user_data(&self, key: impl AsRef<[u8]>, value: Option<Bytes>) -> Result<(), CoreError> {
        self.look(|_, _| Ok(()))?;
        let key = Bytes::copy_from_slice(key.as_ref());
        let ((), seq) = self
            .shared
            .change(|change| change.set_user_data(self.pointer(), self.place(), key, value))?;
        self.shared.wait_durable(self.pointer(), seq).await
    }

    /// Records the manifest of a core that was opened by key.
    ///
    /// # Errors
    /// When it does not hash to the key, or another one is known.
    pub fn set_manifest(&self, manifest: Manifest) -> Result<(), CoreError> {
        if manifest.key() != self.key() && !manifest.is_compat(&self.key()) {
            return Err(CoreError::KeyMismatch { key: self.key() });
        }
        self.shared
            .change(|change| match change.cores.get(self.pointer())?.manifest() {
                Some(known) if *known == manifest => Ok(()),
                Some(_) => Err(CoreError::Conflict("manifest")),
                None => change.edit_auth(self.pointer(), |auth| {
                    auth.manifest = Some(manifest);
                    Ok(())
                }),
            })
            .map(|_| ())
    }

    // Named sessions.

    /// A session with its own continuation of the blocks that this one has now.
    ///
    /// # Errors
    /// When this session is closed, or the store fails.
    pub async fn named(&self, name: &str, options: NamedOptions) -> Result<Self, CoreError> {
        self.look(|_, _| Ok(()))?;
        let place = LineSelector::Named(name.to_owned());
        let ((), seq) = self.shared.change(|change| {
            change.open_named(self.pointer(), name, self.place(), options.overwrite)?;
            if let Some(Length(length)) = options.checkout {
                let core = change.cores.get(self.pointer())?;
                let fork = line_of(core, &place)?.head.tree.fork();
                change.truncate(self.pointer(), &place, length, Some(fork), &Authority::default())?;
            }
            Ok(())
        })?;
        self.shared.wait_durable(self.pointer(), seq).await?;
        let options = SessionOptions {
            is_exclusive: false,
            is_read_only: false,
            ..self.options().clone()
        };
        self.child(place, options)
    }

    /// Removes a named session for good; its handles find it gone.
    ///
    /// # Errors
    /// When this session is closed, or the store fails.
    pub fn remove_named(&self, name: &str) -> Result<(), CoreError> {
        self.shared
            .change(|change| change.remove_named(self.pointer(), name))
            .map(|_| ())
    }

    /// Moves the blocks of a named session into the core, up to `length` or all. None, and nothing done, when the core
    /// has gone another way. Durable when it returns.
    ///
    /// # Errors
    /// When this session may not write, the session or the core was truncated since, or the store fails.
    pub async fn commit(
        &self,
        session: &Self,
        length: Option<u64>,
        signature: Option<Bytes>,
    ) -> Result<Option<LengthAndSize>, CoreError> {
        let LineSelector::Named(name) = session.place() else {
            return Err(CoreError::NoCore);
        };
        let (appended, seq) = self.shared.change(|change| {
            let given = Authority {
                key_pair: None,
                signature,
                is_deferred: false,
            };
            let (_, authority) = self.authority(change.cores, given)?;
            change.commit_named(self.pointer(), name, length, &authority)
        })?;
        self.shared.wait_durable(self.pointer(), seq).await?;
        Ok(appended)
    }
}
