//! The public handle.

mod settings;

pub use settings::Settings;
