//! Blocks that no program would write.

use autobee::crypto::{CoreKey, Signature};
use autobee::wire::oplog::{Backer, BatchPosition, OplogBlock, Witness};
use autobee::wire::{Encode as _, Length, Link, Timestamp, Weight};
use bytes::Bytes;

use crate::workload::Op;

/// Two hours, and a little more: how far ahead of a clock an entry waits.
const FUTURE_MS: u64 = 2 * 60 * 60 * 1000 + 60_000;

/// More blocks than any batch may have.
const BATCH_TOO_LONG: u64 = 1_025;

/// One thing that is wrong with what is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misdeed {
    /// Nothing is: a batch that links what there is.
    Honest,
    /// Older than everything.
    BackDated,
    /// An hour ahead, which everybody takes.
    Hasty,
    /// It links nothing, as if it knew of nothing.
    Unlinked,
    /// It links the same block twice, and older blocks of the same log.
    LinkedTwice,
    /// It links its own log.
    LinkedToItself,
    /// It claims a weight that nobody granted, and says who did.
    Claim,
    /// It claims a weight that it granted itself.
    OwnClaim,
    /// It claims a weight that a block granted which does not exist yet.
    ClaimAhead,
    /// Its value is no operation.
    NoOperation,
    /// It has no value.
    Empty,
    /// It says that a member is none, or a stranger none, in every second block of a batch.
    Flags,
    /// It links a block that a replica has not written yet.
    LinkedAhead,
    /// It links the block of a log that does not exist.
    LinkedToNothing,
    /// Hours ahead.
    Future,
    /// At the end of time.
    Never,
    /// A batch whose blocks count wrongly.
    Miscounted,
    /// A batch that says that more comes, and another one in its middle.
    Unfinished,
    /// A batch longer than any may be.
    TooLong,
    /// A block that says nothing.
    Unreadable,
    /// A block without the encryption of the database.
    Clear,
}

/// Those after which the log goes on, at least at some replicas.
const SOFT: [Misdeed; 13] = [
    Misdeed::Honest,
    Misdeed::BackDated,
    Misdeed::Hasty,
    Misdeed::Unlinked,
    Misdeed::LinkedTwice,
    Misdeed::LinkedToItself,
    Misdeed::Claim,
    Misdeed::OwnClaim,
    Misdeed::ClaimAhead,
    Misdeed::NoOperation,
    Misdeed::Empty,
    Misdeed::Flags,
    Misdeed::LinkedAhead,
];

/// Those behind which nothing is taken any more, or waits.
const HARD: [Misdeed; 8] = [
    Misdeed::LinkedToNothing,
    Misdeed::Future,
    Misdeed::Never,
    Misdeed::Miscounted,
    Misdeed::Unfinished,
    Misdeed::TooLong,
    Misdeed::Unreadable,
    Misdeed::Clear,
];

/// What its author knows.
pub(super) struct Scene {
    /// The time of day, in milliseconds.
    pub(super) now: u64,
    pub(super) own: CoreKey,
    /// Of the own log.
    pub(super) length: u64,
    /// The logs of replicas, as far as they are known.
    pub(super) heads: Vec<(CoreKey, u64)>,
    pub(super) optimistic: bool,
}

impl Misdeed {
    /// Some that a log outlives, one that it may not, and one behind that. `below` gives numbers below a bound.
    ///
    /// One claim at most: what the model does doubles with each.
    pub(super) fn plan(below: &mut impl FnMut(u64) -> u64) -> Vec<Self> {
        let mut pick = |of: &[Self]| {
            let at = below(of.len() as u64);
            of[usize::try_from(at).unwrap_or(0)]
        };
        let mut plan: Vec<Self> = (0..6).map(|_| pick(&SOFT)).collect();
        plan.push(pick(&HARD));
        plan.push(pick(&SOFT));
        let mut claims = 0;
        for misdeed in &mut plan {
            claims += u32::from(misdeed.is_claim());
            if misdeed.is_claim() && claims > 1 {
                *misdeed = Self::Honest;
            }
        }
        plan
    }

    const fn is_claim(self) -> bool {
        matches!(self, Self::Claim | Self::OwnClaim | Self::ClaimAhead)
    }

    /// True when the blocks are written past the encryption of the database.
    pub(super) const fn is_plain(self) -> bool {
        matches!(self, Self::Clear | Self::Unreadable)
    }

    /// The blocks, as they are appended together.
    pub(super) fn blocks(self, scene: &Scene, below: &mut impl FnMut(u64) -> u64) -> Vec<Bytes> {
        let mut block = scene.honest(&format!("{self:?}"));
        let some = |scene: &Scene, below: &mut dyn FnMut(u64) -> u64| {
            let at = below(scene.heads.len() as u64);
            scene.heads.get(usize::try_from(at).unwrap_or(0)).copied()
        };
        let ahead = |(key, length): (CoreKey, u64)| Link {
            key,
            length: Length(length + 3),
        };
        match self {
            Self::Honest => {}
            Self::Clear => return scene.clear(&block, below(4) > 0),
            Self::BackDated => block.timestamp = Timestamp(below(2)),
            Self::Hasty => block.timestamp.0 += FUTURE_MS / 2,
            Self::Unlinked => block.links.clear(),
            Self::LinkedTwice => {
                let older = block.links.iter().map(|link| Link {
                    length: Length(link.length.0.saturating_sub(1).max(1)),
                    ..*link
                });
                let older: Vec<Link> = older.collect();
                block.links.extend(block.links.clone());
                block.links.extend(older);
            }
            Self::LinkedToItself => block.links.push(Link {
                key: scene.own,
                length: Length(scene.length.max(1)),
            }),
            Self::Claim => block.witness = some(scene, below).map(claim),
            Self::OwnClaim => block.witness = Some(claim((scene.own, scene.length.max(1)))),
            Self::ClaimAhead => {
                block.witness = some(scene, below).map(|(key, length)| claim((key, length + 3)));
            }
            Self::NoOperation => block.value = Some(Bytes::from_static(b"no operation")),
            Self::Empty => block.value = None,
            Self::Flags => return scene.batch(&block, 3, |at, block| block.optimistic ^= at % 2 == 0),
            Self::LinkedAhead => block.links.extend(some(scene, below).map(ahead)),
            Self::LinkedToNothing => block.links.push(Link {
                key: CoreKey::new([0xaa; 32]),
                length: Length(7),
            }),
            Self::Future => block.timestamp.0 += FUTURE_MS,
            Self::Never => block.timestamp = Timestamp((1 << 53) - 1),
            Self::Miscounted => return scene.batch(&block, 3, |_, block| block.batch.before += 1),
            Self::Unfinished => return scene.batch(&block, 3, |_, block| block.batch.after += 1),
            Self::TooLong => return scene.batch(&block, BATCH_TOO_LONG, |_, _| {}),
            Self::Unreadable => return vec![Bytes::from_static(&[3, 0xff, 0xff, 0xff, 0xff])],
        }
        scene.batch(&block, 1, |_, _| {})
    }
}

impl Scene {
    /// A block as an honest program would make it.
    fn honest(&self, name: &str) -> OplogBlock {
        let links = self.heads.iter().filter(|(_, length)| *length > 0);
        let key = format!("hostile {}", self.own.to_hex().split_at(8).0);
        let value = Op::put(key, format!("{name} {}", self.length)).to_value();
        OplogBlock {
            timestamp: Timestamp(self.now),
            links: links
                .map(|(key, length)| Link {
                    key: *key,
                    length: Length(*length),
                })
                .collect(),
            optimistic: self.optimistic,
            value: Some(value.into()),
            ..OplogBlock::default()
        }
    }

    /// A block without the encryption of the database; with the mark of one that says so, or as if there was none.
    fn clear(&self, block: &OplogBlock, is_marked: bool) -> Vec<Bytes> {
        let blocks = self.batch(block, 1, |_, _| {}).into_iter();
        let mark = if is_marked { &[0; 8][..] } else { &[] };
        blocks.map(|block| [mark, &block[..]].concat().into()).collect()
    }

    /// A batch of this many blocks, each changed by `spoil`.
    #[expect(
        clippy::unused_self,
        reason = "reads as a method beside the block that it makes"
    )]
    fn batch(&self, first: &OplogBlock, blocks: u64, spoil: impl Fn(u64, &mut OplogBlock)) -> Vec<Bytes> {
        let block = |before: u64| {
            let mut block = first.clone();
            if before > 0 {
                (block.links, block.witness) = (Vec::new(), None);
            }
            block.batch = BatchPosition {
                before,
                after: blocks - 1 - before,
            };
            spoil(before, &mut block);
            // Numbers here are small enough to be written.
            block.to_bytes().map(Bytes::from).unwrap_or_default()
        };
        (0..blocks).map(block).collect()
    }
}

/// A claim to no more than members have: what the model tries grows by a power with each claim above them.
fn claim((key, length): (CoreKey, u64)) -> Witness {
    Witness {
        weight: Weight(1),
        backer: Backer {
            key,
            length: Length(length),
            signature: Signature::new([0; 64]),
            manifest: Bytes::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use autobee::wire::Decode as _;

    #[test]
    fn every_misdeed_writes_something_and_only_the_unreadable_cannot_be_read() {
        let scene = Scene {
            now: 1_700_000_000_000,
            own: CoreKey::new([1; 32]),
            length: 4,
            heads: vec![(CoreKey::new([2; 32]), 9), (CoreKey::new([3; 32]), 0)],
            optimistic: true,
        };
        for misdeed in SOFT.into_iter().chain(HARD) {
            let blocks = misdeed.blocks(&scene, &mut |_| 0);
            assert!(!blocks.is_empty());
            for block in blocks {
                let is_read = OplogBlock::from_bytes(&block).is_ok();
                assert_eq!(is_read, misdeed != Misdeed::Unreadable, "{misdeed:?}");
            }
        }
    }
}
