//! Listening, dialling, accepting: a three-way handshake.

use std::collections::VecDeque;
use std::io;
use std::task::Poll;

use autobee::env::PeerAddr;

use super::address::{self, ANY_PORT};
use super::connection::{Connection, ConnectionEnd};
use super::kernel::{Due, EndId, Kernel};
use super::note::Note;
use super::path::DialOutcome;
use super::pipe::{Load, Pipe};
use crate::replica::ReplicaId;

/// Streams that may wait to be accepted; further handshakes hear nothing and try again.
const BACKLOG: usize = 128;
/// How long a dialler waits before it repeats a handshake that the backlog swallowed, nanoseconds.
const REPEAT_AFTER: u64 = 1_000_000_000;

/// Where a replica accepts.
#[derive(Debug)]
pub(super) struct Listener<W> {
    queue: VecDeque<EndId>,
    pub(super) waiter: Option<W>,
}

/// A handshake.
#[derive(Debug)]
pub(super) struct Dial<W> {
    pub(super) from: ReplicaId,
    to: ReplicaId,
    port: u16,
    stage: Stage,
    stalled: bool,
    pub(super) waiter: Option<W>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// On the way to the listener.
    Asking,
    /// On the way back.
    Answered {
        accepted: bool,
    },
    Done(Result<EndId, io::ErrorKind>),
}

impl<W> Dial<W> {
    pub(super) const fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done(_))
    }

    /// From where to where the next step goes.
    const fn route(&self) -> [ReplicaId; 2] {
        match self.stage {
            Stage::Asking => [self.from, self.to],
            Stage::Answered { .. } | Stage::Done(_) => [self.to, self.from],
        }
    }
}

impl<W> Kernel<W> {
    /// Starts to listen at an address of `replica`; gives the port and the full address.
    pub(crate) fn listen(&mut self, replica: ReplicaId, at: &PeerAddr) -> io::Result<(u16, PeerAddr)> {
        let (name, wanted) = address::parse(at)?;
        if name != &*self.hosts[replica.index()].name {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let port = match wanted {
            ANY_PORT => self.free_port(replica)?,
            port if self.listeners.contains_key(&(replica, port)) => {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            port => port,
        };
        let address = address::format(name, port);
        self.listeners.insert(
            (replica, port),
            Listener {
                queue: VecDeque::new(),
                waiter: None,
            },
        );
        Ok((port, address))
    }

    /// Stops to listen; streams that nobody accepted are reset.
    pub(crate) fn unlisten(&mut self, replica: ReplicaId, port: u16) {
        if let Some(listener) = self.listeners.remove(&(replica, port)) {
            for end in listener.queue {
                self.close(end);
            }
        }
    }

    /// The next stream of a listener. Stores `waiter()` when there is none yet.
    pub(crate) fn accept(
        &mut self,
        replica: ReplicaId,
        port: u16,
        waiter: impl FnOnce() -> W,
    ) -> Poll<io::Result<(EndId, PeerAddr)>> {
        let Some(listener) = self.listeners.get_mut(&(replica, port)) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let Some(end) = listener.queue.pop_front() else {
            listener.waiter = Some(waiter());
            return Poll::Pending;
        };
        let Some(connection) = self.connections.get(&end.connection) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        let dialler = &connection.ends[0];
        let name = &self.hosts[dialler.replica.index()].name;
        Poll::Ready(Ok((end, address::format(name, dialler.port))))
    }

    /// Starts a handshake; its id is for [`Self::dialled`].
    pub(crate) fn dial(&mut self, from: ReplicaId, to: &PeerAddr) -> io::Result<u64> {
        let (name, port) = address::parse(to)?;
        let target = self
            .hosts
            .iter()
            .position(|host| &*host.name == name)
            .map(ReplicaId::new)
            .ok_or_else(|| address::invalid(to.as_str(), "no replica has that name"))?;
        let dial = self.fresh_id();
        self.notes.push(Note::Dial {
            dial,
            from,
            to: target,
            port,
        });
        self.dials.insert(
            dial,
            Dial {
                from,
                to: target,
                port,
                stage: Stage::Asking,
                stalled: false,
                waiter: None,
            },
        );
        self.send_dial(dial);
        self.schedule(self.now.saturating_add(self.dial_limit), Due::DialLimit(dial));
        Ok(dial)
    }

    /// The outcome of a handshake. Stores `waiter()` while there is none.
    pub(crate) fn dialled(&mut self, dial: u64, waiter: impl FnOnce() -> W) -> Poll<io::Result<EndId>> {
        let Some(entry) = self.dials.get_mut(&dial) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let Stage::Done(result) = entry.stage else {
            entry.waiter = Some(waiter());
            return Poll::Pending;
        };
        self.dials.remove(&dial);
        Poll::Ready(result.map_err(Into::into))
    }

    /// The dialler lost interest.
    pub(crate) fn cancel_dial(&mut self, dial: u64) {
        if let Some(Dial {
            stage: Stage::Done(Ok(end)),
            ..
        }) = self.dials.remove(&dial)
        {
            self.close(end);
        }
    }

    pub(super) fn step_dial(&mut self, id: u64) {
        let Some(dial) = self.dials.get(&id) else { return };
        let [from, to] = dial.route();
        let (stage, port) = (dial.stage, dial.port);
        if !self.passable(from, to) || !self.powered(to) {
            if let Some(dial) = self.dials.get_mut(&id) {
                dial.stalled = true;
            }
            return;
        }
        if stage == Stage::Asking {
            match self.path(from, to).dial() {
                DialOutcome::Heard => {}
                DialOutcome::Refused => {
                    self.strike("dial refused");
                    if let Some(dial) = self.dials.get_mut(&id) {
                        dial.stage = Stage::Answered { accepted: false };
                    }
                    return self.send_dial(id);
                }
                // Its patience ends it.
                DialOutcome::Lost => return self.strike("dial lost"),
            }
        }
        match stage {
            Stage::Asking => match self
                .listeners
                .get(&(to, port))
                .map(|listener| listener.queue.len())
            {
                Some(BACKLOG..) => self.schedule(self.now + REPEAT_AFTER, Due::Dial(id)),
                waiting => {
                    if let Some(dial) = self.dials.get_mut(&id) {
                        dial.stage = Stage::Answered {
                            accepted: waiting.is_some(),
                        };
                    }
                    self.send_dial(id);
                }
            },
            Stage::Answered { accepted: true } => self.establish(id),
            Stage::Answered { accepted: false } => {
                self.fail_dial(id, io::ErrorKind::ConnectionRefused);
            }
            Stage::Done(_) => {}
        }
    }

    pub(super) fn give_up_dial(&mut self, id: u64) {
        if self.dials.get(&id).is_some_and(|dial| !dial.is_done()) {
            self.strike("dial timed out");
        }
        self.fail_dial(id, io::ErrorKind::TimedOut);
    }

    /// Repeats the handshakes that waited for a way or for power that is there now.
    pub(super) fn resume_dials(&mut self) {
        let ids: Vec<u64> = self
            .dials
            .iter()
            .filter(|(_, dial)| {
                let [from, to] = dial.route();
                dial.stalled && self.passable(from, to) && self.powered(to)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            if let Some(dial) = self.dials.get_mut(&id) {
                dial.stalled = false;
            }
            self.send_dial(id);
        }
    }

    /// The last part of a handshake arrived: the listener has a stream, or nobody listens any more.
    pub(super) fn arrive(&mut self, end: EndId) {
        let Some(connection) = self.connections.get(&end.connection) else {
            return;
        };
        let me = &connection.ends[end.side];
        let at = me.replica;
        if me.gone.is_some() {
            return self.send(end, Load::Reset, 0);
        }
        let Some(listener) = self.listeners.get_mut(&(at, me.port)) else {
            return self.close(end);
        };
        listener.queue.push_back(end);
        self.wakes.extend(listener.waiter.take());
        self.notes.push(Note::Arrive {
            connection: end.connection,
            at,
        });
    }

    fn send_dial(&mut self, id: u64) {
        let Some(dial) = self.dials.get(&id) else { return };
        let [from, to] = dial.route();
        let now = self.now;
        let at = self.path(from, to).arrival(now);
        self.schedule(at, Due::Dial(id));
    }

    fn establish(&mut self, id: u64) {
        let Some(dial) = self.dials.get(&id) else { return };
        let (from, to, port) = (dial.from, dial.to, dial.port);
        let [out, back] = [[from, to], [to, from]].map(|[from, to]| self.path(from, to).config.window);
        let connection = self.fresh_id();
        let own_port = self.next_port(from);
        self.connections.insert(
            connection,
            Connection {
                ends: [ConnectionEnd::new(from, own_port), ConnectionEnd::new(to, port)],
                pipes: [Pipe::new(out), Pipe::new(back)],
                is_muted: false,
            },
        );
        let end = EndId { connection, side: 0 };
        self.send(end, Load::Open, 0);
        self.opened += 1;
        self.notes.push(Note::Open {
            dial: id,
            connection,
            from,
            to,
        });
        self.finish_dial(id, Ok(end));
    }

    fn fail_dial(&mut self, id: u64, kind: io::ErrorKind) {
        if let Some(dial) = self.dials.get(&id)
            && !dial.is_done()
        {
            self.notes.push(Note::DialFailed {
                dial: id,
                from: dial.from,
                timed_out: kind == io::ErrorKind::TimedOut,
            });
            self.finish_dial(id, Err(kind));
        }
    }

    fn finish_dial(&mut self, id: u64, result: Result<EndId, io::ErrorKind>) {
        if let Some(dial) = self.dials.get_mut(&id) {
            dial.stage = Stage::Done(result);
            self.wakes.extend(dial.waiter.take());
        }
    }

    fn free_port(&mut self, replica: ReplicaId) -> io::Result<u16> {
        for _ in address::FIRST_CHOSEN_PORT..=u16::MAX {
            let port = self.next_port(replica);
            if !self.listeners.contains_key(&(replica, port)) {
                return Ok(port);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    fn next_port(&mut self, replica: ReplicaId) -> u16 {
        let host = &mut self.hosts[replica.index()];
        let port = host.next_port;
        host.next_port = port.checked_add(1).unwrap_or(address::FIRST_CHOSEN_PORT);
        port
    }
}
