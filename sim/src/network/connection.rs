//! Streams: reading, writing, ending, and what arrives.

use std::io;
use std::task::Poll;

use bytes::Bytes;

use super::kernel::{Due, EndId, Kernel};
use super::note::{Note, fingerprint};
use super::pipe::{Load, Pipe};
use crate::replica::ReplicaId;

/// Why nobody holds an end any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// Closed; the machine answers whatever still arrives with a reset.
    Closed,
    /// Its machine lost power; after it came back it answers with a reset, too.
    Vanished,
}

/// What one side holds.
#[derive(Debug)]
pub(super) struct ConnectionEnd<W> {
    pub(super) replica: ReplicaId,
    pub(super) port: u16,
    pub(super) gone: Option<Gone>,
    reset: bool,
    shut: bool,
    reader: Option<W>,
    writer: Option<W>,
}

/// Side `s` writes `pipes[s]` and reads the other.
#[derive(Debug)]
pub(super) struct Connection<W> {
    pub(super) ends: [ConnectionEnd<W>; 2],
    pub(super) pipes: [Pipe; 2],
    /// Nothing arrives any more, and nobody is told.
    pub(super) is_muted: bool,
}

impl<W> ConnectionEnd<W> {
    pub(super) const fn new(replica: ReplicaId, port: u16) -> Self {
        Self {
            replica,
            port,
            gone: None,
            reset: false,
            shut: false,
            reader: None,
            writer: None,
        }
    }

    /// The owner was told that the stream is over.
    pub(super) const fn is_reset(&self) -> bool {
        self.reset
    }
}

impl<W> Connection<W> {
    pub(super) fn joins(&self, a: ReplicaId, b: ReplicaId) -> bool {
        let [first, second] = [self.ends[0].replica, self.ends[1].replica];
        (first, second) == (a, b) || (first, second) == (b, a)
    }

    const fn is_over(&self) -> bool {
        self.ends[0].gone.is_some() && self.ends[1].gone.is_some()
    }
}

impl<W> Kernel<W> {
    /// Bytes that can be read now.
    pub(crate) fn readable(&self, end: EndId) -> usize {
        let connection = self.connections.get(&end.connection);
        connection.map_or(0, |connection| connection.pipes[1 - end.side].readable())
    }

    /// Reads into `out`; 0 is the end of file. Stores `waiter()` when there is nothing yet.
    pub(crate) fn read(
        &mut self,
        end: EndId,
        out: &mut [u8],
        waiter: impl FnOnce() -> W,
    ) -> Poll<io::Result<usize>> {
        let Some(connection) = self.connections.get_mut(&end.connection) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let [me, peer] = [end.side, 1 - end.side];
        let available = connection.pipes[peer].readable().min(out.len());
        if available == 0 && !out.is_empty() {
            if connection.ends[me].reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if !connection.pipes[peer].fin {
                connection.ends[me].reader = Some(waiter());
                return Poll::Pending;
            }
        }
        if available == 0 {
            return Poll::Ready(Ok(0));
        }
        let [from, to] = [connection.ends[peer].replica, connection.ends[me].replica];
        let wanted = self.path(from, to).read(available);
        let acknowledged = self.passable(to, from) && self.powered(from);
        if let Some(connection) = self.connections.get_mut(&end.connection) {
            let done = connection.pipes[peer].read(&mut out[..wanted]);
            if acknowledged {
                self.wakes.extend(connection.ends[peer].writer.take());
            } else {
                connection.pipes[peer].unacknowledged += done;
            }
        }
        Poll::Ready(Ok(wanted))
    }

    /// Sends a part of `bytes`. Stores `waiter()` while the window is full.
    pub(crate) fn write(
        &mut self,
        end: EndId,
        bytes: &[u8],
        waiter: impl FnOnce() -> W,
    ) -> Poll<io::Result<usize>> {
        let Some(connection) = self.connections.get_mut(&end.connection) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let me = &mut connection.ends[end.side];
        if me.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if me.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = connection.pipes[end.side].room();
        if room == 0 {
            me.writer = Some(waiter());
            self.strike("window full");
            return Poll::Pending;
        }
        let [from, to] = connection.route(end.side);
        let path = self.path(from, to);
        let size = path.chop(room.min(bytes.len()));
        self.send(end, Load::Data(Bytes::copy_from_slice(&bytes[..size])), size);
        Poll::Ready(Ok(size))
    }

    /// Ends the writing direction: the peer reads the end of file after all bytes.
    pub(crate) fn shutdown(&mut self, end: EndId) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&end.connection) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let me = &mut connection.ends[end.side];
        if me.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if !me.shut {
            me.shut = true;
            self.send(end, Load::Fin, 0);
        }
        Ok(())
    }

    /// The owner lets go of its end. An end that was not shut down, or that leaves bytes unread, resets the stream.
    pub(crate) fn close(&mut self, end: EndId) {
        let Some(connection) = self.connections.get_mut(&end.connection) else {
            return;
        };
        let unread = connection.pipes[1 - end.side].readable() > 0;
        let me = &mut connection.ends[end.side];
        if me.gone.is_some() {
            return;
        }
        me.gone = Some(Gone::Closed);
        self.wakes.extend(me.reader.take());
        self.wakes.extend(me.writer.take());
        let (shut, dead, at) = (me.shut, me.reset, me.replica);
        connection.pipes[1 - end.side].lose_unread();
        self.notes.push(Note::Close {
            connection: end.connection,
            at,
        });
        if !dead && !shut {
            self.lose_flight(end);
        }
        if !dead && (!shut || unread) {
            self.send(end, Load::Reset, 0);
        }
        self.forget_if_over(end.connection);
    }

    /// The machine of the owner went dark.
    pub(super) fn vanish(&mut self, end: EndId) {
        self.lose_flight(end);
        if self
            .connections
            .get(&end.connection)
            .is_some_and(|connection| connection.ends[1 - end.side].gone.is_none())
        {
            self.strike("half open");
        }
        if let Some(connection) = self.connections.get_mut(&end.connection) {
            let me = &mut connection.ends[end.side];
            self.wakes.extend(me.reader.take());
            self.wakes.extend(me.writer.take());
            me.gone.get_or_insert(Gone::Vanished);
            connection.pipes[1 - end.side].lose_unread();
        }
        self.forget_if_over(end.connection);
    }

    /// The end learns that the stream is dead.
    pub(super) fn reset(&mut self, end: EndId) {
        let Some(connection) = self.connections.get_mut(&end.connection) else {
            return;
        };
        let [to, from] = connection.route(end.side);
        let me = &mut connection.ends[end.side];
        if me.reset || me.gone.is_some() {
            return;
        }
        me.reset = true;
        let is_in_frame = connection.pipes[1 - end.side].readable() > 0;
        self.wakes.extend(me.reader.take());
        self.wakes.extend(me.writer.take());
        let opening = connection.pipes[end.side].is_opening();
        connection.pipes[end.side].truncate(usize::from(opening));
        self.strike("reset");
        if is_in_frame {
            self.strike("reset before all was read");
        }
        self.notes.push(Note::Reset {
            connection: end.connection,
            at: to,
        });
        if self.path(from, to).reset_loses_unread()
            && let Some(connection) = self.connections.get_mut(&end.connection)
        {
            connection.pipes[1 - end.side].lose_unread();
        }
    }

    /// Delivers what is due in the pipe that `side` writes.
    pub(super) fn deliver(&mut self, id: u64, side: usize) {
        loop {
            let now = self.now;
            let Some(connection) = self.connections.get(&id) else {
                return;
            };
            if connection.pipes[side].stalled || connection.pipes[side].flight.front().is_none() {
                return;
            }
            let [from, to] = connection.route(side);
            let passable = self.passable(from, to) && self.powered(to);
            let Some(connection) = self.connections.get_mut(&id) else {
                return;
            };
            let pipe = &mut connection.pipes[side];
            if !passable {
                pipe.stalled = true;
                self.strike("held");
                self.notes.push(Note::Held {
                    connection: id,
                    from,
                    to,
                });
                return;
            }
            let Some(load) = pipe.arrive(now) else {
                if let Some(at) = pipe.flight.front().map(|segment| segment.at) {
                    self.schedule(at, Due::Deliver(id, side));
                }
                return;
            };
            if connection.is_muted {
                continue;
            }
            self.receive(
                EndId {
                    connection: id,
                    side: 1 - side,
                },
                from,
                to,
                load,
            );
        }
    }

    /// Sends on what waited in pipes for a way or for power that is there now.
    pub(super) fn resume_pipes(&mut self) {
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            for side in [0, 1] {
                let Some(connection) = self.connections.get(&id) else {
                    continue;
                };
                let [from, to] = connection.route(side);
                let stalled = connection.pipes[side].stalled;
                let acknowledges = connection.pipes[side].unacknowledged > 0
                    && self.passable(to, from)
                    && self.powered(from);
                let resumes = stalled && self.passable(from, to) && self.powered(to);
                let at = if resumes { self.path_arrival(from, to) } else { 0 };
                let Some(connection) = self.connections.get_mut(&id) else {
                    continue;
                };
                if acknowledges {
                    connection.pipes[side].unacknowledged = 0;
                    self.wakes.extend(connection.ends[side].writer.take());
                }
                if resumes {
                    let pipe = &mut connection.pipes[side];
                    pipe.stalled = false;
                    pipe.delay(at);
                    if let Some(at) = pipe.flight.front().map(|segment| segment.at) {
                        self.schedule(at, Due::Deliver(id, side));
                    }
                }
            }
        }
    }

    /// Puts `load` on its way from `end`.
    pub(super) fn send(&mut self, end: EndId, load: Load, bytes: usize) {
        let Some(connection) = self.connections.get(&end.connection) else {
            return;
        };
        let [from, to] = connection.route(end.side);
        let now = self.now;
        let at = if bytes > 0 {
            self.path(from, to).arrival_of(now, bytes)
        } else {
            self.path(from, to).arrival(now)
        };
        if let Some(connection) = self.connections.get_mut(&end.connection)
            && let Some(at) = connection.pipes[end.side].send(at, load)
        {
            self.schedule(at, Due::Deliver(end.connection, end.side));
        }
    }

    fn receive(&mut self, end: EndId, from: ReplicaId, to: ReplicaId, load: Load) {
        let Some(connection) = self.connections.get_mut(&end.connection) else {
            return;
        };
        let me = &mut connection.ends[end.side];
        let id = end.connection;
        match load {
            Load::Reset => self.reset(end),
            Load::Open => self.arrive(end),
            // What was lost with the stream makes a gap before it.
            Load::Fin | Load::Data(_) if me.reset => {}
            Load::Fin | Load::Data(_) if me.gone.is_some() => {
                // Nobody is there to read: the machine says so. An end of file needs no answer from a closed end.
                if matches!(load, Load::Data(_)) || me.gone == Some(Gone::Vanished) {
                    self.send(end, Load::Reset, 0);
                }
            }
            Load::Fin => {
                connection.pipes[1 - end.side].fin = true;
                self.wakes.extend(me.reader.take());
                self.notes.push(Note::Fin {
                    connection: id,
                    from,
                    to,
                });
            }
            Load::Data(bytes) => {
                self.wakes.extend(me.reader.take());
                let torn = self.path(from, to).tear(bytes.len());
                if let Some(kept) = torn {
                    self.strike("torn");
                    if let Some(connection) = self.connections.get_mut(&id)
                        && kept > 0
                    {
                        connection.pipes[1 - end.side].store(bytes.slice(..kept));
                    }
                    for side in [0, 1] {
                        self.reset(EndId { connection: id, side });
                    }
                    return;
                }
                let flip = self.path(from, to).corrupt(bytes.len());
                let bytes = flip.map_or(bytes.clone(), |(at, bit)| {
                    let mut changed = bytes.to_vec();
                    changed[at] ^= bit;
                    changed.into()
                });
                if flip.is_some() {
                    self.strike("corrupt");
                }
                self.delivered += 1;
                self.notes.push(Note::Deliver {
                    connection: id,
                    from,
                    to,
                    bytes: bytes.len(),
                    hash: fingerprint(&bytes),
                    corrupt: flip.is_some(),
                });
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.pipes[1 - end.side].store(bytes);
                }
            }
        }
    }

    fn path_arrival(&mut self, from: ReplicaId, to: ReplicaId) -> u64 {
        let now = self.now;
        self.path(from, to).arrival(now)
    }

    /// A sender that dies takes along what it has not put on the wire yet.
    fn lose_flight(&mut self, end: EndId) {
        let Some(connection) = self.connections.get(&end.connection) else {
            return;
        };
        let [from, to] = connection.route(end.side);
        let segments = connection.pipes[end.side].flight.len();
        let opening = usize::from(connection.pipes[end.side].is_opening());
        let kept = opening + self.path(from, to).survivors(segments - opening);
        if let Some(connection) = self.connections.get_mut(&end.connection) {
            connection.pipes[end.side].truncate(kept);
        }
    }

    fn forget_if_over(&mut self, id: u64) {
        if self.connections.get(&id).is_some_and(Connection::is_over) {
            self.connections.remove(&id);
        }
    }
}

impl<W> Connection<W> {
    /// From where to where the pipe of `side` leads.
    pub(super) const fn route(&self, side: usize) -> [ReplicaId; 2] {
        [self.ends[side].replica, self.ends[1 - side].replica]
    }
}
