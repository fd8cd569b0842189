//! Logs as JSON lines, as `sim/node/export.js` writes those of a Corestore of Node.
//!
//! Nothing in such a file is believed: each log is checked with the signature that stands with it.

use autobee::crypto::id::hex_decode;
use autobee::crypto::{CoreKey, Ed25519};
use autobee::hypercore::log::{Log, LogRange, RangeError};
use autobee::hypercore::manifest::{Manifest, ManifestError};
use autobee::hypercore::proof::{BlockRequest, Request, UpgradeRequest};
use autobee::hypercore::{Core, CoreError, CoreOptions};
use autobee::wire::Length;
use autobee::{Corestore, env::Env};
use bytes::Bytes;
use serde::Deserialize;
use thiserror::Error;

/// The name of the format, in the first line.
const FORMAT: &str = "hypercore-logs";
/// Its only version.
const VERSION: u64 = 1;

/// Why a file of exported logs cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The first line is not that of such a file.
    #[error("line 1: expected {{\"format\":\"{FORMAT}\",\"version\":{VERSION}}}")]
    Format,
    /// A line is none of the known ones, or stands where it cannot.
    #[error("line {line}: {problem}")]
    Line {
        /// Which, from 1 on.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A manifest cannot be read.
    #[error("the manifest of log {key}: {error}")]
    Manifest {
        /// The log.
        key: CoreKey,
        /// Why.
        error: ManifestError,
    },
    /// The owner of a log did not sign these blocks.
    #[error("log {key}: {error}")]
    Log {
        /// The log.
        key: CoreKey,
        /// Why.
        error: RangeError,
    },
}

/// Whole logs, each as its owner signed it.
///
/// ```
/// use autobee_sim::ExportedLogs;
///
/// let logs = ExportedLogs::parse("{\"format\":\"hypercore-logs\",\"version\":1}\n")?;
/// assert!(logs.is_empty());
/// # Ok::<(), autobee_sim::ExportError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ExportedLogs {
    logs: Vec<Log>,
    left_out: Vec<(CoreKey, String)>,
}

/// A line of the file.
#[derive(Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected a log, a block, or a log that was left out"
)]
enum ExportLine {
    Format {
        format: String,
        version: u64,
    },
    Log {
        log: String,
        manifest: Option<String>,
        fork: u64,
        length: usize,
        signature: String,
    },
    Block {
        block: String,
    },
    LeftOut {
        left_out: String,
        why: String,
    },
}

/// A log whose blocks are being read.
struct PartialLog {
    key: CoreKey,
    length: usize,
    range: LogRange,
}

impl ExportedLogs {
    /// Reads the lines of a file, and checks each log.
    ///
    /// # Errors
    ///
    /// When a line is no line of such a file, blocks are missing, or a log is not what its owner signed.
    pub fn parse(text: &str) -> Result<Self, ExportError> {
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
        let first = lines.next().map(|(_, line)| serde_json::from_str(line));
        match first {
            Some(Ok(ExportLine::Format { format, version })) if format == FORMAT && version == VERSION => {}
            _ => return Err(ExportError::Format),
        }
        let mut all = Self::default();
        let mut partial: Option<PartialLog> = None;
        for (number, line) in lines {
            let wrong = |problem: String| ExportError::Line {
                line: number,
                problem,
            };
            match (
                serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?,
                partial.as_mut(),
            ) {
                (ExportLine::Block { block }, Some(log)) => {
                    log.range.blocks.push(bytes(&block).map_err(wrong)?);
                    if log.range.blocks.len() == log.length {
                        all.logs.extend(partial.take().map(checked).transpose()?);
                    }
                }
                (ExportLine::Block { .. }, None) => {
                    return Err(wrong("a block behind the end of its log".into()));
                }
                (_, Some(log)) => {
                    let (has, of) = (log.range.blocks.len(), log.length);
                    return Err(wrong(format!("log {} has {has} of {of} blocks", log.key)));
                }
                (
                    ExportLine::Log {
                        log,
                        manifest,
                        fork,
                        length,
                        signature,
                    },
                    None,
                ) => {
                    if length == 0 {
                        return Err(wrong("a log of no blocks".into()));
                    }
                    let key = key(&log).map_err(wrong)?;
                    let manifest = manifest.as_deref().map(bytes).transpose().map_err(wrong)?;
                    let manifest = manifest.map(|manifest| Manifest::decode(&manifest)).transpose();
                    partial = Some(PartialLog {
                        key,
                        length,
                        range: LogRange {
                            manifest: manifest.map_err(|error| ExportError::Manifest { key, error })?,
                            fork,
                            start: Length::ZERO,
                            blocks: Vec::new(),
                            signature: Some(bytes(&signature).map_err(wrong)?),
                        },
                    });
                }
                (ExportLine::LeftOut { left_out, why }, None) => {
                    all.left_out.push((key(&left_out).map_err(wrong)?, why));
                }
                (ExportLine::Format { .. }, None) => return Err(wrong("a second first line".into())),
            }
        }
        match partial {
            None => Ok(all),
            Some(log) => Err(ExportError::Line {
                line: text.lines().count(),
                problem: format!(
                    "the file ends with {} of {} blocks of log {}",
                    log.range.blocks.len(),
                    log.length,
                    log.key
                ),
            }),
        }
    }

    /// True when there is no log.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// The logs that are not in the file, and why.
    #[must_use]
    pub fn left_out(&self) -> &[(CoreKey, String)] {
        &self.left_out
    }

    /// Puts all logs into a store, by the proofs that a peer would send.
    pub(crate) async fn put_into<E: Env>(&self, store: &Corestore<E>) -> Result<(), CoreError> {
        for log in &self.logs {
            let core = store.get(CoreOptions::key(log.key())).await?;
            put_log(log, &core)?;
        }
        Ok(())
    }
}

fn checked(partial: PartialLog) -> Result<Log, ExportError> {
    let PartialLog { key, range, .. } = partial;
    let mut log = Log::replica(key);
    log.accept(&Ed25519, range)
        .map_err(|error| ExportError::Log { key, error })?;
    Ok(log)
}

/// The blocks of a log go into a core that has none of them.
fn put_log<E: Env>(log: &Log, core: &Core<E>) -> Result<(), CoreError> {
    let peer = core.peer_access();
    let prove = |request: &Request| -> Result<_, CoreError> {
        let mut proof = log.prove(request)?.ok_or(CoreError::Unknown)?;
        proof.manifest = log.manifest().cloned();
        Ok(proof)
    };
    let whole = UpgradeRequest {
        start: 0,
        length: log.length().0,
    };
    let head = prove(&Request {
        upgrade: Some(whole),
        ..Request::default()
    })?;
    if log.fork() == 0 {
        stored(peer.receive(&head)?)?;
    } else {
        let reorg = peer.start_reorg(&head)?;
        stored(peer.finish_reorg(reorg)?)?;
    }
    for index in 0..log.length().0 {
        let nodes = peer.missing_nodes(2 * index)?;
        let block = Some(BlockRequest { index, nodes });
        stored(peer.receive(&prove(&Request {
            block,
            ..Request::default()
        })?)?)?;
    }
    Ok(())
}

/// A proof of another fork is not stored: the store has something else of this log already.
const fn stored(is_stored: bool) -> Result<(), CoreError> {
    if is_stored {
        Ok(())
    } else {
        Err(CoreError::Conflict("log"))
    }
}

fn key(text: &str) -> Result<CoreKey, String> {
    text.parse()
        .map_err(|error| format!("{text:?} is no key: {error}"))
}

fn bytes(text: &str) -> Result<Bytes, String> {
    hex_decode(text)
        .ok()
        .filter(|_| text.len().is_multiple_of(2))
        .map(Bytes::from)
        .ok_or_else(|| "expected hexadecimal digits, two for each byte".into())
}
