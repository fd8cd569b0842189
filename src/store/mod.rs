//! What is durable.

pub mod provisional_records;
