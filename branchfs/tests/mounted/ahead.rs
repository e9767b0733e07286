//! Directories are listed before a program asks for their names, and nobody waits for that.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use branchfs::watch::How;

use crate::fixture::{Fixture, mounted, mounted_prefetching};

const PATIENCE: Duration = Duration::from_secs(30);

/// Directories `00`, `01`, … with files `0`, `1`, … each.
fn tree(directories: usize, files: usize) -> Option<Fixture> {
    mounted()?;
    let base = tempfile::tempdir().unwrap();
    for dir in 0..directories {
        let dir = base.path().join(format!("{dir:02}"));
        fs::create_dir(&dir).unwrap();
        (0..files).for_each(|n| fs::write(dir.join(n.to_string()), "").unwrap());
    }
    let fx = mounted_prefetching(base);
    if fx.vfs.told().how() == How::Not {
        eprintln!("SKIPPED: the base cannot be watched, so no names are fetched ahead");
        return None;
    }
    Some(fx)
}

fn known(fx: &Fixture) -> usize {
    fx.vfs.known_inodes(fx.store.branch("one").unwrap().id()).len()
}

fn look_at_two(dir: &Path) {
    ["0", "1"].into_iter().for_each(|name| assert!(fs::symlink_metadata(dir.join(name)).unwrap().is_file()));
}

fn wait_until_known(fx: &Fixture, least: usize) {
    let begin = Instant::now();
    while known(fx) < least {
        assert!(begin.elapsed() < PATIENCE, "{} of {least} inodes are known", known(fx));
        std::thread::yield_now();
    }
}

#[test]
fn who_has_found_two_names_is_told_of_all_in_the_directory() {
    let Some(fx) = tree(2, 300) else { return };
    assert!(fs::symlink_metadata(fx.one("00/0")).unwrap().is_file());
    assert!(known(&fx) < 10, "one name is nothing");
    look_at_two(&fx.one("00"));
    wait_until_known(&fx, 300);
    assert!(known(&fx) < 310, "and not in the one beside it");
    fs::write(fx.base.path().join("00/7"), "changed").unwrap();
    let begin = Instant::now();
    while fs::read_to_string(fx.one("00/7")).unwrap() != "changed" {
        assert!(begin.elapsed() < PATIENCE, "what the kernel was told ahead is watched like everything else");
    }
}

/// git, tar and everything that sorts.
#[test]
fn who_goes_through_directories_in_order_finds_the_next_ones_known() {
    let Some(fx) = tree(40, 10) else { return };
    look_at_two(&fx.one("00"));
    look_at_two(&fx.one("01"));
    // All directories, and the files of the two and of the eight that follow.
    wait_until_known(&fx, 40 + 10 * 10);
    assert!(known(&fx) < 40 + 11 * 10, "no more than these");
}

/// A listing under way is a descriptor in the mount, which would be in use.
#[test]
fn a_mount_is_taken_down_while_directories_are_listed() {
    for _ in 0..5 {
        let Some(fx) = tree(30, 100) else { return };
        (0..30).for_each(|dir| look_at_two(&fx.one(&format!("{dir:02}"))));
        fx.mounted().unmount().unwrap();
        fx.mounted().join().unwrap();
    }
}
