//! Fields that no scenario has.
//!
//! Reading a file would refuse most of them too, but tables that are read by their tag lose their lines on the way, and
//! nobody is told what was meant.

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::catalogue::everything;
use super::nearest;

/// The first field of a text that no scenario has, and what is wrong with it.
pub(super) fn unknown_field(text: &str) -> Option<(String, String)> {
    // What is no TOML at all is refused by who reads it.
    let written = DeTable::parse(text).ok()?;
    let mut search = FieldSearch {
        text,
        place: String::new(),
    };
    search.table(written.get_ref(), &everything())
}

struct FieldSearch<'a> {
    text: &'a str,
    /// The path of the table that is looked at, with a dot at its end.
    place: String,
}

impl FieldSearch<'_> {
    fn table(&mut self, written: &DeTable<'_>, known: &Table) -> Option<(String, String)> {
        for (name, value) in written {
            let Some(example) = known.get(&**name.get_ref()) else {
                let names: Vec<&str> = known.keys().map(String::as_str).collect();
                return Some(self.refuse(name.span().start, name.get_ref(), "field", &names));
            };
            // Its names are the engine's.
            if self.place.is_empty() && name.get_ref() == "knobs" {
                continue;
            }
            let length = self.place.len();
            self.place.push_str(name.get_ref());
            let found = self.value(value, example);
            if found.is_some() {
                return found;
            }
            self.place.truncate(length);
        }
        None
    }

    fn value(&mut self, written: &Spanned<DeValue<'_>>, example: &Value) -> Option<(String, String)> {
        match (written.get_ref(), example) {
            (DeValue::Table(written), Value::Table(example)) => {
                self.place.push('.');
                self.table(written, example)
            }
            (DeValue::Array(written), Value::Array(examples)) => {
                let length = self.place.len();
                for (position, value) in written.iter().enumerate() {
                    let Some(table) = value.get_ref().as_table() else {
                        continue;
                    };
                    self.place.push_str(&format!("[{position}]."));
                    let found = self.element(table, examples);
                    if found.is_some() {
                        return found;
                    }
                    self.place.truncate(length);
                }
                None
            }
            _ => None,
        }
    }

    /// A table of a list. One with an action has the fields of that action.
    fn element(&mut self, written: &DeTable<'_>, examples: &[Value]) -> Option<(String, String)> {
        let tag = |example: &Value| example.get("do").and_then(Value::as_str).map(ToOwned::to_owned);
        let action = written.iter().find(|(name, _)| name.get_ref() == "do");
        let action = action.and_then(|(_, value)| Some((value.span().start, value.get_ref().as_str()?)));
        let example = match action {
            Some((start, action)) if examples.iter().any(|example| tag(example).is_some()) => {
                let Some(example) = examples
                    .iter()
                    .find(|example| tag(example).as_deref() == Some(action))
                else {
                    let known: Vec<String> = examples.iter().filter_map(tag).collect();
                    let known: Vec<&str> = known.iter().map(String::as_str).collect();
                    self.place.push_str("do = ");
                    return Some(self.refuse(start, action, "action", &known));
                };
                Some(example)
            }
            _ => examples.first().filter(|example| tag(example).is_none()),
        };
        self.table(written, example?.as_table()?)
    }

    fn refuse(&self, at: usize, name: &str, what: &str, known: &[&str]) -> (String, String) {
        let line = 1 + self.text[..at.min(self.text.len())].matches('\n').count();
        let meant = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are `{}`", known.join("`, `")),
        };
        (
            format!("{}{name}", self.place),
            format!("unknown {what} in line {line}; {meant}"),
        )
    }
}
