//! The apply function of simulated databases: JSON operations, the same as in the golden scenarios.
//!
//! It touches everything that an apply can touch: membership, acknowledgement, anchors, refusal of strangers, and a
//! view in which every applied entry leaves its number, so that a skipped or doubled entry shows.

use std::fmt;

use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host, WriterOptions};
use autobee::bee::Range;
use autobee::crypto::CoreKey;
use autobee::wire::{Timestamp, Weight};
use serde::{Deserialize, Serialize};

use super::AppOp;

/// What the writer of an entry calls itself.
pub(crate) const SELF: &str = "self";

/// One operation, as JSON in the value of an entry. Fields take effect in the order in which they stand here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Op {
    /// Refuse this entry if its writer is a stranger.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reject: bool,
    /// Refuse this entry if its writer is a stranger and the view has this key.
    #[serde(rename = "rejectIf", skip_serializing_if = "Option::is_none")]
    pub reject_if: Option<String>,
    /// Add this writer, by hexadecimal key.
    #[serde(rename = "addWriter", skip_serializing_if = "Option::is_none")]
    pub add_writer: Option<String>,
    /// The ceiling of the added writer; an indexer's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u64>,
    /// Remove this writer, by hexadecimal key.
    #[serde(rename = "removeWriter", skip_serializing_if = "Option::is_none")]
    pub remove_writer: Option<String>,
    /// Acknowledge this writer, by hexadecimal key; `"self"` is the writer of the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack: Option<String>,
    /// Make an anchor of this entry.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub anchor: bool,
    /// Set this key to what the host and the view show the entry: batches before it, its time and weight, and a range of keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub look: Option<String>,
    /// Set a key to a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub put: Option<(String, String)>,
    /// Remove a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub del: Option<String>,
    /// Remove what the last entries left of themselves, this one included.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub forget: bool,
    /// An operation of an app that runs its own apply function; nothing to this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<AppOp>,
}

impl Op {
    /// Sets a key.
    #[must_use]
    pub fn put(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            put: Some((key.into(), value.into())),
            ..Self::default()
        }
    }

    /// Adds a writer with a ceiling.
    #[must_use]
    pub fn add_writer(key: CoreKey, weight: u64) -> Self {
        Self {
            add_writer: Some(key.to_hex()),
            weight: Some(weight),
            ..Self::default()
        }
    }

    /// Removes a writer.
    #[must_use]
    pub fn remove_writer(key: CoreKey) -> Self {
        Self {
            remove_writer: Some(key.to_hex()),
            ..Self::default()
        }
    }

    /// Acknowledges a writer.
    #[must_use]
    pub fn ack(key: CoreKey) -> Self {
        Self {
            ack: Some(key.to_hex()),
            ..Self::default()
        }
    }

    /// The value of an entry that carries this operation.
    #[must_use]
    pub fn to_value(&self) -> Vec<u8> {
        // A struct of strings and numbers always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Why an entry of a stranger is refused that asks for it.
const REFUSED: &str = "the entry asks for it";

/// What the reason begins with for which an entry is refused that names no writer where one belongs.
const NO_KEY: &str = "not a writer key";

/// A writer that is none: an entry that removes it is refused.
pub(crate) const NOBODY: &str = "nobody";

/// What the reason begins with for which an operation of a stranger is refused, whatever the view has; none if it may be
/// taken.
pub(crate) fn refused_for(op: &Op) -> Option<&'static str> {
    let names_nobody = op.remove_writer.as_deref() == Some(NOBODY);
    op.reject.then_some(REFUSED).or(names_nobody.then_some(NO_KEY))
}

/// Applies [`Op`]s: counts entries under `n`, lists them under `#000000` and so on, and does what they say.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonApply;

impl Apply for JsonApply {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            apply_entry(entry, view, host).await?;
        }
        Ok(())
    }
}

async fn apply_entry(entry: &Entry, view: &mut ApplyView, host: &mut dyn Host) -> Result<(), ApplyError> {
    let op: Op = serde_json::from_slice(entry.value())
        .map_err(|error| ApplyError::reject(format!("not an operation: {error}")))?;
    if entry.optimistic {
        if op.reject {
            return Err(ApplyError::reject(REFUSED));
        }
        if let Some(key) = &op.reject_if
            && view.get(key.as_bytes()).await.is_some()
        {
            return Err(ApplyError::reject(format!("the view has {key}")));
        }
    }
    if let Some(key) = &op.add_writer {
        host.add_writer(
            parse_key(key)?,
            op.weight
                .map_or_else(WriterOptions::default, |weight| WriterOptions { weight }),
        );
    }
    if let Some(key) = &op.remove_writer {
        host.remove_writer(parse_key(key)?);
    }
    if let Some(key) = &op.ack {
        host.ack_writer(if key == SELF { entry.key } else { parse_key(key)? });
    }
    let anchor = if op.anchor {
        let made = host.create_anchor(entry.key, entry.length);
        Some(made.map_err(|error| ApplyError::reject(error.to_string()))?)
    } else {
        None
    };

    let shown = match &op.look {
        Some(key) => {
            let before = (host.genesis(), host.clock());
            Some((key, Shown::to(entry, view, before).await))
        }
        None => None,
    };
    let (number, next) = tally(view.get(b"n").await.as_deref());
    let reference = format!("{}:{}", entry.key, entry.length);
    let mut write = view.write();
    write.put(b"n", next.as_bytes());
    write.put(number.as_bytes(), reference.as_bytes());
    if let Some((key, shown)) = shown {
        // The later write to a key counts, also after a deletion.
        write.delete(key.as_bytes());
        write.put(key.as_bytes(), shown.to_string().as_bytes());
    }
    if let Some((key, value)) = &op.put {
        write.put(key.as_bytes(), value.as_bytes());
    }
    if let Some(key) = &op.del {
        write.delete(key.as_bytes());
    }
    if let Some(anchor) = anchor {
        write.put(format!("anchor/{}", anchor.key).as_bytes(), reference.as_bytes());
    }
    write.flush().await?;
    if !op.forget {
        return Ok(());
    }
    // A flush that does nothing but delete.
    let mut write = view.write();
    for number in forgotten(op.forget, &next) {
        write.delete(number.as_bytes());
    }
    write.flush().await
}

/// So many numbers are removed at once.
const FORGOTTEN: u64 = 64;

/// The keys that an entry removes which forgets, when `next` counts the entries with it.
pub(crate) fn forgotten(forgets: bool, next: &str) -> impl Iterator<Item = String> + use<> {
    let end = next.parse::<u64>().ok().filter(|_| forgets).unwrap_or_default();
    (end.saturating_sub(FORGOTTEN)..end).map(|count| format!("#{count:0>6}"))
}

/// What an entry is shown when it is applied, which is a function of what comes before it in the order.
pub(crate) struct Shown {
    /// Nothing was applied before its batch.
    pub(crate) is_genesis: bool,
    /// Batches that were applied before.
    pub(crate) clock: u64,
    pub(crate) timestamp: Timestamp,
    /// That of its batch in this place.
    pub(crate) weight: Weight,
    pub(crate) links: usize,
    /// How many keys begin with [`LOOKED_AT`].
    pub(crate) keys: usize,
    /// The value of the last one of them.
    pub(crate) last: String,
}

/// With what the keys begin that an operation looks at.
pub(crate) const LOOKED_AT: &str = "k";

impl Shown {
    async fn to(entry: &Entry, view: &ApplyView, (is_genesis, clock): (bool, u64)) -> Self {
        let range = || Range::prefix(LOOKED_AT);
        let last = view.entries(range().reverse().limit(1)).await;
        Self {
            is_genesis,
            clock,
            timestamp: entry.timestamp,
            weight: entry.weight,
            links: entry.links.len(),
            keys: view.entries(range()).await.len(),
            last: last
                .first()
                .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
                .unwrap_or_default(),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {} {} {} {:.40}",
            self.is_genesis, self.clock, self.timestamp.0, self.weight.0, self.links, self.keys, self.last
        )
    }
}

fn parse_key(text: &str) -> Result<CoreKey, ApplyError> {
    text.parse()
        .map_err(|error| ApplyError::reject(format!("{NO_KEY}: {text}: {error}")))
}

/// The key under which an entry leaves its number, and the count behind it. Operations may write the count themselves:
/// what is no number counts on as `NaN`, as it does in the golden scenarios.
pub(crate) fn tally(count: Option<&[u8]>) -> (String, String) {
    let text = count.map_or("0".into(), String::from_utf8_lossy);
    let text = text.trim();
    let (count, next) = match text.parse::<u64>() {
        Ok(count) => (count.to_string(), count.saturating_add(1).to_string()),
        Err(_) if text.is_empty() => ("0".into(), "1".into()),
        Err(_) => ("NaN".into(), "NaN".into()),
    };
    (format!("#{count:0>6}"), next)
}
