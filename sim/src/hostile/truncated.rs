//! Frames that end in the middle.

use std::time::Duration;

use autobee::env::{Clock as _, Entropy as _, Env};
use autobee::replication::message::{Message, RangeMessage};

use super::line::{Attack, HostileStream};

/// A frame breaks off after so many bytes at most: the message in it is longer.
const CUT_MAX: u8 = 48;

/// Breaks off in the handshake, in the offer of a channel, or in a message; then it resets the stream at once, or says
/// nothing more and reads nothing, as one whose other end has vanished.
pub(super) struct Truncated {
    attempt: u64,
    cut: usize,
    is_mute: bool,
    misdeeds: u64,
}

impl Truncated {
    pub(super) fn new<E: Env>(env: &E, attempt: u64) -> Self {
        let [cut, mute]: [u8; 2] = env.entropy().array();
        Self {
            attempt,
            cut: 1 + usize::from(cut % CUT_MAX),
            is_mute: mute % 2 == 0,
            misdeeds: 0,
        }
    }

    fn cut<E: Env>(&mut self, line: &mut HostileStream<E>) {
        line.cut = Some(self.cut);
        self.misdeeds = 1;
        let stays = Duration::from_millis(if self.is_mute { 20_000 } else { 50 });
        line.leaves_at = Some(line.env().clock().now() + stays);
    }
}

impl<E: Env> Attack<E> for Truncated {
    fn connected(&mut self, line: &mut HostileStream<E>) {
        if self.attempt.is_multiple_of(2) {
            self.cut(line);
        }
        line.offer();
    }

    fn opened(&mut self, line: &mut HostileStream<E>) {
        self.cut(line);
        line.connection.cork();
        for start in 0..64 {
            line.send(&Message::Range(RangeMessage {
                drop: false,
                start,
                length: 1,
            }));
        }
        line.connection.uncork();
    }

    fn reads(&self) -> bool {
        !self.is_mute
    }

    fn misdeeds(&self) -> u64 {
        self.misdeeds
    }
}
