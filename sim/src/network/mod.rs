//! Byte streams between simulated replicas.
//!
//! The `kernel` decides, these types lend it to programs as the traits of `autobee::env`. They reach it through a
//! `Fabric`, of which each simulated world has its own.

mod address;
mod connection;
mod dial;
mod kernel;
mod note;
mod path;
mod pipe;

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use autobee::env::{Listener, Network, PeerAddr};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use kernel::{EndId, Kernel};
pub use path::{LatencyShape, PathConfig};

use crate::replica::ReplicaId;

/// How a program reaches the network of its world.
pub(crate) trait Fabric: Send + Sync {
    /// Runs `step` at the present time, on behalf of one replica; wakes whoever must be afterwards, outside of all
    /// locks. Does nothing for an incarnation that is gone.
    fn with(&self, step: &mut dyn FnMut(&mut Kernel<Waker>, ReplicaId));
}

/// The network as one incarnation of a replica sees it.
///
/// Addresses are `name` or `name:port`; port 0 asks for any free port.
#[derive(Clone)]
pub struct SimNetwork {
    fabric: Arc<dyn Fabric>,
}

/// Accepts streams in a simulation.
pub struct SimListener {
    fabric: Arc<dyn Fabric>,
    port: u16,
    address: PeerAddr,
}

/// A simulated stream.
pub struct SimStream {
    fabric: Arc<dyn Fabric>,
    end: EndId,
}

impl SimNetwork {
    pub(crate) fn new(fabric: Arc<dyn Fabric>) -> Self {
        Self { fabric }
    }
}

impl Network for SimNetwork {
    type Stream = SimStream;
    type Listener = SimListener;

    async fn listen(&self, at: &PeerAddr) -> io::Result<SimListener> {
        let (port, address) = on(&*self.fabric, |kernel, replica| kernel.listen(replica, at))??;
        Ok(SimListener {
            fabric: Arc::clone(&self.fabric),
            port,
            address,
        })
    }

    async fn dial(&self, to: &PeerAddr) -> io::Result<SimStream> {
        let dial = Dialling {
            fabric: &self.fabric,
            id: on(&*self.fabric, |kernel, replica| kernel.dial(replica, to))??,
        };
        let end = poll_fn(|context| {
            match on(&*self.fabric, |kernel, _| {
                kernel.dialled(dial.id, || context.waker().clone())
            }) {
                Ok(outcome) => outcome,
                Err(gone) => Poll::Ready(Err(gone)),
            }
        })
        .await?;
        Ok(SimStream {
            fabric: Arc::clone(&self.fabric),
            end,
        })
    }
}

impl Listener for SimListener {
    type Stream = SimStream;

    fn accept(&mut self) -> impl Future<Output = io::Result<(SimStream, PeerAddr)>> + Send {
        poll_fn(move |context| {
            let accepted = on(&*self.fabric, |kernel, replica| {
                kernel.accept(replica, self.port, || context.waker().clone())
            });
            match accepted {
                Ok(Poll::Ready(Ok((end, from)))) => {
                    let fabric = Arc::clone(&self.fabric);
                    Poll::Ready(Ok((SimStream { fabric, end }, from)))
                }
                Ok(Poll::Ready(Err(error))) | Err(error) => Poll::Ready(Err(error)),
                Ok(Poll::Pending) => Poll::Pending,
            }
        })
    }

    fn local_addr(&self) -> PeerAddr {
        self.address.clone()
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.fabric
            .with(&mut |kernel, replica| kernel.unlisten(replica, self.port));
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let end = self.end;
        let read = on(&*self.fabric, |kernel, _| {
            // Only as much as there is: a buffer of many kilobytes is not zeroed for a few bytes.
            let size = kernel.readable(end).max(1).min(out.remaining());
            kernel.read(end, out.initialize_unfilled_to(size), || context.waker().clone())
        })?;
        read.map_ok(|size| out.advance(size))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on(&*self.fabric, |kernel, _| {
            kernel.write(self.end, bytes, || context.waker().clone())
        })?
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(on(&*self.fabric, |kernel, _| kernel.shutdown(self.end)).flatten())
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.fabric.with(&mut |kernel, _| kernel.close(self.end));
    }
}

impl fmt::Debug for SimNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimNetwork")
    }
}

impl fmt::Debug for SimListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimListener({})", self.address)
    }
}

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStream({:?})", self.end)
    }
}

/// A handshake that is given up when its future is dropped.
struct Dialling<'a> {
    fabric: &'a Arc<dyn Fabric>,
    id: u64,
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        self.fabric.with(&mut |kernel, _| kernel.cancel_dial(self.id));
    }
}

/// Runs `step` on the network; fails when the incarnation is gone.
fn on<T>(fabric: &dyn Fabric, step: impl FnOnce(&mut Kernel<Waker>, ReplicaId) -> T) -> io::Result<T> {
    let mut step = Some(step);
    let mut result = None;
    fabric.with(&mut |kernel, replica| {
        result = step.take().map(|step| step(kernel, replica));
    });
    result.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotConnected,
            "this incarnation of the replica is gone",
        )
    })
}
