//! Exports what databases count with the crate `metrics`, and prints it: the recorder of a real program would be that of an
//! exporter, for Prometheus for example.
//!
//! ```text
//! cargo run --example metrics
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use autobee::{
    Apply, ApplyError, ApplyView, Autobee, Changes, Corestore, Entry, Host, NativeEnv, Role, Stats,
};
use metrics::{Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// Puts each value under itself.
struct Put;

impl Apply for Put {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        _: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        let mut write = view.write();
        for entry in entries {
            write.put(entry.value(), b"");
        }
        write.flush().await?;
        Ok(())
    }
}

/// Hands the counts of a database to whatever recorder is installed. To be called from time to time.
fn export(name: &'static str, stats: &Stats) {
    for (field, count) in stats.fields() {
        metrics::counter!(format!("autobee_{field}"), "database" => name).absolute(count);
    }
}

/// A recorder that keeps counters, and prints them.
#[derive(Clone, Default)]
struct Printer {
    counters: Arc<Mutex<BTreeMap<String, Arc<Printed>>>>,
}

#[derive(Default)]
struct Printed(AtomicU64);

impl CounterFn for Printed {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

impl Recorder for Printer {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<String> = key
            .labels()
            .map(|label| format!("{}={:?}", label.key(), label.value()))
            .collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        Counter::from_arc(Arc::clone(counters.entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl Printer {
    #[expect(clippy::print_stdout, reason = "an example shows what it has")]
    fn print(&self) {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, counter) in &*counters {
            println!("{name} {}", counter.0.load(Ordering::Relaxed));
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let printer = Printer::default();
    metrics::set_global_recorder(printer.clone()).map_err(|error| error.to_string())?;

    let directory = std::env::temp_dir().join(format!("autobee-metrics-{}", std::process::id()));
    let open = async |name: &str, key| {
        let store = Corestore::open_default(NativeEnv::new(directory.join(name))?).await?;
        let builder = Autobee::builder(store).apply(Put);
        let builder = match key {
            Some(key) => builder.key(key),
            None => builder,
        };
        Ok::<_, Box<dyn Error>>(builder.open().await?)
    };
    let writer = open("writer", None).await?;
    let reader = open("reader", Some(writer.key())).await?;
    let (near, far) = tokio::io::duplex(1 << 16);
    writer.replicate(near, Role::Initiator)?;
    reader.replicate(far, Role::Responder)?;
    for number in 0..100 {
        writer.append(format!("{number}")).await?;
    }
    let mut changes = Changes::default();
    while reader.view().get(b"99").await?.is_none() {
        reader.changed(&mut changes).await;
    }

    export("writer", &writer.stats());
    export("reader", &reader.stats());
    printer.print();

    writer.close().await?;
    reader.close().await?;
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}
