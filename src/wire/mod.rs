//! Encodings of what is stored and sent. Pure functions over byte slices; imports only key types.

mod link;

pub use link::{Index, Length, Link};
