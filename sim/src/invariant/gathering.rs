//! Blocks that come in slowly are ordered together, so that a heal undoes seldom.

use std::time::Duration;

use super::Violation;

/// A heal: how long it took until all agreed, and how long replicas gather blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Healing {
    /// From when everything was healed.
    pub taken: Duration,
    /// Longest wait of a block for those that are on their way.
    pub gather: Duration,
}

/// Looks for a replica that undid something more often than it gathered: twice besides are for what came first and last.
#[must_use]
pub fn gathering(healing: Healing, undos: &[(String, u64)]) -> Option<Violation> {
    let Healing { taken, gather } = healing;
    let times = taken.as_millis() / gather.as_millis().max(1);
    let most = u64::try_from(times).unwrap_or(u64::MAX).saturating_add(2);
    let (replica, undos) = undos.iter().find(|(_, undos)| *undos > most)?;
    let what = format!("{replica} undid {undos} times in {taken:?}, gathering for {gather:?}");
    Some(Violation {
        invariant: "gathering",
        what,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_undo_more_than_was_gathered_is_found() {
        let healing = Healing {
            taken: Duration::from_millis(1_000),
            gather: Duration::from_millis(300),
        };
        let undos = |count| [("r0".to_owned(), 1), ("r1".to_owned(), count)];
        assert_eq!(gathering(healing, &undos(5)), None);
        let violation = gathering(healing, &undos(6)).map(|violation| violation.to_string());
        assert_eq!(
            violation.as_deref(),
            Some("gathering: r1 undid 6 times in 1s, gathering for 300ms")
        );
    }
}
