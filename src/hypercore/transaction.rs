//! Changes of many cores that happen together.

use bytes::Bytes;

use super::authority::Authority;
use super::change::StoreChange;
use super::error::CoreError;
use super::session::Core;
use crate::env::Env;
use crate::wire::Length;

/// Changes of many cores that happen together.
pub struct Transaction<'a, 'b, E: Env> {
    pub(super) change: &'a mut StoreChange<'b, E::Crypto>,
}

impl<E: Env> Transaction<'_, '_, E> {
    /// Appends blocks to the core of a session. Gives the new length.
    ///
    /// # Errors
    /// As [`Core::append`].
    pub fn append(&mut self, core: &Core<E>, blocks: Vec<Bytes>) -> Result<Length, CoreError> {
        self.append_as(core, blocks, Authority::default())
    }

    /// Appends blocks and puts the signature off until [`Transaction::sign_head`], which covers all of them. Peers are
    /// shown nothing of them before. Gives the new length.
    ///
    /// # Errors
    /// As [`Core::append`].
    pub fn append_unsigned(&mut self, core: &Core<E>, blocks: Vec<Bytes>) -> Result<Length, CoreError> {
        let deferred = Authority {
            is_deferred: true,
            ..Authority::default()
        };
        self.append_as(core, blocks, deferred)
    }

    /// Signs the head of a core if that was put off.
    ///
    /// # Errors
    /// As [`Core::append`].
    pub fn sign_head(&mut self, core: &Core<E>) -> Result<(), CoreError> {
        let (_, authority) = core.authority(self.change.cores, Authority::default())?;
        self.change.sign_main(core.pointer(), &authority)
    }

    /// Cuts the core of a session to `length` blocks.
    ///
    /// # Errors
    /// As [`Core::truncate`].
    pub fn truncate(&mut self, core: &Core<E>, length: Length) -> Result<(), CoreError> {
        let (place, authority) = core.authority(self.change.cores, Authority::default())?;
        self.change
            .truncate(core.pointer(), &place, length.0, None, &authority)
    }

    /// Keeps a value with the core of a session; none removes it.
    ///
    /// # Errors
    /// As [`Core::set_user_data`].
    pub fn set_user_data(
        &mut self,
        core: &Core<E>,
        key: impl AsRef<[u8]>,
        value: Option<Bytes>,
    ) -> Result<(), CoreError> {
        let key = Bytes::copy_from_slice(key.as_ref());
        self.change
            .set_user_data(core.pointer(), core.place(), key, value)
    }

    fn append_as(
        &mut self,
        core: &Core<E>,
        blocks: Vec<Bytes>,
        given: Authority,
    ) -> Result<Length, CoreError> {
        let (place, authority) = core.authority(self.change.cores, given)?;
        let cipher = core.cipher(self.change.cores)?;
        let appended = self
            .change
            .append(core.pointer(), &place, blocks, cipher.as_deref(), &authority)?;
        Ok(appended.length)
    }
}
