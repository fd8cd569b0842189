//! Carrying out what befalls replicas, and what they append.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use autobee::crypto::{CoreKey, Signature};
use autobee::db::AppendOptions;
use autobee::env::{Clock as _, Env as _, Spawn as _};
use autobee::hypercore::CoreOptions;
use autobee::wire::oplog::{Backer, OplogBlock, Witness};
use autobee::wire::{Encode as _, Length, Weight};
use bytes::Bytes;

use super::{SimError, Simulation};
use crate::disk::{DiskFaults, SimDisk};
use crate::invariant::{Acknowledged, SKEW_HARMLESS_MS};
use crate::network::PathConfig;
use crate::replica::Crash;
use crate::scenario::{Action, Append, CrashMode};
use crate::simulated_world::SimulatedWorld;
use crate::workload::{Op, refused_for};
use crate::world::RunError;

/// How long an orderly end may take, in virtual time.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// After how long a caller goes away that does not wait for the end of its append: this, or up to five times twice as long.
const ABANDONED_AFTER: Duration = Duration::from_millis(3);

/// What `future` gives; none when `end` comes first.
pub(super) async fn unless<T>(future: impl Future<Output = T>, end: impl Future<Output = ()>) -> Option<T> {
    let (mut future, mut end) = (pin!(future), pin!(end));
    poll_fn(|context| match end.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => future.as_mut().poll(context).map(Some),
    })
    .await
}

impl<S: SimulatedWorld> Simulation<'_, S> {
    pub(super) fn act(&mut self, action: &Action) -> Result<(), SimError> {
        self.world.note(&format!("{action:?}"));
        let id = |replica: &usize| self.group.id(*replica);
        match action {
            Action::Partition { groups } => {
                let groups: Vec<Vec<_>> = groups
                    .iter()
                    .map(|group| group.iter().map(id).collect())
                    .collect();
                self.world.partition(&groups);
            }
            Action::Cut { from, to, .. } => self.world.cut(id(from), id(to)),
            Action::Open { from, to } => self.world.open(id(from), id(to)),
            Action::Reset { a, b } => self.world.reset_between(id(a), id(b)),
            Action::Mute { a, b } => self.world.mute_between(id(a), id(b)),
            Action::Path { from, to, path } => self.world.set_path(id(from), id(to), *path),
            Action::Heal => self.heal_network(),
            Action::Join { replica } => self.group.boot(&self.world, *replica),
            Action::Crash {
                replica,
                mode,
                lasting,
            } => {
                let how = match mode {
                    CrashMode::Kill => Crash::Kill,
                    CrashMode::PowerLoss => Crash::PowerLoss,
                };
                if *lasting {
                    self.group.lose(&self.world, *replica, how);
                } else {
                    self.group.crash(&self.world, *replica, how);
                }
            }
            Action::Reopen {
                replica,
                settings,
                apply_version,
            } => {
                self.group.set_apply_version(*replica, *apply_version);
                self.reopen(*replica, settings)?;
            }
            Action::Interrupt { replica } => self.group.interrupt(*replica),
            Action::Rotate { replica } => self.rotate(*replica),
            Action::Wipe { replica } => {
                self.group.crash(&self.world, *replica, Crash::PowerLoss);
                self.world.set_disk(id(replica), &SimDisk::new(0).snapshot());
                self.group.forget_former(*replica);
                self.group.restart(&self.world, *replica);
            }
            Action::Backup { replica } => {
                let disk = self.world.disk(id(replica));
                self.group.keep_backup(*replica, disk.snapshot());
            }
            Action::Restore { replica, told } => {
                if let Some(backup) = self.group.backup(*replica) {
                    self.group.crash(&self.world, *replica, Crash::Kill);
                    self.world.set_disk(id(replica), &backup);
                    self.group.tell_restored(*replica, *told);
                    self.group.restart(&self.world, *replica);
                }
            }
            Action::Disk { replica, faults } => self.spoil_disk(*replica, faults),
            Action::Drift { replica, ppm } => self.world.drift(id(replica), *ppm),
            Action::Blackout { replica } => self.group.arm(*replica),
            Action::CrashPoint { replica, call, after } => {
                self.group.set_crash_point(*replica, *call, *after);
            }
            Action::Restart { replica } => self.group.restart(&self.world, *replica),
            Action::Pause { replica } => self.world.pause(id(replica)),
            Action::Resume { replica } => self.world.resume(id(replica)),
            Action::Skew { replica, ms } => self.world.skew(id(replica), *ms),
            Action::Add { by, target, weight } => {
                self.about(*by, *target, |key| Op::add_writer(key, *weight));
            }
            Action::Ack { by, target } => self.about(*by, *target, Op::ack),
            Action::Forge { by, backer } => self.forge(*by, *backer),
            Action::Remove { by, target } => {
                self.about(*by, *target, Op::remove_writer);
            }
        }
        Ok(())
    }

    /// Opens all ways but those that are cut for good.
    pub(super) fn heal_network(&self) {
        self.world.heal();
        for event in &self.scenario.event {
            if let Action::Cut {
                from,
                to,
                lasting: true,
            } = event.action
            {
                self.world.cut(self.group.id(from), self.group.id(to));
            }
        }
    }

    /// Lets a replica close its database, and starts it again with these settings.
    fn reopen(&self, replica: usize, settings: &toml::Table) -> Result<(), SimError> {
        let mut table = self.scenario.settings.clone();
        table.extend(settings.clone());
        // Both were checked when the scenario was loaded.
        let settings = table.try_into().unwrap_or_else(|_| self.group.settings(replica));
        if let Some(db) = self
            .group
            .db(replica)
            .filter(|_| self.world.is_up(self.group.id(replica)))
        {
            let has_another = self.subject.is_reference() && self.world.now().as_millis().is_multiple_of(2);
            let group = self.group.clone();
            group.side_cores().close(replica);
            let closed = self
                .world
                .block_on_for(self.group.id(replica), CLOSE_LIMIT, async move {
                    if has_another {
                        group.close_beside_another(db.clone(), replica).await;
                    }
                    db.close().await
                });
            match closed {
                // A replica that is paused, or whose disk fails, closes as a process that is killed does.
                Ok(_) | Err(RunError::Limit { .. } | RunError::Down { .. } | RunError::Stuck { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.group.crash(&self.world, replica, Crash::Kill);
        self.group.set_settings(replica, settings);
        if self.group.has_run(replica) {
            self.group.restart(&self.world, replica);
        }
        Ok(())
    }

    /// From now on this goes wrong on a disk. Nothing: then it is sound, and the replica is started again.
    pub(super) fn spoil_disk(&self, replica: usize, faults: &DiskFaults) {
        let latency = self.scenario.disk.latency.clone();
        let is_sound = faults.is_sound();
        let faults = DiskFaults {
            latency,
            ..faults.clone()
        };
        let id = self.group.id(replica);
        self.world.disk(id).set_faults(faults);
        if !is_sound {
            self.group.expect_disk_faults(replica);
        } else if self.group.forgive_disk(replica) && self.group.has_run(replica) {
            self.group.crash(&self.world, replica, Crash::Kill);
            self.group.restart(&self.world, replica);
        }
    }

    /// One replica appends something about another, which must have run.
    fn about(&self, by: usize, target: usize, op: impl FnOnce(CoreKey) -> Op) {
        if let Some(key) = self.group.local_key(target) {
            self.append(&Append {
                at_ms: 0,
                replica: by,
                ops: vec![op(key)],
                // Who acknowledges itself asks to be let in.
                optimistic: by == target,
                left: None,
            });
        }
    }

    /// Puts a block into a log past the program that writes it. See [`Action::Forge`].
    fn forge(&self, by: usize, backer: usize) {
        let Some((store, db)) = self.group.store(by).zip(self.group.db(by)) else {
            return;
        };
        let Some(key) = self.group.local_key(backer) else {
            return;
        };
        let block = OplogBlock {
            witness: Some(Witness {
                weight: Weight(1),
                backer: Backer {
                    key,
                    length: Length(db.blocks(&key).len() as u64),
                    signature: Signature::new([0; 64]),
                    manifest: Bytes::new(),
                },
            }),
            value: self.subject.value(&Op::put("forged", key.to_hex())),
            ..OplogBlock::default()
        };
        let env = self.world.env(self.group.id(by));
        env.spawn().spawn("forge", async move {
            if let Ok(core) = store.get(CoreOptions::key(db.local())).await
                && let Ok(block) = block.to_bytes()
            {
                // A log that is closed by now gets no block.
                let _ = core.append(vec![block.into()]).await;
            }
        });
    }

    /// A replica makes a log, adds it, if it may, and goes on in it.
    fn rotate(&self, replica: usize) {
        let Some(db) = self
            .group
            .db(replica)
            .filter(|_| self.world.is_up(self.group.id(replica)))
        else {
            return;
        };
        let (group, subject) = (self.group.clone(), self.subject.clone());
        let weight = self.scenario.writer_weight;
        self.world
            .env(self.group.id(replica))
            .spawn()
            .spawn("rotate", async move {
                let next = match db.create_writer().await {
                    Ok(next) => next,
                    Err(error) => return group.append_failed(replica, &error),
                };
                let added = subject.value(&Op::add_writer(next, weight));
                if let Some(value) = added.filter(|_| db.writable()) {
                    match db
                        .append_with(vec![value.clone()], AppendOptions::default())
                        .await
                    {
                        Ok(appended) => group.acknowledge(Acknowledged {
                            replica,
                            key: appended.core,
                            length: appended.length,
                            values: vec![value],
                        }),
                        Err(error) => group.append_failed(replica, &error),
                    }
                }
                match db.set_local(next).await {
                    Ok(local) => group.rotated(replica, local),
                    Err(error) => group.append_failed(replica, &error),
                }
            });
    }

    /// Starts an append and does not wait for it. A replica that is down, or is no writer now, appends nothing.
    pub(super) fn append(&self, append: &Append) {
        let Some(db) = self.group.db(append.replica) else {
            return;
        };
        if !self.world.is_up(self.group.id(append.replica)) {
            return;
        }
        let values: Vec<Bytes> = append
            .ops
            .iter()
            .filter_map(|op| self.subject.value(op))
            .collect();
        if values.is_empty() {
            return;
        }
        let group = self.group.clone();
        let env = self.world.env(self.group.id(append.replica));
        let options = AppendOptions {
            optimistic: append.optimistic,
        };
        let (replica, optimistic) = (append.replica, append.optimistic);
        let refused_for = append.ops.first().and_then(refused_for);
        let life = group.life(replica);
        // Callers may go away before they hear what came of an append: after a while, or between two steps of it, at which no
        // time need pass.
        let is_late = env.buggify("abandon_append");
        let abandoned = (is_late || append.left.is_some()).then(|| {
            let clock = env.clock().clone();
            let after = is_late.then(|| ABANDONED_AFTER * (1 << (append.at_ms % 6)));
            let mut steps = append.left;
            async move {
                let stepped = poll_fn(move |_| match &mut steps {
                    Some(0) => Poll::Ready(()),
                    Some(left) => {
                        *left -= 1;
                        Poll::Pending
                    }
                    None => Poll::Pending,
                });
                match after {
                    Some(after) => drop(unless(clock.sleep(after), stepped).await),
                    None => stepped.await,
                }
            }
        });
        env.spawn().spawn("append", async move {
            let appending = db.append_with(values.clone(), options);
            let appended = match abandoned {
                None => appending.await,
                Some(abandoned) => match unless(appending, abandoned).await {
                    Some(appended) => appended,
                    None => return,
                },
            };
            if let Ok(appended) = &appended {
                group.answered(replica, life, appended);
            }
            match appended {
                Ok(appended) if !optimistic => {
                    group.acknowledge(Acknowledged {
                        replica,
                        key: appended.core,
                        length: appended.length,
                        values,
                    });
                }
                Ok(appended) => {
                    group.has_room(replica, &db, &appended);
                    if let Some(why) = refused_for {
                        group.says_why(replica, &db, &appended, values.len(), why);
                    }
                }
                Err(error) => group.append_failed(replica, &error),
            }
        });
    }

    /// Streams are no longer torn, nor their bytes flipped. Slow paths stay slow.
    pub(super) fn heal_paths(&self) {
        let path = PathConfig {
            tear_64k: 0,
            corrupt_64k: 0,
            ..self.scenario.network
        };
        let replicas = 0..self.scenario.replicas;
        for (from, to) in replicas
            .clone()
            .flat_map(|from| replicas.clone().map(move |to| (from, to)))
        {
            if from != to {
                self.world.set_path(self.group.id(from), self.group.id(to), path);
            }
        }
    }

    /// Puts clocks right that are so wrong that entries wait for them. What was written ahead of time is in the past
    /// then: time passed for everybody.
    pub(super) fn heal_clocks(&self) {
        let skews = self.scenario.event.iter().filter_map(|event| match event.action {
            Action::Skew { ms, .. } => Some(ms),
            _ => None,
        });
        let furthest = skews.map(i64::saturating_abs).max().unwrap_or(0);
        let drifts = |event: &crate::scenario::Event| matches!(event.action, Action::Drift { .. });
        if furthest < SKEW_HARMLESS_MS && !self.scenario.event.iter().any(drifts) {
            return;
        }
        for replica in 0..self.scenario.replicas {
            self.world.drift(self.group.id(replica), 0);
            self.world.skew(self.group.id(replica), furthest);
        }
    }
}
