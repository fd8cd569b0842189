//! The replicas of a run: processes that open the database, listen, and dial each other until they are connected.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use autobee::crypto::CoreKey;
use autobee::db::{Autobee, Role};
use autobee::env::{Clock as _, Env, Listener as _, Network as _, PeerAddr, Spawn as _};
use autobee::{Corestore, Error, ErrorKind, Settings};

use crate::invariant::{Acknowledged, Violation};
use crate::lane::Lane;
use crate::replica::{Crash, ReplicaId};
use crate::workload::Contract;
use crate::world::NameError;

/// How long a replica waits before it dials a peer again.
const REDIAL: Duration = Duration::from_millis(250);

/// Handles to all replicas. Clones share them.
pub(super) struct Group<E: Env>(Arc<Mutex<Members<E>>>);

struct Members<E: Env> {
    replicas: Vec<Member<E>>,
    /// The database that everybody joins.
    database: Option<CoreKey>,
    settings: Settings,
    acknowledged: Vec<Acknowledged>,
    failures: Vec<Violation>,
}

struct Member<E: Env> {
    id: ReplicaId,
    name: String,
    booted: bool,
    db: Option<Autobee<E>>,
    store: Option<Corestore<E>>,
    /// The key of its writer, once it ran.
    local: Option<CoreKey>,
}

impl<E: Env> Group<E> {
    pub(super) fn new(
        world: &impl Lane<Env = E>,
        replicas: usize,
        settings: Settings,
    ) -> Result<Self, NameError> {
        let member = |number| {
            let name = format!("r{number}");
            Ok(Member {
                id: world.add_replica(&name)?,
                name,
                booted: false,
                db: None,
                store: None,
                local: None,
            })
        };
        let replicas = (0..replicas).map(member).collect::<Result<_, NameError>>()?;
        let members = Members {
            replicas,
            database: None,
            settings,
            acknowledged: Vec::new(),
            failures: Vec::new(),
        };
        Ok(Self(Arc::new(Mutex::new(members))))
    }

    // Processes.

    /// Starts the program of a replica for the first time.
    pub(super) fn boot(&self, world: &impl Lane<Env = E>, replica: usize) {
        let id = {
            let mut members = self.lock();
            let member = &mut members.replicas[replica];
            if std::mem::replace(&mut member.booted, true) {
                return;
            }
            member.id
        };
        let group = self.clone();
        world.boot(id, move |env| group.clone().program(env, replica));
    }

    pub(super) fn crash(&self, world: &impl Lane<Env = E>, replica: usize, how: Crash) {
        let (db, store) = {
            let member = &mut self.lock().replicas[replica];
            (member.db.take(), member.store.take())
        };
        world.crash(self.id(replica), how);
        drop((db, store));
    }

    /// Starts a crashed replica again; one that never ran stays down, one that runs goes on.
    pub(super) fn restart(&self, world: &impl Lane<Env = E>, replica: usize) {
        let id = self.id(replica);
        if !world.is_up(id) {
            world.restart(id);
        }
    }

    /// What a replica does: open, listen, dial everybody who comes after it.
    async fn program(self, env: E, replica: usize) {
        let name = self.name(replica);
        let (db, store) = match self.open(env.clone(), &name).await {
            Ok(opened) => opened,
            Err(error) => return self.fail(replica, "open", &error),
        };
        {
            let mut members = self.lock();
            members.database.get_or_insert(db.key());
            members.replicas[replica].local = Some(db.local());
            members.replicas[replica].db = Some(db.clone());
            members.replicas[replica].store = Some(store);
        }
        let peers: Vec<String> = self
            .lock()
            .replicas
            .iter()
            .skip(replica + 1)
            .map(|peer| peer.name.clone())
            .collect();
        for peer in peers {
            env.spawn().spawn("dial", dial(env.clone(), db.clone(), peer));
        }
        let Ok(mut listener) = env.network().listen(&PeerAddr::new(name)).await else {
            return;
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    if db.replicate(stream, Role::Responder).is_err() {
                        return;
                    }
                }
                // A peer that went away while it was accepted says nothing about the next one.
                Err(_) => env.clock().sleep(REDIAL).await,
            }
        }
    }

    async fn open(&self, env: E, name: &str) -> Result<(Autobee<E>, Corestore<E>), Error> {
        let store = Corestore::open_default(env).await?;
        let mut builder = Autobee::builder(store.clone())
            .name(name)
            .apply(Contract)
            .settings(self.lock().settings.clone());
        if let Some(key) = self.database() {
            builder = builder.key(key);
        }
        Ok((builder.open().await?, store))
    }

    // What is known of them.

    pub(super) fn id(&self, replica: usize) -> ReplicaId {
        self.lock().replicas[replica].id
    }

    pub(super) fn name(&self, replica: usize) -> String {
        self.lock().replicas[replica].name.clone()
    }

    pub(super) fn db(&self, replica: usize) -> Option<Autobee<E>> {
        self.lock().replicas[replica].db.clone()
    }

    pub(super) fn store(&self, replica: usize) -> Option<Corestore<E>> {
        self.lock().replicas[replica].store.clone()
    }

    pub(super) fn database(&self) -> Option<CoreKey> {
        self.lock().database
    }

    /// The key of a replica's writer; none before it ran for the first time.
    pub(super) fn local_key(&self, replica: usize) -> Option<CoreKey> {
        self.lock().replicas[replica].local
    }

    pub(super) fn acknowledge(&self, entry: Acknowledged) {
        self.lock().acknowledged.push(entry);
    }

    pub(super) fn acknowledged(&self) -> Vec<Acknowledged> {
        self.lock().acknowledged.clone()
    }

    /// Notes why an append failed, unless that was to be expected.
    pub(super) fn append_failed(&self, replica: usize, error: &Error) {
        if !matches!(error.kind(), ErrorKind::Denied | ErrorKind::Closed) {
            self.fail(replica, "append", error);
        }
    }

    pub(super) fn failures(&self) -> Vec<Violation> {
        self.lock().failures.clone()
    }

    fn fail(&self, replica: usize, what: &str, error: &Error) {
        let what = format!("{what} at {}: {error}", self.name(replica));
        self.lock().failures.push(Violation {
            invariant: "no failure",
            what,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Members<E>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Env> Clone for Group<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Keeps one connection to a peer.
async fn dial<E: Env>(env: E, db: Autobee<E>, peer: String) {
    let peer = PeerAddr::new(peer);
    loop {
        if let Ok(stream) = env.network().dial(&peer).await {
            match db.replicate(stream, Role::Initiator) {
                Ok(session) => drop(session.ended().await),
                Err(_) => return,
            }
        }
        env.clock().sleep(REDIAL).await;
    }
}
