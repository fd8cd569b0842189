//! What every `Network` does while nothing is cut and nobody crashes.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use autobee::env::{Clock as _, Env, Listener as _, Network, PeerAddr, Spawn as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longer than anything takes that is going to happen. Bytes that nobody reads stay below the smallest window, 4,000.
const LONG: Duration = Duration::from_millis(400);
/// What no world holds under way for a reader that does not read.
const MORE_THAN_A_WINDOW: usize = 64 << 20;

type StreamOf<E> = <<E as Env>::Network as Network>::Stream;

/// Laws about streams. `dialler` dials, `listener` listens at `at`; both may be the same.
pub(crate) async fn stream_laws<E: Env>(dialler: E, listener: E, at: PeerAddr) {
    let mut pair = Pair::new(dialler, listener, at).await;
    bytes_arrive_in_order(&mut pair).await;
    each_half_closes_alone(&mut pair).await;
    the_end_stays_the_end(&mut pair).await;
    bytes_wait_for_a_late_accept(&mut pair).await;
    a_drop_after_a_shutdown_is_no_reset(&mut pair).await;
    a_drop_resets_the_reader(&mut pair).await;
    a_drop_resets_the_writer(&mut pair).await;
    nothing_is_written_after_a_shutdown(&mut pair).await;
    a_reader_that_does_not_read_holds_the_writer_up(&mut pair).await;
    streams_do_not_mix(&mut pair).await;
}

/// Laws about addresses. `any` asks for a port to be chosen.
pub(crate) async fn address_laws<E: Env>(env: E, any: PeerAddr) {
    let network = env.network();
    let first = network.listen(&any).await.unwrap();
    let mut second = network.listen(&any).await.unwrap();
    assert_ne!(first.local_addr(), any, "a port was chosen");
    assert_ne!(first.local_addr(), second.local_addr(), "ports are chosen once");

    let taken = network.listen(&first.local_addr()).await;
    assert_eq!(kind(&taken), Some(ErrorKind::AddrInUse));
    drop(taken);

    let (dialled, accepted) = both(network.dial(&second.local_addr()), second.accept()).await;
    let (_stream, from) = accepted.unwrap();
    assert_ne!(from, second.local_addr(), "a dialler has an address of its own");
    drop(dialled.unwrap());

    let gone = first.local_addr();
    drop(first);
    let refused = network.dial(&gone).await;
    assert_eq!(kind(&refused), Some(ErrorKind::ConnectionRefused));
    let again = network.listen(&gone).await;
    assert_eq!(kind(&again), None, "an address is free again");

    for bad in ["", "no:number", "no:65536"] {
        let bad = PeerAddr::new(bad);
        assert_eq!(
            kind(&network.listen(&bad).await),
            Some(ErrorKind::InvalidInput),
            "{bad:?}"
        );
        assert_eq!(
            kind(&network.dial(&bad).await),
            Some(ErrorKind::InvalidInput),
            "{bad:?}"
        );
    }
}

async fn bytes_arrive_in_order<E: Env>(pair: &mut Pair<E>) {
    let (mut here, mut there) = pair.open().await;
    let bytes = pattern(300_000);
    let sent = bytes.clone();
    let writing = pair.dialler.spawn();
    writing.spawn("write", async move {
        let mut rest = &sent[..];
        for size in (1..).step_by(37) {
            let (part, after) = rest.split_at(size.min(rest.len()));
            here.write_all(part).await.unwrap();
            here.flush().await.unwrap();
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        here.shutdown().await.unwrap();
        // The other direction is still open: the stream ends when the peer has ended it, too.
        assert_eq!(here.read(&mut [0; 8]).await.unwrap(), 0);
    });
    let mut arrived = Vec::new();
    let mut buffer = [0; 1_001];
    loop {
        let limit = 1 + arrived.len() % buffer.len();
        let size = there.read(&mut buffer[..limit]).await.unwrap();
        if size == 0 {
            break;
        }
        arrived.extend_from_slice(&buffer[..size]);
    }
    assert!(arrived == bytes, "{} of {} bytes", arrived.len(), bytes.len());
    there.shutdown().await.unwrap();
}

async fn each_half_closes_alone<E: Env>(pair: &mut Pair<E>) {
    for dialler_first in [true, false] {
        let (here, there) = pair.open().await;
        let (mut first, mut second) = if dialler_first {
            (here, there)
        } else {
            (there, here)
        };
        first.write_all(b"question").await.unwrap();
        first.shutdown().await.unwrap();
        assert_eq!(read_all(&mut second).await.unwrap(), b"question");
        second.write_all(b"answer").await.unwrap();
        second.shutdown().await.unwrap();
        assert_eq!(read_all(&mut first).await.unwrap(), b"answer");
    }
}

async fn the_end_stays_the_end<E: Env>(pair: &mut Pair<E>) {
    let (mut here, mut there) = pair.open().await;
    here.shutdown().await.unwrap();
    for _ in 0..3 {
        assert_eq!(there.read(&mut [0; 4]).await.unwrap(), 0);
    }
    assert_eq!(
        there.write(&[]).await.unwrap(),
        0,
        "nothing can be written at any time"
    );
    there.shutdown().await.unwrap();
    read_all(&mut here).await.unwrap();
}

async fn bytes_wait_for_a_late_accept<E: Env>(pair: &mut Pair<E>) {
    let mut here = pair
        .dialler
        .network()
        .dial(&pair.door.local_addr())
        .await
        .unwrap();
    here.write_all(b"early").await.unwrap();
    here.shutdown().await.unwrap();
    pair.dialler.clock().sleep(LONG).await;
    let (mut there, _) = pair.door.accept().await.unwrap();
    assert_eq!(read_all(&mut there).await.unwrap(), b"early");
    there.shutdown().await.unwrap();
    read_all(&mut here).await.unwrap();
}

async fn a_drop_after_a_shutdown_is_no_reset<E: Env>(pair: &mut Pair<E>) {
    let (mut here, mut there) = pair.open().await;
    let bytes = pattern(4_000);
    here.write_all(&bytes).await.unwrap();
    here.shutdown().await.unwrap();
    drop(here);
    pair.dialler.clock().sleep(LONG).await;
    assert!(read_all(&mut there).await.unwrap() == bytes);
    there.shutdown().await.unwrap();
}

async fn a_drop_resets_the_reader<E: Env>(pair: &mut Pair<E>) {
    for written in [&b""[..], b"some"] {
        let (here, mut there) = pair.open().await;
        there.write_all(written).await.unwrap();
        drop(there);
        let (mut here, clock) = (here, pair.dialler.clock().clone());
        clock.sleep(LONG).await;
        let outcome = read_all(&mut here).await;
        assert_eq!(
            kind(&outcome),
            Some(ErrorKind::ConnectionReset),
            "an end of file would be a lie"
        );
    }
}

async fn a_drop_resets_the_writer<E: Env>(pair: &mut Pair<E>) {
    let (here, mut there) = pair.open().await;
    drop(here);
    let mut outcome = Ok(());
    for _ in 0..100 {
        pair.dialler.clock().sleep(Duration::from_millis(10)).await;
        outcome = there.write_all(&[0; 100]).await;
        if outcome.is_err() {
            break;
        }
    }
    let broken = [
        ErrorKind::ConnectionReset,
        ErrorKind::BrokenPipe,
        ErrorKind::ConnectionAborted,
    ];
    assert!(
        kind(&outcome).is_some_and(|kind| broken.contains(&kind)),
        "{outcome:?}"
    );
}

async fn nothing_is_written_after_a_shutdown<E: Env>(pair: &mut Pair<E>) {
    let (mut here, mut there) = pair.open().await;
    here.shutdown().await.unwrap();
    assert_eq!(kind(&here.write_all(b"late").await), Some(ErrorKind::BrokenPipe));
    assert_eq!(read_all(&mut there).await.unwrap(), b"");
    there.shutdown().await.unwrap();
    read_all(&mut here).await.unwrap();
}

async fn a_reader_that_does_not_read_holds_the_writer_up<E: Env>(pair: &mut Pair<E>) {
    let (mut here, mut there) = pair.open().await;
    let chunk = pattern(64 << 10);
    let mut written = 0;
    // A write that a time limit interrupts has written nothing.
    while let Some(size) = within(
        &pair.dialler,
        LONG,
        here.write(&chunk[..chunk.len() - written % 5]),
    )
    .await
    {
        written += size.unwrap();
        assert!(written < MORE_THAN_A_WINDOW, "the writer was never held up");
    }
    pair.dialler.spawn().spawn("finish", async move {
        here.write_all(b"the end").await.unwrap();
        here.shutdown().await.unwrap();
        read_all(&mut here).await.unwrap();
    });
    let bytes = read_all(&mut there).await.unwrap();
    assert_eq!(
        bytes.len(),
        written + 7,
        "nothing is lost, and the writer goes on"
    );
    assert!(bytes.ends_with(b"the end"));
    there.shutdown().await.unwrap();
}

async fn streams_do_not_mix<E: Env>(pair: &mut Pair<E>) {
    const STREAMS: u32 = 40;
    let at = pair.door.local_addr();
    let (done, mut finished) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..STREAMS {
        let (env, at, done) = (pair.dialler.clone(), at.clone(), done.clone());
        pair.dialler.spawn().spawn("ask", async move {
            let mut stream = env.network().dial(&at).await.unwrap();
            let question = number.to_le_bytes().repeat(500);
            stream.write_all(&question).await.unwrap();
            stream.shutdown().await.unwrap();
            let answer = read_all(&mut stream).await.unwrap();
            assert!(answer == question, "stream {number}");
            done.send(number).unwrap();
        });
    }
    for _ in 0..STREAMS {
        let (mut stream, _) = pair.door.accept().await.unwrap();
        pair.listener.spawn().spawn("answer", async move {
            let question = read_all(&mut stream).await.unwrap();
            stream.write_all(&question).await.unwrap();
            stream.shutdown().await.unwrap();
        });
    }
    let mut seen = Vec::new();
    while seen.len() < STREAMS as usize {
        let number = within(&pair.dialler, LONG * 20, finished.recv()).await;
        seen.push(number.flatten().unwrap());
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..STREAMS));
}

/// Two environments of one world, one of which listens.
struct Pair<E: Env> {
    dialler: E,
    listener: E,
    door: <E::Network as Network>::Listener,
}

impl<E: Env> Pair<E> {
    async fn new(dialler: E, listener: E, at: PeerAddr) -> Self {
        let door = listener.network().listen(&at).await.unwrap();
        Self {
            dialler,
            listener,
            door,
        }
    }

    /// Both ends of a new stream, the dialler's first.
    async fn open(&mut self) -> (StreamOf<E>, StreamOf<E>) {
        let at = self.door.local_addr();
        let (dialled, accepted) = both(self.dialler.network().dial(&at), self.door.accept()).await;
        (dialled.unwrap(), accepted.unwrap().0)
    }
}

async fn read_all(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// The output of `work`, or `None` after `limit`.
async fn within<T>(env: &impl Env, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut limit = pin!(env.clock().sleep(limit));
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => limit.as_mut().poll(context).map(|()| None),
    })
    .await
}

async fn both<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut a, mut b) = (None, None);
    poll_fn(|context| {
        poll_into(&mut a, first.as_mut(), context);
        poll_into(&mut b, second.as_mut(), context);
        if a.is_some() && b.is_some() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    (a.unwrap(), b.unwrap())
}

fn poll_into<T>(
    output: &mut Option<T>,
    future: Pin<&mut impl Future<Output = T>>,
    context: &mut std::task::Context<'_>,
) {
    if output.is_none()
        && let Poll::Ready(value) = future.poll(context)
    {
        *output = Some(value);
    }
}

fn kind<T>(outcome: &io::Result<T>) -> Option<ErrorKind> {
    outcome.as_ref().err().map(io::Error::kind)
}

/// Bytes of which no part repeats soon.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(len)
    .collect()
}
