//! Setting keys from files: read and checked on a thread, appended in batches.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use autobee::{Bytes, NativeAutobee};
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use crate::Result;
use crate::args::{FileFormat, Import};
use crate::failure::Failure;
use crate::out::{Out, Unit};
use crate::place::Place;
use crate::rows::watched;

/// Entries of one batch, and bytes of it.
const BATCH: (usize, usize) = (500, 4 << 20);

/// Bytes of one line or row.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Bytes of one entry, which is a block of a log.
const ENTRY_BYTES_MAX: usize = 8 << 20;

/// The format of a file.
pub(crate) fn format_of(given: Option<FileFormat>, file: Option<&Path>) -> FileFormat {
    let ending = file.and_then(Path::extension).and_then(|ending| ending.to_str());
    given.unwrap_or(match ending {
        Some("csv") => FileFormat::Csv,
        _ => FileFormat::Jsonl,
    })
}

pub(crate) async fn import(args: Import, place: &Place, out: &Out) -> Result<()> {
    let is_stdin = args.file.as_os_str() == "-";
    let format = format_of(args.format, Some(&args.file));
    // Before anything is read: whoever may not write hears so first.
    let db = place.open().await?;
    if !db.writable() {
        let local = db.local();
        return Err(autobee::Error::NotWritable { local }.into());
    }
    let source = if is_stdin {
        out.awaits("lines");
        Source {
            name: "stdin".into(),
            reader: Box::new(BufReader::new(std::io::stdin())),
            bar: out.progress(None, Unit::Bytes).with_message("importing"),
        }
    } else {
        checked(&args.file, format, out).await?
    };
    let name = source.name.clone();
    let bar = source.bar.clone();
    let (sender, batches) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        let mut batch = Portion::default();
        let read = source.read(format, &mut |entry| {
            batch.push(entry);
            // When nobody takes it any more, the rest is for nobody.
            !batch.is_full() || sender.blocking_send(Ok(std::mem::take(&mut batch))).is_ok()
        });
        // What stands before a line that is wrong is imported, and counted.
        let _ = sender.blocking_send(Ok(batch));
        if let Err(wrong) = read {
            let _ = sender.blocking_send(Err(wrong));
        }
    });
    let mut tally = Tally {
        out,
        imported: 0,
        is_told: false,
    };
    let ended = append_all(&db, batches, &mut tally).await;
    tally.is_told = true;
    let imported = tally.imported;
    bar.finish_and_clear();
    match ended {
        Ok(()) => {
            let answer = json!({ "imported": imported, "file": name });
            out.either(&answer, || format!("{imported} entries were imported"))
        }
        Err(Wrong::Line { line, what }) => Err(Failure::Line {
            file: name,
            line,
            what,
            rest: format!("{imported} entries before it were imported, and nothing from it on"),
        }),
        Err(Wrong::Failure(failure)) => {
            out.note(&format!("{imported} entries were imported before it failed"));
            Err(failure)
        }
    }
}

/// Counts what was imported, and says it also when somebody ends it on the way.
struct Tally<'a> {
    out: &'a Out,
    imported: u64,
    is_told: bool,
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.out.note(&format!(
                "{} entries were imported before it was ended",
                self.imported
            ));
        }
    }
}

/// Appends batches.
async fn append_all(
    db: &NativeAutobee,
    mut batches: mpsc::Receiver<std::result::Result<Portion, Wrong>>,
    tally: &mut Tally<'_>,
) -> std::result::Result<(), Wrong> {
    while let Some(batch) = batches.recv().await {
        let batch = batch?;
        if batch.entries.is_empty() {
            continue;
        }
        let count = batch.entries.len() as u64;
        let appended = db.append_batch(batch.entries).await;
        appended.map_err(|error| Wrong::Failure(error.into()))?;
        tally.imported += count;
    }
    Ok(())
}

/// A file of which every line was checked, at its start again.
async fn checked(file: &PathBuf, format: FileFormat, out: &Out) -> Result<Source> {
    let name = file.display().to_string();
    let failed = |error| Failure::io(format!("reading {}", file.display()), error);
    let mut opened = File::open(file).map_err(failed)?;
    let metadata = opened.metadata().map_err(failed)?;
    if !metadata.is_file() {
        let what = format!("{name} is no file: to import as it comes, give - and redirect stdin");
        return Err(Failure::Input(what));
    }
    let source = |bar: ProgressBar, file: File| Source {
        name: name.clone(),
        reader: Box::new(BufReader::new(bar.wrap_read(file))),
        bar,
    };
    let bar = out
        .progress(Some(metadata.len()), Unit::Bytes)
        .with_message("checking");
    let again = opened.try_clone().map_err(failed)?;
    let check = source(bar.clone(), again);
    let read = tokio::task::spawn_blocking(move || check.read(format, &mut |_| true)).await;
    bar.finish_and_clear();
    match read {
        Err(error) => return Err(Failure::io("checking the file", error.into())),
        Ok(Ok(())) => {}
        Ok(Err(Wrong::Failure(failure))) => return Err(failure),
        Ok(Err(Wrong::Line { line, what })) => {
            return Err(Failure::Line {
                file: name,
                line,
                what,
                rest: "nothing was imported".into(),
            });
        }
    }
    opened.rewind().map_err(failed)?;
    let bar = out
        .progress(Some(metadata.len()), Unit::Bytes)
        .with_message("importing");
    Ok(source(bar, opened))
}

/// Entries that are appended together.
#[derive(Default)]
struct Portion {
    entries: Vec<Bytes>,
    bytes: usize,
}

impl Portion {
    fn push(&mut self, entry: String) {
        self.bytes += entry.len();
        self.entries.push(entry.into());
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= BATCH.0 || self.bytes >= BATCH.1
    }
}

/// Why reading ended.
enum Wrong {
    /// A line is none.
    Line {
        line: u64,
        what: String,
    },
    Failure(Failure),
}

/// Where entries come from.
struct Source {
    name: String,
    reader: Box<dyn BufRead + Send>,
    bar: ProgressBar,
}

impl Source {
    /// Hands each entry over, as long as it is taken.
    fn read(
        mut self,
        format: FileFormat,
        take: &mut dyn FnMut(String) -> bool,
    ) -> std::result::Result<(), Wrong> {
        self.skip_mark()?;
        match format {
            FileFormat::Jsonl => self.read_lines(take),
            FileFormat::Csv => self.read_rows(take),
        }
    }

    /// Passes over the mark that some programs begin a text with.
    fn skip_mark(&mut self) -> std::result::Result<(), Wrong> {
        let mut start = Vec::new();
        let read = self.reader.by_ref().take(3).read_to_end(&mut start);
        read.map_err(|error| Wrong::Failure(Failure::io(format!("reading {}", self.name), error)))?;
        if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
            let what = "it is UTF-16 text: save it as UTF-8".to_owned();
            return Err(Wrong::Line { line: 1, what });
        }
        if start == b"\xef\xbb\xbf" {
            start.clear();
        }
        let rest = std::mem::replace(&mut self.reader, Box::new(std::io::empty()));
        self.reader = Box::new(std::io::Cursor::new(start).chain(rest));
        Ok(())
    }

    fn read_lines(mut self, take: &mut dyn FnMut(String) -> bool) -> std::result::Result<(), Wrong> {
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            let read = self
                .reader
                .by_ref()
                .take(LINE_BYTES_MAX + 1)
                .read_until(b'\n', &mut bytes);
            let read =
                read.map_err(|error| Wrong::Failure(Failure::io(format!("reading {}", self.name), error)))?;
            if read == 0 {
                break;
            }
            if read as u64 > LINE_BYTES_MAX {
                let what = format!("it has more than {LINE_BYTES_MAX} bytes");
                return Err(Wrong::Line { line, what });
            }
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            let entry = entry_of(bytes.trim_ascii()).map_err(|what| Wrong::Line { line, what })?;
            check_size(&entry, line)?;
            if !take(entry) {
                break;
            }
        }
        Ok(())
    }

    fn read_rows(self, take: &mut dyn FnMut(String) -> bool) -> std::result::Result<(), Wrong> {
        let name = self.name;
        let (reader, watch) = watched(self.reader, LINE_BYTES_MAX);
        let mut reader = csv::Reader::from_reader(reader);
        let wrong = |error: csv::Error, at: u64| {
            let line = error.position().map_or(at, csv::Position::line);
            match error.into_kind() {
                csv::ErrorKind::Io(_) if watch.is_too_long() => Wrong::Line {
                    line,
                    what: format!(
                        "the row that begins there has more than {LINE_BYTES_MAX} bytes: is a quote not closed?"
                    ),
                },
                csv::ErrorKind::Io(error) => Wrong::Failure(Failure::io(format!("reading {name}"), error)),
                csv::ErrorKind::UnequalLengths {
                    expected_len, len, ..
                } => Wrong::Line {
                    line,
                    what: format!("it has {len} fields, and the first line has {expected_len}"),
                },
                csv::ErrorKind::Utf8 { err, .. } => Wrong::Line {
                    line,
                    what: format!("field {} is no UTF-8 text", err.field() + 1),
                },
                other => Wrong::Line {
                    line,
                    what: format!("{other:?}"),
                },
            }
        };
        let headers = reader.headers().map_err(|error| wrong(error, 1))?;
        let column = |name: &str| headers.iter().position(|header| header.trim() == name);
        let (Some(key), Some(value)) = (column("key"), column("value")) else {
            let named = match headers.len() {
                0 => "and the file is empty".to_owned(),
                _ => format!("and names {:?}", headers.iter().collect::<Vec<_>>().join(",")),
            };
            let what = format!("it must name the columns key and value, {named}");
            return Err(Wrong::Line { line: 1, what });
        };
        let mut row = csv::StringRecord::new();
        loop {
            let line = reader.position().line();
            let is_there = reader.read_record(&mut row);
            if !is_there.map_err(|error| wrong(error, line))? {
                return Ok(());
            }
            watch.row();
            let line = row.position().map_or(line, csv::Position::line);
            if watch.is_open() {
                let what = "a quote of the row that begins there is not closed".to_owned();
                return Err(Wrong::Line { line, what });
            }
            let entry = json!({ "put": [&row[key], &row[value]] }).to_string();
            check_size(&entry, line)?;
            if !take(entry) {
                return Ok(());
            }
        }
    }
}

/// That an entry is one that a log takes.
fn check_size(entry: &str, line: u64) -> std::result::Result<(), Wrong> {
    if entry.len() <= ENTRY_BYTES_MAX {
        return Ok(());
    }
    let what = format!("it is an entry of more than {ENTRY_BYTES_MAX} bytes");
    Err(Wrong::Line { line, what })
}

/// A line as it may be.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum InputLine {
    Pair { key: String, value: String },
    Put { put: (String, String) },
    Del { del: String },
}

/// The entry that a line asks for; or what is wrong with it.
fn entry_of(line: &[u8]) -> std::result::Result<String, String> {
    // First as any JSON: what is wrong with its form is told by the place.
    let value: serde_json::Value = serde_json::from_slice(line).map_err(|error| {
        let what = error.to_string();
        let what = what.split(" at line").next().unwrap_or_default().to_owned();
        format!("it is no JSON: {what} at column {}", error.column())
    })?;
    let line = InputLine::deserialize(value).map_err(|_| {
        "it must be {\"key\":K,\"value\":V}, {\"put\":[K,V]} or {\"del\":K}, where K and V are strings"
            .to_owned()
    })?;
    let entry = match line {
        InputLine::Pair { key, value } | InputLine::Put { put: (key, value) } => {
            json!({ "put": [key, value] })
        }
        InputLine::Del { del } => json!({ "del": del }),
    };
    Ok(entry.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_entries_or_say_what_is_wrong() {
        let put = Ok(r#"{"put":["a","1"]}"#.to_owned());
        assert_eq!(entry_of(br#"{"key":"a","value":"1"}"#), put);
        assert_eq!(entry_of(br#" {"put":["a","1"]} "#), put);
        assert_eq!(entry_of(br#"{"del":"a"}"#), Ok(r#"{"del":"a"}"#.to_owned()));
        for (line, said) in [
            (r#"{"key":"a""#, "no JSON: EOF while parsing an object at column"),
            (r#"{"key":"a","value":1}"#, "K and V are strings"),
            (r#"{"key":"a","value":"1","more":1}"#, "it must be"),
            (r#"{"addWriter":"a"}"#, "it must be"),
            ("7", "it must be"),
        ] {
            let error = entry_of(line.as_bytes()).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
