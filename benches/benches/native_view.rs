//! What a native view costs beside the work that is done in it: making it, for a branch with so many changed files, and
//! taking in so many new files. A FUSE view has neither.
//!
//!     cargo bench -p branchfs-benches --bench native_view

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops where it fails")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use branch_store::{
    Access, Branch, GroupKind, New, NewKind, Options, OverlayXattrs, Processes, Store, Unrecovered, init,
};

const FILES: [usize; 3] = [0, 100, 10_000];
const FILE_BYTES: usize = 4096;
const FILES_PER_DIR: usize = 100;
const ROUNDS: usize = 3;

fn main() {
    println!(
        "| files of {FILE_BYTES} bytes | make, the branch has them | take in, nothing done | take in, they are new |"
    );
    println!("|---|---|---|---|");
    for files in FILES {
        let mut all: [Vec<Duration>; 3] = Default::default();
        for _ in 0..ROUNDS {
            let round = round(files);
            all.iter_mut().zip(round).for_each(|(times, time)| times.push(time));
        }
        let cells = all.map(|mut times| {
            times.sort();
            format!("{:.1?} ({:.1?} to {:.1?})", times[ROUNDS / 2], times[0], times[ROUNDS - 1])
        });
        println!("| {files} | {} |", cells.join(" | "));
    }
}

fn round(files: usize) -> [Duration; 3] {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    fs::create_dir(&base).unwrap();
    fs::write(base.join("README"), "of the base").unwrap();
    let store = base.join(".branchfs");
    init(&base, &store).unwrap();
    let (store, _) = Unrecovered::open(Options { base, store }).unwrap().recover().unwrap();
    let fork = |parent: &Branch, name: &str| fork(&store, parent, name);
    let above = fork(&store.main(), "above");
    (0..files).for_each(|number| put(&above, number));
    // What others have written is not to be made durable on our account.
    rustix::fs::syncfs(fs::File::open(dir.path()).unwrap()).unwrap();
    let nested = fork(&above, "nested");
    let begun = Instant::now();
    store.attach(&nested, OverlayXattrs::User).unwrap();
    let made = begun.elapsed();
    let begun = Instant::now();
    store.take_in(&nested, Processes::Ended).unwrap();
    let untouched = begun.elapsed();
    let fresh = fork(&store.main(), "fresh");
    let paths = store.attach(&fresh, OverlayXattrs::User).unwrap();
    (0..files).for_each(|number| leave(&paths.upper, number));
    rustix::fs::syncfs(fs::File::open(dir.path()).unwrap()).unwrap();
    let begun = Instant::now();
    store.take_in(&fresh, Processes::Ended).unwrap();
    [made, untouched, begun.elapsed()]
}

fn fork(store: &Store, parent: &Branch, name: &str) -> Arc<Branch> {
    store.fork(parent, &[name.to_owned()], GroupKind::Independent).unwrap().remove(0)
}

fn place(number: usize) -> (String, String) {
    (format!("d{}", number / FILES_PER_DIR), format!("f{number}"))
}

fn put(branch: &Arc<Branch>, number: usize) {
    let (dir, name) = place(number);
    let new = |kind, mode| New { kind, mode, uid: 0, gid: 0, xattrs: Default::default() };
    if number.is_multiple_of(FILES_PER_DIR) {
        branch.create(&branch.root(), dir.as_bytes(), new(NewKind::Dir, 0o755)).unwrap();
    }
    let (dir, _) = branch.lookup(&branch.root(), dir.as_bytes()).unwrap();
    let (file, _) = branch.create(&dir, name.as_bytes(), new(NewKind::File, 0o644)).unwrap();
    branch.open(&file, Access::Write).unwrap().write_at(&[7; FILE_BYTES], 0).unwrap();
}

/// As overlayfs in a user namespace does.
fn leave(upper: &Path, number: usize) {
    let (dir, name) = place(number);
    fs::create_dir_all(upper.join(&dir)).unwrap();
    fs::write(upper.join(dir).join(name), [7; FILE_BYTES]).unwrap();
}
