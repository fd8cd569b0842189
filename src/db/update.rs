//! The hook that hears of each round of applying.

use std::sync::Arc;

use super::View;
use crate::wire::Link;

/// Called after each round of applying that changed something.
pub(super) type UpdateHook = Arc<dyn Fn(&View, &Update) + Send + Sync>;

/// What a round of applying changed: the heads before it and behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// Of the user's view.
    pub view: (Link, Link),
    /// Of the system tree.
    pub system: (Link, Link),
}

/// The hook, and what it was told last: heads of the view and of the system tree.
pub(super) struct Updates {
    pub(super) hook: Option<UpdateHook>,
    /// Held while the hook runs.
    pub(super) told: tokio::sync::Mutex<(Link, Link)>,
}

impl Updates {
    pub(super) fn new(hook: Option<UpdateHook>, told: (Link, Link)) -> Self {
        Self {
            hook,
            told: tokio::sync::Mutex::new(told),
        }
    }
}
