//! What is known of one log beside the database: everything that its owner ever wrote to it.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::hypercore::merkle::Seek;
use bytes::Bytes;

/// Fork and length of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) fork: u64,
    pub(super) length: usize,
}

/// What one log was, and what its owner is making of it.
#[derive(Debug, Default)]
pub(super) struct WrittenLog {
    pub(super) key: Option<CoreKey>,
    /// The blocks of each fork. One that is under way counts.
    forks: BTreeMap<u64, Vec<Bytes>>,
    /// What the owner was told that it is.
    head: State,
    /// What it will be, once the change that is under way is done.
    next: Option<State>,
    changes: u32,
    /// What a named session has that is never taken in.
    branch: Option<Vec<Bytes>>,
    /// What it will be, and on what that stands.
    next_branch: Option<(Vec<Bytes>, Vec<Bytes>)>,
    /// Nothing can be claimed of it any more: its owner lost it, or what it is was not found out.
    is_void: bool,
    /// What each replica that follows it had when it looked last: fork, and leading blocks.
    pub(super) followed: BTreeMap<usize, (u64, u64)>,
}

impl WrittenLog {
    pub(super) const fn head(&self) -> State {
        self.head
    }

    pub(super) const fn changes(&self) -> u32 {
        self.changes
    }

    pub(super) const fn is_void(&self) -> bool {
        self.is_void
    }

    pub(super) const fn give_up(&mut self) {
        self.is_void = true;
    }

    /// The blocks of a fork, as far as they were ever written.
    pub(super) fn blocks(&self, fork: u64) -> &[Bytes] {
        self.forks.get(&fork).map_or(&[], Vec::as_slice)
    }

    /// The blocks that it has, as its owner was told.
    pub(super) fn content(&self) -> &[Bytes] {
        self.blocks(self.head.fork).get(..self.head.length).unwrap_or(&[])
    }

    /// Blocks are about to be appended.
    pub(super) fn appending(&mut self, blocks: &[Bytes]) {
        let State { fork, length } = self.head;
        self.forks.entry(fork).or_default().extend_from_slice(blocks);
        self.next = Some(State {
            fork,
            length: length + blocks.len(),
        });
    }

    /// It is about to be cut off.
    pub(super) fn truncating(&mut self, length: usize) {
        let fork = self.head.fork + 1;
        let kept = self.content().get(..length).unwrap_or(&[]).to_vec();
        self.forks.insert(fork, kept);
        self.next = Some(State { fork, length });
    }

    /// Blocks are about to be appended to the named session, which begins anew with what the log has.
    pub(super) fn branching(&mut self, blocks: &[Bytes], is_anew: bool) {
        let base = match &self.branch {
            Some(branch) if !is_anew => branch.clone(),
            _ => self.content().to_vec(),
        };
        let next = [&base[..], blocks].concat();
        self.next_branch = Some((base, next));
    }

    /// The change of the named session is done.
    pub(super) fn branched(&mut self) {
        self.branch = self
            .next_branch
            .take()
            .map(|(_, next)| next)
            .or(self.branch.take());
        self.changes += 1;
    }

    /// There is a named session, or there may be one.
    pub(super) const fn has_branch(&self) -> bool {
        self.branch.is_some() || self.next_branch.is_some()
    }

    /// Takes what the named session has: what the owner was told, or what was under way. The error says what it has instead.
    pub(super) fn opened_branch(&mut self, blocks: Vec<Bytes>) -> Result<(), String> {
        let next = self.next_branch.take();
        let is_known = self.branch.as_ref() == Some(&blocks)
            || next.is_some_and(|(base, next)| base == blocks || next == blocks);
        if !is_known {
            return Err(format!(
                "has a named session with {} blocks, and was told that it had {}, or other ones",
                blocks.len(),
                self.branch.as_ref().map_or(0, Vec::len)
            ));
        }
        self.branch = Some(blocks);
        Ok(())
    }

    /// The change that was under way is done.
    pub(super) fn changed(&mut self) {
        self.head = self.next.take().unwrap_or(self.head);
        self.changes += 1;
    }

    /// Takes what the owner has of it after a start: what it was told, or what was under way. The error says what it has
    /// instead.
    pub(super) fn opened(&mut self, key: CoreKey, state: State, blocks: &[Bytes]) -> Result<(), String> {
        if *self.key.get_or_insert(key) != key {
            return Err("is another log than before".into());
        }
        let is = |at: State| state == at && self.blocks(at.fork).get(..at.length) == Some(blocks);
        match self.next {
            Some(next) if is(next) => self.changed(),
            _ if is(self.head) => self.undo(),
            _ => {
                let State { fork, length } = self.head;
                return Err(format!(
                    "has {} blocks at fork {}, and was told that it had {length} at fork {fork}, or has other ones",
                    state.length, state.fork
                ));
            }
        }
        Ok(())
    }

    /// The change that was under way was never made.
    fn undo(&mut self) {
        let Some(next) = self.next.take() else { return };
        if next.fork != self.head.fork {
            self.forks.remove(&next.fork);
        } else if let Some(blocks) = self.forks.get_mut(&next.fork) {
            blocks.truncate(self.head.length);
        }
    }

    /// Where the byte at an offset is, of a fork of which there are at least that many bytes.
    pub(super) fn place_of(&self, fork: u64, bytes: u64) -> Option<Seek> {
        let mut offset = bytes;
        for (block, content) in (0..).zip(self.blocks(fork)) {
            let size = content.len() as u64;
            if offset < size {
                return Some(Seek::Found { block, offset });
            }
            offset -= size;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(texts: &[&'static str]) -> Vec<Bytes> {
        texts
            .iter()
            .map(|text| Bytes::from_static(text.as_bytes()))
            .collect()
    }

    #[test]
    fn what_was_under_way_may_be_there_after_a_start_or_not() {
        let key = CoreKey::new([1; 32]);
        for is_done in [false, true] {
            let mut log = WrittenLog::default();
            log.opened(key, State::default(), &[]).unwrap();
            log.appending(&blocks(&["a", "bc"]));
            log.changed();
            log.truncating(1);
            let (state, found) = match is_done {
                true => (State { fork: 1, length: 1 }, blocks(&["a"])),
                false => (State { fork: 0, length: 2 }, blocks(&["a", "bc"])),
            };
            log.opened(key, state, &found).unwrap();
            assert_eq!((log.head(), log.content()), (state, &found[..]));
            assert_eq!(log.blocks(1).is_empty(), !is_done);
        }
    }

    #[test]
    fn what_nobody_wrote_is_told() {
        let key = CoreKey::new([1; 32]);
        let mut log = WrittenLog::default();
        log.opened(key, State::default(), &[]).unwrap();
        log.appending(&blocks(&["a"]));
        log.changed();
        for (state, found) in [
            (State::default(), blocks(&[])),
            (State { fork: 0, length: 1 }, blocks(&["b"])),
            (State { fork: 1, length: 1 }, blocks(&["a"])),
        ] {
            assert!(log.opened(key, state, &found).is_err());
        }
        assert!(log.opened(CoreKey::new([2; 32]), State::default(), &[]).is_err());
    }

    #[test]
    fn bytes_are_found_in_their_blocks() {
        let mut log = WrittenLog::default();
        log.appending(&blocks(&["a", "bc"]));
        let found = |bytes| log.place_of(0, bytes);
        assert_eq!(found(0), Some(Seek::Found { block: 0, offset: 0 }));
        assert_eq!(found(2), Some(Seek::Found { block: 1, offset: 1 }));
        assert_eq!(found(3), None);
    }
}
