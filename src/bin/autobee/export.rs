//! Writing keys and values to a file or to stdout.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::Result;
use crate::args::{Export, FileFormat};
use crate::data::prefix;
use crate::failure::Failure;
use crate::import::format_of;
use crate::out::{Out, Unit, one_line, text};
use crate::place::Place;

pub(crate) async fn export(args: Export, place: &Place, out: &Out) -> Result<()> {
    let format = format_of(args.format, args.file.as_deref());
    if out.is_json && format == FileFormat::Csv && args.file.is_none() {
        let what = "CSV is no JSON: name a file, or leave out --json or --format csv";
        return Err(Failure::Usage(what.into()));
    }
    let reader = place.read().await?;
    let mut target = Target::open(args.file.as_deref(), out)?;
    if format == FileFormat::Csv {
        target.write(&row(["key", "value"])?)?;
    }
    let bar = match args.file {
        Some(_) => out.progress(None, Unit::Count).with_message("exporting"),
        None => indicatif::ProgressBar::hidden(),
    };
    let mut entries = reader.view().stream(prefix(args.prefix.as_deref()));
    let mut exported = 0_u64;
    while let Some((key, value)) = entries.next().await? {
        let (key, value) = (text(&key), text(&value));
        let line = match format {
            FileFormat::Jsonl => {
                format!("{}\n", one_line(&json!({ "key": key, "value": value }))).into_bytes()
            }
            FileFormat::Csv => row([&key, &value])?,
        };
        target.write(&line)?;
        exported += 1;
        bar.set_position(exported);
    }
    bar.finish_and_clear();
    let Some(file) = target.finish()? else {
        return Ok(());
    };
    let file = file.display().to_string();
    let answer = json!({ "exported": exported, "file": file });
    out.either(&answer, || format!("{exported} entries were exported to {file}"))
}

/// One row of CSV.
fn row<T: AsRef<[u8]>>(fields: [T; 2]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: std::io::Error| Failure::io("writing CSV", error);
    writer
        .write_record(fields)
        .map_err(|error| failed(error.into()))?;
    writer.into_inner().map_err(|error| failed(error.into_error()))
}

/// Where lines go: stdout, or a file that gets its name when it is whole.
enum Target<'a> {
    Stdout(&'a Out),
    File {
        writer: BufWriter<File>,
        partial: PathBuf,
        file: PathBuf,
        is_whole: bool,
    },
}

impl<'a> Target<'a> {
    fn open(file: Option<&Path>, out: &'a Out) -> Result<Self> {
        let Some(file) = file else {
            return Ok(Self::Stdout(out));
        };
        if file.exists() {
            let what = format!(
                "{} is there already: choose another name, or remove it",
                file.display()
            );
            return Err(Failure::Input(what));
        }
        let mut partial = file.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&partial);
        let opened = opened.map_err(|error| Failure::io(format!("making {}", partial.display()), error))?;
        Ok(Self::File {
            writer: BufWriter::with_capacity(1 << 16, opened),
            partial,
            file: file.to_owned(),
            is_whole: false,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Stdout(out) => out.plain(bytes),
            Self::File { writer, partial, .. } => {
                let written = writer.write_all(bytes);
                written.map_err(|error| Failure::io(format!("writing {}", partial.display()), error))
            }
        }
    }

    /// Gives the file, when it is one.
    fn finish(mut self) -> Result<Option<PathBuf>> {
        let Self::File {
            writer,
            partial,
            file,
            is_whole,
        } = &mut self
        else {
            return Ok(None);
        };
        let ended = writer.flush().and_then(|()| writer.get_ref().sync_all());
        let ended = ended.and_then(|()| fs::rename(&*partial, &*file));
        ended.map_err(|error| Failure::io(format!("writing {}", file.display()), error))?;
        *is_whole = true;
        Ok(Some(file.clone()))
    }
}

impl Drop for Target<'_> {
    /// What is not whole does not stay.
    fn drop(&mut self) {
        if let Self::File {
            partial,
            is_whole: false,
            ..
        } = self
        {
            let _ = fs::remove_file(partial);
        }
    }
}
