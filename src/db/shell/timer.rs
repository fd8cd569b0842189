//! The one timer of an open database.

use std::sync::Weak;

use super::Shell;
use crate::db::machine::Input;
use crate::env::{Clock as _, Env, Mono, watch};

/// What the timer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// To be set.
    Idle,
    /// A time.
    Until(Mono),
    /// Nothing: the database is closed.
    Over,
}

/// Tells the machine that a time came which it asked for.
pub(super) async fn run<E: Env>(shared: Weak<Shell<E>>, clock: E::Clock, mut timer: watch::Receiver<Timer>) {
    loop {
        let set = *timer.borrow_and_update();
        match set {
            Timer::Over => return,
            Timer::Idle => {
                if timer.changed().await.is_err() {
                    return;
                }
            }
            Timer::Until(at) => {
                let is_over = super::unless(clock.sleep_until(at), timer.changed())
                    .await
                    .is_some();
                let Some(shared) = shared.upgrade() else { return };
                if is_over {
                    shared.wake().await;
                }
            }
        }
    }
}

impl<E: Env> Shell<E> {
    /// The time came.
    async fn wake(self: &std::sync::Arc<Self>) {
        // It is set again by what the machine says now.
        self.timer.send_if_modified(|timer| {
            let was_set = matches!(timer, Timer::Until(_));
            if was_set {
                *timer = Timer::Idle;
            }
            was_set
        });
        let is_early = self.env.buggify("early_gathering");
        let done = {
            let mut machine = self.machine.enter().await;
            self.step(&mut machine, Input::Wake { is_early })
        };
        if done.drains {
            self.drain_later();
        }
    }
}
