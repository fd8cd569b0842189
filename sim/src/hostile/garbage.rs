//! Random bytes where the protocol wants something else.

use std::time::Duration;

use autobee::env::{Clock as _, Entropy as _, Env};

use super::line::{Attack, HostileStream};

/// How long it stays after it said what it had to say.
const STAY: Duration = Duration::from_secs(2);

/// Every second stream has garbage for a handshake, the others after it, as it comes or with the header of a frame.
pub(super) struct Garbage {
    attempt: u64,
    bytes: [u8; 200],
}

impl Garbage {
    pub(super) fn new<E: Env>(env: &E, attempt: u64) -> Self {
        Self {
            attempt,
            bytes: env.entropy().array(),
        }
    }
}

impl<E: Env> Attack<E> for Garbage {
    fn drip(&self) -> Option<(Duration, Vec<u8>)> {
        let is_handshake = self.attempt.is_multiple_of(2);
        is_handshake.then(|| (Duration::from_millis(1), self.bytes.to_vec()))
    }

    fn connected(&mut self, line: &mut HostileStream<E>) {
        match self.attempt % 4 {
            // A frame of the right size that does not open.
            1 => {
                line.raw.extend([100, 0, 0]);
                line.raw.extend(&self.bytes[..100]);
            }
            _ => line.raw.extend(self.bytes),
        }
        line.leaves_at = Some(line.env().clock().now() + STAY);
    }

    fn misdeeds(&self) -> u64 {
        1
    }
}
