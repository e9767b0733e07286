//! Mounting and unmounting.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use branchfs::fuse::{Data, DeadMount, clear_dead_mount};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::fixture::{data, errno, mounted};

/// Paths that others mount at need not be text.
fn mount_table() -> String {
    String::from_utf8_lossy(&fs::read("/proc/self/mountinfo").unwrap()).into_owned()
}

fn mounts_at(path: &Path) -> usize {
    let path = path.to_str().unwrap();
    let table = mount_table();
    table.lines().filter(|line| line.split(' ').nth(4) == Some(path)).count()
}

#[test]
fn a_mount_says_what_it_is() {
    let Some(fx) = mounted() else { return };
    let table = mount_table();
    let path = fx.mnt.path().to_str().unwrap();
    let line = table.lines().find(|line| line.contains(path)).unwrap();
    assert!(line.contains("fuse.branchfs branchfs"), "{line}");
    assert!(fx.mounted().is_mounted());
    assert!(fx.mounted().mode().starts_with("fuse"));
    assert_eq!(clear_dead_mount(fx.mnt.path()).unwrap(), DeadMount::Alive);
}

#[test]
fn unmounting_leaves_nothing_behind() {
    let Some(fx) = mounted() else { return };
    fs::write(fx.one("a"), "x").unwrap();
    fx.mounted().unmount().unwrap();
    fx.mounted().join().unwrap();
    assert_eq!(mounts_at(fx.mnt.path()), 0);
    assert!(!fx.mounted().is_mounted());
    fx.mounted().unmount().unwrap();
    fx.mounted().settle().unwrap();
    assert_eq!(clear_dead_mount(fx.mnt.path()).unwrap(), DeadMount::NotMounted);
}

#[test]
fn unmounting_does_not_wait_for_who_is_inside() {
    let Some(fx) = mounted() else { return };
    let inside = File::open(fx.one("a")).unwrap();
    fx.mounted().unmount().unwrap();
    fx.mounted().join().unwrap();
    assert_eq!(mounts_at(fx.mnt.path()), 0);
    if rustix::process::geteuid().is_root() {
        assert_eq!(errno(inside.read_at(&mut [0], 0)), libc::ENOTCONN);
    }
}

#[test]
fn somebody_elses_umount_ends_the_session() {
    let Some(fx) = mounted() else { return };
    if rustix::mount::unmount(fx.mnt.path(), UnmountFlags::empty()).is_err() {
        eprintln!("skipped: only root unmounts directly");
        return;
    }
    fx.mounted().join().unwrap();
    assert!(!fx.mounted().is_mounted());
}

/// The crate below unmounts by path when a session ends, whatever is mounted there by then.
#[test]
fn a_session_that_ends_late_leaves_the_next_mount_alone() {
    let Some(fx) = mounted() else { return };
    let lazily = rustix::mount::unmount(fx.mnt.path(), UnmountFlags::DETACH);
    let covered = rustix::mount::mount("none", fx.mnt.path(), "tmpfs", MountFlags::empty(), None);
    if lazily.and(covered).is_err() {
        eprintln!("skipped: only root mounts directly");
        return;
    }
    fx.mounted().join().unwrap();
    fx.mounted().unmount().unwrap();
    assert_eq!(mounts_at(fx.mnt.path()), 1, "the tmpfs is still there");
    rustix::mount::unmount(fx.mnt.path(), UnmountFlags::empty()).unwrap();
}

#[test]
fn the_mount_of_a_dead_server_is_cleared() {
    let (dir, device) =
        (tempfile::tempdir().unwrap(), File::options().read(true).write(true).open("/dev/fuse"));
    let Ok(device) = device else { return };
    let options = format!("fd={},rootmode=40755,user_id=0,group_id=0", device.as_raw_fd());
    let options = std::ffi::CString::new(options).unwrap();
    for _ in 0..2 {
        // The first is covered by the second, as when a daemon is restarted over a dead mount.
        let flags = MountFlags::empty();
        if rustix::mount::mount("test", dir.path(), "fuse", flags, Some(options.as_c_str())).is_err() {
            break;
        }
    }
    if mounts_at(dir.path()) == 0 {
        eprintln!("skipped: only root mounts directly");
        return;
    }
    drop(device);
    assert_eq!(errno(fs::metadata(dir.path())), libc::ENOTCONN);
    assert_eq!(clear_dead_mount(dir.path()).unwrap(), DeadMount::Cleared);
    assert_eq!(mounts_at(dir.path()), 0);
    assert_eq!(clear_dead_mount(dir.path()).unwrap(), DeadMount::NotMounted);
}

#[test]
fn the_kernel_holds_no_more_inodes_than_the_table() {
    let Some(fx) = mounted() else { return };
    let one = fx.store.branch("one").unwrap().id();
    for n in 0..200 {
        fs::write(fx.one(&format!("f{n}")), "x").unwrap();
    }
    assert!(fx.vfs.known_inodes(one).len() >= 200);
    let open = File::options().write(true).open(fx.one("f7")).unwrap();
    match data() {
        Data::Opened | Data::Passthrough => assert_eq!(fx.vfs.writable_inodes(one).len(), 1),
        Data::Cached => assert!(fx.vfs.writable_inodes(one).is_empty(), "nobody says who has opened what"),
    }
    fx.abort("one");
    drop(open);
    fx.mounted().unmount().unwrap();
    fx.mounted().join().unwrap();
    assert!(fx.vfs.known_inodes(one).is_empty());
    assert_eq!(fx.vfs.opened(one), 0);
}
