//! What makes one database out of many logs.

pub mod dag;
pub mod linearizer;
