//! Hostile peers of a scenario: processes that speak the protocol and do not keep to it.

use serde::{Deserialize, Serialize};

/// A hostile peer. In a file: a table `[[hostile]]`. The first is the process `h0`, the second `h1`, and so on; each dials
/// its targets, which take everybody, and knows the key of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hostile {
    /// What it does.
    pub kind: Hostility,
    /// When it connects, in milliseconds.
    #[serde(default)]
    pub from_ms: u64,
    /// When it is gone, in milliseconds. It may stay while the replicas come to agree.
    pub to_ms: u64,
    /// The replicas that it dials; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<usize>>,
    /// The replica whose log it forges, withholds, replays or floods, the creator when absent; or the one whose key pair a
    /// twin has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<usize>,
    /// The ceiling of the weight with which the creator adds it as a writer. A member has 2 when absent, an equivocator is
    /// a stranger then, and no other kind is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u64>,
}

/// What a hostile peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hostility {
    /// Sends random bytes in place of a handshake, or after it.
    Garbage,
    /// Sends the first part of a frame and then nothing, or breaks off.
    Truncated,
    /// Asks, wants and announces without end, up to the bounds and beyond them.
    Flood,
    /// Serves the log of a replica with a bit flipped in a block, in a node of a proof, or in a signature.
    ForgedProof,
    /// Serves the log of a replica with a bit flipped in one of a few blocks: what comes behind that is sound.
    ForgedBlocks,
    /// Says that it has all of the log of a replica, and gives nothing of it.
    Withheld,
    /// Sends again what it got, and what was true of the log of a replica before.
    Replay,
    /// Writes what no program would write into a log of its own, as a stranger.
    Stranger,
    /// Writes what no program would write into a log of its own, as a member.
    Member,
    /// Signs two logs of the same lengths, and shows one to every second target and the other to the rest.
    Equivocator,
    /// Opens the database with the key pair of a replica and an empty directory, and writes.
    Twin,
}

impl Hostile {
    /// The ceiling of a member that says none.
    const WEIGHT_DEFAULT: u64 = 2;

    /// The replica whose log may have two branches because of it, signed with the key of that replica.
    #[must_use]
    pub fn may_fork(&self) -> Option<usize> {
        self.of.filter(|_| self.kind == Hostility::Twin)
    }

    /// True when its own log, which is no replica's, has two branches.
    #[must_use]
    pub fn forks_itself(&self) -> bool {
        self.kind == Hostility::Equivocator
    }

    /// The ceiling with which the creator makes it a writer; none for a stranger.
    #[must_use]
    pub fn ceiling(&self) -> Option<u64> {
        match self.kind {
            Hostility::Member => Some(self.weight.unwrap_or(Self::WEIGHT_DEFAULT)),
            Hostility::Equivocator => self.weight,
            _ => None,
        }
    }

    /// Whom it dials, in a scenario of so many replicas.
    #[must_use]
    pub fn dialled(&self, replicas: usize) -> Vec<usize> {
        self.targets.clone().unwrap_or_else(|| (0..replicas).collect())
    }

    /// The field that cannot be as it is, and why.
    pub(super) fn refused(&self, replicas: usize, time_ms_max: u64) -> Option<(&'static str, String)> {
        let unknown = |replica: &usize| *replica >= replicas;
        let targets = self.dialled(replicas);
        if let Some(replica) = targets.iter().find(|replica| unknown(replica)) {
            return Some(("targets", format!("there is no replica {replica}")));
        }
        if targets.is_empty() {
            return Some(("targets", "must hold at least one".into()));
        }
        if self.from_ms > self.to_ms || self.to_ms > time_ms_max {
            return Some(("to_ms", format!("is not in {}..={time_ms_max}", self.from_ms)));
        }
        if let Some(replica) = self.of.filter(unknown) {
            return Some(("of", format!("there is no replica {replica}")));
        }
        match (self.kind.concerns_a_replica(), self.of) {
            (false, Some(_)) => return Some(("of", "this kind has nothing to do with one replica".into())),
            (true, None) if self.kind == Hostility::Twin => {
                return Some(("of", "a twin must say whose".into()));
            }
            _ => {}
        }
        (self.weight.is_some() && self.ceiling().is_none())
            .then(|| ("weight", "this kind is never a writer".into()))
    }
}

impl Hostility {
    /// All kinds.
    pub const ALL: [Self; 11] = [
        Self::Garbage,
        Self::Truncated,
        Self::Flood,
        Self::ForgedProof,
        Self::ForgedBlocks,
        Self::Withheld,
        Self::Replay,
        Self::Stranger,
        Self::Member,
        Self::Equivocator,
        Self::Twin,
    ];

    /// True for those that do something with the log of one replica.
    const fn concerns_a_replica(self) -> bool {
        matches!(
            self,
            Self::Flood | Self::ForgedProof | Self::ForgedBlocks | Self::Withheld | Self::Replay | Self::Twin
        )
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::Scenario;

    fn parse(hostile: &str) -> Result<Scenario, String> {
        let text = format!("about = \"\"\nreplicas = 2\n[[hostile]]\n{hostile}\n");
        Scenario::parse("test", &text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_hostile_peer_is_written_as_it_is_read() {
        let scenario = parse("kind = \"twin\"\nof = 1\nfrom_ms = 5\nto_ms = 10\ntargets = [0]").unwrap();
        assert_eq!(scenario.hostile[0].may_fork(), Some(1));
        let again = Scenario::parse("test", &scenario.to_toml()).unwrap();
        assert_eq!(again, scenario);
        let without = Scenario::parse("test", "about = \"\"\nreplicas = 2").unwrap();
        assert!(!without.to_toml().contains("hostile"));
    }

    #[test]
    fn what_cannot_be_names_its_field() {
        for (text, field) in [
            ("kind = \"flood\"\nto_ms = 5\ntargets = [2]", "targets"),
            ("kind = \"flood\"\nto_ms = 5\ntargets = []", "targets"),
            ("kind = \"flood\"\nfrom_ms = 6\nto_ms = 5", "to_ms"),
            ("kind = \"replay\"\nto_ms = 5\nof = 2", "of"),
            ("kind = \"garbage\"\nto_ms = 5\nof = 1", "of"),
            ("kind = \"twin\"\nto_ms = 5", "of"),
            ("kind = \"stranger\"\nto_ms = 5\nweight = 1", "weight"),
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.contains(&format!("hostile[0].{field}")), "{refused}");
        }
        assert!(parse("kind = \"rude\"\nto_ms = 5").unwrap_err().contains("rude"));
        assert!(
            parse("kind = \"flood\"\nto_ms = 5\nunknown = 1")
                .unwrap_err()
                .contains("unknown")
        );
    }
}
