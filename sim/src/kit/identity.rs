//! Which check of which test one is: found again by another process, and shared with no other.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;

use super::outside;
use crate::executor::lock;

/// Identities of all checks that ran in this process.
static TAKEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The identity of a check that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckId {
    /// What people call it: the name that it was given, or its test. The second one of a test with the same name ends in
    /// `-2`.
    pub(super) label: String,
    /// The test that runs it, as its harness calls it; none on a thread without a name.
    pub(super) test: Option<String>,
    /// Where its files are, below the folder of all checks.
    path: PathBuf,
}

impl CheckId {
    /// The identity of a check that begins on this thread. `name` was given to it, `place` is where it was made.
    pub(super) fn next(name: Option<&str>, place: &str) -> Self {
        let test = outside::test_name();
        let group = match &test {
            Some(test) => outside::file_name(test),
            None => outside::file_name(&format!("at {place}")),
        };
        let mut taken = lock(&TAKEN);
        // Checks of a test run one after the other: in another process each gets the same number.
        let mut number = 1_u64;
        loop {
            let ending = if number == 1 {
                String::new()
            } else {
                format!("-{number}")
            };
            let (label, path) = match name {
                Some(name) => {
                    let label = format!("{name}{ending}");
                    (label.clone(), [&group, &label].iter().collect::<PathBuf>())
                }
                None => {
                    let label = format!("{}{ending}", test.as_deref().unwrap_or(place));
                    (label, PathBuf::from(format!("{group}{ending}")))
                }
            };
            if taken.insert(path.display().to_string()) {
                return Self { label, test, path };
            }
            number += 1;
        }
    }

    /// Names it to another process that runs the same test.
    pub(super) fn key(&self) -> String {
        self.path.display().to_string()
    }

    /// Where its files are.
    pub(super) fn folder(&self) -> PathBuf {
        outside::folder().join(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_of_one_test_have_names_of_their_own() {
        let label = |name| CheckId::next(name, "place-1").label;
        let test = "kit::identity::tests::checks_of_one_test_have_names_of_their_own";
        assert_eq!([label(None), label(None)], [test.to_owned(), format!("{test}-2")]);
        assert_eq!([label(Some("a")), label(Some("a"))], ["a", "a-2"]);
        let named = CheckId::next(Some("b"), "place-1");
        assert_eq!(named.test.as_deref(), Some(test));
        assert!(
            named
                .folder()
                .ends_with("kit--identity--tests--checks_of_one_test_have_names_of_their_own/b"),
            "{named:?}"
        );
    }

    #[test]
    fn tests_share_no_name() {
        let of = |test: &str| {
            let thread = std::thread::Builder::new().name(test.to_owned());
            let id = thread.spawn(|| CheckId::next(Some("same"), "place-1"));
            id.unwrap().join().unwrap()
        };
        let (one, other) = (of("one"), of("other"));
        assert_eq!((&*one.label, &*other.label), ("same", "same"));
        assert_ne!(one.folder(), other.folder());
        assert_ne!(one.key(), other.key());
    }
}
