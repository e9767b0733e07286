//! Checkpoint bytes, raw or with right checksums, in an otherwise sound store: damage is named, and what is read
//! is what a next checkpoint says.
#![no_main]

use branchfs_fuzz::archive::{self, Entry, Tag};
use branchfs_fuzz::workspace::Workspace;
use branchfs_fuzz::{exercise, mutate};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

/// The workspace that the seed is the checkpoint of: its records speak of the objects there.
const SEED: &[u8] = include_bytes!("../seeds/recover/checkpointed");

fuzz_target!(|bytes: &[u8]| {
    let workspace = Workspace::unpack(&around(bytes));
    exercise::open_and_use(&workspace.options());
    workspace.check_moat();
});

/// The seed's workspace with this checkpoint in the place of its own.
fn around(checkpoint: &[u8]) -> Vec<Entry> {
    let mut entries = archive::decode(SEED);
    for entry in entries.iter_mut().filter(|entry| entry.path.starts_with(b".branchfs/checkpoint")) {
        // Whoever breaks a checksum is refused at once: most inputs are given right ones.
        entry.tag = if checkpoint.len() % 8 == 0 { Tag::File } else { Tag::Log };
        entry.body = checkpoint.to_vec();
    }
    entries
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::log(data, size, max_size, seed)
});
