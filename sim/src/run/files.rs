//! The files of a store are what the store takes them for: as long as it says, no larger than what is wanted allows, and
//! marked with the last commit that is durable.
//!
//! Source: `store::seglog`: a segment of which little is wanted is moved and removed; the mark is written after each sync.

use autobee::db::sim_hooks;
use autobee::env::{Disk as _, Env, Open};
use autobee::store::marked;

use super::group::Group;
use crate::invariant::{Claims, ReplicaLook, Violation};

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
        let marked = marked(&disk).unwrap_or_default();
        if marked == durable {
            return None;
        }
        format!("commit {} is marked as durable, and {} is", marked.0, durable.0)
    };
    Some(Violation {
        invariant: "files",
        what: format!("{}: {what}", replica.name),
    })
}
