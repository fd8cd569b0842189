//! The seeded simulator of Autobee.
