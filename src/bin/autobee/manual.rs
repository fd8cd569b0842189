//! Completions and manual pages, made from what the command line says of itself.

use clap::CommandFactory as _;
use serde_json::json;

use crate::Result;
use crate::args::{Cli, Completions, Man};
use crate::failure::Failure;
use crate::out::{Out, text};

pub(crate) fn completions(args: &Completions, out: &Out) -> Result<()> {
    let mut bytes = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "autobee", &mut bytes);
    page("completions", &bytes, out)
}

pub(crate) fn man(args: &Man, out: &Out) -> Result<()> {
    let mut command = Cli::command();
    command.build();
    let described = match &args.command {
        None => command,
        Some(name) => {
            let found = command.find_subcommand(name).cloned();
            found
                .ok_or_else(|| Failure::Usage(format!("there is no command {name:?}: see autobee --help")))?
        }
    };
    let mut bytes = Vec::new();
    let rendered = clap_mangen::Man::new(described).render(&mut bytes);
    rendered.map_err(|error| Failure::io("making the manual page", error))?;
    page("man", &bytes, out)
}

/// As it is, for other programs; with `--json` in an object.
fn page(name: &str, bytes: &[u8], out: &Out) -> Result<()> {
    if out.is_json {
        return out.object(&json!({ name: text(bytes) }));
    }
    out.raw(bytes)
}
