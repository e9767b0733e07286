//! Numbers at the edges of their types, as any program in a branch can send them.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Timespec, Timestamps};

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
