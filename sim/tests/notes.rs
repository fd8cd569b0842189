//! A program that is no database, checked in a [`World`]: a keeper of notes, and writers who send it some. A note that was
//! acknowledged is kept, whatever befalls them. The keeper that syncs its file only now and then loses some.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autobee::env::{Clock as _, DiskFile, Env as _, Listener as _, Network as _, Open, PeerAddr, Spawn as _};
use autobee_sim::invariant::Invariant;
use autobee_sim::{Faults, Peer, Program, Shown, SimStream, World};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The keeper is the first replica, all others write.
struct Notes {
    /// The planted mistake: most notes are acknowledged before they are durable.
    syncs_seldom: bool,
}

/// What invariants see of one process.
#[derive(Default, Clone)]
struct Told {
    kept: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
}

impl Program for Notes {
    type Shown = Told;

    async fn run(&self, peer: Peer<Told>) {
        if peer.number > 0 {
            return write(peer).await;
        }
        let disk = peer.env.disk();
        let file = disk
            .open("notes", Open::Write)
            .or_else(|_| disk.open("notes", Open::CreateNew));
        let file = file.unwrap();
        disk.sync_dir().unwrap();
        for place in 0..file.len().unwrap() / 8 {
            let mut note = [0; 8];
            file.read_at(place * 8, &mut note).unwrap();
            peer.show(|told| told.kept.insert(u64::from_le_bytes(note)));
        }
        let file = Arc::new(Mutex::new(file));
        let mut listener = peer
            .env
            .network()
            .listen(&PeerAddr::new(peer.name()))
            .await
            .unwrap();
        while let Ok((stream, _)) = listener.accept().await {
            let serving = serve(peer.clone(), stream, Arc::clone(&file), self.syncs_seldom);
            peer.env.spawn().spawn("serve", serving);
        }
    }
}

/// Keeps the notes that come on one stream, and acknowledges each.
async fn serve(peer: Peer<Told>, mut stream: SimStream, file: Arc<Mutex<Box<dyn DiskFile>>>, seldom: bool) {
    while let Ok(note) = stream.read_u64_le().await {
        {
            let file = file.lock().unwrap();
            let end = file.len().unwrap() / 8 * 8;
            file.write_at(end, &[IoSlice::new(&note.to_le_bytes())]).unwrap();
            if !seldom || note % 5 == 0 {
                file.sync().unwrap();
            }
        }
        peer.show(|told| told.kept.insert(note));
        if stream.write_u8(1).await.is_err() {
            return;
        }
    }
}

/// Sends a note now and then, each until it is acknowledged.
async fn write(peer: Peer<Told>) {
    let keeper = PeerAddr::new(&*peer.names[0]);
    // Whoever starts again begins with notes that nobody had: times do not come back.
    let mut note = peer.env.clock().wall().0 * 64 + peer.number as u64;
    loop {
        if let Ok(mut stream) = peer.env.network().dial(&keeper).await {
            while stream.write_u64_le(note).await.is_ok() && stream.read_u8().await.is_ok() {
                peer.show(|told| told.acknowledged.insert(note));
                note += 64;
                peer.env.clock().sleep(Duration::from_millis(30)).await;
            }
        }
        peer.env.clock().sleep(Duration::from_millis(100)).await;
    }
}

/// What was acknowledged once is kept, from then on. It remembers what writers forget when they end.
#[derive(Default)]
struct Kept(BTreeSet<u64>);

impl Invariant<Notes> for Kept {
    fn name(&self) -> &'static str {
        "acknowledged notes are kept"
    }

    fn tick(&mut self, moment: &Shown<'_, Told>) -> Result<(), String> {
        let open = moment.replicas.iter().flatten();
        self.0.extend(open.flat_map(|told| &told.acknowledged));
        let Some(keeper) = &moment.replicas[0] else {
            return Ok(());
        };
        match self.0.difference(&keeper.kept).next() {
            Some(note) => Err(format!(
                "r0 does not have note {note}, one of {} acknowledged",
                self.0.len()
            )),
            None => Ok(()),
        }
    }
}

fn notes(syncs_seldom: bool) -> autobee_sim::ProgramCheck<Notes> {
    World::check(Notes { syncs_seldom })
        .always(Kept::default)
        .replicas(2..=3)
        .faults(Faults::all().disks(false).clocks(false))
        .seeds(0..60)
}

#[test]
fn notes_are_kept() {
    notes(false).run();
}

#[test]
fn a_keeper_that_syncs_seldom_is_found_out() {
    let panic = catch_unwind(AssertUnwindSafe(|| notes(true).name("notes").run())).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    println!("{text}");
    for part in [
        "acknowledged notes are kept",
        "r0 loses power",
        "AUTOBEE_SEED=",
        "target/autobee-sim/autobee-sim-notes/a_keeper_that_syncs_seldom_is_found_out/notes/7.toml",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}
