//! Randomness: the trait through which keys and salts are drawn, so that a simulation can repeat them.

/// The random source of a world: the operating system's, or a named stream of a simulation's seed.
pub trait Entropy: Clone + Send + Sync + 'static {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);

    /// A random array.
    fn array<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }
}
