//! What comes on a stream: channels that open and close, and messages on them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

use crate::crypto::{DiscoveryKey, PublicKey};
use crate::env::{Clock as _, Env, Point, TraceEvent, panic_words};
use crate::replication::capability;
use crate::replication::connection::ConnectionEvent;
use crate::replication::message::{Message, OpenMessage, PROTOCOL};
use crate::replication::mux::{self, Channel};
use crate::replication::session::counts::add;
use crate::replication::session::driver::{Driver, Joined, JoinedTopic, Stand, UNFINISHED_BYTES};
use crate::replication::session::topic::ChannelStage;
use crate::replication::session::{End, Misbehaviour};
use crate::replication::wakeup;
use crate::wire::compact::Decode as _;

impl<E: Env> Driver<E> {
    /// True when there is more.
    pub(super) async fn take_events(&mut self) -> Result<bool, End> {
        let env = &self.hub.env;
        let events_max = match self.hub.settings.events {
            _ if env.buggify("one_event") => 1,
            usual => usual,
        };
        let is_apart = env.buggify("data_apart");
        let mut count = 0;
        let mut data = 0;
        while count < events_max
            && data < self.hub.settings.data_held
            && let Some(event) = self.connection.poll()?
        {
            count += 1;
            let is_data = matches!(&event, ConnectionEvent::Channel(mux::MuxEvent::Message { .. }));
            if !is_data || is_apart {
                self.receive_held()?;
            }
            match event {
                ConnectionEvent::Connected { stream, remote } => {
                    self.admit(remote)?;
                    let session = self.number;
                    self.hub.env.trace(|| TraceEvent::Connected { session });
                    (self.now.stream, self.now.remote) = (Some(stream), Some(remote));
                    self.offer_all().await?;
                }
                ConnectionEvent::Channel(mux::MuxEvent::Offered { protocol, id }) => {
                    let name = <[u8; 32]>::try_from(id.as_slice()).map(DiscoveryKey::new);
                    let is_taken = match name {
                        Ok(name) if protocol == wakeup::PROTOCOL => {
                            self.hub.topic(&name).is_some_and(|topic| self.join_topic(&topic))
                        }
                        Ok(name) if protocol == PROTOCOL && !self.banned.contains(&name) => {
                            self.join(name).await?
                        }
                        _ => false,
                    };
                    self.hub.env.sometimes(Point::OfferRejected, !is_taken);
                    if !is_taken {
                        self.connection.reject(&protocol, &id);
                    }
                }
                ConnectionEvent::Channel(mux::MuxEvent::Opened { channel, handshake }) => {
                    self.opened(channel, &handshake)?;
                }
                ConnectionEvent::Channel(mux::MuxEvent::Message {
                    channel,
                    kind,
                    payload,
                }) => {
                    self.receive(channel, kind, &payload)?;
                    data += usize::from(self.held.is_some());
                }
                ConnectionEvent::Channel(mux::MuxEvent::Closed { channel, .. }) => {
                    // What came before the end counts, and the end may be because of it.
                    self.receive_held()?;
                    self.leave_topic(channel);
                    let Some(joined) = self.channels.remove(&channel) else {
                        continue;
                    };
                    let name = joined.core.discovery_key;
                    let was_open = joined.peer.is_some();
                    if self.part(&joined) && !self.banned.contains(&name) {
                        self.join(name).await?;
                    } else if was_open {
                        self.parted.insert(name);
                        self.hub.store.note_parted();
                        self.join_parted().await?;
                    }
                }
            }
        }
        self.receive_held()?;
        let now = self.hub.env.clock().now();
        for core in std::mem::take(&mut self.touched).into_values() {
            core.notify_peers(now);
        }
        Ok(count == events_max || data == self.hub.settings.data_held)
    }

    /// Tells the hub of a large frame that has not come to its end.
    pub(super) fn note_unfinished(&mut self) {
        let (frame, bytes) = self.connection.unfinished();
        if bytes > UNFINISHED_BYTES || self.is_unfinished {
            self.is_unfinished = bytes > UNFINISHED_BYTES;
            let now = self.clock();
            self.hub.note_unfinished(self.number, frame, bytes, now);
        }
    }

    /// Hands on the data that was held back.
    pub(super) fn receive_held(&mut self) -> Result<(), End> {
        let Some((channel, data)) = self.held.take() else {
            return Ok(());
        };
        let Some(Joined {
            core,
            peer: Some(peer),
            ..
        }) = self.channels.get(&channel)
        else {
            return Ok(());
        };
        self.hub.env.sometimes(Point::DataTogether, data.len() > 1);
        let blocks = data.iter().filter(|data| data.proof.block.is_some());
        add(&self.hub.counters.received_blocks, blocks.count() as u64);
        let received = core.receive_data(*peer, data, self.hub.env.clock().now());
        self.survive(channel, received)
    }

    pub(super) fn admit(&self, remote: PublicKey) -> Result<(), End> {
        let Some(admit) = &self.hub.settings.admit else {
            return Ok(());
        };
        // What panics leaves nothing behind but its own state, which is the program's.
        match catch_unwind(AssertUnwindSafe(|| admit(&remote))) {
            Ok(true) => Ok(()),
            Ok(false) => Err(End::Refused(remote)),
            Err(panic) => Err(End::AdmitPanicked(panic_words(panic.as_ref()).to_owned())),
        }
    }

    pub(super) fn opened(&mut self, channel: Channel, handshake: &[u8]) -> Result<(), End> {
        if self.topics.contains_key(&channel) {
            return self.opened_topic(channel, handshake);
        }
        let (Some(joined), Some(stream)) = (self.channels.get_mut(&channel), self.connection.stream()) else {
            return Ok(());
        };
        let key = joined.core.key;
        let theirs =
            OpenMessage::from_bytes(handshake).map_err(|error| Misbehaviour::Message { core: key, error })?;
        let expected = capability::replication(stream, self.connection.role().other(), &key);
        if !capability::same(&theirs.capability, &expected) {
            return Err(Misbehaviour::Capability { core: key }.into());
        }
        let session = self.number;
        self.hub
            .env
            .trace(|| TraceEvent::ChannelOpened { session, core: key });
        let peer = self.hub.next_peer();
        let now = self.hub.env.clock().now();
        joined.peer = Some(peer);
        let core = Arc::clone(&joined.core);
        self.peers.insert(peer, channel);
        self.stands(peer, Some(Stand::default()));
        let opened = core.open(peer, theirs.seeks, &self.mailbox, now);
        self.tell_topics(key, ChannelStage::Open);
        self.survive(channel, opened)
    }

    pub(super) fn receive(&mut self, channel: Channel, kind: u64, payload: &Bytes) -> Result<(), End> {
        if self
            .held
            .as_ref()
            .is_some_and(|(held, data)| *held != channel || data.len() >= self.hub.settings.data_held)
        {
            self.receive_held()?;
        }
        if let Some(JoinedTopic {
            topic,
            peer: Some(peer),
        }) = self.topics.get(&channel)
        {
            if let Some(message) =
                wakeup::WakeupMessage::decode(kind, payload).map_err(Misbehaviour::Wakeup)?
            {
                topic.receive(*peer, message);
            }
            return Ok(());
        }
        let Some(Joined {
            core,
            peer: Some(peer),
            ..
        }) = self.channels.get(&channel)
        else {
            return Ok(());
        };
        let message = Message::decode_shared(kind, payload).map_err(|error| Misbehaviour::Message {
            core: core.key,
            error,
        })?;
        // A message of a later version is none of ours.
        let Some(message) = message else { return Ok(()) };
        let (core, peer) = (Arc::clone(core), *peer);
        self.touched.insert(core.discovery_key, Arc::clone(&core));
        if let Message::Data(data) = message {
            self.held.get_or_insert((channel, Vec::new())).1.push(*data);
            return Ok(());
        }
        self.receive_held()?;
        let received = core.receive(peer, message, self.hub.env.clock().now());
        self.survive(channel, received)
    }
}
