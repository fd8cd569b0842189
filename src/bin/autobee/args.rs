//! What can be said on the command line.

use std::path::PathBuf;

use autobee::CoreKey;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// A multi-writer, peer-to-peer key-value database in a directory.
#[derive(Debug, Parser)]
#[command(
    name = "autobee",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not there, 4 damaged, 5 in use, 6 not allowed, 7 different, 8 not \
                  caught up, 130 Ctrl-C. The first minute:\n\n  \
                  autobee create notes\n  autobee --dir notes put greeting hello\n  autobee --dir notes serve\n\n\
                  and on another machine: autobee join notes KEY; autobee --dir notes sync --connect HOST:PORT"
)]
pub(crate) struct Cli {
    /// The directory of the database; else AUTOBEE_DIR, else the current directory.
    #[arg(long, global = true, env = "AUTOBEE_DIR", value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Answers in JSON: one object a line, also of errors.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a database in a directory, and prints its key.
    #[command(
        after_help = "Examples:\n  autobee create notes\n  autobee create notes --encrypt\n  \
                            autobee create shared --interop    # for JavaScript peers, too"
    )]
    Create(Create),
    /// Makes a directory for a database that somebody else created.
    #[command(
        after_help = "Examples:\n  autobee join notes KEY\n  autobee join notes KEY --encryption-key HEX\n\n\
                            Then `autobee --dir notes sync --connect HOST:PORT` fetches it. To write, a member adds the key that\n\
                            `autobee id` calls the writer."
    )]
    Join(Join),
    /// Prints the keys of the database and of the writer of this directory, and its rules.
    #[command(
        after_help = "Examples:\n  autobee id\n  autobee id --json\n  autobee id --secret    # with the encryption key"
    )]
    Id(Id),
    /// Prints a ticket: the key of the database, and where peers are, in one line that can be sent or shown.
    #[command(
        after_help = "Examples:\n  autobee ticket --at 192.0.2.7:4977\n  autobee ticket --swarm --qr\n  \
                            autobee ticket --at HOST:PORT --secret    # who has it can read an encrypted database"
    )]
    Ticket(TicketArgs),
    /// Sets a key.
    #[command(after_help = "Examples:\n  autobee put greeting hello\n  autobee put report < report.txt")]
    Put(Put),
    /// Prints the value of a key; exit code 3 when there is none.
    #[command(after_help = "Examples:\n  autobee get greeting\n  autobee get greeting --json")]
    Get(Get),
    /// Takes a key out.
    #[command(after_help = "Example:\n  autobee del greeting")]
    Del(Del),
    /// Lists keys and values, all or those with a prefix.
    #[command(
        after_help = "Examples:\n  autobee ls\n  autobee ls user/ --keys\n  autobee ls user/ --reverse --limit 10"
    )]
    Ls(Ls),
    /// Prints what changes, from now on, while it is connected to peers.
    #[command(
        after_help = "Examples:\n  autobee watch --connect HOST:PORT\n  autobee watch user/ --listen 0.0.0.0:4977 --json"
    )]
    Watch(Watch),
    /// Sets keys from a file of JSON lines or CSV.
    #[command(
        after_help = "JSON lines are {\"key\":K,\"value\":V}, {\"put\":[K,V]} or {\"del\":K}; CSV has the columns key and value.\n\
                            A file is checked as a whole before anything of it is imported. What comes from stdin (-) is imported as\n\
                            it comes.\n\nExamples:\n  autobee import people.csv\n  autobee import - < people.jsonl"
    )]
    Import(Import),
    /// Writes keys and values as JSON lines or CSV.
    #[command(
        after_help = "Examples:\n  autobee export > all.jsonl\n  autobee export people.csv --prefix user/"
    )]
    Export(Export),
    /// Lets a writer write.
    #[command(
        after_help = "Examples:\n  autobee add WRITER\n  autobee add WRITER --weight 2    # it counts for more in the order"
    )]
    Add(Add),
    /// Takes from a writer that it may write.
    #[command(after_help = "Example:\n  autobee remove WRITER")]
    Remove(Remove),
    /// Lists the writers.
    #[command(after_help = "Examples:\n  autobee writers\n  autobee writers --json")]
    Writers,
    /// Shows how far everything is: live on a terminal, until Ctrl-C.
    #[command(
        after_help = "Examples:\n  autobee status\n  autobee status --once\n  autobee status --json\n  \
                            autobee status --connect HOST:PORT"
    )]
    Status(Status),
    /// Accepts peers until Ctrl-C.
    #[command(
        after_help = "Examples:\n  autobee serve\n  autobee serve --listen 127.0.0.1:0 --json\n  \
                            autobee serve --connect HOST:PORT    # and keeps a peer connected"
    )]
    Serve(Serve),
    /// Connects to peers, exchanges everything, and ends when both sides have it.
    #[command(
        after_help = "Examples:\n  autobee sync --connect HOST:PORT\n  autobee sync --connect HOST:PORT --timeout 10"
    )]
    Sync(Sync),
    /// Prints the order: who wrote what, when, and why it stands there.
    #[command(
        after_help = "Examples:\n  autobee log\n  autobee log --last 20\n  autobee log --writer WRITER --json"
    )]
    Log(Log),
    /// Compares what two directories hold; exit code 7 when it differs.
    #[command(after_help = "Example:\n  autobee diff here there")]
    Diff(CompareArgs),
    /// Reads everything, and says what is damaged or missing; exit code 4 when something is damaged.
    #[command(after_help = "Example:\n  autobee verify")]
    Verify,
    /// Copies what can be read of a damaged or read-only directory into another one.
    #[command(after_help = "Examples:\n  autobee --dir broken salvage saved\n  \
                            autobee --dir broken salvage saved --entries entries.jsonl")]
    Salvage(Salvage),
    /// Gives back space in the store.
    #[command(after_help = "Example:\n  autobee compact")]
    Compact,
    /// Makes a consistent, checked copy of the directory.
    #[command(after_help = "Example:\n  autobee backup /media/usb/notes-monday")]
    Backup(Backup),
    /// Makes a directory from a backup, and marks it as restored.
    #[command(
        after_help = "A restored directory may be older than what peers have of its log, so its first append waits for a peer.\n\n\
                            Example:\n  autobee restore /media/usb/notes-monday notes"
    )]
    Restore(Restore),
    /// Looks at directory, permissions, lock, clock, disk and logs, and says what to do.
    #[command(after_help = "Example:\n  autobee doctor")]
    Doctor,
    /// Prints completions for a shell.
    #[command(
        after_help = "Example:\n  autobee completions bash > ~/.local/share/bash-completion/completions/autobee"
    )]
    Completions(Completions),
    /// Prints the manual page, of the program or of a command.
    #[command(after_help = "Examples:\n  autobee man | man -l -\n  autobee man sync | man -l -")]
    Man(Man),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The directory to make.
    pub(crate) path: PathBuf,
    /// With the rules of the original, so that JavaScript peers can join.
    #[arg(long)]
    pub(crate) interop: bool,
    /// Encrypts it with a key that is drawn, and that everybody who joins needs.
    #[arg(long)]
    pub(crate) encrypt: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The directory to make.
    pub(crate) path: PathBuf,
    /// The key of the database, or a ticket, as `autobee ticket` prints it.
    #[arg(value_name = "KEY|TICKET", value_parser = ticket)]
    pub(crate) ticket: autobee::Ticket,
    /// The encryption key of the database: 64 hexadecimal digits.
    #[arg(long, value_name = "HEX", value_parser = secret)]
    pub(crate) encryption_key: Option<Secret>,
}

#[derive(Debug, Args)]
pub(crate) struct TicketArgs {
    /// An address at which a peer of the database listens; may be given several times.
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub(crate) at: Vec<String>,
    /// Says that peers are found on the swarm.
    #[arg(long)]
    pub(crate) swarm: bool,
    /// Puts the encryption key in: who has the ticket can read the database.
    #[arg(long)]
    pub(crate) secret: bool,
    /// Draws it as a QR code, too.
    #[arg(long)]
    pub(crate) qr: bool,
}

/// The key of a database, or a ticket.
fn ticket(word: &str) -> Result<autobee::Ticket, String> {
    if word.starts_with("autobee:") {
        return word
            .parse()
            .map_err(|error: autobee::TicketError| error.to_string());
    }
    let key: Result<CoreKey, _> = word.parse();
    key.map(autobee::Ticket::new)
        .map_err(|error| format!("neither a key nor a ticket: {error}"))
}

/// A secret that is not shown.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// An address that can be dialled or listened at; names are looked up later.
fn address(word: &str) -> Result<String, String> {
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    match word.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && is_port(port) => Ok(word.to_owned()),
        _ => Err("an address is HOST:PORT, such as 127.0.0.1:4977 or [::1]:4977".to_owned()),
    }
}

fn secret(word: &str) -> Result<Secret, String> {
    // Two spellings of keys are read; this has one.
    let key = word.parse::<CoreKey>().ok().filter(|_| word.len() == 64);
    key.map(|key| Secret(*key.as_bytes()))
        .ok_or_else(|| "an encryption key has 64 hexadecimal digits".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct Id {
    /// Prints the encryption key, too.
    #[arg(long)]
    pub(crate) secret: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The key.
    #[arg(allow_negative_numbers = true)]
    pub(crate) key: String,
    /// The value; stdin when it is left out.
    #[arg(allow_negative_numbers = true)]
    pub(crate) value: Option<String>,
    /// Writes also without being a member: peers hear it when a member acknowledges it.
    #[arg(long)]
    pub(crate) optimistic: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The key.
    #[arg(allow_negative_numbers = true)]
    pub(crate) key: String,
}

#[derive(Debug, Args)]
pub(crate) struct Del {
    /// The key.
    #[arg(allow_negative_numbers = true)]
    pub(crate) key: String,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Only keys that begin so.
    pub(crate) prefix: Option<String>,
    /// Keys without values.
    #[arg(long)]
    pub(crate) keys: bool,
    /// The last key first.
    #[arg(long)]
    pub(crate) reverse: bool,
    /// At most so many.
    #[arg(long, value_name = "COUNT")]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Only keys that begin so.
    pub(crate) prefix: Option<String>,
    #[command(flatten)]
    pub(crate) peers: Peers,
}

/// Where peers are.
#[derive(Debug, Args, Clone)]
pub(crate) struct Peers {
    /// Keeps the peer at this address connected; may be given several times.
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub(crate) connect: Vec<String>,
    /// Accepts peers at this address; port 0 is any that is free.
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub(crate) listen: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    /// One JSON object a line.
    Jsonl,
    /// The columns key and value.
    Csv,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file; - is stdin.
    pub(crate) file: PathBuf,
    /// The format; else what the name of the file ends with, else JSON lines.
    #[arg(long)]
    pub(crate) format: Option<FileFormat>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The file, which must not be there; stdout when it is left out.
    pub(crate) file: Option<PathBuf>,
    /// The format; else what the name of the file ends with, else JSON lines.
    #[arg(long)]
    pub(crate) format: Option<FileFormat>,
    /// Only keys that begin so.
    #[arg(long)]
    pub(crate) prefix: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The key of the writer, as its `autobee id` prints it.
    pub(crate) writer: CoreKey,
    /// The ceiling of its weight in the order.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) weight: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The key of the writer.
    pub(crate) writer: CoreKey,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Shows it once, also on a terminal.
    #[arg(long)]
    pub(crate) once: bool,
    #[command(flatten)]
    pub(crate) peers: Peers,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The address at which peers are accepted; port 0 is any that is free.
    #[arg(long, value_name = "ADDR:PORT", value_parser = address, default_value = "127.0.0.1:0")]
    pub(crate) listen: String,
    /// Keeps the peer at this address connected; may be given several times.
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub(crate) connect: Vec<String>,
    #[cfg(feature = "hyperswarm")]
    #[command(flatten)]
    pub(crate) swarm: Swarm,
}

/// Peers that are found.
#[cfg(feature = "hyperswarm")]
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct Swarm {
    /// Finds peers by the database on Hyperswarm, and is found there.
    #[arg(long)]
    pub(crate) swarm: bool,
    /// A node of another DHT than the public one; may be given several times.
    #[arg(long, value_name = "HOST:PORT", value_parser = address, requires = "swarm")]
    pub(crate) dht: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// The address of a peer; may be given several times.
    #[cfg_attr(not(feature = "hyperswarm"), arg(long, value_name = "HOST:PORT", value_parser = address, required = true))]
    #[cfg_attr(
        feature = "hyperswarm",
        arg(long, value_name = "HOST:PORT", value_parser = address, required_unless_present = "swarm")
    )]
    pub(crate) connect: Vec<String>,
    #[cfg(feature = "hyperswarm")]
    #[command(flatten)]
    pub(crate) swarm: Swarm,
    /// Gives up when nothing came or went for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// Only the last entries, so many.
    #[arg(long, value_name = "COUNT")]
    pub(crate) last: Option<usize>,
    /// Only entries of this writer.
    #[arg(long)]
    pub(crate) writer: Option<CoreKey>,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// A directory.
    pub(crate) a: PathBuf,
    /// Another one.
    pub(crate) b: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Salvage {
    /// The directory to make.
    pub(crate) into: PathBuf,
    /// Writes all entries of all logs that can be read, also those that have no place in the order any more, to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) entries: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The directory to make.
    pub(crate) to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup.
    pub(crate) backup: PathBuf,
    /// The directory to make.
    pub(crate) to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// A command; else the page of the program.
    pub(crate) command: Option<String>,
}
