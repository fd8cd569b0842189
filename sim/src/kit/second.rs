//! The same plans in a second process: with another seed of hash maps, in another time zone, and at another date where
//! `libfaketime` is installed.
//!
//! The test program is started again for this one test. The check that is asked there runs the plans that it finds, writes
//! down what every batch became, and ends the process.

#![expect(
    clippy::disallowed_methods,
    reason = "starting a process and waiting for it is no part of the simulated world"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::outside::{self, Stopwatch, variable};
use super::record::CheckFailure;
use super::runner::CoveredPlan;
use super::{Property, words::shorten};
use crate::scenario::Scenario;

/// The name of the check that is asked, and where its plans are.
const CHECK: &str = "AUTOBEE_SIM_SECOND";
const FOLDER: &str = "AUTOBEE_SIM_SECOND_FOLDER";

/// Plans that run in the second process, too.
pub(super) const SECOND_PLANS: usize = 4;

/// How long the second process may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Time zones that differ from nearly everybody's, and by no whole hours.
const ZONES: [&str; 2] = ["Pacific/Chatham", "America/St_Johns"];

/// Where distributions put the library that fakes the date.
const FAKETIME: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
];

/// A plan that came to something else.
pub(super) struct Differs {
    /// By its position.
    pub(super) plan: usize,
    pub(super) failure: CheckFailure,
}

/// In the second process: true when the caller has nothing more to do. Does not return when it is the check that is asked.
pub(super) fn answer(name: &str, run: impl Fn(&Scenario, u64) -> Vec<String>) -> bool {
    let Some(asked) = variable(CHECK) else {
        return false;
    };
    let Some(folder) = variable(FOLDER).filter(|_| asked == name) else {
        return true;
    };
    let folder = PathBuf::from(folder);
    // The last first: what a global remembers of the first thing that it saw is something else then.
    for number in (0..SECOND_PLANS).rev() {
        let Some(plan) = outside::read(&plan_file(&folder, number)) else {
            continue;
        };
        let seed = plan
            .strip_prefix("# seed ")
            .and_then(|text| text.lines().next()?.parse().ok());
        let (Some(seed), Ok(scenario)) = (seed, Scenario::parse(name, &plan)) else {
            continue;
        };
        let steps = run(&scenario, seed).join("\n");
        // Who asked notices that it is not there.
        let _ = outside::write(&steps_file(&folder, number), &steps);
    }
    std::process::exit(0);
}

/// Asks a second process for the same plans. None when all came to the same, or there is no second process.
pub(super) fn ask(name: &str, kept: &[CoveredPlan]) -> Option<Differs> {
    let test = outside::test_name()?;
    let folder = outside::folder(name).join(format!("second-{}", std::process::id()));
    for (number, kept) in kept.iter().enumerate() {
        let text = format!("# seed {}\n{}", kept.seed, kept.scenario.to_toml());
        outside::write(&plan_file(&folder, number), &text).ok()?;
    }
    let place = start(name, &test, &folder);
    let differs = place.and_then(|place| {
        kept.iter().enumerate().find_map(|(plan, kept)| {
            let steps = outside::read(&steps_file(&folder, plan))?;
            let failure = compare(&kept.steps, &steps, &place)?;
            Some(Differs { plan, failure })
        })
    });
    for number in 0..kept.len() {
        outside::remove(&plan_file(&folder, number));
        outside::remove(&steps_file(&folder, number));
    }
    let _ = std::fs::remove_dir(&folder);
    differs
}

/// Runs this test in another process. Gives what is different there; none when it did not come to its end.
fn start(name: &str, test: &str, folder: &Path) -> Option<String> {
    let zone = ZONES
        .into_iter()
        .find(|zone| variable("TZ").as_deref() != Some(zone))?;
    let mut command = Command::new(std::env::current_exe().ok()?);
    command
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env(CHECK, name)
        .env(FOLDER, folder)
        .env("TZ", zone)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut place = format!("another hash seed, time zone {zone}");
    let own = variable("AUTOBEE_FAKETIME");
    let known = FAKETIME.iter().map(|path| (*path).to_owned());
    if let Some(library) = own.into_iter().chain(known).find(|path| Path::new(path).exists()) {
        let preload = [Some(library), variable("LD_PRELOAD")];
        command
            .env(
                "LD_PRELOAD",
                preload.into_iter().flatten().collect::<Vec<_>>().join(":"),
            )
            .env("FAKETIME", "+400d")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        place.push_str(", 400 days later");
    }
    let mut child = command.spawn().ok()?;
    let watch = Stopwatch::start();
    loop {
        match child.try_wait() {
            Ok(Some(_)) => return Some(place),
            Ok(None) if watch.elapsed() < LIMIT => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                // It is ours, and nobody waits for it any more.
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

/// The first batch that became something else.
fn compare(here: &[String], there: &str, place: &str) -> Option<CheckFailure> {
    let (here, there) = here
        .iter()
        .zip(there.lines())
        .find(|(here, there)| parts(here)[..2] != parts(there)[..2])?;
    let ([what, _, ours], [other, _, theirs]) = (parts(here), parts(there));
    let entry = what.split_once(" applies ").map_or(what, |(_, entry)| entry);
    let mut lines = vec![
        format!("The same plan in a second process ({place}) came to something else:"),
        format!("  the entry: {entry}"),
    ];
    if what != other {
        lines.push(format!("  in its place there: {}", shorten(other)));
    }
    lines.push(format!("  here   {ours}"));
    lines.push(format!("  there  {theirs}"));
    lines.push(
        "  It reads the time of day, the time zone, or something else that is not the same everywhere."
            .into(),
    );
    Some(CheckFailure {
        property: Property::Function,
        at: Duration::MAX,
        lines,
        replicas_differ: false,
    })
}

/// Which batch where, a hash over what it did, and the same in words.
fn parts(step: &str) -> [&str; 3] {
    let mut parts = step.split('\t');
    [(); 3].map(|()| parts.next().unwrap_or_default())
}

fn plan_file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number}.toml"))
}

fn steps_file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number}.steps"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let here = [
            "1 ms r0 applies r0:2 a\tx\twrote 1",
            "2 ms r1 applies r0:3 b\ty\twrote 2",
        ]
        .map(str::to_owned);
        assert_eq!(compare(&here, &here.join("\n"), "there"), None);
        let there = here.join("\n").replace("\ty\twrote 2", "\tz\twrote 3");
        let failure = compare(&here, &there, "another time zone").unwrap();
        let text = failure.lines.join("\n");
        for part in ["r0:3 b", "wrote 2", "wrote 3", "another time zone"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
