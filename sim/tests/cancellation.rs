//! The future of each call of the public API is dropped behind each of its await points in turn. Whoever drops one does
//! not learn what came of the call; nothing else may be lost, doubled, or left locked by it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use autobee::bee::Range;
use autobee::crypto::CoreKey;
use autobee::env::{Clock as _, Env as _, Listener as _, Network as _, PeerAddr, Spawn as _};
use autobee::wire::Length;
use autobee::{Autobee, Corestore, Error, ErrorKind, Role};
use autobee_sim::disk::{DiskFaults, DiskSnapshot, Latency};
use autobee_sim::workload::{JsonApply, Op};
use autobee_sim::{Crash, ReplicaId, SimEnv, World, WorldConfig};
use bytes::Bytes;

type Db = Autobee<SimEnv>;
type Call<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Make<T> = fn(Db) -> Call<T>;

/// More await points than any of the calls has.
const POINTS_MAX: u32 = 400;

/// Virtual time that a call may take, and that the replicas may take to agree.
const LONG: Duration = Duration::from_secs(60);

/// When a future is dropped that waits.
#[derive(Debug, Clone, Copy)]
enum When {
    AtOnce,
    /// What it waits for may have happened by then.
    Later(Duration),
}

/// Polls a future so many times, then drops it. `None` when it was not ready by then.
async fn dropped_behind<T>(env: SimEnv, points: u32, when: When, mut call: Call<T>) -> Option<T> {
    let mut left = points;
    let ended = poll_fn(|context: &mut Context<'_>| {
        if let Poll::Ready(value) = call.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        left = left.saturating_sub(1);
        if left == 0 {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    })
    .await;
    if ended.is_none()
        && let When::Later(delay) = when
    {
        env.clock().sleep(delay).await;
    }
    ended
}

/// Two replicas: the creator, and a member that is connected with it.
struct Pair {
    world: World,
    ids: [ReplicaId; 2],
    /// A disk on which nothing is.
    empty: DiskSnapshot,
    dbs: [Db; 2],
}

async fn open(env: SimEnv, key: Option<CoreKey>) -> Result<Db, Error> {
    let store = Corestore::open_default(env).await?;
    let mut builder = Autobee::builder(store).apply(JsonApply);
    if let Some(key) = key {
        builder = builder.key(key);
    }
    builder.open().await
}

/// Takes connections as long as the database is open.
async fn listen(env: SimEnv, db: Db) {
    let mut listener = env.network().listen(&PeerAddr::new("a")).await.unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        if db.replicate(stream, Role::Responder).is_err() {
            return;
        }
    }
}

/// Keeps connected as long as the database is open.
async fn dial(env: SimEnv, db: Db) {
    loop {
        if let Ok(stream) = env.network().dial(&PeerAddr::new("a")).await {
            match db.replicate(stream, Role::Initiator) {
                Ok(session) => drop(session.ended().await),
                Err(_) => return,
            }
        }
        env.clock().sleep(Duration::from_millis(100)).await;
    }
}

impl Pair {
    fn new() -> Self {
        let world = World::new(WorldConfig {
            seed: 1,
            disk: DiskFaults {
                latency: Latency {
                    read_us: 5,
                    write_us: 20,
                    sync_us: 2_000,
                    jitter_us: 50,
                },
                ..DiskFaults::default()
            },
            ..WorldConfig::default()
        });
        let ids = ["a", "b"].map(|name| world.add_replica(name).unwrap());
        let empty = world.disk(ids[1]).snapshot();
        let creator = world
            .block_on(ids[0], open(world.env(ids[0]), None))
            .unwrap()
            .unwrap();
        let key = creator.key();
        let member = world.block_on(ids[1], open(world.env(ids[1]), Some(key)));
        let pair = Self {
            dbs: [creator, member.unwrap().unwrap()],
            empty,
            world,
            ids,
        };
        let add = Op::add_writer(pair.dbs[1].local(), 2).to_value();
        pair.append(0, add).unwrap();
        pair.connect(0);
        pair.connect(1);
        pair.wait_for("the member is a writer", |pair| pair.dbs[1].writable());
        pair
    }

    fn env(&self, replica: usize) -> SimEnv {
        self.world.env(self.ids[replica])
    }

    fn connect(&self, replica: usize) {
        let (env, db) = (self.env(replica), self.dbs[replica].clone());
        if replica == 0 {
            self.env(0).spawn().spawn("listen", listen(env, db));
        } else {
            self.env(1).spawn().spawn("dial", dial(env, db));
        }
    }

    fn run<T: Send + 'static>(&self, replica: usize, call: impl Future<Output = T> + Send + 'static) -> T {
        let id = self.ids[replica];
        self.world.block_on_for(id, LONG, call).unwrap()
    }

    fn append(&self, replica: usize, value: Vec<u8>) -> Result<Length, Error> {
        let db = self.dbs[replica].clone();
        self.run(replica, async move { db.append(value).await })
    }

    fn wait_for(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..600 {
            if is_so(self) {
                return;
            }
            self.world.run_for(Duration::from_millis(100)).unwrap();
        }
        panic!("{what}: not in a minute");
    }

    /// Ends the process of a replica, and starts it again.
    fn restart(&mut self, replica: usize) {
        let key = self.dbs[0].key();
        self.world.crash(self.ids[replica], Crash::Kill);
        let env = self.world.restart(self.ids[replica]);
        let opened = self.world.block_on(self.ids[replica], open(env, Some(key)));
        self.dbs[replica] = opened.unwrap().unwrap();
        self.connect(replica);
    }

    fn listed(&self, replica: usize) -> Vec<(Bytes, Bytes)> {
        let view = self.dbs[replica].view();
        self.run(replica, async move { view.all().await }).unwrap()
    }

    /// Both write once more, agree, and have all that was acknowledged; and again after both were ended and started.
    fn agree(&mut self, acknowledged: &[(&str, &str)]) {
        for round in ["first", "second"] {
            for replica in 0..2 {
                let key = format!("{round} of {replica}");
                self.append(replica, Op::put(key, "x").to_value()).unwrap();
            }
            self.wait_for("both agree", |pair| {
                let order = |replica: usize| pair.dbs[replica].order().unwrap();
                let listed = pair.listed(0);
                let has = |key: &str| listed.iter().any(|(listed, _)| listed.as_ref() == key.as_bytes());
                let written = (0..2).all(|replica| has(&format!("{round} of {replica}")));
                written && order(0) == order(1) && listed == pair.listed(1)
            });
            let listed = self.listed(0);
            for (key, value) in acknowledged {
                let found = listed
                    .iter()
                    .find(|(listed, _)| listed.as_ref() == key.as_bytes());
                assert_eq!(
                    found.map(|(_, value)| value.as_ref()),
                    Some(value.as_bytes()),
                    "{key}"
                );
            }
            if round == "first" {
                self.restart(0);
                self.restart(1);
            }
        }
    }
}

/// Drops a call behind each of its await points, each time in a world of its own, and has `check` look at what is left.
/// Returns at how many points it was dropped.
fn at_each_point<T: Send + 'static>(
    replica: usize,
    call: impl Fn(&Pair) -> Call<T>,
    check: impl Fn(&mut Pair, Option<T>),
) -> u32 {
    for points in 1..POINTS_MAX {
        let mut has_ended = false;
        for when in [When::AtOnce, When::Later(Duration::from_millis(3))] {
            let mut pair = Pair::new();
            let call = call(&pair);
            // The call may have started its process anew.
            let env = pair.env(replica);
            let ended = pair.run(replica, dropped_behind(env, points, when, call));
            has_ended |= ended.is_some();
            check(&mut pair, ended);
        }
        if has_ended {
            return points - 1;
        }
    }
    panic!("a call that waits {POINTS_MAX} times");
}

#[test]
fn append() {
    let call = |pair: &Pair| -> Call<_> {
        let db = pair.dbs[1].clone();
        Box::pin(async move { db.append(Op::put("dropped", "1").to_value()).await })
    };
    let points = at_each_point(1, call, |pair, ended| {
        let acknowledged = ended.is_some_and(|length| length.is_ok());
        let acknowledged = if acknowledged {
            &[("dropped", "1")][..]
        } else {
            &[]
        };
        pair.agree(acknowledged);
    });
    assert!(points > 0, "an append waits for its sync");
}

#[test]
fn append_batch_is_whole_or_not_there() {
    let call = |pair: &Pair| -> Call<_> {
        let db = pair.dbs[1].clone();
        let values = [Op::put("one", "1"), Op::put("two", "2")].map(|op| op.to_value().into());
        Box::pin(async move { db.append_batch(values.into()).await })
    };
    let points = at_each_point(1, call, |pair, ended| {
        let acknowledged = ended.is_some_and(|length| length.is_ok());
        let acknowledged = if acknowledged {
            &[("one", "1"), ("two", "2")][..]
        } else {
            &[]
        };
        pair.agree(acknowledged);
        let listed = pair.listed(0);
        let count = listed
            .iter()
            .filter(|(key, _)| [&b"one"[..], b"two"].contains(&key.as_ref()));
        assert!([0, 2].contains(&count.count()), "{listed:?}");
    });
    assert!(points > 0, "an append waits for its sync");
}

/// What another replica wrote is on its way meanwhile.
fn with_news(pair: &Pair) -> Db {
    let (db, writer) = (pair.dbs[1].clone(), pair.dbs[0].clone());
    pair.env(0).spawn().spawn("append", async move {
        for number in 0..5 {
            let value = Op::put(format!("news {number}"), "1").to_value();
            drop(writer.append(value).await);
        }
    });
    db
}

const NEWS: &[(&str, &str)] = &[("news 0", "1"), ("news 4", "1")];

#[test]
fn update_updated_and_flush() {
    let calls: [Make<Result<(), Error>>; 3] = [
        |db| Box::pin(async move { db.update().await }),
        |db| Box::pin(async move { db.updated().await }),
        |db| Box::pin(async move { db.flush().await }),
    ];
    for call in calls {
        at_each_point(1, |pair| call(with_news(pair)), |pair, _| pair.agree(NEWS));
    }
}

#[test]
fn reads() {
    let calls: [Make<()>; 3] = [
        |db| Box::pin(async move { drop(db.view().get(b"news 4").await.unwrap()) }),
        |db| Box::pin(async move { drop(db.view().entries(Range::prefix("news")).await.unwrap()) }),
        |db| {
            Box::pin(async move {
                let mut watch = db.watch(Range::all());
                drop(watch.next().await.unwrap());
            })
        },
    ];
    for call in calls {
        at_each_point(1, |pair| call(with_news(pair)), |pair, _| pair.agree(NEWS));
    }
}

#[test]
fn close() {
    let call = |pair: &Pair| -> Call<_> {
        let db = with_news(pair);
        Box::pin(async move { db.close().await })
    };
    let points = at_each_point(1, call, |pair, _| {
        // It is closed as soon as somebody asked for it, and asking again waits for the end of it.
        let db = pair.dbs[1].clone();
        pair.run(1, async move { db.close().await }).unwrap();
        let refused = pair.append(1, Op::put("late", "1").to_value()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed);
        // The directory is free, in the same process.
        let env = pair.world.env(pair.ids[1]);
        let again = pair.run(1, async move { open(env, None).await?.close().await });
        again.unwrap();
        pair.restart(1);
        pair.agree(NEWS);
    });
    assert!(points > 0, "closing waits for a sync");
}

#[test]
fn open_leaves_nothing_locked() {
    let call = |pair: &Pair| -> Call<_> {
        let key = pair.dbs[0].key();
        pair.world.crash(pair.ids[1], Crash::Kill);
        pair.world.set_disk(pair.ids[1], &pair.empty);
        let env = pair.world.restart(pair.ids[1]);
        Box::pin(async move { drop(open(env, Some(key)).await.unwrap()) })
    };
    let points = at_each_point(1, call, |pair, _| {
        // By the same process: what it left behind is gone by the time that somebody asks.
        let (env, key) = (pair.env(1), pair.dbs[0].key());
        pair.dbs[1] = pair.run(1, async move { open(env, Some(key)).await }).unwrap();
        let add = Op::add_writer(pair.dbs[1].local(), 2).to_value();
        pair.append(0, add).unwrap();
        pair.connect(1);
        pair.wait_for("the member is a writer", |pair| pair.dbs[1].writable());
        pair.agree(&[]);
    });
    assert!(points > 0, "a store that is made is synced");
}

#[test]
fn sessions() {
    for points in 1..40 {
        let mut pair = Pair::new();
        let (db, env) = (with_news(&pair), pair.env(1));
        // A second connection, whose session is dropped on the way.
        let call: Call<()> = Box::pin({
            let env = env.clone();
            async move {
                let stream = env.network().dial(&PeerAddr::new("a")).await.unwrap();
                let session = db.replicate(stream, Role::Initiator).unwrap();
                session.synced().await;
                session.close();
                session.ended().await;
            }
        });
        let when = When::Later(Duration::from_millis(u64::from(points % 4)));
        let _ended: Option<()> = pair.run(1, dropped_behind(env, points, when, call));
        pair.agree(NEWS);
    }
}
