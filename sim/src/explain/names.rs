//! What explanations call logs and entries: never by bare keys.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::wire::{Length, Link};
use bytes::Bytes;

use crate::run::Recording;

/// Digits of a key that stand for it in short texts.
const SHORT: usize = 8;

/// Names of logs.
#[derive(Debug, Default)]
pub(super) struct Names {
    logs: BTreeMap<CoreKey, String>,
    /// What values of entries are called that only an app understands.
    values: BTreeMap<Bytes, String>,
}

impl Names {
    /// Those of the replicas and hostile peers of a run, and of whoever else wrote, in the order of their keys.
    pub(super) fn new(recording: &Recording) -> Self {
        let named = recording.logs.iter().map(|(key, (owner, number))| {
            let name = match number {
                0 => owner.clone(),
                // The writer went on in another log.
                number => format!("{owner}'{}", number + 1),
            };
            (*key, name)
        });
        let mut names = Self {
            logs: named.collect(),
            values: BTreeMap::new(),
        };
        let looks = recording.looks.iter().flat_map(|look| &look.replicas);
        let open = looks.filter_map(|replica| replica.look.as_ref());
        for look in open {
            for writer in &look.writers {
                names.add(writer.key, if writer.is_anchor { "anchor" } else { "x" });
            }
            for key in look.logs.keys() {
                names.add(*key, "x");
            }
        }
        names
    }

    /// The same, with names for values of an app.
    pub(super) fn with_values(mut self, values: BTreeMap<Bytes, String>) -> Self {
        self.values = values;
        self
    }

    /// What a value of an app is called.
    pub(super) fn value(&self, value: &Bytes) -> Option<&str> {
        self.values.get(value).map(String::as_str)
    }

    fn add(&mut self, key: CoreKey, kind: &str) {
        if !self.logs.contains_key(&key) {
            let like = |name: &&String| {
                let number = name.strip_prefix(kind);
                number.is_some_and(|number| number.parse::<usize>().is_ok())
            };
            let number = self.logs.values().filter(like).count();
            self.logs.insert(key, format!("{kind}{number}"));
        }
    }

    /// The name of whoever writes a log.
    pub(super) fn writer(&self, key: &CoreKey) -> String {
        let known = self.logs.get(key).cloned();
        known.unwrap_or_else(|| format!("log {}", &key.to_hex()[..SHORT]))
    }

    /// A log: `name.log`.
    pub(super) fn log(&self, key: &CoreKey) -> String {
        format!("{}.log", self.writer(key))
    }

    /// An entry: `name@length`.
    pub(super) fn entry(&self, key: &CoreKey, length: Length) -> String {
        format!("{}@{length}", self.writer(key))
    }

    /// What a link names.
    pub(super) fn link(&self, link: &Link) -> String {
        self.entry(&link.key, link.length)
    }

    /// Entries of one log that follow each other.
    pub(super) fn range(&self, key: &CoreKey, from: Length, to: Length) -> String {
        let first = self.entry(key, from);
        if from == to {
            first
        } else {
            format!("{first}..{to}")
        }
    }

    /// The key of an entry that is written like this.
    pub(super) fn find(&self, entry: &str) -> Option<(CoreKey, Length)> {
        let (name, length) = entry.split_once('@')?;
        let length: u64 = length.parse().ok()?;
        let (key, _) = self.logs.iter().find(|(_, known)| *known == name)?;
        Some((*key, Length(length)))
    }

    /// A text without keys, and with entries as `name@length`.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for (key, name) in &self.logs {
            let hex = key.to_hex();
            clean = clean.replace(&format!("CoreKey({hex})"), name);
            clean = clean.replace(&format!("core {hex}"), &format!("{name}.log"));
            clean = clean.replace(&hex, name);
            for (ending, to) in [(":", ":"), (" ", " "), (",", ","), (";", ";")] {
                clean = clean.replace(&format!("{}{ending}", &hex[..SHORT]), &format!("{name}{to}"));
            }
        }
        entries(&short(&clean))
    }

    /// The entries that a text names, each once, in its order.
    pub(super) fn mentioned(&self, clean: &str) -> Vec<(CoreKey, Length)> {
        let mut found = Vec::new();
        let words =
            clean.split(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '@' | '\'')));
        for entry in words.filter_map(|word| self.find(word)) {
            if !found.contains(&entry) {
                found.push(entry);
            }
        }
        found
    }
}

/// Shortens keys of logs that nobody writes to, such as trees.
fn short(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut run = String::new();
    for letter in text.chars().chain(std::iter::once('\n')) {
        if letter.is_ascii_hexdigit() && !letter.is_ascii_uppercase() {
            run.push(letter);
            continue;
        }
        if run.len() == 2 * 32 {
            run.truncate(SHORT);
            run.push_str("..");
        }
        out.push_str(&run);
        run.clear();
        out.push(letter);
    }
    out.pop();
    out
}

/// Turns `name:length` into `name@length`.
fn entries(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let letters: Vec<char> = text.chars().collect();
    for (position, letter) in letters.iter().enumerate() {
        let before = position.checked_sub(1).and_then(|at| letters.get(at));
        let is_name = before.is_some_and(|letter| letter.is_ascii_alphanumeric() || *letter == '\'');
        let is_length = letters.get(position + 1).is_some_and(char::is_ascii_digit);
        // A name holds a letter: `10:30` is a time.
        let start = letters[..position]
            .iter()
            .rposition(|letter| !(letter.is_ascii_alphanumeric() || *letter == '\''))
            .map_or(0, |at| at + 1);
        let has_letter = letters[start..position].iter().any(char::is_ascii_alphabetic);
        out.push(if *letter == ':' && is_name && is_length && has_letter {
            '@'
        } else {
            *letter
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut recording = Recording::default();
        let logs = [([0xab; 32], "r0", 0), ([2; 32], "r1", 0), ([3; 32], "r1", 1)];
        for (key, owner, number) in logs {
            recording.logs.insert(CoreKey::new(key), (owner.into(), number));
        }
        Names::new(&recording)
    }

    #[test]
    fn texts_lose_their_keys() {
        let names = names();
        let long = CoreKey::new([0xab; 32]);
        let text = format!("at 10:30 {long:?} and {long}:4, r1:12; core {long} abababab:7");
        assert_eq!(names.clean(&text), "at 10:30 r0 and r0@4, r1@12; r0.log r0@7");
    }

    #[test]
    fn entries_are_found_in_texts() {
        let names = names();
        let found = names.mentioned("r1@12 is not at r0, and r1'2@3 is; r9@1, r1@12");
        let expected = [
            (CoreKey::new([2; 32]), Length(12)),
            (CoreKey::new([3; 32]), Length(3)),
        ];
        assert_eq!(found, expected);
        assert_eq!(
            names.range(&CoreKey::new([2; 32]), Length(1), Length(4)),
            "r1@1..4"
        );
    }
}
