//! What a patch cannot say, counted by reason.

use std::collections::BTreeMap;

/// Why something is not in a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Attributes other than the executable bit of files: the rest of the mode, owner, times, extended ones.
    Attributes,
    /// An empty directory came or went.
    EmptyDirectory,
    /// A FIFO, socket or device.
    Special,
    /// A path that git takes for its own and refuses to touch.
    Reserved,
}

/// What was left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Omitted {
    /// The reason.
    pub why: Why,
    /// How many paths.
    pub paths: u64,
    /// The first of them.
    pub first: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Tally(BTreeMap<Why, Omitted>);

impl Tally {
    pub(super) fn add(&mut self, why: Why, path: &[u8]) {
        let omitted = self.0.entry(why).or_insert_with(|| Omitted { why, paths: 0, first: path.to_vec() });
        omitted.paths += 1;
    }

    pub(super) fn into_all(self) -> Vec<Omitted> {
        self.0.into_values().collect()
    }
}
