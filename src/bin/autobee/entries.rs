//! Entries that are JSON, and how they are merged: what the program and the example `db_peer` apply, and their peers in other
//! languages.
//!
//! ```text
//! {"put":[key,value]}   {"del":key}   {"addWriter":hex,"weight":n}   {"removeWriter":hex}
//! ```

use autobee::{Apply, ApplyError, ApplyView, Entry, Host, WriterOptions};
use serde::Deserialize;

/// Applies entries that are JSON.
pub(crate) struct JsonEntries;

/// What an entry says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JsonEntry {
    pub(crate) add_writer: Option<String>,
    pub(crate) weight: Option<u64>,
    pub(crate) remove_writer: Option<String>,
    pub(crate) put: Option<(String, String)>,
    pub(crate) del: Option<String>,
}

impl Apply for JsonEntries {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            let change: JsonEntry = serde_json::from_slice(entry.value()).map_err(refuse)?;
            if let Some(writer) = change.add_writer {
                let options = WriterOptions {
                    weight: change.weight.unwrap_or(1),
                };
                host.add_writer(writer.parse().map_err(refuse)?, options);
            }
            if let Some(writer) = change.remove_writer {
                host.remove_writer(writer.parse().map_err(refuse)?);
            }
            if let Some((key, value)) = change.put {
                let mut write = view.write();
                write.put(key.as_bytes(), value.as_bytes());
                write.flush().await?;
            }
            if let Some(key) = change.del {
                let mut write = view.write();
                write.delete(key.as_bytes());
                write.flush().await?;
            }
        }
        Ok(())
    }
}

fn refuse(error: impl std::fmt::Display) -> ApplyError {
    ApplyError::reject(error.to_string())
}
