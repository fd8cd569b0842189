//! The program `autobee`: a database in a directory, from the command line.
//!
//! What it does, with exit codes and examples: docs/cli.md.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a program for this machine"
)]

mod args;
mod care;
mod compare;
mod create;
mod data;
mod doctor;
mod entries;
mod export;
mod failure;
mod import;
mod log;
mod manual;
mod members;
mod out;
mod place;
mod rows;
mod serve;
mod status;
mod sync;
mod ticket;
mod usage;

use std::process::ExitCode;

use args::{Cli, Command};
use failure::Failure;
use out::Out;
use place::Place;

type Result<T> = std::result::Result<T, Failure>;

fn main() -> ExitCode {
    let cli = match usage::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let out = Out::new(cli.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return out.failed(&Failure::io("starting the tasks of this program", error)),
    };
    let code = runtime.block_on(run(cli, &out));
    // A thread may still wait for a line of stdin.
    runtime.shutdown_background();
    code
}

/// Runs a command until it is done, or somebody stops it; then closes what it opened.
async fn run(cli: Cli, out: &Out) -> ExitCode {
    let place = Place::new(cli.dir, out.is_json);
    let done = tokio::select! {
        biased;
        stopped = stopped() => Err(stopped),
        done = Box::pin(obey(cli.command, &place, out)) => done,
    };
    let closed = tokio::select! {
        biased;
        // Whoever asks twice does not want to wait.
        stopped = stopped() => Err(stopped),
        closed = place.close() => closed,
    };
    let flushed = out.flush();
    match done.and(closed).and(flushed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => out.failed(&failure),
    }
}

async fn obey(command: Command, place: &Place, out: &Out) -> Result<()> {
    match command {
        Command::Create(args) => create::create(args, place, out).await,
        Command::Join(args) => create::join(args, place, out).await,
        Command::Id(args) => create::id(args, place, out).await,
        Command::Ticket(args) => ticket::ticket(args, place, out).await,
        Command::Put(args) => data::put(args, place, out).await,
        Command::Get(args) => data::get(args, place, out).await,
        Command::Del(args) => data::del(args, place, out).await,
        Command::Ls(args) => data::ls(args, place, out).await,
        Command::Watch(args) => data::watch(args, place, out).await,
        Command::Import(args) => import::import(args, place, out).await,
        Command::Export(args) => export::export(args, place, out).await,
        Command::Add(args) => members::add(args, place, out).await,
        Command::Remove(args) => members::remove(args, place, out).await,
        Command::Writers => members::writers(place, out).await,
        Command::Status(args) => status::status(args, place, out).await,
        Command::Serve(args) => serve::serve(args, place, out).await,
        Command::Sync(args) => sync::sync(args, place, out).await,
        Command::Log(args) => log::log(args, place, out).await,
        Command::Diff(args) => compare::diff(args, place, out).await,
        Command::Verify => care::verify(place, out).await,
        Command::Salvage(args) => care::salvage(args, place, out).await,
        Command::Compact => care::compact(place, out).await,
        Command::Backup(args) => care::backup(args, place, out).await,
        Command::Restore(args) => care::restore(args, place, out).await,
        Command::Doctor => doctor::doctor(place, out).await,
        Command::Completions(args) => manual::completions(&args, out),
        Command::Man(args) => manual::man(&args, out),
    }
}

/// Waits for Ctrl-C, or for the sign by which a system ends programs.
async fn stopped() -> Failure {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            return tokio::select! {
                biased;
                Ok(()) = tokio::signal::ctrl_c() => Failure::Interrupted,
                Some(()) = terminated.recv() => Failure::Terminated,
                else => std::future::pending().await,
            };
        }
    }
    match tokio::signal::ctrl_c().await {
        Ok(()) => Failure::Interrupted,
        // Then nobody can stop it but the system.
        Err(_) => std::future::pending().await,
    }
}
