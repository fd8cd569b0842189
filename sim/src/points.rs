//! Points that the engine offers to the simulator: rare paths to force, defects to plant, states worth reaching.

use std::collections::{BTreeMap, BTreeSet};

use autobee::env::Point;

use crate::seed::{Seeds, Stream};

/// How often a point is armed in a run, and how often an armed one fires: a quarter.
const SHARE_64K: u32 = 16_384;

/// The points of one run.
#[derive(Debug)]
pub(crate) struct Points {
    seeds: Seeds,
    buggify: bool,
    disarmed: BTreeSet<String>,
    planted: BTreeSet<String>,
    knobs: BTreeMap<String, u64>,
    /// The stream that decides when a point fires; `None` when it is not armed in this run.
    streams: BTreeMap<&'static str, Option<Stream>>,
    /// How often a state was looked for, and how often it was seen.
    sometimes: BTreeMap<Point, (u64, u64)>,
}

impl Points {
    pub(crate) fn new(
        seeds: Seeds,
        buggify: bool,
        disarmed: BTreeSet<String>,
        planted: BTreeSet<String>,
        knobs: BTreeMap<String, u64>,
    ) -> Self {
        Self {
            seeds,
            buggify,
            disarmed,
            planted,
            knobs,
            streams: BTreeMap::new(),
            sometimes: BTreeMap::new(),
        }
    }

    /// Whether the rare path `point` is to be taken now.
    pub(crate) fn fires(&mut self, point: &'static str) -> bool {
        if !self.buggify {
            return false;
        }
        let stream = self.streams.entry(point).or_insert_with(|| {
            let armed = self.seeds.stream("buggify arm", &[point]).chance(SHARE_64K);
            (armed && !self.disarmed.contains(point)).then(|| self.seeds.stream("buggify fire", &[point]))
        });
        stream.as_mut().is_some_and(|stream| stream.chance(SHARE_64K))
    }

    /// Points that are armed fire by other draws from now on.
    pub(crate) fn reseed(&mut self, seeds: Seeds) {
        for (point, stream) in &mut self.streams {
            if let Some(stream) = stream {
                *stream = seeds.stream("buggify fire", &[point]);
            }
        }
    }

    /// A number below `bound`, for a point that fires.
    pub(crate) fn below(&mut self, point: &'static str, bound: u64) -> u64 {
        let stream = self.streams.get_mut(point).and_then(Option::as_mut);
        stream.map_or(0, |stream| stream.below(bound))
    }

    /// Whether the engine is to have the defect `bug`.
    pub(crate) fn is_planted(&self, bug: &str) -> bool {
        self.planted.contains(bug)
    }

    /// The value that this run has for the number `name`.
    pub(crate) fn knob(&self, name: &str) -> Option<u64> {
        self.knobs.get(name).copied()
    }

    /// Counts a look at `point`. True when it was seen for the first time.
    pub(crate) fn sometimes(&mut self, point: Point, seen: bool) -> bool {
        let (looked, saw) = self.sometimes.entry(point).or_default();
        *looked += 1;
        *saw += u64::from(seen);
        seen && *saw == 1
    }

    /// Points that were reached and are armed.
    pub(crate) fn armed(&self) -> BTreeSet<&'static str> {
        let armed = self.streams.iter().filter(|(_, stream)| stream.is_some());
        armed.map(|(point, _)| *point).collect()
    }

    /// Per point: looks and sights.
    pub(crate) const fn counts(&self) -> &BTreeMap<Point, (u64, u64)> {
        &self.sometimes
    }
}
