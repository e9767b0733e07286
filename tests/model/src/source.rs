//! Where a generator's choices come from.

use branchfs_tests::Rng;

/// A stream of choices.
pub trait Source {
    /// A number below `end`, which is not 0.
    fn below(&mut self, end: u32) -> u32;

    /// One of several.
    fn pick<T: Copy>(&mut self, from: &[T]) -> T
    where
        Self: Sized,
    {
        from[self.below(from.len() as u32) as usize]
    }

    /// True once in `times`.
    fn once_in(&mut self, times: u32) -> bool
    where
        Self: Sized,
    {
        self.below(times) == 0
    }
}

/// Random choices that a seed repeats.
#[derive(Debug, Clone)]
pub struct Seeded(Rng);

impl Seeded {
    /// The stream numbered `stream` of a seed.
    pub fn new(seed: u64, stream: u64) -> Seeded {
        Seeded(Rng::new(seed, stream))
    }
}

impl Source for Seeded {
    fn below(&mut self, end: u32) -> u32 {
        self.0.below(u64::from(end)) as u32
    }
}

/// Choices from a fuzzer's bytes; zeros when they are used up.
#[derive(Debug, Clone)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// Reads from the front.
    pub fn new(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes(bytes)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u32 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                u32::from(*first)
            }
            None => 0,
        }
    }
}

impl Source for Bytes<'_> {
    fn below(&mut self, end: u32) -> u32 {
        let number = if end <= 256 { self.byte() } else { self.byte() << 8 | self.byte() };
        number % end
    }
}
