use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{XattrFlags, setxattr};

use crate::views::{seen, wait_until, wait_until_shown, watched};

type Edit = (&'static str, fn(&Path));

const EDITS: [Edit; 21] = [
    ("bytes in place", |base| fs::write(base.join("d/f"), "other bytes, and more of them").unwrap()),
    ("bytes in place, as many", |base| fs::write(base.join("d/f"), "OTHER BYTES, AND MORE OF THEM").unwrap()),
    ("less bytes", |base| File::options().write(true).open(base.join("d/f")).unwrap().set_len(3).unwrap()),
    ("atomic replacement", |base| {
        fs::write(base.join("d/f.new"), "replaced").unwrap();
        fs::rename(base.join("d/f.new"), base.join("d/f")).unwrap();
    }),
    ("chmod", |base| fs::set_permissions(base.join("d/f"), Permissions::from_mode(0o640)).unwrap()),
    ("chmod of a directory", |base| {
        fs::set_permissions(base.join("d"), Permissions::from_mode(0o750)).unwrap()
    }),
    ("touch", |base| {
        let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        File::options().write(true).open(base.join("d/f")).unwrap().set_modified(past).unwrap();
    }),
    ("an extended attribute", |base| {
        setxattr(base.join("d/f"), "user.note", b"new", XattrFlags::empty()).unwrap();
    }),
    ("a file where nothing was", |base| fs::write(base.join("d/absent"), "here").unwrap()),
    ("a file at the top", |base| fs::write(base.join("absent"), "here").unwrap()),
    ("a directory where nothing was", |base| fs::create_dir(base.join("d/sub/absent")).unwrap()),
    ("a file renamed", |base| fs::rename(base.join("d/f"), base.join("d/sub/g")).unwrap()),
    ("a file deleted", |base| fs::remove_file(base.join("d/sub/g")).unwrap()),
    ("a symlink replaced", |base| {
        fs::remove_file(base.join("d/link")).unwrap();
        symlink("elsewhere", base.join("d/link")).unwrap();
    }),
    ("a hard link", |base| fs::hard_link(base.join("d/many"), base.join("d/sub/other")).unwrap()),
    ("bytes through the other name", |base| fs::write(base.join("d/sub/other"), "through a link").unwrap()),
    ("a name of several removed", |base| fs::remove_file(base.join("d/many")).unwrap()),
    ("a tree renamed", |base| fs::rename(base.join("tree"), base.join("d/tree")).unwrap()),
    ("bytes in the renamed tree", |base| {
        fs::write(base.join("d/tree/deep/er/file"), "after the move").unwrap()
    }),
    ("another tree in its place", |base| {
        fs::create_dir_all(base.join("tree/deep")).unwrap();
        fs::write(base.join("tree/deep/er"), "now a file").unwrap();
    }),
    ("a tree deleted", |base| fs::remove_dir_all(base.join("d/tree")).unwrap()),
];

const ABSENT: [&str; 3] = ["absent", "d/absent", "d/sub/absent"];

fn fill(base: &Path) {
    fs::create_dir_all(base.join("d/sub")).unwrap();
    fs::create_dir_all(base.join("tree/deep/er")).unwrap();
    fs::write(base.join("d/f"), "first").unwrap();
    fs::write(base.join("d/many"), "one name, so far").unwrap();
    fs::write(base.join("tree/deep/er/file"), "deep").unwrap();
    symlink("f", base.join("d/link")).unwrap();
}

fn edits_are_seen(how: &str, says: &str) {
    let Some(workspace) = watched(how, fill) else { return };
    let branches = ["one", "three"];
    for (what, edit) in EDITS {
        let before = seen(&workspace.base());
        for branch in branches {
            let view = workspace.view(branch);
            seen(&view);
            ABSENT.into_iter().for_each(|name| drop(fs::symlink_metadata(view.join(name))));
            assert_eq!(seen(&view), before, "before: {what}");
        }
        edit(&workspace.base());
        wait_until_shown(&workspace, &branches, before.keys(), what);
    }
    let status = workspace.ok(&["status"]);
    assert!(status.contains(says), "{status}");
}

#[test]
fn edits_of_every_kind_are_seen_at_any_depth_by_fanotify() {
    edits_are_seen("fanotify", "watched by fanotify");
}

#[test]
fn edits_of_every_kind_are_seen_at_any_depth_by_inotify() {
    edits_are_seen("inotify", "watched by inotify");
}

#[test]
fn edits_of_every_kind_are_seen_at_any_depth_with_nothing_that_tells() {
    edits_are_seen("off", "watched by nothing");
}

/// A directory that the branch has changed has times of its own, so that they do not tell of what comes below.
#[test]
fn a_kept_listing_of_a_directory_that_the_branch_has_changed_shows_what_comes_and_goes_below() {
    for how in ["fanotify", "inotify", "off"] {
        let Some(workspace) = watched(how, fill) else { return };
        let (base, view) = (workspace.base().join("d"), workspace.view("one").join("d"));
        fs::write(view.join("own"), "").unwrap();
        let listed = || -> BTreeSet<OsString> {
            fs::read_dir(&view).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        let mut expected = listed();
        for edit in 0..4 {
            assert_eq!(listed(), expected, "{how}");
            let name = OsString::from(format!("new {}", edit / 2));
            if edit % 2 == 0 {
                fs::write(base.join(&name), "").unwrap();
                expected.insert(name);
            } else {
                fs::remove_file(base.join(&name)).unwrap();
                expected.remove(&name);
            }
            wait_until(
                || listed() == expected,
                || format!("{how}, {edit}: {:?}, not {expected:?}", listed()),
            );
        }
    }
}

/// What a process stores to a map raises no event; its last close of the file does.
#[test]
fn what_was_stored_to_a_map_is_seen_when_the_file_is_closed() {
    let Some(workspace) = watched("best", fill) else { return };
    let path = workspace.base().join("d/f");
    assert_eq!(fs::read(workspace.view("one").join("d/f")).unwrap(), b"first");
    let file = File::options().read(true).write(true).open(&path).unwrap();
    store_to_map(&file);
    drop(file);
    wait_until_shown(&workspace, &["one", "three"], [], "a store to a map");
    assert_eq!(fs::read(workspace.view("one").join("d/f")).unwrap(), b"First");
}

fn store_to_map(file: &File) {
    let (all, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: the first page of a file that is not empty, mapped, changed and unmapped by nobody else.
    unsafe {
        use std::os::fd::AsRawFd;
        let page = libc::mmap(std::ptr::null_mut(), 4096, all, shared, file.as_raw_fd(), 0);
        assert_ne!(page, libc::MAP_FAILED);
        page.cast::<u8>().write(b'F');
        assert_eq!(libc::munmap(page, 4096), 0);
    }
}
