//! Completions and manual pages, made from what the command line says of itself.

use clap::CommandFactory as _;

use crate::Result;
use crate::args::{Cli, Completions, Man};
use crate::failure::Failure;
use crate::out::Out;

pub(crate) fn completions(args: &Completions, out: &Out) -> Result<()> {
    let mut bytes = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "autobee", &mut bytes);
    out.raw(&bytes)
}

pub(crate) fn man(args: &Man, out: &Out) -> Result<()> {
    let mut command = Cli::command();
    command.build();
    let page = match &args.command {
        None => command,
        Some(name) => {
            let found = command.find_subcommand(name).cloned();
            found
                .ok_or_else(|| Failure::Input(format!("there is no command {name:?}: see autobee --help")))?
        }
    };
    let mut bytes = Vec::new();
    let rendered = clap_mangen::Man::new(page).render(&mut bytes);
    rendered.map_err(|error| Failure::io("making the manual page", error))?;
    out.raw(&bytes)
}
