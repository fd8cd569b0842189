//! Which faults befall the replicas of a check.

use crate::scenario::Class;

/// Classes of faults that a check draws from. Each seed draws some of them, and when they strike whom.
///
/// ```
/// use autobee_sim::Faults;
///
/// let offline = Faults::none().partitions(true).clocks(true);
/// assert_ne!(offline, Faults::all());
/// assert_eq!(Faults::all().disks(false).disks(true), Faults::all());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults(u8);

impl Faults {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Class::ALL
            .into_iter()
            .fold(Self::none(), |faults, class| faults.set(class, true))
    }

    /// None: replicas write at the same time, and all goes well.
    #[must_use]
    pub const fn none() -> Self {
        Self(0)
    }

    /// The network splits, and replicas go offline.
    #[must_use]
    pub const fn partitions(self, on: bool) -> Self {
        self.set(Class::Partition, on)
    }

    /// Paths are slow, streams tear, connections are reset.
    #[must_use]
    pub const fn network(self, on: bool) -> Self {
        self.set(Class::Network, on)
    }

    /// Processes are killed or lose power, and start again from their disks.
    #[must_use]
    pub const fn crashes(self, on: bool) -> Self {
        self.set(Class::Crash, on)
    }

    /// Processes stand still for a while, as behind a closed lid.
    #[must_use]
    pub const fn pauses(self, on: bool) -> Self {
        self.set(Class::Pause, on)
    }

    /// Clocks are wrong by up to two hours, or run too fast or too slow.
    #[must_use]
    pub const fn clocks(self, on: bool) -> Self {
        self.set(Class::Clock, on)
    }

    /// Disks fail or are full.
    #[must_use]
    pub const fn disks(self, on: bool) -> Self {
        self.set(Class::Disk, on)
    }

    /// Replicas join late.
    #[must_use]
    pub const fn late_joiners(self, on: bool) -> Self {
        self.set(Class::Late, on)
    }

    pub(super) const fn has(self, class: Class) -> bool {
        self.0 & (1 << class as u8) != 0
    }

    const fn set(self, class: Class, on: bool) -> Self {
        let bit = 1 << class as u8;
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }
}
