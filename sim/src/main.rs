//! `cargo sim`: runs scenarios, repeats failures, compares runs.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
