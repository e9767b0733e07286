//! Branches side by side in one mount.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};

use branchfs::fuse::Data;

use crate::fixture::{data, errno, list, mounted};

#[test]
fn the_mount_root_lists_main_and_the_live_branches() {
    let Some(fx) = mounted() else { return };
    fx.fork("two");
    assert_eq!(list(&fx.at("")), ["main", "one", "two"]);
    assert_eq!(list(&fx.one("")), ["a", "dir", "to-a"], "neither store nor control file");
    fx.abort("two");
    assert_eq!(list(&fx.at("")), ["main", "one"]);
    assert_eq!(errno(fs::metadata(fx.at("two"))), libc::ENOENT);
    fx.fork("two");
    assert_eq!(list(&fx.at("two")), ["a", "dir", "to-a"], "a name can come back");
}

#[test]
fn an_at_sign_leads_to_a_branch_and_is_not_listed() {
    let Some(fx) = mounted() else { return };
    fs::write(fx.at("@one/new"), "same").unwrap();
    assert_eq!(fs::read_to_string(fx.one("new")).unwrap(), "same");
    assert!(fx.at("@main").is_dir());
    assert_eq!(errno(fs::metadata(fx.at("@nobody"))), libc::ENOENT);
    assert_eq!(errno(fs::metadata(fx.at("@"))), libc::ENOENT);
    assert_eq!(list(&fx.at("")), ["main", "one"]);
}

#[test]
fn main_is_read_only() {
    let Some(fx) = mounted() else { return };
    assert_eq!(fs::read_to_string(fx.at("main/a")).unwrap(), "base\n");
    let writer = OpenOptions::new().write(true).open(fx.at("main/a"));
    match data() {
        Data::Opened | Data::Passthrough => assert_eq!(errno(writer), libc::EROFS),
        Data::Cached => {
            assert_eq!(errno(writer.unwrap().write(b"x")), libc::EROFS);
            assert_eq!(fs::read_to_string(fx.at("main/a")).unwrap(), "base\n");
        }
    }
    assert_eq!(errno(File::create(fx.at("main/a"))), libc::EROFS);
    assert_eq!(errno(File::create(fx.at("main/new"))), libc::EROFS);
    assert_eq!(errno(fs::create_dir(fx.at("main/new"))), libc::EROFS);
    assert_eq!(errno(fs::remove_file(fx.at("main/a"))), libc::EROFS);
    assert_eq!(errno(fs::rename(fx.at("main/a"), fx.at("main/z"))), libc::EROFS);
}

#[test]
fn siblings_do_not_see_each_other() {
    let Some(fx) = mounted() else { return };
    fx.fork("two");
    fs::write(fx.one("a"), "mine").unwrap();
    fs::remove_file(fx.one("dir/b")).unwrap();
    assert_eq!(fs::read_to_string(fx.at("two/a")).unwrap(), "base\n");
    assert_eq!(fs::read_to_string(fx.at("two/dir/b")).unwrap(), "b");
    fx.fork_of("one", "three");
    assert_eq!(fs::read_to_string(fx.at("three/a")).unwrap(), "mine");
    assert!(!fx.at("three/dir/b").exists());
}

#[test]
fn inode_numbers_differ_between_branches_but_for_the_half_git_compares() {
    let Some(fx) = mounted() else { return };
    fx.fork("two");
    let ino = |path: &str| fs::metadata(fx.at(path)).unwrap().ino();
    assert_ne!(ino("one/a"), ino("two/a"));
    assert_eq!(ino("one/a") as u32, ino("two/a") as u32);
    let before = ino("one/a");
    fs::write(fx.one("a"), "copied up").unwrap();
    assert_eq!(ino("one/a"), before);
    let listed = fs::read_dir(fx.one("")).unwrap().map(Result::unwrap);
    for entry in listed {
        use std::os::unix::fs::DirEntryExt;
        assert_eq!(entry.ino(), fs::symlink_metadata(entry.path()).unwrap().ino());
    }
}

#[test]
fn nothing_is_renamed_or_linked_between_branches() {
    let Some(fx) = mounted() else { return };
    fx.fork("two");
    assert_eq!(errno(fs::rename(fx.one("a"), fx.at("two/a"))), libc::EXDEV);
    assert_eq!(errno(fs::hard_link(fx.one("a"), fx.at("two/link"))), libc::EXDEV);
}

#[test]
fn the_mount_root_cannot_be_changed() {
    let Some(fx) = mounted() else { return };
    if !rustix::process::geteuid().is_root() {
        return;
    }
    assert_eq!(errno(File::create(fx.at("file"))), libc::EPERM);
    assert_eq!(errno(fs::create_dir(fx.at("two"))), libc::EPERM);
    assert_eq!(errno(fs::remove_dir(fx.at("one"))), libc::EPERM);
    assert_eq!(errno(fs::rename(fx.at("one"), fx.at("two"))), libc::EPERM);
    assert_eq!(errno(fs::rename(fx.one("a"), fx.at("a"))), libc::EPERM);
    assert_eq!(errno(fs::remove_file(fx.at("@one"))), libc::EPERM);
}

#[test]
fn an_ended_branch_answers_estale_through_everything_open() {
    let Some(fx) = mounted() else { return };
    fs::write(fx.one("own"), "own").unwrap();
    let mut file = OpenOptions::new().read(true).write(true).open(fx.one("own")).unwrap();
    let mut listing = fs::read_dir(fx.one("dir")).unwrap();
    let cached = File::open(fx.one("a")).unwrap();
    let mut byte = [0];
    cached.read_exact_at(&mut byte, 0).unwrap();
    fx.abort("one");
    assert_eq!(errno(file.read(&mut byte)), libc::ESTALE);
    assert_eq!(errno(file.write(b"x")), libc::ESTALE);
    assert_eq!(errno(cached.read_at(&mut byte, 0)), libc::ESTALE, "the cache was dropped");
    assert_eq!(errno(file.metadata()), libc::ESTALE);
    assert_eq!(errno(listing.next().unwrap()), libc::ESTALE);
}

#[test]
fn a_commit_shows_in_the_parent_at_once() {
    let Some(fx) = mounted() else { return };
    fx.fork_of("one", "two");
    let names = ["a", "dir/b", "new"];
    let seen: Vec<bool> = names.iter().map(|name| fx.one(name).exists()).collect();
    assert_eq!(seen, [true, true, false]);
    let kept = File::open(fx.one("a")).unwrap();
    fs::write(fx.at("two/a"), "from two, and longer").unwrap();
    fs::remove_file(fx.at("two/dir/b")).unwrap();
    fs::write(fx.at("two/new"), "new").unwrap();
    fx.commit("two");
    assert_eq!(fs::read_to_string(fx.one("a")).unwrap(), "from two, and longer");
    assert_eq!(kept.metadata().unwrap().len(), 20, "also through an open descriptor");
    assert!(!fx.one("dir/b").exists());
    assert_eq!(fs::read_to_string(fx.one("new")).unwrap(), "new");
    fx.commit("one");
    assert_eq!(fs::read_to_string(fx.at("main/a")).unwrap(), "from two, and longer");
    assert_eq!(fs::read_to_string(fx.base.path().join("a")).unwrap(), "from two, and longer");
}
