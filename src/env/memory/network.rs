//! Byte streams between the replicas of one world in memory.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

use super::locked;
use crate::env::{Listener, Network, PeerAddr};

/// Bytes that may be under way in one direction before writes wait.
const WINDOW_BYTES: usize = 64 * 1024;

/// Connects dialers and listeners by name. Clones share the names.
#[derive(Debug, Clone, Default)]
pub struct MemoryNetwork {
    shared: Arc<MemoryNetworkInner>,
}

#[derive(Debug, Default)]
struct MemoryNetworkInner {
    listeners: Mutex<BTreeMap<PeerAddr, mpsc::UnboundedSender<Arrival>>>,
    dialed: AtomicU64,
    /// So many accepts fail before one succeeds.
    failing_accepts: AtomicU32,
}

type Arrival = (MemoryStream, PeerAddr);

impl MemoryNetwork {
    /// Lets the next `count` accepts of this network fail, as those of a system do that has too many files open.
    pub fn fail_accepts(&self, count: u32) {
        self.shared.failing_accepts.store(count, Ordering::Relaxed);
    }
}

impl Network for MemoryNetwork {
    type Stream = MemoryStream;
    type Listener = MemoryListener;

    async fn listen(&self, at: &PeerAddr) -> io::Result<MemoryListener> {
        let (sender, arrivals) = mpsc::unbounded_channel();
        let mut listeners = locked(&self.shared.listeners);
        if listeners.contains_key(at) {
            return Err(io::Error::new(ErrorKind::AddrInUse, at.to_string()));
        }
        listeners.insert(at.clone(), sender);
        Ok(MemoryListener {
            shared: self.shared.clone(),
            at: at.clone(),
            arrivals,
        })
    }

    async fn dial(&self, to: &PeerAddr) -> io::Result<MemoryStream> {
        let (ours, theirs) = MemoryStream::pair();
        let number = self.shared.dialed.fetch_add(1, Ordering::Relaxed);
        let from = PeerAddr::new(format!("dialer-{number}"));
        let listeners = locked(&self.shared.listeners);
        match listeners.get(to).map(|listener| listener.send((theirs, from))) {
            Some(Ok(())) => Ok(ours),
            Some(Err(_)) | None => Err(io::Error::new(ErrorKind::ConnectionRefused, to.to_string())),
        }
    }
}

/// Accepts the streams that were dialed to its name.
#[derive(Debug)]
pub struct MemoryListener {
    shared: Arc<MemoryNetworkInner>,
    at: PeerAddr,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
}

impl Listener for MemoryListener {
    type Stream = MemoryStream;

    async fn accept(&mut self) -> io::Result<(MemoryStream, PeerAddr)> {
        let failing = &self.shared.failing_accepts;
        let left = failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() {
            return Err(io::Error::other("too many open files"));
        }
        self.arrivals
            .recv()
            .await
            .ok_or_else(|| ErrorKind::NotConnected.into())
    }

    fn local_addr(&self) -> PeerAddr {
        self.at.clone()
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        locked(&self.shared.listeners).remove(&self.at);
    }
}

/// One end of a duplex stream of bytes.
#[derive(Debug)]
pub struct MemoryStream {
    inner: DuplexStream,
    shut: bool,
    /// Set when either end was dropped without a shutdown.
    reset: Arc<AtomicBool>,
}

impl MemoryStream {
    fn pair() -> (Self, Self) {
        let (left, right) = tokio::io::duplex(WINDOW_BYTES);
        let reset = Arc::new(AtomicBool::new(false));
        let end = |inner| Self {
            inner,
            shut: false,
            reset: reset.clone(),
        };
        (end(left), end(right))
    }

    fn check_reset(&self) -> io::Result<()> {
        if self.reset.load(Ordering::Acquire) {
            return Err(ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_reset()?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        if buffer.filled().len() == before {
            self.check_reset()?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_reset()?;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        if !self.shut {
            self.reset.store(true, Ordering::Release);
        }
    }
}
