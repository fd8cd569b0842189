//! Opening a database.

use super::cores::DatabaseCores;
use super::shared::Shared;
use super::{Autobee, Settings};
use crate::apply::{Apply, ApplyFn, OrderOnly};
use crate::crypto::CoreKey;
use crate::engine::{Engine, EngineOptions, Trees};
use crate::env::Env;
use crate::error::Error;
use crate::hypercore::Corestore;

/// Collects what is needed to open a database.
#[derive(Debug)]
pub struct Builder<E: Env> {
    store: Corestore<E>,
    key: Option<CoreKey>,
    name: String,
    apply: ApplyFn,
    optimistic: bool,
    settings: Settings,
}

impl<E: Env> Builder<E> {
    pub(super) fn new(store: Corestore<E>) -> Self {
        Self {
            store,
            key: None,
            name: String::new(),
            apply: ApplyFn::new(OrderOnly),
            optimistic: true,
            settings: Settings::default(),
        }
    }

    /// The database to join. Without it a new one is made, or the one of the store is opened again.
    #[must_use]
    pub fn key(mut self, key: CoreKey) -> Self {
        self.key = Some(key);
        self
    }

    /// The user's merge. Without one, entries are ordered and recorded only.
    #[must_use]
    pub fn apply(mut self, apply: impl Apply) -> Self {
        self.apply = ApplyFn::new(apply);
        self
    }

    /// Whether entries of strangers are tried; they are by default, as in the original. Peers that differ in this
    /// cannot agree.
    #[must_use]
    pub fn optimistic(mut self, optimistic: bool) -> Self {
        self.optimistic = optimistic;
        self
    }

    /// A name for messages.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Limits and waits.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Opens the database and applies what is there.
    ///
    /// # Errors
    ///
    /// `Invalid` when the store holds another database, `Disk` when it cannot be read, `Corrupt`, `Interrupted`.
    pub async fn open(self) -> Result<Autobee<E>, Error> {
        let verify = self.store.env().crypto().clone();
        let cores = DatabaseCores::open(self.store, self.key).await?;
        let engine = Engine::new(EngineOptions {
            key: cores.database(),
            name: self.name,
            apply: self.apply,
            optimistic: self.optimistic,
            verify,
            trees: Trees::unshared(&cores.local(), self.settings.view_cache_bytes_max).map_err(|error| {
                Error::Internal {
                    what: error.to_string(),
                }
            })?,
            window_batches: crate::engine::WINDOW_BATCHES,
        });
        let shared = Shared::new(self.settings, engine, cores);
        shared.start().await?;
        Ok(Autobee { shared })
    }
}
