//! One root seed, split by name into independent random streams.
//!
//! Every concern draws from its own stream: the scheduler, each directed path, the entropy of each incarnation, each
//! disk, the workload. A draw that is added to or removed from one of them moves no other, which is what lets a
//! shrinker take a fault away without changing the rest of the run.

use blake2::{Blake2b256, Digest as _};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::disk::Seeded;

/// The root of all randomness of one run.
///
/// ```
/// use autobee_sim::Seeds;
///
/// let seeds = Seeds::new(42);
/// let mut scheduler = seeds.stream("scheduler", &[]);
/// let mut again = Seeds::new(42).stream("scheduler", &[]);
/// assert_eq!(scheduler.next_u64(), again.next_u64());
/// assert_ne!(scheduler.next_u64(), seeds.stream("workload", &[]).next_u64());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seeds(u64);

/// One named stream of draws (ChaCha8).
#[derive(Debug, Clone)]
pub struct Stream(ChaCha8Rng);

impl From<Stream> for Seeded {
    fn from(stream: Stream) -> Self {
        Self::from(stream.0)
    }
}

impl Seeds {
    /// The streams of `root`.
    #[must_use]
    pub const fn new(root: u64) -> Self {
        Self(root)
    }

    /// The number from which all streams come.
    #[must_use]
    pub const fn root(self) -> u64 {
        self.0
    }

    /// The stream of `domain` for the thing that `names` tell. Equal arguments give equal streams.
    #[must_use]
    pub fn stream(self, domain: &str, names: &[&str]) -> Stream {
        let mut hash = Blake2b256::new();
        hash.update(b"autobee-sim stream");
        hash.update(self.0.to_le_bytes());
        for part in std::iter::once(&domain).chain(names) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        Stream(ChaCha8Rng::from_seed(hash.finalize().into()))
    }
}

impl Stream {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`; 0 when `bound` is 0. The bias is below 2^-32 for bounds below 2^32.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(u64::MAX)
    }

    /// A number from `least` to `most`, both included; `least` when `most` is smaller.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        let span = most.saturating_sub(least);
        if span == u64::MAX {
            return self.next_u64();
        }
        least + self.below(span + 1)
    }

    /// A position below `len`; 0 when `len` is 0.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True with a probability of `of_64k` in 65,536. Draws once, whatever the probability.
    pub fn chance(&mut self, of_64k: u32) -> bool {
        self.0.next_u32() >> 16 < of_64k
    }

    /// Fills `out`.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_separate_streams() {
        let seeds = Seeds::new(1);
        let first = |domain, names: &[&str]| seeds.stream(domain, names).next_u64();
        assert_eq!(first("path", &["a", "b"]), first("path", &["a", "b"]));
        assert_ne!(first("path", &["a", "b"]), first("path", &["b", "a"]));
        assert_ne!(first("path", &["ab"]), first("path", &["a", "b"]));
        assert_ne!(first("path", &[]), Seeds::new(2).stream("path", &[]).next_u64());
    }

    #[test]
    fn ranges_are_closed_and_total() {
        let mut stream = Seeds::new(3).stream("test", &[]);
        let mut seen = [false; 3];
        for _ in 0..200 {
            seen[usize::try_from(stream.between(4, 6)).unwrap() - 4] = true;
        }
        assert_eq!(seen, [true; 3]);
        assert_eq!(stream.between(9, 2), 9);
        assert_eq!(stream.below(0), 0);
        assert_eq!(stream.index(1), 0);
        stream.between(0, u64::MAX);
    }

    #[test]
    fn chance_has_its_ends() {
        let mut stream = Seeds::new(4).stream("test", &[]);
        assert!((0..1000).all(|_| !stream.chance(0)));
        assert!((0..1000).all(|_| stream.chance(65_536)));
        let hits = (0..10_000).filter(|_| stream.chance(16_384)).count();
        assert!((2_200..2_800).contains(&hits), "{hits}");
    }
}
