//! `trace`: the events of a run in a format of choice, all of them or what happened before one.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use autobee_sim::Scenario;
use autobee_sim::events::{self, Format, Topic, TraceLine};
use autobee_sim::explain::Observed;
use autobee_sim::scenario::Action;
use clap::{Args, ValueEnum};

use super::filter::LineTopic;
use super::target::RunTarget;
use super::{CliError, files};

#[derive(Debug, Args)]
pub(super) struct TraceArgs {
    #[command(flatten)]
    target: RunTarget,
    /// Takes a trace that is there already, JSON lines, instead of running something.
    #[arg(long, value_name = "TRACE", conflicts_with_all = ["file", "plan", "planted"])]
    from: Option<PathBuf>,
    /// How it is written.
    #[arg(long, value_enum, default_value = "columns")]
    format: FormatName,
    /// Only these lines.
    #[arg(long, value_name = "TOPIC,..", value_enum, value_delimiter = ',')]
    only: Vec<LineTopic>,
    /// Only what can have led to an event: the number of its line, or `violation`.
    #[arg(long, value_name = "EVENT")]
    cone: Option<Cone>,
    /// The file; printed when absent.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// JSON lines, as with `--format json`.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatName {
    /// A line of columns for each event.
    Columns,
    /// JSON lines.
    Json,
    /// Trace events for <https://ui.perfetto.dev>.
    Perfetto,
    /// Vector clocks for <https://bestchai.bitbucket.io/shiviz>.
    Shiviz,
}

/// The event whose past is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cone {
    Line(u64),
    Violation,
}

impl std::str::FromStr for Cone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) => Ok(Self::Line(number)),
            Err(_) if text == "violation" => Ok(Self::Violation),
            Err(_) => {
                Err("expected the number of a line, as --format columns shows it, or `violation`".into())
            }
        }
    }
}

pub(super) fn trace(args: &TraceArgs) -> Result<(), CliError> {
    let (lines, latency, violation) = match &args.from {
        Some(path) => {
            let (lines, last) = (read(path)?, None);
            (lines, 0, last)
        }
        None => {
            let target = args.target.load()?;
            let observed = Observed::run(&target.scenario, target.seed);
            let violation = (args.cone == Some(Cone::Violation))
                .then(|| observed.violation_line())
                .flatten();
            (observed.lines().to_vec(), latency(&target.scenario), violation)
        }
    };
    let chosen: Vec<TraceLine> = match args.cone {
        None => lines,
        Some(cone) => {
            let number = match cone {
                Cone::Line(number) => number,
                Cone::Violation => violation.ok_or_else(|| {
                    CliError::Usage(
                        "--cone violation: the run does not fail, or there is none; name the number of a line".into(),
                    )
                })?,
            };
            let past = events::cone(&lines, number, latency);
            if past.is_empty() {
                return Err(CliError::Usage(format!(
                    "--cone {number}: the trace has {} lines",
                    lines.len()
                )));
            }
            past.into_iter().cloned().collect()
        }
    };
    let chosen: Vec<TraceLine> = chosen
        .into_iter()
        .filter(|line| args.only.is_empty() || args.only.iter().any(|topic| topic.is_of(line)))
        .collect();
    let format = match args.format {
        _ if args.json => Format::Json,
        FormatName::Columns => Format::Columns,
        FormatName::Json => Format::Json,
        FormatName::Perfetto => Format::Perfetto,
        FormatName::Shiviz => Format::Shiviz,
    };
    let mut out: Box<dyn Write> = match &args.out {
        Some(path) => Box::new(BufWriter::new(files::create(path)?)),
        None => Box::new(BufWriter::new(std::io::stdout())),
    };
    let written = events::write(&mut *out, &chosen, format, latency).and_then(|()| out.flush());
    match written {
        // Who reads the output went away, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(CliError::Usage(format!(
            "the trace could not be written: {error}"
        ))),
        Ok(()) => {
            if let Some(path) = &args.out {
                eprintln!("{} events in {}", chosen.len(), path.display());
            }
            Ok(())
        }
    }
}

/// Reads a trace from a file.
pub(super) fn read(path: &std::path::Path) -> Result<Vec<TraceLine>, CliError> {
    let bytes = files::read(path)?;
    events::read(&String::from_utf8_lossy(&bytes))
        .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
}

/// The least time of any path of a scenario, in nanoseconds.
pub(super) fn latency(scenario: &Scenario) -> u64 {
    let paths = scenario.event.iter().filter_map(|event| match &event.action {
        Action::Path { path, .. } => Some(path.latency_us_min),
        _ => None,
    });
    let least = paths.chain([scenario.network.latency_us_min]).min();
    least.unwrap_or(0) * 1_000
}

impl LineTopic {
    /// True for a line of this topic.
    pub(super) fn is_of(self, line: &TraceLine) -> bool {
        let topic = match self {
            Self::Engine => Topic::Engine,
            Self::Network => Topic::Network,
            Self::Disk => Topic::Disk,
            Self::Faults => Topic::Faults,
        };
        line.topic() == topic
    }
}
