//! Slips that the simulator has the engine make, to prove that its checks find them.
//!
//! Each is one wrong step at the place where it would be made. In production nobody asks for any, and their names are
//! not in the program: see [`Env::SIM`](crate::env::Env::SIM).

/// A slip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Slip {
    /// A batch that ties with one that is in order already comes behind it.
    TieBreak,
    /// The backer of a claim does not order the batch that claims.
    UnfollowedBacker,
    /// What must go before entries of the order is put behind them.
    SkippedUndo,
    /// The weight of a batch is what its writer stands with now, not at the place of the batch.
    LiveWeight,
    /// Batches that come while their writer is removed are thrown away.
    DroppedRemoved,
    /// Batches take part before what they name is here.
    EarlyDrain,
    /// What apply wrote to the view stays when the system takes nothing of the batch.
    ViewBeforeSystem,
}

/// Which slips are made. None by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planted(u8);

impl Planted {
    /// Those of which `is_planted` says so.
    pub fn new(is_planted: impl Fn(&'static str) -> bool) -> Self {
        let slips = [
            ("wrong_tie_break", Slip::TieBreak),
            ("unfollowed_backer", Slip::UnfollowedBacker),
            ("skipped_undo", Slip::SkippedUndo),
            ("live_weight", Slip::LiveWeight),
            ("dropped_removed", Slip::DroppedRemoved),
            ("early_drain", Slip::EarlyDrain),
            ("view_before_system", Slip::ViewBeforeSystem),
        ];
        let planted = slips.into_iter().filter(|(name, _)| is_planted(name));
        Self(planted.fold(0, |all, (_, slip)| all | 1 << slip as u8))
    }

    pub(crate) const fn has(self, slip: Slip) -> bool {
        self.0 & (1 << slip as u8) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_plants_one_slip_and_nothing_is_planted_by_default() {
        assert_eq!(Planted::new(|_| false), Planted::default());
        let backer = Planted::new(|name| name == "unfollowed_backer");
        assert!(backer.has(Slip::UnfollowedBacker) && !backer.has(Slip::TieBreak));
        let all = Planted::new(|_| true);
        assert_eq!(all.0.count_ones(), 7);
    }
}
