//! What a hostile peer knows, and when its time is.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use autobee::Corestore;
use autobee::crypto::{CoreKey, KeyPair, Seed, Sign as _, hash};
use autobee::env::{Clock as _, Env, Mono, watch};

use super::RETRY;
use super::account::{Account, name};
use crate::scenario::{Hostile, Hostility};

/// What a run tells hostile peers of its replicas.
pub(crate) trait RunContext<E: Env>: Send + Sync {
    /// The key of the database.
    fn database(&self) -> Option<CoreKey>;
    /// The key of the log of a replica, once it ran.
    fn log(&self, replica: usize) -> Option<CoreKey>;
    /// The store of a replica that runs: what is in it is stolen.
    fn store(&self, replica: usize) -> Option<Corestore<E>>;
    /// The key by which the database is encrypted, if it is.
    fn encryption(&self) -> Option<[u8; 32]>;
    /// Whether strangers may write.
    fn takes_strangers(&self) -> bool;
}

/// One hostile peer.
pub(super) struct Context<E: Env> {
    pub(super) env: E,
    pub(super) number: usize,
    pub(super) hostile: Hostile,
    pub(super) targets: Vec<usize>,
    pub(super) replicas: usize,
    pub(super) known: Arc<dyn RunContext<E>>,
    pub(super) account: Arc<Mutex<Account>>,
}

impl<E: Env> Context<E> {
    /// Waits until it may connect, and gives the time at which it must be gone; none when the run is over before.
    pub(super) async fn enter(&self, gate: &mut watch::Receiver<bool>) -> Option<Mono> {
        gate.wait_for(|is_open| *is_open).await.ok()?;
        let now = self.env.clock().now();
        let from = Duration::from_millis(self.hostile.from_ms);
        self.env.clock().sleep_until(now + from).await;
        Some(now + Duration::from_millis(self.hostile.to_ms))
    }

    /// The core that it is about: the log of the replica `of`, or the database.
    pub(super) async fn key(&self) -> Option<CoreKey> {
        loop {
            let key = match self.hostile.of {
                Some(replica) => self.known.log(replica),
                None => self.known.database(),
            };
            if key.is_some() {
                return key;
            }
            self.env.clock().sleep(RETRY).await;
        }
    }

    /// The key pair of its own log; that of the replica `of` for a twin.
    pub(super) async fn key_pair(&self) -> KeyPair {
        if self.hostile.kind == Hostility::Twin
            && let Some(replica) = self.hostile.of
        {
            loop {
                if let Some(stolen) = self.steal(replica).await {
                    return stolen;
                }
                self.env.clock().sleep(RETRY).await;
            }
        }
        // The creator's database is first, as that of anybody who joins.
        while self.known.database().is_none() {
            self.env.clock().sleep(RETRY).await;
        }
        let seed = hash(&[b"autobee-sim hostile log", name(self.number).as_bytes()]);
        self.env.crypto().key_pair(&Seed::new(*seed.as_bytes()))
    }

    async fn steal(&self, replica: usize) -> Option<KeyPair> {
        let (store, key) = (self.known.store(replica)?, self.known.log(replica)?);
        let core = store.get(autobee::hypercore::CoreOptions::key(key)).await.ok()?;
        core.key_pair().ok()?
    }
}

/// The address of a replica.
pub(super) fn address(replica: usize) -> String {
    format!("r{replica}")
}
