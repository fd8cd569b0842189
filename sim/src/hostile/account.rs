//! What became of hostile peers, so that a test can tell an attack from decoration.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use autobee::crypto::CoreKey;
use autobee::db::{CloseReason, Session};
use autobee::env::{Env, PeerAddr, Spawn as _};
use autobee::replication::message::Message;
use autobee::replication::replicator::PeerFault;
use autobee::replication::session::Misbehaviour;
use serde::Serialize;

use crate::scenario::{Hostile, Hostility};

/// What one hostile peer did, and what it got for it.
#[derive(Debug, Default)]
pub struct Account {
    /// Messages about the core that it got.
    pub got: Vec<Message>,
    /// Messages are counted and not kept.
    pub is_forgetful: bool,
    /// Requests for data that it got.
    pub asked: u64,
    /// Bytes that it got rid of.
    pub sent: usize,
    /// Streams that it opened.
    pub streams: usize,
    /// Channels that were rejected.
    pub rejected: usize,
    /// Hostile things that it did: what one is depends on its kind.
    pub misdeeds: u64,
    /// How often sessions with it were ended because of what it did, by [`class`].
    pub blamed: BTreeMap<&'static str, u64>,
    /// How often sessions with it ended otherwise, by how.
    pub ended: BTreeMap<&'static str, u64>,
    /// The key of its own log.
    pub key: Option<CoreKey>,
}

/// What one hostile peer did, in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Deeds {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Hostility,
    /// Streams that it opened.
    pub streams: u64,
    /// Requests for data that it got.
    pub asked: u64,
    /// Hostile things that it did: forged proofs, blocks or frames sent, entries of one branch of a log.
    pub misdeeds: u64,
    /// How often replicas ended a session with it because of what it did, by what that was.
    pub blamed: BTreeMap<&'static str, u64>,
    /// How often sessions with it ended otherwise, by how.
    pub ended: BTreeMap<&'static str, u64>,
}

/// The accounts of all hostile peers of a run. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<BTreeMap<String, AccountOf>>);

/// What kind of peer it is, and what it did.
type AccountOf = (Hostility, Arc<Mutex<Account>>);

impl Account {
    /// Notes a message that was got.
    pub(super) fn receive(&mut self, message: Message) {
        self.asked += u64::from(matches!(message, Message::Request(_)));
        if !self.is_forgetful {
            self.got.push(message);
        }
    }
}

impl Ledger {
    pub(crate) fn new(hostile: &[Hostile]) -> Self {
        let accounts = hostile.iter().enumerate().map(|(number, hostile)| {
            let account = Account {
                is_forgetful: true,
                ..Account::default()
            };
            (name(number), (hostile.kind, Arc::new(Mutex::new(account))))
        });
        Self(Arc::new(accounts.collect()))
    }

    /// The account of the hostile peer of this number.
    pub(super) fn account(&self, number: usize) -> Arc<Mutex<Account>> {
        let account = self.0.get(&name(number));
        account
            .map(|(_, account)| Arc::clone(account))
            .unwrap_or_default()
    }

    /// Notes why a replica ends a session, if a hostile peer is at its other end.
    pub(crate) fn watch<E: Env>(&self, env: &E, from: &PeerAddr, session: Session) {
        let name = from.as_str().split(':').next().unwrap_or_default();
        let Some((_, account)) = self.0.get(name) else {
            return;
        };
        let account = Arc::clone(account);
        env.spawn().spawn("watch a hostile peer", async move {
            let reason = session.ended().await;
            let Account { blamed, ended, .. } = &mut *lock(&account);
            let count = match reason {
                CloseReason::PeerMisbehaved(what) => blamed.entry(class(&what)),
                CloseReason::TimedOut => ended.entry("silent"),
                CloseReason::StreamFailed(_) => ended.entry("stream failed"),
                CloseReason::PeerEnded => ended.entry("peer ended"),
                CloseReason::StoreFailed(_) => ended.entry("store failed"),
                _ => ended.entry("closed"),
            };
            *count.or_default() += 1;
        });
    }

    /// The logs of those that have one, with their names.
    pub(crate) fn logs(&self) -> Vec<(String, CoreKey)> {
        let log = |(name, (_, account)): (&String, &AccountOf)| Some((name.clone(), lock(account).key?));
        self.0.iter().filter_map(log).collect()
    }

    /// What all of them did.
    pub(crate) fn deeds(&self) -> Vec<Deeds> {
        let deeds = |(name, (kind, account)): (&String, &(Hostility, Arc<Mutex<Account>>))| {
            let account = lock(account);
            Deeds {
                name: name.clone(),
                kind: *kind,
                streams: account.streams as u64,
                asked: account.asked,
                misdeeds: account.misdeeds,
                blamed: account.blamed.clone(),
                ended: account.ended.clone(),
            }
        };
        self.0.iter().map(deeds).collect()
    }
}

/// The name of a hostile peer, which is also its address.
pub(super) fn name(number: usize) -> String {
    format!("h{number}")
}

/// One word for a kind of misbehaviour.
#[must_use]
pub fn class(what: &Misbehaviour) -> &'static str {
    match what {
        Misbehaviour::Stream(_) => "stream",
        Misbehaviour::Capability { .. } => "capability",
        Misbehaviour::Message { .. } => "message",
        Misbehaviour::Wakeup(_) => "wakeup",
        Misbehaviour::Replication { fault, .. } => match fault {
            PeerFault::Proof(_) => "proof",
            PeerFault::Misfit { .. } => "misfit",
            PeerFault::NoData { .. } => "no-data",
            PeerFault::InvalidRequests { .. } => "invalid-requests",
            PeerFault::Announcements { .. } => "announcements",
            PeerFault::Flood { .. } => "flood",
            _ => "replication",
        },
        _ => "other",
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
