//! The task of one session: the only one that touches its stream.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf as _;
use tokio::io::{AsyncRead, AsyncWrite};

mod channels;
mod receive;
mod room;

use self::room::Room;

use super::core::SharedCore;
use super::counts::add;
use super::mailbox::{Mail, Mailbox, Why};
use super::replication::Hub;
use super::topic::SharedTopic;
use super::{End, Misbehaviour, Progress};
use crate::crypto::DiscoveryKey;
use crate::env::{Clock as _, Env, Mono, Point, TraceEvent, watch};
use crate::replication::connection::Connection;
use crate::replication::message::{DataMessage, Message};
use crate::replication::mux::Channel;
use crate::replication::replicator::{PeerFault, PeerId};
use crate::replication::wakeup::TopicPeer;

/// Memory that is kept for encoding messages.
const ENCODED_BYTES: usize = 128 * 1024;

/// An unfinished frame up to this size, in bytes, counts for nothing: the number of sessions bounds them.
pub(super) const UNFINISHED_BYTES: usize = 64 * 1024;

/// A session under way.
pub(super) struct Driver<E: Env> {
    hub: Arc<Hub<E>>,
    number: u64,
    connection: Connection,
    mailbox: Arc<Mailbox>,
    mail: watch::Receiver<Mail>,
    channels: BTreeMap<Channel, Joined<E>>,
    peers: BTreeMap<PeerId, Channel>,
    topics: BTreeMap<Channel, JoinedTopic>,
    /// Cores that were offered to the peer. It will ask itself when it wants those that it rejected.
    offered: BTreeSet<DiscoveryKey>,
    /// Cores whose channel the peer left. It is asked again when something of them is wanted here.
    parted: BTreeSet<DiscoveryKey>,
    /// Cores about which the peer told us nonsense.
    banned: BTreeSet<DiscoveryKey>,
    due: VecDeque<PeerId>,
    due_topics: BTreeSet<TopicPeer>,
    /// Data of one channel that came one after the other: it is stored in one step.
    held: Option<(Channel, Vec<DataMessage>)>,
    /// Cores of which messages came.
    touched: BTreeMap<DiscoveryKey, Arc<SharedCore<E>>>,
    standing: BTreeMap<PeerId, Stand>,
    /// All of them together.
    sum: Sum,
    /// How often cores of the store had been let go at the last look.
    let_go: u64,
    /// The hub knows of a frame that has not come to its end.
    is_unfinished: bool,
    /// Memory for the message that is sent next.
    encoded: Vec<u8>,
    progress: watch::Sender<Progress>,
    blame: watch::Sender<Option<Misbehaviour>>,
    now: Progress,
}

/// The state of the core of a channel.
#[derive(Debug, Clone, Copy, Default)]
struct Stand {
    have: u64,
    want: u64,
    offered: u64,
    taken: u64,
    is_synced: bool,
    unanswered: usize,
}

/// Where the cores of all channels stand.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    have: u128,
    want: u128,
    offered: u128,
    taken: u128,
    synced: usize,
    unanswered: usize,
}

impl Sum {
    const fn add(&mut self, stand: &Stand) {
        self.have += stand.have as u128;
        self.want += stand.want as u128;
        self.offered += stand.offered as u128;
        self.taken += stand.taken as u128;
        self.synced += stand.is_synced as usize;
        self.unanswered += stand.unanswered;
    }

    const fn remove(&mut self, stand: &Stand) {
        self.have -= stand.have as u128;
        self.want -= stand.want as u128;
        self.offered -= stand.offered as u128;
        self.taken -= stand.taken as u128;
        self.synced -= stand.is_synced as usize;
        self.unanswered -= stand.unanswered;
    }
}

/// A channel of a core.
struct Joined<E: Env> {
    core: Arc<SharedCore<E>>,
    /// None until the peer has opened it too.
    peer: Option<PeerId>,
    /// How often the core had been let go here when the channel was opened.
    let_go: u64,
}

/// The channel of a topic.
struct JoinedTopic {
    topic: Arc<SharedTopic>,
    /// None until the peer has opened it too.
    peer: Option<TopicPeer>,
}

/// The reason why the task woke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DriverWake {
    Mail,
    Input,
    PeerEnded,
    Room,
    Time,
}

impl<E: Env> Driver<E> {
    pub(super) fn new(
        hub: Arc<Hub<E>>,
        number: u64,
        connection: Connection,
        mailbox: Arc<Mailbox>,
        progress: watch::Sender<Progress>,
        blame: watch::Sender<Option<Misbehaviour>>,
    ) -> Self {
        Self {
            hub,
            number,
            connection,
            mail: mailbox.subscribe(),
            mailbox,
            channels: BTreeMap::new(),
            peers: BTreeMap::new(),
            topics: BTreeMap::new(),
            offered: BTreeSet::new(),
            parted: BTreeSet::new(),
            banned: BTreeSet::new(),
            due: VecDeque::new(),
            due_topics: BTreeSet::new(),
            held: None,
            touched: BTreeMap::new(),
            standing: BTreeMap::new(),
            sum: Sum::default(),
            let_go: 0,
            is_unfinished: false,
            encoded: Vec::new(),
            progress,
            blame,
            now: Progress::default(),
        }
    }

    pub(super) async fn run<S>(mut self, mut stream: Pin<Box<S>>, ended: watch::Sender<Option<End>>)
    where
        S: AsyncRead + AsyncWrite + Send,
    {
        let end = match self.drive(&mut stream).await {
            Ok(never) => match never {},
            // A store that is closed together with its sessions did not fail.
            Err(End::Store(_)) if self.mailbox.take().close => End::Closed,
            Err(end) => end,
        };
        let env = &self.hub.env;
        env.trace(|| TraceEvent::Closed {
            session: self.number,
            why: end.to_string(),
        });
        env.sometimes(Point::PeerBlamed, matches!(end, End::Misbehaved(_)));
        let is_silent = matches!(end, End::StreamFailed(io::ErrorKind::TimedOut));
        env.sometimes(Point::PeerSilent, is_silent);
        env.sometimes(
            Point::StreamBroke,
            matches!(end, End::StreamFailed(_)) && !is_silent,
        );
        self.part_all();
        add(&self.hub.counters.closed, 1);
        if matches!(end, End::Closed | End::PeerEnded) {
            self.farewell(&mut stream).await;
        }
        // Before anybody hears of the end.
        drop(stream);
        ended.send_replace(Some(end));
    }

    async fn drive<S>(&mut self, stream: &mut Pin<Box<S>>) -> Result<std::convert::Infallible, End>
    where
        S: AsyncRead + AsyncWrite + Send,
    {
        let mut room = Room::new(self.hub.settings.read_bytes);
        loop {
            let is_more = self.take_events().await?;
            self.note_unfinished();
            self.take_mail().await?;
            self.pull()?;
            self.report();
            if self.wait(stream, &mut room, is_more).await? == DriverWake::PeerEnded {
                return Err(End::PeerEnded);
            }
            // Also while bytes come without a pause.
            let now = self.clock();
            if now >= self.connection.next_timeout() {
                self.connection.tick(now)?;
            }
        }
    }

    // What others want.

    async fn take_mail(&mut self) -> Result<(), End> {
        self.mail.mark_unchanged();
        let mail = self.mailbox.take();
        if mail.close {
            return Err(End::Closed);
        }
        if let Some(end) = mail.end {
            return Err(end);
        }
        for (peer, why) in mail.closes {
            let Some(channel) = self.peers.get(&peer).copied() else {
                continue;
            };
            match why {
                Why::Idle => self.leave(channel),
                Why::Failed(error) => self.survive(channel, Err(error))?,
                Why::Contradicted => {
                    self.give_evidence(channel);
                    self.ban(channel);
                }
                Why::Paused(fault) => {
                    if let Some(blame) = self.blame_for(channel, fault) {
                        self.hub.env.sometimes(Point::PeerPaused, true);
                        self.trace_blame(&blame);
                        self.ban(channel);
                        // Without another core there is nothing left to talk about.
                        if self.channels.is_empty() {
                            return Err(blame.into());
                        }
                        self.blame.send_replace(Some(blame));
                    }
                }
                Why::Blame(fault) => {
                    if let Some(blame) = self.blame_for(channel, fault) {
                        return Err(blame.into());
                    }
                }
            }
        }
        for peer in mail.due {
            if !self.due.contains(&peer) {
                self.due.push_back(peer);
            }
        }
        self.due_topics.extend(mail.due_topics);
        if mail.look {
            self.offer_all().await?;
        }
        Ok(())
    }

    fn trace_blame(&self, blame: &Misbehaviour) {
        if let Misbehaviour::Replication { core, fault } = blame {
            self.hub.env.trace(|| TraceEvent::Blamed {
                session: self.number,
                core: *core,
                why: fault.to_string(),
            });
        }
    }

    fn blame_for(&self, channel: Channel, fault: PeerFault) -> Option<Misbehaviour> {
        let core = self.channels.get(&channel)?.core.key;
        Some(Misbehaviour::Replication { core, fault })
    }

    // What goes.

    /// Fills the output from the channels in turn.
    fn pull(&mut self) -> Result<(), End> {
        if self.due.len() > 1 && self.hub.env.buggify("other_core_first") {
            self.due.rotate_left(1);
        }
        self.pull_topics();
        let is_full = !self.due.is_empty() && !self.connection.is_writable();
        self.hub.env.sometimes(Point::OutboxFull, is_full);
        while self.connection.is_writable() {
            let Some(peer) = self.due.pop_front() else { break };
            let Some(channel) = self.peers.get(&peer).copied() else {
                continue;
            };
            let Some(joined) = self.channels.get(&channel) else {
                continue;
            };
            let pulled = match joined.core.pull(peer, self.clock()) {
                Ok(pulled) => pulled,
                Err(error) => {
                    self.survive(channel, Err(error))?;
                    continue;
                }
            };
            pulled.sights.report(&self.hub.env);
            self.connection.cork();
            for message in pulled.messages {
                // What does not fit is a block that nobody could ever send: the peer asks others, or gives up.
                if let Ok(payload) = message.encode_reusing(std::mem::take(&mut self.encoded)) {
                    let has_block = matches!(&message, Message::Data(data) if data.proof.block.is_some());
                    add(&self.hub.counters.sent_blocks, u64::from(has_block));
                    let _ = self.connection.send(channel, message.kind(), &payload);
                    self.encoded = payload;
                }
            }
            self.connection.uncork();
            // A large block does not hold on to its memory.
            self.encoded.clear();
            self.encoded.shrink_to(ENCODED_BYTES);
            if !pulled.is_drained {
                self.due.push_back(peer);
            }
            if let Some(status) = pulled.status {
                let stand = Stand {
                    have: pulled.contiguous.min(status.length),
                    want: status.length,
                    offered: pulled.contiguous,
                    taken: pulled.contiguous.min(status.contiguous),
                    is_synced: pulled.is_synced,
                    unanswered: status.unanswered,
                };
                self.stands(peer, Some(stand));
            }
        }
        Ok(())
    }

    /// The core of a channel stands there from now on.
    fn stands(&mut self, peer: PeerId, stand: Option<Stand>) {
        let before = match stand {
            Some(stand) => {
                self.sum.add(&stand);
                self.standing.insert(peer, stand)
            }
            None => self.standing.remove(&peer),
        };
        if let Some(before) = before {
            self.sum.remove(&before);
        }
    }

    fn report(&mut self) {
        let (cores, sum) = (self.standing.len(), self.sum);
        let progress = Progress {
            cores,
            have: u64::try_from(sum.have).unwrap_or(u64::MAX),
            want: u64::try_from(sum.want).unwrap_or(u64::MAX),
            offered: u64::try_from(sum.offered).unwrap_or(u64::MAX),
            taken: u64::try_from(sum.taken).unwrap_or(u64::MAX),
            is_synced: cores > 0 && sum.synced == cores,
            unsent: self.connection.unsent(),
            unanswered: sum.unanswered,
            ..self.now
        };
        self.now = progress;
        // Whoever waits, waits for what comes.
        self.progress.send_if_modified(|known| {
            let before = Progress {
                offered: progress.offered,
                taken: progress.taken,
                ..*known
            };
            *known = progress;
            before != progress
        });
    }

    // The stream.

    fn clock(&self) -> Mono {
        self.hub.env.clock().now()
    }

    /// Reads and writes until there is something to do. With `is_more` that is at once, but others go on before.
    async fn wait<S>(
        &mut self,
        stream: &mut Pin<Box<S>>,
        room: &mut Room,
        is_more: bool,
    ) -> Result<DriverWake, End>
    where
        S: AsyncRead + AsyncWrite,
    {
        let (clock, counters) = (self.hub.env.clock(), &self.hub.counters);
        let Self {
            connection,
            mail,
            due,
            due_topics,
            now,
            ..
        } = self;
        room.set_short(self.hub.env.buggify("short_reads"));
        let mut is_others_turn = is_more;
        let mut sleep = pin!(clock.sleep_until(connection.next_timeout()));
        let mut mail = pin!(mail.changed());
        poll_fn(|context| {
            let wrote = write(stream, connection, context)?;
            now.sent = now.sent.saturating_add(wrote);
            add(&counters.sent_bytes, wrote);
            let is_due = !due.is_empty() || !due_topics.is_empty();
            let is_room = is_due && connection.is_writable();
            if wrote > 0 && (is_room || !connection.is_readable()) {
                return Poll::Ready(Ok(DriverWake::Room));
            }
            if is_more {
                if !std::mem::take(&mut is_others_turn) {
                    return Poll::Ready(Ok(DriverWake::Room));
                }
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if mail.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(DriverWake::Mail));
            }
            if connection.is_readable()
                && let Poll::Ready(bytes) = room.read(stream, connection.input(), context)
            {
                let bytes = bytes.map_err(failed)?;
                if bytes == 0 {
                    return Poll::Ready(Ok(DriverWake::PeerEnded));
                }
                connection.received(clock.now());
                now.received = now.received.saturating_add(bytes as u64);
                add(&counters.received_bytes, bytes as u64);
                return Poll::Ready(Ok(DriverWake::Input));
            }
            sleep.as_mut().poll(context).map(|()| Ok(DriverWake::Time))
        })
        .await
    }

    /// Lets the last bytes out, but not for long.
    async fn farewell<S>(&mut self, stream: &mut Pin<Box<S>>)
    where
        S: AsyncRead + AsyncWrite,
    {
        let clock = self.hub.env.clock();
        let mut sleep = pin!(clock.sleep(self.hub.settings.farewell));
        let connection = &mut self.connection;
        poll_fn(|context| {
            if write(stream, connection, context).is_err() {
                return Poll::Ready(());
            }
            if connection.output().is_empty() && stream.as_mut().poll_shutdown(context).is_ready() {
                return Poll::Ready(());
            }
            sleep.as_mut().poll(context)
        })
        .await;
    }
}

impl<E: Env> Drop for Driver<E> {
    /// Also when the task was ended from outside.
    fn drop(&mut self) {
        self.part_all();
    }
}

/// Writes as much as the stream takes, and says how much.
fn write<S: AsyncWrite>(
    stream: &mut Pin<Box<S>>,
    connection: &mut Connection,
    context: &mut Context<'_>,
) -> Result<u64, End> {
    let mut wrote = 0;
    while !connection.output().is_empty() {
        match stream.as_mut().poll_write(context, connection.output()) {
            Poll::Ready(Ok(0)) => return Err(End::StreamFailed(io::ErrorKind::WriteZero)),
            Poll::Ready(Ok(bytes)) => {
                connection.output().advance(bytes);
                wrote += bytes as u64;
            }
            Poll::Ready(Err(error)) => return Err(failed(error)),
            Poll::Pending => return Ok(wrote),
        }
    }
    if let Poll::Ready(Err(error)) = stream.as_mut().poll_flush(context) {
        return Err(failed(error));
    }
    Ok(wrote)
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn failed(error: io::Error) -> End {
    End::StreamFailed(error.kind())
}
