//! A small busy program, written once against the env traits: every replica invents numbers, keeps them on its disk and
//! tells random peers of them, until all know all.

pub(crate) mod drive;

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autobee::crypto::{Seed, Sign as _, Verify as _};
use autobee::env::{Clock as _, Entropy as _, Env, Listener as _, Network as _};
use autobee::env::{Open, PeerAddr, Point, Spawn as _, TraceEvent};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const FILE: &str = "numbers";
const PATIENCE: Duration = Duration::from_secs(2);

/// What a replica knows. Whoever drives the world keeps a handle to look at.
pub(crate) type Known = Arc<Mutex<BTreeSet<u64>>>;

/// Runs one replica until it is dropped: `numbers` own numbers, then gossip for ever.
pub(crate) async fn run<E: Env>(env: E, at: PeerAddr, peers: Vec<PeerAddr>, numbers: u32, known: Known) {
    known.lock().unwrap().clear();
    let loaded = load(&env, &known).map_err(|error| error.kind());
    env.trace(|| note(format!("loaded: {loaded:?}")));
    let mut listener = env.network().listen(&at).await.unwrap();
    let (serving, served) = (env.clone(), Arc::clone(&known));
    env.spawn().spawn("listen", async move {
        while let Ok((stream, from)) = listener.accept().await {
            serving.trace(|| {
                let from = from.as_str().split(':').next().unwrap_or("");
                note(format!("accepted from {from}"))
            });
            let (env, known) = (serving.clone(), Arc::clone(&served));
            serving.spawn().spawn("serve", async move {
                let outcome = within(&env, exchange(stream, &env, &known)).await;
                env.trace(|| note(format!("served: {:?}", outcome.map_err(|error| error.kind()))));
            });
        }
    });
    for round in 0_u32.. {
        env.clock()
            .sleep(Duration::from_millis(20 + pick(&env, 60)))
            .await;
        if round < numbers {
            let number = env.spawn().cpu("invent", invent(&env)).await;
            known.lock().unwrap().insert(number);
            save(&env, &known).await;
        }
        let Some(peer) = usize::try_from(pick(&env, peers.len() as u64))
            .ok()
            .and_then(|at| peers.get(at))
        else {
            continue;
        };
        let outcome = within(&env, async {
            let stream = env.network().dial(peer).await?;
            exchange(stream, &env, &known).await
        })
        .await;
        let outcome = outcome.map_err(|error| error.kind());
        env.trace(|| note(format!("told {peer}: {outcome:?}")));
        env.sometimes(Point::Announced, outcome.is_ok_and(|news| news > 0));
        save(&env, &known).await;
    }
}

/// Tells all, hears all; gives the count of news.
async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    env: &impl Env,
    known: &Known,
) -> io::Result<usize> {
    let numbers: Vec<u8> = bytes_of(known);
    stream.write_all(&numbers).await?;
    stream.shutdown().await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    assert_eq!(
        bytes.len() % 8,
        0,
        "a stream that ended in order has all of its bytes"
    );
    let heard = bytes
        .chunks_exact(8)
        .map(|chunk| u64::from_be_bytes(chunk.try_into().unwrap()));
    let mut known = known.lock().unwrap();
    let before = known.len();
    known.extend(heard);
    let news = known.len() - before;
    drop(known);
    env.sometimes(Point::GatherQuiet, news == 0);
    Ok(news)
}

async fn within<T>(env: &impl Env, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let limit = env.clock().sleep(PATIENCE);
    tokio::select! {
        biased;
        done = work => done,
        () = limit => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn invent<E: Env>(env: &E) -> impl FnOnce() -> u64 + use<E> {
    let env = env.clone();
    move || {
        let seed = Seed::new(env.entropy().array());
        let pair = env.crypto().key_pair(&seed);
        let signature = env.crypto().sign(&pair.secret, b"number");
        assert!(env.crypto().verify(&pair.public, b"number", &signature));
        u64::from_le_bytes(signature.as_bytes()[..8].try_into().unwrap())
    }
}

async fn save(env: &impl Env, known: &Known) {
    let numbers = bytes_of(known);
    let written = || -> io::Result<()> {
        let disk = env.disk();
        if disk.list()?.iter().any(|name| name == FILE) {
            disk.remove(FILE)?;
        }
        let file = disk.open(FILE, Open::CreateNew)?;
        file.write_at(0, &[IoSlice::new(&numbers)])?;
        file.sync()?;
        disk.sync_dir()
    }();
    env.trace(|| {
        note(format!(
            "saved {}: {:?}",
            numbers.len() / 8,
            written.map_err(|error| error.kind())
        ))
    });
}

fn load(env: &impl Env, known: &Known) -> io::Result<()> {
    let disk = env.disk();
    let file = match disk.open(FILE, Open::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap()];
    file.read_at(0, &mut bytes)?;
    let numbers = bytes
        .chunks_exact(8)
        .map(|chunk| u64::from_be_bytes(chunk.try_into().unwrap()));
    known.lock().unwrap().extend(numbers);
    Ok(())
}

fn bytes_of(known: &Known) -> Vec<u8> {
    known
        .lock()
        .unwrap()
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect()
}

fn pick(env: &impl Env, below: u64) -> u64 {
    u64::from_le_bytes(env.entropy().array()) % below.max(1)
}

fn note(text: String) -> TraceEvent {
    TraceEvent::Note { text }
}
