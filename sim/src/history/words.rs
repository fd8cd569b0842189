//! What is said of a history that fails: who, which entry, what it should be.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::db::OrderedEntry;
use autobee::wire::Length;

use super::HistoryFailure;
use super::play::HistoryPlay;
use crate::model::ModelState;

impl HistoryPlay<'_> {
    /// How much of each log is in a set.
    pub(super) fn lengths(&self, known: &BTreeMap<CoreKey, Length>) -> String {
        let logs = known
            .iter()
            .map(|(key, length)| format!("{}:{}", self.name(key), length.0));
        logs.collect::<Vec<_>>().join(", ")
    }

    pub(super) fn fails<T>(
        &self,
        invariant: &'static str,
        peer: usize,
        what: &str,
    ) -> Result<T, HistoryFailure> {
        Err(HistoryFailure {
            step: self.at,
            invariant,
            what: format!("p{peer}: {what}"),
        })
    }

    pub(super) fn name(&self, key: &CoreKey) -> String {
        let number = self.keys.iter().position(|known| known == key);
        number.map_or_else(|| key.to_string(), |number| format!("p{number}"))
    }

    /// Where two orders part.
    pub(super) fn orders(&self, one: &[OrderedEntry], expected: &[OrderedEntry]) -> String {
        let at = one
            .iter()
            .zip(expected)
            .take_while(|(one, other)| one == other)
            .count();
        let entry = |order: &[OrderedEntry]| {
            order.get(at).map_or_else(
                || "nothing".into(),
                |entry| {
                    let name = self.name(&entry.key);
                    format!("{name}:{} (weight {})", entry.length.0, entry.weight.0)
                },
            )
        };
        format!("entry {at} is {}, expected {}", entry(one), entry(expected))
    }

    /// The first thing in which two states differ.
    pub(super) fn states(&self, one: &ModelState, expected: &ModelState) -> String {
        for (key, record) in &expected.records {
            let found = one.records.get(key);
            if found != Some(record) {
                return format!(
                    "the record of {} is {found:?}, expected {record:?}",
                    self.name(key)
                );
            }
        }
        let mut found = one.records.keys();
        if let Some(key) = found.find(|key| !expected.records.contains_key(*key)) {
            return format!("there is a record of {}", self.name(key));
        }
        if one.granted != expected.granted {
            return format!("grants are {:?}, expected {:?}", one.granted, expected.granted);
        }
        let rest = |state: &ModelState| (state.heads.clone(), state.timestamp, state.flushes);
        if rest(one) != rest(expected) {
            return format!(
                "heads, time and batches are {:?}, expected {:?}",
                rest(one),
                rest(expected)
            );
        }
        let text = |bytes: Option<&Vec<u8>>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let keys = one.view.keys().chain(expected.view.keys());
        let differs = keys
            .into_iter()
            .find(|key| one.view.get(*key) != expected.view.get(*key));
        let Some(key) = differs else {
            return "equal".into();
        };
        format!(
            "the view has {:?} under {}, expected {:?}",
            text(one.view.get(key)),
            String::from_utf8_lossy(key),
            text(expected.view.get(key))
        )
    }
}
