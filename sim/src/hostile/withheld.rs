//! A log that is said to be here, and is not given.

use autobee::env::Env;
use autobee::replication::message::{Message, NoData, RangeMessage, Sync};

use super::line::{Attack, HostileStream};

/// Claims what the victim has, or far more, and answers nothing, or that it has no data.
pub(super) struct Withheld {
    claims_more: bool,
    answers: bool,
    misdeeds: u64,
}

/// Everything there is and will be.
const EVERYTHING: Message = Message::Range(RangeMessage {
    drop: false,
    start: 0,
    length: 1 << 40,
});

/// What is said of the length of a log.
pub(super) const fn sync(fork: u64, length: u64, remote_length: u64) -> Message {
    Message::Sync(Sync {
        fork,
        length,
        remote_length,
        can_upgrade: true,
        uploading: true,
        downloading: true,
        has_manifest: true,
        allow_push: false,
    })
}

impl Withheld {
    pub(super) const fn new(attempt: u64) -> Self {
        Self {
            claims_more: attempt % 4 > 1,
            answers: !attempt.is_multiple_of(2),
            misdeeds: 0,
        }
    }

    fn claim<E: Env>(&mut self, line: &mut HostileStream<E>, theirs: Option<Sync>) {
        let (fork, length) = theirs.map_or((0, 0), |theirs| (theirs.fork, theirs.length));
        let claimed = if self.claims_more { length + 1_000 } else { length };
        line.send(&sync(fork, claimed, length));
        line.send(&EVERYTHING);
    }
}

impl<E: Env> Attack<E> for Withheld {
    fn opened(&mut self, line: &mut HostileStream<E>) {
        self.claim(line, None);
    }

    fn message(&mut self, line: &mut HostileStream<E>, message: &Message) {
        match message {
            Message::Sync(theirs) => self.claim(line, Some(*theirs)),
            Message::Request(request) => {
                self.misdeeds += 1;
                if self.answers {
                    line.send(&Message::NoData(NoData {
                        request: request.id,
                        reason: NoData::NOT_AVAILABLE,
                    }));
                    line.send(&EVERYTHING);
                }
            }
            _ => {}
        }
    }

    fn misdeeds(&self) -> u64 {
        self.misdeeds
    }
}
