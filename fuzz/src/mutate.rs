//! Mutations that keep a file readable up to the place they change: libFuzzer's own stop at the first checksum.

use libfuzzer_sys::fuzzer_mutate;

use crate::archive::{self, Entry, Tag};
use crate::frames::{Frame, Log};

/// Longest payload a mutation leaves, in bytes.
const PAYLOAD_MAX: usize = 1 << 16;

/// Numbers out of a seed (splitmix64): the same seed gives the same mutation.
pub struct Dice(u64);

impl Dice {
    /// From libFuzzer's seed.
    pub fn new(seed: u32) -> Dice {
        Dice(u64::from(seed))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// One of `0..n`; 0 if there is none.
    pub fn below(&mut self, n: usize) -> usize {
        (self.any() % (n.max(1) as u64)) as usize
    }
}

/// Mutates a journal or checkpoint in place; returns its new size.
pub fn log(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice::new(seed);
    let parsed = Log::parse(&data[..size]).filter(|log| !log.frames.is_empty());
    let Some(mut log) = parsed.filter(|_| dice.below(4) > 0) else {
        return fuzzer_mutate(data, size, max_size);
    };
    records(&mut log, &mut dice);
    store(data, max_size, &log.encode()).unwrap_or(size)
}

/// Copies the mutated bytes back, if they fit.
pub fn store(data: &mut [u8], max_size: usize, bytes: &[u8]) -> Option<usize> {
    if bytes.len() > max_size {
        return None;
    }
    data[..bytes.len()].copy_from_slice(bytes);
    Some(bytes.len())
}

/// Changes, drops, doubles or swaps records.
pub fn records(log: &mut Log, dice: &mut Dice) {
    let (at, other) = (dice.below(log.frames.len()), dice.below(log.frames.len()));
    match dice.below(8) {
        0 => drop(log.frames.remove(at)),
        1 => log.frames.insert(other, log.frames[at].clone()),
        2 => log.frames.swap(at, other),
        3 => log.first = [0, 1, 2, u64::MAX, u64::MAX - 1, dice.any()][dice.below(6)],
        4 => {
            let frame = &mut log.frames[at];
            let number = [0, 1, frame.seq.wrapping_add(1), u64::MAX, dice.any()][dice.below(5)];
            *[&mut frame.seq, &mut frame.durable][dice.below(2)] = number;
            return;
        }
        _ => log.frames[at].payload = payload(&log.frames, at, dice),
    }
    if dice.below(8) > 0 {
        log.renumber();
    }
}

fn payload(frames: &[Frame], at: usize, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = frames[at].payload.clone();
    if dice.below(4) == 0 {
        splice(&mut bytes, &frames[dice.below(frames.len())].payload, dice);
    } else {
        bytes = bytes_of(bytes, dice);
    }
    bytes.truncate(PAYLOAD_MAX);
    if bytes.is_empty() { vec![0] } else { bytes }
}

/// One of libFuzzer's own mutations.
pub fn bytes_of(mut bytes: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    let size = bytes.len();
    let max_size = size + 1 + dice.below(32);
    bytes.resize(max_size, 0);
    let size = fuzzer_mutate(&mut bytes, size, max_size);
    bytes.truncate(size);
    bytes
}

/// Puts a piece of another record into this one.
fn splice(into: &mut Vec<u8>, from: &[u8], dice: &mut Dice) {
    let start = dice.below(from.len());
    let piece = &from[start..start + dice.below(from.len() - start + 1)];
    let at = dice.below(into.len() + 1);
    let end = (at + dice.below(into.len() - at + 1)).min(into.len());
    into.splice(at..end, piece.iter().copied());
}

/// Mutates one entry of an archive in place; returns the archive's new size.
pub fn archive(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice::new(seed);
    let mut entries = archive::decode(&data[..size]);
    if entries.is_empty() {
        return fuzzer_mutate(data, size, max_size);
    }
    let logs: Vec<usize> = (0..entries.len()).filter(|at| entries[*at].tag == Tag::Log).collect();
    let at = if logs.is_empty() || dice.below(6) == 0 {
        dice.below(entries.len())
    } else {
        logs[dice.below(logs.len())]
    };
    match dice.below(24) {
        0 => drop(entries.remove(at)),
        1 => entries[at].tag = [Tag::Dir, Tag::File, Tag::Symlink, Tag::Link, Tag::Log][dice.below(5)],
        2 => entries[at].path = bytes_of(entries[at].path.clone(), &mut dice),
        3 => {
            let copy = Entry { path: entries[dice.below(entries.len())].path.clone(), ..entries[at].clone() };
            entries.push(copy);
        }
        _ => body(&mut entries[at], &mut dice),
    }
    store(data, max_size, &archive::encode(&entries)).unwrap_or(size)
}

fn body(entry: &mut Entry, dice: &mut Dice) {
    entry.body = match entry.log().filter(|log| !log.frames.is_empty()) {
        Some(mut log) => {
            records(&mut log, dice);
            log.encode()
        }
        None => bytes_of(std::mem::take(&mut entry.body), dice),
    };
}
