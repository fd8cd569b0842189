//! Ordered byte streams between peers.

use std::fmt;
use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

/// The address of a peer: `host:port` natively, the name of a replica in a simulation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddr(String);

impl PeerAddr {
    /// Wraps an address. It is read when it is used: a bad one fails there with `InvalidInput`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The network of a world. Streams are reliable and ordered while they live; reads and writes may be short; a
/// partition shows as silence, a reset as an error, an orderly end as end of file.
pub trait Network: Clone + Send + Sync + 'static {
    /// A duplex byte stream. Dropping it without `shutdown` resets it.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// Accepts streams.
    type Listener: Listener<Stream = Self::Stream>;

    /// Starts to listen at `at`.
    fn listen(&self, at: &PeerAddr) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// Opens a stream to `to`. Refused when nobody listens there; silent while the way is cut, until the world's
    /// own limit, then `TimedOut`.
    fn dial(&self, to: &PeerAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// A listening endpoint; stops listening when dropped.
pub trait Listener: Send + 'static {
    /// What it accepts.
    type Stream;

    /// Waits for the next stream, and says from where it comes.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, PeerAddr)>> + Send;

    /// The address at which it listens, with the port that was chosen when none was asked for.
    fn local_addr(&self) -> PeerAddr;
}
