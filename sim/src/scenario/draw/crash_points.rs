//! Power that goes right behind a call of a disk: in the middle of what a store does in several steps.

use super::{Action, Choices, Event, Scenario};
use crate::disk::DiskOp;

/// Calls that end a step of housekeeping, the rarest first.
const CALLS: &[DiskOp] = &[
    DiskOp::Remove,
    DiskOp::Rename,
    DiskOp::Create,
    DiskOp::SyncDir,
    DiskOp::Truncate,
    DiskOp::Sync,
    DiskOp::Write,
];

/// In every fourth scenario the power of a replica goes behind some calls of its disk, one life after the other: also while it
/// is opened again. Some of these lives are so short that what a process left in the cache is there for the next one.
pub(super) fn draw(choices: &mut Choices<'_>, scenario: &mut Scenario, span_ms: u64) {
    if !choices.once_in(4) {
        return;
    }
    let replica = choices.index(scenario.replicas);
    let mut at_ms = 100 + choices.below(span_ms / 2);
    for _ in 0..choices.between(1, 6) {
        let call = choices.pick(CALLS);
        let most = if matches!(call, DiskOp::Sync | DiskOp::Write) {
            60
        } else {
            3
        };
        let after = u32::try_from(choices.below(most)).unwrap_or_default();
        let point = Action::CrashPoint { replica, call, after };
        scenario.event.push(Event { at_ms, action: point });
        at_ms += choices.between(150, 1_200);
        let action = Action::Restart { replica };
        scenario.event.push(Event { at_ms, action });
        at_ms += choices.pick(&[0, 1, 200]);
    }
    scenario.event.sort_by_key(|event| event.at_ms);
}
