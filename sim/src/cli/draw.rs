//! `draw`: a generated plan as a file.

use std::path::Path;

use autobee_sim::Scenario;

use super::{CliError, files};

pub(super) fn draw(seed: u64, out: Option<&Path>) -> Result<(), CliError> {
    let text = Scenario::generate(seed).to_toml();
    match out {
        Some(path) => {
            files::write(path, text.as_bytes())?;
            println!("{}: runs with cargo sim run {0} --seed {seed}", path.display());
        }
        None => print!("{text}"),
    }
    Ok(())
}
