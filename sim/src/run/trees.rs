//! The trees of a database have the shape that their format promises, and are what their writer stamped on its entries.
//!
//! Source: spec/hyperbee.md 7.2 for the number of keys in a node, spec/autobee.md 2.2 for stamps.

use autobee::apply::TreeSnapshot;
use autobee::db::{Autobee, sim_hooks};
use autobee::env::Env;
use autobee::wire::oplog::{OplogBlock, ViewStamp};
use autobee::wire::{Decode as _, Length, Link};

use super::group::Group;
use crate::invariant::{Claims, Look, ReplicaLook, Violation};

/// What is wrong with the trees of a replica at rest, or with what it said of them.
pub(super) fn check_trees<E: Env>(
    group: &Group<E>,
    replica: &ReplicaLook,
    claims: &Claims,
) -> Option<Violation> {
    let number = replica.replica;
    let look = replica.look.as_ref()?;
    let db = group.db(number)?;
    // Who went on from trees of others has not all of their blocks; what a disk lost is not here either.
    if group.has_moved(number) || group.is_disk_faulty(number) {
        return None;
    }
    let is_own = !claims.forgetful.contains(&number) && !claims.has_other_blocks(number);
    let what = shapes(&db).or_else(|| is_own.then(|| stamps(&db, look)).flatten())?;
    Some(Violation {
        invariant: "trees",
        what: format!("{}: {what}", replica.name),
    })
}

/// What is wrong with the shape of the trees of a database.
pub(super) fn shapes<E: Env>(db: &Autobee<E>) -> Option<String> {
    let trees = sim_hooks::trees(db).ok()?;
    let named = ["the view", "the tree of records"].into_iter().zip(&trees);
    named.into_iter().find_map(|(name, tree)| {
        let what = match tree.shape() {
            Ok(levels) => misshapen(tree, &levels)?,
            Err(error) => error.to_string(),
        };
        Some(format!("{name}: {what}"))
    })
}

/// A node with too few keys or too many, or a level that has not one node for each gap above it.
fn misshapen(tree: &TreeSnapshot, levels: &[Vec<usize>]) -> Option<String> {
    let least = tree.keys_min();
    let most = 2 * least + 1;
    levels.iter().enumerate().find_map(|(depth, counts)| {
        let is_inner = depth + 1 < levels.len();
        let least = match depth {
            0 => usize::from(is_inner),
            _ => least,
        };
        let wrong = counts.iter().find(|count| !(least..=most).contains(*count));
        if let Some(count) = wrong {
            return Some(format!(
                "a node of level {depth} has {count} keys, {least} to {most} are allowed"
            ));
        }
        let below = levels.get(depth + 1)?.len();
        let gaps: usize = counts.iter().map(|count| count + 1).sum();
        (gaps != below).then(|| format!("level {depth} has {gaps} gaps, and {below} nodes below them"))
    })
}

/// A stamp of an own entry that is not what the tree of records said then.
fn stamps<E: Env>(db: &Autobee<E>, look: &Look) -> Option<String> {
    let log = look.logs.get(&look.local)?;
    let [_, records] = sim_hooks::trees(db).ok()?;
    (1..=log.length().0).find_map(|length| {
        let block = OplogBlock::from_bytes(log.block(Length(length))?).ok()?;
        let views = block.views?;
        let end = end_of(&views.system);
        // Nothing was written for an entry that was refused, and what was passed over is not here.
        if end.key != records.tree().core() || views.system.length == Length::ZERO {
            return None;
        }
        let info = sim_hooks::info_at(db, end)?;
        if info.flushes != views.flushes {
            return Some(format!(
                "its entry {length} says that {} batches are behind it, and its records that {} are",
                views.flushes, info.flushes
            ));
        }
        let view = views.view.as_ref().map(end_of);
        if let (Some(said), Some(found)) = (view, info.view)
            && said.key == found.key
            && said != found
        {
            return Some(format!(
                "its entry {length} says that version {} of the view is behind it, and its records that {} is",
                said.length, found.length
            ));
        }
        let own = Link {
            key: look.local,
            length: Length(length),
        };
        (!info.heads.contains(&own)).then(|| {
            format!("its entry {length} says that its effect is in version {} of its records, which does not have it", end.length)
        })
    })
}

fn end_of(stamp: &ViewStamp) -> Link {
    Link {
        key: stamp.key,
        length: Length(stamp.start.0 + stamp.length.0),
    }
}
