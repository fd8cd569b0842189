//! What a run shows of itself while it goes on, for whoever explains it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::env::Env;

use super::group::Group;
use crate::crypto::SimCrypto;
use crate::executor::lock;
use crate::invariant::{Acknowledged, Look, ReplicaLook};

/// All replicas at one moment. Replicas that look the same at two moments are kept once.
#[derive(Debug, Clone)]
pub(crate) struct RecordedLook {
    /// Virtual time since the world began.
    pub(crate) at: Duration,
    /// Every replica, by number.
    pub(crate) replicas: Vec<Arc<ReplicaLook>>,
}

/// What was recorded of a run so far.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// All looks, in the order of their times.
    pub(crate) looks: Vec<RecordedLook>,
    /// Every append that returned, in the order of the returns.
    pub(crate) acknowledged: Arc<Vec<Acknowledged>>,
    /// The database that everybody joins.
    pub(crate) database: Option<CoreKey>,
    /// Whose log is whose, and the how manyth of its owner it is, from 0.
    pub(crate) logs: BTreeMap<CoreKey, (String, usize)>,
    /// The signatures of the world.
    pub(crate) crypto: Option<SimCrypto>,
    /// When the plan of the scenario began.
    pub(crate) began: Option<Duration>,
    /// When everything was healed.
    pub(crate) healed: Option<Duration>,
}

/// Records a run. Clones share what is recorded, so that it outlives a run that panics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Recording>>);

impl Recorder {
    /// What was recorded; nothing is left behind.
    pub(crate) fn take(&self) -> Recording {
        std::mem::take(&mut *lock(&self.0))
    }

    /// The signatures of the world in which it happens.
    pub(super) fn signatures(&self, crypto: SimCrypto) {
        lock(&self.0).crypto = Some(crypto);
    }

    /// The plan of the scenario begins.
    pub(super) fn begins(&self, at: Duration) {
        lock(&self.0).began = Some(at);
    }

    /// Everything is healed.
    pub(super) fn heals(&self, at: Duration) {
        lock(&self.0).healed = Some(at);
    }

    /// All replicas were looked at.
    pub(super) fn look<E: Env>(&self, group: &Group<E>, looks: &[ReplicaLook], at: Duration) {
        let mut recording = lock(&self.0);
        recording.acknowledged = group.acknowledged();
        recording.database = group.database();
        for replica in looks {
            let open = replica.look.as_ref().map(|look| look.local);
            for key in open.into_iter().chain(group.local_key(replica.replica)) {
                recording.name(key, &replica.name);
            }
        }
        for (name, key) in group.ledger().logs() {
            recording.name(key, &name);
        }
        let last = recording.looks.last().map(|last| last.replicas.clone());
        let replicas = looks.iter().enumerate().map(|(number, now)| {
            let before = last.as_ref().and_then(|last| last.get(number));
            match before.filter(|before| is_same(before, now)) {
                Some(before) => Arc::clone(before),
                None => Arc::new(now.clone()),
            }
        });
        let replicas = replicas.collect();
        recording.looks.push(RecordedLook { at, replicas });
    }
}

impl Recording {
    /// Adds what one database shows that is no replica of a run.
    pub(crate) fn add(&mut self, at: Duration, name: &str, look: Look) {
        let replica = ReplicaLook {
            replica: 0,
            name: name.to_owned(),
            life: 1,
            tasks: BTreeMap::new(),
            streams: 0,
            blames: BTreeSet::new(),
            offered: BTreeMap::new(),
            look: Some(look),
            unseen: None,
        };
        let replicas = vec![Arc::new(replica)];
        self.looks.push(RecordedLook { at, replicas });
    }

    fn name(&mut self, key: CoreKey, owner: &str) {
        if !self.logs.contains_key(&key) {
            let number = self.logs.values().filter(|(name, _)| name == owner).count();
            self.logs.insert(key, (owner.to_owned(), number));
        }
    }
}

/// True when nothing that an explanation tells differs.
fn is_same(before: &ReplicaLook, now: &ReplicaLook) -> bool {
    let looks = match (&before.look, &now.look) {
        (None, None) => true,
        (Some(before), Some(now)) => {
            (before.local, before.view_head, before.flushes) == (now.local, now.view_head, now.flushes)
                && before.shown == now.shown
                && before.known == now.known
                && before.set == now.set
                && before.progress == now.progress
                && before.missing == now.missing
                && before.order == now.order
                && before.writers == now.writers
                && before.stats == now.stats
        }
        _ => false,
    };
    before.life == now.life && before.unseen == now.unseen && looks
}
