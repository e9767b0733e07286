//! Names: making, removing, renaming and listing them.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use rustix::fs::{CWD, FileType, Mode, RenameFlags};

use crate::fixture::{errno, list, mounted, raw};

#[test]
fn rename_replaces_refuses_and_exchanges() {
    let Some(fx) = mounted() else { return };
    fs::write(fx.one("x"), "x").unwrap();
    fs::rename(fx.one("x"), fx.one("a")).unwrap();
    assert_eq!(fs::read_to_string(fx.one("a")).unwrap(), "x");
    let rename =
        |from: &str, to: &str, flags| rustix::fs::renameat_with(CWD, fx.one(from), CWD, fx.one(to), flags);
    assert_eq!(raw(rename("a", "dir/b", RenameFlags::NOREPLACE)), libc::EEXIST);
    rename("a", "dir/b", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read_to_string(fx.one("dir/b")).unwrap(), "x");
    assert_eq!(fs::read_to_string(fx.one("a")).unwrap(), "b");
    assert_eq!(list(&fx.one("")), ["a", "dir", "to-a"]);
}

#[test]
fn a_directory_of_the_base_moves_with_everything_in_it() {
    let Some(fx) = mounted() else { return };
    let before = fs::metadata(fx.one("dir/b")).unwrap().ino();
    fs::write(fx.one("dir/own"), "own").unwrap();
    fs::rename(fx.one("dir"), fx.one("moved")).unwrap();
    assert_eq!(list(&fx.one("moved")), ["b", "own", "sub"]);
    assert_eq!(fs::metadata(fx.one("moved/b")).unwrap().ino(), before);
    assert_eq!(fs::read_to_string(fx.one("moved/b")).unwrap(), "b");
    assert_eq!(list(fx.base.path()), [".branchfs", "a", "dir", "to-a"]);
}

#[test]
fn only_empty_directories_are_removed() {
    let Some(fx) = mounted() else { return };
    assert_eq!(errno(fs::remove_dir(fx.one("dir"))), libc::ENOTEMPTY);
    fs::remove_dir(fx.one("dir/sub")).unwrap();
    assert_eq!(errno(fs::remove_dir(fx.one("dir/b"))), libc::ENOTDIR);
    fs::remove_file(fx.one("dir/b")).unwrap();
    fs::remove_dir(fx.one("dir")).unwrap();
    fs::create_dir(fx.one("dir")).unwrap();
    assert!(list(&fx.one("dir")).is_empty(), "the base does not show through a new directory");
}

#[test]
fn hard_links_are_one_file() {
    let Some(fx) = mounted() else { return };
    fs::hard_link(fx.one("a"), fx.one("dir/also-a")).unwrap();
    fs::write(fx.one("dir/also-a"), "both").unwrap();
    let (first, second) = (fs::metadata(fx.one("a")).unwrap(), fs::metadata(fx.one("dir/also-a")).unwrap());
    assert_eq!((first.ino(), first.nlink()), (second.ino(), 2));
    assert_eq!(fs::read_to_string(fx.one("a")).unwrap(), "both");
    fs::remove_file(fx.one("a")).unwrap();
    assert_eq!(fs::metadata(fx.one("dir/also-a")).unwrap().nlink(), 1);
}

#[test]
fn symbolic_links_say_where_they_point() {
    let Some(fx) = mounted() else { return };
    assert_eq!(fs::read_link(fx.one("to-a")).unwrap().to_str(), Some("a"));
    assert_eq!(fs::read_to_string(fx.one("to-a")).unwrap(), "base\n");
    symlink("../nowhere", fx.one("dangling")).unwrap();
    assert_eq!(errno(fs::metadata(fx.one("dangling"))), libc::ENOENT);
    let long = "x".repeat(4000);
    symlink(&long, fx.one("long")).unwrap();
    assert_eq!(fs::read_link(fx.one("long")).unwrap().to_str(), Some(&*long));
}

#[test]
fn special_files_are_made() {
    let Some(fx) = mounted() else { return };
    let make = |name: &str, kind, dev| rustix::fs::mknodat(CWD, fx.one(name), kind, Mode::RUSR, dev);
    make("fifo", FileType::Fifo, 0).unwrap();
    assert!(fs::metadata(fx.one("fifo")).unwrap().file_type().is_fifo());
    make("plain", FileType::RegularFile, 0).unwrap();
    assert!(fs::metadata(fx.one("plain")).unwrap().is_file());
    if rustix::process::geteuid().is_root() {
        make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)).unwrap();
        let null = fs::metadata(fx.one("null")).unwrap();
        assert!(null.file_type().is_char_device());
        assert_eq!(null.rdev(), rustix::fs::makedev(1, 3));
        fs::write(fx.one("null"), "swallowed").unwrap();
        make("zero", FileType::CharacterDevice, 0).unwrap();
        assert!(
            fs::metadata(fx.one("zero")).unwrap().file_type().is_char_device(),
            "0:0 is no whiteout here"
        );
    }
}

#[test]
fn names_are_any_bytes() {
    let Some(fx) = mounted() else { return };
    let odd: [&[u8]; 5] = [b"@types", b"\xff\xfe", b"a\nb", b".wh.a", &[b'n'; 255]];
    for name in odd {
        let path = fx.one("dir").join(OsStr::from_bytes(name));
        fs::write(&path, name).unwrap();
        assert_eq!(fs::read(&path).unwrap(), name);
    }
    fs::create_dir(fx.one("@scope")).unwrap();
    assert!(fx.one("@scope").is_dir(), "inside a branch @ is a letter like any other");
    let seen: Vec<_> = fs::read_dir(fx.one("dir")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(odd.iter().all(|name| seen.contains(&OsStr::from_bytes(name).to_owned())));
    assert_eq!(errno(File::create(fx.one(&"n".repeat(256)))), libc::ENAMETOOLONG);
}

#[test]
fn a_setgid_directory_hands_down_its_group() {
    let Some(fx) = mounted() else { return };
    if !rustix::process::geteuid().is_root() {
        return;
    }
    std::os::unix::fs::chown(fx.one("dir"), None, Some(4242)).unwrap();
    fs::set_permissions(fx.one("dir"), Permissions::from_mode(0o2775)).unwrap();
    fs::create_dir(fx.one("dir/below")).unwrap();
    fs::write(fx.one("dir/below/file"), "").unwrap();
    let dir = fs::metadata(fx.one("dir/below")).unwrap();
    assert_eq!((dir.gid(), dir.mode() & 0o2000), (4242, 0o2000));
    assert_eq!(fs::metadata(fx.one("dir/below/file")).unwrap().gid(), 4242);
}

#[test]
fn attributes_are_changed() {
    let Some(fx) = mounted() else { return };
    fs::set_permissions(fx.one("a"), Permissions::from_mode(0o640)).unwrap();
    assert_eq!(fs::metadata(fx.one("a")).unwrap().mode() & 0o7777, 0o640);
    let file = File::options().write(true).open(fx.one("a")).unwrap();
    for (sec, nsec) in [(1_000_000_000, 123_456_789), (-2, 500_000_000), (0, 1)] {
        let stamp = rustix::fs::Timespec { tv_sec: sec, tv_nsec: nsec };
        let stamps = rustix::fs::Timestamps { last_access: stamp, last_modification: stamp };
        rustix::fs::futimens(&file, &stamps).unwrap();
        let seen = fs::metadata(fx.one("a")).unwrap();
        assert_eq!((seen.mtime(), seen.mtime_nsec()), (sec, nsec));
        assert_eq!((seen.atime(), seen.atime_nsec()), (sec, nsec));
    }
}

#[test]
fn everything_in_a_large_directory_is_listed_once_while_it_is_deleted() {
    let Some(fx) = mounted() else { return };
    const COUNT: usize = 5000;
    fs::create_dir(fx.one("large")).unwrap();
    for n in 0..COUNT {
        File::create_new(fx.one(&format!("large/file-{n}"))).unwrap();
    }
    let mut seen = std::collections::HashSet::new();
    for entry in fs::read_dir(fx.one("large")).unwrap() {
        let entry = entry.unwrap();
        assert!(seen.insert(entry.file_name()), "{:?} came twice", entry.file_name());
        fs::remove_file(entry.path()).unwrap();
    }
    assert_eq!(seen.len(), COUNT);
    fs::remove_dir(fx.one("large")).unwrap();
}

#[test]
fn rewinding_a_directory_shows_what_came_since() {
    let Some(fx) = mounted() else { return };
    let mut dir = rustix::fs::Dir::read_from(File::open(fx.one("dir")).unwrap()).unwrap();
    let count = |dir: &mut rustix::fs::Dir| dir.by_ref().map(Result::unwrap).count();
    let before = count(&mut dir);
    fs::write(fx.one("dir/later"), "").unwrap();
    dir.rewind();
    assert_eq!(count(&mut dir), before + 1);
}

/// A reader goes on in the listing that it began with, and what it is told of names the kernel keeps.
#[test]
fn what_is_renamed_before_a_reader_comes_to_it_has_one_name_only() {
    let Some(fixture) = mounted() else { return };
    // Many enough that the listing takes several requests.
    let (old, new) = (|n: usize| format!("here/old {n}"), |n: usize| format!("here/new {n}"));
    fs::create_dir(fixture.one("here")).unwrap();
    (0..300).for_each(|n| fs::write(fixture.one(&old(n)), n.to_string()).unwrap());
    let mut reader = fs::read_dir(fixture.one("here")).unwrap();
    reader.next().unwrap().unwrap();
    for n in 0..300 {
        fs::rename(fixture.one(&old(n)), fixture.one(&new(n))).unwrap();
    }
    fs::write(fixture.one("here/old 7"), "another").unwrap();
    reader.for_each(|entry| drop(entry.unwrap()));
    for n in 0..300 {
        assert_eq!(fs::read_to_string(fixture.one(&new(n))).unwrap(), n.to_string());
        let left = fs::read_to_string(fixture.one(&old(n)));
        if n == 7 {
            assert_eq!(left.unwrap(), "another");
        } else {
            assert_eq!(left.unwrap_err().kind(), std::io::ErrorKind::NotFound, "{}", old(n));
        }
    }
}
