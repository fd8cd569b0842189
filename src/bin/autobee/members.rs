//! Who may write.

use autobee::{AppendOptions, NativeAutobee};
use serde_json::{Value, json};

use crate::Result;
use crate::args::{Add, Remove};
use crate::data::{append, append_to};
use crate::failure::Failure;
use crate::out::Out;
use crate::place::Place;

pub(crate) async fn add(args: Add, place: &Place, out: &Out) -> Result<()> {
    let writer = args.writer.to_string();
    let entry = match args.weight {
        // As other programs write it.
        1 => json!({ "addWriter": writer }),
        weight => json!({ "addWriter": writer, "weight": weight }),
    };
    append(place, out, &entry, AppendOptions::default()).await
}

pub(crate) async fn remove(args: Remove, place: &Place, out: &Out) -> Result<()> {
    let db: NativeAutobee = place.open().await?;
    let writers = db.writers();
    let members = writers
        .iter()
        .filter(|writer| !writer.is_removed && !writer.is_guest && !writer.is_anchor);
    let mut members: Vec<_> = members.map(|writer| writer.key).collect();
    if writers.is_empty() {
        // Until something is applied nobody is recorded.
        members.push(db.key());
    }
    let is_member = members.contains(&args.writer);
    if is_member && members.len() == 1 {
        let what = "it is the only member: nobody could write any more, or add a writer";
        return Err(Failure::Input(what.into()));
    }
    if !is_member {
        out.note("it is no member here, so nothing changes by it: autobee writers lists them");
    }
    let entry = json!({ "removeWriter": args.writer.to_string() });
    append_to(&db, out, &entry, AppendOptions::default()).await
}

pub(crate) async fn writers(place: &Place, out: &Out) -> Result<()> {
    let reader = place.read().await?;
    let local = reader.local();
    for writer in reader.writers().iter().filter(|writer| !writer.is_anchor) {
        let role = match (writer.is_removed, writer.is_guest) {
            (true, _) => "removed",
            (false, true) => "guest",
            (false, false) => "member",
        };
        let is_local = writer.key == local;
        let answer: Value = json!({
            "writer": writer.key.to_string(),
            "role": role,
            "length": writer.length.0,
            "weight": writer.weight.0,
            "maxWeight": writer.max_weight.0,
            "local": is_local,
        });
        out.either(&answer, || {
            let this = if is_local { ", this directory" } else { "" };
            format!(
                "{}  {role}{this}, {} blocks applied, weight {} of {}",
                writer.key, writer.length.0, writer.weight.0, writer.max_weight.0
            )
        })?;
    }
    Ok(())
}
