//! One encrypted stream: handshake, header message, sealed frames. Bytes in, messages and bytes out.
//!
//! A stream that is encrypted below already, as a connection of a Hyperswarm is, carries the same frames with messages as
//! they are: [`SecretStream::secured`].
//!
//! It does not matter how the bytes were cut on the way. Before the handshake is done nothing but its short messages is
//! buffered. Any error is final: the connection is to be dropped without a word, as the original does.
//!
//! Source: spec/replication.md 3 (package @hyperswarm/secret-stream 6.9).

use bytes::{Buf as _, Bytes, BytesMut};
use thiserror::Error;

use super::Role;
use super::capability::{self, HandshakeHash};
use super::frame::{self, FRAME_MAX, FrameReader, FrameTooLarge};
use super::noise::{Handshake, HandshakeResult, Keys, NoiseError};
use super::secretstream::{Cipher, HEADER_SIZE, OVERHEAD, OpenError, Tag};
use crate::crypto::PublicKey;

/// The largest message that fits in a frame, in bytes.
pub const MESSAGE_MAX: usize = FRAME_MAX - OVERHEAD;

/// The largest frame before the stream is sealed, in bytes: that of a Noise message.
const HANDSHAKE_FRAME_MAX: usize = 65_535;

const STREAM_ID_SIZE: usize = 32;
const HEADER_MESSAGE_SIZE: usize = STREAM_ID_SIZE + HEADER_SIZE;

/// The stream is over. All variants but the last are the peer's fault, or that of the network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// A frame is larger than allowed.
    #[error(transparent)]
    Frame(#[from] FrameTooLarge),
    /// The handshake failed.
    #[error("handshake: {0}")]
    Noise(#[from] NoiseError),
    /// The first message after the handshake has the wrong size.
    #[error("the peer sent a header message of {size} bytes")]
    HeaderSize {
        /// Bytes that came.
        size: usize,
    },
    /// The first message after the handshake is not of this stream.
    #[error("the peer sent a header message for another stream")]
    HeaderId,
    /// A message does not open.
    #[error("the peer sent {0}")]
    Open(#[from] OpenError),
    /// It failed before.
    #[error("the stream has failed before")]
    Over,
}

/// A message cannot be sent. The fault of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// It does not fit in a frame.
    #[error("a message of {size} bytes, where {MESSAGE_MAX} fit in a frame")]
    TooLarge {
        /// Bytes of the message.
        size: usize,
    },
    /// The handshake is not done.
    #[error("a message before the end of the handshake")]
    TooEarly,
}

/// Secrets and randomness of one stream.
#[derive(Debug, Clone)]
pub struct StreamKeys {
    /// For the handshake.
    pub noise: Keys,
    /// 24 random bytes, fresh for every stream.
    pub header: [u8; HEADER_SIZE],
}

/// What a stream that is encrypted already says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secured {
    /// The static key of the other side, which was proved.
    pub remote: PublicKey,
    /// What both sides call this stream, and nobody else knows: a hash of its handshake. Two streams never have the same.
    pub stream: HandshakeHash,
}

/// An event of a stream: what came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// The handshake is done: messages can be sent.
    Connected {
        /// Names this stream in capabilities.
        stream: HandshakeHash,
        /// The static key of the other side.
        remote: PublicKey,
    },
    /// A message. An empty one is a keep alive.
    Message(Bytes),
}

/// An encrypted stream.
///
/// ```
/// use autobee::crypto::Seed;
/// use autobee::replication::Role;
/// use autobee::replication::noise::Keys;
/// use autobee::replication::stream::{SecretStream, StreamEvent, StreamKeys};
///
/// let keys = |n| StreamKeys {
///     noise: Keys { identity: Seed::new([n; 32]), ephemeral: Seed::new([n + 1; 32]) },
///     header: [n; 24],
/// };
/// let mut alice = SecretStream::new(Role::Initiator, keys(1));
/// let mut bob = SecretStream::new(Role::Responder, keys(7));
/// for _ in 0..2 {
///     bob.receive(&alice.take_output());
///     bob.poll()?;
///     alice.receive(&bob.take_output());
///     alice.poll()?;
/// }
/// alice.send(b"hello")?;
/// bob.receive(&alice.take_output());
/// assert_eq!(bob.poll()?, Some(StreamEvent::Message("hello".into())));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SecretStream {
    role: Role,
    header: [u8; HEADER_SIZE],
    state: StreamState,
    reader: FrameReader,
    output: BytesMut,
}

#[derive(Debug)]
enum StreamState {
    Handshake(Box<Handshake>),
    /// Ours is sent; theirs must come before anything else.
    AwaitingHeader {
        session: Box<HandshakeResult>,
        send: Cipher,
    },
    Sealed {
        send: Cipher,
        receive: Cipher,
    },
    /// Encrypted below. What it is was not told yet.
    Secured(Secured),
    /// Encrypted below.
    Clear,
    Over,
}

impl SecretStream {
    /// A stream whose first message, if we are the initiator, waits in the output.
    #[must_use]
    pub fn new(role: Role, keys: StreamKeys) -> Self {
        let mut stream = Self {
            role,
            header: keys.header,
            state: StreamState::Handshake(Box::new(Handshake::xx(role, keys.noise, &[]))),
            reader: FrameReader::new(HANDSHAKE_FRAME_MAX),
            output: BytesMut::new(),
        };
        if let StreamState::Handshake(handshake) = &mut stream.state
            && role.is_initiator()
            && write_handshake(handshake, &mut stream.output).is_err()
        {
            stream.state = StreamState::Over;
        }
        stream
    }

    /// A stream that is encrypted below: no handshake, and frames hold messages as they are, an empty one being a keep alive.
    #[must_use]
    pub fn secured(role: Role, secured: Secured) -> Self {
        Self {
            role,
            header: [0; HEADER_SIZE],
            state: StreamState::Secured(secured),
            reader: FrameReader::new(FRAME_MAX),
            output: BytesMut::new(),
        }
    }

    // Bytes.

    /// Adds bytes as they came from the network.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.reader.extend(bytes);
    }

    /// Where a shell may read into directly. Append only.
    pub const fn input(&mut self) -> &mut BytesMut {
        self.reader.buffer()
    }

    /// Bytes that came and were not yet given out as messages.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.reader.buffered()
    }

    /// What is to be written to the network. The shell takes from its front.
    pub const fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Takes everything that is to be written.
    pub fn take_output(&mut self) -> BytesMut {
        self.output.split()
    }

    // Messages.

    /// True once messages can be sent.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        matches!(
            self.state,
            StreamState::AwaitingHeader { .. }
                | StreamState::Sealed { .. }
                | StreamState::Secured(_)
                | StreamState::Clear
        )
    }

    /// Seals a message into the output. An empty one is a keep alive, and is not answered.
    ///
    /// # Errors
    ///
    /// It does not fit, or the handshake is not done.
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        let size = message.len();
        if let StreamState::Secured(_) | StreamState::Clear = self.state {
            if size > MESSAGE_MAX || !frame::put_length(&mut self.output, size) {
                return Err(SendError::TooLarge { size });
            }
            self.output.extend_from_slice(message);
            return Ok(());
        }
        let (StreamState::AwaitingHeader { send, .. } | StreamState::Sealed { send, .. }) = &mut self.state
        else {
            return Err(SendError::TooEarly);
        };
        self.output.reserve(size + OVERHEAD + 3);
        if size > MESSAGE_MAX || !frame::put_length(&mut self.output, size + OVERHEAD) {
            return Err(SendError::TooLarge { size });
        }
        send.seal_into(&mut self.output, Tag::MESSAGE, message, &[]);
        Ok(())
    }

    /// The next thing that came in, if it is there as a whole.
    ///
    /// # Errors
    ///
    /// The stream is over, and why.
    pub fn poll(&mut self) -> Result<Option<StreamEvent>, StreamError> {
        if let StreamState::Secured(Secured { remote, stream }) = self.state {
            self.state = StreamState::Clear;
            return Ok(Some(StreamEvent::Connected { stream, remote }));
        }
        loop {
            let event = match self.reader.next_frame() {
                Ok(Some(frame)) => self.handle(frame),
                Ok(None) if matches!(self.state, StreamState::Over) => Err(StreamError::Over),
                Ok(None) => return Ok(None),
                Err(error) => Err(error.into()),
            };
            match event {
                Ok(None) => {}
                Ok(Some(event)) => return Ok(Some(event)),
                Err(error) => {
                    self.state = StreamState::Over;
                    return Err(error);
                }
            }
        }
    }

    fn handle(&mut self, mut frame: BytesMut) -> Result<Option<StreamEvent>, StreamError> {
        match &mut self.state {
            StreamState::Handshake(handshake) => {
                // Payloads are ignored, as in the original.
                handshake.read(&frame)?;
                if handshake.is_our_turn() {
                    write_handshake(handshake, &mut self.output)?;
                }
                if handshake.is_finished() {
                    self.connect().map(Some)
                } else {
                    Ok(None)
                }
            }
            StreamState::AwaitingHeader { session, .. } => {
                let size = frame.len();
                let (id, header) = frame
                    .split_first_chunk::<STREAM_ID_SIZE>()
                    .and_then(|(id, header)| Some((*id, <[u8; HEADER_SIZE]>::try_from(header).ok()?)))
                    .ok_or(StreamError::HeaderSize { size })?;
                let expected = capability::stream_id(&session.hash, self.role.other());
                if !capability::same(&expected, &id.into()) {
                    return Err(StreamError::HeaderId);
                }
                let receive = Cipher::new(&session.receive, &header);
                if let StreamState::AwaitingHeader { send, .. } =
                    std::mem::replace(&mut self.state, StreamState::Over)
                {
                    self.state = StreamState::Sealed { send, receive };
                }
                Ok(None)
            }
            StreamState::Sealed { receive, .. } => {
                let plain = receive.open(&mut frame, &[])?.1.len();
                // The plain text stands between the tag byte and the authenticator.
                frame.advance(1);
                frame.truncate(plain);
                Ok(Some(StreamEvent::Message(frame.freeze())))
            }
            StreamState::Secured(_) | StreamState::Clear => {
                let size = frame.len();
                if size > MESSAGE_MAX {
                    let limit = MESSAGE_MAX;
                    return Err(FrameTooLarge { size, limit }.into());
                }
                Ok(Some(StreamEvent::Message(frame.freeze())))
            }
            StreamState::Over => Err(StreamError::Over),
        }
    }

    fn connect(&mut self) -> Result<StreamEvent, StreamError> {
        let StreamState::Handshake(handshake) = std::mem::replace(&mut self.state, StreamState::Over) else {
            return Err(StreamError::Over);
        };
        let session = Box::new(handshake.finish()?);
        let (stream, remote) = (session.hash, session.remote);
        let id = capability::stream_id(&stream, self.role);
        if frame::put_length(&mut self.output, HEADER_MESSAGE_SIZE) {
            self.output.extend_from_slice(id.as_bytes());
            self.output.extend_from_slice(&self.header);
        }
        let send = Cipher::new(&session.send, &self.header);
        self.state = StreamState::AwaitingHeader { session, send };
        self.reader.set_limit(FRAME_MAX);
        Ok(StreamEvent::Connected { stream, remote })
    }
}

fn write_handshake(handshake: &mut Handshake, output: &mut BytesMut) -> Result<(), NoiseError> {
    let message = handshake.write(&[])?;
    if frame::put_length(output, message.len()) {
        output.extend_from_slice(&message);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::Seed;

    fn stream(role: Role) -> SecretStream {
        let n = u8::from(role.is_initiator());
        SecretStream::new(
            role,
            StreamKeys {
                noise: Keys {
                    identity: Seed::new([10 + n; 32]),
                    ephemeral: Seed::new([20 + n; 32]),
                },
                header: [30 + n; HEADER_SIZE],
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn arbitrary_bytes_never_panic_and_are_not_multiplied(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for role in [Role::Initiator, Role::Responder] {
                let mut stream = stream(role);
                stream.receive(&bytes);
                while let Ok(Some(event)) = stream.poll() {
                    prop_assert!(!matches!(event, StreamEvent::Message(_)));
                }
                prop_assert!(stream.output().len() <= 35 + 99);
            }
        }

        /// However the bytes are cut, messages come out of a stream that is encrypted below as they went in.
        #[test]
        fn what_is_encrypted_below_crosses_as_it_is(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..8),
            cuts in proptest::collection::vec(1usize..40, 1..20),
        ) {
            let secured = |n| Secured { remote: PublicKey::new([n; 32]), stream: [9; 64] };
            let mut sender = SecretStream::secured(Role::Initiator, secured(2));
            let mut receiver = SecretStream::secured(Role::Responder, secured(1));
            let connected = StreamEvent::Connected { stream: [9; 64], remote: PublicKey::new([1; 32]) };
            prop_assert!(sender.is_connected());
            for message in &messages {
                sender.send(message).unwrap();
            }
            let mut bytes = sender.take_output();
            prop_assert_eq!(bytes.len(), messages.iter().map(|message| message.len() + 3).sum::<usize>());
            let (mut got, mut cuts) = (Vec::new(), cuts.iter().cycle());
            prop_assert_eq!(receiver.poll(), Ok(Some(connected)));
            while !bytes.is_empty() {
                let cut = cuts.next().copied().unwrap_or(1).min(bytes.len());
                receiver.receive(&bytes.split_to(cut));
                while let Some(event) = receiver.poll().unwrap() {
                    if let StreamEvent::Message(message) = event {
                        got.push(message.to_vec());
                    }
                }
            }
            prop_assert_eq!(got, messages);
        }

        #[test]
        fn damage_anywhere_ends_the_stream(position in any::<prop::sample::Index>(), bit in 0u8..8) {
            let (mut initiator, mut responder) = (stream(Role::Initiator), stream(Role::Responder));
            let mut bytes = Vec::new();
            for round in 0..3 {
                let sent = initiator.take_output();
                bytes.extend_from_slice(&sent);
                responder.receive(&sent);
                while responder.poll().unwrap().is_some() {}
                initiator.receive(&responder.take_output());
                while initiator.poll().unwrap().is_some() {}
                if round == 1 {
                    initiator.send(b"first").unwrap();
                    initiator.send(b"second").unwrap();
                }
            }
            // The same run again, with one bit turned on the way. A longer length may leave the responder waiting.
            let at = position.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let mut victim = stream(Role::Responder);
            victim.receive(&bytes);
            let mut messages = 0;
            let failed = loop {
                match victim.poll() {
                    Ok(Some(StreamEvent::Message(_))) => messages += 1,
                    Ok(Some(StreamEvent::Connected { .. })) => {}
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            prop_assert!(messages < 2);
            prop_assert!(failed || victim.buffered() > 0);
        }
    }
}
