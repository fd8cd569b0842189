//! The real world, on tokio.
