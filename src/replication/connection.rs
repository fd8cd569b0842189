//! One stream with all that belongs to it alone: encryption, channels, keep alives and timeouts. Bytes and time in,
//! channel events and bytes out.
//!
//! What stands above, one replicator for each core and one topic for each wakeup channel, is put together by the shell: it
//! owns the cores.
//!
//! Source: spec/replication.md 3.4 and 3.5. The original has no timeout for a silent peer on a plain socket; ours ends
//! such a stream, because a connection that is half gone would otherwise hold its requests for ever.

use std::time::Duration;

use bytes::BytesMut;
use thiserror::Error;

use super::Role;
use super::capability::HandshakeHash;
use super::mux::{self, Channel, Mux, MuxError, MuxSettings, OpenChannel, OpenChannelError};
use super::stream::{SecretStream, Secured, StreamError, StreamEvent, StreamKeys};
use crate::crypto::PublicKey;
use crate::env::{Mono, Planted, Slip};

/// Bounds and times of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionSettings {
    /// Bounds of the channels.
    pub mux: MuxSettings,
    /// After how long without a write a keep alive is sent.
    pub keep_alive: Duration,
    /// After how long without a byte from the peer the stream ends. The original sends something every 5 seconds.
    pub silence: Duration,
    /// Bytes of an unfinished frame that must come in each second, over a time of [`ConnectionSettings::silence`]. A peer
    /// that sends less is as good as silent: perhaps the length of the frame is not what the peer sent.
    pub frame_rate_min: u64,
    /// How long the handshake may take.
    pub handshake: Duration,
    /// Bytes that may wait to be written before nothing more is made. One message may go above it.
    pub output_bytes: usize,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            mux: MuxSettings::default(),
            keep_alive: Duration::from_secs(5),
            silence: Duration::from_secs(60),
            frame_rate_min: 64,
            handshake: Duration::from_secs(20),
            output_bytes: 128 * 1024,
        }
    }
}

/// The stream is over. The shell drops it without a word.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The bytes are not those of an encrypted stream. To blame: the peer, or the network.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The channels are not handled as they should be. To blame: the peer.
    #[error(transparent)]
    Mux(#[from] MuxError),
    /// The handshake did not end in time. To blame: the peer, or the network.
    #[error("no handshake within {after:?}")]
    Handshake {
        /// The time it had.
        after: Duration,
    },
    /// A frame did not come to its end, at a rate that no link has. To blame: the peer, or the network.
    #[error("{bytes} bytes of a frame in {after:?}")]
    Unfinished {
        /// How much of it came.
        bytes: usize,
        /// In what time.
        after: Duration,
    },
    /// Nothing came for too long. To blame: the peer, or the network.
    #[error("the peer was silent for {after:?}")]
    Silent {
        /// How long.
        after: Duration,
    },
}

/// An event of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// The peer is known, and channels can be opened.
    Connected {
        /// Names the stream in capabilities.
        stream: HandshakeHash,
        /// The static key of the peer. It authorises nothing by itself.
        remote: PublicKey,
    },
    /// Something on a channel.
    Channel(mux::MuxEvent),
}

/// One stream.
///
/// ```
/// use autobee::crypto::Seed;
/// use autobee::env::Mono;
/// use autobee::replication::Role;
/// use autobee::replication::connection::{Connection, ConnectionSettings, ConnectionEvent};
/// use autobee::replication::noise::Keys;
/// use autobee::replication::stream::StreamKeys;
///
/// let keys = |n| StreamKeys {
///     noise: Keys { identity: Seed::new([n; 32]), ephemeral: Seed::new([n + 1; 32]) },
///     header: [n; 24],
/// };
/// let now = Mono(0);
/// let mut alice = Connection::new(Role::Initiator, keys(1), ConnectionSettings::default(), now);
/// let mut bob = Connection::new(Role::Responder, keys(5), ConnectionSettings::default(), now);
/// let mut connected = 0;
/// while connected < 2 {
///     bob.receive(&alice.output().split(), now);
///     alice.receive(&bob.output().split(), now);
///     connected += [bob.poll()?, alice.poll()?].iter().flatten().count();
/// }
/// # Ok::<(), autobee::replication::connection::ConnectionError>(())
/// ```
#[derive(Debug)]
pub struct Connection {
    settings: ConnectionSettings,
    role: Role,
    stream: SecretStream,
    mux: Mux,
    connected: Option<(HandshakeHash, PublicKey)>,
    started: Mono,
    last_read: Mono,
    last_write: Mono,
    /// When a frame ended last, or its rate was looked at, and how many bytes of the next one were here then.
    progress: (Mono, usize),
    /// Frames that came to their end.
    frames: u64,
    now: Mono,
    is_over: bool,
    planted: Planted,
}

impl Connection {
    /// A stream that has just been opened by the network.
    #[must_use]
    pub fn new(role: Role, keys: StreamKeys, settings: ConnectionSettings, now: Mono) -> Self {
        Self::over(role, SecretStream::new(role, keys), settings, now)
    }

    /// A stream that is encrypted below, whose other side is known.
    #[must_use]
    pub fn secured(role: Role, secured: Secured, settings: ConnectionSettings, now: Mono) -> Self {
        Self::over(role, SecretStream::secured(role, secured), settings, now)
    }

    fn over(role: Role, stream: SecretStream, settings: ConnectionSettings, now: Mono) -> Self {
        Self {
            role,
            stream,
            mux: Mux::new(settings.mux.clone()),
            settings,
            connected: None,
            started: now,
            last_read: now,
            last_write: now,
            progress: (now, 0),
            frames: 0,
            now,
            is_over: false,
            planted: Planted::default(),
        }
    }

    /// Has it make slips.
    pub(crate) const fn plant(&mut self, planted: Planted) {
        self.planted = planted;
        self.mux.plant(planted);
    }

    // What it is.

    /// Our side of it.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// What names the stream in capabilities, once the handshake is done.
    #[must_use]
    pub const fn stream(&self) -> Option<&HandshakeHash> {
        match &self.connected {
            Some((stream, _)) => Some(stream),
            None => None,
        }
    }

    /// The static key of the peer, once the handshake is done.
    #[must_use]
    pub const fn remote(&self) -> Option<&PublicKey> {
        match &self.connected {
            Some((_, remote)) => Some(remote),
            None => None,
        }
    }

    // Bytes.

    /// Bytes came from the network.
    pub fn receive(&mut self, bytes: &[u8], now: Mono) {
        self.stream.receive(bytes);
        self.received(now);
    }

    /// Where a shell may read into directly; [`Connection::received`] is to follow. Append only.
    pub const fn input(&mut self) -> &mut BytesMut {
        self.stream.input()
    }

    /// Bytes were added to [`Connection::input`].
    pub fn received(&mut self, now: Mono) {
        self.now = self.now.max(now);
        self.last_read = self.now;
    }

    /// False while the peer is to wait: nothing should be read from the network then, though what came may be polled.
    #[must_use]
    pub const fn is_readable(&self) -> bool {
        !self.is_over && !self.mux.is_waiting()
    }

    /// How many frames came to their end, and how many bytes of the next one are here.
    #[must_use]
    pub fn unfinished(&self) -> (u64, usize) {
        (self.frames, self.stream.buffered())
    }

    /// What is to be written to the network. The shell takes from its front.
    pub const fn output(&mut self) -> &mut BytesMut {
        self.stream.output()
    }

    /// Bytes that wait to be written. Answers to a batch that is still read count, though they are sealed together when
    /// it ends.
    #[must_use]
    pub fn unsent(&mut self) -> usize {
        self.stream.output().len().saturating_add(self.mux.corked())
    }

    /// False while enough waits to be written: nothing more should be sent then.
    #[must_use]
    pub fn is_writable(&mut self) -> bool {
        !self.is_over && self.connected.is_some() && self.unsent() < self.settings.output_bytes
    }

    /// The network ended the stream, or we did: all channels close.
    pub fn end(&mut self) {
        self.is_over = true;
        self.mux.end();
    }

    // Events.

    /// The next event. None when there is none yet, or when offers are to be answered first.
    ///
    /// # Errors
    ///
    /// The stream is over, and why. After it only the closing of the channels is reported.
    pub fn poll(&mut self) -> Result<Option<ConnectionEvent>, ConnectionError> {
        if self.stream.output().is_empty() {
            self.mux.written();
        }
        let polled = self.advance();
        if polled.is_err() {
            self.end();
        }
        self.flush();
        polled
    }

    fn advance(&mut self) -> Result<Option<ConnectionEvent>, ConnectionError> {
        loop {
            if let Some(event) = self.mux.poll()? {
                return Ok(Some(ConnectionEvent::Channel(event)));
            }
            if self.is_over || self.mux.is_waiting() {
                return Ok(None);
            }
            let before = self.stream.buffered();
            let polled = self.stream.poll()?;
            if self.stream.buffered() < before {
                self.progress = (self.now, self.stream.buffered());
                self.frames = self.frames.wrapping_add(1);
            }
            match polled {
                Some(StreamEvent::Message(message)) => self.mux.receive(message),
                Some(StreamEvent::Connected { stream, remote }) => {
                    self.connected = Some((stream, remote));
                    self.last_write = self.now;
                    return Ok(Some(ConnectionEvent::Connected { stream, remote }));
                }
                None => return Ok(None),
            }
        }
    }

    // Channels.

    /// Opens a channel, see [`Mux::open`].
    ///
    /// # Errors
    ///
    /// It is open already, or does not fit.
    pub fn open(&mut self, open: &OpenChannel<'_>) -> Result<Channel, OpenChannelError> {
        let channel = self.mux.open(open);
        self.flush();
        channel
    }

    /// Rejects what the peer offered under these names.
    pub fn reject(&mut self, protocol: &str, id: &[u8]) {
        self.mux.reject(protocol, id);
        self.flush();
    }

    /// Sends a message on a channel.
    ///
    /// # Errors
    ///
    /// The channel is closed, or the message does not fit.
    pub fn send(&mut self, channel: Channel, kind: u64, payload: &[u8]) -> Result<(), mux::MuxSendError> {
        let sent = self.mux.send(channel, kind, payload);
        self.flush();
        sent
    }

    /// Closes a channel. False when it was closed already.
    pub fn close(&mut self, channel: Channel) -> bool {
        let closed = self.mux.close(channel);
        self.flush();
        closed
    }

    /// Collects what is sent from now on into one batch. May nest.
    pub const fn cork(&mut self) {
        self.mux.cork();
    }

    /// Undoes one [`Connection::cork`]; the last one sends the batch.
    pub fn uncork(&mut self) {
        self.mux.uncork();
        self.flush();
    }

    /// The channels, for questions about them.
    #[must_use]
    pub const fn channels(&self) -> &Mux {
        &self.mux
    }

    // Time.

    /// When [`Connection::tick`] is to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Mono {
        if self.connected.is_none() {
            return self.started + self.settings.handshake;
        }
        let keep_alive = self.last_write + self.settings.keep_alive;
        if self.planted.has(Slip::SilenceUnnoticed) {
            return keep_alive;
        }
        let silence = keep_alive.min(self.last_read + self.settings.silence);
        if self.stream.buffered() == 0 || self.mux.is_waiting() {
            return silence;
        }
        // In the past when the frame came on since: then it is looked at with the next keep alive.
        let progress = self.progress.0 + self.settings.silence;
        if progress > self.now {
            silence.min(progress)
        } else {
            silence
        }
    }

    /// Sends what is due now.
    ///
    /// # Errors
    ///
    /// The peer was silent for too long: the stream is over.
    pub fn tick(&mut self, now: Mono) -> Result<(), ConnectionError> {
        self.now = self.now.max(now);
        if self.is_over {
            return Ok(());
        }
        let (after, limit) = (self.now.since(self.last_read), self.settings.silence);
        if self.connected.is_none() && self.now.since(self.started) >= self.settings.handshake {
            self.end();
            let after = self.settings.handshake;
            return Err(ConnectionError::Handshake { after });
        }
        if self.connected.is_some() && after >= limit && !self.planted.has(Slip::SilenceUnnoticed) {
            self.end();
            return Err(ConnectionError::Silent { after });
        }
        self.check_progress()?;
        // What waits to be written will show that we are here.
        let is_idle = self.stream.output().is_empty();
        if self.connected.is_some() && self.now.since(self.last_write) >= self.settings.keep_alive {
            self.last_write = self.now;
            if is_idle && !self.planted.has(Slip::KeepAliveForgotten) {
                // Connected, and empty: it can be sent.
                let _ = self.stream.send(&[]);
            }
        }
        Ok(())
    }

    /// A frame that does not come to its end counts as silence, whatever trickles in.
    fn check_progress(&mut self) -> Result<(), ConnectionError> {
        let buffered = self.stream.buffered();
        let ((since, before), limit) = (self.progress, self.settings.silence);
        if self.connected.is_none() || self.mux.is_waiting() || buffered == 0 {
            self.progress = (self.now, buffered);
            return Ok(());
        }
        let after = self.now.since(since);
        if after < limit {
            return Ok(());
        }
        let least = self.settings.frame_rate_min.saturating_mul(after.as_secs());
        let bytes = buffered.saturating_sub(before);
        if (bytes as u64) < least {
            self.end();
            return Err(ConnectionError::Unfinished { bytes, after });
        }
        self.progress = (self.now, buffered);
        Ok(())
    }

    /// Seals what the channels wrote.
    fn flush(&mut self) {
        if self.connected.is_none() {
            return;
        }
        while let Some(frame) = self.mux.take_frame() {
            // The multiplexer makes no frame that does not fit.
            if self.stream.send(&frame).is_ok() {
                self.last_write = self.now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Seed;
    use crate::replication::noise::Keys;

    fn pair() -> (Connection, Connection) {
        let keys = |n| StreamKeys {
            noise: Keys {
                identity: Seed::new([n; 32]),
                ephemeral: Seed::new([n + 1; 32]),
            },
            header: [n; 24],
        };
        let side = |role, n| Connection::new(role, keys(n), ConnectionSettings::default(), Mono(0));
        (side(Role::Initiator, 1), side(Role::Responder, 5))
    }

    /// Lets both sides talk, and gives what the second one saw.
    fn talk(a: &mut Connection, b: &mut Connection, now: Mono) -> Vec<ConnectionEvent> {
        let mut events = Vec::new();
        for _ in 0..4 {
            b.receive(&a.output().split(), now);
            events.extend(std::iter::from_fn(|| b.poll().unwrap()));
            a.receive(&b.output().split(), now);
            while a.poll().unwrap().is_some() {}
        }
        events
    }

    const CHAT: OpenChannel<'_> = OpenChannel {
        protocol: "chat",
        aliases: &[],
        id: b"",
        handshake: b"hi",
        unique: true,
    };

    #[test]
    fn channels_may_be_opened_before_the_handshake() {
        let (mut a, mut b) = pair();
        let channel = a.open(&CHAT).unwrap();
        a.send(channel, 3, b"early").unwrap();
        let events = talk(&mut a, &mut b, Mono(0));
        assert!(matches!(events[0], ConnectionEvent::Connected { .. }));
        assert!(matches!(
            events[1],
            ConnectionEvent::Channel(mux::MuxEvent::Offered { .. })
        ));
        b.open(&CHAT).unwrap();
        let events = talk(&mut a, &mut b, Mono(0));
        assert!(
            matches!(&events[1], ConnectionEvent::Channel(mux::MuxEvent::Message { payload, .. }) if payload == "early")
        );
        assert!(a.channels().is_open(channel));
    }

    #[test]
    fn a_silent_stream_is_kept_alive_and_then_given_up() {
        let (mut a, mut b) = pair();
        talk(&mut a, &mut b, Mono(0));
        let at = a.next_timeout();
        assert_eq!(at, Mono(0) + Duration::from_secs(5));
        a.tick(at).unwrap();
        assert_eq!(a.output().len(), 3 + 17);
        assert_eq!(talk(&mut a, &mut b, at), []);
        assert_eq!(b.next_timeout(), at);
        let late = at + Duration::from_secs(60);
        assert!(matches!(a.tick(late), Err(ConnectionError::Silent { .. })));
        assert_eq!(a.poll(), Ok(None));
    }

    #[test]
    fn a_frame_that_does_not_come_to_its_end_is_silence() {
        let (mut a, mut b) = pair();
        talk(&mut a, &mut b, Mono(0));
        // A length of which one bit was flipped on the way: the frames behind it are taken for its contents.
        b.receive(&[0, 0, 8], Mono(0));
        let mut at = Mono(0);
        let mut rate = |b: &mut Connection, bytes: usize| {
            (0..30).find_map(|_| {
                at = at + Duration::from_secs(5);
                b.receive(&vec![7; bytes], at);
                assert_eq!(b.poll(), Ok(None));
                b.tick(at).err()
            })
        };
        assert_eq!(rate(&mut b, 5 * 100), None, "a slow link");
        let trickle = rate(&mut b, 20);
        assert!(
            matches!(trickle, Some(ConnectionError::Unfinished { .. })),
            "{trickle:?}"
        );
    }

    #[test]
    fn answers_to_a_batch_that_is_still_read_are_waiting_to_be_written() {
        let (mut a, mut b) = pair();
        talk(&mut a, &mut b, Mono(0));
        let (from, to) = (a.open(&CHAT).unwrap(), b.open(&CHAT).unwrap());
        talk(&mut a, &mut b, Mono(0));
        a.cork();
        for question in 0..8 {
            a.send(from, 0, &[question]).unwrap();
        }
        a.uncork();
        b.receive(&a.output().split(), Mono(0));
        let answer = vec![0; ConnectionSettings::default().output_bytes / 4];
        let mut answered = 0;
        while let Some(event) = b.poll().unwrap() {
            if matches!(event, ConnectionEvent::Channel(mux::MuxEvent::Message { .. })) && b.is_writable() {
                b.send(to, 1, &answer).unwrap();
                answered += 1;
            }
        }
        assert_eq!(answered, 4, "the others wait until these are written");
        assert!(!b.is_writable());
        b.output().clear();
        assert!(b.is_writable(), "the batch ended, and all of it was written");
    }

    #[test]
    fn a_handshake_has_a_limit() {
        let (_, mut b) = pair();
        let at = b.next_timeout();
        assert!(matches!(b.tick(at), Err(ConnectionError::Handshake { .. })));
    }

    #[test]
    fn a_fault_closes_the_channels() {
        let (mut a, mut b) = pair();
        let channel = a.open(&CHAT).unwrap();
        talk(&mut a, &mut b, Mono(0));
        a.receive(&[0, 0, 0], Mono(0));
        assert!(matches!(a.poll(), Err(ConnectionError::Stream(_))));
        let closed = mux::MuxEvent::Closed {
            channel,
            rejected: true,
        };
        assert_eq!(a.poll(), Ok(Some(ConnectionEvent::Channel(closed))));
        assert_eq!(a.poll(), Ok(None));
        assert!(!a.is_readable() && !a.is_writable());
    }
}
