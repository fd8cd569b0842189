//! The tasks of an open database: each waits for one thing of the world, and tells the machine.

use std::sync::{Arc, Weak};

use super::store;
use super::{Done, LATE, MachineOf, Shell, told, unless};
use crate::crypto::CoreKey;
use crate::db::machine::{Effect, Input};
use crate::db::view::RemoteBlocks as _;
use crate::db::{CloseReason, Event, Session};
use crate::engine::{MissingBlock, ViewClaim};
use crate::env::{Clock as _, Env, Slip, Spawn as _, watch};
use crate::error::Error;
use crate::hypercore::CoreError;
use crate::replication::session::Wakeup;
use crate::wire::Link;

impl<E: Env> Shell<E> {
    /// Listens to a log from now on.
    pub(super) fn follow(self: &Arc<Self>, machine: &MachineOf<E>, key: CoreKey) -> Result<(), CoreError> {
        let log = machine.logs().get(&key).ok_or(CoreError::Unknown)?;
        let following = follow(Arc::downgrade(self), key, log.changes()?);
        self.env.spawn().spawn("follow a core", following);
        Ok(())
    }

    /// Opens a log that is wanted.
    pub(super) fn open_later(self: &Arc<Self>, key: CoreKey) {
        let opening = open(Arc::downgrade(self), key);
        self.env.spawn().spawn("open a core", opening);
    }

    /// Opens a log again whose session ended.
    pub(super) fn reopen_later(self: &Arc<Self>, key: CoreKey) {
        let opening = reopen(Arc::downgrade(self), key);
        self.env.spawn().spawn("open a core again", opening);
    }

    /// Takes note of a peer that connects, and of when it has sent all that it has.
    pub(super) fn follow_peer(self: &Arc<Self>, peer: u64, session: &Session) {
        if self.replication.asks_whom_to_admit() {
            let admitting = tell_of_panic(Arc::downgrade(self), session.clone());
            self.env.spawn().spawn("follow an admission", admitting);
        }
        let gathers = self.settings.heal_gather.time_ms > 0;
        if !gathers && self.unconfirmed().is_none() {
            return;
        }
        if gathers {
            let at = self.env.clock().now();
            self.machine.leave(Input::PeerConnected { peer, at });
        }
        let (shared, session) = (Arc::downgrade(self), session.clone());
        self.env.spawn().spawn("await a peer's sync", async move {
            // However long that takes: what waits for it has a bound of its own.
            session.reached(|progress| progress.is_synced).await;
            if let Some(shared) = shared.upgrade() {
                let done = {
                    let mut machine = shared.machine.enter().await;
                    shared.step(&mut machine, Input::PeerSynced(peer))
                };
                if shared.unconfirmed().is_some() {
                    // An append waits for this.
                    shared.notify();
                }
                if done.drains {
                    told(Box::pin(shared.drain()).await, &shared.env);
                }
            }
        });
    }

    /// Takes note of cores that peers are said to have.
    pub(in crate::db) async fn hint(self: &Arc<Self>, cores: &[Link]) {
        let cores = cores.iter().map(|core| (None, core.key)).collect();
        let mut machine = self.machine.enter().await;
        self.step_alone(&mut machine, Input::Announced(cores));
    }

    /// Whether blocks may wait for others that are on their way.
    pub(super) fn gathers(&self) -> bool {
        !self.env.buggify("no_gathering")
    }
}

/// Opens a log in another session, and hands it to the machine.
async fn reopen<E: Env>(shared: Weak<Shell<E>>, core: CoreKey) {
    let Some(shared) = shared.upgrade() else { return };
    let opened = store::open_log(&shared.store, shared.key, shared.keys.as_ref(), core).await;
    let input = match opened {
        Ok(log) => Input::Reopened(Arc::new(log)),
        Err(error) => Input::Failed {
            what: "opening a log again",
            error: error.into(),
        },
    };
    let done = {
        let mut machine = shared.machine.enter().await;
        shared.step(&mut machine, input)
    };
    if done.drains {
        told(Box::pin(shared.drain()).await, &shared.env);
    }
}

/// Tells listeners when a connection ended because the function that admits peers panicked.
async fn tell_of_panic<E: Env>(shared: Weak<Shell<E>>, session: Session) {
    let reason = session.ended().await;
    let Some(shared) = shared.upgrade() else { return };
    if matches!(reason, CloseReason::AdmitPanicked(_)) {
        let machine = shared.machine.enter().await;
        let what = reason.to_string();
        shared.perform(
            &machine,
            Effect::Tell(Event::Error { what }),
            &mut Done::default(),
        );
    }
}

/// Tells the machine whenever a log got more.
async fn follow<E: Env>(shared: Weak<Shell<E>>, core: CoreKey, mut changes: watch::Receiver<u64>) {
    let planted = shared.upgrade().map(|shared| shared.store.planted());
    if planted.is_some_and(|planted| planted.has(Slip::FollowerLate)) {
        changes.mark_unchanged();
    }
    // It ends when the log is let go of.
    while changes.changed().await.is_ok() {
        let Some(shared) = shared.upgrade() else { return };
        if shared.env.buggify("late_feed") {
            shared.env.clock().sleep(LATE).await;
        }
        let done = {
            let mut machine = shared.machine.enter().await;
            if !machine.logs().has(&core) {
                return;
            }
            let gathers = shared.gathers();
            shared.step(&mut machine, Input::Changed { core, gathers })
        };
        if done.drains {
            told(Box::pin(shared.drain()).await, &shared.env);
        }
        if done.unreadable.is_some() {
            // Nothing more comes of it, as its state says; other logs go on.
            return;
        }
    }
}

/// Opens a log, and hands it to the machine.
async fn open<E: Env>(shared: Weak<Shell<E>>, core: CoreKey) {
    let Some(shared) = shared.upgrade() else { return };
    if shared.env.buggify("late_opening") {
        shared.env.clock().sleep(LATE).await;
    }
    let opened = store::open_log(&shared.store, shared.key, shared.keys.as_ref(), core).await;
    let input = match opened {
        Ok(log) => Input::Opened(Arc::new(log)),
        Err(error) => Input::Unopened { core, error },
    };
    let done = {
        let mut machine = shared.machine.enter().await;
        shared.step(&mut machine, input)
    };
    if done.drains {
        told(Box::pin(shared.drain()).await, &shared.env);
    }
}

/// Takes note of the cores that peers announce.
pub(super) async fn follow_announcements<E: Env>(
    shared: Weak<Shell<E>>,
    wakeup: Wakeup,
    mut closing: watch::Receiver<bool>,
) {
    while let Some(cores) = unless(wakeup.announced_by(), closing.changed()).await {
        let Some(shared) = shared.upgrade() else { return };
        let cores = cores.into_iter().map(|(peer, core)| (Some(peer), core.key));
        let announced = Input::Announced(cores.collect());
        let mut machine = shared.machine.enter().await;
        shared.step_alone(&mut machine, announced);
    }
}

/// Asks peers for a block of a tree, as long as it is awaited, and goes on applying once it is here.
pub(super) async fn await_block<E: Env>(shared: Weak<Shell<E>>, block: MissingBlock) {
    let found = loop {
        let (peers, planted) = {
            let Some(shared) = shared.upgrade() else { return };
            if shared.machine.enter().await.awaited() != Some(block) || shared.is_closed() {
                return;
            }
            (shared.trees.peers(), shared.store.planted())
        };
        if let Some(shared) = shared.upgrade()
            && shared.env.buggify("late_tree_block")
        {
            let clock = shared.env.clock().clone();
            drop(shared);
            clock.sleep(LATE).await;
        }
        match peers.fetch(block.core, block.index).await {
            Err(Error::Unavailable { .. }) if !planted.has(Slip::WaitGivenUp) => {}
            found => break found,
        }
    };
    let Some(shared) = shared.upgrade() else { return };
    let input = match found {
        Ok(()) => Input::Found(block),
        Err(error) => Input::Unfindable { block, error },
    };
    let done = {
        let mut machine = shared.machine.enter().await;
        shared.step(&mut machine, input)
    };
    if done.drains {
        told(Box::pin(shared.drain()).await, &shared.env);
    }
}

/// Compares the own view with what another writer says of its own.
pub(super) async fn compare<E: Env>(shared: Weak<Shell<E>>, claim: Box<ViewClaim>) {
    let peers = {
        let Some(shared) = shared.upgrade() else { return };
        shared.trees.peers()
    };
    let key = peers.compare(&claim).await;
    let Some(shared) = shared.upgrade() else { return };
    let mut machine = shared.machine.enter().await;
    let batch = claim.batch;
    shared.step(&mut machine, Input::Compared { batch, key });
}
