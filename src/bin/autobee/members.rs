//! Who may write.

use autobee::AppendOptions;
use serde_json::{Value, json};

use crate::Result;
use crate::args::{Add, Remove};
use crate::data::append;
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
    let entry = json!({ "removeWriter": args.writer.to_string() });
    append(place, out, &entry, AppendOptions::default()).await
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
