//! What others leave for the task of a session.

use std::collections::BTreeSet;

use super::End;
use crate::env::watch;
use crate::hypercore::CoreError;
use crate::replication::replicator::{PeerFault, PeerId};
use crate::replication::wakeup::TopicPeer;

/// The mailbox of a session, in which others leave work for it. Bounded by its channels.
#[derive(Debug)]
pub(super) struct Mailbox {
    mail: watch::Sender<Mail>,
}

/// The content of a mailbox since the last look.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// Channels that may have something to send.
    pub(super) due: BTreeSet<PeerId>,
    /// Wakeup channels that may have something to send.
    pub(super) due_topics: BTreeSet<TopicPeer>,
    /// Channels that are to be closed.
    pub(super) closes: Vec<(PeerId, Why)>,
    /// Other cores or topics may be open now.
    pub(super) look: bool,
    /// The session is to end, because it was closed.
    pub(super) close: bool,
    /// The session is to end for this reason.
    pub(super) end: Option<End>,
}

/// The reason why a channel is to be closed.
#[derive(Debug)]
pub(super) enum Why {
    /// Nobody wants it any more.
    Idle,
    /// Nothing good comes from the peer.
    Paused(PeerFault),
    /// The peer is hostile.
    Blame(PeerFault),
    /// The peer has another log that the core's owner signed.
    Contradicted,
    /// The core failed here.
    Failed(CoreError),
}

impl Mailbox {
    pub(super) fn new() -> Self {
        let mail = watch::Sender::new(Mail::default());
        Self { mail }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Mail> {
        self.mail.subscribe()
    }

    /// Takes everything out. The wish to end stays.
    pub(super) fn take(&self) -> Mail {
        let mut taken = Mail::default();
        self.mail.send_if_modified(|mail| {
            taken = std::mem::take(mail);
            mail.close = taken.close;
            false
        });
        taken
    }

    pub(super) fn due(&self, peer: PeerId) {
        self.mail.send_if_modified(|mail| mail.due.insert(peer));
    }

    pub(super) fn due_topic(&self, peer: TopicPeer) {
        self.mail.send_if_modified(|mail| mail.due_topics.insert(peer));
    }

    pub(super) fn close_channel(&self, peer: PeerId, why: Why) {
        self.mail.send_modify(|mail| mail.closes.push((peer, why)));
    }

    pub(super) fn look(&self) {
        self.mail
            .send_if_modified(|mail| !std::mem::replace(&mut mail.look, true));
    }

    pub(super) fn end(&self, end: End) {
        self.mail.send_modify(|mail| mail.end = Some(end));
    }

    pub(super) fn close(&self) {
        self.mail
            .send_if_modified(|mail| !std::mem::replace(&mut mail.close, true));
    }
}
