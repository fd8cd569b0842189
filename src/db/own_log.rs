//! Whether the own log is all that was ever written to it.
//!
//! A log has one writer, and that writer knows its end. A directory that was restored from an older copy does not, nor
//! does a new device with the key pair of an old one: what they append stands where other entries stand at peers, and
//! nobody takes a log with two continuations. So the end of such a log is asked for first.

use super::Autobee;
use crate::env::Env;
use crate::error::Error;

/// Why peers may have more of the own log than is here. Nothing is appended until a peer was met that sent all that it
/// has of it; see [`Autobee::unconfirmed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unconfirmed {
    /// The database was joined with a key pair of which nothing is here. It may have written elsewhere.
    KeyPair,
    /// The directory is said to be an older copy, see [`Builder::restored`](super::Builder::restored).
    Restored,
    /// The end of the store is missing, see [`Recovered::missing`](crate::store::Recovered::missing).
    CutOff,
}

impl Unconfirmed {
    const ALL: [Self; 3] = [Self::KeyPair, Self::Restored, Self::CutOff];

    /// As it is kept with the own log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::KeyPair => "key pair",
            Self::Restored => "restored",
            Self::CutOff => "cut off",
        }
    }

    /// What was kept. Whatever it is, there was a reason.
    pub(super) fn named(name: &[u8]) -> Self {
        let found = Self::ALL.into_iter().find(|kind| kind.name().as_bytes() == name);
        found.unwrap_or(Self::Restored)
    }
}

/// What is known of the own log from how the database is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Origin {
    /// The key of the database was given, and a key pair.
    pub(super) is_joined_as: bool,
    /// Another key pair was given while the database is open.
    pub(super) is_given: bool,
    /// The directory is an older copy.
    pub(super) is_restored: bool,
    /// Whoever opens it knows that there is nothing more elsewhere.
    pub(super) is_complete: bool,
}

impl<E: Env> Autobee<E> {
    /// Waits for what [`Autobee::append`] would wait for: a peer that says that the own log is whole here, where that is in doubt.
    /// For programs that exchange everything with a peer and end, so that the next one may append alone.
    ///
    /// # Errors
    ///
    /// `Unconfirmed` when no peer came within [`Settings::read_wait_ms`](super::Settings::read_wait_ms); `ReadOnly`, `Reentrant`,
    /// `Disk`, `Closed`.
    pub async fn confirm(&self) -> Result<(), Error> {
        super::check_writable::<E>()?;
        self.shared.confirm_own_log().await
    }

    /// Why peers may have more of the own log than is here; none when nothing speaks for it. [`Autobee::append`] waits
    /// for a peer then, for at most [`Settings::read_wait_ms`](super::Settings::read_wait_ms), fetches what it has, and
    /// is refused with `Unconfirmed` when none comes.
    #[must_use]
    pub fn unconfirmed(&self) -> Option<Unconfirmed> {
        self.shared.unconfirmed()
    }
}
