//! The network of this machine: byte streams over TCP.
#![expect(
    clippy::disallowed_types,
    reason = "the native world is the door to the machine's sockets"
)]

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::env::{Listener, Network, PeerAddr};

/// TCP streams. Addresses are `host:port`; port 0 listens on a free one.
#[derive(Debug, Clone)]
pub struct NativeNetwork {
    dial_limit: Duration,
}

impl NativeNetwork {
    /// Gives up dialing after `dial_limit`, with `TimedOut`. The default is ten seconds.
    #[must_use]
    pub const fn with_dial_limit(dial_limit: Duration) -> Self {
        Self { dial_limit }
    }
}

impl Default for NativeNetwork {
    fn default() -> Self {
        Self::with_dial_limit(Duration::from_secs(10))
    }
}

impl Network for NativeNetwork {
    type Stream = NativeStream;
    type Listener = NativeListener;

    async fn listen(&self, at: &PeerAddr) -> io::Result<NativeListener> {
        let inner = TcpListener::bind(at.as_str()).await?;
        let local = PeerAddr::new(inner.local_addr()?.to_string());
        Ok(NativeListener { inner, local })
    }

    async fn dial(&self, to: &PeerAddr) -> io::Result<NativeStream> {
        let connected = tokio::time::timeout(self.dial_limit, TcpStream::connect(to.as_str())).await;
        NativeStream::new(connected.map_err(|_| io::Error::new(ErrorKind::TimedOut, to.to_string()))??)
    }
}

/// A listening TCP socket.
#[derive(Debug)]
pub struct NativeListener {
    inner: TcpListener,
    local: PeerAddr,
}

impl Listener for NativeListener {
    type Stream = NativeStream;

    async fn accept(&mut self) -> io::Result<(NativeStream, PeerAddr)> {
        let (stream, from) = self.inner.accept().await?;
        Ok((NativeStream::new(stream)?, PeerAddr::new(from.to_string())))
    }

    fn local_addr(&self) -> PeerAddr {
        self.local.clone()
    }
}

/// A TCP stream, without Nagle's delay.
#[derive(Debug)]
pub struct NativeStream {
    inner: TcpStream,
    shut: bool,
}

impl NativeStream {
    fn new(inner: TcpStream) -> io::Result<Self> {
        inner.set_nodelay(true)?;
        Ok(Self { inner, shut: false })
    }
}

impl AsyncRead for NativeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for NativeStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl Drop for NativeStream {
    /// Without a shutdown the peer must see a reset, not an orderly end: with a linger time of zero the kernel does
    /// that, and drops what it has not sent.
    fn drop(&mut self) {
        if !self.shut {
            let _ = self.inner.set_zero_linger();
        }
    }
}
