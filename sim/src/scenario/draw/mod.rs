//! Generated scenarios: everything that a file could say, chosen by a seed or by the bytes of a fuzzer.
//!
//! Half of the scenarios let each kind of event exist with the same chance; the others first draw which kinds exist at
//! all, so that some of them are made of one or two kinds alone (swarm testing). Half of them have drawn numbers where
//! others have those of production: sizes so small that files roll, trees split and portions end in every run.

mod app;
mod crash_points;
mod faults;
mod hostile;
mod interrupts;
mod numbers;
mod regrant;
mod upgrades;

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Choices, CryptoChoice, Event, Reader, Scenario, SideCore, Topology, Workload};
use autobee::env::knob::{CORE_HEADS_WAITING, FORWARD_CUT, FORWARD_GAP, VIEW_PAGE};

use crate::disk::{DiskFaults, Latency};
use crate::network::{LatencyShape, PathConfig};
use crate::schedule::Schedule;
use crate::seed::Seeds;
pub(crate) use app::{Class, befall};
use faults::Faults;

/// Time over which things happen, in milliseconds of virtual time.
const SPAN_MS_MIN: u64 = 2_000;
const SPAN_MS_MAX: u64 = 6_000;

/// About how many values the replicas of a workload append together.
const VALUES_MAX: u64 = 240;

/// A path that carries values of any size.
const FAST_BYTES_PER_MS: u64 = 1_000;
const FAST_WINDOW: usize = 1 << 13;

/// Most events of the kinds that faults draw, before each brings its own end.
const EVENTS_MAX: u64 = 10;

impl Scenario {
    /// The scenario that a seed generates.
    #[must_use]
    pub fn generate(seed: u64) -> Self {
        let stream = Seeds::new(seed).stream("plan", &["generate"]);
        Self {
            name: format!("plan-{seed}"),
            about: format!("generated from seed {seed}"),
            ..draw(&mut Choices::Seeded(Box::new(stream)))
        }
    }

    /// The scenario that these bytes choose, and a seed for it. Fewer and smaller bytes give simpler ones.
    #[must_use]
    pub fn draw(bytes: &[u8]) -> (Self, u64) {
        let mut choices = Choices::Bytes(bytes);
        let seed = choices.below(256);
        (draw(&mut choices), seed)
    }
}

fn draw(choices: &mut Choices<'_>) -> Scenario {
    let replicas = choices.pick(&[3, 2, 3, 4, 3, 5, 4, 6, 2, 3, 7]);
    let span_ms = choices.between(SPAN_MS_MIN, SPAN_MS_MAX);
    let topology = choices.pick(&[
        Topology::Mesh,
        Topology::Mesh,
        Topology::Mesh,
        Topology::Ring,
        Topology::Star,
        Topology::Chain,
    ]);
    let mut scenario = Scenario {
        name: "drawn".into(),
        about: "drawn from bytes".into(),
        replicas,
        crypto: if choices.once_in(16) {
            CryptoChoice::Ed25519
        } else {
            CryptoChoice::StandIn
        },
        planted: BTreeSet::new(),
        writers: None,
        writer_weight: choices.pick(&[2, 1, 0, 3, 2, 1, 5, 7]),
        window_batches: None,
        gather_ms: None,
        encrypted: choices.once_in(4),
        members_only: choices.once_in(6),
        forward: Vec::new(),
        passing: Vec::new(),
        keeping: Vec::new(),
        safe: false,
        topology,
        buggify: choices.once_in(2),
        schedule: Schedule::default(),
        expected: Vec::new(),
        settings: toml::Table::new(),
        knobs: BTreeMap::new(),
        network: network(choices),
        disk: disk(choices),
        workload: Vec::new(),
        append: Vec::new(),
        event: Vec::new(),
        hostile: Vec::new(),
        reader: Vec::new(),
        core: Vec::new(),
        converge_ms: Scenario::converge_ms_default(),
        events_max: Scenario::events_max_default(),
    };
    if choices.once_in(2) {
        numbers::draw(choices, &mut scenario);
    }
    scenario.workload = workloads(choices, &scenario, span_ms);
    let mut faults = Faults::new(choices, &scenario, span_ms);
    let events = faults.choices.below(EVENTS_MAX + 1);
    for _ in 0..events {
        faults.draw();
    }
    if faults.choices.once_in(12) {
        faults.weaken();
    }
    let mut event = faults.finish();
    event.sort_by_key(|event| event.at_ms);
    scenario.event = event;
    hostile::draw(choices, &mut scenario, span_ms);
    let outsiders = scenario.outsiders();
    if !outsiders.is_empty() {
        let all = 1..replicas;
        scenario.writers = Some(all.filter(|replica| !outsiders.contains(replica)).collect());
    }
    scenario.schedule = drawn_schedule(choices);
    scenario.reader = readers(choices, replicas);
    if choices.once_in(3) {
        let compare_ms = choices.pick(&[1_000_i64, 100, 0]);
        scenario.settings.insert("compare_ms".into(), compare_ms.into());
    }
    if choices.once_in(8) {
        for _ in 0..=choices.below(2) {
            let replica = usize::try_from(choices.below(replicas as u64)).unwrap_or_default();
            let at_ms = choices.below(span_ms);
            let action = Action::Rotate { replica };
            scenario.event.push(Event { at_ms, action });
        }
        scenario.event.sort_by_key(|event| event.at_ms);
    }
    // Last, so that what is drawn before stays the same.
    scenario.safe = choices.once_in(2);
    if choices.once_in(6) {
        scenario.forward = forwarding(choices, replicas);
    }
    if !scenario.forward.is_empty() && choices.once_in(3) {
        scenario.passing.clone_from(&scenario.forward);
    }
    regrant::draw(choices, &mut scenario, span_ms);
    for workload in &mut scenario.workload {
        workload.looks = choices.pick(&[0, 3, 0, 10]);
    }
    if choices.once_in(4) {
        let count = choices.between(1, 2);
        scenario.core = (0..count).map(|_| side_core(choices, replicas)).collect();
    }
    crash_points::draw(choices, &mut scenario, span_ms);
    for workload in &mut scenario.workload {
        workload.left = choices.pick(&[0, 6, 0, 2]);
        workload.forgets = choices.pick(&[0, 0, 12, 3]);
    }
    // Numbers that were not there when the others were: plans stay what they were.
    for knob in [VIEW_PAGE, CORE_HEADS_WAITING] {
        if choices.once_in(2) {
            scenario.knobs.insert(knob.name.into(), choices.pick(&[2, 1, 5]));
        }
    }
    interrupts::draw(choices, &mut scenario, span_ms);
    for core in &mut scenario.core {
        core.small_bytes = choices.pick(&[0, 60, 0, 20, 300]);
        core.branches = choices.pick(&[0, 4, 0, 2]);
    }
    upgrades::draw(choices, &mut scenario, span_ms);
    if choices.once_in(4) {
        scenario.keeping = (0..replicas).filter(|_| !choices.once_in(4)).collect();
    }
    if scenario.forward.is_empty() && choices.once_in(6) {
        scenario.forward = forwarding(choices, replicas);
    }
    // So near that short histories go forward.
    if !scenario.forward.is_empty() && !choices.once_in(3) {
        let gap = choices.pick(&[2, 1, 4, 8]);
        let cut = choices.pick(&[2, 1, 4, 16]);
        let knobs = [(FORWARD_GAP, gap), (FORWARD_CUT, cut)];
        let knobs = knobs.map(|(knob, number)| (knob.name.into(), number));
        scenario.knobs.extend(knobs);
    }
    scenario
}

/// Who goes on from the trees of others: two of three, never the creator.
fn forwarding(choices: &mut Choices<'_>, replicas: usize) -> Vec<usize> {
    (1..replicas).filter(|_| !choices.once_in(3)).collect()
}

/// A log beside the database.
fn side_core(choices: &mut Choices<'_>, replicas: usize) -> SideCore {
    SideCore {
        of: choices.index(replicas),
        every_ms: choices.pick(&[200, 50, 600, 1_500]),
        changes: choices.pick(&[20, 6, 60]),
        truncations: choices.pick(&[5, 0, 2]),
        branches: 0,
        small_bytes: 0,
        followers: choices
            .once_in(3)
            .then(|| vec![choices.index(replicas), choices.index(replicas)]),
    }
}

/// One or two readers in every sixth scenario.
fn readers(choices: &mut Choices<'_>, replicas: usize) -> Vec<Reader> {
    if !choices.once_in(6) {
        return Vec::new();
    }
    let reader = |choices: &mut Choices<'_>| Reader {
        of: choices.index(replicas),
        every_ms: choices.pick(&[100, 20, 500, 2_000]),
        targets: choices
            .once_in(2)
            .then(|| vec![choices.index(replicas), choices.index(replicas)]),
    };
    let count = choices.between(1, 2);
    (0..count).map(|_| reader(choices)).collect()
}

/// Half of the scenarios run tasks in random order, most of the others by priorities.
pub(crate) fn drawn_schedule(choices: &mut Choices<'_>) -> Schedule {
    match choices.below(8) {
        0..=3 => Schedule::Random,
        4 => Schedule::Fifo,
        _ => Schedule::Pct(choices.pick(&[2, 0, 1, 3, 5, 10, 30])),
    }
}

impl Scenario {
    /// Replicas that only write optimistically: nobody makes them writers.
    fn outsiders(&self) -> BTreeSet<usize> {
        let optimistic = self.workload.iter().filter(|workload| workload.optimistic);
        optimistic
            .flat_map(|workload| workload.replicas.clone())
            .collect()
    }
}

/// True for a path that carries values of any size in time.
const fn is_fast(path: &PathConfig) -> bool {
    path.bytes_per_ms >= FAST_BYTES_PER_MS && path.window >= FAST_WINDOW
}

fn network(choices: &mut Choices<'_>) -> PathConfig {
    let calm = PathConfig::default();
    match choices.below(6) {
        0 | 1 => calm,
        2 => PathConfig {
            latency_us_min: 100,
            latency_us_max: 800,
            offset_us_max: choices.pick(&[0, 0, 30_000, 200_000]),
            refuse_64k: choices.pick(&[0, 0, 8_000]),
            hang_64k: choices.pick(&[0, 0, 4_000]),
            ..calm
        },
        3 => PathConfig {
            latency_us_min: choices.between(5_000, 40_000),
            latency_us_max: choices.between(40_000, 250_000),
            latency_shape: choices.pick(&[
                LatencyShape::Uniform,
                LatencyShape::Exponential,
                LatencyShape::Bimodal,
            ]),
            spike_64k: 2_000,
            spike_us_max: 1_000_000,
            ..calm
        },
        4 => PathConfig {
            bytes_per_ms: choices.between(16, 400),
            window: 1 << choices.between(8, 14),
            ..calm
        },
        _ => PathConfig {
            chop_64k: 60_000,
            read_max: usize::try_from(choices.between(1, 64)).unwrap_or(1),
            window: 1 << choices.between(8, 16),
            tear_64k: choices.pick(&[0, 32, 100, 200]),
            corrupt_64k: choices.pick(&[0, 16, 50, 100]),
            ..calm
        },
    }
}

fn disk(choices: &mut Choices<'_>) -> DiskFaults {
    let latency = match choices.below(4) {
        0 => Latency::default(),
        1 => Latency {
            read_us: 5,
            write_us: 20,
            sync_us: 2_000,
            jitter_us: 50,
        },
        2 => Latency {
            read_us: 20,
            write_us: 200,
            sync_us: 30_000,
            jitter_us: 100,
        },
        _ => Latency {
            read_us: 0,
            write_us: 0,
            sync_us: 150_000,
            jitter_us: 100,
        },
    };
    DiskFaults {
        latency,
        ..DiskFaults::default()
    }
}

/// Who writes what. The creator always writes, and most of the others do.
fn workloads(choices: &mut Choices<'_>, scenario: &Scenario, span_ms: u64) -> Vec<Workload> {
    let replicas = scenario.replicas;
    let joining = !scenario.members_only && choices.once_in(4) && replicas > 2;
    let count = if joining {
        choices.pick(&[1, 1, 2, 3]).min(replicas - 2)
    } else {
        0
    };
    let outsiders = replicas - count..replicas;
    let members: Vec<usize> = (0..replicas)
        .filter(|replica| !outsiders.contains(replica))
        .collect();
    let mut workloads = vec![workload(choices, scenario, members.clone(), span_ms)];
    if choices.once_in(4) {
        // A burst, so close together that many batches have the same time.
        let from_ms = choices.below(span_ms);
        workloads.push(Workload {
            appends: u32::try_from(choices.between(5, 20)).unwrap_or(5),
            batch_max: 1,
            from_ms,
            to_ms: from_ms + choices.between(1, 30),
            ..workload(choices, scenario, members, span_ms)
        });
    }
    if joining {
        workloads.push(Workload {
            appends: u32::try_from(choices.between(1, 6)).unwrap_or(1),
            batch_max: choices.pick(&[1, 3, 32]),
            optimistic: true,
            contested: choices.pick(&[0, 2, 1]),
            asking: choices.pick(&[0, 2, 1]),
            ..workload(choices, scenario, outsiders.collect(), span_ms)
        });
    }
    workloads
}

fn workload(choices: &mut Choices<'_>, scenario: &Scenario, replicas: Vec<usize>, span_ms: u64) -> Workload {
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let is_large = choices.once_in(6);
    // Through a narrow path large values take longer than all may take to agree.
    let is_fast = is_fast(&scenario.network);
    let appends = choices.between(2, if is_large { 10 } else { 24 });
    let batch_max = choices.pick(&[1, 3, 2, 6, 40]);
    // Long runs say little more than short ones, and take their time.
    let most = VALUES_MAX / ((u64::from(batch_max) / 2 + 1) * replicas.len() as u64);
    Workload {
        appends: small(appends.min(most.max(2))),
        batch_max,
        keys: choices.pick(&[32, 4, 8, 200, 2]),
        key_bytes_max: choices.pick(&[0, 0, 0, 60, 400]),
        value_bytes_max: if is_large && is_fast {
            choices.pick(&[2_000, 6_000, 40_000])
        } else if is_large {
            choices.pick(&[1_000, 2_000])
        } else {
            choices.pick(&[0, 0, 100])
        },
        from_ms: 0,
        to_ms: span_ms,
        optimistic: false,
        refused: choices.pick(&[0, 0, 0, 12]),
        deletes: choices.pick(&[8, 2, 3, 0]),
        contested: choices.pick(&[0, 0, 0, 6]),
        asking: 0,
        anchors: choices.pick(&[0, 0, 0, 0, 10]),
        looks: 0,
        forgets: 0,
        left: 0,
        replicas,
    }
}
