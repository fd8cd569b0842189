//! Events of the engine, as lines.

use std::collections::BTreeMap;

use autobee::crypto::CoreKey;
use autobee::env::TraceEvent;
use autobee::env::trace::Field;

use super::Trace;

/// What traces call the logs: never by a bare key.
#[derive(Debug, Default)]
pub(crate) struct CoreNames {
    names: BTreeMap<CoreKey, String>,
    unknown: u64,
}

impl CoreNames {
    /// Gives a log the name of its owner.
    pub(crate) fn name(&mut self, core: CoreKey, name: &str) {
        self.names.insert(core, name.to_owned());
    }

    /// The name of a log; one that counts first appearances when nobody gave it a name.
    fn get(&mut self, core: &CoreKey) -> &str {
        let unknown = &mut self.unknown;
        self.names.entry(*core).or_insert_with(|| {
            *unknown += 1;
            format!("core{unknown}")
        })
    }

    /// Words without bare keys of logs.
    fn clean(&mut self, text: &str) -> String {
        let mut clean = text.to_owned();
        for (core, name) in &self.names {
            clean = clean.replace(&core.to_string(), name);
        }
        clean
    }
}

/// Writes the line of one event in the engine of the replica `name`.
pub(crate) fn write_engine_event(
    trace: &mut Trace,
    names: &mut CoreNames,
    now: u64,
    name: &str,
    event: &TraceEvent,
) {
    if let TraceEvent::Recovered { local, .. } = event {
        names.name(*local, name);
    }
    let mut line = trace
        .event(now, "engine")
        .text("r", name)
        .text("what", event.name());
    for (field, value) in event.fields() {
        line = match value {
            Field::Core(core) => line.text(field, names.get(core)),
            Field::Number(number) => line.number(field, number),
            Field::Text(text) => line.text(field, &names.clean(text)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::TraceSink;

    #[test]
    fn logs_are_called_by_name() {
        let (known, unknown) = (CoreKey::new([1; 32]), CoreKey::new([2; 32]));
        let (mut trace, mut names) = (Trace::new(TraceSink::Collect(Vec::new())), CoreNames::default());
        names.name(known, "alice");
        for (at, core) in [unknown, known, unknown].into_iter().enumerate() {
            let event = TraceEvent::Stalled {
                core,
                why: format!("core {known} is odd"),
            };
            write_engine_event(&mut trace, &mut names, at as u64, "bob", &event);
        }
        let line = |at: u64, core: &str| {
            format!(
                "{{\"t\":{at},\"e\":\"engine\",\"r\":\"bob\",\"what\":\"stalled\",\"core\":\"{core}\",\
                 \"why\":\"core alice is odd\"}}\n"
            )
        };
        let expected = line(0, "core1") + &line(1, "alice") + &line(2, "core1");
        assert_eq!(std::str::from_utf8(trace.collected()).unwrap(), expected);
    }
}
