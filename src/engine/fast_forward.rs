//! Fast-forward: going on from the trees of another writer, without the entries that led there.
//!
//! The last block of a batch may say where the trees of its writer stood behind it. Whoever trusts that writer can take the
//! system tree there for its own, and with it the order up to there. What has to be known of an order that is not in memory
//! is a [`Prefix`]; of one that another peer made, only this much can be read from its tree:
//!
//! * how many entries it has, in which state they end, and the heads of it: batches that no other one of it comes after;
//! * that no pick of it was worse than one of weight zero and of the latest time stamp there.
//!
//! That is less than a peer knows of what it ordered itself, so the place is chosen with care. A *cut* is a version of
//! the system tree behind which every entry, up to the head that is moved onto, has all heads of that version in its past.
//! Behind a cut all batches are of kind (a) of the theorem in `linearizer/base.rs`: whether they beat a pick of the prefix
//! makes no difference to their order, as it is the same for all of them. A batch that comes later and has not all of the cut in its past
//! makes the engine go back, as behind any forgotten start, and then everything is needed: see [`Engine::is_cut_off`].
//!
//! The cut lies some way before the head, so that what is concurrent to the head comes behind it. The entries in between
//! are fetched and ordered like any others, and their states are taken from the tree, so that nothing is applied twice.
//!
//! What cannot be seen is whether a pick of the prefix was *tainted* (`linearizer/base.rs`). Entries of writers that were let in
//! after others of theirs had been refused, and that a heavier writer's late entry pulls forward, may be ordered otherwise
//! by a peer that saw all of it.
//!
//! Source: spec/autobee.md 14. The original sorts on top of the other peer's stream, reading it backwards as far as
//! it needs.

use std::collections::BTreeMap;

use bytes::Bytes;
use thiserror::Error;

use super::anchor_search::AnchorSearch;
use super::checkpoint::Checkpoint;
use super::forget::{BatchSource, ResumeError};
use super::linearizer::{Prefix, Start};
use super::{Engine, Trees};
use crate::apply::TreeSnapshot;
use crate::bee::{BeeError, BlockFault};
use crate::crypto::{CoreKey, Verify};
use crate::env::{Planted, Point, Slip};
use crate::wire::oplog::{OplogBlock, VERSION, ViewStamps};
use crate::wire::system::{InfoRecord, SystemKey, WriterRecord};
use crate::wire::{Decode as _, Index, Length, Link, Rules};

/// How many entries a head must be ahead to be worth moving onto.
pub const GAP_ENTRIES: u64 = 32;

/// How many entries before the head the cut lies at least.
pub const CUT_ENTRIES_MIN: usize = 16;

/// How far back a cut is looked for: first here, where it is in most cases, then further.
pub const CUT_ENTRIES: [usize; 2] = [48, 256];

/// How many blocks before the end of a log one with the places of trees is looked for.
pub const STAMP_SEARCH_BLOCKS: u64 = 64;

/// Where a cut is looked for, in entries before the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutRange {
    /// As far as this at most.
    pub within: usize,
    /// As far as this at least: whatever comes later and belongs between the cut and the head can be ordered.
    pub least: usize,
}

/// Where the trees of a writer stood behind one of its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StampedHead {
    /// The head of the system tree.
    pub system: Link,
    /// Entries that were applied there.
    pub entries: u64,
}

impl StampedHead {
    /// What a block says; none when it says nothing, or that its writer has written nothing of its own since it moved onto
    /// another's trees.
    #[must_use]
    pub fn of(block: &OplogBlock) -> Option<Self> {
        let ViewStamps { flushes, system, .. } = block.views?;
        let length = system.start.0.checked_add(system.length.0)?;
        let is_written = system.length > Length::ZERO && flushes > 0;
        is_written.then_some(Self {
            system: Link {
                key: system.key,
                length: Length(length),
            },
            entries: flushes,
        })
    }
}

/// The trees of another writer, surveyed: all that an engine needs to go on from there.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The head that is moved onto.
    pub head: StampedHead,
    /// How much of each log the order has at the head.
    pub lengths: BTreeMap<CoreKey, Length>,
    /// How much of each log need not be here: what is before the cut.
    pub skipped: BTreeMap<CoreKey, Length>,
    cut: Checkpoint,
}

/// Why the trees of another writer cannot be gone on from.
#[derive(Debug, Error)]
pub enum SurveyError {
    /// A block of a tree is not here, or a tree is corrupt.
    #[error(transparent)]
    Tree(#[from] BeeError),
    /// Blocks of a log are not here: from the first of these to the second.
    #[error("blocks {from} to {to} of {core} are not here")]
    Blocks {
        /// The log.
        core: CoreKey,
        /// The first block that is wanted.
        from: Index,
        /// The last one.
        to: Index,
    },
    /// The tree is not what its writer said.
    #[error("the system tree at {} of {} is not what was said of it: {what}", head.length, head.key)]
    Untrue {
        /// The version.
        head: Link,
        /// What is wrong.
        what: &'static str,
    },
    /// Everywhere near the head entries are concurrent to what is before.
    #[error("no place within {within} entries that all later ones have in their past")]
    NoCut {
        /// How many entries were looked at.
        within: usize,
    },
}

/// One entry of the order, as the system tree has it.
struct SystemVersion {
    /// The version that it made.
    head: Link,
    /// Entries up to it.
    entries: u64,
    writer: CoreKey,
    last: Length,
    /// The heads behind it.
    heads: Vec<Link>,
}

/// An entry with what it names.
struct LinkedEntry {
    writer: CoreKey,
    first: Length,
    /// With the end of the batch before it in its log.
    links: Vec<Link>,
}

impl Survey {
    /// Surveys the trees at a head, with a cut in this range; see [`CUT_ENTRIES`]. `block` gives blocks of logs, in clear.
    ///
    /// # Errors
    ///
    /// `Tree` with `Unavailable`, and `Blocks`: again once these are here. Else there is no way.
    pub fn of(
        trees: &Trees,
        head: StampedHead,
        (CutRange { within, least }, rules, planted): (CutRange, Rules, Planted),
        block: impl Fn(&CoreKey, Index) -> Option<Bytes>,
    ) -> Result<Self, SurveyError> {
        let untrue = |what| SurveyError::Untrue {
            head: head.system,
            what,
        };
        let target = trees.restore(head.system)?;
        if target.system.flushes() != head.entries {
            return Err(untrue("another number of entries"));
        }
        let flushes = flushes(trees, head.system, within)?;
        let Some(newest) = flushes.len().checked_sub(1 + least) else {
            return Err(SurveyError::NoCut { within });
        };
        let linked = flushes.iter().map(|flush| linked(flush, rules, &block));
        // All are looked at, so that what is missing is asked for at once.
        let mut missing: Option<SurveyError> = None;
        let mut entries = Vec::with_capacity(flushes.len());
        for linked in linked.rev() {
            match linked {
                Ok(linked) => entries.push(linked),
                Err(error) => {
                    missing.get_or_insert(error);
                }
            }
        }
        if let Some(missing) = missing {
            return Err(missing);
        }
        entries.reverse();
        let at = (0..=newest)
            .rev()
            .find(|at| is_cut(&flushes[*at], &entries[at + 1..]));
        let at = at.ok_or(SurveyError::NoCut { within })?;
        let cut = &flushes[at];
        let base = trees.restore(cut.head)?;
        if base.system.flushes() != cut.entries {
            return Err(untrue("another number of entries at an earlier version"));
        }
        // What was refused before has no record, and may be tried anew behind the cut, with another outcome.
        let is_settled = |at: usize, link: &Link| {
            let mut behind = entries[at + 1..].iter().zip(&flushes[at + 1..]);
            let covers = |(entry, flush): (&LinkedEntry, &SystemVersion)| {
                entry.writer == link.key && (entry.first..=flush.last).contains(&link.length)
            };
            base.system.has(link) || behind.any(covers)
        };
        let mut links = entries[at + 1..].iter().flat_map(|entry| &entry.links);
        if !links.all(|link| is_settled(at, link)) {
            return Err(SurveyError::NoCut { within });
        }
        let lengths = |records: &super::Restored| -> BTreeMap<CoreKey, Length> {
            let records = records.system.records().filter(|(_, record)| !record.is_anchor);
            let lengths = records.map(|(key, record)| (*key, record.length));
            lengths.filter(|(_, length)| *length > Length::ZERO).collect()
        };
        let heads = base.system.heads().iter().map(|head| (head.key, head.length));
        let mut prefix = Prefix::read(cut.entries, base.system.timestamp(), heads);
        if planted.has(Slip::CutIsFinal) {
            prefix.let_nothing_in();
        }
        Ok(Self {
            head,
            lengths: lengths(&target),
            skipped: lengths(&base),
            cut: Checkpoint {
                head: cut.head,
                prefix,
                considered: BTreeMap::new(),
                attestations: None,
            },
        })
    }

    /// Entries before the cut.
    #[must_use]
    pub const fn entries_skipped(&self) -> u64 {
        self.cut.prefix.entries()
    }
}

/// The last entries up to a version of the system tree, the oldest first.
fn flushes(trees: &Trees, head: Link, most: usize) -> Result<Vec<SystemVersion>, SurveyError> {
    let tree = &trees.system;
    let mut changes = TreeSnapshot::at(tree, head).cursor().changes();
    let mut flushes = Vec::new();
    while flushes.len() < most {
        let Some(change) = changes.next(tree)? else { break };
        let untrue = |what| SurveyError::Untrue {
            head: change.head,
            what,
        };
        let corrupt = |error| BeeError::Corrupt {
            core: change.head.key,
            seq: change.head.length.last().unwrap_or_default(),
            what: BlockFault::Encoding(error),
        };
        let (mut info, mut entry) = (None, None);
        for written in change.keys(tree)? {
            let value = written.value.unwrap_or_default();
            match SystemKey::from_bytes(&written.key) {
                Some(SystemKey::Info) => info = Some(InfoRecord::from_bytes(&value).map_err(corrupt)?),
                Some(SystemKey::Writer(key)) => {
                    let record = WriterRecord::from_bytes(&value).map_err(corrupt)?;
                    if record.is_oplog && entry.replace((key, record.length)).is_some() {
                        return Err(untrue("two entries in one version"));
                    }
                }
                _ => {}
            }
        }
        let info = info.ok_or_else(|| untrue("no info record"))?;
        let (writer, last) = entry.ok_or_else(|| untrue("a version without an entry"))?;
        flushes.push(SystemVersion {
            head: change.head,
            entries: info.flushes,
            writer,
            last,
            heads: info.heads,
        });
    }
    flushes.reverse();
    Ok(flushes)
}

/// What an entry names, by its blocks.
fn linked(
    flush: &SystemVersion,
    rules: Rules,
    block: impl Fn(&CoreKey, Index) -> Option<Bytes>,
) -> Result<LinkedEntry, SurveyError> {
    let last = flush.last.last().unwrap_or_default().0;
    let read = |index: u64| -> Result<OplogBlock, SurveyError> {
        let found = block(&flush.writer, Index(index)).ok_or(SurveyError::Blocks {
            core: flush.writer,
            from: Index(index),
            to: Index(last),
        })?;
        OplogBlock::from_bytes(&found).map_err(|_| SurveyError::Untrue {
            head: flush.head,
            what: "an entry whose block cannot be read",
        })
    };
    // A batch begins where the one before it ends, whatever its last block says.
    let mut first = read(last)?;
    let mut at = last;
    while at > 0 && first.version >= VERSION {
        let before = read(at - 1)?;
        if before.version < VERSION || before.batch.after != last - (at - 1) {
            break;
        }
        // These hold the entry back, and do not order it; but under the rules of the original the heads in the tree go by
        // them.
        if !first.links.is_empty() && !rules.is_safe() {
            return Err(SurveyError::Untrue {
                head: flush.head,
                what: "an entry that links with a later block",
            });
        }
        (first, at) = (before, at - 1);
    }
    let mut links = first.links;
    // Under the rules of the original who backs a claim orders it, too.
    if let Some(witness) = first.witness.filter(|_| !rules.is_safe()) {
        links.push(Link {
            key: witness.backer.key,
            length: witness.backer.length,
        });
    }
    if at > 0 {
        links.push(Link {
            key: flush.writer,
            length: Length(at),
        });
    }
    Ok(LinkedEntry {
        writer: flush.writer,
        first: Length(at + 1),
        links,
    })
}

/// True when each of these entries, which come behind `cut`, has all heads there in its past.
fn is_cut(cut: &SystemVersion, behind: &[LinkedEntry]) -> bool {
    // Those before one are known to have all of them, so that it is enough to name one of those.
    behind.iter().enumerate().all(|(at, entry)| {
        let names = |link: &Link, key: &CoreKey, length: Length| link.key == *key && link.length >= length;
        let is_behind_another = entry.links.iter().any(|link| {
            let mut others = behind[..at].iter();
            others.any(|other| names(link, &other.writer, other.first))
        });
        let mut heads = cut.heads.iter();
        is_behind_another
            || heads.all(|head| entry.links.iter().any(|link| names(link, &head.key, head.length)))
    })
}

impl<V: Verify> Engine<V> {
    /// Goes on from the trees of another writer. All blocks are forgotten: each core has to be fed from
    /// [`Engine::fed_from`] on. What was applied here is given up, for what the other writer applied.
    ///
    /// # Errors
    ///
    /// When the trees cannot be read there. Nothing is changed then.
    pub fn move_onto(&mut self, survey: &Survey) -> Result<(), ResumeError> {
        let Survey { head, cut, .. } = survey;
        let entries = cut.prefix.entries();
        // Before anything is given up.
        self.past.trees.restore(cut.head)?;
        self.past.states.clear();
        self.past.states.insert(entries, BatchSource::Stored(cut.head));
        self.past.search = AnchorSearch::new(self.past.search.pace());
        self.past.hold.clear();
        self.past.taken.clear();
        let mut prefix = cut.prefix.clone();
        if self.rules.set.is_safe() {
            prefix.date();
        }
        self.begin(Start {
            prefix,
            ..Start::default()
        })?;
        self.order.forget_who_left();
        self.recorded.clear();
        // What cannot be read is applied.
        let _ = self.resume_from(head.system);
        self.round_over = false;
        self.past.moves_onto += 1;
        self.sights.note(Point::FastForwarded);
        Ok(())
    }

    /// True when the last drain was behind, and the engine would have to begin with the first entry of all.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.order.is_behind() && self.order.way_back(&self.dag, &self.run(0)).prefix.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Signature;
    use crate::wire::oplog::{Backer, Witness};
    use crate::wire::{Encode as _, Weight};

    fn link(key: u8, length: u64) -> Link {
        Link {
            key: CoreKey::new([key; 32]),
            length: Length(length),
        }
    }

    fn flush(heads: &[Link]) -> SystemVersion {
        SystemVersion {
            head: link(9, 1),
            entries: 1,
            writer: heads[0].key,
            last: heads[0].length,
            heads: heads.to_vec(),
        }
    }

    fn entry(at: Link, links: &[Link]) -> LinkedEntry {
        LinkedEntry {
            writer: at.key,
            first: at.length,
            links: links.to_vec(),
        }
    }

    /// Under the rules of the original a backer orders the claim, so a cut has to have it; under safe rules it does not.
    #[test]
    fn who_backs_a_claim_is_named_where_it_orders() {
        let block = OplogBlock {
            witness: Some(Witness {
                weight: Weight(2),
                backer: Backer {
                    key: CoreKey::new([7; 32]),
                    length: Length(4),
                    signature: Signature::new([0; 64]),
                    manifest: Bytes::new(),
                },
            }),
            ..OplogBlock::default()
        };
        let bytes = Bytes::from(block.to_bytes().unwrap());
        let named = |rules| {
            linked(&flush(&[link(1, 1)]), rules, |_, _| Some(bytes.clone()))
                .unwrap()
                .links
        };
        assert_eq!(named(Rules::interop()), [link(7, 4)]);
        assert_eq!(named(Rules::safe()), []);
    }

    #[test]
    fn a_cut_is_in_the_past_of_all_that_is_behind_it() {
        let cut = flush(&[link(1, 3), link(2, 5)]);
        let merges = entry(link(1, 4), &[link(1, 3), link(2, 5)]);
        assert!(is_cut(&cut, &[]));
        assert!(is_cut(&cut, std::slice::from_ref(&merges)));
        // Concurrent to one of the heads.
        let misses = entry(link(2, 6), &[link(2, 5), link(1, 2)]);
        assert!(!is_cut(&cut, &[misses]));
        // By another entry, which may be named in the middle.
        let follows = entry(link(3, 1), &[link(1, 4)]);
        assert!(is_cut(&cut, &[merges, follows]));
        let alone = entry(link(3, 1), &[link(1, 4)]);
        assert!(!is_cut(&cut, &[alone]));
    }
}
