//! What the program of a replica does: it opens the database, listens, dials its peers, and watches what is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use autobee::bee::Range;
use autobee::db::{AllMembers, Autobee, Event, FastForward};
use autobee::env::{Clock as _, Env, Spawn as _};
use autobee::{Corestore, Error, ErrorKind};
use bytes::Bytes;

use super::super::archive::Archive;
use super::super::subject::{Erased, Now};
use super::{ENCRYPTION_KEY, Group};
use crate::invariant::Violation;
use crate::workload::JsonApply;

/// So many changes one event of a watch has at most, at every second replica.
const WATCHED_AT_ONCE: u64 = 2;

/// How long a replica waits before it dials a peer again.
pub(super) const REDIAL: Duration = Duration::from_millis(250);

impl<E: Env> Group<E> {
    /// What a replica does: open, listen, dial everybody who comes after it and is to be dialled.
    pub(super) async fn program(self, env: E, replica: usize) {
        let (name, life) = {
            let mut members = self.lock();
            let member = &mut members.replicas[replica];
            member.life += 1;
            member.unopened = None;
            (member.name.clone(), member.life)
        };
        let (db, store) = loop {
            match self.open(env.clone(), &name, replica).await {
                Ok(opened) => break opened,
                Err(error) if self.excuses(replica, &error) => {
                    self.lock().replicas[replica].unopened = of_trees(&error);
                    env.clock().sleep(REDIAL).await;
                }
                Err(error) => return self.fail(replica, "open", &error),
            }
        };
        {
            let mut members = self.lock();
            members.database.get_or_insert(db.key());
            members.replicas[replica].local = Some(db.local());
            members.replicas[replica].db = Some(db.clone());
            members.replicas[replica].store = Some(store.clone());
            members.replicas[replica].unopened = None;
            let trees = db.views().into_iter().flatten();
            members.tree_cores.extend(trees.map(|core| core.key));
        }
        self.goes_on_asking(&db, replica);
        self.subject().opened(replica, db.local());
        let watching = self.clone();
        env.spawn()
            .spawn("watch", watching.watch(env.clone(), db.clone(), replica, life));
        let listening = self.clone();
        env.spawn()
            .spawn("events", listening.listen(env.clone(), db.clone(), replica, life));
        self.side_cores().start(&env, &store, replica);
        if self.lock().scenario.forward.contains(&replica) {
            let has_logs = !self.lock().scenario.passing.contains(&replica);
            let archive = Archive {
                db: db.clone(),
                store: store.clone(),
                has_logs,
            };
            let moved_onto = self.clone();
            let archiving = archive.run(env.clone(), move || moved_onto.moved_onto(replica));
            env.spawn().spawn("archive", archiving);
        }
        self.connect(env, db, replica).await;
    }

    async fn open(&self, env: E, name: &str, replica: usize) -> Result<(Autobee<E>, Corestore<E>), Error> {
        let store = Corestore::open_default(env.clone()).await?;
        let (settings, encrypted, optimistic, rules, forward, since) = {
            let members = self.lock();
            let settings = members.replicas[replica].settings.clone();
            (
                settings,
                members.scenario.encrypted,
                !members.scenario.members_only,
                members.scenario.rules(),
                members.scenario.forward.contains(&replica),
                members.replicas[replica].since,
            )
        };
        let clock = env.clock().clone();
        let now: Now = Arc::new(move || since + Duration::from_nanos(clock.now().0));
        let started = self.subject().start(replica, now);
        let (interrupt, apply_version) = {
            let members = self.lock();
            let member = &members.replicas[replica];
            (Arc::clone(&member.interrupt), member.apply_version)
        };
        let mut builder = Autobee::builder(store.clone())
            .name(name)
            .apply(Erased {
                apply: started.apply,
                interrupt,
            })
            .apply_version(apply_version)
            .optimistic(optimistic)
            .rules(rules)
            .settings(settings);
        if let Some(watcher) = started.watcher {
            let disk = self.lock().replicas[replica].disk.clone();
            builder = builder.update(move |view, _| {
                // Whoever watches is no part of the world: what it reads costs nothing, and does not fail.
                disk.observe_only(true);
                watcher(view);
                disk.observe_only(false);
            });
        } else {
            // The database has the hook, and the group the database.
            let group = self.downgrade();
            let life = self.life(replica);
            builder = builder.update(move |view, update| {
                if let Some(group) = group.upgrade() {
                    group.see(replica, life, |seen| seen.updated(update, view.head()));
                }
            });
        }
        if let Some(key) = self.database() {
            builder = builder.key(key);
        }
        if encrypted {
            builder = builder.encryption_key(ENCRYPTION_KEY);
        }
        if forward {
            builder = builder.fast_forward(FastForward::trusting(AllMembers).liberal());
        }
        if std::mem::take(&mut self.lock().replicas[replica].is_restored) {
            builder = builder.restored();
        }
        Ok((builder.open().await?, store))
    }

    /// Closes the database of a replica as a program does that has another one in the same store, which it opens for that:
    /// then the store stays open, and has the first one opened once more, which must be what it was.
    pub(in crate::run) async fn close_beside_another(&self, db: Autobee<E>, replica: usize) {
        let Some(store) = self.lock().replicas[replica].store.clone() else {
            return;
        };
        if let Err(error) = self.open_once_more(&db, &store).await
            && !self.excuses(replica, &error)
        {
            self.fail(replica, "close and open again in one store", &error);
        }
    }

    async fn open_once_more(&self, db: &Autobee<E>, store: &Corestore<E>) -> Result<(), Error> {
        let other = Autobee::builder(store.namespace("another")).apply(JsonApply);
        let other = other.open().await?;
        let (key, encrypted) = (db.key(), self.lock().scenario.encrypted);
        db.close().await?;
        let mut builder = Autobee::builder(store.clone()).apply(JsonApply).key(key);
        if encrypted {
            builder = builder.encryption_key(ENCRYPTION_KEY);
        }
        let again = builder.open().await?;
        again.close().await?;
        other.close().await
    }

    /// Who had to ask peers about its log before it appended still has to, when it is started again.
    fn goes_on_asking(&self, db: &Autobee<E>, replica: usize) {
        let is_sound = !self.is_disk_faulty(replica);
        let mut members = self.lock();
        let member = &mut members.replicas[replica];
        let is_in_doubt = db.unconfirmed().is_some();
        let was_in_doubt = std::mem::replace(&mut member.is_in_doubt, is_in_doubt);
        if was_in_doubt && !is_in_doubt && is_sound {
            let what = format!(
                "{} was started again, and does not ask any more whether peers have more of its log",
                member.name
            );
            let invariant = "own log";
            members.failures.push(Violation { invariant, what });
        }
    }

    /// Follows the whole view by its changes alone.
    async fn watch(self, env: E, db: Autobee<E>, replica: usize, life: u32) {
        // Half of them are told of few changes at once.
        let range = match replica % 2 {
            0 => Range::all(),
            _ => Range::all().limit(WATCHED_AT_ONCE),
        };
        let (mut watch, head, first) = loop {
            let start = db.view();
            let watch = db.watch(range.clone());
            match start.all().await {
                Ok(first) => break (watch, start.head(), first),
                Err(error) if error.kind() == ErrorKind::Closed => return,
                // A disk that fails now may not fail later.
                Err(_) => env.clock().sleep(REDIAL).await,
            }
        };
        self.see(replica, life, |seen| {
            let first = first.into_iter().collect::<BTreeMap<Bytes, Bytes>>();
            seen.view = Some((head, Arc::new(first)));
        });
        loop {
            match watch.next().await {
                Ok(event) => self.see(replica, life, |seen| seen.watched(&event)),
                Err(error) if error.kind() == ErrorKind::Closed => return,
                // The next call tries again.
                Err(_) => env.clock().sleep(REDIAL).await,
            }
        }
    }

    async fn listen(self, env: E, db: Autobee<E>, replica: usize, life: u32) {
        let mut events = db.events();
        let (local, start) = (db.local(), db.view().head());
        let is_writable = db.writable();
        let writers = db.writers();
        self.see(replica, life, |seen| {
            seen.begin(local, start, is_writable, &writers);
        });
        while let Ok(event) = events.next().await {
            if let Event::Error { .. } = event {
                let mut members = self.lock();
                let member = &mut members.replicas[replica];
                member.is_broken |= member.is_disk_faulty;
            }
            if let Event::Error { what } = &event
                && !self.is_disk_faulty(replica)
            {
                let mut members = self.lock();
                let name = &members.replicas[replica].name;
                let what = format!("{name} says that something failed, and its disk is sound: {what}");
                let invariant = "told";
                members.failures.push(Violation { invariant, what });
            }
            if let Event::Interrupt { reason } = &event {
                let reason = reason.clone();
                let error = Error::Interrupted { reason };
                if !self.excuses(replica, &error) {
                    self.fail(replica, "applying", &error);
                }
                self.interrupted(&env, replica, life);
            }
            if let Event::CutOff { first, last } = &event
                && !self.is_disk_faulty(replica)
            {
                let mut members = self.lock();
                let name = &members.replicas[replica].name;
                let what =
                    format!("{name} says that commits {first} to {last} are missing, and its disk is sound");
                let invariant = "told";
                members.failures.push(Violation { invariant, what });
            }
            // What was missed may have been that its log is whole.
            if let Event::Unconfirmed(_) | Event::Confirmed | Event::Rotated { .. } | Event::Missed(_) =
                &event
            {
                self.lock().replicas[replica].is_in_doubt = db.unconfirmed().is_some();
            }
            if let Event::Rotated { .. } = &event {
                let trees = db.views().into_iter().flatten();
                self.lock().tree_cores.extend(trees.map(|core| core.key));
            }
            if let Event::MoveTo { from, to } = &event {
                let mut members = self.lock();
                members.tree_cores.extend([from.key, to.key]);
                members.replicas[replica].has_moved = true;
            }
            self.see(replica, life, |seen| seen.event(&event));
        }
    }
}

/// What keeps a database from opening that can be made anew of its logs: an error that is not about the store, or about a log in
/// it.
fn of_trees(error: &Error) -> Option<String> {
    let is_of_store = match error {
        Error::Corrupt { file, .. } => !file.starts_with("core "),
        other => !matches!(other.kind(), ErrorKind::Interrupted | ErrorKind::Internal),
    };
    (!is_of_store).then(|| error.to_string())
}
