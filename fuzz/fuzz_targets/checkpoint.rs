//! Checkpoint bytes, raw or with right checksums, in an otherwise sound store: damage is named, and what is read
//! is what a next checkpoint says.
#![no_main]

use branchfs_fuzz::archive::{Entry, Tag};
use branchfs_fuzz::frames::Log;
use branchfs_fuzz::workspace::{Workspace, format_file};
use branchfs_fuzz::{exercise, mutate};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|bytes: &[u8]| {
    let workspace = Workspace::unpack(&around(bytes));
    exercise::open_and_use(&workspace.options());
    workspace.check_moat();
});

/// A base with a little in it, and a store whose whole state is the checkpoint.
fn around(checkpoint: &[u8]) -> Vec<Entry> {
    let entry = |tag, path: &str, body: &[u8]| Entry { tag, path: path.into(), body: body.into() };
    // Whoever breaks a checksum is refused at once: most inputs are given right ones.
    let tag = if checkpoint.len() % 8 == 0 { Tag::File } else { Tag::Log };
    vec![
        entry(Tag::Dir, "dir", b""),
        entry(Tag::File, "dir/a", b"a"),
        entry(Tag::Dir, "dir/sub", b""),
        entry(Tag::File, "f", b"bytes"),
        entry(Tag::Dir, ".branchfs", b""),
        entry(Tag::Dir, ".branchfs/content", b""),
        entry(Tag::Dir, ".branchfs/content/1", b""),
        entry(Tag::Dir, ".branchfs/preimage", b""),
        entry(Tag::Dir, ".branchfs/preimage/1", b""),
        entry(Tag::Dir, ".branchfs/trash", b""),
        entry(Tag::File, ".branchfs/format", &format_file()),
        entry(Tag::Log, ".branchfs/journal.2", &Log { first: 9, frames: Vec::new() }.encode()),
        entry(tag, ".branchfs/checkpoint.2", checkpoint),
    ]
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::log(data, size, max_size, seed)
});
