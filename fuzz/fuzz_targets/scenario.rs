//! Whatever befalls a few replicas: once it is over they agree, with each other and with the model, and nothing
//! acknowledged is lost.
//!
//! ```text
//! cargo +stable fuzz run -s none scenario -- -len_control=0 -max_len=64
//! ```
#![no_main]

use autobee_sim::{Scenario, TraceSink, run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (scenario, seed) = Scenario::draw(bytes);
    let report = run(&scenario, seed, TraceSink::Discard).expect("the run can be carried out");
    assert!(
        report.converged,
        "seed {seed}: {:#?}\n{}",
        report.violations,
        scenario.to_toml()
    );
});
