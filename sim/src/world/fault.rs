//! Faults that whoever drives a world can inject.

use std::mem;
use std::task::Waker;

use autobee::env::{Env as _, Spawn as _};

use super::{World, WorldState};
use crate::disk::{self, DiskSnapshot, Seeded};
use crate::env::SimEnv;
use crate::executor::lock;
use crate::network::PathConfig;
use crate::replica::{Crash, Owner, ReplicaId};

impl World {
    // Network.

    /// Configures the path from `from` to `to` for what is sent from now on; the way back stays as it is.
    pub fn set_path(&self, from: ReplicaId, to: ReplicaId, config: PathConfig) {
        self.change_network("path", |state| {
            state.kernel.set_path(from, to, config);
            vec![from, to]
        });
    }

    /// Configures all paths.
    pub fn set_paths(&self, config: PathConfig) {
        self.change_network("paths", |state| {
            state.kernel.set_paths(config);
            Vec::new()
        });
    }

    /// From now on only replicas of one group reach each other; a replica in no group is alone. Replaces the former
    /// partition, and leaves cuts as they are. What is under way is held until it can pass.
    pub fn partition(&self, groups: &[Vec<ReplicaId>]) {
        self.change_network("partition", |state| {
            state.kernel.partition(groups);
            groups.concat()
        });
    }

    /// Cuts the way from `from` to `to`; the way back stays.
    pub fn cut(&self, from: ReplicaId, to: ReplicaId) {
        self.change_network("cut", |state| {
            state.kernel.cut(from, to);
            vec![from, to]
        });
    }

    /// Opens the way from `from` to `to` again, if `cut` closed it.
    pub fn open(&self, from: ReplicaId, to: ReplicaId) {
        self.change_network("uncut", |state| {
            state.kernel.open(from, to);
            vec![from, to]
        });
    }

    /// Opens all ways.
    pub fn heal(&self) {
        self.change_network("heal", |state| {
            state.kernel.heal();
            Vec::new()
        });
    }

    /// Resets all streams between two replicas.
    pub fn reset_between(&self, a: ReplicaId, b: ReplicaId) {
        self.change_network("reset_between", |state| {
            state.kernel.reset_between(a, b);
            vec![a, b]
        });
    }

    /// Lets all streams between two replicas go silent for ever: what is sent on them is lost, and neither end hears of
    /// it. What is dialled later is sound.
    pub fn mute_between(&self, a: ReplicaId, b: ReplicaId) {
        self.change_network("mute_between", |state| {
            state.kernel.mute_between(a, b);
            vec![a, b]
        });
    }

    // Processes.

    /// Ends the process of a replica: its futures are dropped now, its handles are inert. Nothing happens when it is
    /// down already.
    pub fn crash(&self, replica: ReplicaId, how: Crash) {
        let (tasks, wakers) = {
            let mut guard = lock(&self.shared.state);
            let state = &mut *guard;
            let now = state.now;
            let entry = &mut state.replicas[replica.index()];
            if !entry.up {
                return;
            }
            entry.up = false;
            entry.paused = false;
            let owner = Owner {
                replica,
                incarnation: entry.incarnation,
            };
            let mut tasks: Vec<_> = mem::take(&mut entry.tasks).into_values().collect();
            tasks.append(&mut entry.parked);
            let mut fate = state
                .seeds
                .stream("disk fate", &[&entry.name, &owner.incarnation.to_string()]);
            entry.disk = match how {
                Crash::Kill => entry.disk.kill(),
                Crash::PowerLoss => {
                    let treatment = disk::DiskCrash::ALL[fate.index(disk::DiskCrash::ALL.len())];
                    entry.disk.crash(treatment, &mut Seeded::from(fate))
                }
            };
            state
                .trace
                .event(now, "crash")
                .text("r", &entry.name)
                .text("how", &how.to_string())
                .number("incarnation", u64::from(owner.incarnation));
            match how {
                Crash::Kill => state.kernel.kill(replica),
                Crash::PowerLoss => state.kernel.power_off(replica),
            }
            state.write_notes();
            let mut wakers = state.kernel.take_wakes();
            wakers.append(&mut state.timers.remove_all_of(owner));
            (tasks, wakers)
        };
        for task in tasks {
            task.end();
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Starts a replica that is down, and its program if it has one. A replica that runs is left as it is.
    pub fn restart(&self, replica: ReplicaId) -> SimEnv {
        if lock(&self.shared.state).replica(replica).up {
            return self.env(replica);
        }
        let env = self.start(replica);
        self.change_network("restart", |state| {
            state.kernel.power_on(replica);
            vec![replica]
        });
        let program = lock(&self.shared.state).replica(replica).program.clone();
        if let Some(program) = program {
            env.spawn().spawn("main", program(env.clone()));
        }
        env
    }

    /// True while the process of a replica runs, paused or not.
    #[must_use]
    pub fn is_up(&self, replica: ReplicaId) -> bool {
        lock(&self.shared.state).replica(replica).up
    }

    /// Stops polling the tasks of a replica; its machine still receives. Timers that fire meanwhile are noticed late.
    pub fn pause(&self, replica: ReplicaId) {
        self.change_network("pause", |state| {
            let entry = &mut state.replicas[replica.index()];
            entry.paused = entry.up;
            vec![replica]
        });
    }

    /// Goes on after [`Self::pause`].
    pub fn resume(&self, replica: ReplicaId) {
        let mut parked = Vec::new();
        self.change_network("resume", |state| {
            let entry = &mut state.replicas[replica.index()];
            entry.paused = false;
            parked = mem::take(&mut entry.parked);
            vec![replica]
        });
        for task in parked {
            self.shared.ready.push(task);
        }
    }

    /// Puts these contents on the disk of a replica that is down: all of it, as if it had been synced.
    pub fn set_disk(&self, replica: ReplicaId, contents: &DiskSnapshot) {
        self.change_network("set_disk", |state| {
            let entry = &mut state.replicas[replica.index()];
            entry.disk = entry.disk.restore(contents);
            vec![replica]
        });
    }

    // Clocks.

    /// Sets how far the time of day of a replica is ahead, in milliseconds. Its other clock stays.
    pub fn skew(&self, replica: ReplicaId, ahead_ms: i64) {
        self.change_clock(replica, "skew", ahead_ms, |state, now| {
            let clock = &mut state.replicas[replica.index()].clock;
            clock.set_drift(now, clock.drift_ppm);
            clock.skew_ms = ahead_ms;
        });
    }

    /// Sets by how many millionths the time of day of a replica runs fast.
    pub fn drift(&self, replica: ReplicaId, ppm: i64) {
        self.change_clock(replica, "drift", ppm, |state, now| {
            state.replicas[replica.index()].clock.set_drift(now, ppm);
        });
    }

    fn change_clock(
        &self,
        replica: ReplicaId,
        event: &'static str,
        value: i64,
        change: impl FnOnce(&mut WorldState, u64),
    ) {
        let mut guard = lock(&self.shared.state);
        let now = guard.now;
        change(&mut guard, now);
        let state = &mut *guard;
        state
            .trace
            .event(now, event)
            .text("r", &state.replicas[replica.index()].name)
            .signed("value", value);
    }

    /// Changes something, and writes it to the trace before what follows from it. `change` gives who is concerned.
    fn change_network(&self, event: &'static str, change: impl FnOnce(&mut WorldState) -> Vec<ReplicaId>) {
        let mut guard = lock(&self.shared.state);
        let state = &mut *guard;
        let concerned = change(state);
        let names: Vec<&str> = concerned
            .iter()
            .map(|id| &*state.replicas[id.index()].name)
            .collect();
        state.trace.event(state.now, event).text("who", &names.join(","));
        state.write_notes();
        let wakes = state.kernel.take_wakes();
        drop(guard);
        wakes.into_iter().for_each(Waker::wake);
    }
}
