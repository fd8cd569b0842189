//! Running a world: until a time, until it rests, or until a future is done.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use thiserror::Error;

use super::World;
use crate::executor::{ReplicaTask, lock};
use crate::replica::{Owner, ReplicaId};

/// A run did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RunError {
    /// The world did more steps than it may: most likely tasks wake each other without end.
    #[error("the budget of {steps} steps is used up at {at:?}")]
    Budget {
        /// Steps that the world may do.
        steps: u64,
        /// Virtual time at which it ended.
        at: Duration,
    },
    /// Nothing is left to happen, and the future is not done.
    #[error("nothing is left to happen at {at:?}, and the future still waits")]
    Stuck {
        /// Virtual time since which nothing happens.
        at: Duration,
    },
    /// The virtual time that the future was given is over.
    #[error("the future still waits at its limit {at:?}")]
    Limit {
        /// The limit.
        at: Duration,
    },
    /// The replica crashed under the future, or was down already.
    #[error("{replica} went down at {at:?} before the future was done")]
    Down {
        /// The replica.
        replica: ReplicaId,
        /// Virtual time at which that was noticed.
        at: Duration,
    },
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// There is nothing more to do.
    Quiet,
    /// There is, but the time is over.
    Limit,
}

/// What one step found.
enum WorldStep {
    /// A task was polled, or time moved to its next event.
    Done,
    /// The next event is later than the bound.
    Later,
    /// There is no next event.
    Nothing,
}

impl World {
    /// Runs everything that happens until virtual time `at`, and leaves the clock there. Ends before that, where it is, when
    /// a disk met the point at which its power goes.
    pub fn run_until(&self, at: Duration) -> Result<(), RunError> {
        let bound = nanos(at);
        loop {
            if self.shared.interrupt.swap(false, Ordering::AcqRel) {
                return Ok(());
            }
            if !matches!(self.step(bound)?, WorldStep::Done) {
                break;
            }
        }
        let mut state = lock(&self.shared.state);
        if state.now < bound {
            state.advance(bound);
        }
        Ok(())
    }

    /// Ends a run once the poll that is under way is over.
    pub(crate) fn interrupt(&self) -> Option<Arc<AtomicBool>> {
        Some(Arc::clone(&self.shared.interrupt))
    }

    /// Runs for `duration` of virtual time.
    pub fn run_for(&self, duration: Duration) -> Result<(), RunError> {
        self.run_until(self.now().saturating_add(duration))
    }

    /// Runs until no task is ready, no timer waits and nothing travels, at most for `limit` of virtual time.
    pub fn run_until_idle(&self, limit: Duration) -> Result<Rest, RunError> {
        let bound = nanos(self.now().saturating_add(limit));
        loop {
            match self.step(bound)? {
                WorldStep::Done => {}
                WorldStep::Later => return Ok(Rest::Limit),
                WorldStep::Nothing => return Ok(Rest::Quiet),
            }
        }
    }

    /// Runs until for a whole `window` of virtual time nothing but timers happened (no bytes, no dials, no events of
    /// the engine), at most for `limit`.
    pub fn run_until_quiet(&self, window: Duration, limit: Duration) -> Result<Rest, RunError> {
        let bound = nanos(self.now().saturating_add(limit));
        let window = nanos(window);
        let since = nanos(self.now());
        loop {
            let quiet_at = lock(&self.shared.state)
                .active_at
                .max(since)
                .saturating_add(window);
            match self.step(bound.min(quiet_at))? {
                WorldStep::Done => {}
                WorldStep::Later | WorldStep::Nothing if quiet_at <= bound => {
                    self.run_until(Duration::from_nanos(quiet_at))?;
                    return Ok(Rest::Quiet);
                }
                WorldStep::Later | WorldStep::Nothing => {
                    self.run_until(Duration::from_nanos(bound))?;
                    return Ok(Rest::Limit);
                }
            }
        }
    }

    /// Runs until `future`, as a task of `replica`, is done.
    pub fn block_on<T: Send + 'static>(
        &self,
        replica: ReplicaId,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, RunError> {
        self.block_on_for(replica, Duration::MAX, future)
    }

    /// Runs until `future`, as a task of `replica`, is done, at most for `limit` of virtual time. After an error the
    /// future is dropped.
    pub fn block_on_for<T: Send + 'static>(
        &self,
        replica: ReplicaId,
        limit: Duration,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, RunError> {
        let result = Arc::new(Mutex::new(None));
        let place = Arc::clone(&result);
        let owner = Owner {
            replica,
            incarnation: lock(&self.shared.state).replica(replica).incarnation,
        };
        let task = self.shared.spawn(owner, "block_on", async move {
            let value = future.await;
            *lock(&place) = Some(value);
        });
        let bound = nanos(self.now().saturating_add(limit));
        let outcome = self.drive(task.as_ref(), replica, bound);
        if let Some(task) = task {
            self.shared.end(&task);
        }
        outcome?;
        let value = lock(&result).take();
        value.ok_or(RunError::Down {
            replica,
            at: self.now(),
        })
    }

    fn drive(&self, task: Option<&Arc<ReplicaTask>>, replica: ReplicaId, bound: u64) -> Result<(), RunError> {
        while task.is_some_and(|task| !task.is_dead()) {
            let step = self.step(bound)?;
            let at = self.now();
            match step {
                WorldStep::Done => {}
                WorldStep::Later => {
                    return Err(RunError::Limit {
                        at: Duration::from_nanos(bound),
                    });
                }
                WorldStep::Nothing if lock(&self.shared.state).replica(replica).up => {
                    return Err(RunError::Stuck { at });
                }
                WorldStep::Nothing => return Err(RunError::Down { replica, at }),
            }
        }
        Ok(())
    }

    /// Polls one ready task, or moves time to the next event that is not after `bound`.
    fn step(&self, bound: u64) -> Result<WorldStep, RunError> {
        self.count_step()?;
        let ready = {
            let mut state = lock(&self.shared.state);
            loop {
                let Some(task) = self.shared.ready.pick(&mut state.scheduler) else {
                    break None;
                };
                let replica = &mut state.replicas[task.owner.replica.index()];
                if replica.paused && !task.is_dead() {
                    replica.parked.push(task);
                } else {
                    break Some(task);
                }
            }
        };
        match ready {
            Some(task) => {
                self.poll(&task);
                Ok(WorldStep::Done)
            }
            None => Ok(self.pass_time(bound)),
        }
    }

    fn poll(&self, task: &Arc<ReplicaTask>) {
        if !task.is_dead() {
            let mut guard = lock(&self.shared.state);
            let state = &mut *guard;
            if state.trace_polls {
                state
                    .trace
                    .event(state.now, "poll")
                    .text("r", &state.replicas[task.owner.replica.index()].name)
                    .text("task", task.name)
                    .number("id", task.id);
            }
        }
        if task.poll() {
            self.shared.end(task);
        }
    }

    fn pass_time(&self, bound: u64) -> WorldStep {
        let mut guard = lock(&self.shared.state);
        let state = &mut *guard;
        let next = match (state.timers.next_at(), state.kernel.next_at()) {
            (Some(timer), Some(network)) => timer.min(network),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => return WorldStep::Nothing,
        };
        if state.turns_by(next.min(bound)) {
            state.turn();
        }
        if next > bound {
            return WorldStep::Later;
        }
        state.advance(next.max(state.now));
        let mut wakes = state.kernel.take_wakes();
        while let Some((owner, waker)) = state.timers.fire(state.now) {
            state
                .trace
                .event(state.now, "timer")
                .text("r", &state.replicas[owner.replica.index()].name);
            wakes.push(waker);
        }
        drop(guard);
        wakes.into_iter().for_each(Waker::wake);
        WorldStep::Done
    }

    fn count_step(&self) -> Result<(), RunError> {
        let mut steps = lock(&self.steps);
        if *steps >= self.steps_max {
            return Err(RunError::Budget {
                steps: self.steps_max,
                at: self.now(),
            });
        }
        *steps += 1;
        Ok(())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
