//! Copy-up keeps everything, and copies nothing that need not be: each kind of first change, of a base file and of
//! a file that an older layer holds, compared before and after, and with the base after the commit (S16).

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::Duration;

use branch_store::*;
use common::gate::{Fuse, hook};
use common::seen::{Bytes, Seen};
use common::{Paths, Workspace, errno, skip_unless_root};
use rustix::fs::{Mode, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// user:rw-, user 1000:r--, group:r--, mask:rw-, other:---.
const ACL: [u8; 44] = [
    2, 0, 0, 0, // version
    1, 0, 6, 0, 255, 255, 255, 255, // owner
    2, 0, 4, 0, 232, 3, 0, 0, // user 1000
    4, 0, 4, 0, 255, 255, 255, 255, // group
    16, 0, 6, 0, 255, 255, 255, 255, // mask
    32, 0, 0, 0, 255, 255, 255, 255, // others
];
/// cap_net_raw, permitted.
const CAPABILITY: [u8; 20] = [0, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A file with everything a file can have: an odd owner and mode, times to the nanosecond, attributes of all
/// kinds, holes before, between and behind its data.
fn make_rich(path: &Path) {
    let file = std::fs::File::create(path).unwrap();
    file.write_all_at(&[b'a'; 8192], 64 * KIB).unwrap();
    file.write_all_at(&[b'b'; 100_000], 512 * KIB).unwrap();
    file.set_len(3 * MIB + 5).unwrap();
    chown(path, Some(1234), Some(4321)).unwrap();
    let set = |name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
    };
    set("user.comment", b"kept");
    set("trusted.mark", b"\0\xff");
    set("system.posix_acl_access", &ACL);
    rustix::fs::chmod(path, Mode::from_raw_mode(0o6760)).unwrap();
    // Last: owner and mode take it away.
    set("security.capability", &CAPABILITY);
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps { last_access: time(1_111_111_111, 1), last_modification: time(-5, 999_999_999) };
    rustix::fs::futimens(&file, &times).unwrap();
}

fn workspace() -> Workspace {
    let w = Workspace::new(&[("d/other", "other")]);
    make_rich(&w.base().join("f"));
    w
}

fn content_files(w: &Workspace) -> usize {
    let layers = std::fs::read_dir(w.base().join(".branchfs/content")).unwrap();
    layers.map(|layer| std::fs::read_dir(layer.unwrap().path()).unwrap().count()).sum()
}

fn open(branch: &Arc<Branch>, path: &str) -> OpenFile {
    branch.open(&branch.at(path).unwrap().0, Access::Write).unwrap()
}

fn change(branch: &Arc<Branch>, change: AttrChange) {
    branch.set_attr(&branch.at("f").unwrap().0, &change).unwrap();
}

/// What a change does to what is seen of the file before it; of times only those that it sets itself.
type Expect = fn(&mut Seen);

/// Name, what it does, what becomes of the file, where it is afterwards.
type NoCopy = (&'static str, fn(&Arc<Branch>), Expect, &'static str);

const WITHOUT_COPY: [NoCopy; 7] = [
    (
        "chmod",
        |b| change(b, AttrChange { mode: Some(0o1760), ..AttrChange::default() }),
        |f| f.mode = 0o1760,
        "f",
    ),
    (
        "chown",
        |b| change(b, AttrChange { uid: Some(7), gid: Some(8), ..AttrChange::default() }),
        |f| f.owner = (7, 8),
        "f",
    ),
    (
        "utimens",
        |b| {
            let (atime, mtime) = (Time { sec: 9, nsec: 8 }, Time { sec: 7, nsec: 6 });
            change(b, AttrChange { atime: Some(atime), mtime: Some(mtime), ..AttrChange::default() });
        },
        |f| (f.atime, f.mtime) = (Time { sec: 9, nsec: 8 }, Time { sec: 7, nsec: 6 }),
        "f",
    ),
    (
        "a time of access alone",
        |b| change(b, AttrChange { atime: Some(Time { sec: 9, nsec: 8 }), ..AttrChange::default() }),
        |f| f.atime = Time { sec: 9, nsec: 8 },
        "f",
    ),
    (
        "setxattr",
        |b| b.set_xattr(&b.at("f").unwrap().0, b"user.new", Some(b"1"), XattrMode::Create).unwrap(),
        |f| assert_eq!(f.xattrs.insert(b"user.new".to_vec(), b"1".to_vec()), None),
        "f",
    ),
    ("rename", |b| b.mv("f", "d/g").unwrap(), |_| {}, "d/g"),
    ("link", |b| b.ln("f", "d/g").unwrap(), |f| f.nlink += 1, "d/g"),
];

#[test]
fn a_change_of_name_or_attributes_copies_no_bytes_and_changes_nothing_else() {
    if skip_unless_root() {
        return;
    }
    for (name, act, expect, path) in WITHOUT_COPY {
        for in_older_layer in [false, true] {
            let w = workspace();
            let a = w.fork("main", "a");
            let branch = if in_older_layer {
                open(&a, "f").write_at(b"a", 64 * KIB).unwrap();
                w.fork("a", "b")
            } else {
                a.clone()
            };
            let (before, copies) = (Seen::in_branch(&branch, "f"), content_files(&w));
            act(&branch);
            let mut expected = before.clone();
            expect(&mut expected);
            let after = Seen::in_branch(&branch, path);
            assert_eq!(after.clone().but_ctime(), expected.but_ctime(), "{name}");
            assert!(after.ctime > before.ctime, "{name} changes the change time");
            assert_eq!(content_files(&w), copies, "{name} copies nothing");
            commit_and_compare(&w, &branch, path, name);
        }
    }
}

/// A change of bytes: name, what it does, what becomes of them. Runs of one byte, for readability.
type Write = (&'static str, fn(&OpenFile, &Arc<Branch>), fn(&mut Vec<u8>));

const WRITES: [Write; 9] = [
    ("a write of the same bytes", |f, _| assert_eq!(f.write_at(b"aaaa", 64 * KIB).unwrap(), 4), |_| {}),
    (
        "a write into a hole",
        |f, _| assert_eq!(f.write_at(b"new", MIB).unwrap(), 3),
        |bytes| {
            bytes[MIB as usize..MIB as usize + 3].copy_from_slice(b"new");
        },
    ),
    (
        "a write behind the end",
        |f, _| assert_eq!(f.write_at(b"end", 4 * MIB).unwrap(), 3),
        |bytes| {
            bytes.resize(4 * MIB as usize, 0);
            bytes.extend_from_slice(b"end");
        },
    ),
    ("a shorter size", |_, b| resize(b, 66 * KIB), |bytes| bytes.truncate(66 << 10)),
    ("no size", |_, b| resize(b, 0), Vec::clear),
    ("a greater size", |_, b| resize(b, 5 * MIB), |bytes| bytes.resize(5 << 20, 0)),
    ("the same size", |_, b| resize(b, 3 * MIB + 5), |_| {}),
    ("fallocate", |f, _| f.allocate(0, 3 * MIB, MIB).unwrap(), |bytes| bytes.resize(4 << 20, 0)),
    (
        "copy_file_range",
        |f, b| {
            let from = b.open(&b.at("d/other").unwrap().0, Access::Read).unwrap();
            assert_eq!(f.copy_from(70 * KIB, &from, 0, 100).unwrap(), 5);
        },
        |bytes| bytes[70 << 10..(70 << 10) + 5].copy_from_slice(b"other"),
    ),
];

fn resize(branch: &Arc<Branch>, size: u64) {
    change(branch, AttrChange { size: Some(size), ..AttrChange::default() });
}

fn bytes_of(seen: &Seen) -> Vec<u8> {
    let mut bytes = vec![0; seen.size as usize];
    for (at, Bytes(data)) in &seen.data {
        bytes[*at as usize..*at as usize + data.len()].copy_from_slice(data);
    }
    bytes
}

#[test]
fn a_first_change_of_bytes_keeps_everything_else() {
    if skip_unless_root() {
        return;
    }
    for (name, act, expect) in WRITES {
        for in_older_layer in [false, true] {
            let w = workspace();
            let a = w.fork("main", "a");
            let branch = if in_older_layer {
                open(&a, "f").write_at(b"a", 64 * KIB).unwrap();
                w.fork("a", "b")
            } else {
                a.clone()
            };
            let before = Seen::in_branch(&branch, "f");
            act(&open(&branch, "f"), &branch);
            let after = Seen::in_branch(&branch, "f");
            let mut bytes = bytes_of(&before);
            expect(&mut bytes);
            assert!(bytes_of(&after) == bytes, "{name}");
            assert!(after.mtime > before.mtime && after.ctime > before.ctime, "{name} is a modification");
            let data = (after.size, after.blocks, after.data.clone());
            let mut expected = before.clone();
            (expected.size, expected.blocks, expected.data) = data;
            assert_eq!(after.clone().but_change_times(), expected.but_change_times(), "{name}");
            commit_and_compare(&w, &branch, "f", name);
        }
    }
}

/// Commits to the base, through the parent if there is one: each ends with what the branch saw.
fn commit_and_compare(w: &Workspace, branch: &Arc<Branch>, path: &str, name: &str) {
    let seen = Seen::in_branch(branch, path).but_ctime();
    assert_eq!(w.store().commit(branch).unwrap().warnings, [""; 0], "{name}");
    if branch.name() == "b" {
        let parent = w.branch("a");
        assert_eq!(Seen::in_branch(&parent, path).but_ctime(), seen, "{name}, in the parent");
        assert_eq!(w.store().commit(&parent).unwrap().warnings, [""; 0], "{name}");
    }
    let mut host = Seen::on_host(&w.base().join(path)).but_ctime();
    // Of a file with many extended attributes the host counts the block they need.
    host.blocks = seen.blocks;
    assert_eq!(host, seen, "{name}, in the base");
}

#[test]
fn holes_stay_holes_to_the_block_through_every_layer() {
    let w = Workspace::new(&[]);
    let path = w.base().join("f");
    let file = std::fs::File::create(&path).unwrap();
    for at in [0, 40 * KIB, MIB] {
        file.write_all_at(&[b'x'; 4096], at).unwrap();
    }
    file.set_len(2 * MIB).unwrap();
    file.sync_all().unwrap();
    let before = Seen::on_host(&path);
    let mut above = w.fork("main", "l1");
    for name in ["l2", "l3", "l4"] {
        assert_eq!(open(&above, "f").write_at(b"x", 0).unwrap(), 1);
        assert_eq!(Seen::in_branch(&above, "f").but_change_times(), before.clone().but_change_times());
        above = w.fork(above.name(), name);
    }
    assert_eq!(Seen::in_branch(&above, "f").but_change_times(), before.clone().but_change_times());
    for name in ["l4", "l3", "l2", "l1"] {
        w.store().commit(&w.branch(name)).unwrap();
    }
    assert_eq!(Seen::on_host(&path).but_change_times(), before.but_change_times());
}

#[test]
fn the_copy_of_a_huge_sparse_file_costs_its_data_and_not_its_size() {
    let mut w = Workspace::new(&[]);
    let path = w.base().join("f");
    let file = std::fs::File::create(&path).unwrap();
    let at = [0, (4 << 30) - 2, 6 << 30, (9 << 30) + 1];
    for at in at {
        file.write_all_at(b"data", at).unwrap();
    }
    file.set_len(10 << 30).unwrap();
    let before = Seen::on_host(&path);
    let gate = Fuse::counting();
    w.reopen_on(Disk::guarded(gate.clone())).unwrap();
    let a = w.fork("main", "a");
    gate.set(u64::MAX);
    open(&a, "f").write_at(b"data", 6 << 30).unwrap();
    assert!(gate.calls() < 30, "{} calls for a few pages", gate.calls());
    assert_eq!(Seen::in_branch(&a, "f").but_change_times(), before.clone().but_change_times());
    let b = w.fork("a", "b");
    resize(&b, 5 << 30);
    assert_eq!(b.at("f").unwrap().1.size, 5 << 30);
    assert_eq!(Seen::in_branch(&b, "f").data, before.data[..before.data.len() - 2]);
    w.store().commit(&b).unwrap();
    w.store().commit(&a).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 5 << 30);
}

#[test]
fn all_names_of_a_hard_linked_file_keep_meaning_one_file_with_all_it_has() {
    if skip_unless_root() {
        return;
    }
    let w = workspace();
    std::fs::hard_link(w.base().join("f"), w.base().join("d/hard")).unwrap();
    let a = w.fork("main", "a");
    open(&a, "d/hard").write_at(b"new", 0).unwrap();
    let seen = Seen::in_branch(&a, "f");
    assert_eq!((seen.nlink, &seen.data[0].1.0[..3]), (2, &b"new"[..]));
    assert_eq!(w.store().commit(&a).unwrap().warnings, [""; 0]);
    let mut host = Seen::on_host(&w.base().join("f")).but_ctime();
    host.blocks = seen.blocks;
    assert_eq!(host, seen.but_ctime());
    let ino = |name| std::fs::metadata(w.base().join(name)).unwrap().ino();
    assert_eq!(ino("f"), ino("d/hard"));
}

#[test]
fn parent_and_child_copy_what_the_fork_froze_each_for_itself() {
    if skip_unless_root() {
        return;
    }
    let w = workspace();
    let a = w.fork("main", "a");
    open(&a, "f").write_at(b"A", 0).unwrap();
    let frozen = Seen::in_branch(&a, "f");
    let b = w.fork("a", "b");
    open(&a, "f").write_at(b"parent", 0).unwrap();
    assert_eq!(Seen::in_branch(&b, "f"), frozen, "to the nanosecond");
    open(&b, "f").write_at(b"child", 0).unwrap();
    for (branch, word) in [(&a, &b"parent"[..]), (&b, b"child")] {
        let mut seen = Seen::in_branch(branch, "f");
        assert!(seen.data[0].1.0.starts_with(word));
        seen.data[0].1.0[..6].copy_from_slice(&frozen.data[0].1.0[..6]);
        assert_eq!(seen.but_change_times(), frozen.clone().but_change_times());
    }
}

/// Somebody edits the base file while it is copied.
#[test]
fn a_file_edited_from_outside_during_its_copy_up_is_never_mixed() {
    for edits in [1, 3, usize::MAX] {
        let mut w = Workspace::new(&[("f", &"old ".repeat(50_000))]);
        let (path, mut left) = (w.base().join("f"), edits);
        let gate = hook(move |call, n| {
            if call == "copy_file_range" && left > 0 {
                left -= 1;
                std::fs::write(&path, format!("new{} ", n % 10).repeat(40_000)).unwrap();
            }
            Ok(())
        });
        w.reopen_on(Disk::guarded(gate.clone())).unwrap();
        let a = w.fork("main", "a");
        let file = open(&a, "f");
        gate.armed.store(true, Ordering::SeqCst);
        let written = file.write_at(b"MINE ", 0);
        gate.armed.store(false, Ordering::SeqCst);
        let outside = std::fs::read_to_string(w.base().join("f")).unwrap();
        if edits == usize::MAX {
            assert_eq!(errno(written), Errno::BUSY);
            assert_eq!((a.read_all("f").unwrap(), a.changed()), (outside, 0), "nothing was changed");
            continue;
        }
        assert_eq!(written.unwrap(), 5);
        assert_eq!(a.read_all("f").unwrap(), format!("MINE {}", &outside[5..]));
        assert!(
            outside.len() == 200_000 && outside.split(' ').take(40_000).all(|word| word == &outside[..4])
        );
        w.store().commit(&a).unwrap();
    }
}

/// Story: a truncation that came together with a commit copied the file up, cut, and was then refused: the branch
/// was sealed in between. The caller heard EBUSY and the file was short.
#[test]
fn a_truncation_that_a_commit_refuses_has_cut_nothing() {
    let mut w = Workspace::new(&[("f", &"x".repeat(10_000))]);
    let (copied, wait_copied) = channel();
    let (cut, wait_cut) = channel::<()>();
    let (_never, wait_never) = channel::<()>();
    let gate = hook(move |call, _| match call {
        // The copy-up's record. The commit gets time to queue up for the branch's lock, and then the lock first.
        "append" => {
            copied.send(()).ok();
            wait_never.recv_timeout(Duration::from_millis(20)).ok();
            Ok(())
        }
        // The commit has sealed the branch; it fails once the truncation has been answered.
        "mkdir" => wait_cut.recv_timeout(Duration::from_secs(20)).map_or(Ok(()), |()| Err(Errno::IO)),
        _ => Ok(()),
    });
    w.reopen_on(Disk::guarded(gate.clone())).unwrap();
    let a = w.fork("main", "a");
    a.put("makes the layer", "").unwrap();
    let object = a.at("f").unwrap().0;
    gate.armed.store(true, Ordering::SeqCst);
    let (store, branch) = (w.store(), &a);
    let (answer, committed) = std::thread::scope(|scope| {
        let commit = scope.spawn(move || {
            wait_copied.recv().unwrap();
            store.commit(branch)
        });
        let answer = a.set_attr(&object, &AttrChange { size: Some(10), ..AttrChange::default() });
        cut.send(()).unwrap();
        (answer, commit.join().unwrap())
    });
    assert_eq!(errno(committed), Errno::IO);
    let len = a.at("f").unwrap().1.size;
    match answer {
        Ok(_) => assert_eq!(len, 10),
        Err(e) => assert_eq!((e.errno(), len), (Errno::BUSY, 10_000), "refused, and yet cut"),
    }
}

#[test]
fn a_change_of_mode_owner_or_times_changes_the_change_time_and_nothing_else() {
    let w = Workspace::new(&[("f", "text"), ("d/x", "")]);
    let a = w.fork("main", "a");
    a.put("own", "text").unwrap();
    let changes = [
        AttrChange { mode: Some(0o600), ..AttrChange::default() },
        AttrChange { uid: Some(1), gid: Some(2), ..AttrChange::default() },
        AttrChange { atime: Some(Time { sec: 1, nsec: 2 }), ..AttrChange::default() },
        AttrChange { mtime: Some(Time { sec: 3, nsec: 4 }), ..AttrChange::default() },
    ];
    for path in ["f", "d", "own"] {
        for change in &changes {
            let (object, before) = a.at(path).unwrap();
            let after = a.set_attr(&object, change).unwrap();
            assert!(after.ctime >= before.ctime && after.ctime.sec > 1_000_000_000);
            let expected = Stat {
                mode: change.mode.unwrap_or(before.mode),
                uid: change.uid.unwrap_or(before.uid),
                gid: change.gid.unwrap_or(before.gid),
                atime: change.atime.unwrap_or(before.atime),
                mtime: change.mtime.unwrap_or(before.mtime),
                ctime: after.ctime,
                owner: after.owner,
                ..before
            };
            assert_eq!((path, after.clone()), (path, expected));
            assert_eq!(a.at(path).unwrap().1, after);
        }
    }
}

/// Story: a look at a directory through a branch moved its access time in the base, over the one a commit had set.
#[test]
fn listing_and_reading_in_a_branch_is_no_access_to_the_base() {
    let w = Workspace::new(&[("d/f", "bytes")]);
    let old = rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: old, last_modification: old };
    let atime = |path: &str| std::fs::metadata(w.base().join(path)).unwrap().accessed().unwrap();
    for path in ["d", "d/f"] {
        rustix::fs::utimensat(rustix::fs::CWD, w.base().join(path), &times, rustix::fs::AtFlags::empty())
            .unwrap();
    }
    let before = ["d", "d/f"].map(atime);
    let a = w.fork("main", "a");
    assert_eq!(a.names("d").unwrap(), ["f"]);
    assert_eq!(a.read_all("d/f").unwrap(), "bytes");
    a.put("d/f", "copied up").unwrap();
    a.put("d/g", "").unwrap();
    assert_eq!(["d", "d/f"].map(atime), before);
}

/// A commit gives each file its mode and times: two calls that it need not make for what is right already.
#[test]
fn a_copy_has_the_mode_and_access_time_of_its_file_and_can_be_written_to() {
    let w = Workspace::new(&[("open", "1"), ("closed", "1"), ("special", "1")]);
    let cases = [("open", 0o644, 0o644), ("closed", 0o400, 0o600), ("special", 0o4750, 0o750)];
    for (i, (name, mode, own)) in (0..).zip(cases) {
        let path = w.base().join(name);
        let time = |tv_sec| Timespec { tv_sec, tv_nsec: 7 };
        let times = Timestamps { last_access: time(1_000 + i), last_modification: time(2_000) };
        rustix::fs::chmod(&path, Mode::from_raw_mode(mode)).unwrap();
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty()).unwrap();
        let branch = w.fork("main", name);
        branch.put(name, "22").unwrap();
        let layers = std::fs::read_dir(w.base().join(".branchfs/content")).unwrap();
        let files = layers.flat_map(|layer| std::fs::read_dir(layer.unwrap().path()).unwrap());
        let found: Vec<_> = files.map(|file| file.unwrap().metadata().unwrap()).collect();
        assert_eq!(found.len(), 1, "{name}: what others had is gone with them");
        assert_eq!((found[0].mode() & 0o7777, found[0].atime()), (own, 1_000 + i), "{name}");
        w.store().commit(&branch).unwrap();
        let after = std::fs::metadata(&path).unwrap();
        assert_eq!((after.mode() & 0o7777, after.atime(), after.len()), (mode, 1_000 + i, 2), "{name}");
    }
}
