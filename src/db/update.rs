//! The hook that hears of each round of applying.

use std::sync::{Arc, Mutex};

use super::View;
use super::shared::{Shared, lock};
use crate::crypto::Verify;
use crate::engine::Engine;
use crate::env::Env;
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

/// The hook, and what it was told last.
pub(super) struct Updates {
    hook: Option<UpdateHook>,
    told: Mutex<(Link, Link)>,
}

impl Updates {
    pub(super) fn new<V: Verify>(hook: Option<UpdateHook>, engine: &Engine<V>) -> Self {
        Self {
            hook,
            told: Mutex::new((engine.view().head(), engine.records().head())),
        }
    }
}

impl<E: Env> Shared<E> {
    /// Calls the hook, if there is one and it has something to hear. One call after the other.
    pub(super) fn call_update(&self) {
        let Some(hook) = &self.updates.hook else { return };
        let mut told = lock(&self.updates.told);
        let (view, system) = {
            let state = lock(&self.state);
            if state.check_open().is_err() {
                return;
            }
            let view = View::new(state.engine.view(), state.trees.peers());
            (view, state.engine.records().head())
        };
        let now = (view.head(), system);
        let before = std::mem::replace(&mut *told, now);
        if before != now {
            let update = Update {
                view: (before.0, now.0),
                system: (before.1, now.1),
            };
            hook(&view, &update);
        }
    }
}
