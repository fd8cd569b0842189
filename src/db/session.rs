//! One connection to a peer.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::sync::Notify;

use super::shared::{Shared, lock};
use crate::env::{Clock as _, Env, Spawn as _, TaskHandle, watch};
use crate::error::Error;
use crate::replication::Role;
use crate::replication::provisional_exchange::{Exchange, ExchangeError, ExchangeLimits};

const READ_BYTES: usize = 1 << 16;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer ended it in good order.
    PeerEnded,
    /// The stream broke: a reset, a timeout, an unreachable peer.
    StreamFailed(io::ErrorKind),
    /// The peer broke the protocol.
    PeerMisbehaved(ExchangeError),
    /// This database was closed, or the session was.
    Closed,
}

/// A running connection. Dropping it lets the connection run on; it ends with [`Session::close`], with the stream, or
/// with the database.
#[derive(Debug)]
pub struct Session {
    ended: watch::Receiver<Option<CloseReason>>,
    end: Arc<Ending>,
}

/// Lets either half of a connection, or the database, end both.
#[derive(Debug)]
pub(super) struct Ending {
    reason: watch::Sender<Option<CloseReason>>,
}

impl Session {
    /// Waits for the end of the connection and says why it ended.
    pub async fn ended(&self) -> CloseReason {
        let mut ended = self.ended.clone();
        // The sender lives in `self`, so this cannot fail.
        let _ = ended.wait_for(Option::is_some).await;
        ended.borrow().clone().unwrap_or(CloseReason::Closed)
    }

    /// Why the connection ended; none while it runs.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.ended.borrow().clone()
    }

    /// Ends the connection.
    pub fn close(self) {
        self.end.end(CloseReason::Closed);
    }
}

impl Ending {
    fn end(&self, reason: CloseReason) {
        self.reason.send_if_modified(|known| {
            let is_first = known.is_none();
            known.get_or_insert(reason);
            is_first
        });
    }

    async fn wait(&self) {
        let _ = self.reason.subscribe().wait_for(Option::is_some).await;
    }
}

/// The parts of a connection that its two halves share.
struct Connection<E: Env> {
    shared: Arc<Shared<E>>,
    exchange: std::sync::Mutex<Exchange>,
    output: Notify,
    ending: Arc<Ending>,
}

pub(super) fn start<E: Env, S>(shared: &Arc<Shared<E>>, stream: S, role: Role) -> Result<Session, Error>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let limits = ExchangeLimits {
        frame_bytes_max: shared.settings.frame_bytes_max,
        outbox_bytes_max: shared.settings.outbox_bytes_max,
    };
    let exchange = Exchange::new(shared.discovery_key(), role, limits).map_err(|error| Error::Internal {
        what: error.to_string(),
    })?;
    let reason = watch::Sender::new(None);
    let ended = reason.subscribe();
    let ending = Arc::new(Ending { reason });
    let connection = Arc::new(Connection {
        shared: Arc::clone(shared),
        exchange: std::sync::Mutex::new(exchange),
        output: Notify::new(),
        ending: Arc::clone(&ending),
    });
    let (reader, writer) = split(stream);
    let tasks = [
        shared
            .env
            .spawn()
            .spawn("session reader", Arc::clone(&connection).read(reader)),
        shared
            .env
            .spawn()
            .spawn("session writer", Arc::clone(&connection).write(writer)),
        shared
            .env
            .spawn()
            .spawn("session watcher", Arc::clone(&connection).watch()),
    ];
    shared.adopt(Arc::clone(&ending), tasks)?;
    Ok(Session { ended, end: ending })
}

/// Ends a connection and the tasks that serve it.
pub(super) fn stop(ending: &Ending, tasks: [TaskHandle; 3]) {
    ending.end(CloseReason::Closed);
    tasks.into_iter().for_each(TaskHandle::abort);
}

impl Ending {
    /// True once the connection is over.
    pub(super) fn is_over(&self) -> bool {
        self.reason.borrow().is_some()
    }
}

impl<E: Env> Connection<E> {
    async fn read<S: AsyncRead + Send>(self: Arc<Self>, mut stream: ReadHalf<S>) {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let silence = self.shared.env.clock().sleep(self.shared.settings.silence_max());
            let received = self.unless_over(either(stream.read(&mut buffer), silence)).await;
            let reason = match received {
                None => return,
                // A peer whose machine lost power says nothing: only its silence tells.
                Some(None) => CloseReason::StreamFailed(io::ErrorKind::TimedOut),
                Some(Some(Ok(0))) => CloseReason::PeerEnded,
                Some(Some(Err(error))) => CloseReason::StreamFailed(error.kind()),
                Some(Some(Ok(count))) => match self.receive(&buffer[..count]).await {
                    Ok(()) => continue,
                    Err(error) => CloseReason::PeerMisbehaved(error),
                },
            };
            self.ending.end(reason);
            self.output.notify_one();
            return;
        }
    }

    /// What `future` gives; none when the connection ends before.
    async fn unless_over<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        either(future, self.ending.wait()).await
    }

    async fn receive(&self, bytes: &[u8]) -> Result<(), ExchangeError> {
        let grew = {
            let mut exchange = lock(&self.exchange);
            let mut state = lock(&self.shared.state);
            let before = state.imported();
            exchange.receive(bytes, &mut *state)?;
            state.imported() != before
        };
        self.output.notify_one();
        if grew {
            // What went wrong with applying is kept in the state: it is not the peer's fault.
            let _ = self.shared.drain().await;
        }
        Ok(())
    }

    async fn write<S: AsyncWrite + Send>(self: Arc<Self>, mut stream: WriteHalf<S>) {
        loop {
            while let Some(frame) = self.next_frame() {
                if let Err(error) = stream.write_all(&frame).await {
                    self.ending.end(CloseReason::StreamFailed(error.kind()));
                    return;
                }
            }
            if let Err(error) = stream.flush().await {
                self.ending.end(CloseReason::StreamFailed(error.kind()));
                return;
            }
            if self.ending.is_over() {
                // Only an orderly end is worth telling the peer; a misbehaving one gets a reset.
                if self.ending.reason.borrow().as_ref() == Some(&CloseReason::PeerEnded) {
                    let _ = stream.shutdown().await;
                }
                return;
            }
            let pause = self.shared.env.clock().sleep(self.shared.settings.keep_alive());
            if either(self.output.notified(), pause).await.is_none()
                && let Err(error) = lock(&self.exchange).keep_alive()
            {
                self.ending.end(CloseReason::PeerMisbehaved(error));
            }
        }
    }

    fn next_frame(&self) -> Option<bytes::Bytes> {
        let mut exchange = lock(&self.exchange);
        if let Some(frame) = exchange.poll_output() {
            return Some(frame);
        }
        self.advance(&mut exchange);
        exchange.poll_output()
    }

    /// Tells the peer what changed here.
    async fn watch(self: Arc<Self>) {
        let mut changed = self.shared.changed.subscribe();
        while let Some(Ok(())) = self.unless_over(changed.changed()).await {
            self.output.notify_one();
        }
    }

    fn advance(&self, exchange: &mut Exchange) {
        if let Err(error) = exchange.advance(&mut *lock(&self.shared.state)) {
            self.ending.end(CloseReason::PeerMisbehaved(error));
        }
    }
}

/// What `future` gives; none when `limit` comes first.
async fn either<T>(future: impl Future<Output = T>, limit: impl Future<Output = ()>) -> Option<T> {
    let mut future = pin!(future);
    let mut limit = pin!(limit);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => limit.as_mut().poll(context).map(|()| None),
    })
    .await
}
