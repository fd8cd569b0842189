//! The contract between the engine and the user's code: how entries become a view.
//!
//! An apply function gets entries in the linear order, one batch a call, and writes the view and the membership. It
//! must be a function of what it is handed: the entries, the view, and the [`Host`]. It gets no clock, no randomness
//! and no network, because two peers that computed different views could never agree again.
//!
//! **A missing block never reaches user code.** Reading the view may need a block that is still at a peer. The apply
//! future is then dropped, what it wrote is discarded, and the batch runs again from its start once the block is
//! there. Effects land only when apply returned `Ok`. Do not hold effects of your own across an await.
//!
//! Source: spec/autobee.md 7 and 15; the `apply` option of the JavaScript package.

mod entry;
mod host;
mod tree;
mod view;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use thiserror::Error;

pub use entry::Entry;
pub use host::{Host, HostError, WriterOptions};
pub use tree::{LocalTree, TreeSnapshot};
pub use view::{ApplyView, ApplyWrite, KEYS_BYTES_MAX, PUT_BYTES_MAX};

/// Why apply did not take a batch.
///
/// An I/O error, a missing block or a cancellation is neither: those never reach user code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The batch is not wanted. Every peer that runs the same apply refuses it at the same place: the writer's
    /// record advances, nothing else changes. An optimistic batch of a stranger leaves no trace at all. A
    /// JavaScript peer closes instead when the batch is a member's.
    #[error("apply refused the batch: {0}")]
    Reject(String),
    /// This peer cannot go on. It stops, nothing is lost, and a reopen tries again.
    #[error("apply stopped this peer: {0}")]
    Fatal(String),
}

impl ApplyError {
    /// A refusal; see [`ApplyError::Reject`].
    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject(reason.into())
    }

    /// A stop; see [`ApplyError::Fatal`].
    pub fn fatal(reason: impl Into<String>) -> Self {
        Self::Fatal(reason.into())
    }
}

/// The user's deterministic merge.
///
/// ```
/// use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host};
///
/// /// Keeps the last value under one key.
/// struct Latest;
///
/// impl Apply for Latest {
///     async fn apply(
///         &self,
///         entries: &[Entry],
///         view: &mut ApplyView,
///         _host: &mut dyn Host,
///     ) -> Result<(), ApplyError> {
///         for entry in entries {
///             let mut write = view.write();
///             write.put(b"latest", entry.value());
///             write.flush().await?;
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Apply: Send + Sync + 'static {
    /// Applies one batch: its entries that have a value, in order. May be called with none, when all are empty.
    fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> impl Future<Output = Result<(), ApplyError>> + Send;
}

/// Orders and records entries without a view, as a database without an apply function does.
#[derive(Debug, Clone, Copy, Default)]
pub struct OrderOnly;

impl Apply for OrderOnly {
    async fn apply(
        &self,
        _entries: &[Entry],
        _view: &mut ApplyView,
        _host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        Ok(())
    }
}

/// Any apply function behind one type, so that engines and databases are not generic over user code.
#[derive(Clone)]
pub struct ApplyFn(Arc<dyn ErasedApply>);

impl ApplyFn {
    /// Erases the type of an apply function.
    pub fn new(apply: impl Apply) -> Self {
        Self(Arc::new(apply))
    }

    /// Applies one batch; see [`Apply::apply`].
    pub fn apply<'a>(
        &'a self,
        entries: &'a [Entry],
        view: &'a mut ApplyView,
        host: &'a mut dyn Host,
    ) -> ApplyFuture<'a> {
        self.0.apply_erased(entries, view, host)
    }
}

impl std::fmt::Debug for ApplyFn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApplyFn")
    }
}

/// A running apply.
pub type ApplyFuture<'a> = Pin<Box<dyn Future<Output = Result<(), ApplyError>> + Send + 'a>>;

trait ErasedApply: Send + Sync {
    fn apply_erased<'a>(
        &'a self,
        entries: &'a [Entry],
        view: &'a mut ApplyView,
        host: &'a mut dyn Host,
    ) -> ApplyFuture<'a>;
}

impl<T: Apply> ErasedApply for T {
    fn apply_erased<'a>(
        &'a self,
        entries: &'a [Entry],
        view: &'a mut ApplyView,
        host: &'a mut dyn Host,
    ) -> ApplyFuture<'a> {
        Box::pin(self.apply(entries, view, host))
    }
}
