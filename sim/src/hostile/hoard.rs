//! A copy of a log that a hostile peer holds, got by the machines of an honest one.

use autobee::crypto::CoreKey;
use autobee::env::{Env, Mono};
use autobee::hypercore::log::Log;
use autobee::replication::core::MemoryCore;
use autobee::replication::message::Message;
use autobee::replication::replicator::{PeerId, Replicator};
use autobee::replication::settings::ReplicatorSettings;

/// See the module. Its lines are its peers.
pub(super) struct Hoard<E: Env> {
    replicator: Replicator,
    core: MemoryCore<E::Crypto>,
    peers: u64,
}

impl<E: Env> Hoard<E> {
    /// Has all of a log, and follows nobody.
    pub(super) fn owned(log: Log, crypto: E::Crypto) -> Option<Self> {
        let settings = ReplicatorSettings {
            follow: false,
            ..ReplicatorSettings::default()
        };
        Self::new(log, crypto, settings)
    }

    /// Has nothing yet of a log, and wants all of it.
    pub(super) fn of(key: CoreKey, crypto: E::Crypto) -> Option<Self> {
        let mut hoard = Self::new(Log::replica(key), crypto, ReplicatorSettings::default())?;
        hoard.replicator.download(0, None, &hoard.core).ok()?;
        Some(hoard)
    }

    fn new(log: Log, crypto: E::Crypto, settings: ReplicatorSettings) -> Option<Self> {
        let core = MemoryCore::new(log, crypto);
        let replicator = Replicator::new(&core, settings).ok()?;
        Some(Self {
            replicator,
            core,
            peers: 0,
        })
    }

    /// A line has the channel open.
    pub(super) fn open(&mut self) -> Option<PeerId> {
        self.peers += 1;
        let peer = PeerId(self.peers);
        self.replicator.open(peer, true, &self.core).ok()?;
        Some(peer)
    }

    pub(super) fn close(&mut self, peer: PeerId) {
        self.replicator.close(peer);
    }

    pub(super) fn receive(&mut self, peer: PeerId, message: Message, now: Mono) {
        self.replicator.tick(now);
        // A log in memory has no store that could fail.
        let _ = self.replicator.receive(peer, message, &mut self.core, now);
        while self.replicator.poll_event().is_some() {}
    }

    pub(super) fn pull(&mut self, peer: PeerId, now: Mono) -> Option<Message> {
        self.replicator.pull(peer, &self.core, now).ok().flatten()
    }
}
