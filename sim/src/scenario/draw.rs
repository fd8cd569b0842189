//! Scenarios out of arbitrary bytes: for fuzzers and property tests.

use std::collections::BTreeSet;

use super::{Action, CrashMode, CryptoChoice, Event, Scenario, Workload};

const EVENTS_MAX: u64 = 8;
const SPAN_MS: u64 = 3_000;

/// Each byte is one choice; when there are no more, all choices are the first.
struct Choices<'a>(&'a [u8]);

impl Scenario {
    /// A small scenario that these bytes choose, and a seed for it. Shorter and smaller inputs give simpler ones.
    #[must_use]
    pub fn draw(bytes: &[u8]) -> (Self, u64) {
        let mut choices = Choices(bytes);
        let replicas = 2 + choices.index(3);
        let seed = choices.below(256);
        let workload = |appends, optimistic| Workload {
            replicas: (0..replicas).collect(),
            appends,
            batch_max: 2,
            keys: 4,
            from_ms: 0,
            to_ms: SPAN_MS,
            optimistic,
            refused: 0,
        };
        let appends = u32::from(choices.byte() % 6) + 1;
        let optimistic = choices.below(4) == 3;
        let writer_weight = choices.below(4);
        let events = choices.below(EVENTS_MAX + 1);
        let scenario = Self {
            name: "drawn".into(),
            about: "drawn from bytes".into(),
            replicas,
            crypto: CryptoChoice::StandIn,
            planted: BTreeSet::new(),
            writers: None,
            writer_weight,
            // Small ones are left behind by what a partition holds back.
            window_batches: [None, Some(1), Some(3), Some(8)][usize::try_from(seed % 4).unwrap_or(0)],
            gather_ms: None,
            network: crate::PathConfig::default(),
            disk: crate::disk::DiskFaults::default(),
            workload: vec![workload(appends, optimistic)],
            event: (0..events).map(|_| choices.event(replicas)).collect(),
            converge_ms: Self::converge_ms_default(),
            events_max: Self::events_max_default(),
        };
        (scenario, seed)
    }
}

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *byte
    }

    fn below(&mut self, end: u64) -> u64 {
        u64::from(self.byte()) % end
    }

    fn index(&mut self, len: usize) -> usize {
        usize::from(self.byte()) % len
    }

    fn event(&mut self, replicas: usize) -> Event {
        let at_ms = self.below(256) * SPAN_MS / 256;
        let replica = self.index(replicas);
        let action = match self.below(9) {
            0 => Action::Heal,
            1 => {
                let split = 1 + self.index(replicas);
                let (left, right) = (0..replicas).partition(|replica| *replica < split);
                Action::Partition {
                    groups: vec![left, right],
                }
            }
            2 => Action::Cut {
                from: replica,
                to: self.index(replicas),
            },
            3 => Action::Crash {
                replica,
                mode: CrashMode::Kill,
            },
            4 => Action::Crash {
                replica,
                mode: CrashMode::PowerLoss,
            },
            5 => Action::Restart { replica },
            6 => Action::Skew {
                replica,
                ms: i64::from(self.byte()) * 20_000 - 2_500_000,
            },
            // The creator granted everybody; without it the grants of a run could be taken back for good.
            7 => Action::Remove {
                by: replica,
                target: 1 + self.index(replicas - 1),
            },
            _ => Action::Add {
                by: replica,
                target: self.index(replicas),
                weight: self.below(4),
            },
        };
        Event { at_ms, action }
    }
}
