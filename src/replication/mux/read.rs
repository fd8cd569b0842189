//! Takes frames apart, one item at a time, and finds out what they mean for channels.

use bytes::Bytes;

use super::batch::BatchReader;
use super::{Frame, HELD_OVERHEAD, Key, Mux, MuxError, MuxEvent, Offer, Remote, take_uint};
use crate::env::Slip;

impl Mux {
    /// Reads one item. False when there is none.
    pub(super) fn step(&mut self) -> Result<bool, MuxError> {
        if let Some(batch) = self.batches.last_mut() {
            let Some((channel, item)) = batch.next_item()? else {
                let corked = batch.corked;
                self.batches.pop();
                if corked && !self.planted.has(Slip::NeverUncorked) {
                    self.uncork();
                }
                return Ok(true);
            };
            // Answers to several messages of one batch go out as one batch, as in the original.
            if !batch.corked && !batch.is_empty() {
                batch.corked = true;
                self.corks += 1;
            }
            self.dispatch(channel, item)?;
            return Ok(true);
        }
        let Some(mut frame) = self.inbox.pop_front() else {
            return Ok(false);
        };
        let channel = take_uint(&mut frame)?;
        self.dispatch(channel, frame)?;
        Ok(true)
    }

    fn dispatch(&mut self, channel: u64, item: Bytes) -> Result<(), MuxError> {
        match Frame::decode_item(channel, item)? {
            Frame::Message {
                channel,
                kind,
                payload,
            } => match self.remotes.get_mut(&channel) {
                Some(Remote::Open(channel)) => {
                    let channel = *channel;
                    self.ready.push_back(MuxEvent::Message {
                        channel,
                        kind,
                        payload,
                    });
                }
                Some(Remote::Offered(offer)) => {
                    let cost = payload.len() + HELD_OVERHEAD;
                    offer.held_bytes += cost;
                    self.held_bytes += cost;
                    offer.held.push((kind, payload));
                }
                // Normal for messages that were under way when we closed.
                None => {}
            },
            Frame::Batch { channel, items } => {
                let limit = self.settings.nesting;
                if self.batches.len() >= limit {
                    return Err(MuxError::Nesting { limit });
                }
                self.batches.push(BatchReader::new(channel, items));
            }
            Frame::Open {
                local,
                protocol,
                id,
                handshake,
            } => self.handle_open(local, (protocol, id.to_vec()), handshake)?,
            Frame::Reject { id } => self.handle_reject(id)?,
            Frame::Close { id } => self.handle_close(id),
            Frame::Unknown { .. } => {}
        }
        Ok(())
    }

    fn handle_open(&mut self, id: u64, named: Key, handshake: Bytes) -> Result<(), MuxError> {
        if id == 0 || id > self.remote_highest + 1 || self.remotes.contains_key(&id) {
            return Err(MuxError::OpenId { id });
        }
        self.remote_highest = self.remote_highest.max(id);

        let key = self.aliases.get(&named).cloned().unwrap_or(named);
        let meeting = self.meetings.entry(key.clone()).or_default();
        if let Some(ours) = meeting.outgoing.pop_front() {
            let Some(local) = self.locals.get_mut(&ours) else {
                return Ok(());
            };
            if local.closed {
                // The peer will get our close, or has got it: only the id is to be freed.
                self.locals.remove(&ours);
                self.free.push(ours);
                self.collect(&key);
                return Ok(());
            }
            local.remote = Some(id);
            let channel = local.channel;
            self.remotes.insert(id, Remote::Open(channel));
            self.ready.push_back(MuxEvent::Opened { channel, handshake });
            return Ok(());
        }
        if self.remotes.len() >= self.settings.channels {
            self.collect(&key);
            self.write_reject(id);
            return Ok(());
        }
        meeting.incoming.push_back(id);
        self.offers += 1;
        let (protocol, name) = key.clone();
        let held_bytes = handshake.len() + name.len() + protocol.len();
        self.held_bytes += held_bytes;
        let offer = Offer {
            key,
            handshake,
            held: Vec::new(),
            held_bytes,
        };
        self.remotes.insert(id, Remote::Offered(offer));
        self.ready.push_back(MuxEvent::Offered { protocol, id: name });
        Ok(())
    }

    fn handle_reject(&mut self, id: u64) -> Result<(), MuxError> {
        let waiting = self.locals.get(&id).filter(|local| local.remote.is_none());
        let key = waiting.ok_or(MuxError::RejectId { id })?.key.clone();
        if let Some(meeting) = self.meetings.get_mut(&key) {
            meeting.outgoing.retain(|ours| *ours != id);
        }
        self.remove_local(id, true);
        Ok(())
    }

    fn handle_close(&mut self, id: u64) {
        match self.remotes.remove(&id) {
            Some(Remote::Open(channel)) => {
                if let Some(ours) = self.channels.get(&channel) {
                    self.remove_local(*ours, false);
                }
            }
            // Withdrawn before we answered. The peer's number is taken until we do, so we answer at once; should the
            // application open the channel later, that is an open like any other.
            Some(Remote::Offered(offer)) => {
                if let Some(meeting) = self.meetings.get_mut(&offer.key) {
                    meeting.incoming.retain(|theirs| *theirs != id);
                }
                self.forget_offer(&offer);
                self.collect(&offer.key);
                self.write_reject(id);
            }
            None => {}
        }
    }
}
