//! Histories that a seed draws.

use super::{HistoryPeer, HistoryStep, PeerHistory};
use crate::scenario::Choices;
use crate::seed::Seeds;
use crate::workload::{NOBODY, Op};

/// Keys that entries write to.
const KEYS: u64 = 5;

/// An hour, in milliseconds.
const HOUR: i64 = 3_600_000;

impl PeerHistory {
    /// The history of a seed.
    #[must_use]
    pub fn generate(seed: u64) -> Self {
        let stream = Seeds::new(seed).stream("history", &[]);
        Self::draw(&mut Choices::Seeded(Box::new(stream)))
    }

    /// A history by these choices.
    #[must_use]
    pub fn draw(choices: &mut Choices<'_>) -> Self {
        let count = usize::try_from(choices.between(2, 6)).unwrap_or(2);
        let safe = choices.once_in(3);
        // Of four peers so many have a small window.
        let windowed = choices.pick(&[0, 0, 2, 4]);
        let is_skewed = choices.once_in(2);
        let peers = (0..count).map(|_| HistoryPeer {
            skew_ms: if is_skewed { skew(choices) } else { 0 },
            window_batches: if choices.below(4) < windowed {
                usize::try_from(choices.pick(&[1, 1, 2, 3, 5, 8, 12])).unwrap_or(1)
            } else {
                0
            },
            applies_max: if choices.once_in(4) {
                usize::try_from(choices.between(1, 4)).unwrap_or(1)
            } else {
                0
            },
        });
        let mut history = Self {
            safe,
            peers: peers.collect(),
            ..Self::default()
        };
        let taste = Taste::draw(choices);
        history.invite(choices, &taste);
        let steps = choices.pick(&[12, 24, 40, 64]);
        for _ in 0..steps {
            let step = history.step(choices, &taste);
            history.steps.push(step);
        }
        history
    }

    /// The creator adds some peers, who mostly hear of it.
    fn invite(&mut self, choices: &mut Choices<'_>, taste: &Taste) {
        let ops: Vec<Op> = (1..self.peers.len())
            .filter_map(|peer| {
                let weight = choices.below(taste.weights_max + 1);
                (choices.below(4) < taste.invited).then(|| added(peer, weight))
            })
            .collect();
        if !ops.is_empty() {
            self.steps.push(HistoryStep::Append {
                peer: 0,
                optimistic: false,
                meanwhile: None,
                refused: false,
                ops,
            });
        }
        for peer in 1..self.peers.len() {
            if !choices.once_in(5) {
                self.steps.push(HistoryStep::Sync { peer, with: 0 });
            }
        }
    }

    fn step(&self, choices: &mut Choices<'_>, taste: &Taste) -> HistoryStep {
        let count = self.peers.len();
        let peer = choices.index(count);
        match choices.below(24) {
            0 => {
                return HistoryStep::Pass {
                    ms: choices.pick(&[1, 400, 2_000, 60_000]),
                };
            }
            1 if taste.reopens => return HistoryStep::Reopen { peer },
            _ => {}
        }
        if choices.below(8) < taste.hears {
            let other = choices.index(count);
            return if choices.below(4) < taste.syncs {
                HistoryStep::Sync { peer, with: other }
            } else {
                HistoryStep::Receive {
                    peer,
                    log: other,
                    blocks: choices.pick(&[0, 0, 1, 2, 3]),
                    backwards: choices.once_in(5),
                }
            };
        }
        let size = choices.pick(&[1, 1, 1, 2, 3]);
        let ops: Vec<Op> = (0..size).map(|_| self.op(choices, taste)).collect();
        let optimistic = choices.below(4) < taste.optimistic;
        let meanwhile = choices.once_in(6).then(|| choices.index(count));
        HistoryStep::Append {
            peer,
            optimistic,
            meanwhile,
            refused: taste.withdraws && choices.once_in(6),
            ops,
        }
    }

    fn op(&self, choices: &mut Choices<'_>, taste: &Taste) -> Op {
        let peer = choices.index(self.peers.len());
        let key = format!("k{}", choices.below(KEYS));
        let sum = taste.ops.iter().map(|(_, share)| *share).sum();
        let mut drawn = choices.below(sum);
        let mut kinds = taste.ops.iter();
        let kind = kinds.find(|(_, share)| {
            let is_here = drawn < *share;
            drawn = drawn.saturating_sub(*share);
            is_here
        });
        match kind.map_or(OpKind::Put, |(kind, _)| *kind) {
            OpKind::Put => Op::put(key, format!("v{}", choices.below(100))),
            OpKind::Delete => Op {
                del: Some(key),
                ..Op::default()
            },
            OpKind::Add => added(peer, choices.below(taste.weights_max + 1)),
            OpKind::Remove => Op {
                remove_writer: Some(name(peer)),
                ..Op::default()
            },
            OpKind::Acknowledge => Op {
                ack: Some(name(peer)),
                ..Op::put(key, "acknowledged")
            },
            OpKind::Contest => Op {
                reject_if: Some(key.clone()),
                ..Op::put(key, "first")
            },
            OpKind::Anchor => Op {
                anchor: true,
                ..Op::default()
            },
            OpKind::Refused => Op {
                reject: choices.once_in(2),
                remove_writer: choices.once_in(3).then(|| NOBODY.into()),
                ..Op::put(key, "refused")
            },
            OpKind::Look => Op {
                look: Some(key),
                ..Op::default()
            },
        }
    }
}

/// What an operation does.
#[derive(Debug, Clone, Copy)]
enum OpKind {
    Put,
    Delete,
    Add,
    Remove,
    Acknowledge,
    Contest,
    Anchor,
    Refused,
    Look,
}

/// What the steps of one history are like.
struct Taste {
    /// Of four peers the creator adds so many at the start.
    invited: u64,
    /// Of four batches so many are written as those of strangers.
    optimistic: u64,
    /// The highest weight that is granted.
    weights_max: u64,
    /// Of eight steps so many bring somebody something.
    hears: u64,
    /// Of four of these so many bring everything that another one has.
    syncs: u64,
    reopens: bool,
    /// Own logs do not take some of the batches.
    withdraws: bool,
    /// How often each kind of operation comes.
    ops: Vec<(OpKind, u64)>,
}

impl Taste {
    fn draw(choices: &mut Choices<'_>) -> Self {
        let mut ops = vec![(OpKind::Put, 4)];
        for (kind, most) in [
            (OpKind::Delete, 2),
            (OpKind::Add, 4),
            (OpKind::Remove, 2),
            (OpKind::Acknowledge, 3),
            (OpKind::Contest, 2),
            (OpKind::Anchor, 4),
            (OpKind::Refused, 2),
            (OpKind::Look, 2),
        ] {
            // Half of the histories have none of a kind.
            if choices.once_in(2) {
                ops.push((kind, choices.between(1, most)));
            }
        }
        Self {
            invited: choices.pick(&[3, 3, 2, 1]),
            optimistic: choices.pick(&[0, 0, 1, 2]),
            weights_max: choices.pick(&[1, 3, 7]),
            hears: choices.between(2, 6),
            syncs: choices.between(0, 3),
            reopens: choices.once_in(2),
            withdraws: choices.once_in(3),
            ops,
        }
    }
}

fn skew(choices: &mut Choices<'_>) -> i64 {
    choices.pick(&[
        0,
        0,
        0,
        0,
        700,
        -700,
        30_000,
        -30_000,
        HOUR,
        -HOUR,
        3 * HOUR,
        -3 * HOUR,
    ])
}

fn added(peer: usize, weight: u64) -> Op {
    Op {
        add_writer: Some(name(peer)),
        weight: Some(weight),
        ..Op::default()
    }
}

/// What operations call a peer.
fn name(peer: usize) -> String {
    format!("p{peer}")
}
