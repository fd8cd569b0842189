//! Exchanging everything with peers, and ending when both sides have it.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use autobee::wire::Decode as _;
use autobee::wire::oplog::OplogBlock;
use autobee::{Index, NativeAutobee, Progress, Rules, Stalled};
use serde_json::json;

use crate::Result;
use crate::args::{Peers, Sync};
use crate::failure::Failure;
use crate::out::{Out, size};
use crate::place::{Link, Place, connect};
use crate::status::Bars;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

/// After so long it is said what is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long all must stay as it is, both sides having everything: logs that one side learns of from the other open one
/// after the other.
const SETTLED: Duration = Duration::from_millis(500);

/// How long nothing may come or go of what one side has more of before it is taken that it is not wanted there: of the trees of
/// another writer only what is compared is fetched, and of the log of a stranger only so much.
const UNWANTED: Duration = Duration::from_secs(2);

pub(crate) async fn sync(args: Sync, place: &Place, out: &Out) -> Result<()> {
    let db = place.open().await?;
    let peers = Peers {
        connect: args.connect,
        listen: None,
    };
    #[cfg_attr(
        not(feature = "hyperswarm"),
        expect(unused_mut, reason = "a swarm adds to them")
    )]
    let mut connections = connect(&db, &peers).await?;
    #[cfg(feature = "hyperswarm")]
    connections.join(&db, place, &args.swarm).await?;
    let mut bars = (!out.is_json && std::io::stderr().is_terminal()).then(Bars::beside);
    let timeout = Duration::from_secs(args.timeout);
    if db.unconfirmed().is_some() {
        // First: the peer says that it sent all that it has before it is asked for anything else. It is tried again at the end.
        let _ = db.confirm().await;
    }
    let mut watched = Watched::new();
    let began = Instant::now();
    let mut is_told = bars.is_some();
    let left = loop {
        tokio::time::sleep(LOOK).await;
        let look = Look::at(&db, &connections.links());
        if let Some(database) = db.status().writer_of {
            return Err(Failure::Usage(format!(
                "{} is the key of a writer's log, not of a database: join the database {database} (autobee join DIR {database})",
                db.key()
            )));
        }
        let unchanged = watched.unchanged_for(&look);
        if let Some(bars) = &mut bars {
            bars.show(&db.status(), "exchanging with peers");
        }
        let waited = match &look.left {
            None => SETTLED,
            Some(Missing::Unwanted(_)) => UNWANTED.min(timeout),
            Some(_) => timeout,
        };
        if !is_told
            && began.elapsed() >= PATIENCE
            && let Some(Missing::Unreached(why) | Missing::ToTake(why)) = &look.left
        {
            is_told = true;
            let seconds = args.timeout;
            out.note(&format!(
                "{why}; it gives up when nothing changes for {seconds} seconds"
            ));
        }
        if unchanged >= waited {
            break look.left;
        }
    };
    if let Some(bars) = bars {
        bars.clear();
    }
    if builds_on_others(&db)? {
        out.note(&format!(
            "the log of the key {} begins behind entries of other logs: if it is a writer's, ask for the key of the database \
             (both are told by autobee id)",
            db.key()
        ));
    }
    let not_given = match left {
        None => 0,
        Some(Missing::Unwanted(blocks)) => blocks.saturating_sub(trees(&db)?),
        Some(Missing::Unreached(why)) => return Err(Failure::Behind(why)),
        Some(Missing::ToTake(why)) => {
            return Err(Failure::Behind(format!(
                "nothing came for {} seconds, and {why}",
                args.timeout
            )));
        }
    };
    db.flush().await?;
    forked(&db, &connections.links(), out)?;
    // As long as the peer is here, so that the next command may write without it.
    let unconfirmed = match db.unconfirmed() {
        Some(_) => db.confirm().await.err(),
        None => None,
    };
    let stats = db.stats();
    let answer = json!({
        "caughtUp": true,
        "receivedBlocks": stats.received_blocks,
        "sentBlocks": stats.sent_blocks,
        "receivedBytes": stats.received_bytes,
        "sentBytes": stats.sent_bytes,
        "notTaken": not_given,
        "writable": db.writable(),
        "unconfirmed": unconfirmed.as_ref().map(ToString::to_string),
    });
    out.either(&answer, || {
        format!(
            "caught up: {} blocks came ({}), {} went ({})",
            stats.received_blocks,
            size(stats.received_bytes),
            stats.sent_blocks,
            size(stats.sent_bytes)
        )
    })?;
    if let Some(error) = unconfirmed {
        out.note(&error.to_string());
    }
    let own = db.writers().into_iter().find(|writer| writer.key == db.local());
    if own.is_some_and(|writer| writer.is_removed) {
        out.note("this writer was removed: what it wrote since, or at the same time, has no effect");
    }
    if not_given > 0 {
        out.note(&format!(
            "the peer did not take {not_given} blocks: of writers that it does not know, or not more of"
        ));
    }
    Ok(())
}

/// True when the first entry of the log whose key the database has builds on others, and nothing else tells whether it is
/// the creator's: that may have heard of a stranger before it wrote itself.
fn builds_on_others(db: &NativeAutobee) -> Result<bool> {
    if db.rules().is_none_or(Rules::is_safe) {
        return Ok(false);
    }
    let first = db.block(&db.key(), Index(0))?;
    let first = first.and_then(|block| OplogBlock::from_bytes(&block).ok());
    Ok(first.is_some_and(|block| !block.links.is_empty()))
}

/// Blocks of the own trees, which others fetch only to compare them.
fn trees(db: &NativeAutobee) -> Result<u64> {
    let [system, view, _] = db.views()?;
    Ok(system.length.0 + view.length.0)
}

/// That no log was written twice: what comes after that is exchanged with nobody.
fn forked(db: &NativeAutobee, links: &[Link], out: &Out) -> Result<()> {
    let local = db.local();
    for (key, why) in db.stalled() {
        match why {
            Stalled::Conflict { length, .. } if key == local => {
                return Err(autobee::Error::Contradicted { local, length }.into());
            }
            why => out.note(&format!("nothing more is taken of the writer {key}: {why}")),
        }
    }
    for session in links.iter().filter_map(|link| link.session.as_ref().ok()) {
        if let Some(blame) = session.blame() {
            out.note(&format!("a log is no longer exchanged with this peer: {blame}"));
        }
    }
    Ok(())
}

/// What is left to be done.
enum Missing {
    /// A peer is not connected.
    Unreached(String),
    /// Something is not here yet.
    ToTake(String),
    /// One side has more than the other, but of nothing that is known to be wanted: so many blocks here.
    Unwanted(u64),
}

/// How it stands.
struct Look {
    left: Option<Missing>,
    /// What changes as long as something happens.
    counts: Vec<(Option<Progress>, u64)>,
}

impl Look {
    fn at(db: &NativeAutobee, links: &[Link]) -> Self {
        let stats = db.stats();
        let mut counts = vec![(None, stats.applies), (None, db.cores().len() as u64)];
        let mut left = None;
        let (mut not_given, mut is_uneven) = (0, false);
        for Link { name, session } in links {
            let session = match session {
                Ok(session) => session,
                Err(why) => {
                    left = Some(Missing::Unreached(why.clone()));
                    counts.push((None, 0));
                    continue;
                }
            };
            let mut progress = session.progress();
            if progress.cores == 0 && left.is_none() {
                left = Some(Missing::ToTake(format!("{name} has nothing of this database")));
            }
            is_uneven |= !progress.is_synced || progress.unanswered > 0 || progress.unsent > 0;
            not_given += progress.offered.saturating_sub(progress.taken);
            // A sign of life is no news.
            (progress.received, progress.sent, progress.unsent) = (0, 0, 0);
            counts.push((Some(progress), 0));
        }
        let status = db.status();
        let behind = status.writers.iter().find(|writer| {
            let is_member = writer.record.is_some_and(|record| !record.is_removed);
            let waits = matches!(writer.pending, Some(autobee::Pending::Blocks));
            is_member && waits
        });
        if left.is_none() {
            if let Some(writer) = behind {
                let missing = writer.length.0 - writer.have.0;
                left = Some(Missing::ToTake(format!(
                    "{missing} blocks of the writer {} are missing",
                    writer.key
                )));
            } else if let Some(link) = status.missing.first() {
                left = Some(Missing::ToTake(format!(
                    "block {} of the writer {} is missing",
                    link.length.0, link.key
                )));
            } else if db.rules().is_none() {
                left = Some(Missing::ToTake(
                    "nothing of the database came: is the peer one of it?".into(),
                ));
            } else if not_given > 0 || is_uneven {
                left = Some(Missing::Unwanted(not_given));
            }
        }
        Self { left, counts }
    }
}

/// Since when nothing changed.
struct Watched {
    counts: Vec<(Option<Progress>, u64)>,
    since: Instant,
}

impl Watched {
    fn new() -> Self {
        Self {
            counts: Vec::new(),
            since: Instant::now(),
        }
    }

    fn unchanged_for(&mut self, look: &Look) -> Duration {
        if self.counts != look.counts {
            self.counts.clone_from(&look.counts);
            self.since = Instant::now();
        }
        self.since.elapsed()
    }
}
