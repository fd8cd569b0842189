//! What lines of the room mean, and what is to be said when their order changes.

use std::collections::{BTreeMap, BTreeSet};

use autobee::{Apply, ApplyError, ApplyView, CoreKey, Entry, Host, ViewChange, WriterOptions};

/// Most characters of a name.
pub(crate) const NAME_MAX: usize = 24;

/// Most bytes of a line.
pub(crate) const LINE_MAX: usize = 2_000;

/// The key under which the view counts lines.
pub(crate) const COUNT: &[u8] = b"lines";

/// Where the view has the lines, each under its number.
pub(crate) const LINES: &[u8] = b"line/";

/// Where the view has who took which name.
pub(crate) const NAMES: &[u8] = b"name/";

/// What somebody does in the room. It is appended as a text: `name NAME`, `say TEXT`, `add KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// Goes by this name from now on.
    Name(String),
    /// Says something.
    Say(String),
    /// Lets somebody write.
    Add(CoreKey),
}

impl Op {
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Name(name) => format!("name {name}"),
            Self::Say(text) => format!("say {text}"),
            Self::Add(key) => format!("add {key}"),
        }
    }

    /// Reads what was appended. What it refuses, and why, must be the same at all devices.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LINE_MAX {
            return Err(format!("a line has at most {LINE_MAX} bytes"));
        }
        // They could say anything to somebody else's terminal.
        if text.chars().any(char::is_control) {
            return Err("a line has no control characters".into());
        }
        match text.split_once(' ') {
            Some(("say", said)) => Ok(Self::Say(said.to_owned())),
            Some(("add", key)) => key.parse().map(Self::Add).map_err(|_| "that is no key".into()),
            Some(("name", name)) => {
                let length = name.chars().count();
                if !(1..=NAME_MAX).contains(&length) || name.contains(char::is_whitespace) {
                    return Err(format!("a name has 1 to {NAME_MAX} characters, and no spaces"));
                }
                Ok(Self::Name(name.to_owned()))
            }
            _ => Err("nothing that is done in a room".into()),
        }
    }
}

/// The merge: lines are numbered in the agreed order, and a name belongs to who is first in it.
pub(crate) struct Room;

impl Apply for Room {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            let text = std::str::from_utf8(entry.value()).map_err(|_| ApplyError::reject("no text"))?;
            match Op::parse(text).map_err(ApplyError::reject)? {
                Op::Add(key) => host.add_writer(key, WriterOptions::default()),
                Op::Name(name) => take(view, entry.key, &name).await?,
                Op::Say(said) => say(view, entry, &said).await?,
            }
        }
        Ok(())
    }
}

async fn take(view: &mut ApplyView, writer: CoreKey, name: &str) -> Result<(), ApplyError> {
    let (name_key, writer_key) = (name_key(name), writer_key(&writer));
    let owner = view.get(&name_key).await;
    if owner.is_some_and(|owner| owner != writer.to_string().as_bytes()) {
        return Err(ApplyError::reject(format!("the name {name} is taken")));
    }
    let before = view.get(&writer_key).await;
    let mut write = view.write();
    if let Some(before) = before {
        write.delete(&[NAMES, &before].concat());
    }
    write.put(&name_key, writer.to_string().as_bytes());
    write.put(&writer_key, name.as_bytes());
    write.flush().await
}

async fn say(view: &mut ApplyView, entry: &Entry, said: &str) -> Result<(), ApplyError> {
    let number = count(view.get(COUNT).await.as_deref()) + 1;
    let name = match view.get(&writer_key(&entry.key)).await {
        Some(name) => String::from_utf8_lossy(&name).into_owned(),
        None => short(&entry.key),
    };
    // The writer and the place in the writer's log tell lines apart that say the same.
    let line = format!("{}/{} {name}: {said}", entry.key, entry.length.0);
    let mut write = view.write();
    write.put(&line_key(number), line.as_bytes());
    write.put(COUNT, number.to_string().as_bytes());
    write.flush().await
}

pub(crate) fn name_key(name: &str) -> Vec<u8> {
    [NAMES, name.as_bytes()].concat()
}

/// Where the view has the name of a writer.
pub(crate) fn writer_key(writer: &CoreKey) -> Vec<u8> {
    format!("who/{writer}").into_bytes()
}

fn line_key(number: u64) -> Vec<u8> {
    // As many digits for each, so that they sort as numbers do.
    [LINES, format!("{number:010}").as_bytes()].concat()
}

/// How many lines there are, as the view says it.
pub(crate) fn count(value: Option<&[u8]>) -> u64 {
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// What somebody without a name is called.
pub(crate) fn short(key: &CoreKey) -> String {
    key.to_string().chars().take(8).collect()
}

/// A line in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) number: u64,
    /// Whose line it is, and which: it stays the same wherever the line goes.
    id: String,
    pub(crate) text: String,
}

impl Line {
    /// An entry of the view; none for one that is no line.
    pub(crate) fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let number = std::str::from_utf8(key.strip_prefix(LINES)?).ok()?.parse().ok()?;
        let value = String::from_utf8_lossy(value).into_owned();
        let (id, text) = value.split_once(' ')?;
        Some(Self {
            number,
            id: id.to_owned(),
            text: text.to_owned(),
        })
    }
}

/// What a change of the view does to the lines that a reader has seen, in words. `count_of_lines` is how many there were, and
/// becomes how many there are.
///
/// ```text
///    7 ada: hello               a line at the end
/// +  3 bob: on the train        one that is ordered before others that were shown already, and which comes after it
/// ~  6 eve: me too              one that was shown, and goes behind others that were shown after it
/// =  7 ada: hello               one that was shown as somebody else's: a name belongs to another one in the agreed order
/// -    eve: and me              one that was shown, and is not in the room any more
/// ```
pub(crate) fn told(changes: &[ViewChange], count_of_lines: &mut u64) -> Vec<String> {
    let read = |key: &[u8], value: Option<&[u8]>| value.and_then(|value| Line::read(key, value));
    let old = changes
        .iter()
        .filter_map(|change| read(&change.key, change.old.as_deref()));
    let old: Vec<Line> = old.collect();
    let new = changes
        .iter()
        .filter_map(|change| read(&change.key, change.new.as_deref()));
    let new: Vec<Line> = new.collect();
    if let Some(counted) = changes.iter().find(|change| change.key == COUNT) {
        *count_of_lines = count(counted.new.as_deref());
    }
    let was: BTreeMap<&str, &Line> = old.iter().map(|line| (&line.id[..], line)).collect();
    let stays: BTreeSet<&str> = new.iter().map(|line| &line.id[..]).collect();

    let gone = old.iter().filter(|line| !stays.contains(&line.id[..]));
    let mut told: Vec<String> = gone
        .map(|line| format!("-    {}  (not in the room in the agreed order)", line.text))
        .collect();
    // Lines that nobody had seen, one behind the other up to the end.
    let mut end = *count_of_lines;
    for line in new.iter().rev() {
        if line.number != end || was.contains_key(&line.id[..]) {
            break;
        }
        end -= 1;
    }
    let (mut furthest, mut previous) = (0, 0);
    for (position, line) in new.iter().enumerate() {
        let Line { number, id, text } = line;
        if *number > previous + 1 {
            // The lines in between are in no change: they stay where they were.
            furthest = furthest.max(number - 1);
        }
        previous = *number;
        match was.get(&id[..]) {
            None if *number > end => told.push(format!("{number:>4} {text}")),
            None => {
                let next = new[position..].iter().find(|line| was.contains_key(&line.id[..]));
                let next = next.map_or_else(
                    || format!("line {}", number + 1),
                    |next| format!("\"{}\"", next.text),
                );
                told.push(format!("+{number:>3} {text}  (goes before {next})"));
            }
            Some(before) if before.number < furthest => {
                told.push(format!("~{number:>3} {text}  (was line {})", before.number));
            }
            Some(before) => {
                furthest = before.number;
                if before.text != *text {
                    told.push(format!("={number:>3} {text}  (was \"{}\")", before.text));
                }
            }
        }
    }
    told
}
