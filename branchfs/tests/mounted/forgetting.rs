//! What the kernel forgets, we forget: memory and descriptors are as many as what is in use.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use branchfs::watch::{How, Wish};

use crate::fixture::{mounted, mounted_watching};

const DIRS: usize = 200;
const FILES: usize = 20_000;
/// Below this many the table is back to what is in use.
const FEW: usize = 100;
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads every attribute below, so that the kernel knows every inode.
fn find(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if fs::symlink_metadata(&path).unwrap().is_dir() { 1 + find(&path) } else { 1 }).sum()
}

/// Descriptors of this process, the server, that lead below a directory.
fn descriptors_below(dir: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter(|fd| fs::read_link(fd.path()).is_ok_and(|target| target.starts_with(dir))).count()
}

#[test]
fn after_a_walk_memory_and_descriptors_are_given_back() {
    if mounted().is_none() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can have the kernel drop its caches");
        return;
    }
    let base = tempfile::tempdir().unwrap();
    for n in 0..DIRS {
        let dir = base.path().join(format!("dir {n}"));
        fs::create_dir(&dir).unwrap();
        (0..FILES / DIRS).for_each(|n| drop(File::create(dir.join(n.to_string())).unwrap()));
    }
    let fx = mounted_watching(base, Wish::Best);
    let branch = fx.store.branch("one").unwrap().id();
    let begin = Instant::now();
    loop {
        assert_eq!(find(&fx.one("")), FILES + DIRS);
        if fx.vfs.known_inodes(branch).len() > FILES {
            break;
        }
        // Anybody on this machine can have the kernel drop its caches in the middle.
        assert!(begin.elapsed() < PATIENCE, "the walk has not reached us");
    }
    assert!(fx.vfs.told().watched() > DIRS || fx.vfs.told().how() == How::Not);
    let before = Instant::now();
    while fx.vfs.known_inodes(branch).len() > FEW {
        // Not once: what is being looked at while the kernel drops its caches stays.
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        assert!(before.elapsed() < PATIENCE, "{} inodes are left", fx.vfs.known_inodes(branch).len());
    }
    assert_eq!(fx.vfs.opened(branch), 0);
    let watched = fx.vfs.told().watched();
    assert!(watched < FEW, "{watched} directories are watched of which the kernel knows nothing");
    let files = descriptors_below(&fx.base.path().join("dir 0"));
    assert!(files <= 1, "{files} descriptors of one directory and what is in it");
    assert_eq!(find(&fx.one("")), FILES + DIRS, "what was forgotten is found again");
}
