//! How long tests run, and randomness that can be replayed: `BRANCHFS_LONG`, `BRANCHFS_SEED` and `BRANCHFS_ROUNDS`
//! override what a test chooses.

use std::hash::{BuildHasher, RandomState};

/// The seed of this run, printed so that a failure can be replayed.
pub fn seed() -> u64 {
    let seed = from_environment("BRANCHFS_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    eprintln!("BRANCHFS_SEED={seed}");
    seed
}

/// How many rounds to go, printed.
pub fn rounds(default: u64) -> u64 {
    let rounds = from_environment("BRANCHFS_ROUNDS").unwrap_or(default);
    eprintln!("BRANCHFS_ROUNDS={rounds}");
    rounds
}

/// Whether the long forms of tests are asked for (`BRANCHFS_LONG=1`).
pub fn long() -> bool {
    std::env::var_os("BRANCHFS_LONG").is_some_and(|value| value == "1")
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The stream numbered `stream` of a seed.
    pub fn new(seed: u64, stream: u64) -> Rng {
        let mut rng = Rng(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        rng.next_u64();
        rng
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// So many random bytes.
    pub fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.next_u64() as u8).collect()
    }
}
