//! What the program says: lines for people or JSON, colours, progress.

use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::Result;
use crate::failure::Failure;

pub(crate) struct Out {
    /// JSON instead of lines for people.
    pub(crate) is_json: bool,
    has_colour: bool,
    stdout: Mutex<BufWriter<Stdout>>,
}

impl Out {
    pub(crate) fn new(is_json: bool) -> Self {
        let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            is_json,
            has_colour: !is_json && is_wanted && !is_dumb && io::stdout().is_terminal(),
            stdout: Mutex::new(BufWriter::with_capacity(1 << 16, io::stdout())),
        }
    }

    /// True when a person sees stdout.
    pub(crate) fn is_live(&self) -> bool {
        !self.is_json && io::stdout().is_terminal()
    }

    // Lines.

    /// One line of many: it goes out when there are enough, or at the end.
    pub(crate) fn bulk(&self, line: &str) -> Result<()> {
        let mut stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        let written = stdout.write_all(line.as_bytes());
        written
            .and_then(|()| stdout.write_all(b"\n"))
            .map_err(Failure::output)
    }

    /// One line, at once.
    pub(crate) fn line(&self, line: &str) -> Result<()> {
        self.bulk(line)?;
        self.flush()
    }

    /// Bytes as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        stdout.write_all(bytes).map_err(Failure::output)
    }

    pub(crate) fn flush(&self) -> Result<()> {
        let mut stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        stdout.flush().map_err(Failure::output)
    }

    /// The object with `--json`, else the line.
    pub(crate) fn either(&self, json: &Value, line: impl FnOnce() -> String) -> Result<()> {
        if self.is_json {
            self.line(&json.to_string())
        } else {
            self.line(&line())
        }
    }

    /// Something that is good to know, on stderr.
    pub(crate) fn note(&self, text: &str) {
        let text = if self.is_json {
            json!({ "note": text }).to_string()
        } else {
            format!("note: {text}")
        };
        // Nobody can be told when that fails.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Tells of a failure, and gives the exit code.
    pub(crate) fn failed(&self, failure: &Failure) -> ExitCode {
        // Whoever ended it knows.
        let is_known = matches!(
            failure,
            Failure::BrokenPipe | Failure::Interrupted | Failure::Terminated
        );
        if !is_known {
            let (what, hint) = (failure.to_string(), failure.hint());
            let text = if self.is_json {
                json!({ "error": what, "hint": hint, "code": failure.code() }).to_string()
            } else {
                let mut text = format!("error: {}", clean(&what));
                if let Some(hint) = hint {
                    let _ = write!(text, "\nhint: {hint}");
                }
                text
            };
            let _ = writeln!(io::stderr(), "{text}");
        }
        ExitCode::from(failure.code())
    }

    // Colours.

    pub(crate) fn dim(&self, text: impl AsRef<str>) -> String {
        self.painted("2", text.as_ref())
    }

    pub(crate) fn bold(&self, text: impl AsRef<str>) -> String {
        self.painted("1", text.as_ref())
    }

    pub(crate) fn good(&self, text: impl AsRef<str>) -> String {
        self.painted("32", text.as_ref())
    }

    pub(crate) fn bad(&self, text: impl AsRef<str>) -> String {
        self.painted("31", text.as_ref())
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.has_colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    // Progress.

    /// The progress of long work; seen on a terminal only.
    pub(crate) fn progress(&self, length: Option<u64>, unit: Unit) -> ProgressBar {
        if self.is_json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let target = ProgressDrawTarget::stderr_with_hz(8);
        let template = match (length, unit) {
            (Some(_), Unit::Bytes) => "{msg} [{bar:30}] {bytes}/{total_bytes}, {eta} left",
            (Some(_), Unit::Count) => "{msg} [{bar:30}] {pos}/{len}, {eta} left",
            (None, Unit::Bytes) => "{spinner} {msg} {bytes}, {elapsed}",
            (None, Unit::Count) => "{spinner} {msg} {pos}, {elapsed}",
        };
        let bar = ProgressBar::with_draw_target(length, target);
        bar.set_style(style(template));
        if length.is_none() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        bar
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Bytes,
    Count,
}

pub(crate) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// A text in which nothing steers a terminal, or breaks a line.
pub(crate) fn clean(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let escaped = text.chars().map(|letter| match letter.is_control() {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    });
    escaped.collect()
}

/// Bytes as text, as well as it goes.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The start of a key, by which people tell it from others.
pub(crate) fn short(key: &autobee::CoreKey) -> String {
    key.to_string().chars().take(8).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A count with its unit, for sizes.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// Milliseconds since 1970 as a time of day, UTC.
pub(crate) fn time(milliseconds: u64) -> String {
    let (days, rest) = (milliseconds / 86_400_000, milliseconds % 86_400_000);
    // Years that begin in March have their leap day at the end.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hours, minutes) = (rest / 3_600_000, rest / 60_000 % 60);
    let (seconds, thousandths) = (rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{thousandths:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (milliseconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(time(milliseconds), expected);
        }
        assert!(time(u64::MAX).ends_with('Z'));
    }

    #[test]
    fn nothing_of_a_value_steers_the_terminal() {
        assert_eq!(clean("a\u{1b}[31m\nb\u{9b}"), "a\\u{1b}[31m\\nb\\u{9b}");
        assert_eq!(clean("plain \u{e9}"), "plain \u{e9}");
    }
}
