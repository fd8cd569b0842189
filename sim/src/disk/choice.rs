//! Where decisions come from: a seeded stream, or an enumeration of all of them.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// A source of decisions.
pub trait Choose {
    /// A number below `bound`; zero when `bound` is zero.
    fn below(&mut self, bound: u32) -> u32;

    /// True in `share` of 65,536 cases.
    fn chance(&mut self, share: u16) -> bool {
        share != 0 && self.below(1 << 16) < u32::from(share)
    }
}

/// Decisions drawn from a seed.
#[derive(Debug, Clone)]
pub struct Seeded {
    stream: ChaCha8Rng,
}

impl Seeded {
    /// A stream of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            stream: ChaCha8Rng::seed_from_u64(seed),
        }
    }
}

impl From<ChaCha8Rng> for Seeded {
    fn from(stream: ChaCha8Rng) -> Self {
        Self { stream }
    }
}

impl Choose for Seeded {
    fn below(&mut self, bound: u32) -> u32 {
        // Multiply and shift: the bias is below one in 2^32 of the bound, and every draw takes one word.
        let product = u64::from(self.stream.next_u32()) * u64::from(bound);
        u32::try_from(product >> 32).unwrap_or(0)
    }
}

/// Every sequence of decisions, one after the other: counts like an odometer whose wheels appear as they are asked
/// for.
///
/// ```
/// use autobee_sim::disk::{Choose as _, Odometer};
///
/// let mut odometer = Odometer::default();
/// let mut seen = Vec::new();
/// loop {
///     let first = odometer.below(2);
///     seen.push((first, if first == 1 { odometer.below(3) } else { 0 }));
///     if !odometer.advance() {
///         break;
///     }
/// }
/// assert_eq!(seen, [(0, 0), (1, 0), (1, 1), (1, 2)]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Odometer {
    wheels: Vec<(u32, u32)>,
    at: usize,
}

impl Odometer {
    /// Goes on to the next sequence; false when all were had.
    pub fn advance(&mut self) -> bool {
        self.wheels.truncate(self.at);
        self.at = 0;
        while let Some((value, bound)) = self.wheels.pop() {
            if value + 1 < bound {
                self.wheels.push((value + 1, bound));
                return true;
            }
        }
        false
    }
}

impl Choose for Odometer {
    fn below(&mut self, bound: u32) -> u32 {
        if self.at == self.wheels.len() {
            self.wheels.push((0, bound));
        }
        let (value, _) = self.wheels[self.at];
        self.at += 1;
        value
    }

    /// Both ways, however rare one of them is.
    fn chance(&mut self, share: u16) -> bool {
        share != 0 && self.below(2) == 1
    }
}
