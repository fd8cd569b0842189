//! The order: who wrote what, when, and why it stands there.

use autobee::wire::Decode as _;
use autobee::wire::oplog::OplogBlock;
use autobee::{CoreKey, Index, Link, OrderedEntry};
use serde_json::{Value, json};

use crate::Result;
use crate::args::Log;
use crate::entries::JsonEntry;
use crate::out::{Out, clean, short, text, time};
use crate::place::{Place, Reader};

pub(crate) async fn log(args: Log, place: &Place, out: &Out) -> Result<()> {
    let reader = place.read().await?;
    let order = reader.order()?;
    let is_shown = |entry: &OrderedEntry| args.writer.is_none_or(|writer| writer == entry.key);
    let shown = order.iter().filter(|entry| is_shown(entry)).count();
    let skipped = args.last.map_or(0, |last| shown.saturating_sub(last));
    let mut seen = 0;
    for (position, entry) in order.iter().enumerate() {
        if !is_shown(entry) {
            continue;
        }
        seen += 1;
        if seen <= skipped {
            continue;
        }
        let before = position.checked_sub(1).and_then(|before| order.get(before));
        let before = before.map(|before| Placed::read(&reader, before)).transpose()?;
        let line = Placed::read(&reader, entry)?;
        let why = why(before.as_ref(), &line);
        let answer = json!({
            "position": position,
            "writer": entry.key.to_string(),
            "length": entry.length.0,
            "time": line.timestamp(),
            "op": line.op(),
            "weight": entry.weight.0,
            "links": line.links().iter().map(|link| json!({ "writer": link.key.to_string(), "length": link.length.0 })).collect::<Vec<_>>(),
            "why": why,
        });
        if out.is_json {
            out.bulk_object(&answer)?;
        } else {
            let when = line.timestamp().map_or_else(|| "-".to_owned(), time);
            let who = format!("{}:{}", short(&entry.key), entry.length.0);
            let what = describe(&line.op());
            out.bulk(&format!(
                "{position:>6}  {}  {when}  {what}  {}",
                out.bold(format!("{who:<14}")),
                out.dim(format!("({why})"))
            ))?;
        }
    }
    Ok(())
}

/// An entry in the order, with its block, if that is here.
struct Placed {
    entry: OrderedEntry,
    block: Option<OplogBlock>,
}

impl Placed {
    fn read(reader: &Reader, entry: &OrderedEntry) -> Result<Self> {
        let index = Index(entry.length.0.saturating_sub(1));
        let block = reader.block(&entry.key, index)?;
        Ok(Self {
            entry: *entry,
            block: block.and_then(|block| OplogBlock::from_bytes(&block).ok()),
        })
    }

    fn links(&self) -> &[Link] {
        self.block.as_ref().map_or(&[], |block| &block.links)
    }

    fn timestamp(&self) -> Option<u64> {
        self.block.as_ref().map(|block| block.timestamp.0)
    }

    fn follows_in_batch(&self) -> bool {
        self.block.as_ref().is_some_and(|block| block.batch.before > 0)
    }

    /// What the entry says: JSON when it is some, else the text; null when there is nothing.
    fn op(&self) -> Value {
        let Some(value) = self.block.as_ref().and_then(|block| block.value.as_ref()) else {
            return Value::Null;
        };
        serde_json::from_slice(value).unwrap_or_else(|_| Value::String(text(value)))
    }
}

/// The operation in words.
fn describe(op: &Value) -> String {
    let change: Option<JsonEntry> = serde_json::from_value(op.clone()).ok();
    let Some(change) = change.filter(|_| op.is_object()) else {
        return match op {
            Value::Null => "acknowledges".into(),
            other => clean(&other.to_string()),
        };
    };
    let mut words = Vec::new();
    if let Some((key, value)) = change.put {
        let mut value: String = clean(&value);
        if value.chars().count() > 40 {
            value = value.chars().take(39).collect::<String>() + "...";
        }
        words.push(format!("put {} {value}", clean(&key)));
    }
    if let Some(key) = change.del {
        words.push(format!("del {}", clean(&key)));
    }
    let named = |writer: &str| {
        writer
            .parse::<CoreKey>()
            .map_or_else(|_| clean(writer), |key| short(&key))
    };
    if let Some(writer) = change.add_writer {
        let weight = change.weight.map(|weight| format!(", weight {weight}"));
        words.push(format!(
            "add writer {}{}",
            named(&writer),
            weight.unwrap_or_default()
        ));
    }
    if let Some(writer) = change.remove_writer {
        words.push(format!("remove writer {}", named(&writer)));
    }
    if words.is_empty() {
        clean(&op.to_string())
    } else {
        words.join(", ")
    }
}

/// Why an entry stands behind the one before it: what it links, or what decided between the two.
fn why(before: Option<&Placed>, this: &Placed) -> String {
    let Some(before) = before else {
        return "the first".into();
    };
    if this.block.is_none() {
        return "its block is not here".into();
    }
    let (was, is) = (&before.entry, &this.entry);
    let name = format!("{}:{}", short(&was.key), was.length.0);
    if this.follows_in_batch() {
        return "the same batch".into();
    }
    if was.key == is.key {
        return "follows in its log".into();
    }
    let linked = this
        .links()
        .iter()
        .find(|link| link.key == was.key && link.length >= was.length);
    if linked.is_some() {
        return format!("links {name}");
    }
    if was.weight != is.weight {
        return match was.weight > is.weight {
            true => format!(
                "concurrent, lighter than {name}: {} < {}",
                is.weight.0, was.weight.0
            ),
            false => format!(
                "{name} was brought forward by what links it; links {}",
                named(this.links())
            ),
        };
    }
    match this.timestamp().cmp(&before.timestamp()) {
        std::cmp::Ordering::Greater => format!("same weight, later than {name}"),
        std::cmp::Ordering::Equal => format!("same weight and time, greater key than {name}"),
        std::cmp::Ordering::Less => {
            format!(
                "dated before {name}, and behind what it links: {}",
                named(this.links())
            )
        }
    }
}

fn named(links: &[Link]) -> String {
    if links.is_empty() {
        return "its own log".into();
    }
    let names: Vec<String> = links
        .iter()
        .map(|link| format!("{}:{}", short(&link.key), link.length.0))
        .collect();
    names.join(", ")
}
