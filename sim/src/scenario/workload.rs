//! What replicas append.

use serde::{Deserialize, Serialize};

use crate::workload::Op;

/// Appends, spread over a span of time. The seed draws their times and contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Who appends.
    pub replicas: Vec<usize>,
    /// How many appends each of them makes.
    pub appends: u32,
    /// The most values that one append holds.
    #[serde(default = "Workload::batch_max_default")]
    pub batch_max: u32,
    /// How many keys they write to.
    #[serde(default = "Workload::keys_default")]
    pub keys: u32,
    /// The most bytes that a key has, when it is longer than its number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub key_bytes_max: u32,
    /// The most bytes that a value has, when it is longer than its name.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub value_bytes_max: u32,
    /// When the first append may come, in milliseconds.
    #[serde(default)]
    pub from_ms: u64,
    /// When the last one comes, in milliseconds.
    pub to_ms: u64,
    /// Append without being a writer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optimistic: bool,
    /// One in so many values is one that apply refuses; none when 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: u32,
    /// One in so many values is refused by apply, if its writer is a stranger, while the view has a certain key; none
    /// when 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub contested: u32,
    /// One in so many values asks to be let in, which members acknowledge; none when 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub asking: u32,
    /// One in so many values removes a key; none when 0.
    #[serde(default = "Workload::deletes_default")]
    pub deletes: u32,
    /// One in so many values makes an anchor; none when 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub anchors: u32,
    /// One in so many values leaves what its entry is shown when it is applied; none when 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub looks: u32,
    /// One in so many values removes what the last entries left of themselves; none when 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub forgets: u32,
    /// One in so many appends is left by its caller before it ends; none when 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left: u32,
}

/// One append.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Append {
    /// When, in milliseconds.
    pub at_ms: u64,
    /// Who.
    pub replica: usize,
    /// Append without being a writer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optimistic: bool,
    /// Its caller goes away once it was asked so often how far it is; none: the caller waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<u32>,
    /// The values of the batch.
    pub ops: Vec<Op>,
}

impl Workload {
    const fn batch_max_default() -> u32 {
        3
    }

    const fn keys_default() -> u32 {
        32
    }

    const fn deletes_default() -> u32 {
        8
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}
