//! What the replicas of a run run: the apply function of the simulator itself, or that of an app under test.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use autobee::apply::{Apply, ApplyError, ApplyFn, ApplyView, Entry, Host};
use autobee::crypto::CoreKey;
use autobee::db::View;
use bytes::Bytes;

use crate::workload::{JsonApply, Op};

/// Virtual time of the world, asked from within a replica.
pub(crate) type Now = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Hears of each version of the view that a replica shows.
pub(crate) type Watcher = Box<dyn Fn(&View) + Send + Sync>;

/// What one start of a replica runs.
pub(crate) struct Started {
    pub(crate) apply: ApplyFn,
    pub(crate) watcher: Option<Watcher>,
}

/// What replicas run.
pub(crate) trait Subject: Send + Sync {
    /// A replica starts.
    fn start(&self, replica: usize, now: Now) -> Started;

    /// The value of an entry that carries an operation; none when there is no such entry.
    fn value(&self, op: &Op) -> Option<Bytes>;

    /// True when the simulator's own apply runs, which the model knows: then the engine is what is tested, and everything
    /// is checked of it.
    fn is_reference(&self) -> bool;

    /// A replica opened its database, and writes to this log.
    fn opened(&self, _replica: usize, _log: CoreKey) {}

    /// All replicas are there; what the scenario says begins.
    fn begins(&self, _at: Duration) {}

    /// Something was found that ends the run.
    fn has_failed(&self) -> bool {
        false
    }
}

/// The operations and the apply function of [`JsonApply`].
pub(super) struct Reference;

impl Subject for Reference {
    fn start(&self, _: usize, _: Now) -> Started {
        Started {
            apply: ApplyFn::new(JsonApply),
            watcher: None,
        }
    }

    fn value(&self, op: &Op) -> Option<Bytes> {
        Some(op.to_value().into())
    }

    fn is_reference(&self) -> bool {
        true
    }
}

/// An apply function whose type is erased, for a builder that takes any type.
pub(super) struct Erased {
    pub(super) apply: ApplyFn,
    /// The next call stops the replica.
    pub(super) interrupt: Arc<AtomicBool>,
}

impl Apply for Erased {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        if self.interrupt.swap(false, Ordering::Relaxed) {
            return Err(ApplyError::fatal("the app cannot go on"));
        }
        self.apply.apply(entries, view, host).await
    }
}
