//! Streams over calls that wait.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

type Waiting<S, T> = Pin<Box<dyn Future<Output = (S, T)> + Send>>;

/// A state that gives one thing after the other, each by a call that may wait. A wait that is dropped goes on with the next
/// one, so it loses nothing.
pub(super) struct Steps<S, T> {
    /// None while a call waits, which has it.
    state: Option<S>,
    /// In a lock that nobody contends for, so that streams can be shared.
    waiting: Mutex<Option<Waiting<S, T>>>,
}

impl<S, T> Steps<S, T> {
    pub(super) const fn new(state: S) -> Self {
        Self {
            state: Some(state),
            waiting: Mutex::new(None),
        }
    }

    /// Goes on with the call that waits, or makes one.
    pub(super) fn poll_step<F>(&mut self, context: &mut Context<'_>, step: impl FnOnce(S) -> F) -> Poll<T>
    where
        F: Future<Output = (S, T)> + Send + 'static,
    {
        let waiting = self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = self.state.take() {
            *waiting = Some(Box::pin(step(state)));
        }
        let Some(call) = waiting else {
            // A call that panicked took the state with it.
            return Poll::Pending;
        };
        call.as_mut().poll(context).map(|(state, given)| {
            *waiting = None;
            self.state = Some(state);
            given
        })
    }

    /// Waits for the next thing.
    pub(super) async fn step<F>(&mut self, step: impl Fn(S) -> F) -> T
    where
        F: Future<Output = (S, T)> + Send + 'static,
    {
        poll_fn(|context| self.poll_step(context, &step)).await
    }
}

impl<S, T> fmt::Debug for Steps<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_waiting = self.state.is_none();
        f.debug_struct("Steps").field("is_waiting", &is_waiting).finish()
    }
}
