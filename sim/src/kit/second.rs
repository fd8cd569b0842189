//! The same plans in a second process: with another seed of hash maps, in another environment and time zone, and at another
//! date where `libfaketime` is installed.
//!
//! The test program is started again for this one test. The check that is asked there runs the plans that it finds, writes
//! down what every batch became, and ends the process. Each batch is tried there on an empty view first: what remembers it
//! for the whole process remembers something else then.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "starting a process and waiting for it is no part of the simulated world"
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::Property;
use super::identity::CheckId;
use super::outside::{self, Stopwatch, variable};
use super::record::CheckFailure;
use super::runner::CoveredPlan;
use super::seed::Ran;
use super::words::shorten;
use crate::scenario::Scenario;

/// The key of the check that is asked, and where its plans are.
const CHECK: &str = "AUTOBEE_SIM_SECOND";
const FOLDER: &str = "AUTOBEE_SIM_SECOND_FOLDER";

/// Plans that run in the second process, too.
pub(super) const SECOND_PLANS: usize = 4;

/// How long the second process may take: this, and so many times as long as its plans took here.
const LIMIT: Duration = Duration::from_secs(60);
const LIMIT_TIMES: u32 = 20;

/// Lines of what the second process said before it died.
const SAID_MAX: usize = 3;

/// The last line of what a plan came to, when it went well there; else what did not hold follows.
const WELL: &str = "well";
const FAILED: &str = "failed";

/// Time zones that differ from nearly everybody's, and by no whole hours.
const ZONES: [&str; 2] = ["Pacific/Chatham", "America/St_Johns"];

/// Languages, likewise.
const LANGUAGES: [&str; 2] = ["tr_TR.UTF-8", "sv_SE.UTF-8"];

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
    /// The process ended, or did not, where it should not.
    is_end: bool,
}

/// What a second process made of the plans.
pub(super) enum Second {
    /// The same.
    Same,
    Differs(Differs),
    /// There is none: why.
    Missing(String),
}

/// In the second process: true when the caller has nothing more to do. Does not return when it is the check that is asked.
pub(super) fn answer(id: &CheckId, run: impl Fn(&Scenario, u64) -> Ran) -> bool {
    let Some(asked) = variable(CHECK) else {
        return false;
    };
    let Some(folder) = variable(FOLDER).filter(|_| asked == id.key()) else {
        return true;
    };
    let folder = PathBuf::from(folder);
    // Who asked notices what is not there.
    let _ = outside::write(&begun_file(&folder), "");
    // The last first: what a global remembers of the first thing that it saw is something else then.
    for number in (0..SECOND_PLANS).rev() {
        let Some(plan) = outside::read(&plan_file(&folder, number)) else {
            continue;
        };
        let seed = plan
            .strip_prefix("# seed ")
            .and_then(|text| text.lines().next()?.parse().ok());
        let (Some(seed), Ok(scenario)) = (seed, Scenario::parse(&id.label, &plan)) else {
            continue;
        };
        let ran = run(&scenario, seed);
        let mut lines = ran.steps;
        lines.push(match &ran.failure {
            None => WELL.to_owned(),
            Some(failure) => {
                let what = failure
                    .lines
                    .first()
                    .map(|line| shorten(line))
                    .unwrap_or_default();
                format!("{FAILED}\t{}\t{what}", failure.property.name())
            }
        });
        let _ = outside::write(&steps_file(&folder, number), &lines.join("\n"));
    }
    std::process::exit(0);
}

/// Asks a second process for the same plans.
pub(super) fn ask(id: &CheckId, kept: &[CoveredPlan]) -> Second {
    let Some(test) = &id.test else {
        return Second::Missing("the check runs on a thread without the name of its test".into());
    };
    let folder = id.folder().join(format!("second-{}", std::process::id()));
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    let asked = write_plans(&folder, kept).and_then(|()| {
        // Only what happens without the faked date, too, is the fault of apply.
        let dated = faketime().map(|library| ask_once(id, test, &folder, kept, Some(&library)));
        match dated {
            Some(Ok(Second::Same)) => Ok(Second::Same),
            Some(Ok(Second::Differs(differs))) if !differs.is_end => Ok(Second::Differs(differs)),
            _ => ask_once(id, test, &folder, kept, None),
        }
    });
    // It holds what was written here, and what the second process put into its home.
    let _ = std::fs::remove_dir_all(&folder);
    asked.unwrap_or_else(Second::Missing)
}

fn write_plans(folder: &Path, kept: &[CoveredPlan]) -> Result<(), String> {
    for (number, kept) in kept.iter().enumerate() {
        let text = format!("# seed {}\n{}", kept.seed, kept.scenario.to_toml());
        outside::write(&plan_file(folder, number), &text)?;
    }
    Ok(())
}

/// Starts a process, and compares what it made of the plans. The error says why there is none.
fn ask_once(
    id: &CheckId,
    test: &str,
    folder: &Path,
    kept: &[CoveredPlan],
    faketime: Option<&str>,
) -> Result<Second, String> {
    outside::remove(&begun_file(folder));
    for number in 0..kept.len() {
        outside::remove(&steps_file(folder, number));
    }
    let here: Duration = kept.iter().map(|plan| plan.took).sum();
    let limit = LIMIT + here * LIMIT_TIMES;
    let (place, mut command) = command(id, test, folder, faketime)?;
    let ended = match wait(&mut command, limit)? {
        Some(status) => format!("it ended ({status})"),
        None => format!("it did not end within {} s", limit.as_secs()),
    };
    if outside::read(&begun_file(folder)).is_none() {
        return Err(format!(
            "the test program came to no such check in {test}: {ended}"
        ));
    }
    let mut found = Ok(Second::Same);
    // In the order in which they ran there: behind one that is missing there is none. The first by its seed is told.
    for (plan, kept) in kept.iter().enumerate().rev() {
        let there = outside::read(&steps_file(folder, plan));
        let is_end = there.is_none();
        let failure = match there {
            Some(there) => compare(&kept.steps, &there, &place),
            None if matches!(found, Ok(Second::Same)) => Some(died(&ended, &said(folder), &place)),
            None => None,
        };
        if let Some(failure) = failure {
            found = Ok(Second::Differs(Differs {
                plan,
                failure,
                is_end,
            }));
        }
        if is_end {
            break;
        }
    }
    found
}

/// How this test is run in another process, and what is different there.
fn command(
    id: &CheckId,
    test: &str,
    folder: &Path,
    faketime: Option<&str>,
) -> Result<(String, Command), String> {
    let other = |name: &str, values: [&'static str; 2]| {
        let own = variable(name);
        let mut values = values.into_iter();
        values
            .find(|value| own.as_deref() != Some(value))
            .unwrap_or_default()
    };
    let (zone, language) = (other("TZ", ZONES), other("LC_ALL", LANGUAGES));
    let exe = std::env::current_exe().map_err(|error| format!("this program is nowhere: {error}"))?;
    let said = File::create(said_file(folder)).map_err(|error| error.to_string())?;
    let mut command = Command::new(exe);
    command
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env(CHECK, id.key())
        .env(FOLDER, folder)
        .env("TZ", zone)
        .envs([("LANG", language), ("LC_ALL", language)])
        .env("HOME", folder)
        .envs([("USER", "somebody"), ("LOGNAME", "somebody")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said);
    let mut place = format!("another hash seed, time zone {zone}, other HOME, USER, LANG and LC_ALL");
    if let Some(library) = faketime {
        let preload = [Some(library.to_owned()), variable("LD_PRELOAD")];
        command
            .env(
                "LD_PRELOAD",
                preload.into_iter().flatten().collect::<Vec<_>>().join(":"),
            )
            .env("FAKETIME", "+400d")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        place.push_str(", 400 days later");
    }
    Ok((place, command))
}

/// The library that fakes the date, where there is one.
fn faketime() -> Option<String> {
    let own = variable("AUTOBEE_FAKETIME");
    let known = FAKETIME.iter().map(|path| (*path).to_owned());
    own.into_iter().chain(known).find(|path| Path::new(path).exists())
}

/// Runs a process to its end. None when it takes longer, and is ended.
fn wait(command: &mut Command, limit: Duration) -> Result<Option<ExitStatus>, String> {
    let mut child = command
        .spawn()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    let watch = Stopwatch::start();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(Some(status)),
            Ok(None) if watch.elapsed() < limit => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                // It is ours, and nobody waits for it any more.
                let _ = child.kill();
                let _ = child.wait();
                return Ok(None);
            }
        }
    }
}

/// The last lines that it wrote to its standard error.
fn said(folder: &Path) -> Vec<String> {
    let said = std::fs::read(said_file(folder)).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.len().saturating_sub(SAID_MAX);
    lines[last..].iter().map(|line| shorten(line)).collect()
}

/// It ended before its plans did.
fn died(ended: &str, said: &[String], place: &str) -> CheckFailure {
    let mut lines = vec![
        "The same plan in a second process did not come to its end there, as it does here:".to_owned(),
        format!("  {ended}"),
    ];
    lines.extend(said.iter().map(|line| format!("  it said  {line}")));
    lines.push(format!("  There: {place}."));
    lines.push("  Apply, or a property, ends the process or never returns there.".into());
    failure(lines)
}

fn failure(lines: Vec<String>) -> CheckFailure {
    CheckFailure {
        property: Property::Function,
        at: Duration::MAX,
        lines,
        replicas_differ: false,
    }
}

/// The first batch that became something else.
fn compare(here: &[String], there: &str, place: &str) -> Option<CheckFailure> {
    let (there, end) = match there.rsplit_once('\n') {
        Some((there, end)) => (there.lines().collect(), end),
        None => (Vec::new(), there),
    };
    let differs = |(here, there): &(&String, &&str)| parts(here)[..2] != parts(there)[..2];
    let differing = here.iter().zip(&there).find(differs);
    let ended = end.split_once('\t').filter(|(end, _)| *end == FAILED);
    let mut lines = vec!["The same plan in a second process came to something else:".to_owned()];
    match (differing, ended) {
        (Some((here, there)), _) => {
            let ([what, _, ours], [other, _, theirs]) = (parts(here), parts(there));
            let entry = what.split_once(" applies ").map_or(what, |(_, entry)| entry);
            lines.push(format!("  the entry: {entry}"));
            if what != other {
                lines.push(format!("  in its place there: {}", shorten(other)));
            }
            lines.push(format!("  here   {ours}"));
            lines.push(format!("  there  {theirs}"));
        }
        (None, Some((_, what))) => {
            lines.push("  here   all held".into());
            lines.push(format!(
                "  there  this does not hold: {}",
                what.replace('\t', ": ")
            ));
        }
        (None, None) if here.len() != there.len() => {
            lines.push(format!("  here   {} batches were applied", here.len()));
            lines.push(format!("  there  {} batches were applied", there.len()));
        }
        (None, None) => return None,
    }
    lines.push(format!("  There: {place}; and each batch was"));
    lines.push("  tried on an empty view before. It reads the time of day, the time zone, or something else that is not".into());
    lines.push("  the same everywhere; or it keeps something for the whole process, or for a thread.".into());
    Some(failure(lines))
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

/// There when the check that is asked began.
fn begun_file(folder: &Path) -> PathBuf {
    folder.join("begun")
}

/// What the second process says on its standard error.
fn said_file(folder: &Path) -> PathBuf {
    folder.join("said")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(all: &[&str]) -> Vec<String> {
        all.iter().map(|step| (*step).to_owned()).collect()
    }

    const HERE: [&str; 2] = [
        "1 ms r0 applies r0:2 a\tx\twrote 1",
        "2 ms r1 applies r0:3 b\ty\twrote 2",
    ];

    #[test]
    fn the_first_difference_is_named() {
        let here = steps(&HERE);
        let same = format!("{}\n{WELL}", HERE.join("\n"));
        assert_eq!(compare(&here, &same, "there"), None);
        assert_eq!(compare(&[], WELL, "there"), None);
        let there = same.replace("\ty\twrote 2", "\tz\twrote 3");
        let failure = compare(&here, &there, "another time zone").unwrap();
        let text = failure.lines.join("\n");
        for part in ["r0:3 b", "wrote 2", "wrote 3", "another time zone"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_is_missing_there_is_a_difference() {
        let here = steps(&HERE);
        let text = |there: &str| compare(&here, there, "there").unwrap().lines.join("\n");
        let short = text(&format!("{}\n{WELL}", HERE[0]));
        assert!(short.contains("there  1 batches"), "{short}");
        let none = text(WELL);
        assert!(none.contains("there  0 batches"), "{none}");
        let broken = text(&format!("{}\n{FAILED}\talways \"a\"\ton r0: no", HERE[0]));
        assert!(broken.contains("always \"a\": on r0: no"), "{broken}");
    }
}
