//! Whole signed logs over a stream, until the wire protocol of the original lands.
//!
//! A machine without I/O: bytes in, bytes out. Each side says which cores it has and how long they are; the other
//! asks for those that it wants, from the length that it holds; the answer is the missing blocks with the signed
//! head they lead to. What it is not: sparse, encrypted, or understood by a JavaScript peer.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use thiserror::Error;

use super::Role;
use crate::crypto::{CoreKey, DiscoveryKey};
use crate::hypercore::provisional_cores::Segment;
use crate::wire::{Decode, DecodeError, Decoder, Encode, EncodeError, Encoder, Length, Link};

const HELLO: u64 = 0;
const HAVE: u64 = 1;
const WANT: u64 = 2;
const SEGMENT: u64 = 3;
const ALIVE: u64 = 4;

/// What an exchange needs of the replica around it.
pub trait Port {
    /// The cores that may be offered, each with the length that is durable.
    fn offered(&self) -> Vec<Link>;

    /// From which length on blocks of this core are wanted, if the peer has `length` of them; none when they are not.
    fn wanted(&mut self, key: &CoreKey, length: Length) -> Option<Length>;

    /// The log from `from` to its durable end; none when the core is not offered or not longer.
    fn export(&self, key: &CoreKey, from: Length) -> Option<Segment>;

    /// Takes blocks in after checking them.
    ///
    /// # Errors
    ///
    /// What is wrong with them, in words: the peer is to blame.
    fn import(&mut self, segment: Segment) -> Result<(), String>;
}

/// Why an exchange ends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The peer sent a frame above the limit.
    #[error("the peer announced a frame of {bytes} bytes, more than {limit}")]
    FrameTooLong {
        /// What it announced.
        bytes: u64,
        /// What is allowed.
        limit: usize,
    },
    /// The peer has another database.
    #[error("the peer replicates another database, {found}")]
    OtherDatabase {
        /// What it replicates.
        found: DiscoveryKey,
    },
    /// Both ends claim to have dialled, or both to have accepted.
    #[error("the peer claims the same role")]
    SameRole,
    /// The peer's first message is no greeting, or a later one is.
    #[error("the peer sent a message out of turn")]
    OutOfTurn,
    /// The peer sent bytes that are no message.
    #[error("the peer sent a malformed message: {0}")]
    Malformed(#[from] DecodeError),
    /// The peer sent blocks that do not check out.
    #[error("the peer sent bad blocks of {key}: {what}")]
    BadBlocks {
        /// The core.
        key: CoreKey,
        /// What is wrong.
        what: String,
    },
    /// The peer sent blocks that nobody asked for.
    #[error("the peer sent blocks of {key} that were not asked for")]
    Unasked {
        /// The core.
        key: CoreKey,
    },
    /// Our own message cannot be encoded.
    #[error("a message of ours cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
}

/// Limits of one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExchangeLimits {
    /// Bytes that one frame may have.
    pub frame_bytes_max: usize,
    /// Bytes waiting to be sent above which the peer's requests wait.
    pub outbox_bytes_max: usize,
}

/// One side of an exchange.
#[derive(Debug)]
pub struct Exchange {
    limits: ExchangeLimits,
    database: DiscoveryKey,
    role: Role,
    greeted: bool,
    /// What the peer says it has.
    remote: BTreeMap<CoreKey, Length>,
    /// What the peer was told that we have.
    told: BTreeMap<CoreKey, Length>,
    /// What was asked of the peer and has not come yet: the length that was announced then.
    asked: BTreeMap<CoreKey, Length>,
    /// Requests of the peer that are not answered yet, at most one a core.
    requests: BTreeMap<CoreKey, Length>,
    inbox: Vec<u8>,
    outbox: VecDeque<Bytes>,
    outbox_bytes: usize,
}

impl Exchange {
    /// Starts an exchange with a greeting; the first [`Exchange::advance`] announces what is there.
    ///
    /// # Errors
    ///
    /// Only when the greeting cannot be encoded.
    pub fn new(database: DiscoveryKey, role: Role, limits: ExchangeLimits) -> Result<Self, ExchangeError> {
        let mut exchange = Self {
            limits,
            database,
            role,
            greeted: false,
            remote: BTreeMap::new(),
            told: BTreeMap::new(),
            asked: BTreeMap::new(),
            requests: BTreeMap::new(),
            inbox: Vec::new(),
            outbox: VecDeque::new(),
            outbox_bytes: 0,
        };
        exchange.send(&Message::Hello { database, role })?;
        Ok(exchange)
    }

    /// Takes bytes of the peer, in any portions.
    ///
    /// # Errors
    ///
    /// When the peer broke the protocol; the exchange must be closed then.
    pub fn receive(&mut self, bytes: &[u8], port: &mut impl Port) -> Result<(), ExchangeError> {
        self.inbox.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(header) = self.inbox.get(at..at + 4) {
            let announced = header
                .iter()
                .rev()
                .fold(0_u64, |size, byte| size << 8 | u64::from(*byte));
            let size = usize::try_from(announced).unwrap_or(usize::MAX);
            if size > self.limits.frame_bytes_max {
                return Err(ExchangeError::FrameTooLong {
                    bytes: announced,
                    limit: self.limits.frame_bytes_max,
                });
            }
            let Some(frame) = self.inbox.get(at + 4..at + 4 + size) else {
                break;
            };
            let message = Message::from_bytes(frame)?;
            at += 4 + size;
            self.handle(message, port)?;
        }
        self.inbox.drain(..at);
        self.advance(port)
    }

    /// Looks at what changed locally: announces longer cores, asks for wanted ones, answers requests.
    ///
    /// # Errors
    ///
    /// Only when a message of ours cannot be encoded.
    pub fn advance(&mut self, port: &mut impl Port) -> Result<(), ExchangeError> {
        let news: Vec<Link> = port
            .offered()
            .into_iter()
            .filter(|link| self.told.get(&link.key).is_none_or(|told| *told < link.length))
            .collect();
        if !news.is_empty() {
            for link in &news {
                self.told.insert(link.key, link.length);
            }
            self.send(&Message::Have(news))?;
        }
        let wants: Vec<(CoreKey, Length, Length)> = self
            .remote
            .iter()
            .filter(|(key, _)| !self.asked.contains_key(*key))
            .filter_map(|(key, length)| Some((*key, port.wanted(key, *length)?, *length)))
            .collect();
        for (key, from, length) in wants {
            self.asked.insert(key, length);
            self.send(&Message::Want(Link { key, length: from }))?;
        }
        while self.outbox_bytes < self.limits.outbox_bytes_max {
            let Some((key, from)) = self.requests.pop_first() else {
                break;
            };
            if let Some(segment) = port.export(&key, from) {
                self.send(&Message::Segment(segment))?;
            }
        }
        Ok(())
    }

    /// Tells the peer that this end is still there. For when there is nothing else to send.
    ///
    /// # Errors
    ///
    /// Only when the message cannot be encoded.
    pub fn keep_alive(&mut self) -> Result<(), ExchangeError> {
        self.send(&Message::Alive)
    }

    /// The next bytes to send, if any.
    pub fn poll_output(&mut self) -> Option<Bytes> {
        let frame = self.outbox.pop_front()?;
        self.outbox_bytes -= frame.len();
        Some(frame)
    }

    /// What the peer said that it has.
    #[must_use]
    pub const fn remote(&self) -> &BTreeMap<CoreKey, Length> {
        &self.remote
    }

    fn handle(&mut self, message: Message, port: &mut impl Port) -> Result<(), ExchangeError> {
        match message {
            Message::Hello { database, .. } if database != self.database => {
                return Err(ExchangeError::OtherDatabase { found: database });
            }
            Message::Hello { role, .. } if role == self.role => return Err(ExchangeError::SameRole),
            Message::Hello { .. } if !self.greeted => self.greeted = true,
            Message::Hello { .. } => return Err(ExchangeError::OutOfTurn),
            _ if !self.greeted => return Err(ExchangeError::OutOfTurn),
            Message::Alive => {}
            Message::Have(links) => {
                for link in links {
                    let known = self.remote.entry(link.key).or_default();
                    *known = link.length.max(*known);
                }
            }
            Message::Want(link) => {
                // A peer can only ask for what it was told about, so this map is bounded by our own cores.
                if self.told.contains_key(&link.key) {
                    self.requests.insert(link.key, link.length);
                }
            }
            Message::Segment(segment) => {
                let key = segment.key;
                if self.asked.remove(&key).is_none() {
                    return Err(ExchangeError::Unasked { key });
                }
                port.import(segment)
                    .map_err(|what| ExchangeError::BadBlocks { key, what })?;
            }
        }
        Ok(())
    }

    fn send(&mut self, message: &Message) -> Result<(), ExchangeError> {
        let body = message.to_bytes()?;
        let mut frame = Vec::with_capacity(4 + body.len());
        // A body above 4 GiB is above every sensible limit too: the peer refuses it by the saturated size.
        frame.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        frame.extend_from_slice(&body);
        self.outbox_bytes += frame.len();
        self.outbox.push_back(Bytes::from(frame));
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Message {
    Alive,
    Hello { database: DiscoveryKey, role: Role },
    Have(Vec<Link>),
    Want(Link),
    Segment(Segment),
}

impl Encode for Message {
    fn encode(&self, to: &mut Encoder) {
        match self {
            Self::Hello { database, role } => {
                to.uint(HELLO)
                    .raw(database.as_bytes())
                    .bool(*role == Role::Initiator);
            }
            Self::Alive => {
                to.uint(ALIVE);
            }
            Self::Have(links) => {
                to.uint(HAVE).array(links, |link, to| {
                    encode_link(link, to);
                });
            }
            Self::Want(link) => {
                to.uint(WANT);
                encode_link(link, to);
            }
            Self::Segment(segment) => {
                to.uint(SEGMENT)
                    .raw(segment.key.as_bytes())
                    .buffer(&segment.manifest)
                    .uint(segment.from.0)
                    .array(&segment.blocks, |block, to| {
                        to.buffer(block);
                    })
                    .buffer(&segment.signature);
            }
        }
    }
}

impl Decode for Message {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match from.uint()? {
            HELLO => {
                let database = DiscoveryKey::new(from.fixed()?);
                let role = if from.bool()? {
                    Role::Initiator
                } else {
                    Role::Responder
                };
                Ok(Self::Hello { database, role })
            }
            ALIVE => Ok(Self::Alive),
            HAVE => Ok(Self::Have(from.array(decode_link)?)),
            WANT => Ok(Self::Want(decode_link(from)?)),
            SEGMENT => Ok(Self::Segment(Segment {
                key: CoreKey::new(from.fixed()?),
                manifest: Bytes::copy_from_slice(from.buffer()?),
                from: Length(from.uint()?),
                blocks: from.array(|from| Ok(Bytes::copy_from_slice(from.buffer()?)))?,
                signature: Bytes::copy_from_slice(from.buffer()?),
            })),
            other => Err(from.unknown("exchange message", other)),
        }
    }
}

fn encode_link(link: &Link, to: &mut Encoder) {
    to.raw(link.key.as_bytes()).uint(link.length.0);
}

fn decode_link(from: &mut Decoder<'_>) -> Result<Link, DecodeError> {
    Ok(Link {
        key: CoreKey::new(from.fixed()?),
        length: Length(from.uint()?),
    })
}
