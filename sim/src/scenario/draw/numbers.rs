//! Numbers of a generated scenario that differ from those of production.

use autobee::env::knob::{CORE_HEADS_WAITING, FORWARD_CUT, FORWARD_GAP, KNOBS, Knob, VIEW_PAGE};

use super::{Choices, Scenario};

/// Segments and checkpoints below this length are short.
const SHORT_BYTES: u64 = 32 * 1024;

/// How long a sync of a disk with short segments takes at most, in microseconds.
const SYNC_US_OF_SHORT: u32 = 1_000;

/// How much longer a call takes there at most, in microseconds.
const JITTER_US_OF_SHORT: u32 = 20;

/// The longest way of a segment on a network where peers are given up soon, in microseconds.
const SLOWEST_US: u64 = 400_000;

/// Draws settings, each with an even chance to be left alone.
pub(super) fn draw(choices: &mut Choices<'_>, scenario: &mut Scenario) {
    let numbers: &[(&str, &[i64])] = &[
        ("drain_applies_max", &[1, 2, 3, 16]),
        ("window_batches", &[1, 2, 4, 16, 64]),
        ("append_values_max", &[1_024, 64]),
        ("view_cache_bytes_max", &[65_536, 4_096, 1 << 20, 0]),
        ("requests_in_flight_max", &[1, 2, 16, 64]),
        ("bytes_in_flight_max", &[1, 4_096, 65_536]),
        ("answer_ms_max", &[500, 2_000, 10_000]),
        ("outbox_bytes_max", &[4_096, 32_768]),
        ("held_bytes_max", &[64, 1_024]),
        ("announced_pages_max", &[1, 4]),
        ("stranger_cores_max", &[1, 2, 8]),
        ("stranger_quiet_ms", &[500, 3_000]),
        ("read_wait_ms", &[200, 1_000]),
    ];
    for (name, values) in numbers {
        if choices.once_in(2) {
            let value = choices.pick(values);
            // An answer that takes longer than that is taken back, asked for again, and takes as long again.
            if *name == "answer_ms_max" && !super::is_fast(&scenario.network) {
                continue;
            }
            scenario.settings.insert((*name).into(), value.into());
        }
    }
    // Where a segment may take longer than a peer may be silent, connections would end for no fault.
    let network = &scenario.network;
    let slowest_us = 4 * network.latency_us_max + network.spike_us_max + network.offset_us_max;
    if choices.once_in(3) && slowest_us < SLOWEST_US {
        let keep_alive = choices.pick(&[500_i64, 1_000, 2_000]);
        scenario
            .settings
            .insert("keep_alive_ms".into(), keep_alive.into());
        scenario
            .settings
            .insert("silence_ms_max".into(), (keep_alive * 3).into());
    }
    if choices.once_in(3) {
        let mut gather = toml::Table::new();
        gather.insert("time_ms".into(), choices.pick(&[0_i64, 20, 300, 2_000]).into());
        gather.insert("quiet_ms".into(), choices.pick(&[0_i64, 5, 50, 400]).into());
        gather.insert("bytes".into(), choices.pick(&[1_i64, 2_048, 1 << 20]).into());
        scenario.settings.insert("heal_gather".into(), gather.into());
    }
    let is_drawn_later =
        |knob: &Knob| [VIEW_PAGE, CORE_HEADS_WAITING, FORWARD_GAP, FORWARD_CUT].contains(knob);
    for knob in KNOBS.iter().filter(|knob| !is_drawn_later(knob)) {
        // What the store does once files are long happens in no run unless they are short.
        let is_store = knob.name.starts_with("store_");
        if choices.once_in(2) || is_store && choices.once_in(2) {
            // Most of the range of a number that is far from its usual value is near it: so its length is drawn.
            let longest = (knob.most / knob.least.max(1)).max(1).ilog2();
            let length = choices.below(u64::from(longest) + 1);
            let length = length.min(choices.below(u64::from(longest) + 1));
            let length = if is_store {
                length.min(choices.below(5))
            } else {
                length
            };
            let value = knob.least.max(1) << length;
            let value = if knob.least == 0 && choices.once_in(4) {
                0
            } else {
                value
            };
            scenario
                .knobs
                .insert(knob.name.into(), value.clamp(knob.least, knob.most));
        }
    }
    // A short segment is synced each time that it is full: on a slow disk that would take longer than a run.
    let segment = scenario.knobs.get("store_segment_bytes").copied();
    let checkpoint = scenario.knobs.get("store_checkpoint_bytes").copied();
    if segment
        .into_iter()
        .chain(checkpoint)
        .any(|bytes| bytes < SHORT_BYTES)
    {
        let latency = &mut scenario.disk.latency;
        latency.sync_us = latency.sync_us.min(SYNC_US_OF_SHORT);
        // And each of many reads takes its share.
        latency.jitter_us = latency.jitter_us.min(JITTER_US_OF_SHORT);
    }
    if choices.once_in(8) {
        scenario.settings.insert("durability".into(), "visible".into());
    }
}
