//! How much is read at one time: more while a peer sends more, and no memory for it while it is silent.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How much more is read at one time while a peer sends more than usually fits.
const LARGE: usize = 8;

/// Bytes of a short read.
const SHORT: usize = 7;

/// Room for what is read.
#[derive(Debug)]
pub(super) struct Room {
    /// Bytes that are usually read at one time.
    usual: usize,
    bytes: usize,
    /// Few bytes are read at one time.
    is_short: bool,
    /// The memory of the input is larger than that of a silent peer should be.
    is_large: bool,
}

impl Room {
    pub(super) const fn new(usual: usize) -> Self {
        Self {
            usual,
            bytes: usual,
            is_short: false,
            is_large: false,
        }
    }

    /// Whether few bytes are read at one time: a simulator asks for it.
    pub(super) const fn set_short(&mut self, is_short: bool) {
        self.is_short = is_short;
    }

    /// Reads to the end of `input`. No bytes: there will be none any more.
    pub(super) fn read<S: AsyncRead>(
        &mut self,
        stream: &mut Pin<Box<S>>,
        input: &mut BytesMut,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if input.capacity() - input.len() < self.bytes / 2 {
            input.reserve(self.bytes);
            self.is_large |= self.bytes > self.usual;
        }
        let spare = input.capacity() - input.len();
        let done = if self.is_short {
            pin!(stream.read_buf(&mut input.limit(SHORT))).poll(context)
        } else {
            pin!(stream.read_buf(input)).poll(context)
        };
        match done {
            Poll::Ready(Ok(bytes)) if bytes == spare => self.bytes = self.usual.saturating_mul(LARGE),
            Poll::Ready(_) => self.bytes = self.usual,
            Poll::Pending if input.is_empty() && self.is_large => {
                *input = BytesMut::new();
                *self = Self::new(self.usual);
            }
            Poll::Pending => {}
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    const USUAL: usize = 64 * 1024;

    #[test]
    fn a_silent_peer_costs_little_after_a_loud_one() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 22);
        let (mut stream, mut input, mut room) = (Box::pin(ours), BytesMut::new(), Room::new(USUAL));
        let context = &mut Context::from_waker(Waker::noop());
        let sent = vec![7; 1 << 21];
        assert!(pin!(theirs.write_all(&sent)).poll(context).is_ready());
        let (mut received, mut largest) = (0, 0);
        while let Poll::Ready(read) = room.read(&mut stream, &mut input, context) {
            let bytes = read.unwrap();
            assert!(bytes <= 2 * LARGE * USUAL, "{bytes} bytes at one time");
            largest = largest.max(bytes);
            received += bytes;
            assert!(input.split().iter().all(|byte| *byte == 7));
        }
        assert_eq!(received, sent.len());
        assert!(largest > 2 * USUAL, "{largest} bytes at one time");
        assert!(input.capacity() <= 2 * USUAL);
        drop(theirs);
        assert!(matches!(
            room.read(&mut stream, &mut input, context),
            Poll::Ready(Ok(0))
        ));
    }
}
