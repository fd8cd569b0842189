//! What differs between the views of two directories.

use autobee::{Bytes, Range, ViewEntries};
use serde_json::json;

use crate::Result;
use crate::args::CompareArgs;
use crate::failure::Failure;
use crate::out::{Out, clean, text};
use crate::place::{Place, read};

pub(crate) async fn diff(args: CompareArgs, _place: &Place, out: &Out) -> Result<()> {
    let (a, b) = (read(&args.a).await?, read(&args.b).await?);
    if a.key() != b.key() {
        out.note("the two are different databases");
    }
    let mut left = Side::new(a.view().stream(Range::all())).await?;
    let mut right = Side::new(b.view().stream(Range::all())).await?;
    let mut differences = 0_u64;
    loop {
        let (key, old, new) = match (&left.next, &right.next) {
            (None, None) => break,
            (Some((key, old)), Some((other, new))) if key == other => (key, Some(old), Some(new)),
            (Some((key, old)), None) => (key, Some(old), None),
            (Some((key, old)), Some((other, _))) if key < other => (key, Some(old), None),
            (_, Some((key, new))) => (key, None, Some(new)),
        };
        if old != new {
            differences += 1;
            tell(key, old, new, out)?;
        }
        let (has_left, has_right) = (old.is_some(), new.is_some());
        if has_left {
            left.step().await?;
        }
        if has_right {
            right.step().await?;
        }
    }
    match differences {
        0 => Ok(()),
        count => Err(Failure::Different(count)),
    }
}

fn tell(key: &Bytes, old: Option<&Bytes>, new: Option<&Bytes>, out: &Out) -> Result<()> {
    let key = text(key);
    let [old, new] = [old, new].map(|value| value.map(|value| text(value)));
    if out.is_json {
        return out.bulk_object(&json!({ "key": key, "a": old, "b": new }));
    }
    let key = clean(&key);
    if let Some(old) = old {
        out.bulk(&out.bad(format!("- {key}\t{}", clean(&old))))?;
    }
    if let Some(new) = new {
        out.bulk(&out.good(format!("+ {key}\t{}", clean(&new))))?;
    }
    Ok(())
}

/// One of the two, at its next entry.
struct Side {
    entries: ViewEntries,
    next: Option<(Bytes, Bytes)>,
}

impl Side {
    async fn new(entries: ViewEntries) -> Result<Self> {
        let mut side = Self { entries, next: None };
        side.step().await?;
        Ok(side)
    }

    async fn step(&mut self) -> Result<()> {
        self.next = self.entries.next().await?;
        Ok(())
    }
}
