//! Encodings of what is stored and sent. Pure functions over byte slices; imports only key types.

pub mod compact;
mod link;
pub mod oplog;
pub mod replication;
pub mod rules;
pub mod system;
mod time;
mod weight;

pub use compact::{Decode, DecodeError, DecodeErrorKind, Decoder, Encode, EncodeError, Encoder};
pub use link::{Index, Length, Link};
pub use oplog::OplogBlock;
pub use rules::Rules;
pub use system::{InfoRecord, WriterRecord};
pub use time::Timestamp;
pub use weight::Weight;
