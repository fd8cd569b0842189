//! `diff`: where two traces part.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use autobee_sim::events::{self, TraceLine};
use autobee_sim::explain::Observed;
use clap::Args;
use serde_json::{Value, json};

use super::filter::LineTopic;
use super::target::RunTarget;
use super::trace::read;
use super::{CliError, plant};

/// Lines before the first difference that are shown, and lines of each side from it on.
const BEFORE: usize = 4;
const AFTER: usize = 4;

/// How far one side is searched for what the other one goes on with.
const AHEAD: usize = 400;

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    target: RunTarget,
    /// A second trace, when the first file is a trace.
    other: Option<PathBuf>,
    /// Compares with the run of this seed.
    #[arg(long, value_name = "N", conflicts_with = "other")]
    against_seed: Option<u64>,
    /// Only these lines.
    #[arg(long, value_name = "TOPIC,..", value_enum, value_delimiter = ',')]
    only: Vec<LineTopic>,
    /// Compares what happened, and not when: times, connection numbers and hashes of bytes are left out.
    #[arg(long)]
    loose: bool,
    /// Prints a JSON object.
    #[arg(long)]
    json: bool,
}

/// Two traces, with their names.
struct ComparedTraces {
    names: [String; 2],
    sides: [Vec<TraceLine>; 2],
}

pub(super) fn diff(args: &DiffArgs) -> Result<(), CliError> {
    let mut pair = load(args)?;
    for side in &mut pair.sides {
        side.retain(|line| args.only.is_empty() || args.only.iter().any(|topic| topic.is_of(line)));
    }
    let key = |line: &TraceLine| key(line, args.loose);
    let [left, right] = &pair.sides;
    let common = left
        .iter()
        .zip(right)
        .take_while(|(a, b)| key(a) == key(b))
        .count();
    let is_equal = common == left.len() && common == right.len();
    let first = by_replica(&pair.sides, &key);
    let goes_on = resume(&pair.sides, common, &key);
    if args.json {
        println!("{}", as_json(&pair, common, is_equal, &first, goes_on));
    } else if is_equal {
        println!(
            "{} and {} are equal: {common} events",
            pair.names[0], pair.names[1]
        );
    } else {
        print(&pair, common, &first, goes_on);
    }
    if is_equal { Ok(()) } else { Err(CliError::Bad) }
}

fn load(args: &DiffArgs) -> Result<ComparedTraces, CliError> {
    if let Some(other) = &args.other {
        let Some(file) = &args.target.file else {
            return Err(CliError::Usage(
                "diff wants two traces, or one run to be compared".into(),
            ));
        };
        let names = [file.display().to_string(), other.display().to_string()];
        return Ok(ComparedTraces {
            names,
            sides: [read(file)?, read(other)?],
        });
    }
    let planted = &args.target.planted;
    if planted.is_empty() && args.against_seed.is_none() {
        return Err(CliError::Usage(
            "with what is it to be compared? A second trace, --planted NAME (with and without), or --against-seed N".into(),
        ));
    }
    let plain = RunTarget {
        file: args.target.file.clone(),
        plan: args.target.plan,
        seed: args.target.seed,
        planted: Vec::new(),
    };
    let target = plain.load()?;
    let other = plant(target.scenario.clone(), planted)?;
    let seed = args.against_seed.unwrap_or(target.seed);
    let name = |seed: u64, planted: &[String]| {
        let with = if planted.is_empty() {
            String::new()
        } else {
            format!(" with {}", planted.join(","))
        };
        format!("{} seed {seed}{with}", target.scenario.name)
    };
    let lines = [
        Observed::run(&target.scenario, target.seed).lines().to_vec(),
        Observed::run(&other, seed).lines().to_vec(),
    ];
    Ok(ComparedTraces {
        names: [name(target.seed, &[]), name(seed, planted)],
        sides: lines,
    })
}

/// What two lines must have in common to be the same.
fn key(line: &TraceLine, loose: bool) -> String {
    if !loose {
        return line.to_string();
    }
    let fields = line.fields.iter();
    let told = fields.filter(|(name, _)| !matches!(&**name, "conn" | "dial" | "hash" | "session" | "port"));
    let told: Vec<String> = told.map(|(name, value)| format!("{name}={value}")).collect();
    format!("{} {}", line.event, told.join(" "))
}

type FirstOf<'a> = BTreeMap<&'a str, [Option<&'a TraceLine>; 2]>;

/// Of each replica the first event of its engine at which the two sides differ.
fn by_replica<'a>(sides: &'a [Vec<TraceLine>; 2], key: &impl Fn(&TraceLine) -> String) -> FirstOf<'a> {
    let names: BTreeSet<&str> = sides.iter().flatten().filter_map(TraceLine::replica).collect();
    let mut first = BTreeMap::new();
    for name in names {
        let of = |side: &'a [TraceLine]| {
            side.iter()
                .filter(move |line| line.deed().is_some() && line.replica() == Some(name))
        };
        let [mut left, mut right] = [of(&sides[0]), of(&sides[1])];
        loop {
            let (a, b) = (left.next(), right.next());
            match (a, b) {
                (None, None) => break,
                (Some(a), Some(b)) if key(a) == key(b) => {}
                _ => {
                    first.insert(name, [a, b]);
                    break;
                }
            }
        }
    }
    first
}

/// How many events only one side has before it goes on as the other does: of the first, or of the second.
fn resume(
    sides: &[Vec<TraceLine>; 2],
    common: usize,
    key: &impl Fn(&TraceLine) -> String,
) -> Option<(usize, usize)> {
    let [left, right] = sides;
    let find = |wanted: Option<&TraceLine>, side: &[TraceLine]| {
        let wanted = key(wanted?);
        let ahead = side.iter().skip(common + 1).take(AHEAD);
        ahead.map(key).position(|found| found == wanted).map(|at| at + 1)
    };
    match (find(left.get(common), right), find(right.get(common), left)) {
        (Some(more), other) if other.is_none_or(|other| more <= other) => Some((1, more)),
        (_, Some(more)) => Some((0, more)),
        _ => None,
    }
}

fn print(pair: &ComparedTraces, common: usize, first: &FirstOf<'_>, goes_on: Option<(usize, usize)>) {
    println!(
        "{} and {} part after {common} events",
        pair.names[0], pair.names[1]
    );
    let [left, right] = &pair.sides;
    for line in &left[common.saturating_sub(BEFORE)..common] {
        println!("  both   {}", events::columns(line));
    }
    for (name, side) in [("first", left), ("second", right)] {
        if side.len() <= common {
            println!("  {name:<6} (the run is over)");
        }
        for line in side.iter().skip(common).take(AFTER) {
            println!("  {name:<6} {}", events::columns(line));
        }
    }
    if let Some((which, more)) = goes_on {
        let (name, other) = if which == 0 {
            ("first", "second")
        } else {
            ("second", "first")
        };
        println!("the {name} has {more} more events, then goes on as the {other} does there");
    }
    if !first.is_empty() {
        println!("the first event of each engine that differs:");
        for (name, [a, b]) in first {
            let shown = |line: &Option<&TraceLine>| {
                line.map_or_else(
                    || "(nothing more)".to_owned(),
                    |line| {
                        format!(
                            "{} ms {} (line {})",
                            events::milliseconds(line.at),
                            events::said(line),
                            line.number
                        )
                    },
                )
            };
            println!("  {name:<5} first   {}", shown(a));
            println!("        second  {}", shown(b));
        }
    }
}

fn as_json(
    pair: &ComparedTraces,
    common: usize,
    is_equal: bool,
    first: &FirstOf<'_>,
    goes_on: Option<(usize, usize)>,
) -> Value {
    let line = |line: Option<&TraceLine>| {
        line.map_or(Value::Null, |line| {
            json!({
                "line": line.number,
                "at_ns": line.at,
                "event": serde_json::from_str::<Value>(&line.to_string()).unwrap_or_default(),
                "said": events::said(line),
            })
        })
    };
    let engines: serde_json::Map<String, Value> = first
        .iter()
        .map(|(name, [a, b])| {
            (
                (*name).to_owned(),
                json!({ "first": line(*a), "second": line(*b) }),
            )
        })
        .collect();
    json!({
        "first": pair.names[0],
        "second": pair.names[1],
        "equal": is_equal,
        "common": common,
        "events": [pair.sides[0].len(), pair.sides[1].len()],
        "differs": {
            "first": line(pair.sides[0].get(common)),
            "second": line(pair.sides[1].get(common)),
        },
        "engines": engines,
        "goes_on": goes_on.map(|(which, more)| json!({ "side": which, "after": more })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<TraceLine> {
        let line = |(number, deed): (usize, &&str)| {
            let text = format!("{{\"t\":{number},\"e\":\"engine\",\"r\":\"a\",\"what\":\"{deed}\"}}");
            TraceLine::parse(number as u64 + 1, &text).unwrap()
        };
        text.iter().enumerate().map(line).collect()
    }

    #[test]
    fn what_one_side_has_more_is_counted() {
        let sides = [lines(&["x", "y", "z"]), lines(&["x", "p", "q", "y", "z"])];
        let key = |line: &TraceLine| key(line, true);
        assert_eq!(resume(&sides, 1, &key), Some((1, 2)));
        let first = by_replica(&sides, &key);
        let deeds = first["a"].map(|line| line.unwrap().deed().unwrap().to_owned());
        assert_eq!(deeds, ["y", "p"]);
        assert!(by_replica(&[lines(&["x"]), lines(&["x"])], &key).is_empty());
    }
}
