//! Checks of apply functions, as their developers write them: wrong ones are caught and told in words, a right one passes.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and reads the files that failures leave"
)]

mod nothing;
mod second;
mod words;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use autobee::apply::{Apply, ApplyError, ApplyView, Entry, Host, WriterOptions};
use autobee::crypto::CoreKey;
use autobee_sim::{Check, Faults, Scenario, View, check};
use proptest::collection::vec;
use proptest::prelude::*;

/// A map from the first byte of each entry to what is made of the entry, or why it is refused; it is told whether the key is new.
struct Letters<F>(F);

impl<F> Apply for Letters<F>
where
    F: Fn(&Entry, bool) -> Result<String, ApplyError> + Send + Sync + 'static,
{
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        _: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            let key = &entry.value()[..1];
            let is_new = view.get(key).await.is_none();
            let value = (self.0)(entry, is_new)?;
            let mut write = view.write();
            write.put(key, value.as_bytes());
            write.flush().await?;
        }
        Ok(())
    }
}

fn text(entry: &Entry) -> String {
    String::from_utf8_lossy(entry.value()).into_owned()
}

fn last_wins(entry: &Entry, _: bool) -> Result<String, ApplyError> {
    Ok(text(entry))
}

/// What the shelf understands.
#[derive(Debug, Clone, PartialEq)]
enum Op {
    /// Puts a book into a place.
    Put { book: u8, place: u8 },
    /// Takes a book away.
    Take { book: u8 },
    /// Lets somebody in.
    Invite(CoreKey),
}

impl Op {
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Put { book, place } => vec![b'p', *book, *place],
            Self::Take { book } => vec![b't', *book],
            Self::Invite(key) => [b"i", &key.as_bytes()[..]].concat(),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [b'p', book, place] => Some(Self::Put {
                book: *book,
                place: *place,
            }),
            [b't', book] => Some(Self::Take { book: *book }),
            [b'i', key @ ..] => Some(Self::Invite(CoreKey::new(key.try_into().ok()?))),
            _ => None,
        }
    }

    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            3 => (0..6_u8, 0..9_u8).prop_map(|(book, place)| Self::Put { book, place }),
            1 => (0..6_u8).prop_map(|book| Self::Take { book }),
        ]
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Mistake {
    #[default]
    None,
    HashOrder,
    Counter,
    FirstSeen,
    Nanoseconds,
    Panic,
    Name,
    TimeZone,
    GlobalFirstSeen,
    GivesUp,
    Waits,
}

/// What the first shelf of this process was handed first.
static GLOBAL_FIRST: OnceLock<Vec<u8>> = OnceLock::new();

/// A shelf of books, with a mistake or none.
#[derive(Debug, Default)]
struct Shelf {
    mistake: Mistake,
    count: AtomicU64,
    first: Mutex<Option<u8>>,
}

impl Shelf {
    fn with(mistake: Mistake) -> Self {
        Self {
            mistake,
            ..Self::default()
        }
    }

    /// What the mistake makes of a value.
    async fn spoil(
        &self,
        book: u8,
        entry: &[u8],
        view: &ApplyView,
        name: &str,
    ) -> Result<String, ApplyError> {
        Ok(match self.mistake {
            Mistake::None => String::new(),
            Mistake::HashOrder => {
                let books = view.range(b"book/", b"book0").await;
                #[expect(clippy::disallowed_types, reason = "the mistake")]
                let books: std::collections::HashMap<_, _> = books.into_iter().collect();
                books.keys().map(|key| format!("{key:?}")).collect()
            }
            Mistake::Counter => self.count.fetch_add(1, Ordering::Relaxed).to_string(),
            Mistake::FirstSeen => self.first.lock().unwrap().get_or_insert(book).to_string(),
            #[expect(clippy::disallowed_types, reason = "the mistake")]
            Mistake::Nanoseconds => {
                let now = std::time::SystemTime::now();
                let since = now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
                since.subsec_nanos().to_string()
            }
            Mistake::Panic => {
                let books = view.range(b"book/", b"book0").await;
                assert!(books.len() < 3, "no room for a fourth book");
                String::new()
            }
            Mistake::Name => name.to_owned(),
            Mistake::GlobalFirstSeen => GLOBAL_FIRST
                .get_or_init(|| entry.to_vec())
                .iter()
                .map(|byte| format!("{byte}."))
                .collect(),
            Mistake::TimeZone => std::env::var("TZ").unwrap_or_default(),
            Mistake::GivesUp if book == 5 => return Err(ApplyError::fatal("book 5 is forbidden")),
            Mistake::Waits if book == 5 => std::future::pending().await,
            Mistake::GivesUp | Mistake::Waits => String::new(),
        })
    }
}

impl Apply for Shelf {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        for entry in entries {
            let op = Op::from_bytes(entry.value()).ok_or_else(|| ApplyError::reject("no operation"))?;
            let key = |book: u8| format!("book/{book}");
            let (book, value) = match op {
                Op::Invite(key) => {
                    host.add_writer(key, WriterOptions::default());
                    continue;
                }
                Op::Put { book, place } => (book, Some(place.to_string())),
                Op::Take { book } if view.get(key(book).as_bytes()).await.is_none() => {
                    return Err(ApplyError::reject("it is not there"));
                }
                Op::Take { book } => (book, None),
            };
            let spoilt = self.spoil(book, entry.value(), view, host.name()).await?;
            let mut write = view.write();
            match value {
                Some(value) => write.put(key(book).as_bytes(), format!("{value}{spoilt}").as_bytes()),
                None => write.delete(key(book).as_bytes()),
            }
            write.flush().await?;
        }
        Ok(())
    }
}

fn shelf(mistake: Mistake) -> Check<Op> {
    check(move || Shelf::with(mistake))
        .typed_ops(Op::any(), |op| op.to_bytes())
        .name(format!("shelf-{mistake:?}"))
        .replicas(2..=4)
        .seeds(0..40)
}

/// The words with which a check fails.
fn failure<T>(check: Check<T>) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| check.run())).unwrap_err();
    panic.downcast_ref::<String>().unwrap().clone()
}

fn has_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

/// What all failures say: how to see it again, and in the width and height of a screen.
fn is_readable(text: &str, test: &str) {
    has_all(
        text,
        &[
            "seed ",
            "what happened, shrunk from",
            "r0",
            "AUTOBEE_SEED=",
            test,
            "target/autobee-sim/",
        ],
    );
    assert!(text.lines().count() <= 40, "{text}");
    let path = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("the plan:"));
    let plan = std::fs::read_to_string(path.unwrap().trim()).unwrap();
    let scenario = Scenario::parse("kept", &plan).unwrap();
    assert!(!scenario.append.is_empty());
    assert!(plan.contains("AUTOBEE_SEED="));
}

#[test]
fn a_right_one_passes() {
    check(Shelf::default)
        .typed_ops(Op::any(), |op| op.to_bytes())
        .always("places are one digit", async |view: &View| {
            for (book, place) in view.range(b"book/", b"book0").await? {
                if place.len() != 1 {
                    return Err(format!("{book:?} is in {place:?}"));
                }
            }
            Ok(())
        })
        .replicas(2..=5)
        .faults(Faults::all())
        .seeds(0..30)
        .run();
}

#[test]
fn an_apply_that_is_no_function_is_told_so_with_the_entry_and_both_values() {
    for (mistake, why) in [
        (Mistake::HashOrder, "Two fresh instances differ"),
        (Mistake::Counter, "remembers something"),
        (Mistake::FirstSeen, "remembers something"),
        (Mistake::Nanoseconds, "Two fresh instances differ"),
    ] {
        let text = failure(shelf(mistake));
        has_all(&text, &["a function of what it is handed", "the entry: r", why]);
        has_all(
            &text,
            &["on an equal view, and they differ", "wrote \"book/", "Put {"],
        );
        is_readable(&text, "an_apply_that_is_no_function");
    }
    // Nobody else is there who could differ.
    let text = failure(shelf(Mistake::Counter).replicas(1..=1));
    has_all(
        &text,
        &[
            "by two instances",
            "r0's own instance",
            "a fresh instance",
            "to 1 replica, 2 ops",
        ],
    );
}

#[test]
fn a_panic_names_the_entry_and_where_it_happened() {
    let text = failure(shelf(Mistake::Panic));
    has_all(
        &text,
        &[
            "does not panic",
            "no room for a fourth book",
            "tests/kit/main.rs:",
            "the entry: r",
        ],
    );
    is_readable(&text, "a_panic_names");
}

#[test]
fn what_only_replicas_differ_in_is_told_with_both_replicas() {
    let text = failure(shelf(Mistake::Name));
    has_all(
        &text,
        &[
            "on an equal view, and they differ",
            "the entry: r",
            "r0 ",
            "wrote \"book/",
            "what the replicas hold:",
            "  view    key \"book/",
        ],
    );
    is_readable(&text, "what_only_replicas");
}

#[test]
fn an_apply_must_not_give_up_nor_wait() {
    for (mistake, what) in [
        (Mistake::GivesUp, "book 5 is forbidden"),
        (Mistake::Waits, "waits for something that is not its view"),
    ] {
        let text = failure(shelf(mistake));
        has_all(&text, &["does not give up", what, "book: 5"]);
        is_readable(&text, "an_apply_must_not");
    }
}

#[test]
fn what_reads_the_time_zone_differs_in_a_second_process() {
    let text = failure(shelf(Mistake::TimeZone));
    has_all(
        &text,
        &[
            "second process",
            "time zone Pacific/Chatham",
            "the entry: r",
            "here ",
            "there ",
        ],
    );
    has_all(&text, &["Pacific/Chatham\"", "AUTOBEE_SEED=0"]);
}

#[test]
fn what_a_global_remembers_differs_in_a_second_process() {
    let text = failure(shelf(Mistake::GlobalFirstSeen).seeds(3..40));
    has_all(&text, &["second process", "the entry: r", "here ", "there "]);
}

#[test]
fn a_broken_property_comes_with_the_smallest_history() {
    let three = async |view: &View| match view.range(b"book/", b"book0").await?.len() {
        0..3 => Ok(()),
        many => Err(format!("{many} books")),
    };
    let text = failure(shelf(Mistake::None).always("two books at most", three));
    has_all(
        &text,
        &[
            "two books at most",
            ": 3 books",
            "after it applied r",
            ", 3 ops and 0 faults in ",
        ],
    );
    is_readable(&text, "a_broken_property");
    let text = failure(shelf(Mistake::None).always("broken", async |_: &View| panic!("oh")));
    has_all(&text, &["the check panicked: oh"]);
}

#[test]
fn operations_can_be_bytes() {
    let words = check(Words::default)
        .ops(vec(prop_oneof![Just(b'a'), Just(0xff)], 1..4))
        .name("words")
        .seeds(0..20);
    words.run();
    let none = async |view: &View| match view.get(b"aa").await? {
        None => Ok(()),
        Some(count) => Err(format!("{count:?}")),
    };
    let words = check(Words::default)
        .ops(vec(Just(b'a'), 1..4))
        .name("aa")
        .always("no aa", none);
    let text = failure(words);
    has_all(&text, &["appends \"aa\"", "1 op and 0 faults"]);
    let text = failure(check(Words::default).ops(vec(Just(0xff), 2)).name("all refused"));
    has_all(&text, &["refused every one"]);
}

/// Counts words of text, and notes what else it is shown.
#[derive(Debug, Default)]
struct Words;

impl Apply for Words {
    async fn apply(
        &self,
        entries: &[Entry],
        view: &mut ApplyView,
        host: &mut dyn Host,
    ) -> Result<(), ApplyError> {
        let mut counts: BTreeMap<String, u8> = BTreeMap::new();
        let begins = view.get(b"begun").await.is_none();
        // Nothing of the kit's own is seen: the first entry is the first of the app.
        if host.genesis() && !begins {
            return Err(ApplyError::fatal("it begins twice"));
        }
        for entry in entries {
            let word =
                std::str::from_utf8(entry.value()).map_err(|error| ApplyError::reject(error.to_string()))?;
            let known = view.get(word.as_bytes()).await.map_or(0, |count| count[0]);
            let count = counts.entry(word.to_owned()).or_insert(known);
            *count = count.saturating_add(1);
        }
        let mut write = view.write();
        write.put(b"begun", b"");
        for (word, count) in counts {
            write.put(word.as_bytes(), &[count]);
        }
        write.flush().await
    }
}

#[test]
fn an_app_can_make_its_members_itself() {
    let members = |key| Op::Invite(key);
    shelf(Mistake::None).members_by(members).name("members").run();
    let bytes = |key| Op::Invite(key).to_bytes();
    shelf(Mistake::None)
        .members_by(bytes)
        .name("members as bytes")
        .run();
    let text = failure(
        shelf(Mistake::None)
            .members_by(|_| b"nonsense".to_vec())
            .name("no members"),
    );
    has_all(&text, &["the operations that add writers added none"]);
    assert!(!text.contains("mistake of"), "{text}");
}

#[test]
fn a_check_without_operations_or_replicas_is_refused() {
    has_all(&failure(check(Shelf::default)), &["no operations"]);
    has_all(
        &failure(shelf(Mistake::None).replicas(0..=3)),
        &["replicas(0..=3)"],
    );
}

/// What a test prints that runs in a process of its own.
fn output(test: &str, variables: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env_remove("AUTOBEE_SEED")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Run by the test below, in processes of its own.
#[test]
fn as_the_environment_says() {
    shelf(Mistake::None).seeds(0..3).name("environment").run();
}

#[test]
fn the_environment_overrides_the_seeds() {
    let run = |variables: &[(&str, &str)]| output("as_the_environment_says", variables);
    has_all(&run(&[]), &["environment: 3 seeds in"]);
    has_all(&run(&[("AUTOBEE_SEED", "17")]), &["environment: 1 seeds in"]);
    has_all(&run(&[("AUTOBEE_SEEDS", "5..12")]), &["environment: 7 seeds in"]);
    for (name, value) in [
        ("AUTOBEE_SEEDS", "10..5"),
        ("AUTOBEE_SEEDS", "5..5"),
        ("AUTOBEE_TIME", "0s"),
    ] {
        has_all(
            &run(&[(name, value)]),
            &["nothing would be tested", "test result: FAILED"],
        );
    }
    has_all(
        &run(&[("AUTOBEE_SEEDS", "seven")]),
        &["AUTOBEE_SEEDS: \"seven\" is no range"],
    );
    let text = run(&[("AUTOBEE_TIME", "300ms")]);
    assert!(
        text.contains(" seeds in ") && !text.contains(": 3 seeds"),
        "{text}"
    );
}
