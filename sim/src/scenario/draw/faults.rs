//! What befalls the replicas of a generated scenario.

use std::collections::BTreeSet;

use super::{Action, Choices, DiskFaults, Event, PathConfig};
use crate::scenario::{CrashMode, Scenario};

/// Two hours: how far ahead of a clock the time of an entry may be.
const FUTURE_MS: i64 = 2 * 60 * 60 * 1000;

/// Kinds of misfortune. Each draws its beginning and its end.
const KINDS: &[Kind] = &[
    Kind::Partition,
    Kind::PowerLoss,
    Kind::Kill,
    Kind::Blackout,
    Kind::Remove,
    Kind::Add,
    Kind::Cut,
    Kind::Reset,
    Kind::Mute,
    Kind::Pause,
    Kind::Skew,
    Kind::Future,
    Kind::Drift,
    Kind::SlowPath,
    Kind::Flap,
    Kind::Swizzle,
    Kind::Reopen,
    Kind::Late,
    Kind::DiskError,
    Kind::DiskFull,
    Kind::LostForGood,
    Kind::CutForGood,
    Kind::Wipe,
    Kind::Ack,
    Kind::Forge,
    Kind::Isolate,
    Kind::Islands,
    Kind::CrashLoop,
    Kind::RemoveRace,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Partition,
    PowerLoss,
    Kill,
    Blackout,
    Remove,
    Add,
    Cut,
    Reset,
    Mute,
    Pause,
    Skew,
    Future,
    Drift,
    SlowPath,
    Flap,
    Swizzle,
    Reopen,
    Late,
    DiskError,
    DiskFull,
    LostForGood,
    CutForGood,
    Wipe,
    Ack,
    Forge,
    Isolate,
    Islands,
    CrashLoop,
    RemoveRace,
}

/// Events that are being drawn.
pub(super) struct Faults<'a, 'b> {
    pub(super) choices: &'a mut Choices<'b>,
    replicas: usize,
    span_ms: u64,
    kinds: Vec<Kind>,
    events: Vec<Event>,
    late: BTreeSet<usize>,
    /// Replicas that are nobody's writers.
    outsiders: Vec<usize>,
    /// Replicas that are lost for good: one at most, and never the creator.
    lost: BTreeSet<usize>,
}

impl<'a, 'b> Faults<'a, 'b> {
    pub(super) fn new(choices: &'a mut Choices<'b>, scenario: &Scenario, span_ms: u64) -> Self {
        let replicas = scenario.replicas;
        let is_swarm = choices.once_in(2);
        let mut kinds = KINDS.to_vec();
        // A block that is not encrypted is no block of an encrypted log.
        kinds.retain(|kind| *kind != Kind::Forge || !scenario.encrypted);
        if is_swarm {
            kinds.retain(|_| choices.once_in(4));
        }
        if kinds.is_empty() {
            kinds.push(KINDS[choices.index(8)]);
        }
        Self {
            choices,
            replicas,
            span_ms,
            kinds,
            events: Vec::new(),
            late: BTreeSet::new(),
            outsiders: scenario.outsiders().into_iter().collect(),
            lost: BTreeSet::new(),
        }
    }

    /// Draws misfortunes of these kinds alone.
    pub(super) fn of(
        choices: &'a mut Choices<'b>,
        scenario: &Scenario,
        span_ms: u64,
        is_wanted: impl Fn(Kind) -> bool,
    ) -> Self {
        let mut faults = Self::new(choices, scenario, span_ms);
        let wanted: Vec<Kind> = KINDS.iter().copied().filter(|kind| is_wanted(*kind)).collect();
        // What swarm testing left of them, unless it left none.
        let drawn: Vec<Kind> = wanted
            .iter()
            .copied()
            .filter(|kind| faults.kinds.contains(kind))
            .collect();
        faults.kinds = if drawn.is_empty() { wanted } else { drawn };
        faults
    }

    /// The events that were drawn, and no others.
    pub(super) fn into_events(self) -> Vec<Event> {
        self.events
    }

    /// One fault after which less can be claimed: a disk that lies or decays, or a writer that goes on from an old copy.
    pub(super) fn weaken(&mut self) {
        let (from, to) = self.span();
        let replica = self.member();
        let share = self.choices.pick(&[300, 3_000, 20_000]);
        match self.choices.below(4) {
            0 => {
                let faults = DiskFaults {
                    sync_lie: share,
                    ..DiskFaults::default()
                };
                self.at(from, Action::Disk { replica, faults });
                self.crash(replica, CrashMode::PowerLoss, to, to + 100);
            }
            1 => {
                let faults = DiskFaults {
                    bit_rot: share / 50,
                    ..DiskFaults::default()
                };
                self.at(from, Action::Disk { replica, faults });
                self.crash(replica, CrashMode::Kill, to, to + 100);
            }
            2 => {
                let faults = DiskFaults {
                    write_astray: share / 20,
                    ..DiskFaults::default()
                };
                self.at(from, Action::Disk { replica, faults });
                self.crash(replica, CrashMode::PowerLoss, to, to + 100);
            }
            _ => {
                self.at(from, Action::Backup { replica });
                let told = self.choices.once_in(2);
                self.at(to, Action::Restore { replica, told });
            }
        }
    }

    /// The events, in the order in which they were drawn. At times everybody loses power when all is done, and what was
    /// acknowledged last must be there.
    pub(super) fn finish(mut self) -> Vec<Event> {
        if self.choices.once_in(3) {
            for replica in 0..self.replicas {
                let down = self.span_ms + self.choices.below(40);
                self.crash(replica, CrashMode::PowerLoss, down, down + 100);
            }
        }
        self.events
    }

    fn at(&mut self, at_ms: u64, action: Action) {
        self.events.push(Event { at_ms, action });
    }

    fn replica(&mut self) -> usize {
        self.choices.index(self.replicas)
    }

    /// Some replica but this one.
    fn other(&mut self, than: usize) -> usize {
        (than + 1 + self.choices.index(self.replicas - 1)) % self.replicas
    }

    /// Two times, the second after the first.
    fn span(&mut self) -> (u64, u64) {
        let from = self.choices.below(self.span_ms);
        (from, from + 1 + self.choices.below(self.span_ms / 2))
    }

    /// Draws one misfortune.
    pub(super) fn draw(&mut self) {
        let kind = self.kinds[self.choices.index(self.kinds.len())];
        let (from, to) = self.span();
        let replica = self.replica();
        let other = self.other(replica);
        match kind {
            Kind::Partition => {
                let groups = self.groups();
                self.at(from, Action::Partition { groups });
                self.at(to, Action::Heal);
            }
            Kind::Islands => {
                let groups = (0..self.replicas).map(|member| vec![member]).collect();
                self.at(from, Action::Partition { groups });
                self.at(to, Action::Heal);
            }
            Kind::Isolate => {
                let rest = (0..self.replicas).filter(|member| *member != replica).collect();
                let groups = vec![vec![replica], rest];
                self.at(from, Action::Partition { groups });
                self.at(to, Action::Heal);
            }
            Kind::PowerLoss => self.crash(replica, CrashMode::PowerLoss, from, to),
            Kind::Kill => self.crash(replica, CrashMode::Kill, from, to),
            Kind::Blackout => {
                for turn in 0..self.choices.between(1, 4) {
                    let at = from + turn * 400;
                    self.at(at, Action::Blackout { replica });
                    let up = at + 200 + self.choices.below(300);
                    self.at(up, Action::Restart { replica });
                }
            }
            Kind::CrashLoop => {
                // Short lives: what a process left in the cache is still there when the next one loses its power.
                let step = self.choices.pick(&[300, 100, 40]);
                for turn in 0..self.choices.between(2, 5) {
                    let down = from + turn * step;
                    let mode = self.choices.pick(&[CrashMode::PowerLoss, CrashMode::Kill]);
                    let up = down + 1 + self.choices.below(step / 2);
                    self.crash(replica, mode, down, up);
                }
            }
            Kind::Cut | Kind::CutForGood => {
                let lasting = kind == Kind::CutForGood;
                let (a, b) = (replica, other);
                self.at(
                    from,
                    Action::Cut {
                        from: a,
                        to: b,
                        lasting,
                    },
                );
                if self.choices.once_in(2) {
                    self.at(
                        from,
                        Action::Cut {
                            from: b,
                            to: a,
                            lasting,
                        },
                    );
                }
                if !lasting {
                    self.at(to, Action::Open { from: a, to: b });
                    self.at(to, Action::Open { from: b, to: a });
                }
            }
            Kind::Flap => {
                let step = 1 + self.choices.below(400);
                for turn in 0..4 {
                    let at = from + turn * step * 2;
                    self.at(
                        at,
                        Action::Cut {
                            from: replica,
                            to: other,
                            lasting: false,
                        },
                    );
                    self.at(
                        at + step,
                        Action::Open {
                            from: replica,
                            to: other,
                        },
                    );
                }
            }
            Kind::Swizzle => self.swizzle(from),
            Kind::Reset => {
                for turn in 0..self.choices.between(1, 4) {
                    self.at(from + turn * 37, Action::Reset { a: replica, b: other });
                }
            }
            Kind::Mute => {
                for turn in 0..self.choices.between(1, 3) {
                    self.at(from + turn * 400, Action::Mute { a: replica, b: other });
                }
            }
            Kind::SlowPath => {
                let path = super::network(self.choices);
                self.at(
                    from,
                    Action::Path {
                        from: replica,
                        to: other,
                        path,
                    },
                );
                self.at(
                    to,
                    Action::Path {
                        from: replica,
                        to: other,
                        path: PathConfig::default(),
                    },
                );
            }
            Kind::Pause => {
                self.at(from, Action::Pause { replica });
                // Long enough, at times, for peers to give it up.
                let long = if self.choices.once_in(3) { 20_000 } else { 0 };
                self.at(to + long, Action::Resume { replica });
            }
            Kind::Skew => {
                let ms = self.choices.pick(&[1_000, 60_000, 3_600_000, 7_000_000]);
                let sign = self.choices.pick(&[1, -1]);
                self.at(
                    from,
                    Action::Skew {
                        replica,
                        ms: sign * ms,
                    },
                );
            }
            Kind::Future => {
                // What it writes is too far ahead of the others' clocks for a few seconds.
                let ms = FUTURE_MS + i64::try_from(self.choices.between(500, 5_000)).unwrap_or(500);
                let ms = self.choices.pick(&[ms, ms, 4 * FUTURE_MS, -ms]);
                self.at(from, Action::Skew { replica, ms });
                self.at(to, Action::Skew { replica, ms: 0 });
            }
            Kind::Drift => {
                let ppm = self.choices.pick(&[200_000, -200_000, 100, -100]);
                self.at(from, Action::Drift { replica, ppm });
            }
            Kind::Remove => {
                let target = self.member();
                self.at(from, Action::Remove { by: replica, target });
                if self.choices.once_in(2) {
                    let weight = self.weight();
                    let by = self.replica();
                    self.at(to, Action::Add { by, target, weight });
                }
            }
            Kind::Add => {
                let weight = self.weight();
                self.at(
                    from,
                    Action::Add {
                        by: replica,
                        target: other,
                        weight,
                    },
                );
            }
            Kind::Ack => {
                let is_outsider = !self.outsiders.is_empty() && self.choices.once_in(2);
                let target = if is_outsider {
                    self.choices.pick(&self.outsiders)
                } else {
                    other
                };
                let by = if is_outsider && self.choices.once_in(2) {
                    target
                } else {
                    replica
                };
                self.at(from, Action::Ack { by, target });
            }
            Kind::RemoveRace => {
                // It goes on writing apart from the others, who remove it, and perhaps take it back.
                let target = self.member();
                let rest = (0..self.replicas).filter(|member| *member != target).collect();
                let groups = vec![vec![target], rest];
                self.at(from, Action::Partition { groups });
                let by = self.other(target);
                let removed = from + self.choices.below(500);
                self.at(removed, Action::Remove { by, target });
                self.at(to.max(removed), Action::Heal);
                if self.choices.once_in(2) {
                    let weight = self.weight();
                    let by = self.other(target);
                    let at = removed + self.choices.below(self.span_ms / 2);
                    self.at(at, Action::Add { by, target, weight });
                }
            }
            Kind::Forge => {
                let by = self.member();
                self.at(from, Action::Forge { by, backer: other });
            }
            Kind::Reopen => {
                let mut settings = toml::Table::new();
                if self.choices.once_in(2) {
                    let window = self.choices.pick(&[1_i64, 4, 64, 8_192]);
                    settings.insert("window_batches".into(), window.into());
                }
                self.at(
                    from,
                    Action::Reopen {
                        replica,
                        settings,
                        apply_version: None,
                    },
                );
            }
            Kind::Late => {
                let replica = self.member();
                if self.late.insert(replica) {
                    self.at(from, Action::Join { replica });
                    let by = self.other(replica);
                    let weight = self.weight();
                    self.at(
                        to,
                        Action::Add {
                            by,
                            target: replica,
                            weight,
                        },
                    );
                }
            }
            Kind::DiskError => {
                let share = self.choices.pick(&[200, 1_000, 5_000]);
                let faults = match self.choices.below(4) {
                    0 => DiskFaults {
                        sync_error: share,
                        ..DiskFaults::default()
                    },
                    1 => DiskFaults {
                        write_error: share,
                        ..DiskFaults::default()
                    },
                    2 => DiskFaults {
                        read_error: share,
                        ..DiskFaults::default()
                    },
                    _ => DiskFaults {
                        sync_error: share,
                        write_error: share,
                        read_error: share,
                        ..DiskFaults::default()
                    },
                };
                self.disk(replica, faults, from, to);
            }
            Kind::DiskFull => {
                let quota_bytes = Some(self.choices.between(1, 200) * 1_024);
                self.disk(
                    replica,
                    DiskFaults {
                        quota_bytes,
                        ..DiskFaults::default()
                    },
                    from,
                    to,
                );
            }
            Kind::LostForGood => {
                let replica = self.member();
                if self.lost.is_empty() && self.replicas > 2 && self.lost.insert(replica) {
                    let mode = self.choices.pick(&[CrashMode::PowerLoss, CrashMode::Kill]);
                    let at = self.span_ms + 1;
                    self.at(
                        at,
                        Action::Crash {
                            replica,
                            mode,
                            lasting: true,
                        },
                    );
                }
            }
            Kind::Wipe => {
                let replica = self.member();
                self.at(from, Action::Wipe { replica });
                let by = self.other(replica);
                let weight = self.weight();
                self.at(
                    to,
                    Action::Add {
                        by,
                        target: replica,
                        weight,
                    },
                );
            }
        }
    }

    fn crash(&mut self, replica: usize, mode: CrashMode, from: u64, to: u64) {
        self.at(
            from,
            Action::Crash {
                replica,
                mode,
                lasting: false,
            },
        );
        self.at(to, Action::Restart { replica });
    }

    /// A disk goes wrong for a while. Often the power is lost meanwhile.
    fn disk(&mut self, replica: usize, faults: DiskFaults, from: u64, to: u64) {
        self.at(from, Action::Disk { replica, faults });
        if self.choices.once_in(2) {
            self.crash(replica, CrashMode::PowerLoss, from + (to - from) / 2, to);
        }
        self.at(
            to,
            Action::Disk {
                replica,
                faults: DiskFaults::default(),
            },
        );
    }

    /// Replicas are cut off one by one, and come back in another order.
    fn swizzle(&mut self, from: u64) {
        let step = 1 + self.choices.below(300);
        let members: Vec<usize> = (0..self.replicas).filter(|_| self.choices.once_in(2)).collect();
        let mut at = from;
        for cut in &members {
            for other in (0..self.replicas).filter(|other| other != cut) {
                self.at(
                    at,
                    Action::Cut {
                        from: *cut,
                        to: other,
                        lasting: false,
                    },
                );
            }
            at += step;
        }
        for cut in members.iter().rev() {
            for other in (0..self.replicas).filter(|other| other != cut) {
                self.at(
                    at,
                    Action::Open {
                        from: *cut,
                        to: other,
                    },
                );
            }
            at += step;
        }
    }

    fn groups(&mut self) -> Vec<Vec<usize>> {
        let count = self.choices.between(2, 3).min(self.replicas as u64);
        let mut groups = vec![Vec::new(); usize::try_from(count).unwrap_or(2)];
        for replica in 0..self.replicas {
            let group = self.choices.index(groups.len());
            groups[group].push(replica);
        }
        groups.retain(|group| !group.is_empty());
        groups
    }

    /// The creator granted everybody; without it the grants of a run could be taken back for good.
    fn member(&mut self) -> usize {
        1 + self.choices.index(self.replicas - 1)
    }

    fn weight(&mut self) -> u64 {
        self.choices.pick(&[2, 0, 1, 3, 5, 7])
    }
}
