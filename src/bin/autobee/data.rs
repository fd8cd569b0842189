//! Keys and values: put, get, del, ls, watch.

use std::io::Read as _;
use std::time::Duration;

use autobee::{AppendOptions, Bytes, NativeAutobee, Outcome, Range};
use serde_json::{Value, json};

use crate::Result;
use crate::args::{Del, Get, Ls, Put, Watch};
use crate::failure::Failure;
use crate::out::{Out, clean, one_line, text, time};
use crate::place::{Place, connect};

/// Bytes that a value may have.
const VALUE_BYTES_MAX: u64 = 8 << 20;

/// How often it is looked whether peers are reached.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) async fn put(args: Put, place: &Place, out: &Out) -> Result<()> {
    let value = match args.value {
        Some(value) => value,
        None => {
            out.awaits("the value");
            stdin_value().await?
        }
    };
    let entry = json!({ "put": [args.key, value] });
    let options = AppendOptions {
        optimistic: args.optimistic,
    };
    append(place, out, &entry, options).await
}

pub(crate) async fn del(args: Del, place: &Place, out: &Out) -> Result<()> {
    append(place, out, &json!({ "del": args.key }), AppendOptions::default()).await
}

/// A value from stdin, on a thread of its own, as nobody can stop who waits for it.
async fn stdin_value() -> Result<String> {
    let read = tokio::task::spawn_blocking(|| {
        let mut bytes = Vec::new();
        let stdin = std::io::stdin().lock();
        let read = stdin.take(VALUE_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| Failure::io("reading the value from stdin", error))?;
        if bytes.len() as u64 > VALUE_BYTES_MAX {
            return Err(Failure::Input(format!(
                "the value has more than {VALUE_BYTES_MAX} bytes"
            )));
        }
        String::from_utf8(bytes).map_err(|_| Failure::Input("the value is no UTF-8 text".into()))
    });
    read.await
        .unwrap_or_else(|error| Err(Failure::io("reading stdin", error.into())))
}

/// Appends one entry, and says what became of it.
pub(crate) async fn append(place: &Place, out: &Out, entry: &Value, options: AppendOptions) -> Result<()> {
    let db = place.open().await?;
    append_to(&db, out, entry, options).await
}

/// The same, of a database that is open.
pub(crate) async fn append_to(
    db: &NativeAutobee,
    out: &Out,
    entry: &Value,
    options: AppendOptions,
) -> Result<()> {
    let appended = db
        .append_with(vec![Bytes::from(entry.to_string())], options)
        .await?;
    let (name, until) = match &appended.outcome {
        Outcome::Applied => ("applied", None),
        Outcome::Rejected(_) => ("rejected", None),
        Outcome::Waiting { until } => ("waiting", until.map(|until| until.0)),
    };
    if out.is_json {
        out.object(&json!({
            "writer": appended.core.to_string(),
            "length": appended.length.0,
            "outcome": name,
            "until": until,
        }))?;
    }
    match appended.outcome {
        Outcome::Rejected(_) if options.optimistic => {
            out.note("it is in the log, and counts once a member acknowledged it: connect to one");
            Ok(())
        }
        Outcome::Rejected(reason) => Err(Failure::Rejected(reason)),
        Outcome::Waiting { .. } => {
            let until = until.map_or_else(
                || "blocks of peers that are not here".to_owned(),
                |until| format!("{}: the clock of this machine is ahead", time(until)),
            );
            out.note(&format!("it is in the log, and waits for {until}"));
            Ok(())
        }
        _ => Ok(()),
    }
}

pub(crate) async fn get(args: Get, place: &Place, out: &Out) -> Result<()> {
    let reader = place.read().await?;
    let Some(value) = reader.view().get(args.key.as_bytes()).await? else {
        return Err(Failure::NoKey(args.key));
    };
    if out.is_json {
        return out.object(&json!({ "key": args.key, "value": text(&value) }));
    }
    out.plain(&value)?;
    out.raw(b"\n")
}

pub(crate) async fn ls(args: Ls, place: &Place, out: &Out) -> Result<()> {
    let reader = place.read().await?;
    let mut range = prefix(args.prefix.as_deref());
    if args.reverse {
        range = range.reverse();
    }
    if let Some(limit) = args.limit {
        range = range.limit(limit);
    }
    let mut entries = reader.view().stream(range);
    while let Some((key, value)) = entries.next().await? {
        let (key, value) = (text(&key), text(&value));
        let line = match (out.is_json, args.keys) {
            (true, true) => one_line(&json!({ "key": key })),
            (true, false) => one_line(&json!({ "key": key, "value": value })),
            (false, true) => clean(&key),
            (false, false) => format!("{}\t{}", out.bold(clean(&key)), clean(&value)),
        };
        out.bulk(&line)?;
    }
    Ok(())
}

/// All keys, or those that begin so.
pub(crate) fn prefix(prefix: Option<&str>) -> Range {
    prefix.map_or_else(Range::all, Range::prefix)
}

pub(crate) async fn watch(args: Watch, place: &Place, out: &Out) -> Result<()> {
    if args.peers.connect.is_empty() && args.peers.listen.is_none() {
        return Err(Failure::Usage(
            "without peers nothing changes: give --connect HOST:PORT or --listen ADDR:PORT".into(),
        ));
    }
    let db: NativeAutobee = place.open().await?;
    let mut changes = db.watch(prefix(args.prefix.as_deref()));
    let mut connections = connect(&db, &args.peers).await?;
    let address = connections
        .listening
        .as_ref()
        .map(|listening| listening.local_addr().to_string());
    let port = address.as_deref().map(port);
    let ready = json!({ "event": "watching", "address": address, "port": port });
    out.either(&ready, || match &address {
        Some(address) => format!("watching; peers are welcome at {address}"),
        None => "watching".into(),
    })?;
    loop {
        let update = tokio::select! {
            update = changes.next() => update?,
            () = tokio::time::sleep(LOOK) => {
                connections.tell(out);
                continue;
            }
        };
        for change in update.changes {
            let key = text(&change.key);
            let [old, new] = [change.old, change.new].map(|value| value.map(|value| text(&value)));
            if out.is_json {
                out.bulk_object(&json!({ "event": "change", "key": key, "old": old, "new": new }))?;
                continue;
            }
            let key = clean(&key);
            let line = match new {
                Some(new) => out.good(format!("+ {key}\t{}", clean(&new))),
                None => out.bad(format!("- {key}")),
            };
            out.bulk(&line)?;
        }
        out.flush()?;
    }
}

/// The port of an address.
pub(crate) fn port(address: &str) -> u16 {
    let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
    port.unwrap_or_default()
}
