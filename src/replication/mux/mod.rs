//! Many channels on one stream: frames in, events and frames out.
//!
//! A channel is known by a protocol name and an id. Both sides open it, each with its own handshake bytes; the open of
//! the other side is the acknowledgement, and there is no other. What arrives for a channel that we have not opened yet
//! is held until the application answers the offer.
//!
//! Frames are taken apart only as fast as events are taken out, so that a frame of a million tiny messages never
//! exists as a million events. When too much is held for unanswered offers nothing more is read: the shell stops
//! reading the socket, and the peer feels it as back-pressure.
//!
//! Source: spec/replication.md 4 (package protomux 3.12).

mod batch;
mod error;
mod frame;
mod read;

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf as _, Bytes};

use self::batch::{BatchReader, BatchWriter};
pub use self::error::{MuxError, MuxSendError, OpenChannelError};
pub use self::frame::Frame;
use self::frame::join;
use super::stream::MESSAGE_MAX;
use crate::env::Planted;
use crate::wire::compact::{DecodeError, Decoder};

/// Bounds of one multiplexer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MuxSettings {
    /// Bytes held for channels that the peer opened and we have not answered, each message counted with 512 bytes more.
    /// Above it nothing is read until the offers are answered.
    pub held_bytes: usize,
    /// Offers that may be unanswered at one time. Above it nothing is read until they are answered.
    pub offers: usize,
    /// Channels that may be open at one time. What the peer opens above it is rejected.
    pub channels: usize,
    /// Bytes of answers to offers that may wait to be written. Above it nothing is read until they are.
    pub reply_bytes: usize,
    /// How deep batches may stand within batches.
    pub nesting: usize,
    /// Bytes after which a batch is sent and another one begun.
    pub batch_bytes: usize,
}

impl Default for MuxSettings {
    fn default() -> Self {
        Self {
            held_bytes: 32 * 1024,
            offers: 256,
            channels: 65_536,
            reply_bytes: 64 * 1024,
            nesting: 4,
            batch_bytes: 8 * 1024 * 1024,
        }
    }
}

/// What a held message costs beyond its size, in bytes.
const HELD_OVERHEAD: usize = 512;

/// What a reject costs, sealed, in bytes.
const REPLY_OVERHEAD: usize = 32;

/// Our name for a channel. Never used twice on one stream, unlike the ids on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(u64);

/// The parameters with which a channel is opened.
#[derive(Debug, Clone, Copy)]
pub struct OpenChannel<'a> {
    /// The name of the protocol, as the peer gets it.
    pub protocol: &'a str,
    /// Other names under which the peer's open counts as the same.
    pub aliases: &'a [&'a str],
    /// The id within the protocol. Empty means none.
    pub id: &'a [u8],
    /// What the protocol says at the start.
    pub handshake: &'a [u8],
    /// Whether one channel of this name and id is enough.
    pub unique: bool,
}

/// An event of the multiplexer: what came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MuxEvent {
    /// The peer opened a channel that we have not. To be answered by [`Mux::open`] or [`Mux::reject`] with these names;
    /// until then its messages are held.
    Offered {
        /// The name of the protocol.
        protocol: String,
        /// The id within the protocol. Empty when there is none.
        id: Vec<u8>,
    },
    /// Both sides have opened the channel.
    Opened {
        /// The channel.
        channel: Channel,
        /// What the peer said at the start.
        handshake: Bytes,
    },
    /// A message on an open channel.
    Message {
        /// The channel.
        channel: Channel,
        /// Its number in the list of the protocol.
        kind: u64,
        /// The rest.
        payload: Bytes,
    },
    /// The peer closed the channel, or rejected it, or the stream ended.
    Closed {
        /// The channel.
        channel: Channel,
        /// True when the peer never opened it.
        rejected: bool,
    },
}

/// Protocol and id: what a channel is known by.
type Key = (String, Vec<u8>);

/// A channel that we opened.
#[derive(Debug)]
struct Local {
    channel: Channel,
    key: Key,
    /// The peer's number of it, once both sides have opened it.
    remote: Option<u64>,
    /// We closed it before the peer answered: the id is taken until that.
    closed: bool,
}

/// A channel that the peer opened.
#[derive(Debug)]
enum Remote {
    Offered(Offer),
    Open(Channel),
}

#[derive(Debug)]
struct Offer {
    key: Key,
    handshake: Bytes,
    held: Vec<(u64, Bytes)>,
    held_bytes: usize,
}

/// The name under which opens of the two sides find each other.
#[derive(Debug, Default)]
struct Meeting {
    /// Our ids that the peer has not answered.
    outgoing: VecDeque<u64>,
    /// Their ids that we have not answered.
    incoming: VecDeque<u64>,
    /// Our channels that are not closed.
    live: usize,
    aliases: Vec<Key>,
}

/// One side of the multiplexer.
///
/// ```
/// use autobee::replication::mux::{MuxEvent, Mux, MuxSettings, OpenChannel};
///
/// let (mut alice, mut bob) = (Mux::new(MuxSettings::default()), Mux::new(MuxSettings::default()));
/// let chat = OpenChannel { protocol: "chat", aliases: &[], id: b"", handshake: b"", unique: true };
/// let at_alice = alice.open(&chat)?;
/// alice.send(at_alice, 0, b"hello")?;
/// while let Some(frame) = alice.take_frame() {
///     bob.receive(frame);
/// }
/// assert!(matches!(bob.poll()?, Some(MuxEvent::Offered { .. })));
/// bob.open(&chat)?;
/// assert!(matches!(bob.poll()?, Some(MuxEvent::Opened { .. })));
/// assert!(matches!(bob.poll()?, Some(MuxEvent::Message { payload, .. }) if payload == "hello"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Mux {
    settings: MuxSettings,
    locals: BTreeMap<u64, Local>,
    channels: BTreeMap<Channel, u64>,
    next_channel: u64,
    free: Vec<u64>,
    remotes: BTreeMap<u64, Remote>,
    remote_highest: u64,
    meetings: BTreeMap<Key, Meeting>,
    aliases: BTreeMap<Key, Key>,
    held_bytes: usize,
    offers: usize,
    /// Bytes of answers to offers since the last time that nothing waited to be written.
    replies: usize,
    inbox: VecDeque<Bytes>,
    batches: Vec<BatchReader>,
    ready: VecDeque<MuxEvent>,
    corks: usize,
    batch: BatchWriter,
    frames: VecDeque<Bytes>,
    ended: bool,
    planted: Planted,
}

impl Mux {
    /// A multiplexer for a new stream.
    #[must_use]
    pub fn new(settings: MuxSettings) -> Self {
        Self {
            settings,
            locals: BTreeMap::new(),
            channels: BTreeMap::new(),
            next_channel: 0,
            free: Vec::new(),
            remotes: BTreeMap::new(),
            remote_highest: 0,
            meetings: BTreeMap::new(),
            aliases: BTreeMap::new(),
            held_bytes: 0,
            offers: 0,
            replies: 0,
            inbox: VecDeque::new(),
            batches: Vec::new(),
            ready: VecDeque::new(),
            corks: 0,
            batch: BatchWriter::default(),
            frames: VecDeque::new(),
            ended: false,
            planted: Planted::default(),
        }
    }

    /// Has it make slips.
    pub(crate) const fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    // What it is doing.

    /// True when the channel is neither closed nor rejected.
    #[must_use]
    pub fn is_live(&self, channel: Channel) -> bool {
        self.channels.contains_key(&channel)
    }

    /// True when both sides have opened the channel.
    #[must_use]
    pub fn is_open(&self, channel: Channel) -> bool {
        self.local(channel).is_some_and(|local| local.remote.is_some())
    }

    /// True when there is a channel of ours under these names, answered or not.
    #[must_use]
    pub fn has(&self, protocol: &str, id: &[u8]) -> bool {
        let meeting = self.meetings.get(&key_of(protocol, id));
        meeting.is_some_and(|meeting| meeting.live > 0)
    }

    /// True when nothing more is read until offers are answered, or answers written: the shell should stop reading the
    /// network.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.replies > self.settings.reply_bytes
            || (self.offers > 0
                && (self.held_bytes > self.settings.held_bytes || self.offers >= self.settings.offers))
    }

    /// Bytes that were written and wait for their batch to be full, or uncorked.
    #[must_use]
    pub fn corked(&self) -> usize {
        self.batch.len()
    }

    /// True when everything that came in was given out.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.inbox.is_empty() && self.batches.is_empty() && self.ready.is_empty()
    }

    // Frames.

    /// Adds a frame: one message of the encrypted stream.
    pub fn receive(&mut self, frame: Bytes) {
        // An empty one is a keep alive.
        if !self.ended && !frame.is_empty() {
            self.inbox.push_back(frame);
        }
    }

    /// The next frame to send.
    pub fn take_frame(&mut self) -> Option<Bytes> {
        self.frames.pop_front()
    }

    /// Everything that was taken is written.
    pub fn written(&mut self) {
        if self.frames.is_empty() && self.batch.is_empty() {
            self.replies = 0;
        }
    }

    /// The stream is over: all channels close as if the peer had closed them.
    pub fn end(&mut self) {
        self.ended = true;
        for local in std::mem::take(&mut self.locals).into_values() {
            if !local.closed {
                let (channel, rejected) = (local.channel, local.remote.is_none());
                self.ready.push_back(MuxEvent::Closed { channel, rejected });
            }
        }
        self.channels.clear();
        self.remotes.clear();
        self.meetings.clear();
        self.aliases.clear();
        self.inbox.clear();
        self.batches.clear();
        self.batch = BatchWriter::default();
        (self.held_bytes, self.offers, self.corks) = (0, 0, 0);
    }

    // Events.

    /// The next event. None when there is none yet, or when offers must be answered first.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol. After it only the closing of the channels is reported.
    pub fn poll(&mut self) -> Result<Option<MuxEvent>, MuxError> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                let (MuxEvent::Opened { channel, .. } | MuxEvent::Message { channel, .. }) = event else {
                    return Ok(Some(event));
                };
                // We may have closed it since.
                if self.is_live(channel) {
                    return Ok(Some(event));
                }
            }
            if self.is_waiting() {
                return Ok(None);
            }
            match self.step() {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) => {
                    self.end();
                    return Err(error);
                }
            }
        }
    }

    // Channels.

    /// Opens a channel. Messages can be sent at once; the other side holds them.
    ///
    /// # Errors
    ///
    /// It is open already, or does not fit.
    pub fn open(&mut self, open: &OpenChannel<'_>) -> Result<Channel, OpenChannelError> {
        let key = key_of(open.protocol, open.id);
        let size = open.protocol.len() + open.id.len() + open.handshake.len() + 64;
        if self.ended {
            return Err(OpenChannelError::Ended);
        }
        if open.unique && self.meetings.get(&key).is_some_and(|meeting| meeting.live > 0) {
            return Err(OpenChannelError::Duplicate);
        }
        if self.locals.len() >= self.settings.channels {
            let limit = self.settings.channels;
            return Err(OpenChannelError::TooMany { limit });
        }
        if size > MESSAGE_MAX {
            return Err(OpenChannelError::TooLarge { size });
        }

        let channel = Channel(self.next_channel);
        self.next_channel += 1;
        // Ids are dense: those in use and those that are free together are the numbers from 1.
        let next = u64::try_from(self.locals.len()).unwrap_or(u64::MAX) + 1;
        let id = self.free.pop().unwrap_or(next);
        self.write(&Frame::Open {
            local: id,
            protocol: open.protocol.to_owned(),
            id: Bytes::copy_from_slice(open.id),
            handshake: Bytes::copy_from_slice(open.handshake),
        });

        let meeting = self.meetings.entry(key.clone()).or_default();
        meeting.live += 1;
        let offer = meeting.incoming.pop_front();
        if offer.is_none() {
            meeting.outgoing.push_back(id);
        }
        for alias in open.aliases {
            let alias = key_of(alias, open.id);
            meeting.aliases.push(alias.clone());
            self.aliases.insert(alias, key.clone());
        }
        self.channels.insert(channel, id);
        self.locals.insert(
            id,
            Local {
                channel,
                key,
                remote: offer,
                closed: false,
            },
        );
        if let Some(offered) = offer
            && let Some(Remote::Offered(offer)) = self.remotes.insert(offered, Remote::Open(channel))
        {
            self.count_reply(size);
            self.forget_offer(&offer);
            self.ready.push_back(MuxEvent::Opened {
                channel,
                handshake: offer.handshake,
            });
            let held = offer.held.into_iter();
            self.ready.extend(held.map(|(kind, payload)| MuxEvent::Message {
                channel,
                kind,
                payload,
            }));
        }
        Ok(channel)
    }

    /// Answers every open of the peer under these names that is still unanswered with a reject.
    pub fn reject(&mut self, protocol: &str, id: &[u8]) {
        let key = key_of(protocol, id);
        let Some(meeting) = self.meetings.get_mut(&key) else {
            return;
        };
        for remote in std::mem::take(&mut meeting.incoming) {
            if let Some(Remote::Offered(offer)) = self.remotes.remove(&remote) {
                self.forget_offer(&offer);
            }
            self.write_reject(remote);
        }
        self.collect(&key);
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// The channel is closed, or the message does not fit.
    pub fn send(&mut self, channel: Channel, kind: u64, payload: &[u8]) -> Result<(), MuxSendError> {
        let id = *self.channels.get(&channel).ok_or(MuxSendError::Closed)?;
        let size = payload.len() + 2 * batch::UINT_SIZE_MAX;
        if size > MESSAGE_MAX - batch::HEAD_SIZE_MAX {
            return Err(MuxSendError::TooLarge { size });
        }
        self.write_parts(id, kind, payload);
        Ok(())
    }

    /// Closes a channel. False when it was closed already.
    pub fn close(&mut self, channel: Channel) -> bool {
        let Some(id) = self.channels.remove(&channel) else {
            return false;
        };
        self.write(&Frame::Close { id });
        let Some(local) = self.locals.get_mut(&id) else {
            return false;
        };
        let key = local.key.clone();
        if let Some(remote) = local.remote {
            // The peer will use its number again as soon as it has read this.
            self.remotes.remove(&remote);
            self.locals.remove(&id);
            self.free.push(id);
        } else {
            local.closed = true;
        }
        if let Some(meeting) = self.meetings.get_mut(&key) {
            meeting.live -= 1;
        }
        self.collect(&key);
        true
    }

    /// Collects what is written from now on into one batch. May nest.
    pub const fn cork(&mut self) {
        self.corks += 1;
    }

    /// Undoes one [`Mux::cork`]; the last one sends the batch, if anything was written.
    pub fn uncork(&mut self) {
        self.corks = self.corks.saturating_sub(1);
        if self.corks == 0 {
            self.frames.extend(self.batch.take());
        }
    }

    /// Forgets a channel of ours that the peer closed or rejected.
    fn remove_local(&mut self, id: u64, rejected: bool) {
        let Some(local) = self.locals.remove(&id) else {
            return;
        };
        self.free.push(id);
        if !local.closed {
            let channel = local.channel;
            self.channels.remove(&channel);
            self.ready.push_back(MuxEvent::Closed { channel, rejected });
            if let Some(meeting) = self.meetings.get_mut(&local.key) {
                meeting.live -= 1;
            }
        }
        self.collect(&local.key);
    }

    fn forget_offer(&mut self, offer: &Offer) {
        self.offers -= 1;
        self.held_bytes -= offer.held_bytes;
    }

    /// Drops a meeting that nobody waits at.
    fn collect(&mut self, key: &Key) {
        let idle = self.meetings.get(key).is_some_and(|meeting| {
            meeting.live == 0 && meeting.outgoing.is_empty() && meeting.incoming.is_empty()
        });
        if idle && let Some(meeting) = self.meetings.remove(key) {
            for alias in meeting.aliases {
                self.aliases.remove(&alias);
            }
        }
    }

    fn local(&self, channel: Channel) -> Option<&Local> {
        self.locals.get(self.channels.get(&channel)?)
    }

    // Writing.

    fn write_reject(&mut self, id: u64) {
        self.write(&Frame::Reject { id });
        self.count_reply(REPLY_OVERHEAD);
    }

    fn count_reply(&mut self, size: usize) {
        self.replies += size;
        if self.replies > self.settings.reply_bytes {
            // They are to be written now, in the middle of a batch too.
            self.frames.extend(self.batch.take());
        }
    }

    fn write(&mut self, frame: &Frame) {
        let (channel, kind, payload) = frame.parts();
        self.write_parts(channel, kind, &payload);
    }

    fn write_parts(&mut self, channel: u64, kind: u64, payload: &[u8]) {
        if self.ended {
            return;
        }
        if self.corks > 0 {
            self.frames
                .extend(self.batch.add(channel, kind, payload, self.settings.batch_bytes));
        } else {
            self.frames.push_back(join(channel, kind, payload));
        }
    }
}

fn key_of(protocol: &str, id: &[u8]) -> Key {
    (protocol.to_owned(), id.to_owned())
}

fn take_uint(bytes: &mut Bytes) -> Result<u64, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let value = decoder.uint()?;
    let read = decoder.position();
    bytes.advance(read);
    Ok(value)
}

#[cfg(test)]
mod tests;
