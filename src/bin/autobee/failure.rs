//! How a command fails: in words, with what to do about it, and with an exit code.

use std::io;
use std::path::PathBuf;

use autobee::store::StoreError;
use autobee::{CoreError, CoreKey};
use thiserror::Error;

/// Why a command did not do what it was asked for.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error("there is no directory {}", .0.display())]
    NoDirectory(PathBuf),
    #[error("there is no database in {}", .0.display())]
    NoDatabase(PathBuf),
    #[error("there is a database in {} already", .0.display())]
    Exists(PathBuf),
    #[error("{} is there already, and is not empty", .0.display())]
    NotEmpty(PathBuf),
    #[error("there is no key {0:?}")]
    NoKey(String),
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{0}")]
    Input(String),
    /// It was asked for in a way that means nothing.
    #[error("{0}")]
    Usage(String),
    #[error("{file}, line {line}: {what}; {rest}")]
    Line {
        file: String,
        line: u64,
        what: String,
        rest: String,
    },
    #[error("it is in the log, and has no effect: {0}")]
    Rejected(String),
    #[error("{0}")]
    Damaged(String),
    #[error("keys that differ: {0}")]
    Different(u64),
    #[error("{0}")]
    Behind(String),
    #[error("checks that are bad: {0}")]
    Unwell(usize),
    #[error(transparent)]
    Database(#[from] autobee::Error),
    #[error("interrupted")]
    Interrupted,
    #[error("terminated")]
    Terminated,
    /// Whoever reads what is printed has enough.
    #[error("nobody reads the output")]
    BrokenPipe,
}

impl Failure {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        let what = what.into();
        Self::Io { what, source }
    }

    /// Of stdout.
    pub(crate) fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::io("writing the output", error),
        }
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        use autobee::ErrorKind;
        match self {
            Self::BrokenPipe => 0,
            Self::Usage(_) => crate::usage::USAGE,
            Self::NoDirectory(_) | Self::NoDatabase(_) | Self::NoKey(_) => 3,
            Self::Damaged(_) => 4,
            Self::InUse(_) => 5,
            Self::Different(_) => 7,
            Self::Behind(_) => 8,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::Database(autobee::Error::InUse) => 5,
            Self::Database(autobee::Error::EncryptionKey { .. }) => 6,
            Self::Database(error) => match error.kind() {
                ErrorKind::Corrupt => 4,
                ErrorKind::Denied => 6,
                ErrorKind::Unavailable => 8,
                _ => 1,
            },
            _ => 1,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        use autobee::Error;
        let hint = match self {
            Self::NoDirectory(_) | Self::NoDatabase(_) => {
                "say which directory with --dir or AUTOBEE_DIR, or make one: autobee create DIR, or autobee join DIR KEY"
            }
            Self::Exists(_) => "use it as it is (autobee --dir DIR id), or choose another directory",
            Self::NotEmpty(_) => "choose a directory that is empty, or that is not there yet",
            Self::InUse(_) | Self::Database(Error::InUse) => {
                "end the other process (autobee serve, sync or watch?); get, ls, log, export and status work meanwhile"
            }
            Self::Io { source, .. } => return io_hint(source).map(str::to_owned),
            Self::Line { .. } => {
                "mend the line, or take it out, and import again: what was imported already is set again"
            }
            Self::Rejected(_) => {
                "autobee log shows what stands before it; autobee writers shows who may write"
            }
            Self::Damaged(_) => {
                "restore a backup (autobee restore), or save what can be read: autobee salvage DIR"
            }
            Self::Behind(_) => {
                "look whether the peer runs (autobee serve), and whether the address is right; then try again"
            }
            Self::Database(error) => return database_hint(error),
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn io_hint(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "this user may not: look at owner and mode (ls -ld), also of the directory above"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make space on the disk, then try again; autobee compact gives back some"
        }
        _ => return None,
    })
}

fn database_hint(error: &autobee::Error) -> Option<String> {
    use autobee::Error;
    let hint = match error {
        Error::NotWritable { local } | Error::NoRoom { local, .. } => return Some(not_a_writer(local)),
        Error::Unconfirmed { .. } => {
            "this directory may be older than what peers have of its log: connect it to one first (autobee sync --connect \
             HOST:PORT), then write"
        }
        Error::Contradicted { .. } => {
            "the directory was copied and written twice: join the database in another directory, and have a member add that \
             writer and remove this one"
        }
        Error::EncryptionKey { .. } => {
            "who created the database has its encryption key: autobee id --secret there, then autobee join DIR KEY \
             --encryption-key HEX here"
        }
        Error::Unavailable { .. } => "it is at a peer: autobee sync --connect HOST:PORT",
        Error::Corrupt { .. } => {
            "restore a backup (autobee restore), or save what can be read: autobee salvage DIR"
        }
        Error::Unsupported { .. } => "a newer version of this program wrote it: take that one",
        Error::Network { .. } => "choose another address; port 0 takes any port that is free",
        Error::Disk { source, .. } if is_closed(source) => {
            "the directory cannot be written: look at its owner and mode (ls -ld), or copy it elsewhere with autobee salvage DIR"
        }
        Error::Disk { source, .. } => io_hint(source)?,
        _ => return None,
    };
    Some(hint.to_owned())
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// What somebody does who may not write.
pub(crate) fn not_a_writer(local: &CoreKey) -> String {
    format!("a member has to add this writer, on its machine: autobee add {local}; then autobee sync here")
}

impl From<CoreError> for Failure {
    fn from(error: CoreError) -> Self {
        autobee::Error::from(error).into()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        autobee::Error::from(error).into()
    }
}
