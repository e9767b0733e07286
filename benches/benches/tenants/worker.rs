//! The process that allocates, a mebibyte at a time, and writes down how long each took.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) const VERB: &str = "allocate";
const MIB: usize = 1 << 20;
/// Between two allocations: it is computing.
const PACE: Duration = Duration::from_micros(300);

/// Holds what it took for `hold_ms`; with 0 until the end of its input.
pub(crate) fn run(log: &Path, mebibytes: u64, hold_ms: u64) {
    let mut log = File::create(log).unwrap();
    let mut held: Vec<Vec<u8>> = Vec::new();
    for _ in 0..mebibytes {
        std::thread::sleep(PACE);
        let began = Instant::now();
        // Not zeros, which would be pages that nobody has touched.
        held.push(std::hint::black_box(vec![1; MIB]));
        let took = began.elapsed().as_nanos() as u64;
        // At once: it may be killed.
        log.write_all(&took.to_ne_bytes()).unwrap();
    }
    if hold_ms == 0 {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    } else {
        std::thread::sleep(Duration::from_millis(hold_ms));
    }
    drop(held);
}

/// Nanoseconds of each allocation that a process came to.
pub(crate) fn read(log: &Path) -> Vec<u64> {
    // Killed before it began, it has no log.
    let bytes = fs::read(log).unwrap_or_default();
    bytes.chunks_exact(8).map(|chunk| u64::from_ne_bytes(chunk.try_into().unwrap())).collect()
}
