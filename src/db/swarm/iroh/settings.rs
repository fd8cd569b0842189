//! Peers, relays and bounds of an iroh swarm.

use core::net::SocketAddr;
use std::io;
use std::time::Duration;

use super::invalid;
use super::told::LIST_MAX;
use crate::crypto::PublicKey;

/// A peer and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IrohPeer {
    /// The key by which others know it.
    pub key: PublicKey,
    /// Where it listens, by UDP. May be empty where relays are set.
    pub addresses: Vec<SocketAddr>,
}

impl IrohPeer {
    /// A peer at these addresses.
    #[must_use]
    pub const fn new(key: PublicKey, addresses: Vec<SocketAddr>) -> Self {
        Self { key, addresses }
    }
}

/// Peers, relays and bounds of an [`IrohSwarm`].
///
/// ```
/// use autobee::IrohSettings;
///
/// let settings = IrohSettings::with(|settings| settings.told_max = 0);
/// assert!(settings.relays.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IrohSettings {
    /// Peers that are dialled. More of them come by being told, unless `told_max` is 0, and by dialling this one.
    pub peers: Vec<IrohPeer>,
    /// The addresses at which it listens, by UDP: at most one of each family. With none it listens at all of the machine, at a
    /// port that is free.
    pub listen: Vec<SocketAddr>,
    /// URLs of relays, of which this one keeps a connection to the nearest, and by all of which peers are tried. By default
    /// there is none, and nothing but peers is ever contacted.
    pub relays: Vec<String>,
    /// Peers that a peer is told of at a time, and that are taken of one that tells. 0 for no exchange at all; at most 256.
    pub told_max: usize,
    /// Peers that others told of and whose addresses are remembered, for each topic.
    pub peers_max: usize,
    /// How often peers are told of others, and the peers of the settings are given again to a database that gave them up, in
    /// milliseconds.
    pub again_ms: u64,
    /// Connections that were accepted and have not shown their topic yet. Who dials when there are so many has to come again;
    /// when there is half of it, who dials has to prove its address first.
    pub handshakes_max: usize,
    /// How long a connection that was accepted may take to show its topic, in milliseconds.
    pub handshake_ms: u64,
    /// Found peers and accepted connections that wait for the database.
    pub waiting_max: usize,
    /// Received bytes of a connection that were not read yet, and sent ones that were not acknowledged.
    pub window_bytes: u32,
}

impl Default for IrohSettings {
    fn default() -> Self {
        Self {
            peers: Vec::new(),
            listen: Vec::new(),
            relays: Vec::new(),
            told_max: 32,
            peers_max: 1024,
            again_ms: 60_000,
            handshakes_max: 64,
            handshake_ms: 10_000,
            waiting_max: 64,
            window_bytes: 1024 * 1024,
        }
    }
}

impl IrohSettings {
    /// The defaults, but for what `change` sets.
    #[must_use]
    pub fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut settings = Self::default();
        change(&mut settings);
        settings
    }

    pub(super) fn check(&self) -> io::Result<()> {
        let least = [
            ("again_ms", self.again_ms == 0),
            ("handshakes_max", self.handshakes_max == 0),
            ("handshake_ms", self.handshake_ms == 0),
            ("waiting_max", self.waiting_max == 0),
            ("window_bytes", self.window_bytes == 0),
        ];
        if let Some((name, _)) = least.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(invalid(format!("settings: {name} is 0: it must be 1 or more")));
        }
        match self.told_max > LIST_MAX {
            true => Err(invalid(format!(
                "settings: told_max is {}: it must be {LIST_MAX} or less",
                self.told_max
            ))),
            false => Ok(()),
        }
    }

    pub(super) const fn again(&self) -> Duration {
        Duration::from_millis(self.again_ms)
    }
}
