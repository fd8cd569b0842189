//! How replicas exchange cores over one byte stream.

pub mod provisional_exchange;
