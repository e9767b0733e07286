//! What one way to a directory changes is seen by every other way at once, absence included.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, open, openat, statat};

use branchfs_tests::Workspace;

use crate::both::same;

fn content(at: &Path) {
    fs::create_dir_all(at.join("dir/sub")).unwrap();
    symlink("dir", at.join("alias")).unwrap();
    fs::write(at.join("dir/file"), "x").unwrap();
}

#[test]
fn what_was_absent_is_there_as_soon_as_it_is_made() {
    same(content, |play| {
        let dir = open(play.at("dir"), OFlags::PATH, Mode::empty()).unwrap();
        let there = |name: &str| {
            let by_path = play.at("dir").join(name).exists();
            let by_alias = play.at("alias").join(name).exists();
            let by_descriptor = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
            let listed =
                fs::read_dir(play.at("dir")).unwrap().any(|entry| entry.unwrap().file_name() == name);
            play.note(name, (by_path, by_alias, by_descriptor, listed));
        };
        for name in ["made", "renamed", "linked", "dir made"] {
            there(name);
        }
        openat(&dir, "made", OFlags::CREATE | OFlags::WRONLY, Mode::from(0o600)).unwrap();
        there("made");
        fs::rename(play.at("alias/made"), play.at("dir/renamed")).unwrap();
        there("made");
        there("renamed");
        fs::hard_link(play.at("dir/renamed"), play.at("alias/linked")).unwrap();
        fs::create_dir(play.at("alias/dir made")).unwrap();
        there("linked");
        there("dir made");
        fs::remove_file(play.at("dir/linked")).unwrap();
        fs::rename(play.at("dir"), play.at("dir2")).unwrap();
        fs::rename(play.at("dir2"), play.at("dir")).unwrap();
        there("linked");
        there("renamed");
        there("dir made");
    });
}

#[test]
fn attributes_are_new_by_every_name_at_once() {
    same(content, |play| {
        fs::hard_link(play.at("dir/file"), play.at("dir/sub/other")).unwrap();
        let held = File::open(play.at("alias/file")).unwrap();
        let seen = |what: &str| {
            let of = |m: fs::Metadata| (m.size(), m.mode(), m.nlink());
            let all = ["dir/file", "alias/file", "dir/sub/other"]
                .map(|name| fs::metadata(play.at(name)).map(of).ok());
            play.note(what, (all, of(held.metadata().unwrap())));
        };
        seen("first");
        fs::write(play.at("dir/sub/other"), "longer").unwrap();
        seen("written");
        rustix::fs::fchmod(&held, Mode::from(0o640)).unwrap();
        seen("chmod");
        fs::remove_file(play.at("alias/file")).unwrap();
        seen("unlinked");
        rustix::fs::fchmod(&held, Mode::from(0o600)).unwrap();
        seen("chmod of what has one name left");
    });
}

/// `@b` is another way to branch `b`.
#[test]
fn both_ways_to_a_branch_show_the_same_at_once() {
    let Some(workspace) = Workspace::over(content) else { return };
    let view = workspace.branch("b");
    let other = workspace.mountpoint().join("@b");
    assert!(!other.join("dir/new").exists() && !view.join("dir/new").exists());
    fs::write(view.join("dir/new"), "1").unwrap();
    assert_eq!(fs::read(other.join("dir/new")).unwrap(), b"1");
    fs::remove_file(other.join("dir/new")).unwrap();
    assert!(!view.join("dir/new").exists());
}
