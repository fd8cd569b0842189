//! The tasks that dial a peer again and again, and that accept those who dial.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Shell, unless};
use crate::db::connections::{
    ConnectError, ConnectionState, KeptConnection, ListenState, Listening, RetrySettings,
};
use crate::db::{CloseReason, Session};
use crate::env::{
    Clock as _, Entropy as _, Env, Listener, Network as _, PeerAddr, Point, Slip, Spawn as _, TraceEvent,
    watch,
};
use crate::error::Error;
use crate::replication::Role;

/// The signs to stop: the handle was dropped, or the database was closed.
pub(super) struct Stop {
    handle: watch::Receiver<()>,
    database: watch::Receiver<bool>,
}

impl Stop {
    /// What `future` gives; none when a sign comes first.
    pub(super) async fn or<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        // A database that was closed before anybody waited says so, too.
        let closed = self.database.wait_for(|is_closed| *is_closed);
        unless(unless(future, self.handle.changed()), closed).await?
    }
}

impl<E: Env> Shell<E> {
    /// Dials a peer from now on.
    pub(in crate::db) fn keep_connected(
        self: &Arc<Self>,
        address: PeerAddr,
        retry: RetrySettings,
    ) -> Result<KeptConnection, Error> {
        self.check_open()?;
        let (handle, state) = (
            watch::Sender::new(()),
            watch::Sender::new(ConnectionState::default()),
        );
        let stop = self.stop(&handle);
        let kept = KeptConnection::new(address.clone(), state.subscribe(), handle);
        let keeping = Keeping {
            env: self.env.clone(),
            shared: Arc::downgrade(self),
            address,
            retry,
            state,
        };
        self.env.spawn().spawn("keep a peer connected", keeping.run(stop));
        Ok(kept)
    }

    /// Accepts peers from now on.
    pub(in crate::db) async fn listen(
        self: &Arc<Self>,
        address: PeerAddr,
        retry: RetrySettings,
    ) -> Result<Listening, Error> {
        self.check_open()?;
        let listener = self.env.network().listen(&address).await;
        let listener = listener.map_err(|source| Error::Network {
            address: address.to_string(),
            source,
        })?;
        let (handle, state) = (watch::Sender::new(()), watch::Sender::new(ListenState::default()));
        let stop = self.stop(&handle);
        let listening = Listening::new(listener.local_addr(), state.subscribe(), handle);
        let accepting = accept(
            Arc::downgrade(self),
            self.env.clone(),
            retry,
            (state, listener),
            stop,
        );
        self.env.spawn().spawn("accept peers", accepting);
        Ok(listening)
    }

    pub(super) fn stop(&self, handle: &watch::Sender<()>) -> Stop {
        Stop {
            handle: handle.subscribe(),
            database: self.closing.subscribe(),
        }
    }
}

/// A peer that is kept connected.
struct Keeping<E: Env> {
    env: E,
    shared: Weak<Shell<E>>,
    address: PeerAddr,
    retry: RetrySettings,
    state: watch::Sender<ConnectionState>,
}

impl<E: Env> Keeping<E> {
    fn has(&self, slip: Slip) -> bool {
        let shared = self.shared.upgrade();
        shared.is_some_and(|shared| shared.store.planted().has(slip))
    }

    async fn run(self, mut stop: Stop) {
        let mut failures = 0_u32;
        let pause_max = Duration::from_millis(self.retry.pause_ms_max);
        loop {
            let began = self.env.clock().now();
            let dialled = stop.or(self.env.network().dial(&self.address)).await;
            let Some(dialled) = dialled else { return };
            let error = match dialled {
                Ok(stream) => {
                    let session = match self.shared.upgrade() {
                        Some(shared) => shared.replicate(stream, Role::Initiator),
                        None => return,
                    };
                    // The database was closed.
                    let Ok(session) = session else { return };
                    let Some((reason, was_connected)) = self.follow(session, &mut stop).await else {
                        return;
                    };
                    // A peer that refuses this one does so once both agreed on keys: such a connection is no success.
                    if was_connected && self.env.clock().now().since(began) >= pause_max {
                        failures = 0;
                    }
                    if self.has(Slip::DialledOnce) {
                        return;
                    }
                    ConnectError::Ended {
                        address: self.address.clone(),
                        reason,
                    }
                }
                Err(error) => ConnectError::Unreachable {
                    address: self.address.clone(),
                    kind: error.kind(),
                    what: error.to_string(),
                },
            };
            failures = failures.saturating_add(1);
            let was_connected = matches!(error, ConnectError::Ended { .. });
            self.env.sometimes(Point::PeerDialledAgain, was_connected);
            self.env.trace(|| TraceEvent::Failed {
                what: "keeping a peer connected".into(),
                why: error.to_string(),
            });
            self.state.send_replace(ConnectionState {
                session: None,
                last_error: Some(error),
                failures,
            });
            let pause = self.retry.pause(failures, self.env.entropy().array());
            if stop.or(self.env.clock().sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Waits for the end of a connection: why it ended, and whether both sides had agreed on keys. None when it is to
    /// stop, and then the connection is closed.
    async fn follow(&self, session: Session, stop: &mut Stop) -> Option<(CloseReason, bool)> {
        let ended = stop
            .or(async {
                let is_connected = session.reached(|progress| progress.remote.is_some()).await;
                if is_connected {
                    self.state.send_modify(|state| {
                        state.session = Some(session.clone());
                        state.failures = 0;
                    });
                }
                (session.ended().await, is_connected)
            })
            .await;
        self.env.sometimes(Point::PeerLetGo, ended.is_none());
        if ended.is_none() {
            if !self.has(Slip::LetGoRunsOn) {
                session.close();
            }
            self.state.send_modify(|state| state.session = None);
        }
        ended
    }
}

/// Accepts peers until it is to stop.
async fn accept<E: Env, L: Listener<Stream = <E::Network as crate::env::Network>::Stream>>(
    shared: Weak<Shell<E>>,
    env: E,
    retry: RetrySettings,
    (state, mut listener): (watch::Sender<ListenState>, L),
    mut stop: Stop,
) {
    // The listener goes first: whoever waits for the end of the state finds the address free.
    let mut failures = 0_u32;
    while let Some(accepted) = stop.or(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                failures = 0;
                let Some(shared) = shared.upgrade() else { return };
                let Ok(session) = shared.replicate(stream, Role::Responder) else {
                    return;
                };
                state.send_modify(|state| {
                    state.accepted = state.accepted.saturating_add(1);
                    state.last = Some(session);
                });
            }
            // A peer that was gone too soon, or too many open files: others come.
            Err(error) => {
                failures = failures.saturating_add(1);
                env.trace(|| TraceEvent::Failed {
                    what: "accepting a peer".into(),
                    why: error.to_string(),
                });
                state.send_modify(|state| state.last_error = Some(error.to_string()));
                let pause = retry.pause(failures, env.entropy().array());
                if stop.or(env.clock().sleep(pause)).await.is_none() {
                    return;
                }
            }
        }
    }
}
