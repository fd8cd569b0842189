//! How far everything is.

use std::collections::BTreeMap;
use std::time::Duration;

use autobee::env::Env;
use autobee::{Autobee, CoreKey, NativeAutobee, Pending, Status as DbStatus, WriterProgress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};
use serde_json::{Value, json};

use crate::Result;
use crate::args;
use crate::out::{Out, clean, short, size, style, time};
use crate::place::{Connections, Place, connect};

/// How often a terminal shows it anew, with connections of its own, and of a directory that is only read.
const LOOKS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

pub(crate) async fn status(args: args::Status, place: &Place, out: &Out) -> Result<()> {
    let has_peers = !args.peers.connect.is_empty() || args.peers.listen.is_some();
    let is_live = out.is_live() && !args.once;
    if !has_peers {
        // Another process may have the directory, and change it.
        let mut bars = is_live.then(Bars::new);
        loop {
            let reader = place.read().await?;
            let Some(bars) = &mut bars else {
                return show(&reader, out);
            };
            bars.show(&reader.status(), &heading(&reader));
            tokio::time::sleep(LOOKS.1).await;
        }
    }
    let db = place.open().await?;
    let connections = connect(&db, &args.peers).await?;
    if is_live {
        let mut bars = Bars::new();
        loop {
            bars.show(&db.status(), &live_heading(&db, &connections));
            tokio::time::sleep(LOOKS.0).await;
        }
    }
    // Once, when whoever is dialled was reached, or could not be.
    for kept in &connections.kept {
        kept.reached(|state| state.is_connected() || state.failures > 0)
            .await;
    }
    show(&db, out)
}

fn show<E: Env>(db: &Autobee<E>, out: &Out) -> Result<()> {
    let status = db.status();
    if out.is_json {
        return out.object(&object(db, &status));
    }
    out.bulk(&heading(db))?;
    for writer in &status.writers {
        let (have, length) = (writer.have.0, writer.length.0);
        let bar = text_bar(have, length);
        let name = short(&writer.key);
        let line = format!(
            "writer {name} {bar} {have}/{length} blocks, {} applied{}",
            writer.applied.0,
            why(writer)
        );
        out.bulk(&line)?;
    }
    for peer in &status.peers {
        let progress = &peer.progress;
        let name = progress
            .remote
            .map_or_else(|| "-".to_owned(), |key| key.to_string().chars().take(8).collect());
        let bar = text_bar(progress.have, progress.want);
        let line = format!(
            "peer   {name} {bar} {}/{} blocks, {} received, {} sent",
            progress.have,
            progress.want,
            size(progress.received),
            size(progress.sent)
        );
        out.bulk(&line)?;
    }
    for line in troubles(&status) {
        out.bulk(&out.bad(clean(&line)))?;
    }
    Ok(())
}

fn heading<E: Env>(db: &Autobee<E>) -> String {
    let rules = db
        .rules()
        .map_or("of rules that are not known yet", |rules| rules.name());
    let local = db.local();
    let may = if may_write(db, &local) {
        "may write"
    } else {
        "may not write"
    };
    format!(
        "database {}, {rules}; this is {}, which {may}",
        short(&db.key()),
        short(&local)
    )
}

fn live_heading(db: &NativeAutobee, connections: &Connections) -> String {
    let mut text = heading(db);
    if let Some(listening) = &connections.listening {
        text.push_str(&format!("; listening at {}", listening.local_addr()));
    }
    for kept in connections.kept.iter().filter(|kept| !kept.is_connected()) {
        match kept.last_error() {
            Some(error) => text.push_str(&format!("; {error}")),
            None => text.push_str(&format!("; dialling {}", kept.address())),
        }
    }
    text
}

/// Whether the writer is a member: of a database that is read nobody is its own writer.
pub(crate) fn may_write<E: Env>(db: &Autobee<E>, local: &CoreKey) -> bool {
    let writers = db.writers();
    let mut own = writers.iter().filter(|writer| writer.key == *local);
    own.any(|writer| !writer.is_removed && !writer.is_guest) || (writers.is_empty() && *local == db.key())
}

/// What keeps blocks of a writer from being applied.
fn why(writer: &WriterProgress) -> String {
    let membership = match &writer.record {
        None => ", a stranger",
        Some(record) if record.is_removed => ", removed",
        Some(record) if record.is_guest => ", a guest",
        Some(_) => "",
    };
    let pending = match &writer.pending {
        None => String::new(),
        Some(Pending::Blocks) => ", the others are at peers".into(),
        Some(Pending::Order) => ", the others wait for what they link, or for the clock".into(),
        Some(Pending::Stalled(why)) => format!(", nothing more is taken: {why}"),
        Some(_) => ", the others wait".into(),
    };
    format!("{membership}{pending}")
}

fn troubles(status: &DbStatus) -> Vec<String> {
    let mut troubles = Vec::new();
    if let Some(reason) = &status.stopped {
        troubles.push(format!("nothing is applied any more: {reason}"));
    }
    for link in &status.missing {
        troubles.push(format!(
            "block {} of {} is missing, and others wait for it",
            link.length.0,
            short(&link.key)
        ));
    }
    for ahead in &status.ahead {
        let (name, until) = (short(&ahead.key), time(ahead.until.0));
        troubles.push(format!(
            "block {} of {name} is dated ahead, and waits until {until}",
            ahead.length.0
        ));
    }
    if let Some((first, last)) = status.recovered.missing {
        let (first, last) = (first.0, last.0);
        troubles.push(format!(
            "the end of the store is missing: commits {first} to {last}"
        ));
    }
    troubles
}

/// Everything, for programs.
fn object<E: Env>(db: &Autobee<E>, status: &DbStatus) -> Value {
    let local = db.local();
    let writers = status.writers.iter().map(|writer| {
        let record = writer.record.as_ref();
        json!({
            "writer": writer.key.to_string(),
            "length": writer.length.0,
            "have": writer.have.0,
            "applied": writer.applied.0,
            "member": record.is_some_and(|record| !record.is_removed && !record.is_guest),
            "removed": record.is_some_and(|record| record.is_removed),
            "pending": writer.pending.as_ref().map(|_| why(writer).trim_start_matches(", ").to_owned()),
        })
    });
    let peers = status.peers.iter().map(|peer| {
        let progress = &peer.progress;
        json!({
            "peer": progress.remote.map(|key| key.to_string()),
            "have": progress.have,
            "want": progress.want,
            "offered": progress.offered,
            "taken": progress.taken,
            "synced": progress.is_synced,
            "receivedBytes": progress.received,
            "sentBytes": progress.sent,
        })
    });
    json!({
        "key": db.key().to_string(),
        "local": local.to_string(),
        "rules": db.rules().map(|rules| rules.name()),
        "writable": may_write(db, &local),
        "unconfirmed": db.unconfirmed().map(|why| format!("{why:?}")),
        "writers": writers.collect::<Vec<_>>(),
        "peers": peers.collect::<Vec<_>>(),
        "troubles": troubles(status),
    })
}

fn text_bar(done: u64, of: u64) -> String {
    const WIDTH: u64 = 24;
    let filled = done
        .min(of)
        .saturating_mul(WIDTH)
        .checked_div(of)
        .unwrap_or(WIDTH);
    let (filled, width) = (filled as usize, WIDTH as usize);
    format!("[{}{}]", "=".repeat(filled), " ".repeat(width - filled))
}

/// A bar for each writer and each peer, drawn on a terminal.
pub(crate) struct Bars {
    all: MultiProgress,
    heading: ProgressBar,
    bars: BTreeMap<String, ProgressBar>,
}

impl Bars {
    /// On stdout.
    pub(crate) fn new() -> Self {
        Self::on(ProgressDrawTarget::stdout_with_hz(8))
    }

    /// On stderr, if that is a terminal.
    pub(crate) fn beside() -> Self {
        Self::on(ProgressDrawTarget::stderr_with_hz(8))
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let all = MultiProgress::with_draw_target(target);
        let heading = all.add(ProgressBar::new_spinner());
        heading.set_style(style("{wide_msg}"));
        Self {
            all,
            heading,
            bars: BTreeMap::new(),
        }
    }

    pub(crate) fn show(&mut self, status: &DbStatus, heading: &str) {
        self.heading.set_message(heading.to_owned());
        self.heading.tick();
        let mut gone: Vec<String> = self.bars.keys().cloned().collect();
        for writer in &status.writers {
            let name = format!("writer {}", short(&writer.key));
            gone.retain(|other| *other != name);
            let message = format!("{} applied{}", writer.applied.0, why(writer));
            self.bar(name, writer.have.0, writer.length.0, message);
        }
        for (number, peer) in status.peers.iter().enumerate() {
            let progress = &peer.progress;
            let name = format!("peer {number}");
            gone.retain(|other| *other != name);
            let message = format!(
                "{} received, {} sent, it has {}/{} of ours",
                size(progress.received),
                size(progress.sent),
                progress.taken,
                progress.offered
            );
            self.bar(name, progress.have, progress.want, message);
        }
        for name in gone {
            if let Some(bar) = self.bars.remove(&name) {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
        }
    }

    fn bar(&mut self, name: String, position: u64, length: u64, message: String) {
        let bar = self.bars.entry(name).or_insert_with_key(|name| {
            let bar = self.all.add(ProgressBar::new(length));
            bar.set_style(style("{prefix:15} [{bar:24}] {pos}/{len} blocks, {msg}"));
            bar.set_prefix(name.clone());
            bar
        });
        bar.set_length(length);
        bar.set_position(position);
        bar.set_message(message);
        bar.tick();
    }

    pub(crate) fn clear(&self) {
        // A terminal that cannot be cleared is none any more.
        let _ = self.all.clear();
    }
}
