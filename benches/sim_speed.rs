//! How fast the simulator is, and beside it madsim and turmoil on one toy.
//!
//! ```text
//! cargo bench --profile release --bench sim_speed              everything, in the profile of `cargo sim`
//! cargo bench --profile release --bench sim_speed -- toy       the three simulators on one toy
//! ```
//!
//! What a run comes to besides its time (virtual seconds, append-replicas) is printed once.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a bench fails by panicking, says what it found, and measures with the clock of the machine"
)]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use autobee_sim::scenario::{CryptoChoice, Workload};
use autobee_sim::{Report, Scenario, TraceSink, run, run_caught};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Virtual seconds of workload that are run of the reference scenario in a sample: it takes the time of all of them to
/// measure one.
const REFERENCE_S: u64 = 20;

/// Generated plans in one sample.
const PLANS: u64 = 20;

fn scenario(name: &str) -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scenarios/bench")
        .join(name);
    Scenario::load(&path).unwrap()
}

/// The reference scenario, cut to its first seconds.
fn reference(seconds: u64, crypto: CryptoChoice) -> Scenario {
    let mut scenario = scenario("reference.toml");
    for workload in &mut scenario.workload {
        workload.appends =
            u32::try_from(u64::from(workload.appends) * seconds * 1_000 / workload.to_ms).unwrap();
        workload.to_ms = seconds * 1_000;
    }
    scenario.event.retain(|event| event.at_ms < seconds * 1_000);
    scenario.crypto = crypto;
    scenario
}

/// A mesh of replicas that write a little.
fn mesh(replicas: usize) -> Scenario {
    let mut scenario = reference(5, CryptoChoice::StandIn);
    scenario.replicas = replicas;
    scenario.event.clear();
    scenario.workload = vec![Workload {
        replicas: (0..replicas).collect(),
        appends: 10,
        ..scenario.workload.remove(0)
    }];
    scenario
}

fn converged(scenario: &Scenario, seed: u64) -> Report {
    let report = run(scenario, seed, TraceSink::Discard).unwrap();
    assert!(report.converged, "{:?}", report.violations);
    report
}

/// Says what a run is, and what it costs an append at one replica.
fn describe(name: &str, scenario: &Scenario) -> Report {
    let began = Instant::now();
    let report = converged(scenario, 1);
    let took = began.elapsed();
    let appends: u64 = scenario
        .workload
        .iter()
        .map(|workload| u64::from(workload.appends) * workload.replicas.len() as u64)
        .sum();
    let everywhere = (appends * scenario.replicas as u64).max(1);
    let virtual_time = Duration::from_millis(report.sim_ms);
    println!(
        "{name}: {:.1} virtual s in {:.2} s, {:.1} times real time; {everywhere} append-replicas, {:.0} us each",
        virtual_time.as_secs_f64(),
        took.as_secs_f64(),
        virtual_time.as_secs_f64() / took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / everywhere as f64,
    );
    report
}

/// Throughput is in milliseconds of virtual time.
fn references(criterion: &mut Criterion) {
    describe("reference, 60 s, stand-in", &reference(60, CryptoChoice::StandIn));
    let mut group = criterion.benchmark_group("reference");
    group.sample_size(10);
    for (name, crypto) in [
        ("stand_in", CryptoChoice::StandIn),
        ("ed25519", CryptoChoice::Ed25519),
    ] {
        let scenario = reference(REFERENCE_S, crypto);
        let report = describe(name, &scenario);
        group.throughput(Throughput::Elements(report.sim_ms));
        group.bench_function(name, |bencher| bencher.iter(|| converged(&scenario, 1)));
    }
    group.finish();
}

/// Generated plans, with all checks, on one thread.
fn plans(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plans");
    group.sample_size(10);
    group.throughput(Throughput::Elements(PLANS));
    group.bench_function("checked", |bencher| {
        bencher.iter(|| {
            for seed in 0..PLANS {
                let plan = Scenario::generate(seed);
                black_box(run_caught(&plan, seed, TraceSink::Discard)).unwrap();
            }
        });
    });
    group.finish();
}

fn meshes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mesh");
    group.sample_size(10);
    for replicas in [10, 20, 30] {
        let scenario = mesh(replicas);
        describe(&format!("mesh of {replicas}"), &scenario);
        group.throughput(Throughput::Elements((10 * replicas * replicas) as u64));
        group.bench_with_input(
            BenchmarkId::from_parameter(replicas),
            &scenario,
            |bencher, scenario| {
                bencher.iter(|| converged(scenario, 1));
            },
        );
    }
    group.finish();
}

/// The toy: clients dial one server each, and bounce a message of a few bytes back and forth.
mod toy {
    pub(super) const PAIRS: usize = 10;
    pub(super) const BOUNCES: usize = 500;
    pub(super) const BYTES: usize = 64;

    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

    pub(super) async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut message = [0; BYTES];
        while stream.read_exact(&mut message).await.is_ok() {
            if stream.write_all(&message).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    }

    pub(super) async fn bounce(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut message = [7; BYTES];
        for _ in 0..BOUNCES {
            stream.write_all(&message).await.unwrap();
            stream.flush().await.unwrap();
            stream.read_exact(&mut message).await.unwrap();
        }
    }
}

/// Round trips of the toy in the World, with its trace and its disks as in every run.
fn world() {
    use autobee::env::{Env as _, Listener as _, Network as _, PeerAddr};
    use autobee_sim::{World, WorldConfig};

    let world = World::new(WorldConfig {
        seed: 1,
        ..WorldConfig::default()
    });
    let mut clients = Vec::new();
    for pair in 0..toy::PAIRS {
        let name = format!("server{pair}");
        let server = world.add_replica(&name).unwrap();
        let at = PeerAddr::new(&name);
        world.boot(server, move |env| {
            let at = at.clone();
            async move {
                let mut listener = env.network().listen(&at).await.unwrap();
                let (stream, _) = listener.accept().await.unwrap();
                toy::serve(stream).await;
            }
        });
        clients.push((
            world.add_replica(&format!("client{pair}")).unwrap(),
            PeerAddr::new(name),
        ));
    }
    for (client, to) in clients.clone() {
        world.boot(client, move |env| {
            let to = to.clone();
            async move { toy::bounce(env.network().dial(&to).await.unwrap()).await }
        });
    }
    world.run_for(Duration::from_secs(3_600)).unwrap();
    assert_eq!(world.tasks(), 0, "all came to their end");
}

#[cfg(madsim)]
fn madsim_world() {
    use std::net::SocketAddr;

    use madsim::net::{TcpListener, TcpStream};
    use madsim::runtime::Runtime;

    let runtime = Runtime::with_seed_and_config(1, madsim::Config::default());
    runtime.block_on(async {
        let handle = madsim::runtime::Handle::current();
        let mut clients = Vec::new();
        for pair in 0..toy::PAIRS {
            let at: SocketAddr = format!("10.0.{pair}.1:1").parse().unwrap();
            let server = handle.create_node().ip(at.ip()).build();
            server.spawn(async move {
                let listener = TcpListener::bind(at).await.unwrap();
                let (stream, _) = listener.accept().await.unwrap();
                toy::serve(stream).await;
            });
            let client = handle
                .create_node()
                .ip(format!("10.0.{pair}.2").parse().unwrap())
                .build();
            clients.push(client.spawn(async move {
                let stream = loop {
                    match TcpStream::connect(at).await {
                        Ok(stream) => break stream,
                        Err(_) => madsim::time::sleep(Duration::from_millis(10)).await,
                    }
                };
                toy::bounce(stream).await;
            }));
        }
        for client in clients {
            client.await.unwrap();
        }
    });
}

fn turmoil_world() {
    use turmoil::net::{TcpListener, TcpStream};

    let mut simulation = turmoil::Builder::new()
        .simulation_duration(Duration::from_secs(3_600))
        .rng_seed(1)
        .build();
    for pair in 0..toy::PAIRS {
        simulation.host(format!("server{pair}"), || async {
            let listener = TcpListener::bind("0.0.0.0:1").await?;
            let (stream, _) = listener.accept().await?;
            toy::serve(stream).await;
            Ok(())
        });
        simulation.client(format!("client{pair}"), async move {
            let stream = TcpStream::connect((format!("server{pair}"), 1)).await?;
            toy::bounce(stream).await;
            Ok(())
        });
    }
    simulation.run().unwrap();
}

/// Throughput is in round trips.
fn toys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("toy");
    group.sample_size(10);
    group.throughput(Throughput::Elements((toy::PAIRS * toy::BOUNCES) as u64));
    group.bench_function("world", |bencher| bencher.iter(world));
    #[cfg(madsim)]
    group.bench_function("madsim", |bencher| bencher.iter(madsim_world));
    group.bench_function("turmoil", |bencher| bencher.iter(turmoil_world));
    group.finish();
}

criterion_group!(benches, references, plans, meshes, toys);
criterion_main!(benches);
