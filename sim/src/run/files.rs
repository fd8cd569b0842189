//! The files of a store are what the store takes them for: as long as it says, no larger than what is wanted allows, and
//! marked with the last commit that is durable.
//!
//! Source: `store::seglog`: a segment of which little is wanted is moved and removed; the mark is written after each sync.

use autobee::db::sim_hooks;
use autobee::env::{Disk as _, Env, Open};

use super::group::Group;
use crate::disk::SimDisk;
use crate::invariant::{Claims, ReplicaLook, Violation};

/// Where the mark says how far the log was durable.
const MARK: &str = "durable";
const MARKED: std::ops::Range<usize> = 16..24;

/// What the files of a replica at rest are not. Housekeeping follows syncs: just after an opening it has not come far.
pub(super) fn check_files<E: Env>(
    group: &Group<E>,
    replica: &ReplicaLook,
    claims: &Claims,
    has_kept_house: bool,
) -> Option<Violation> {
    let number = replica.replica;
    let store = group.store(number)?;
    // A store that failed, or lost something, does no housekeeping.
    if group.is_disk_faulty(number) || claims.damaged.contains(&number) {
        return None;
    }
    let space = store.space()?;
    let (last, durable) = sim_hooks::commits(&store).ok()?;
    let disk = group.disk(number);
    let lengths = disk.list().ok()?.into_iter().filter_map(|name| {
        let is_segment = name.ends_with(".segment");
        is_segment.then(|| {
            disk.open(&name, Open::Read)
                .and_then(|file| file.len())
                .unwrap_or(0)
        })
    });
    let bytes: u64 = lengths.sum();
    let what = if bytes != space.bytes {
        format!("its segments have {bytes} bytes, and it counts {}", space.bytes)
    } else if has_kept_house && last == durable && space.is_shrinking {
        "it leaves space that it could give back".to_owned()
    } else {
        let marked = marked(&disk).unwrap_or(0);
        if marked == durable.0 {
            return None;
        }
        format!("commit {marked} is marked as durable, and {} is", durable.0)
    };
    Some(Violation {
        invariant: "files",
        what: format!("{}: {what}", replica.name),
    })
}

/// The commit that the mark says was durable; none when there is no mark.
fn marked(disk: &SimDisk) -> Option<u64> {
    let file = disk.open(MARK, Open::Read).ok()?;
    let mut bytes = [0; MARKED.end];
    file.read_at(0, &mut bytes).ok()?;
    Some(u64::from_le_bytes(*bytes[MARKED].first_chunk()?))
}
