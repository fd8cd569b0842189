//! Whatever befalls a few replicas: once it is over they agree, and nothing acknowledged is lost.
//!
//! ```text
//! cargo +stable fuzz run -s none scenario -- -len_control=0 -max_len=128
//! ```
//!
//! Each byte is one choice of the same kind that a scenario file makes. When there are no more bytes all choices are the
//! first.
#![no_main]

use autobee_sim::scenario::{Action, CrashMode, CryptoChoice, Event, Scenario, Workload};
use autobee_sim::{TraceSink, run};
use libfuzzer_sys::fuzz_target;

const EVENTS_MAX: usize = 8;
const SPAN_MS: u64 = 3_000;

struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn below(&mut self, end: usize) -> usize {
        let Some((byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        usize::from(*byte) % end
    }

    fn ms(&mut self) -> u64 {
        self.below(256) as u64 * SPAN_MS / 256
    }

    fn action(&mut self, replicas: usize) -> Action {
        let replica = self.below(replicas);
        match self.below(9) {
            0 => Action::Heal,
            1 => {
                let split = 1 + self.below(replicas);
                let (left, right) = (0..replicas).partition(|replica| *replica < split);
                Action::Partition {
                    groups: vec![left, right],
                }
            }
            2 => Action::Cut {
                from: replica,
                to: self.below(replicas),
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
                ms: (self.below(256) as i64 - 128) * 20_000,
            },
            7 => Action::Remove {
                by: replica,
                target: 1 + self.below(replicas - 1),
            },
            _ => Action::Add {
                by: replica,
                target: self.below(replicas),
                weight: self.below(4) as u64,
            },
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices(bytes);
    let replicas = 2 + choices.below(3);
    let seed = choices.below(256) as u64;
    let mut scenario =
        Scenario::parse("fuzz", &format!("about = \"fuzz\"\nreplicas = {replicas}")).expect("valid");
    scenario.crypto = CryptoChoice::StandIn;
    scenario.writer_weight = choices.below(4) as u64;
    scenario.workload = vec![Workload {
        replicas: (0..replicas).collect(),
        appends: 1 + choices.below(6) as u32,
        batch_max: 2,
        keys: 4,
        from_ms: 0,
        to_ms: SPAN_MS,
        optimistic: choices.below(4) == 0,
    }];
    let events = choices.below(EVENTS_MAX + 1);
    scenario.event = (0..events)
        .map(|_| Event {
            at_ms: choices.ms(),
            action: choices.action(replicas),
        })
        .collect();
    let report = run(&scenario, seed, TraceSink::Discard).expect("the run can be carried out");
    assert!(report.converged, "{scenario:#?}\n{:#?}", report.violations);
});
