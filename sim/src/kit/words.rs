//! What happened, in words.

use std::time::Duration;

use crate::disk::DiskFaults;
use crate::network::PathConfig;
use crate::scenario::{Action, CrashMode, Scenario, Topology};

/// Letters of one value, before the rest is left out.
const WIDTH: usize = 72;

/// A text that fits into a line.
pub(crate) fn shorten(text: &str) -> String {
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= WIDTH {
        return text;
    }
    let start: String = text.chars().take(WIDTH - 3).collect();
    format!("{start}...")
}

/// Bytes as text where they are text, else as hexadecimal digits.
pub(crate) fn bytes_text(bytes: &[u8]) -> String {
    // Of what does not fit, no more is looked at than one letter too much.
    let mut start = bytes;
    if let Some((shown, _)) = bytes.split_at_checked(4 * WIDTH) {
        start = match std::str::from_utf8(shown) {
            // The last letter may be cut in two.
            Err(error) if error.error_len().is_none() => &shown[..error.valid_up_to()],
            _ => shown,
        };
    }
    match std::str::from_utf8(start) {
        Ok(text) if !text.chars().any(char::is_control) => shorten(&format!("{text:?}")),
        _ => {
            let digits: String = start.iter().map(|byte| format!("{byte:02x}")).collect();
            shorten(&format!("0x{digits}"))
        }
    }
}

pub(super) fn ms(at: Duration) -> String {
    format!("{:.3}", at.as_secs_f64() * 1_000.0)
}

/// Everything that a scenario says, in the order of its times, a line each.
pub(super) fn history(scenario: &Scenario) -> Vec<String> {
    let mut lines = vec![start(scenario)];
    let mut steps: Vec<(u64, String)> = Vec::new();
    for event in &scenario.event {
        steps.push((event.at_ms, action(&event.action)));
    }
    for append in &scenario.append {
        let ops = append.ops.iter().filter_map(|op| op.app.as_ref());
        let ops: Vec<String> = ops.map(|op| shorten(&op.shown)).collect();
        steps.push((
            append.at_ms,
            format!("r{} appends {}", append.replica, ops.join(" and ")),
        ));
    }
    steps.sort_by_key(|(at, _)| *at);
    let healed = scenario.heal_ms();
    let what = match (scenario.event.is_empty(), scenario.append.is_empty()) {
        (true, true) => None,
        (true, false) => Some("all replicas exchange everything"),
        (false, true) => Some("all faults end"),
        (false, false) => Some("all faults end, and all replicas exchange everything"),
    };
    steps.extend(what.map(|what| (healed, what.to_owned())));
    let line = |(at, what): (u64, String)| {
        let at = Duration::from_millis(at).as_secs_f64();
        format!("{at:>8.3} s  {what}")
    };
    lines.extend(steps.into_iter().map(line));
    lines
}

fn start(scenario: &Scenario) -> String {
    let late: Vec<usize> = scenario
        .event
        .iter()
        .filter_map(|event| event.action.joins())
        .collect();
    let there = (0..scenario.replicas).filter(|replica| !late.contains(replica));
    let there: Vec<String> = there.map(|replica| format!("r{replica}")).collect();
    let way = match scenario.topology {
        Topology::Mesh => "",
        Topology::Ring => ", connected in a ring",
        Topology::Chain => ", connected in a chain",
        Topology::Star => ", connected by r0",
        Topology::Chords => ", connected in a ring with chords",
        Topology::Apart => ", none of which dials another",
    };
    let network = if scenario.network == PathConfig::default() {
        String::new()
    } else {
        let path = path(&scenario.network);
        format!(", on a network with {path}")
    };
    let are = if scenario.append.is_empty() {
        "run"
    } else {
        "may write"
    };
    format!("   start    {} {are}{way}{network}", there.join(", "))
}

pub(crate) fn action(action: &Action) -> String {
    match action {
        Action::Partition { groups } => {
            let group = |group: &Vec<usize>| {
                let names: Vec<String> = group.iter().map(|replica| format!("r{replica}")).collect();
                names.join(" ")
            };
            let groups: Vec<String> = groups.iter().map(group).collect();
            format!("the network splits: {}", groups.join(" | "))
        }
        Action::Cut { from, to, .. } => format!("nothing gets from r{from} to r{to} any more"),
        Action::Open { from, to } => format!("r{from} reaches r{to} again"),
        Action::Heal => "the network is whole again".into(),
        Action::Reset { a, b } => format!("connections between r{a} and r{b} are reset"),
        Action::Mute { a, b } => format!("connections between r{a} and r{b} die, and neither notices"),
        Action::Path { from, to, path: of } if *of == PathConfig::default() => {
            format!("the path from r{from} to r{to} is good again")
        }
        Action::Path { from, to, path: of } => {
            format!("the path from r{from} to r{to} gets {}", path(of))
        }
        Action::Join { replica } => format!("r{replica} joins"),
        Action::Crash { replica, mode, .. } => match mode {
            CrashMode::Kill => format!("r{replica} is killed"),
            CrashMode::PowerLoss => format!("r{replica} loses power"),
        },
        Action::Blackout { replica } => format!("r{replica} loses power right after its next append"),
        Action::CrashPoint { replica, call, .. } => {
            format!("r{replica} loses power right behind a call of its disk: {call:?}")
        }
        Action::Restart { replica } => format!("r{replica} starts again"),
        Action::Reopen { replica, .. } => format!("r{replica} closes and starts again"),
        Action::Interrupt { replica } => format!("the next call of apply at r{replica} stops it"),
        Action::Rotate { replica } => format!("r{replica} goes on in a new log"),
        Action::Wipe { replica } => format!("r{replica} loses its directory"),
        Action::Backup { replica } => format!("r{replica} is backed up"),
        Action::Restore { replica, .. } => format!("r{replica} goes on from its backup"),
        Action::Disk { replica, faults } if *faults == DiskFaults::default() => {
            format!("the disk of r{replica} is sound again")
        }
        Action::Disk { replica, faults } if faults.quota_bytes.is_some() => {
            format!("the disk of r{replica} is full")
        }
        Action::Disk { replica, .. } => format!("the disk of r{replica} begins to fail"),
        Action::Pause { replica } => format!("r{replica} stands still"),
        Action::Resume { replica } => format!("r{replica} goes on"),
        Action::Skew { replica, ms: 0 } => format!("the clock of r{replica} is put right"),
        Action::Skew { replica, ms } => {
            let way = if *ms > 0 { "ahead" } else { "behind" };
            format!("the clock of r{replica} is {} s {way}", ms.unsigned_abs() / 1_000)
        }
        Action::Drift { replica, ppm } => {
            let way = if *ppm > 0 { "fast" } else { "slow" };
            format!(
                "the clock of r{replica} runs {} millionths too {way}",
                ppm.unsigned_abs()
            )
        }
        Action::Add { by, target, .. } => format!("r{by} makes r{target} a writer"),
        Action::Ack { by, target } => format!("r{by} acknowledges r{target}"),
        Action::Forge { by, .. } => format!("the log of r{by} gets a forged block"),
        Action::Remove { by, target } => format!("r{by} removes r{target}"),
    }
}

fn path(path: &PathConfig) -> String {
    let ms = |us: u64| us as f64 / 1_000.0;
    let mut words = vec![format!(
        "{} to {} ms of latency",
        ms(path.latency_us_min),
        ms(path.latency_us_max)
    )];
    if path.bytes_per_ms > 0 && path.bytes_per_ms != PathConfig::default().bytes_per_ms {
        words.push(format!("{} kB/s", path.bytes_per_ms));
    }
    if path.tear_64k > 0 {
        words.push("streams that tear".into());
    }
    if path.corrupt_64k > 0 {
        words.push("flipped bits".into());
    }
    words.join(", ")
}
