//! Numbers at the edges of their types, as any program in a branch can send them.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Timespec, Timestamps};

use branchfs::vfs::{Caller, Found, XattrFlags, ino};

use crate::fixture::mounted;

/// The FUSE crate negates the seconds of a time before 1970. With overflow checks `i64::MIN` was a panic there:
/// one utimensat(2) by anybody ended the mount of all branches. The workspace builds that crate without them
/// (the kernel sends this second with no nanoseconds, so the wrapped value is right).
#[test]
fn no_time_a_program_can_set_ends_the_mount_and_each_is_kept_as_by_the_host() {
    let Some(fx) = mounted() else { return };
    let [ours, hosts] =
        [fx.one("timed"), fx.base.path().join("timed")].map(|path| File::create_new(path).unwrap());
    for sec in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
        for nsec in [0, 1, 999_999_999] {
            let time = Timespec { tv_sec: sec, tv_nsec: nsec };
            let both = Timestamps { last_access: time, last_modification: time };
            let shown = [&ours, &hosts].map(|file| {
                rustix::fs::futimens(file, &both).unwrap_or_else(|e| panic!("{sec}.{nsec}: {e}"));
                let now = file.metadata().unwrap();
                (now.mtime(), now.mtime_nsec())
            });
            assert_eq!(shown[0], shown[1], "{sec}.{nsec}");
        }
    }
    assert!(fx.mounted().is_mounted());
}

/// Found by `fuzz/acl`, which asks the view and the host's filesystem the same. (Linux clears the number before it
/// sends the value to a mount; others that call the view may not.)
#[test]
fn an_acl_is_kept_without_the_numbers_of_entries_that_name_nobody() {
    let Some(fx) = mounted() else { return };
    let find = |dir, name: &[u8]| match fx.vfs.lookup(dir, name).unwrap() {
        Found::Entry(attr) => attr.ino,
        Found::Absent(_) => panic!("absent"),
    };
    let dir = find(find(ino::MOUNT_ROOT, b"one"), b"dir");
    let acl = |group: u32| {
        let entries = [(1, 7, u32::MAX), (2, 6, 12), (4, 5, group), (16, 7, u32::MAX), (32, 1, u32::MAX)];
        let entry = |(tag, permissions, id): (u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        [2u32.to_le_bytes().to_vec(), entries.into_iter().flat_map(entry).collect()].concat()
    };
    let caller = Caller { uid: 0, gid: 0, pid: 0 };
    for name in [&b"system.posix_acl_access"[..], b"system.posix_acl_default"] {
        fx.vfs.set_xattr(dir, caller, name, &acl(0xffdf_ffff), XattrFlags::Any).unwrap();
        assert_eq!(fx.vfs.xattr(dir, name).unwrap(), acl(u32::MAX));
    }
}
