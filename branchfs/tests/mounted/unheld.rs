//! Files that the kernel opens by itself: what the daemon is not told must be no loss.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use branchfs::fuse::Data;

use crate::files::Map;
use crate::fixture::{Fixture, errno, mounted_serving};

fn cached() -> Option<Fixture> {
    mounted_serving(Data::Cached)
}

fn writable(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

#[test]
fn opening_and_closing_asks_us_nothing() {
    let Some(fx) = cached() else { return };
    let one = fx.store.branch("one").unwrap().id();
    fs::read(fx.one("a")).unwrap();
    fx.vfs.let_go(one);
    for _ in 0..10 {
        drop(writable(&fx.one("a")));
        assert_eq!(fs::read_to_string(fx.one("a")).unwrap(), "base\n");
    }
    assert_eq!(fx.vfs.opened(one), 0, "its bytes are the kernel's, and nobody has asked for more");
    fs::write(fx.one("a"), "mine\n").unwrap();
    assert_eq!(fx.vfs.opened(one), 1);
    fx.fork_of("one", "two");
    assert_eq!(fx.vfs.opened(one), 0, "a fork lets go what is kept open");
}

#[test]
fn a_file_is_open_here_while_it_is_used_and_closed_when_it_is_not() {
    let Some(fx) = cached() else { return };
    let one = fx.store.branch("one").unwrap().id();
    let file = File::create(fx.one("new")).unwrap();
    assert_eq!(fx.vfs.opened(one), 1);
    fx.mounted().let_idle_go();
    file.write_all_at(b"x", 0).unwrap();
    fx.mounted().let_idle_go();
    assert_eq!(fx.vfs.opened(one), 1, "used since the last look");
    fx.mounted().let_idle_go();
    assert_eq!(fx.vfs.opened(one), 0);
    file.write_all_at(b"y", 1).unwrap();
    assert_eq!(fs::read_to_string(fx.one("new")).unwrap(), "xy");
}

#[test]
fn maps_made_before_forks_and_through_closed_descriptors_are_in_the_next_fork() {
    let Some(fx) = cached() else { return };
    let file = writable(&fx.one("a"));
    let mut map = Map::of(&file, 5);
    drop(file);
    for (name, word) in [("two", b"1st!"), ("three", b"2nd!"), ("four", b"3rd!")] {
        map.bytes()[..4].copy_from_slice(word);
        fx.fork_of("one", name);
        assert_eq!(fs::read(fx.at(name).join("a")).unwrap()[..4], word[..], "{name}");
    }
    assert_eq!(fs::read(fx.at("two/a")).unwrap(), b"1st!\n");
    map.bytes()[..4].copy_from_slice(b"last");
    ["two", "three", "four"].into_iter().for_each(|name| fx.abort(name));
    fx.commit("one");
    assert_eq!(fs::read_to_string(fx.base.path().join("a")).unwrap(), "last\n");
}

#[test]
fn what_was_stored_to_a_map_is_there_after_an_unmount() {
    for data in Data::ALL {
        let Some(fx) = mounted_serving(data) else { return };
        let mut map = Map::of(&writable(&fx.one("a")), 5);
        map.bytes()[..4].copy_from_slice(b"kept");
        fx.mounted().unmount().unwrap();
        fx.mounted().join().unwrap();
        let one = fx.store.branch("one").unwrap();
        let (object, _) = one.lookup(&one.root(), b"a").unwrap();
        let mut bytes = [0; 8];
        let read = one.open(&object, branch_store::Access::Read).unwrap().read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes[..read], b"kept\n", "{data:?}");
    }
}

/// Whoever maps a file of main hears no error before the bytes are written out, and others read them meanwhile.
#[test]
fn what_is_stored_to_a_map_of_a_file_that_takes_no_writes_is_refused_and_taken_back() {
    let Some(fx) = cached() else { return };
    let file = writable(&fx.at("main/a"));
    let mut map = Map::of(&file, 5);
    map.bytes()[..4].copy_from_slice(b"evil");
    assert_eq!(errno(file.sync_all()), libc::EROFS);
    fx.mounted().settle().unwrap();
    assert_eq!(fs::read_to_string(fx.at("main/a")).unwrap(), "base\n");
    assert_eq!(map.bytes(), b"base\n");
    assert_eq!(fs::read_to_string(fx.base.path().join("a")).unwrap(), "base\n");
}

#[test]
fn a_frozen_parent_refuses_each_write() {
    let Some(fx) = cached() else { return };
    let mut file = writable(&fx.one("a"));
    file.write_all(b"BASE").unwrap();
    let one = fx.store.branch("one").unwrap();
    fx.store.fork(&one, &["two".to_owned()], branch_store::GroupKind::Frozen).unwrap();
    assert_eq!(errno(file.write(b"x")), libc::EROFS);
    assert_eq!(errno(writable(&fx.one("dir/b")).write(b"x")), libc::EROFS);
    assert_eq!(errno(File::create(fx.one("a"))), libc::EROFS);
    fx.abort("two");
    file.write_all(b"!").unwrap();
    assert_eq!(fs::read_to_string(fx.one("a")).unwrap(), "BASE!");
}

/// A handle would have kept it.
#[test]
fn a_file_replaced_outside_is_read_on_while_it_is_used_and_then_stale() {
    let Some(fx) = cached() else { return };
    let one = fx.store.branch("one").unwrap().id();
    let big = vec![b'x'; 4 << 20];
    fs::write(fx.base.path().join("big"), &big).unwrap();
    let file = File::open(fx.one("big")).unwrap();
    let mut page = [0; 4096];
    file.read_exact_at(&mut page, 0).unwrap();
    fs::write(fx.base.path().join("other"), "y").unwrap();
    fs::rename(fx.base.path().join("other"), fx.base.path().join("big")).unwrap();
    file.read_exact_at(&mut page, 2 << 20).unwrap();
    assert_eq!(page, [b'x'; 4096]);
    fx.vfs.let_go(one);
    assert_eq!(errno(file.read_at(&mut page, (4 << 20) - 4096)), libc::ESTALE);
}

/// The kernel asks for attributes before it reads, and the object that was opened has no place in main any more.
#[test]
fn who_has_a_file_of_main_open_that_a_commit_replaces_reads_its_old_bytes_or_estale() {
    for data in Data::ALL {
        let Some(fx) = mounted_serving(data) else { return };
        let (old, new) = (vec![b'o'; 8 << 20], vec![b'n'; 9 << 20]);
        fs::write(fx.base.path().join("big"), &old).unwrap();
        let file = File::open(fx.at("main/big")).unwrap();
        let mut half = vec![0; 4 << 20];
        file.read_exact_at(&mut half, 0).unwrap();
        assert!(half == old[..4 << 20]);
        fs::write(fx.one("big"), &new).unwrap();
        fx.commit("one");
        match file.read_exact_at(&mut half, 4 << 20) {
            Ok(()) => assert!(
                half == old[4 << 20..],
                "{data:?}: the second half is that of the file that was opened"
            ),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{data:?}"),
        }
        assert!(fs::read(fx.at("main/big")).unwrap() == new, "who opens it now reads what was committed");
    }
}

#[test]
fn descriptors_into_a_branch_that_ended_answer_estale() {
    let Some(fx) = cached() else { return };
    fs::write(fx.one("new"), "mine").unwrap();
    let (read, write) = (File::open(fx.one("new")).unwrap(), writable(&fx.one("new")));
    let base = writable(&fx.one("a"));
    assert_eq!(fs::read(fx.one("a")).unwrap(), b"base\n");
    fx.abort("one");
    let mut bytes = [0; 4];
    for file in [&read, &write, &base] {
        assert_eq!(errno(file.read_at(&mut bytes, 0)), libc::ESTALE);
    }
    for file in [&write, &base] {
        assert_eq!(errno(file.write_at(b"x", 0)), libc::ESTALE);
        assert_eq!(errno(file.set_len(1)), libc::ESTALE);
        assert_eq!(errno(file.sync_all()), libc::ESTALE);
    }
    assert_eq!(fs::read(fx.base.path().join("a")).unwrap(), b"base\n");
}

/// What is unlinked has no name to be opened by again.
#[test]
fn an_unlinked_file_lives_as_long_as_somebody_has_it_open() {
    let Some(fx) = cached() else { return };
    let one = fx.store.branch("one").unwrap().id();
    fs::write(fx.one("mine"), "mine\n").unwrap();
    let files = [(writable(&fx.one("mine")), "mine\n"), (writable(&fx.one("a")), "base\n")];
    fs::remove_file(fx.one("mine")).unwrap();
    fs::rename(fx.one("dir/b"), fx.one("a")).unwrap();
    for (file, text) in &files {
        fx.vfs.let_go(one);
        let mut bytes = [0; 5];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, text.as_bytes());
        fx.vfs.let_go(one);
        file.write_all_at(b"more", 5).unwrap();
        fx.fork_of("one", &format!("of-{}", text.trim()));
        file.write_all_at(b"!", 9).unwrap();
        fx.vfs.let_go(one);
        let mut bytes = [0; 10];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, format!("{text}more!").as_bytes());
    }
    assert_eq!(fs::read(fx.one("a")).unwrap(), b"b");
}

/// What cannot be written is an error of whoever stored it, not of those who fork or commit.
#[test]
fn a_refused_store_to_a_map_stands_in_nobodys_way() {
    let Some(fx) = cached() else { return };
    let one = fx.store.branch("one").unwrap();
    fx.store.fork(&one, &["two".to_owned()], branch_store::GroupKind::Frozen).unwrap();
    let file = writable(&fx.one("a"));
    let mut map = Map::of(&file, 5);
    map.bytes()[..4].copy_from_slice(b"evil");
    fx.mounted().flush_branch(one.id()).unwrap();
    assert_eq!(fs::read_to_string(fx.one("a")).unwrap(), "base\n");
    assert_eq!(errno(file.sync_all()), libc::EROFS, "whoever stored it hears of it");
    fx.abort("two");
    map.bytes()[..4].copy_from_slice(b"good");
    fx.commit("one");
    assert_eq!(fs::read_to_string(fx.base.path().join("a")).unwrap(), "good\n");
}
