//! Reading scenario files, and refusing what makes no sense.

use std::path::{Path, PathBuf};

use autobee::env::Slip;
use autobee::env::knob::Knob;
use thiserror::Error;

use super::unknown::unknown_field;
use super::{Action, Scenario};

const REPLICAS_MAX: usize = 1024;
const APPENDS_MAX: u64 = 1_000_000;
const TIME_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;

/// A scenario file that cannot be run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not a scenario. The message names line, column and field.
    #[error("{name}: {source}")]
    Syntax {
        /// The scenario.
        name: String,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A field has a value that cannot be.
    #[error("{name}: {field}: {why}")]
    Value {
        /// The scenario.
        name: String,
        /// The field, with its position in its list.
        field: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Scenario {
    /// Reads a scenario file. Unless it says its name, that is the file's, without the ending.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not a scenario that can be run.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "scenario files lie outside the simulated world"
        )]
        let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::Read {
            path: path.to_owned(),
            source,
        })?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Self::parse(&name.unwrap_or_default(), &text)
    }

    /// Reads a scenario from text.
    ///
    /// # Errors
    ///
    /// When the text is not a scenario that can be run.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        if let Some((field, why)) = unknown_field(text) {
            let name = name.to_owned();
            return Err(ScenarioError::Value { name, field, why });
        }
        let mut scenario: Self = toml::from_str(text).map_err(|source| ScenarioError::Syntax {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        if scenario.name.is_empty() {
            name.clone_into(&mut scenario.name);
        }
        scenario.check()?;
        Ok(scenario)
    }

    /// Refuses what makes no sense.
    pub(crate) fn check(&self) -> Result<(), ScenarioError> {
        self.validate()?;
        self.validate_appends()
    }

    /// The text of a file that says the same.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // Texts, integers and lists of them can always be written.
        toml::to_string(self).unwrap_or_default()
    }

    /// Why `planted` makes no sense, when it does not: a name that nobody knows would plant nothing.
    pub(crate) fn unknown_slip(&self) -> Option<String> {
        let name = self.planted.iter().find(|name| !is_slip(name))?;
        Some(format!("there is no slip {name:?}; {}", near(name)))
    }

    fn validate(&self) -> Result<(), ScenarioError> {
        let refuse = |field: String, why: String| {
            Err(ScenarioError::Value {
                name: self.name.clone(),
                field,
                why,
            })
        };
        if self.replicas == 0 || self.replicas > REPLICAS_MAX {
            return refuse(
                "replicas".into(),
                format!("{} is not in 1..={REPLICAS_MAX}", self.replicas),
            );
        }
        if let Some(why) = self.unknown_slip() {
            return refuse("planted".into(), why);
        }
        let known = |replicas: &[usize]| replicas.iter().copied().find(|replica| *replica >= self.replicas);
        if let Some(replica) = known(&self.writers()) {
            return refuse("writers".into(), format!("there is no replica {replica}"));
        }
        if let Err(error) = self.replica_settings() {
            return refuse("settings".into(), error.message().into());
        }
        for (name, value) in &self.knobs {
            let Some(knob) = Knob::find(name) else {
                return refuse(format!("knobs.{name}"), "there is no such knob".into());
            };
            if !(knob.least..=knob.most).contains(value) {
                return refuse(
                    format!("knobs.{name}"),
                    format!("{value} is not in {}..={}", knob.least, knob.most),
                );
            }
        }
        if self.network.latency_us_min > self.network.latency_us_max {
            return refuse(
                "network.latency_us_min".into(),
                "is above network.latency_us_max".into(),
            );
        }
        if self.network.window == 0 {
            return refuse("network.window".into(), "nothing could ever be sent".into());
        }
        for (position, workload) in self.workload.iter().enumerate() {
            let field = |field: &str| format!("workload[{position}].{field}");
            if let Some(replica) = known(&workload.replicas) {
                return refuse(field("replicas"), format!("there is no replica {replica}"));
            }
            if workload.from_ms > workload.to_ms || workload.to_ms > TIME_MS_MAX {
                return refuse(
                    field("to_ms"),
                    format!("is not in {}..={TIME_MS_MAX}", workload.from_ms),
                );
            }
            if workload.batch_max == 0 || workload.keys == 0 {
                return refuse(field("batch_max, keys"), "must be at least 1".into());
            }
            if u64::from(workload.appends) * workload.replicas.len() as u64 > APPENDS_MAX {
                return refuse(
                    field("appends"),
                    format!("more than {APPENDS_MAX} appends in all"),
                );
            }
        }
        for (position, hostile) in self.hostile.iter().enumerate() {
            if let Some((field, why)) = hostile.refused(self.replicas, TIME_MS_MAX) {
                return refuse(format!("hostile[{position}].{field}"), why);
            }
        }
        for (position, reader) in self.reader.iter().enumerate() {
            if let Some((field, why)) = reader.refused(self.replicas) {
                return refuse(format!("reader[{position}].{field}"), why);
            }
        }
        for (position, core) in self.core.iter().enumerate() {
            if let Some((field, why)) = core.refused(self.replicas) {
                return refuse(format!("core[{position}].{field}"), why);
            }
        }
        for (position, event) in self.event.iter().enumerate() {
            let field = |field: &str| format!("event[{position}].{field}");
            if event.at_ms > TIME_MS_MAX {
                return refuse(field("at_ms"), format!("is above {TIME_MS_MAX}"));
            }
            if let Some(replica) = known(&event.action.replicas()) {
                return refuse(field("do"), format!("there is no replica {replica}"));
            }
            if let Action::Reopen { settings, .. } = &event.action
                && let Err(error) = settings.clone().try_into::<autobee::Settings>()
            {
                return refuse(field("settings"), error.message().into());
            }
            if let Action::Partition { groups } = &event.action {
                let mut all = groups.concat();
                all.sort_unstable();
                if let Some(twice) = all.windows(2).find(|pair| pair[0] == pair[1]) {
                    return refuse(field("groups"), format!("replica {} is in two groups", twice[0]));
                }
            }
        }
        Ok(())
    }

    fn validate_appends(&self) -> Result<(), ScenarioError> {
        for (position, append) in self.append.iter().enumerate() {
            let refuse = |field: &str, why: String| {
                Err(ScenarioError::Value {
                    name: self.name.clone(),
                    field: format!("append[{position}].{field}"),
                    why,
                })
            };
            if append.replica >= self.replicas {
                return refuse("replica", format!("there is no replica {}", append.replica));
            }
            if append.at_ms > TIME_MS_MAX {
                return refuse("at_ms", format!("is above {TIME_MS_MAX}"));
            }
            if append.ops.is_empty() {
                return refuse("ops", "must hold at least one".into());
            }
        }
        Ok(())
    }
}

fn is_slip(name: &str) -> bool {
    Slip::ALL.iter().any(|slip| slip.name() == name)
}

/// Names of slips that are most like this one, for whoever misspelt it.
fn near(name: &str) -> String {
    let mut names: Vec<(usize, &str)> = Slip::ALL
        .iter()
        .map(|slip| (distance(name, slip.name()), slip.name()))
        .collect();
    names.sort_unstable();
    let names: Vec<&str> = names.iter().take(3).map(|(_, name)| *name).collect();
    format!("the nearest are {}", names.join(", "))
}

/// How many letters must be put in, taken out or replaced to make one word of the other.
fn distance(from: &str, to: &str) -> usize {
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in (1..).zip(from.bytes()) {
        let mut before = std::mem::replace(&mut above[0], row);
        for (column, other) in (1..).zip(to.bytes()) {
            let replaced = before + usize::from(letter != other);
            before = above[column];
            above[column] = replaced.min(before + 1).min(above[column - 1] + 1);
        }
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Scenario::parse("test", text)
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn a_typo_names_line_and_field() {
        let message = refused("about = \"x\"\nreplicas = 2\nreplcas = 3\n");
        assert!(message.contains("line 3"), "{message}");
        assert!(message.contains("replcas"), "{message}");
    }

    #[test]
    fn values_that_cannot_be_name_their_field() {
        for (text, field) in [
            ("about = \"\"\nreplicas = 0", "replicas"),
            (
                "about = \"\"\nreplicas = 2\n[[event]]\nat_ms = 1\ndo = \"crash\"\nreplica = 2\nmode = \"kill\"",
                "event[0]",
            ),
            (
                "about = \"\"\nreplicas = 2\n[[event]]\nat_ms = 1\ndo = \"partition\"\ngroups = [[0], [0, 1]]",
                "event[0].groups",
            ),
            (
                "about = \"\"\nreplicas = 1\n[[workload]]\nreplicas = [1]\nappends = 1\nto_ms = 1",
                "workload[0].replicas",
            ),
        ] {
            let message = refused(text);
            assert!(message.contains(field), "{field}: {message}");
        }
    }

    #[test]
    fn a_misspelt_slip_is_refused_and_the_near_ones_are_named() {
        let plant = |name: &str| format!("about = \"\"\nreplicas = 2\nplanted = [\"{name}\"]");
        for slip in Slip::ALL {
            Scenario::parse("test", &plant(slip.name())).unwrap();
        }
        for misspelt in ["skiped_undo", "skipped-undo", "Skipped_Undo", "skipped_und"] {
            let message = refused(&plant(misspelt));
            assert!(
                message.contains(misspelt) && message.contains("nearest are skipped_undo,"),
                "{message}"
            );
        }
    }

    #[test]
    fn an_unknown_action_is_refused() {
        let message = refused("about = \"\"\nreplicas = 2\n[[event]]\nat_ms = 1\ndo = \"explode\"");
        assert!(message.contains("explode"), "{message}");
    }

    #[test]
    fn a_typo_in_an_action_is_refused() {
        let message = refused("about = \"\"\nreplicas = 2\n[[event]]\nat_ms = 1\ndo = \"heal\"\nreplica = 1");
        assert!(message.contains("replica"), "{message}");
    }

    #[test]
    fn a_misspelt_name_is_answered_with_what_was_meant() {
        let event = "about = \"\"\nreplicas = 2\n[[event]]\nat_ms = 1\n";
        for (text, named) in [
            ("about = \"\"\nreplicas = 2\nwrites = [1]".to_owned(), ["line 3", "`writers`"]),
            (format!("{event}do = \"restrat\"\nreplica = 1"), ["line 5", "`restart`"]),
            (format!("{event}do = \"restart\"\nreplcia = 1"), ["event[0].replcia", "`replica`"]),
            (
                format!("{event}do = \"path\"\nfrom = 0\nto = 1\npath = {{ latency_us_mx = 4 }}"),
                ["line 8", "`latency_us_max`"],
            ),
            (
                format!("{event}do = \"reopen\"\nreplica = 1\nsettings = {{ window_batch = 4 }}"),
                ["line 7", "`window_batches`"],
            ),
            (
                "about = \"\"\nreplicas = 2\n[settings]\nheal_gather = { quit_ms = 3 }".to_owned(),
                ["settings.heal_gather.quit_ms", "`quiet_ms`"],
            ),
            ("about = \"\"\nreplicas = 2\n[network]\nwindwo = 9".to_owned(), ["line 4", "`window`"]),
            ("about = \"\"\nreplicas = 2\n[disk]\nlatency.sync = 9".to_owned(), ["line 4", "`sync_us`"]),
            (
                "about = \"\"\nreplicas = 2\n[[append]]\nat_ms = 1\nreplica = 1\nops = [{ putt = [\"a\", \"b\"] }]".to_owned(),
                ["line 6", "`put`"],
            ),
        ] {
            let message = refused(&text);
            assert!(named.iter().all(|named| message.contains(named)), "{named:?}: {message}");
        }
        let message = refused("about = \"\"\nreplicas = 2\n[disk]\nweather = 9");
        assert!(message.contains("`bit_rot`"), "{message}");
    }
}
