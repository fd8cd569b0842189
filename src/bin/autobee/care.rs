//! Looking after a directory: verify, salvage, compact, backup, restore.

use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use autobee::env::{Disk, Entropy as _, Env as _, Planted, ReadOnlyEnv, native::NativeEntropy};
use autobee::store::seglog::{Report, Salvaged};
use autobee::store::{Drawn, Key, Seglog, StoreBatch, StoreEngine as _, StoreError};
use autobee::wire::Decode as _;
use autobee::wire::oplog::OplogBlock;
use autobee::{Autobee, Index, Pending, Range};
use serde_json::{Value, json};

use crate::Result;
use crate::args::{Backup, Restore, Salvage};
use crate::failure::Failure;
use crate::out::{Out, Unit, clean, size, text};
use crate::place::{Place, check, check_free, env, files, in_use};

/// How often a directory is read again that another process changed meanwhile.
const TRIES: u32 = 5;

/// The file that is written to is not moved when it has fewer bytes.
const WORTH_MOVING: u64 = 64 << 10;

/// Bytes that housekeeping moves at a time.
const MOVED_AT_A_TIME: u64 = 16 << 20;

// Verify.

pub(crate) async fn verify(place: &Place, out: &Out) -> Result<()> {
    let dir = place.dir();
    check(dir)?;
    let bar = out.progress(None, Unit::Count).with_message("reading everything");
    let disk = env(dir)?.disk();
    let report = blocking(move || autobee::store::verify(&*disk)).await?;
    let report = report.map_err(|error| in_use(dir, error.into()))?;
    let mut missing = Vec::new();
    let mut entries = 0_u64;
    let mut unreadable = None;
    // With damage in the store the rest may be readable all the same.
    let read = async {
        let reader = place.read().await?;
        for writer in reader.status().writers {
            let blocks = writer.length.0.saturating_sub(writer.have.0);
            if blocks > 0 {
                missing.push(format!(
                    "{blocks} of {} blocks of the writer {}",
                    writer.length.0, writer.key
                ));
            }
            if let Some(Pending::Stalled(why)) = &writer.pending {
                missing.push(format!(
                    "nothing more is taken of the writer {}: {why}",
                    writer.key
                ));
            }
        }
        let mut view = reader.view().stream(Range::all());
        while view.next().await?.is_some() {
            entries += 1;
            bar.set_position(entries);
        }
        Result::Ok(())
    };
    if let Err(failure) = read.await {
        unreadable = Some(failure.to_string());
    }
    bar.finish_and_clear();
    let answer = json!({
        "sound": report.is_sound() && unreadable.is_none(),
        "segments": report.segments,
        "commits": report.frames,
        "values": report.values,
        "tornBytes": report.torn_bytes,
        "keys": entries,
        "damages": damages(&report),
        "missing": missing,
        "unreadable": unreadable,
    });
    out.either(&answer, || {
        let mut lines = vec![format!(
            "{} files, {} commits, {} values and {entries} keys of the view were read",
            report.segments, report.frames, report.values
        )];
        if report.torn_bytes > 0 {
            lines.push(format!(
                "{} bytes at the end are of a write that never ended: the next opening cuts them",
                report.torn_bytes
            ));
        }
        lines.extend(
            report
                .damages
                .iter()
                .map(|damage| out.bad(clean(&format!("damaged: {damage}")))),
        );
        lines.extend(missing.iter().map(|what| format!("not here: {what}")));
        lines.extend(
            unreadable
                .iter()
                .map(|what| out.bad(clean(&format!("the view cannot be read: {what}")))),
        );
        if report.is_sound() && unreadable.is_none() {
            lines.push(out.good("everything is as it was written"));
        }
        lines.join("\n")
    })?;
    match (report.damages.len(), unreadable) {
        (0, None) => Ok(()),
        (0, Some(what)) => Err(Failure::Damaged(format!("the view cannot be read: {what}"))),
        (count, _) => Err(Failure::Damaged(format!(
            "{count} places of the store are damaged"
        ))),
    }
}

fn damages(report: &Report) -> Vec<Value> {
    let damages = report.damages.iter();
    let damages =
        damages.map(|damage| json!({ "file": damage.file, "offset": damage.offset, "what": damage.what }));
    damages.collect()
}

// Salvage.

pub(crate) async fn salvage(args: Salvage, place: &Place, out: &Out) -> Result<()> {
    check(place.dir())?;
    check_free(&args.into)?;
    let bar = out
        .progress(None, Unit::Count)
        .with_message("copying what can be read");
    let salvaged = copy(place.dir(), &args.into).await;
    bar.finish_and_clear();
    let salvaged = salvaged?;
    // Peers may have seen blocks that are not there: the mark has an append wait for one.
    let opened = place.open_with(&args.into, |builder| builder.restored()).await;
    if matches!(opened, Err(Failure::NoDatabase(_))) {
        // What was begun is of no use.
        let _ = fs::remove_dir_all(&args.into);
        let what = format!("nothing of {} can be read", place.dir().display());
        return Err(Failure::Damaged(what));
    }
    let (db, _) = opened?;
    let mut keys = 0_u64;
    let mut view = db.view().stream(Range::all());
    while view.next().await?.is_some() {
        keys += 1;
    }
    let entries = match &args.entries {
        Some(file) => Some(write_entries(&db, file)?),
        None => None,
    };
    let into = args.into.display().to_string();
    let answer = json!({
        "into": into,
        "values": salvaged.report.values,
        "lost": salvaged.lost.len(),
        "damages": damages(&salvaged.report),
        "keys": keys,
        "entries": entries,
    });
    out.either(&answer, || {
        let mut lines = vec![format!(
            "{} values were saved to {into}, and {} are lost; the view has {keys} keys",
            salvaged.report.values,
            salvaged.lost.len()
        )];
        if let (Some(entries), Some(file)) = (entries, &args.entries) {
            lines.push(format!("{entries} entries of all logs are in {}", file.display()));
        }
        lines.push(format!(
            "get the rest from a peer, for which the first put waits: autobee --dir {into} sync --connect HOST:PORT"
        ));
        lines.join("\n")
    })
}

/// Writes all entries of all logs that can be read; says how many.
fn write_entries(db: &autobee::NativeAutobee, file: &Path) -> Result<u64> {
    let failed = |error| Failure::io(format!("writing {}", file.display()), error);
    let opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .map_err(failed)?;
    let mut writer = BufWriter::new(opened);
    let mut written = 0;
    let status = db.status();
    for log in &status.writers {
        for index in 0..log.length.0 {
            // A block that is damaged is not here.
            let Ok(Some(block)) = db.block(&log.key, Index(index)) else {
                continue;
            };
            let Ok(block) = OplogBlock::from_bytes(&block) else {
                continue;
            };
            let Some(value) = block.value else { continue };
            let op = serde_json::from_slice(&value).unwrap_or_else(|_| Value::String(text(&value)));
            let line = json!({
                "writer": log.key.to_string(),
                "length": index + 1,
                "time": block.timestamp.0,
                "op": op,
            });
            writeln!(writer, "{line}").map_err(failed)?;
            written += 1;
        }
    }
    writer.flush().map_err(failed)?;
    Ok(written)
}

// Copies.

pub(crate) async fn backup(args: Backup, place: &Place, out: &Out) -> Result<()> {
    check(place.dir())?;
    let values = checked_copy(place.dir(), &args.to, out, "copying and checking").await?;
    let to = args.to.display().to_string();
    let answer = json!({ "backup": to, "values": values });
    out.either(&answer, || {
        format!("{values} values were checked and copied to {to}; put it back with: autobee restore {to} DIR")
    })
}

pub(crate) async fn restore(args: Restore, place: &Place, out: &Out) -> Result<()> {
    check(&args.backup)?;
    let values = checked_copy(&args.backup, &args.to, out, "restoring").await?;
    let (db, _) = place.open_with(&args.to, |builder| builder.restored()).await?;
    let to = args.to.display().to_string();
    let answer = json!({
        "dir": to,
        "values": values,
        "key": db.key().to_string(),
        "unconfirmed": db.unconfirmed().map(|why| format!("{why:?}")),
    });
    out.either(&answer, || {
        format!(
            "{to} is what the backup was. It may be older than what peers have of its log, so the first put waits for one:\n\
             autobee --dir {to} sync --connect HOST:PORT"
        )
    })
}

/// Copies a sound directory to one that is made, and gets its name when it is whole.
async fn checked_copy(from: &Path, to: &Path, out: &Out, message: &'static str) -> Result<u64> {
    check_free(to)?;
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let failed = |what: &str, error| Failure::io(format!("{what} {}", partial.display()), error);
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(|error| failed("removing", error))?;
    }
    let bar = out.progress(None, Unit::Count).with_message(message);
    let salvaged = copy(from, &partial).await;
    bar.finish_and_clear();
    let salvaged = match salvaged {
        Ok(salvaged) if salvaged.report.is_sound() => salvaged,
        unsound => {
            // What was begun is of no use.
            let _ = fs::remove_dir_all(&partial);
            let count = unsound?.report.damages.len();
            return Err(Failure::Damaged(format!(
                "{count} places of {} are damaged, so it was not copied",
                from.display()
            )));
        }
    };
    if to.exists() {
        // It is empty.
        fs::remove_dir(to).map_err(|error| Failure::io(format!("replacing {}", to.display()), error))?;
    }
    fs::rename(&partial, to).map_err(|error| failed("renaming", error))?;
    Ok(salvaged.report.values)
}

/// Copies all of a store that can be read. When another process has it, it is the state of a moment.
async fn copy(from: &Path, to: &Path) -> Result<Salvaged> {
    let source = env(from)?;
    let target = env(to)?;
    blocking(move || {
        let drawn = Drawn {
            planted: Planted::default(),
            salt: u64::from_le_bytes(NativeEntropy.array()),
        };
        let disk = target.disk();
        let mut into = Seglog::default().open_in(disk, drawn)?;
        let mut copied = autobee::store::salvage(&*source.disk(), &mut *into);
        let is_locked = matches!(copied, Err(StoreError::Locked));
        let is_closed = matches!(&copied, Err(StoreError::Io { action: "lock", .. }));
        if is_locked || is_closed {
            for _ in 0..TRIES {
                let read_only = ReadOnlyEnv::new(source.clone()).disk();
                copied = autobee::store::salvage(&*read_only, &mut *into);
                // A file may have gone while it was read.
                if copied.as_ref().is_ok_and(|copied| copied.report.is_sound()) {
                    break;
                }
            }
        }
        let copied = copied?;
        into.close()?;
        Ok(copied)
    })
    .await?
    .map_err(|error: StoreError| in_use(from, error.into()))
}

// Compact.

pub(crate) async fn compact(place: &Place, out: &Out) -> Result<()> {
    let dir = place.dir();
    check(dir)?;
    let before = store_bytes(dir)?;
    let disk = env(dir)?.disk();
    let newest = files(dir).unwrap_or_default();
    let newest = newest.iter().rev().find(|(name, _)| name.ends_with(".segment"));
    let newest = newest.map_or(0, |(_, size)| *size);
    let bar = out.progress(None, Unit::Count).with_message("compacting");
    let done = blocking(move || compact_store(disk, newest)).await;
    bar.finish_and_clear();
    done?.map_err(|error| in_use(dir, error.into()))?;
    // The database opens it as before.
    let after = store_bytes(dir)?;
    let answer = json!({ "before": before, "after": after });
    out.either(&answer, || {
        format!("{} before, {} now", size(before), size(after))
    })
}

/// Moves what is wanted out of files of which much is not, and removes those.
fn compact_store(disk: std::sync::Arc<dyn Disk>, newest: u64) -> std::result::Result<(), StoreError> {
    let mut engine = Seglog::default().compaction_fifths(3);
    let is_worth_it = newest >= WORTH_MOVING;
    if is_worth_it {
        // The file that is written to is full then, and one of those that may be moved once something is written to the next.
        engine = engine.segment_bytes(newest);
    }
    let mut store = engine.open(disk)?;
    if is_worth_it && let Some(head) = store.get(&Key::StoreHead)? {
        let mut batch = StoreBatch::default();
        batch.put(Key::StoreHead, head);
        store.commit(&batch)?;
    }
    store.sync()?;
    while store.maintain(MOVED_AT_A_TIME)? {}
    store.close()
}

pub(crate) fn store_bytes(dir: &Path) -> Result<u64> {
    let files = files(dir).map_err(|error| Failure::io(format!("reading {}", dir.display()), error))?;
    Ok(files.iter().map(|(_, size)| size).sum())
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|error| Failure::io("a task of this program", error.into()))
}

/// Opens what a store holds only to see that it can be opened.
pub(crate) async fn opens(dir: &Path) -> Result<()> {
    let store = autobee::Corestore::open_read_only(env(dir)?).await?;
    Autobee::builder(store)
        .apply(crate::entries::JsonEntries)
        .open()
        .await?;
    Ok(())
}
