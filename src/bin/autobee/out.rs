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

    /// An object of many.
    pub(crate) fn bulk_object(&self, json: &Value) -> Result<()> {
        self.bulk(&one_line(json))
    }

    /// An object, at once.
    pub(crate) fn object(&self, json: &Value) -> Result<()> {
        self.line(&one_line(json))
    }

    /// Bytes for whoever reads them: as they are, but where a terminal does that only what breaks lines still steers it.
    pub(crate) fn plain(&self, bytes: &[u8]) -> Result<()> {
        if self.is_live() {
            self.raw(clean_lines(&text(bytes)).as_bytes())
        } else {
            self.raw(bytes)
        }
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
            self.object(json)
        } else {
            self.line(&line())
        }
    }

    /// Something that is good to know, on stderr.
    pub(crate) fn note(&self, text: &str) {
        note(self.is_json, text);
    }

    /// Says on a terminal that something is to be typed: it would look as if nothing happened.
    pub(crate) fn awaits(&self, what: &str) {
        if io::stdin().is_terminal() {
            self.note(&format!(
                "type {what}; Ctrl-D on an empty line ends it, Ctrl-C leaves it"
            ));
        }
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
                one_line(&json!({ "error": what, "hint": hint, "code": failure.code() }))
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
    escaped(text, steers, |letter| letter.escape_default().to_string())
}

/// A text in which nothing steers a terminal but what ends lines and tabulates.
fn clean_lines(text: &str) -> String {
    let is_escaped = |letter| steers(letter) && letter != '\n' && letter != '\t';
    escaped(text, is_escaped, |letter| letter.escape_default().to_string())
}

/// An object as one line, in which nothing steers a terminal: what JSON leaves as it is, is escaped as JSON allows.
pub(crate) fn one_line(json: &Value) -> String {
    escaped(&json.to_string(), steers, |letter| {
        let mut units = [0; 2];
        let units = letter.encode_utf16(&mut units);
        units.iter().map(|unit| format!("\\u{unit:04x}")).collect()
    })
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool, escape: impl Fn(char) -> String) -> String {
    if !text.chars().any(&is_escaped) {
        return text.to_owned();
    }
    let letters = text.chars().map(|letter| match is_escaped(letter) {
        true => escape(letter),
        false => letter.to_string(),
    });
    letters.collect()
}

/// Control characters, and what turns the direction of a text or breaks its lines.
fn steers(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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

/// Something that is good to know, on stderr.
pub(crate) fn note(is_json: bool, text: &str) {
    let text = if is_json {
        one_line(&json!({ "note": text }))
    } else {
        format!("note: {}", clean(text))
    };
    // Nobody can be told when that fails.
    let _ = writeln!(io::stderr(), "{text}");
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
        assert_eq!(clean_lines("a\n\tb\r\u{7}"), "a\n\tb\\r\\u{7}");
        assert_eq!(clean("a\u{202e}b"), "a\\u{202e}b");
        let value = json!({ "value": "\u{1b}[31m\u{9b}\u{7f}\u{202e}\u{1f41d}" });
        let line = one_line(&value);
        assert_eq!(line, "{\"value\":\"\\u001b[31m\\u009b\\u007f\\u202e\u{1f41d}\"}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }
}
