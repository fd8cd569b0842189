//! What the database says about files: which there are, what is in them, and where the pieces are.

use autobee::{Apply, ApplyError, ApplyView, CoreKey, Entry, Host, Range, WriterOptions};
use serde::{Deserialize, Serialize};

/// Most bytes of a piece.
pub(crate) const PIECE: usize = 64 << 10;

/// Most bytes of a name.
pub(crate) const NAME_MAX: usize = 255;

/// More pieces than a log has.
const PIECES_MAX: u64 = 1 << 40;

/// Where the view has the files, by name.
pub(crate) const FILES: &str = "file/";

/// Where the view has the logs in which pieces are.
pub(crate) const LOGS: &str = "log/";

/// What the database has of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct File {
    /// The BLAKE2b-256 hash of what is in it, in hexadecimal digits.
    pub(crate) hash: String,
    /// Bytes.
    pub(crate) size: u64,
    /// What kind of file it is.
    pub(crate) media_type: String,
}

impl File {
    /// How many pieces it has: all but the last one are full.
    pub(crate) fn pieces(&self) -> u64 {
        self.size.div_ceil(PIECE as u64)
    }
}

/// Where the pieces of a file are: one behind the other in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) log: CoreKey,
    pub(crate) first: u64,
}

/// What is appended, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    /// Gives a file a name, instead of the file that has it.
    Put { name: String, file: File, place: Place },
    /// Takes a name away.
    Remove { name: String },
    /// Lets a device write.
    Add { device: CoreKey },
}

impl Op {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and keys have no value that JSON lacks.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Refuses names that would lead out of a directory, hashes that are none, and files that nobody could read to the end.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Self::Put { name, file, place } = self else {
            return Ok(());
        };
        check_name(name)?;
        let is_digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if file.hash.len() != 64 || !file.hash.bytes().all(is_digit) {
            return Err("a hash has 64 hexadecimal digits".into());
        }
        if file.media_type.len() > NAME_MAX || file.media_type.chars().any(char::is_control) {
            return Err("that is no media type".into());
        }
        // Each for itself: a place is one of whatever file has the hash.
        if place.first >= PIECES_MAX || file.pieces() >= PIECES_MAX {
            return Err("no log has so many pieces".into());
        }
        Ok(())
    }
}

/// Refuses names that would lead out of a directory.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let is_path = name.contains(['/', '\\', ':']) || name == "." || name == "..";
    if name.is_empty() || name.len() > NAME_MAX || is_path || name.chars().any(char::is_control) {
        return Err(format!(
            "a name has 1 to {NAME_MAX} bytes, no slash, no colon and no control characters, and is neither . nor .."
        ));
    }
    Ok(())
}

/// The merge. The view has
///
/// ```text
/// file/NAME         hash, size, type
/// place/HASH/LOG    the first piece: who else stores the same is another place of it
/// log/LOG           nothing: there are pieces in it
/// ```
///
/// Places stay when a name is removed: another name may have the same content, now or after a reorder.
pub(crate) struct Files;

impl Apply for Files {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            let op: Op = serde_json::from_slice(entry.value())
                .map_err(|error| ApplyError::reject(format!("no operation: {error}")))?;
            op.check().map_err(ApplyError::reject)?;
            let mut write = view.write();
            match op {
                Op::Add { device } => host.add_writer(device, WriterOptions::default()),
                Op::Remove { name } => write.delete(file_key(&name).as_bytes()),
                Op::Put { name, file, place } => {
                    let value = serde_json::to_vec(&file).unwrap_or_default();
                    write.put(file_key(&name).as_bytes(), &value);
                    write.put(
                        place_key(&file.hash, &place.log).as_bytes(),
                        place.first.to_string().as_bytes(),
                    );
                    write.put(format!("{LOGS}{}", place.log).as_bytes(), b"");
                }
            }
            write.flush().await?;
        }
        Ok(())
    }
}

pub(crate) fn file_key(name: &str) -> String {
    format!("{FILES}{name}")
}

fn place_key(hash: &str, log: &CoreKey) -> String {
    format!("place/{hash}/{log}")
}

/// The places of this content.
pub(crate) fn places(hash: &str) -> Range {
    Range::prefix(format!("place/{hash}/"))
}

/// A place as the view has it.
pub(crate) fn place(key: &[u8], value: &[u8]) -> Option<Place> {
    let log = std::str::from_utf8(key).ok()?.rsplit_once('/')?.1.parse().ok()?;
    let first = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some(Place { log, first })
}

/// A file as the view has it.
pub(crate) fn file(value: &[u8]) -> Result<File, String> {
    serde_json::from_slice(value).map_err(|error| format!("a file that cannot be read: {error}"))
}
