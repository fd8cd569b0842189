//! What the faults of a scenario leave to be claimed.
//!
//! No fault takes the claim away that replicas with equal bytes have equal state. A disk that lies, decays or is lost
//! takes away what only it had; who writes under one key in two places splits its own log.

use std::collections::BTreeSet;

use crate::disk::DiskFaults;
use crate::network::PathConfig;
use crate::scenario::{Action, CrashMode, Hostile, Hostility, Scenario};

/// Clocks that are wrong by less than this are left alone: entries may be two hours ahead.
pub(crate) const SKEW_HARMLESS_MS: i64 = 110 * 60 * 1000;

/// What can be claimed of the replicas of a scenario, by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// Replicas that may lose entries that they acknowledged: their disk lies or decays, or they do not wait for it.
    pub forgetful: BTreeSet<usize>,
    /// Replicas whose directory is lost: only what others have of their earlier logs stays.
    pub wiped: BTreeSet<usize>,
    /// Replicas whose log may have two continuations: what they showed to others may be gone from their disk, or somebody
    /// else signs with their key. Hostile peers count behind the replicas.
    pub forking: BTreeSet<usize>,
    /// Replicas whose disk may give back what was never written to it.
    pub decaying: BTreeSet<usize>,
    /// Replicas whose disk may have lost what it said it had, so that they may not open again.
    pub damaged: BTreeSet<usize>,
    /// Replicas whose log has blocks that no program of theirs wrote: what comes behind them may wait for ever.
    pub forged: BTreeSet<usize>,
    /// Replicas whose clock was far ahead: what they took then may wait again, when they look at it with the clock put right.
    pub turned_back: BTreeSet<usize>,
    /// Replicas that do nothing for a while.
    pub paused: BTreeSet<usize>,
    /// Replicas whose disk fails, fills up or lies for a while.
    pub unsound: BTreeSet<usize>,
    /// How many hostile peers there are.
    pub hostile: usize,
    /// How many readers there are.
    pub readers: usize,
    /// How many logs there are beside the database.
    pub side_cores: usize,
    /// Replicas that never come back.
    pub lost: BTreeSet<usize>,
    /// Replicas that reach each other in the end.
    pub groups: Vec<Vec<usize>>,
    /// A log that belongs to no replica may have two continuations.
    pub is_split: bool,
    /// Links of the network stay cut, or replicas away, so that somebody dials in vain for ever.
    pub is_restless: bool,
    /// Replicas that may go on from the trees of others.
    pub forwarding: BTreeSet<usize>,
    /// Members are removed: who is none attests nothing.
    pub removes: bool,
    /// A replica may hold a peer to be at fault: some are, logs may have two continuations, or bytes are flipped on the
    /// way.
    pub may_blame: bool,
    /// No connection ends from the start of the plan on, and none is slow.
    pub is_undisturbed: bool,
    /// Pairs of replicas of which one dials the other, both ways around.
    pub connected: BTreeSet<(usize, usize)>,
    /// Those of them that reach each other in the end: neither way is cut for good.
    pub staying: BTreeSet<(usize, usize)>,
    /// What replicas do not agree on in the end is no mistake of theirs.
    pub may_disagree: bool,
}

impl Claims {
    /// What can be claimed of a scenario.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let mut claims = Self::default();
        let everybody = 0..scenario.replicas;
        for replica in everybody.clone() {
            claims.disk(replica, &scenario.disk);
        }
        let is_visible = |settings: &toml::Table| {
            settings.get("durability").and_then(toml::Value::as_str) == Some("visible")
        };
        let all_visible = is_visible(&scenario.settings);
        let mut cut = BTreeSet::new();
        let mut visible: BTreeSet<usize> = if all_visible {
            everybody.clone().collect()
        } else {
            BTreeSet::new()
        };
        for event in &scenario.event {
            match &event.action {
                Action::Disk { replica, faults } => {
                    claims.unsound.insert(*replica);
                    claims.disk(*replica, faults);
                }
                Action::Wipe { replica } => {
                    claims.wiped.insert(*replica);
                }
                Action::Remove { .. } => claims.removes = true,
                Action::Pause { replica } => {
                    claims.paused.insert(*replica);
                }
                Action::Restore { replica, .. } => {
                    claims.forking.insert(*replica);
                    claims.forgetful.insert(*replica);
                }
                Action::Skew { replica, ms } if *ms >= SKEW_HARMLESS_MS => {
                    claims.turned_back.insert(*replica);
                }
                Action::Forge { by, .. } => {
                    claims.forged.insert(*by);
                }
                Action::Crash {
                    replica,
                    lasting: true,
                    ..
                } => {
                    claims.lost.insert(*replica);
                }
                Action::Reopen {
                    replica, settings, ..
                } if is_visible(settings) => {
                    visible.insert(*replica);
                }
                Action::Cut {
                    from,
                    to,
                    lasting: true,
                } => {
                    cut.insert((*from, *to));
                }
                _ => {}
            }
        }
        claims.hostile = scenario.hostile.len();
        claims.readers = scenario.reader.len();
        claims.forwarding.extend(&scenario.forward);
        claims.side_cores = scenario.core.len();
        for (number, hostile) in scenario.hostile.iter().enumerate() {
            let own = hostile.forks_itself().then_some(scenario.replicas + number);
            claims.forking.extend(hostile.may_fork().or(own));
        }
        for hostile in &scenario.hostile {
            if let Some(replica) = hostile.may_fork() {
                claims.forking.insert(replica);
                claims.forgetful.insert(replica);
            }
            claims.is_split |= hostile.forks_itself();
            // It may stay, and go on.
            claims.is_restless = true;
        }
        let loses_power = |replica: usize| {
            scenario.event.iter().any(|event| match &event.action {
                Action::Crash {
                    replica: other, mode, ..
                } => *other == replica && *mode == CrashMode::PowerLoss,
                Action::Blackout { replica: other } | Action::CrashPoint { replica: other, .. } => {
                    *other == replica
                }
                _ => false,
            })
        };
        let unsynced = visible.into_iter().filter(|replica| loses_power(*replica));
        claims.forgetful.extend(unsynced);
        claims.is_restless |= !cut.is_empty() || !claims.lost.is_empty() || !claims.damaged.is_empty();
        claims.may_disagree = !claims.forking.is_empty() || !claims.decaying.is_empty() || claims.is_split;
        let may_differ = claims.may_disagree
            || !claims.damaged.is_empty()
            || paths(scenario).any(|path| path.corrupt_64k > 0);
        claims.may_blame = may_differ || claims.hostile > 0;
        claims.is_undisturbed = !may_differ && is_undisturbed(scenario);
        let pairs = everybody.clone().flat_map(|a| (0..a).map(move |b| (a, b)));
        let pairs = pairs.filter(|(a, b)| scenario.connects(*a, *b));
        claims.connected = pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
        let pairs = claims.connected.iter().copied();
        claims.staying = pairs
            .filter(|(a, b)| !cut.contains(&(*a, *b)) && !cut.contains(&(*b, *a)))
            .collect();
        claims.groups = groups(
            everybody
                .filter(|replica| !claims.lost.contains(replica))
                .collect(),
            |a, b| claims.staying.contains(&(a, b)),
        );
        claims
    }

    /// The log of a replica may have blocks that this one did not write in this life: somebody else signs with its key, or
    /// what it wrote before comes back to it.
    #[must_use]
    pub fn has_other_blocks(&self, replica: usize) -> bool {
        self.forged.contains(&replica) || self.forking.contains(&replica)
    }

    fn disk(&mut self, replica: usize, faults: &DiskFaults) {
        if faults.sync_lie > 0 || faults.short_file > 0 {
            self.forgetful.insert(replica);
            self.forking.insert(replica);
            self.damaged.insert(replica);
        }
        if faults.bit_rot > 0 || faults.write_astray > 0 {
            self.forgetful.insert(replica);
            self.forking.insert(replica);
            self.decaying.insert(replica);
            self.damaged.insert(replica);
        }
    }

    /// True when some log may have two continuations.
    #[must_use]
    pub fn may_fork(&self) -> bool {
        !self.forking.is_empty() || self.is_split
    }

    /// True when the replicas that are there reach each other in the end.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.groups.len() <= 1
    }
}

/// The ways of a scenario, before and after its events.
fn paths(scenario: &Scenario) -> impl Iterator<Item = &PathConfig> {
    let events = scenario.event.iter().filter_map(|event| match &event.action {
        Action::Path { path, .. } => Some(path),
        _ => None,
    });
    std::iter::once(&scenario.network).chain(events)
}

/// The longest way that what is here soon may take, in microseconds.
const NEAR_US: u64 = 100_000;

/// True when no event ends a connection, stops a replica or takes from its disk, the network is fast, and who is hostile at
/// most forges blocks.
fn is_undisturbed(scenario: &Scenario) -> bool {
    let network = &scenario.network;
    let usual = PathConfig::default();
    let longest = network.latency_us_max + network.offset_us_max;
    let is_spiky = network.spike_64k > usual.spike_64k || network.spike_us_max > usual.spike_us_max;
    let is_near = longest <= NEAR_US && !is_spiky;
    let is_fast = network.bytes_per_ms >= usual.bytes_per_ms && network.read_max == 0;
    let is_sound = network.tear_64k == 0 && network.refuse_64k == 0 && network.hang_64k == 0;
    // Who is silent for longer than an answer may take is not asked for a while, at first for twice that time.
    let answers_in = scenario
        .settings
        .get("answer_ms_max")
        .and_then(toml::Value::as_integer);
    let is_patient = answers_in.is_some_and(|most| most <= SHORT_ANSWER_MS) && pauses_are_short(scenario);
    let is_harmless = |action: &Action| {
        let is_pause = matches!(action, Action::Pause { .. } | Action::Resume { .. });
        is_patient && is_pause
            || matches!(
                action,
                Action::Heal
                    | Action::Ack { .. }
                    | Action::Add { .. }
                    | Action::Remove { .. }
                    | Action::Join { .. }
            )
    };
    // Others have peers wait for what they claim to have.
    let is_harmless_peer = |hostile: &Hostile| hostile.kind == Hostility::ForgedBlocks;
    is_near
        && scenario.hostile.iter().all(is_harmless_peer)
        // Peers are let go.
        && scenario.keeping.is_empty()
        && is_fast
        && is_sound
        && scenario.event.iter().all(|event| is_harmless(&event.action))
}

/// Up to which time an answer may take so that a peer that was silent is asked again soon.
const SHORT_ANSWER_MS: i64 = 500;

/// How long a pause may be that keeps what is handed on waiting for less than that may.
const SHORT_PAUSE_MS: u64 = 1500;

fn pauses_are_short(scenario: &Scenario) -> bool {
    let mut pauses = scenario.event.iter().filter_map(|event| match event.action {
        Action::Pause { replica } => Some((replica, event.at_ms)),
        _ => None,
    });
    pauses.all(|(replica, at)| {
        scenario.event.iter().any(|event| {
            let goes_on = matches!(event.action, Action::Resume { replica: other } if other == replica);
            goes_on && (at..=at + SHORT_PAUSE_MS).contains(&event.at_ms)
        })
    })
}

/// Splits replicas into those that reach each other.
fn groups(mut left: Vec<usize>, connected: impl Fn(usize, usize) -> bool) -> Vec<Vec<usize>> {
    let mut groups = Vec::new();
    while let Some(first) = left.pop() {
        let mut group = vec![first];
        let mut next = 0;
        while let Some(member) = group.get(next).copied() {
            next += 1;
            let (reached, rest) = left.iter().partition(|other| connected(member, **other));
            left = rest;
            let reached: Vec<usize> = reached;
            group.extend(reached);
        }
        group.sort_unstable();
        groups.push(group);
    }
    groups.sort();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_that_is_cut_for_good_is_two_groups() {
        let text = "about = ''\nreplicas = 4\ntopology = 'chain'\n[[event]]\nat_ms = 1\ndo = 'cut'\nfrom = 2\nto = 1\nlasting = true";
        let scenario = Scenario::parse("test", text).unwrap();
        let claims = Claims::new(&scenario);
        assert_eq!(claims.groups, [vec![0, 1], vec![2, 3]]);
        assert!(claims.is_restless && !claims.is_whole() && !claims.may_disagree);
    }

    #[test]
    fn who_does_not_wait_for_its_disk_may_forget_when_the_power_is_lost() {
        let text = "about = ''\nreplicas = 2\n[settings]\ndurability = 'visible'\n[[event]]\nat_ms = 1\ndo = 'crash'\nreplica = 1\nmode = 'power-loss'";
        let scenario = Scenario::parse("test", text).unwrap();
        assert_eq!(Claims::new(&scenario).forgetful, BTreeSet::from([1]));
    }
}
