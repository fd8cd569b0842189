//! One direction of one stream: what is under way, and what has arrived and was not read.

use std::collections::VecDeque;

use bytes::{Buf as _, Bytes};

/// What travels.
#[derive(Debug)]
pub(super) enum Load {
    /// The last part of the handshake: from here on the stream is open at the listener.
    Open,
    /// Bytes, at least one.
    Data(Bytes),
    /// The writer is done.
    Fin,
    /// The stream is dead.
    Reset,
}

/// Something under way.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) at: u64,
    pub(super) load: Load,
}

/// See the module. `flight` is not empty only while a delivery is scheduled or the pipe is stalled.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) flight: VecDeque<Segment>,
    flight_bytes: usize,
    inbox: VecDeque<Bytes>,
    inbox_bytes: usize,
    /// Bytes that were read, of which the writer cannot know because the way back is cut.
    pub(super) unacknowledged: usize,
    /// The end of file has arrived.
    pub(super) fin: bool,
    /// Waits for a heal or for power at the other end.
    pub(super) stalled: bool,
    last_at: u64,
    window: usize,
}

impl Pipe {
    pub(super) fn new(window: usize) -> Self {
        Self {
            flight: VecDeque::new(),
            flight_bytes: 0,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            unacknowledged: 0,
            fin: false,
            stalled: false,
            last_at: 0,
            window: window.max(1),
        }
    }

    /// Bytes that the writer may still send.
    pub(super) fn room(&self) -> usize {
        self.window
            .saturating_sub(self.flight_bytes + self.inbox_bytes + self.unacknowledged)
    }

    /// Bytes that can be read now.
    pub(super) const fn readable(&self) -> usize {
        self.inbox_bytes
    }

    /// Puts `load` behind everything that is under way. Gives the time for which a delivery must be scheduled, if one
    /// must.
    pub(super) fn send(&mut self, at: u64, load: Load) -> Option<u64> {
        if let Load::Data(bytes) = &load {
            self.flight_bytes += bytes.len();
        }
        self.last_at = self.last_at.max(at);
        let first = self.flight.is_empty() && !self.stalled;
        self.flight.push_back(Segment {
            at: self.last_at,
            load,
        });
        first.then_some(self.last_at)
    }

    /// The next segment that is due at `now`.
    pub(super) fn arrive(&mut self, now: u64) -> Option<Load> {
        if self.flight.front()?.at > now {
            return None;
        }
        let load = self.flight.pop_front()?.load;
        if let Load::Data(bytes) = &load {
            self.flight_bytes -= bytes.len();
        }
        Some(load)
    }

    /// Makes arrived bytes readable.
    pub(super) fn store(&mut self, bytes: Bytes) {
        self.inbox_bytes += bytes.len();
        self.inbox.push_back(bytes);
    }

    /// Copies up to `out.len()` readable bytes.
    pub(super) fn read(&mut self, out: &mut [u8]) -> usize {
        let mut done = 0;
        while done < out.len() {
            let Some(front) = self.inbox.front_mut() else {
                break;
            };
            let part = front.len().min(out.len() - done);
            out[done..done + part].copy_from_slice(&front[..part]);
            front.advance(part);
            if front.is_empty() {
                self.inbox.pop_front();
            }
            done += part;
        }
        self.inbox_bytes -= done;
        done
    }

    /// Forgets what has arrived and was not read.
    pub(super) fn lose_unread(&mut self) {
        self.inbox.clear();
        self.inbox_bytes = 0;
    }

    /// True while the listener has not heard the end of the handshake. That part is never lost: a stream that the
    /// dialler has is known to the listener sooner or later.
    pub(super) fn is_opening(&self) -> bool {
        matches!(self.flight.front(), Some(Segment { load: Load::Open, .. }))
    }

    /// Keeps the first `kept` segments under way.
    pub(super) fn truncate(&mut self, kept: usize) {
        for segment in self.flight.drain(kept.min(self.flight.len())..) {
            if let Load::Data(bytes) = &segment.load {
                self.flight_bytes -= bytes.len();
            }
        }
    }

    /// Nothing under way arrives before `at`.
    pub(super) fn delay(&mut self, at: u64) {
        for segment in &mut self.flight {
            segment.at = segment.at.max(at);
        }
        self.last_at = self.last_at.max(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(bytes: &'static [u8]) -> Load {
        Load::Data(Bytes::from_static(bytes))
    }

    #[test]
    fn order_holds_when_a_later_segment_is_faster() {
        let mut pipe = Pipe::new(100);
        assert_eq!(pipe.send(50, data(b"first")), Some(50));
        assert_eq!(pipe.send(10, data(b"second")), None);
        assert!(pipe.arrive(49).is_none());
        for expected in [&b"first"[..], b"second"] {
            let Some(Load::Data(bytes)) = pipe.arrive(50) else {
                panic!("nothing arrived")
            };
            assert_eq!(bytes, expected);
            pipe.store(bytes);
        }
        let mut out = [0; 8];
        assert_eq!(pipe.read(&mut out), 8);
        assert_eq!(&out, b"firstsec");
        assert_eq!(pipe.read(&mut out), 3);
        assert_eq!(pipe.read(&mut out), 0);
    }

    #[test]
    fn the_window_counts_flight_inbox_and_what_is_not_acknowledged() {
        let mut pipe = Pipe::new(10);
        pipe.send(1, data(b"abcd"));
        pipe.send(1, data(b"efg"));
        assert_eq!(pipe.room(), 3);
        if let Some(Load::Data(bytes)) = pipe.arrive(1) {
            pipe.store(bytes);
        }
        assert_eq!(pipe.room(), 3);
        assert_eq!(pipe.read(&mut [0; 4]), 4);
        assert_eq!(pipe.room(), 7);
        pipe.unacknowledged = 4;
        assert_eq!(pipe.room(), 3);
        pipe.truncate(0);
        assert_eq!(pipe.room(), 6);
    }
}
