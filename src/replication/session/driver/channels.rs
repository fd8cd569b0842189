//! Which channels a session has: those of cores, and those of wakeup topics.

use std::sync::Arc;

use super::super::topic::{ChannelStage, SharedTopic};
use super::super::{End, Misbehaviour};
use super::{Driver, Joined, JoinedTopic};
use crate::crypto::{CoreKey, DiscoveryKey};
use crate::env::{Env, Point, Slip};
use crate::hypercore::CoreError;
use crate::replication::capability;
use crate::replication::message::{Message, OpenMessage, PROTOCOL};
use crate::replication::mux::{Channel, OpenChannel};
use crate::replication::wakeup::{self, TopicPeer};
use crate::wire::compact::{Decode as _, Encode as _};

impl<E: Env> Driver<E> {
    // Channels.

    /// Offers the open cores that were not offered before.
    pub(super) async fn offer_all(&mut self) -> Result<(), End> {
        if self.connection.stream().is_none() {
            return Ok(());
        }
        for topic in self.hub.topics() {
            self.join_topic(&topic);
        }
        self.leave_let_go();
        self.join_parted().await?;
        for name in self.hub.store.open_cores() {
            if !self.offered.contains(&name) && !self.banned.contains(&name) {
                self.join(name).await?;
            }
        }
        Ok(())
    }

    /// Closes the channels of cores that nobody uses here any more. A peer that still wants such a core asks for it again,
    /// and is served what is stored.
    fn leave_let_go(&mut self) {
        let let_go = self.hub.store.let_go();
        if std::mem::replace(&mut self.let_go, let_go) == let_go {
            return;
        }
        let is_let_go = |joined: &Joined<E>| joined.core.is_let_go(joined.let_go);
        let channels: Vec<Channel> = self
            .channels
            .iter()
            .filter_map(|(channel, joined)| is_let_go(joined).then_some(*channel))
            .collect();
        for channel in channels {
            if let Some(joined) = self.channels.get(&channel)
                && !self.hub.store.planted().has(Slip::LetGoStaysOffered)
            {
                self.offered.remove(&joined.core.discovery_key);
            }
            self.hub.env.sometimes(Point::ChannelLetGo, true);
            self.leave(channel);
        }
    }

    /// Opens the channels again that the peer left, of cores of which something is wanted here.
    pub(super) async fn join_parted(&mut self) -> Result<(), End> {
        if self.parted.is_empty() {
            return Ok(());
        }
        for name in self.hub.store.wanted_cores() {
            if self.parted.remove(&name) && !self.banned.contains(&name) {
                self.hub.env.sometimes(Point::ChannelAskedAgain, true);
                self.join(name).await?;
            }
        }
        Ok(())
    }

    /// Opens the channel of a core. False when the core is not here, or the channel does not fit.
    pub(super) async fn join(&mut self, name: DiscoveryKey) -> Result<bool, End> {
        if self.connection.channels().has(PROTOCOL, name.as_bytes()) {
            return Ok(true);
        }
        let core = self.hub.core(name).await.map_err(End::Store)?;
        let (Some(core), Some(stream)) = (core, self.connection.stream()) else {
            return Ok(false);
        };
        let handshake = OpenMessage {
            seeks: true,
            capability: capability::replication(stream, self.connection.role(), &core.key),
        };
        // A few bytes: it can be encoded, and fits.
        let Ok(handshake) = handshake.to_bytes() else {
            return Ok(false);
        };
        let opened = self.connection.open(&OpenChannel {
            protocol: PROTOCOL,
            aliases: &[],
            id: name.as_bytes(),
            handshake: &handshake,
            unique: true,
        });
        let Ok(channel) = opened else { return Ok(false) };
        self.offered.insert(name);
        self.parted.remove(&name);
        self.tell_topics(core.key, ChannelStage::Pending);
        let let_go = core.times_let_go();
        let joined = Joined {
            core,
            peer: None,
            let_go,
        };
        self.channels.insert(channel, joined);
        Ok(true)
    }

    /// The core is not replicated on a channel any more. True when the channel should be opened again.
    pub(super) fn part(&mut self, joined: &Joined<E>) -> bool {
        self.tell_topics(joined.core.key, ChannelStage::Closed);
        let Some(peer) = joined.peer else { return false };
        self.peers.remove(&peer);
        if !self.hub.store.planted().has(Slip::PartedStands) {
            self.stands(peer, None);
        }
        self.due.retain(|due| *due != peer);
        joined.core.close(peer)
    }

    pub(super) fn part_all(&mut self) {
        for joined in std::mem::take(&mut self.topics).into_values() {
            if let Some(peer) = joined.peer {
                joined.topic.close(peer);
            }
        }
        for joined in std::mem::take(&mut self.channels).into_values() {
            self.part(&joined);
        }
        self.hub.leave(self.number);
    }

    pub(super) fn leave(&mut self, channel: Channel) {
        self.connection.close(channel);
        if let Some(joined) = self.channels.remove(&channel) {
            self.part(&joined);
        }
    }

    /// Closes a channel for good.
    pub(super) fn ban(&mut self, channel: Channel) {
        if let Some(joined) = self.channels.get(&channel) {
            self.banned.insert(joined.core.discovery_key);
        }
        self.leave(channel);
    }

    /// A core that was closed or that its owner spoiled costs its channel; a store that failed the session.
    pub(super) fn survive(&mut self, channel: Channel, done: Result<(), CoreError>) -> Result<(), End> {
        match done {
            Ok(()) => Ok(()),
            Err(CoreError::Closed) => {
                self.ban(channel);
                Ok(())
            }
            Err(CoreError::Signatures { .. }) => {
                self.give_evidence(channel);
                // Whoever opens the core again knows of it, and may lack blocks that the peer has: the channel is opened again.
                let name = self
                    .channels
                    .get(&channel)
                    .map(|joined| joined.core.discovery_key);
                self.leave(channel);
                if let Some(name) = name {
                    self.parted.insert(name);
                    self.hub.store.note_parted();
                    self.mailbox.look();
                }
                Ok(())
            }
            Err(error) => Err(End::Store(error)),
        }
    }

    /// Shows a peer what contradicts what it has: it may be the owner, and hear of it from nobody else.
    pub(super) fn give_evidence(&mut self, channel: Channel) {
        let Some(joined) = self.channels.get(&channel) else {
            return;
        };
        for evidence in joined.core.evidence() {
            let evidence = Message::Data(Box::new(evidence));
            if let Ok(payload) = evidence.encode_reusing(Vec::new()) {
                let _ = self.connection.send(channel, evidence.kind(), &payload);
            }
        }
    }

    // Topics.

    /// Opens the channel of a topic. False when it does not fit.
    pub(super) fn join_topic(&mut self, topic: &Arc<SharedTopic>) -> bool {
        if self
            .topics
            .values()
            .any(|joined| Arc::ptr_eq(&joined.topic, topic))
        {
            return true;
        }
        let Some(stream) = self.connection.stream() else {
            return false;
        };
        // A few bytes: it can be encoded, and fits.
        let Ok(handshake) = topic.handshake(stream, self.connection.role()).to_bytes() else {
            return false;
        };
        let opened = self.connection.open(&OpenChannel {
            protocol: wakeup::PROTOCOL,
            aliases: &[],
            id: topic.name.as_bytes(),
            handshake: &handshake,
            unique: true,
        });
        let Ok(channel) = opened else { return false };
        let topic = Arc::clone(topic);
        self.topics.insert(channel, JoinedTopic { topic, peer: None });
        true
    }

    pub(super) fn opened_topic(&mut self, channel: Channel, handshake: &[u8]) -> Result<(), End> {
        let theirs = wakeup::WakeupHandshake::from_bytes(handshake).map_err(Misbehaviour::Wakeup)?;
        let (Some(joined), Some(stream)) = (self.topics.get_mut(&channel), self.connection.stream()) else {
            return Ok(());
        };
        let (topic, peer) = (Arc::clone(&joined.topic), TopicPeer(self.hub.next_peer().0));
        let role = self.connection.role().other();
        if !topic.open(peer, &theirs, stream, role, &self.mailbox) {
            // It knows another key of the same name, or none.
            self.connection.close(channel);
            return Ok(());
        }
        joined.peer = Some(peer);
        for joined in self.channels.values() {
            let standing = joined.peer.map_or(ChannelStage::Pending, |_| ChannelStage::Open);
            topic.channel(peer, joined.core.key, standing);
        }
        Ok(())
    }

    pub(super) fn leave_topic(&mut self, channel: Channel) {
        if let Some(JoinedTopic {
            topic,
            peer: Some(peer),
        }) = self.topics.remove(&channel)
        {
            topic.close(peer);
        }
    }

    pub(super) fn tell_topics(&self, core: CoreKey, standing: ChannelStage) {
        for joined in self.topics.values() {
            if let Some(peer) = joined.peer {
                joined.topic.channel(peer, core, standing);
            }
        }
    }

    /// Sends what the topics have to say.
    pub(super) fn pull_topics(&mut self) {
        while self.connection.is_writable()
            && let Some(due) = self.due_topics.first().copied()
        {
            let found = self.topics.iter().find(|(_, joined)| joined.peer == Some(due));
            match found.and_then(|(channel, joined)| Some((*channel, joined.topic.pull(due)?))) {
                Some((channel, message)) => {
                    if let Ok(payload) = message.encode() {
                        let _ = self.connection.send(channel, message.kind(), &payload);
                    }
                }
                None => {
                    self.due_topics.remove(&due);
                }
            }
        }
    }
}
