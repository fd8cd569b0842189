//! A run that does not end cannot be stopped from within: somebody looks at the clock on the wall.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use autobee_sim::Scenario;

use super::record::{KeptFailure, PLAN};
use super::shrink::now;
use super::{files, reproduce};

/// How long one run may take in real time. The slowest take seconds.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs that are under way. When one of them takes too long, its scenario is kept and the process ends with 1.
pub(super) struct RunWatch(Arc<Mutex<BTreeMap<u64, Running>>>);

struct Running {
    started: Duration,
    scenario: Scenario,
    seed: u64,
}

impl RunWatch {
    pub(super) fn start(out: &Path) -> Self {
        let watch = Self(Arc::default());
        let (running, out) = (Arc::clone(&watch.0), out.to_owned());
        #[expect(
            clippy::disallowed_methods,
            reason = "it watches runs from outside their world"
        )]
        std::thread::spawn(move || {
            while Arc::strong_count(&running) > 1 {
                std::thread::sleep(Duration::from_secs(1));
                let running = lock(&running);
                let late = running
                    .values()
                    .find(|run| now().saturating_sub(run.started) > LIMIT);
                if let Some(run) = late {
                    give_up(run, &out);
                }
            }
        });
        watch
    }

    /// Does a run under watch.
    pub(super) fn over<T>(&self, scenario: &Scenario, seed: u64, run: impl FnOnce() -> T) -> T {
        let number = {
            let mut running = lock(&self.0);
            let number = running.last_key_value().map_or(0, |(last, _)| last + 1);
            let (started, scenario) = (now(), scenario.clone());
            running.insert(
                number,
                Running {
                    started,
                    scenario,
                    seed,
                },
            );
            number
        };
        let result = run();
        lock(&self.0).remove(&number);
        result
    }
}

fn lock(running: &Mutex<BTreeMap<u64, Running>>) -> MutexGuard<'_, BTreeMap<u64, Running>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

fn give_up(run: &Running, out: &Path) -> ! {
    let (scenario, seed) = (&run.scenario, run.seed);
    let folder = KeptFailure::folder_of(scenario, seed, out);
    let plan = folder.join(PLAN);
    println!(
        "{} seed {seed}: DOES NOT END, no result in {} s",
        scenario.name,
        LIMIT.as_secs()
    );
    let is_written = files::make_folder(&folder)
        .and_then(|()| files::write(&plan, scenario.to_toml().as_bytes()))
        .is_ok();
    if is_written {
        eprintln!("{}", reproduce(&plan, seed));
    }
    std::process::exit(1)
}
