//! Reading a core: blocks that are here, blocks that are waited for, positions of bytes, values.

use std::sync::Arc;

use bytes::Bytes;

use crate::env::{Env, Slip};
use crate::hypercore::cores::DownloadRange;
use crate::hypercore::download::{Download, WantedBlock};
use crate::hypercore::encryption::BlockCipher;
use crate::hypercore::error::CoreError;
use crate::hypercore::event::Contradiction;
use crate::hypercore::merkle::Seek;
use crate::hypercore::session::{Core, line_of};
use crate::hypercore::wait::{Wait, Woken, changed};
use crate::store::Key;
use crate::wire::Index;

impl<E: Env> Core<E> {
    /// A block, decrypted. Waits for it if need be; a block that is appended meanwhile counts too.
    ///
    /// # Errors
    /// When it is not here in time, was truncated meanwhile, or the session is closed.
    pub async fn get(&self, index: Index, wait: Wait) -> Result<Bytes, CoreError> {
        let block = self.get_stored(index, wait).await?;
        self.opened(index.0, block)
    }

    /// A block, decrypted, if it is stored here.
    ///
    /// # Errors
    /// When the session is closed, or the store fails.
    pub fn get_local(&self, Index(index): Index) -> Result<Option<Bytes>, CoreError> {
        let block = self.local(index)?;
        block.map(|block| self.opened(index, block)).transpose()
    }

    /// Number of blocks, and of leading blocks that are here, also when the owner of the core contradicted itself since.
    ///
    /// # Errors
    /// When the session is closed.
    pub(crate) fn contradicted_lengths(&self) -> Result<(u64, u64), CoreError> {
        let cores = self.shared.lock();
        let core = cores.get(self.pointer)?;
        let line = line_of(core, &self.place)?;
        let length = line.head.tree.length();
        Ok((length, core.main.blocks.contiguous_length().min(length)))
    }

    /// A block that is stored here, also when the owner of the core contradicted itself since.
    ///
    /// # Errors
    /// As [`Core::get_local`], without [`CoreError::Signatures`].
    pub(crate) fn get_contradicted(&self, index: u64) -> Result<Option<Bytes>, CoreError> {
        let (key, cipher) = {
            let cores = self.shared.lock();
            let core = cores.get(self.pointer)?;
            let line = &core.main;
            if index >= line.head.tree.length() || !line.blocks.has(index) {
                return Ok(None);
            }
            (Key::Block(line.data, index), self.cipher_of(core))
        };
        let block = self.shared.store.snapshot()?.get(&key)?;
        let open = |block| open_block(cipher.as_deref(), index, block);
        block.map(open).transpose()
    }

    /// A block as it is stored: padded and encrypted, if it is.
    ///
    /// # Errors
    /// As [`Core::get`].
    pub async fn get_stored(&self, Index(index): Index, wait: Wait) -> Result<Bytes, CoreError> {
        if let Some(block) = self.local(index)? {
            return Ok(block);
        }
        if wait == Wait::Local {
            return Err(CoreError::Unavailable(Index(index)));
        }
        let clock = self.shared.env.clock();
        let deadline = wait.deadline(clock);
        let mut changes = self.shared.changes(self.pointer)?;
        let (length, fork) = self.look(|_, line| Ok((line.head.tree.length(), line.head.tree.fork())))?;
        let _wanted = WantedBlock::register(&self.shared, self.pointer, index)?;
        loop {
            // A change that comes after this look is not missed.
            changes.mark_unchanged();
            if let Some(block) = self.local(index)? {
                return Ok(block);
            }
            let now = self.look(|_, line| Ok((line.head.tree.length(), line.head.tree.fork())))?;
            if index < length && now.1 != fork && now.0 <= index {
                return Err(CoreError::Truncated(Index(index)));
            }
            let deadline = match self.shared.planted.has(Slip::DeadlineMoves) {
                true => wait.deadline(clock),
                false => deadline,
            };
            match changed(&mut changes, clock, deadline).await {
                Woken::Changed => {}
                Woken::TimedOut => return Err(CoreError::Timeout(Index(index))),
                Woken::Closed => return Err(CoreError::Closed),
            }
        }
    }

    /// Finds the block that holds a byte, counted without padding. Waits until the tree around it is known.
    ///
    /// # Errors
    /// When that takes too long, or the session is closed.
    pub async fn seek(&self, bytes: u64, wait: Wait) -> Result<Seek, CoreError> {
        let clock = self.shared.env.clock();
        let deadline = wait.deadline(clock);
        let padding = self.padding()?;
        let mut changes = self.shared.changes(self.pointer)?;
        let mut wanted = None;
        loop {
            changes.mark_unchanged();
            let (line, snapshot) = self.line()?;
            let found = line.head.tree.seek(bytes, padding, &line.nodes(&*snapshot))?;
            let Seek::Unresolved { start, .. } = found else {
                return Ok(found);
            };
            if wait == Wait::Local {
                return Ok(found);
            }
            // Any block of the range brings the nodes.
            wanted.replace(WantedBlock::register(&self.shared, self.pointer, start)?);
            match changed(&mut changes, clock, deadline).await {
                Woken::Changed => {}
                Woken::TimedOut => return Err(CoreError::Timeout(Index(start))),
                Woken::Closed => return Err(CoreError::Closed),
            }
        }
    }

    /// What is known of a contradiction of the core's owner: it is kept with the core. A session that is opened after a
    /// peer showed it reads such a core, and shows it to peers, as any other.
    ///
    /// # Errors
    /// When the core is closed.
    pub fn contradiction(&self) -> Result<Option<Contradiction>, CoreError> {
        Ok(self.shared.lock().get(self.pointer)?.auth.contradiction)
    }

    /// A value that is kept with the core, or with the named session: also when the owner of the core contradicted itself
    /// since, as it is none of the owner's.
    ///
    /// # Errors
    /// When the session is closed, or the store fails.
    pub fn user_data(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, CoreError> {
        let (data, snapshot) = {
            let cores = self.shared.lock();
            let core = cores.get(self.pointer)?;
            if !core.sessions.contains(&self.id) {
                return Err(CoreError::Closed);
            }
            (line_of(core, &self.place)?.data, self.shared.store.snapshot()?)
        };
        Ok(snapshot.get(&Key::UserData(data, Bytes::copy_from_slice(key.as_ref())))?)
    }

    /// Asks peers for blocks, as long as the result lives.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn download(&self, range: DownloadRange) -> Result<Download<E>, CoreError> {
        self.look(|_, _| Ok(()))?;
        Download::start(Arc::clone(&self.shared), self.pointer, range, None)
    }

    /// As [`Core::download`], but for blocks of more than so many bytes: what the tree proves of their size is asked for
    /// first.
    ///
    /// # Errors
    /// When the session is closed.
    pub fn download_small(
        &self,
        range: DownloadRange,
        block_bytes_max: u64,
    ) -> Result<Download<E>, CoreError> {
        self.look(|_, _| Ok(()))?;
        Download::start(
            Arc::clone(&self.shared),
            self.pointer,
            range,
            Some(block_bytes_max),
        )
    }

    pub(crate) fn local(&self, index: u64) -> Result<Option<Bytes>, CoreError> {
        let found = self.look(|core, line| {
            if index >= line.head.tree.length() {
                return Ok(None);
            }
            let data = match line.parent {
                Some(parent) if index >= parent.length => line.data,
                _ if !core.main.blocks.has(index) => return Ok(None),
                parent => parent.map_or(line.data, |parent| parent.data),
            };
            Ok(Some((Key::Block(data, index), self.shared.store.snapshot()?)))
        })?;
        match found {
            Some((key, snapshot)) => Ok(snapshot.get(&key)?),
            None => Ok(None),
        }
    }

    pub(super) fn opened(&self, index: u64, block: Bytes) -> Result<Bytes, CoreError> {
        let cipher = self.cipher(&self.shared.lock())?;
        open_block(cipher.as_deref(), index, block)
    }

    pub(super) fn padding(&self) -> Result<u64, CoreError> {
        let cipher = self.cipher(&self.shared.lock())?;
        Ok(cipher.map_or(0, |cipher| cipher.padding(0) as u64))
    }
}

/// Takes the padding off a stored block and decrypts it.
pub(in crate::hypercore) fn open_block(
    cipher: Option<&dyn BlockCipher>,
    index: u64,
    block: Bytes,
) -> Result<Bytes, CoreError> {
    let Some(cipher) = cipher else {
        return Ok(block);
    };
    let mut bytes = block.to_vec();
    cipher.decrypt(index, &mut bytes)?;
    let padding = cipher.padding(index).min(bytes.len());
    Ok(Bytes::from(bytes).slice(padding..))
}
