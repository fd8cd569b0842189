//! What was true once, again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autobee::env::{Clock as _, Env, Mono};
use autobee::replication::message::Message;

use super::account::lock;
use super::hoard::Hoard;
use super::line::{Attack, HostileStream};

/// Messages that are kept.
const KEPT: usize = 256;

/// How long a stream lasts before it is dropped and made again.
const LASTS: Duration = Duration::from_secs(3);

/// Messages of all streams so far, oldest first.
pub(super) type Record = Arc<Mutex<VecDeque<Message>>>;

/// Fetches and serves a log as an honest peer does, and sends each answer twice. On each stream it begins with what was
/// said on earlier ones, by itself and by others, and every fourth request it answers with an old answer.
pub(super) struct Replayer<E: Env> {
    hoard: Arc<Mutex<Hoard<E>>>,
    record: Record,
    requests: u64,
    next_at: Option<Mono>,
    replayed: u64,
}

impl<E: Env> Replayer<E> {
    pub(super) fn new(hoard: &Arc<Mutex<Hoard<E>>>, record: &Record) -> Self {
        Self {
            hoard: Arc::clone(hoard),
            record: Arc::clone(record),
            requests: 0,
            next_at: None,
            replayed: 0,
        }
    }

    fn keep(&self, message: &Message) {
        let is_worth = matches!(
            message,
            Message::Data(_) | Message::Sync(_) | Message::Range(_) | Message::Bitfield(_)
        );
        if is_worth {
            let mut record = lock(&self.record);
            if record.len() == KEPT {
                record.pop_front();
            }
            record.push_back(message.clone());
        }
    }

    /// The oldest answer that is kept, as one to this request.
    fn old_answer(&self, request: u64) -> Option<Message> {
        let record = lock(&self.record);
        record.iter().find_map(|message| match message {
            Message::Data(data) => {
                let mut data = data.clone();
                data.request = request;
                Some(Message::Data(data))
            }
            _ => None,
        })
    }
}

impl<E: Env> Attack<E> for Replayer<E> {
    fn opened(&mut self, line: &mut HostileStream<E>) {
        let now = line.env().clock().now();
        line.leaves_at = Some(now + LASTS);
        self.next_at = Some(now + LASTS / 3);
        line.share(&self.hoard);
        let record: Vec<Message> = lock(&self.record).iter().cloned().collect();
        for message in &record {
            line.send(message);
            self.replayed += 1;
        }
    }

    fn message(&mut self, line: &mut HostileStream<E>, message: &Message) {
        self.keep(message);
        if let Message::Request(request) = message {
            self.requests += 1;
            if self.requests.is_multiple_of(4)
                && let Some(answer) = self.old_answer(request.id)
            {
                line.send(&answer);
                self.replayed += 1;
            }
        }
    }

    fn tamper(&mut self, message: Message) -> Vec<Message> {
        self.keep(&message);
        if matches!(message, Message::Data(_)) {
            self.replayed += 1;
            return vec![message.clone(), message];
        }
        vec![message]
    }

    /// Once more, in the middle of a stream: lengths that are older than what was said on it.
    fn room(&mut self, line: &mut HostileStream<E>) -> bool {
        if self.next_at.is_none_or(|at| line.env().clock().now() < at) {
            return false;
        }
        self.next_at = None;
        let record: Vec<Message> = lock(&self.record).iter().take(32).cloned().collect();
        for message in &record {
            line.send(message);
            self.replayed += 1;
        }
        !record.is_empty()
    }

    fn next_at(&self) -> Option<Mono> {
        self.next_at
    }

    fn misdeeds(&self) -> u64 {
        self.replayed
    }
}
