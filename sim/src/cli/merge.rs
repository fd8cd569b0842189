//! `merge`: the parts of a sweep as one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::sweep::{SeedLine, SweepHead};
use super::{CliError, files};

/// Causes that are told.
const CAUSES_MAX: usize = 40;

#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// The folders of the parts.
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// Writes all results to this folder as one, with the smallest plan of each cause.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Prints a JSON object.
    #[arg(long)]
    json: bool,
}

/// What a file of results holds.
#[derive(Debug, Default)]
pub(super) struct ResultsFile {
    pub(super) head: Option<SweepHead>,
    pub(super) lines: BTreeMap<u64, SeedLine>,
    /// Bytes up to the end of the last whole line.
    pub(super) whole: u64,
}

/// Reads a file of results. It ends where the first line is that is not whole.
pub(super) fn parse(text: &str) -> ResultsFile {
    let mut read = ResultsFile::default();
    for line in text.split_inclusive('\n') {
        if !line.ends_with('\n') {
            break;
        }
        if read.head.is_none() {
            let Ok(head) = serde_json::from_str(line) else {
                break;
            };
            read.head = Some(head);
        } else {
            let Ok(result) = serde_json::from_str::<SeedLine>(line) else {
                break;
            };
            read.lines.entry(result.seed).or_insert(result);
        }
        read.whole += line.len() as u64;
    }
    read
}

pub(super) fn merge(args: &MergeArgs) -> Result<(), CliError> {
    let mut head: Option<(SweepHead, PathBuf)> = None;
    let mut lines: BTreeMap<u64, SeedLine> = BTreeMap::new();
    let mut parts = 0;
    for folder in &args.folders {
        let files = files::listed(folder)?;
        let results = files.into_iter().filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("results") && name.ends_with(".jsonl")
        });
        for path in results {
            let bytes = files::read(&path)?;
            let read = parse(&String::from_utf8_lossy(&bytes));
            let Some(own) = read.head else { continue };
            match &head {
                Some((known, first)) if *known != own => {
                    return Err(CliError::Usage(format!(
                        "{} and {} are of different sweeps: {} seeds {}..{} and {} seeds {}..{}, or other scenarios or engines",
                        first.display(),
                        path.display(),
                        known.sweep,
                        known.from,
                        known.to,
                        own.sweep,
                        own.from,
                        own.to
                    )));
                }
                Some(_) => {}
                None => head = Some((own, path.clone())),
            }
            parts += 1;
            for (seed, line) in read.lines {
                lines.entry(seed).or_insert(line);
            }
        }
    }
    let Some((head, _)) = head else {
        return Err(CliError::Usage(
            "no results of a sweep there: `cargo sim sweep --out DIR` writes them".into(),
        ));
    };
    let totals = Totals::of(lines.values());
    let missing = (head.to - head.from).saturating_sub(lines.len() as u64);
    if let Some(out) = &args.out {
        write(out, &args.folders, &head, &lines, &totals)?;
    }
    if args.json {
        let mut value = totals.to_json();
        value["sweep"] = json!(head);
        value["parts"] = Value::from(parts);
        value["missing"] = Value::from(missing);
        println!("{value}");
    } else {
        println!("{} seeds {}..{}, {parts} parts", head.sweep, head.from, head.to);
        print!("{}", totals.in_words());
        if missing > 0 {
            println!("{missing} seeds are missing");
        }
    }
    if totals.failed == 0 {
        Ok(())
    } else {
        Err(CliError::Bad)
    }
}

/// Writes everything as one part, and the smallest plan of each cause.
fn write(
    out: &Path,
    from: &[PathBuf],
    head: &SweepHead,
    lines: &BTreeMap<u64, SeedLine>,
    totals: &Totals,
) -> Result<(), CliError> {
    files::make_folder(out)?;
    let mut text = format!("{}\n", json!(head));
    for line in lines.values() {
        text.push_str(&serde_json::to_string(line).unwrap_or_default());
        text.push('\n');
    }
    files::write(&out.join("results.jsonl"), text.as_bytes())?;
    for cause in totals.causes.keys() {
        let mut best: Option<((usize, u64), PathBuf)> = None;
        for part in from {
            for path in files::listed(&folder(part, cause)).unwrap_or_default() {
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let Some(ending) = name
                    .strip_prefix("smallest")
                    .and_then(|name| name.strip_suffix(".json"))
                else {
                    continue;
                };
                let Ok(line) = serde_json::from_slice::<SeedLine>(&files::read(&path)?) else {
                    continue;
                };
                let plan = path.with_file_name(format!("plan{ending}.toml"));
                if plan.is_file() && best.as_ref().is_none_or(|(known, _)| size(&line) < *known) {
                    best = Some((size(&line), plan));
                }
            }
        }
        if let Some((_, plan)) = best {
            let to = folder(out, cause);
            files::make_folder(&to)?;
            files::write(&to.join("plan.toml"), &files::read(&plan)?)?;
        }
    }
    Ok(())
}

/// The folder of the plans of a cause.
pub(super) fn folder(out: &Path, cause: &str) -> PathBuf {
    let mut name = String::new();
    for letter in cause.chars() {
        let is_plain = letter.is_ascii_alphanumeric();
        if is_plain {
            name.push(letter);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    out.join("failures").join(name.trim_matches('-'))
}

/// How large the plan of a failure is.
pub(super) const fn size(line: &SeedLine) -> (usize, u64) {
    (line.operations + line.faults + line.replicas, line.seed)
}

/// What many seeds came to.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) seeds: u64,
    pub(super) failed: u64,
    violations: u64,
    faults: u64,
    events: u64,
    sim_ms: u64,
    wall_ms: u64,
    points: BTreeSet<String>,
    pub(super) causes: BTreeMap<String, Cause>,
}

/// Failures with one cause.
#[derive(Debug, Default)]
pub(super) struct Cause {
    count: u64,
    seeds: Vec<u64>,
    smallest: Option<SeedLine>,
}

impl Totals {
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a SeedLine>) -> Self {
        let mut totals = Self::default();
        for line in lines {
            totals.seeds += 1;
            totals.violations += line.violations as u64;
            totals.faults += line.faults as u64;
            totals.events += line.events;
            totals.sim_ms += line.sim_ms;
            totals.wall_ms += line.wall_ms;
            totals.points.extend(line.points.iter().cloned());
            if line.failed.is_none() {
                continue;
            }
            totals.failed += 1;
            let cause = totals
                .causes
                .entry(line.cause.clone().unwrap_or_default())
                .or_default();
            cause.count += 1;
            if cause.seeds.len() < 8 {
                cause.seeds.push(line.seed);
            }
            if cause
                .smallest
                .as_ref()
                .is_none_or(|known| size(line) < size(known))
            {
                cause.smallest = Some(line.clone());
            }
        }
        totals
    }

    pub(super) fn to_json(&self) -> Value {
        let causes: Vec<Value> = self
            .causes
            .iter()
            .map(|(name, cause)| {
                json!({
                    "cause": name,
                    "count": cause.count,
                    "seeds": cause.seeds,
                    "smallest": cause.smallest,
                })
            })
            .collect();
        json!({
            "seeds": self.seeds,
            "failed": self.failed,
            "violations": self.violations,
            "faults": self.faults,
            "events": self.events,
            "sim_ms": self.sim_ms,
            "wall_ms": self.wall_ms,
            "points": self.points,
            "causes": causes,
        })
    }

    pub(super) fn in_words(&self) -> String {
        let mut text = format!(
            "{} seeds: {} failed, {} violations, {} faults, {} events, {} points reached\n",
            self.seeds,
            self.failed,
            self.violations,
            self.faults,
            self.events,
            self.points.len()
        );
        let mut causes: Vec<(&String, &Cause)> = self.causes.iter().collect();
        causes.sort_by_key(|(name, cause)| (std::cmp::Reverse(cause.count), name.as_str()));
        for (name, cause) in causes.iter().take(CAUSES_MAX) {
            let seeds: Vec<String> = cause.seeds.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "  {:>6} x {name}: seeds {}", cause.count, seeds.join(", "));
            if let Some(line) = &cause.smallest {
                let what: String = line
                    .what
                    .as_deref()
                    .unwrap_or_default()
                    .chars()
                    .take(160)
                    .collect();
                let _ = writeln!(
                    text,
                    "           the smallest is seed {} ({} operations, {} faults, {} replicas): {what}",
                    line.seed, line.operations, line.faults, line.replicas
                );
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> String {
        let head = SweepHead {
            sweep: "plans".into(),
            hash: String::new(),
            planted: Vec::new(),
            from: 0,
            to: 9,
            engine: String::new(),
        };
        format!("{}\n", json!(head))
    }

    fn line(seed: u64, operations: usize, cause: Option<&str>) -> SeedLine {
        SeedLine {
            seed,
            operations,
            failed: cause.map(ToOwned::to_owned),
            cause: cause.map(ToOwned::to_owned),
            ..SeedLine::default()
        }
    }

    #[test]
    fn a_torn_line_is_cut_off_and_nothing_counts_twice() {
        let one = |seed| format!("{}\n", json!(line(seed, 1, None)));
        let whole = head() + &one(3) + &one(3) + &one(4);
        let torn = format!("{whole}{}", &one(5)[..20]);
        let read = parse(&torn);
        assert_eq!(read.lines.keys().copied().collect::<Vec<_>>(), [3, 4]);
        assert_eq!(read.whole, whole.len() as u64);
        assert!(parse("{\"swe").head.is_none());
    }

    #[test]
    fn failures_are_grouped_and_the_smallest_is_known() {
        let lines = [
            line(1, 9, Some("a")),
            line(2, 4, Some("a")),
            line(3, 1, None),
            line(4, 5, Some("b")),
        ];
        let totals = Totals::of(lines.iter());
        assert_eq!((totals.seeds, totals.failed, totals.causes.len()), (4, 3, 2));
        assert_eq!(totals.causes["a"].smallest.as_ref().unwrap().seed, 2);
        let words = totals.in_words();
        assert!(words.contains("2 x a: seeds 1, 2"), "{words}");
        let folder = folder(Path::new("o"), "equal sets / engine / undone");
        assert_eq!(folder, Path::new("o/failures/equal-sets-engine-undone"));
    }
}
