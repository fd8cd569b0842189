//! Where the choices of a generated scenario come from: a seeded stream, or the bytes of a fuzzer.

use crate::seed::Stream;

/// A source of choices. Smaller numbers mean simpler scenarios, and bytes that run out choose 0.
#[derive(Debug)]
pub enum Choices<'a> {
    /// Drawn from a seed.
    Seeded(Box<Stream>),
    /// One or two bytes a choice.
    Bytes(&'a [u8]),
}

impl Choices<'_> {
    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        match self {
            Self::Seeded(stream) => stream.below(end),
            Self::Bytes(_) if end <= 1 => 0,
            Self::Bytes(bytes) if end <= 256 => take(bytes) % end,
            Self::Bytes(bytes) => (take(bytes) << 8 | take(bytes)) * end / 65_536,
        }
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least).saturating_add(1))
    }

    /// A position in a list of this length, which is not empty.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True once in `times`; bytes that run out say no.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) + 1 == times
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }
}

fn take(bytes: &mut &[u8]) -> u64 {
    let Some((byte, rest)) = bytes.split_first() else {
        return 0;
    };
    *bytes = rest;
    u64::from(*byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seeds;

    #[test]
    fn choices_stay_in_their_range_and_no_bytes_choose_the_first() {
        let bytes: Vec<u8> = (0..=255).collect();
        let seeded = Choices::Seeded(Box::new(Seeds::new(1).stream("choices", &[])));
        for mut choices in [seeded, Choices::Bytes(&bytes), Choices::Bytes(&[])] {
            for end in [1, 2, 255, 256, 257, 65_536, 1 << 30] {
                assert!(choices.below(end) < end);
            }
            assert!((5..=9).contains(&choices.between(5, 9)));
            assert_eq!(choices.between(9, 5), 9);
        }
        let mut none = Choices::Bytes(&[]);
        assert_eq!(
            (none.below(300), none.once_in(2), none.pick(&[7, 8])),
            (0, false, 7)
        );
    }
}
