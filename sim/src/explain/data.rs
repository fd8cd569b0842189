//! What an explanation is made of. Everything in it can be written as JSON.

use serde::Serialize;

/// Why a run failed: who differs from whom, in what, since when, and what happened before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The name of what failed; none for a run that did not.
    pub failure: Option<String>,
    /// What was found, with entries as `name@length`.
    pub violations: Vec<String>,
    /// When it was found, in milliseconds of virtual time since the world began.
    pub found_ms: u64,
    /// When the plan began and all was healed.
    pub phases: Phases,
    /// Who is at odds, by name.
    pub who: Vec<String>,
    /// The entries that it is about, as `name@length`.
    pub entries: Vec<String>,
    /// Where it was seen first.
    pub since: Option<Since>,
    /// What the model says of each replica.
    pub verdicts: Vec<Verdict>,
    /// Where two orders part.
    pub fork: Option<Fork>,
    /// Entries that one side has in order, and the other does not.
    pub lacking: Vec<Lacking>,
    /// Where two views part.
    pub value: Option<ValueDifference>,
    /// A record of a writer that differs.
    pub record: Option<RecordDifference>,
    /// Blocks of logs that do not get further, and who has them.
    pub gaps: Vec<Gap>,
    /// Where the entries that it is about are.
    pub places: Vec<Place>,
    /// Further facts, a sentence each.
    pub facts: Vec<String>,
    /// The last faults before it.
    pub faults: Vec<Happening>,
    /// The last undos before it.
    pub undos: Vec<Happening>,
    /// What the engine of the replica did about the time when it was seen first.
    pub deeds: Vec<Happening>,
    /// The layer to look into.
    pub layer: Option<LayerHint>,
}

/// Parts of a run, in milliseconds of virtual time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Phases {
    /// The plan of the scenario began: its times count from here.
    pub plan_ms: Option<u64>,
    /// All faults ended.
    pub healed_ms: Option<u64>,
}

/// Between two looks something went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Since {
    /// At which replica.
    pub replica: String,
    /// The last look at which it was well; none when it never was.
    pub good_ms: Option<u64>,
    /// The first at which it was not.
    pub bad_ms: u64,
    /// What was well, and is not.
    pub what: String,
}

/// What the model says of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verdict {
    /// Its name.
    pub replica: String,
    /// True when order, weights, records and view are what the model makes of its blocks; none when it was not asked.
    pub agrees: Option<bool>,
    /// Entries in its order.
    pub entries: usize,
    /// Where it differs first, or why nobody asked.
    pub what: Option<String>,
}

/// Where two orders part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fork {
    /// Entries that both have in common before it.
    pub common: usize,
    /// The last of those.
    pub last_common: Option<String>,
    /// What stands there at a replica.
    pub ours: Side,
    /// What stands there at another one, or in the model.
    pub theirs: Side,
    /// What the rule says, and why.
    pub rule: Option<RuleSaid>,
}

/// One side of a fork.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Side {
    /// Whose order it is.
    pub who: String,
    /// The entries from the fork on, a few of them.
    pub entries: Vec<EntryShown>,
}

/// An entry of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EntryShown {
    /// Its name, as `name@length`.
    pub name: String,
    /// The weight that it has there.
    pub weight: u64,
    /// Its timestamp, in milliseconds since the world began.
    pub stamp_ms: Option<i64>,
    /// What it names, as `name@length`.
    pub links: Vec<String>,
    /// What it says.
    pub op: String,
}

/// Which part of the rule orders the two entries of a fork.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RuleSaid {
    /// The entry that comes first.
    pub first: String,
    /// The other one.
    pub second: String,
    /// `causal`, `weight`, `timestamp`, `key`, `length`, `not admitted` or `waits`.
    pub part: &'static str,
    /// In words.
    pub why: String,
}

/// Entries that one side has in order, and the other does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Lacking {
    /// Who has them.
    pub has: String,
    /// Who lacks them.
    pub lacks: String,
    /// Runs of entries, as `name@first..last`.
    pub entries: Vec<String>,
    /// How many they are.
    pub count: usize,
}

/// Where two views part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ValueDifference {
    /// The key.
    pub key: String,
    /// Whose view it is.
    pub ours: String,
    /// What is there.
    pub our_value: Option<String>,
    /// Whose the other one is.
    pub theirs: String,
    /// What is there.
    pub their_value: Option<String>,
    /// How many keys differ.
    pub differing: usize,
    /// The entries that wrote to the key, in order, with what they did.
    pub written_by: Vec<String>,
}

/// A record that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecordDifference {
    /// Of whom.
    pub writer: String,
    /// Who has it so.
    pub ours: String,
    /// What it is there.
    pub our_record: String,
    /// Who has it otherwise.
    pub theirs: String,
    /// What it is there.
    pub their_record: String,
}

/// Blocks of a log that one replica does not get, take, or order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Gap {
    /// Who lacks them.
    pub replica: String,
    /// Which, as `name@first..last`.
    pub blocks: String,
    /// How far they came there.
    pub stage: Stage,
    /// Who has them.
    pub at: Vec<String>,
    /// What else is known.
    pub why: String,
}

/// How far blocks came at a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It does not know of the log.
    Unknown,
    /// Its owner has them, and does not show them to peers.
    Unshown,
    /// It does not know that the log is so long.
    Unheard,
    /// It knows the length, and does not have the blocks.
    Missing,
    /// They are stored, and did not go to the engine.
    Untaken,
    /// The engine has them, and they wait for what they name.
    Waiting,
    /// Nothing is missing, and they are not in order.
    Unordered,
}

/// Where one entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Place {
    /// The entry, as `name@length`.
    pub entry: String,
    /// What it says.
    pub op: String,
    /// Who has its block.
    pub stored: Vec<String>,
    /// Who has it in order.
    pub ordered: Vec<String>,
    /// Its append returned.
    pub acknowledged: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Happening {
    /// When, in milliseconds of virtual time.
    pub at_ms: u64,
    /// At whom; none when it concerns all.
    pub replica: Option<String>,
    /// What.
    pub what: String,
}

/// The layer that the evidence points to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LayerHint {
    /// `store`, `hypercore`, `replication`, `engine`, `bee`, `db`, or several of them.
    pub layer: String,
    /// Why.
    pub because: String,
}
