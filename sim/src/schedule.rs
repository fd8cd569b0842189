//! Which of several ready tasks runs next.
//!
//! Random choice tries every order sooner or later, but seldom one in which a task is kept waiting for long. Priorities
//! do that on purpose: probabilistic concurrency testing (PCT) finds a mistake that needs `depth` tasks in one certain
//! order with a chance that falls with the number of tasks, not with the number of steps.
//!
//! Source: Burckhardt and others, "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs" (ASPLOS 2010).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::seed::Stream;

/// Most changes of priorities in a run.
pub(crate) const CHANGES_MAX: u32 = 64;

/// Priorities change within so many choices, at most: the exponent of two.
const HORIZON_LOG_MAX: u64 = 20;

/// Choices at one moment of time after which they are drawn at random: two tasks of high priority may wake each other
/// for as long as a third, which they keep waiting, does not run.
const CHOICES_AT_ONCE_MAX: u64 = 4_096;

/// Priorities of tasks that were not lowered are at least this.
const NOT_LOWERED: u64 = 1 << 63;

/// How the next of several ready tasks is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Each has the same chance.
    #[default]
    Random,
    /// The one that has been ready for the longest time.
    Fifo,
    /// The one of the highest priority. Priorities are drawn at the start of a task. As often as the number says, at
    /// drawn moments, the task that runs gets the lowest one.
    Pct(u32),
}

/// The choices of one run.
pub(crate) struct Scheduler {
    schedule: Schedule,
    stream: Stream,
    /// Numbers of the choices at which a priority is lowered.
    changes: BTreeSet<u64>,
    choices: u64,
    choices_at_once: u64,
    lowered: u64,
}

/// A task, as its scheduler sees it.
pub(crate) trait Runnable {
    /// The priority; `None` before it has one.
    fn priority(&self) -> Option<u64>;

    /// Gives it this priority.
    fn set_priority(&self, priority: u64);
}

impl Schedule {
    /// True for what a scenario has that names none.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Scheduler {
    pub(crate) fn new(schedule: Schedule, mut stream: Stream) -> Self {
        let mut changes = BTreeSet::new();
        if let Schedule::Pct(count) = schedule {
            for _ in 0..count.min(CHANGES_MAX) {
                // Runs differ in length by orders of magnitude, and so do the numbers.
                let horizon = 1 << stream.between(4, HORIZON_LOG_MAX);
                changes.insert(stream.below(horizon));
            }
        }
        Self {
            schedule,
            stream,
            changes,
            choices: 0,
            choices_at_once: 0,
            lowered: 0,
        }
    }

    /// Draws from another stream from now on.
    pub(crate) fn reseed(&mut self, stream: Stream) {
        self.stream = stream;
    }

    /// How it chooses.
    pub(crate) const fn schedule(&self) -> Schedule {
        self.schedule
    }

    /// Time passes.
    pub(crate) const fn time_passed(&mut self) {
        self.choices_at_once = 0;
    }

    /// The position of the one that is next; `None` when there is none.
    pub(crate) fn choose<C: Runnable>(&mut self, ready: &[C]) -> Option<usize> {
        if ready.is_empty() {
            return None;
        }
        match self.schedule {
            Schedule::Random => Some(self.draw(ready.len())),
            Schedule::Fifo => Some(0),
            Schedule::Pct(_) => Some(self.by_priority(ready)),
        }
    }

    /// Draws nothing where there is no choice.
    fn draw(&mut self, count: usize) -> usize {
        if count < 2 { 0 } else { self.stream.index(count) }
    }

    fn by_priority<C: Runnable>(&mut self, ready: &[C]) -> usize {
        for task in ready {
            if task.priority().is_none() {
                task.set_priority(self.stream.next_u64() | NOT_LOWERED);
            }
        }
        self.choices += 1;
        self.choices_at_once += 1;
        if self.choices_at_once > CHOICES_AT_ONCE_MAX {
            return self.draw(ready.len());
        }
        let first = highest(ready);
        if self.changes.remove(&self.choices)
            && let Some(task) = ready.get(first)
        {
            self.lower(task);
            return highest(ready);
        }
        first
    }

    fn lower(&mut self, task: &impl Runnable) {
        self.lowered += 1;
        task.set_priority(NOT_LOWERED - self.lowered);
    }
}

/// The position of the highest priority, the first of equal ones.
fn highest<C: Runnable>(ready: &[C]) -> usize {
    let mut best = 0;
    for (position, task) in ready.iter().enumerate() {
        if task.priority() > ready.get(best).and_then(Runnable::priority) {
            best = position;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::seed::Seeds;

    #[derive(Default)]
    struct Task(Cell<Option<u64>>);

    impl Runnable for Task {
        fn priority(&self) -> Option<u64> {
            self.0.get()
        }

        fn set_priority(&self, priority: u64) {
            self.0.set(Some(priority));
        }
    }

    fn scheduler(schedule: Schedule, seed: u64) -> Scheduler {
        Scheduler::new(schedule, Seeds::new(seed).stream("scheduler", &[]))
    }

    fn tasks(count: usize) -> Vec<Task> {
        (0..count).map(|_| Task::default()).collect()
    }

    #[test]
    fn nothing_is_chosen_of_nothing() {
        for schedule in [Schedule::Random, Schedule::Fifo, Schedule::Pct(3)] {
            assert_eq!(scheduler(schedule, 1).choose::<Task>(&[]), None);
            assert_eq!(scheduler(schedule, 1).choose(&tasks(1)), Some(0));
        }
    }

    #[test]
    fn first_in_first_out_takes_the_first() {
        let (mut scheduler, tasks) = (scheduler(Schedule::Fifo, 1), tasks(5));
        assert!((0..20).all(|_| scheduler.choose(&tasks) == Some(0)));
    }

    #[test]
    fn without_changes_one_task_runs_as_long_as_it_is_ready() {
        let (mut scheduler, tasks) = (scheduler(Schedule::Pct(0), 1), tasks(5));
        let first = scheduler.choose(&tasks);
        assert!((0..100).all(|_| scheduler.choose(&tasks) == first));
    }

    #[test]
    fn each_change_lowers_the_task_that_would_run() {
        let (mut scheduler, tasks) = (scheduler(Schedule::Pct(3), 1), tasks(5));
        scheduler.changes = [2, 4].into();
        let chosen: Vec<_> = (0..6).map(|_| scheduler.choose(&tasks)).collect();
        assert_eq!(chosen[1], chosen[2]);
        assert_eq!(chosen[3..], [chosen[3]; 3]);
        let distinct: BTreeSet<_> = chosen.iter().flatten().collect();
        assert_eq!(distinct.len(), 3, "{chosen:?}");
    }

    #[test]
    fn nobody_waits_for_ever_at_one_moment() {
        let (mut scheduler, tasks) = (scheduler(Schedule::Pct(0), 1), tasks(3));
        let chosen: BTreeSet<_> = (0..2 * CHOICES_AT_ONCE_MAX)
            .map(|_| scheduler.choose(&tasks))
            .collect();
        assert_eq!(chosen.len(), 3);
        scheduler.time_passed();
        let first = scheduler.choose(&tasks);
        assert!((0..100).all(|_| scheduler.choose(&tasks) == first));
    }

    #[test]
    fn seeds_give_other_priorities() {
        let firsts: BTreeSet<_> = (0..50)
            .map(|seed| scheduler(Schedule::Pct(2), seed).choose(&tasks(4)))
            .collect();
        assert_eq!(firsts.len(), 4);
    }
}
