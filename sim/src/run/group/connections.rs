//! How a replica is connected: its program dials its peers and accepts them, or has the database do it.

use std::time::Duration;

use autobee::RetrySettings;
use autobee::db::{Autobee, KeptConnection, Role};
use autobee::env::{Clock as _, Env, Listener as _, Network as _, PeerAddr, Spawn as _};

use super::super::act::unless;
use super::Group;
use super::program::REDIAL;
use crate::invariant::Violation;

/// The longest pause between two dials of a database.
const PAUSE_MS_MAX: u64 = 1_000;

/// A database that keeps its connections lets a peer go each such time, until everything is healed.
const LET_GO: Duration = Duration::from_secs(3);

/// How long the connection with a peer that was let go may take to end, beside the farewell.
const ENDED: Duration = Duration::from_secs(2);

impl<E: Env> Group<E> {
    /// Connects a replica with all peers, until its database is closed.
    pub(super) async fn connect(self, env: E, db: Autobee<E>, replica: usize) {
        let (name, peers, keeps, has_outsiders) = {
            let members = self.lock();
            let all = members.replicas.iter().enumerate().skip(replica + 1);
            let dialled = all.filter(|(peer, _)| members.scenario.connects(replica, *peer));
            // Every second one is kept without a break.
            let peers = dialled.map(|(peer, member)| (member.name.clone(), peer % 2 == 0));
            let peers: Vec<(String, bool)> = peers.collect();
            let scenario = &members.scenario;
            let keeps = scenario.keeping.contains(&replica);
            (
                members.replicas[replica].name.clone(),
                peers,
                keeps,
                !scenario.hostile.is_empty() || !scenario.reader.is_empty(),
            )
        };
        for (peer, is_let_go) in peers {
            if !keeps {
                env.spawn().spawn("dial", dial(env.clone(), db.clone(), peer));
                continue;
            }
            let keeping = self
                .clone()
                .keep(env.clone(), db.clone(), replica, (peer, is_let_go));
            env.spawn().spawn("keep", keeping);
        }
        // Of those who are no replicas it is noted what sessions hold against them.
        if keeps && !has_outsiders {
            self.listen_always(db, replica, name).await;
        } else {
            self.accept(env, db, name).await;
        }
    }

    /// The database accepts peers.
    async fn listen_always(self, db: Autobee<E>, replica: usize, name: String) {
        match db.listen(name).await {
            // Until it is closed.
            Ok(mut listening) => while listening.changed().await {},
            Err(error) => self.fail(replica, "listen", &error),
        }
    }

    /// The program accepts peers.
    async fn accept(self, env: E, db: Autobee<E>, name: String) {
        let Ok(mut listener) = env.network().listen(&PeerAddr::new(name)).await else {
            return;
        };
        let ledger = self.ledger();
        loop {
            match listener.accept().await {
                Ok((stream, from)) => match db.replicate(stream, Role::Responder) {
                    Ok(session) => ledger.watch(&env, &from, session),
                    Err(_) => return,
                },
                // A peer that went away while it was accepted says nothing about the next one.
                Err(_) => env.clock().sleep(REDIAL).await,
            }
        }
    }

    /// The database keeps a peer connected. One that is to be is let go now and then: its connection ends soon then.
    async fn keep(self, env: E, db: Autobee<E>, replica: usize, (peer, is_let_go): (String, bool)) {
        let retry = RetrySettings::with(|retry| retry.pause_ms_max = PAUSE_MS_MAX);
        loop {
            let Ok(kept) = db.keep_connected_with(peer.clone(), retry) else {
                return;
            };
            env.clock().sleep(LET_GO).await;
            if !is_let_go || self.is_healed() {
                // Until the database is closed.
                kept.reached(|_| false).await;
                return;
            }
            self.let_go(&env, kept, replica).await;
        }
    }

    async fn let_go(&self, env: &E, kept: KeptConnection, replica: usize) {
        let session = kept.state().session;
        kept.close().await;
        let Some(session) = session else { return };
        let settings = self.settings(replica);
        let limit = Duration::from_millis(settings.farewell_ms_max) + ENDED;
        let ended = unless(session.ended(), env.clock().sleep(limit)).await;
        // Who stands still ends nothing.
        let mut members = self.lock();
        if ended.is_none() && !members.claims.paused.contains(&replica) {
            let what = format!(
                "{} let a peer go, and the connection with it runs {limit:?} later",
                members.replicas[replica].name
            );
            let invariant = "connections";
            members.failures.push(Violation { invariant, what });
        }
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
