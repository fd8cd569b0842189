//! Looking at everything around a database that can be wrong, and saying what to do.

use std::path::Path;
use std::time::SystemTime;

use autobee::env::Env as _;
use serde_json::json;

use crate::Result;
use crate::care::{opens, store_bytes};
use crate::failure::Failure;
use crate::out::{Out, clean, short, size, time};
use crate::place::{Place, check, env, files};

/// A clock that says an earlier time than this is wrong: 2025-01-01.
const EARLIEST_MS: u64 = 1_735_689_600_000;

/// So much free space is little, in bytes.
const LITTLE_SPACE: u64 = 256 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Notice,
    Bad,
}

struct Finding {
    name: &'static str,
    verdict: Verdict,
    what: String,
    advice: Option<String>,
}

impl Finding {
    fn good(name: &'static str, what: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Good,
            what: what.into(),
            advice: None,
        }
    }

    fn wrong(
        name: &'static str,
        verdict: Verdict,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            name,
            verdict,
            what: what.into(),
            advice: Some(advice.into()),
        }
    }

    fn failed(name: &'static str, failure: &Failure) -> Self {
        Self {
            name,
            verdict: Verdict::Bad,
            what: failure.to_string(),
            advice: failure.hint(),
        }
    }
}

pub(crate) async fn doctor(place: &Place, out: &Out) -> Result<()> {
    let dir = place.dir();
    let mut checks = vec![Finding::good(
        "version",
        format!("autobee {}", env!("CARGO_PKG_VERSION")),
    )];
    match check(dir) {
        Err(failure) => checks.push(Finding::failed("directory", &failure)),
        Ok(()) => {
            checks.push(Finding::good("directory", dir.display().to_string()));
            checks.push(permissions(dir));
            checks.push(lock(dir));
            checks.push(space(dir));
            checks.push(leftovers(dir));
            checks.extend(contents(place).await);
        }
    }
    let mut bad = 0;
    for check in checks {
        bad += usize::from(check.verdict == Verdict::Bad);
        let verdict = match check.verdict {
            Verdict::Good => "good",
            Verdict::Notice => "notice",
            Verdict::Bad => "bad",
        };
        let answer =
            json!({ "check": check.name, "verdict": verdict, "what": check.what, "advice": check.advice });
        out.either(&answer, || {
            let verdict = match check.verdict {
                Verdict::Good => out.good(format!("{verdict:<6}")),
                Verdict::Notice => out.bold(format!("{verdict:<6}")),
                Verdict::Bad => out.bad(format!("{verdict:<6}")),
            };
            let advice = check
                .advice
                .as_ref()
                .map(|advice| format!("\n                      {}", clean(advice)));
            format!(
                "{verdict} {:<13}  {}{}",
                check.name,
                clean(&check.what),
                advice.unwrap_or_default()
            )
        })?;
    }
    match bad {
        0 => Ok(()),
        count => Err(Failure::Unwell(count)),
    }
}

#[cfg(unix)]
fn permissions(dir: &Path) -> Finding {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o777);
    let of_dir = match mode(dir) {
        Ok(mode) => mode,
        Err(error) => return Finding::failed("permissions", &Failure::io("reading the mode", error)),
    };
    if rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_err() {
        return Finding::wrong(
            "permissions",
            Verdict::Notice,
            format!("this user may only read the directory (mode {of_dir:o})"),
            "to write, be its owner (ls -ld); to read, get, ls, log and export work as it is",
        );
    }
    let files = files(dir).unwrap_or_default();
    let open = files
        .iter()
        .any(|(name, _)| mode(&dir.join(name)).is_ok_and(|mode| mode & 0o077 != 0));
    let is_entered = of_dir & 0o077 != 0;
    if is_entered && open {
        return Finding::wrong(
            "permissions",
            Verdict::Notice,
            format!("others may read the directory (mode {of_dir:o}), which holds keys in clear"),
            format!("chmod -R go= {}", dir.display()),
        );
    }
    if of_dir & 0o200 == 0 {
        return Finding::wrong(
            "permissions",
            Verdict::Notice,
            format!("the directory is only read (mode {of_dir:o})"),
            "to write: chmod u+w; to read, get, ls, log and export work as it is",
        );
    }
    Finding::good("permissions", format!("mode {of_dir:o}"))
}

#[cfg(not(unix))]
fn permissions(_: &Path) -> Finding {
    Finding::good("permissions", "not looked at on this system")
}

fn lock(dir: &Path) -> Finding {
    let locked = env(dir).map(|env| env.disk().lock());
    match locked {
        Ok(Ok(_)) => Finding::good("lock", "no other process has the directory"),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::WouldBlock => Finding::wrong(
            "lock",
            Verdict::Notice,
            "another process has the directory",
            "end it to write (autobee serve, sync or watch?); get, ls, log, export and status work meanwhile",
        ),
        Ok(Err(error)) => Finding::failed("lock", &Failure::io("locking the directory", error)),
        Err(failure) => Finding::failed("lock", &failure),
    }
}

#[cfg(unix)]
fn space(dir: &Path) -> Finding {
    let used = store_bytes(dir).unwrap_or_default();
    match rustix::fs::statvfs(dir) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let what = format!("{} are used, {} are free", size(used), size(free));
            if free < LITTLE_SPACE {
                return Finding::wrong(
                    "disk",
                    Verdict::Bad,
                    what,
                    "make space before you write; autobee compact gives back some",
                );
            }
            Finding::good("disk", what)
        }
        Err(error) => Finding::failed("disk", &Failure::io("asking for the free space", error.into())),
    }
}

#[cfg(not(unix))]
fn space(dir: &Path) -> Finding {
    Finding::good(
        "disk",
        format!("{} are used", size(store_bytes(dir).unwrap_or_default())),
    )
}

/// Files that are none of the store.
fn leftovers(dir: &Path) -> Finding {
    let is_ours = |name: &str| {
        name.ends_with(".segment")
            || ["checkpoint", "checkpoint.new", "durable", "durable.new", ".lock"].contains(&name)
    };
    let files = files(dir).unwrap_or_default();
    let others: Vec<&str> = files
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !is_ours(name))
        .collect();
    if others.is_empty() {
        return Finding::good("files", format!("{} files of the store", files.len()));
    }
    Finding::wrong(
        "files",
        Verdict::Notice,
        format!("not of the store: {}", others.join(", ")),
        "keep other files elsewhere",
    )
}

/// What shows when it is opened.
async fn contents(place: &Place) -> Vec<Finding> {
    if let Err(failure) = opens(place.dir()).await {
        return vec![Finding::failed("database", &failure)];
    }
    let reader = match place.read().await {
        Ok(reader) => reader,
        Err(failure) => return vec![Finding::failed("database", &failure)],
    };
    let status = reader.status();
    let rules = reader.rules().map_or("rules not known yet", |rules| rules.name());
    let mut checks = vec![Finding::good("database", format!("{}, {rules}", reader.key()))];
    let blocks: u64 = status.writers.iter().map(|writer| writer.have.0).sum();
    let missing: u64 = status
        .writers
        .iter()
        .map(|writer| writer.length.0.saturating_sub(writer.have.0))
        .sum();
    let logs = format!("{} logs with {blocks} blocks", status.writers.len());
    checks.push(match missing {
        0 => Finding::good("logs", logs),
        missing => Finding::wrong(
            "logs",
            Verdict::Notice,
            format!("{logs}; {missing} more are at peers"),
            "autobee sync --connect HOST:PORT",
        ),
    });
    let stalled = reader.stalled();
    checks.extend(stalled.iter().map(|(key, why)| {
        Finding::wrong(
            "writer",
            Verdict::Bad,
            format!("nothing more is taken of {}: {why}", short(key)),
            "a member removes that writer, and adds another one: see docs/devices.md",
        )
    }));
    if let Some(why) = reader.unconfirmed() {
        checks.push(Finding::wrong(
            "own log",
            Verdict::Notice,
            format!("peers may have more of it: {why:?}"),
            "autobee sync --connect HOST:PORT, then write",
        ));
    }
    if let Some(reason) = &status.stopped {
        checks.push(Finding::wrong(
            "apply",
            Verdict::Bad,
            reason.clone(),
            "a newer version of this program may know the entry",
        ));
    }
    checks.push(clock(
        status
            .ahead
            .first()
            .map(|ahead| (short(&ahead.key), ahead.until.0)),
    ));
    checks
}

fn clock(ahead: Option<(String, u64)>) -> Finding {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    if now < EARLIEST_MS {
        return Finding::wrong(
            "clock",
            Verdict::Bad,
            format!("it says {}", time(now)),
            "set the clock: entries are ordered by it",
        );
    }
    match ahead {
        None => Finding::good("clock", time(now)),
        Some((writer, until)) => Finding::wrong(
            "clock",
            Verdict::Notice,
            format!(
                "it says {}, and entries of {writer} wait until {}",
                time(now),
                time(until)
            ),
            "the clock here is behind, or was ahead at that writer",
        ),
    }
}
