//! Golden cases made by running the JavaScript packages: one test a file, named after it.
//!
//! `AUTOBEE_VECTORS` names another directory with the same files and schema; `AUTOBEE_VECTORS_STRICT=1` turns every
//! case that is not covered into a failure.

#[expect(dead_code, reason = "the first vector tests arrive with the kernels")]
mod golden;
