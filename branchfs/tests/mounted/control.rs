//! The control file and the ioctls.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use branchfs::fuse::Data;

use crate::fixture::{Fixture, data, errno, list, mounted, mounted_over};

const FORK: u64 = 0x8080_6200;
const COMMIT: u64 = 0x6201;
const ABORT: u64 = 0x6202;

fn control(fx: &Fixture, branch: &str) -> File {
    OpenOptions::new().write(true).open(fx.at(branch).join(".branchfs_ctl")).unwrap()
}

fn ioctl(file: &File, number: u64) -> Result<[u8; 128], i32> {
    let mut reply = [0; 128];
    // SAFETY: the largest of the three numbers writes 128 bytes to the pointer, which is how long the array is.
    let outcome = unsafe { libc::ioctl(file.as_raw_fd(), number as _, reply.as_mut_ptr()) };
    if outcome == 0 { Ok(reply) } else { Err(std::io::Error::last_os_error().raw_os_error().unwrap()) }
}

#[test]
fn the_control_file_is_there_by_name_and_cannot_be_touched() {
    let Some(fx) = mounted() else { return };
    let path = fx.one(".branchfs_ctl");
    let seen = fs::metadata(&path).unwrap();
    assert_eq!((seen.mode() & 0o7777, seen.len()), (0o200, 0));
    assert!(!list(&fx.one("")).contains(&".branchfs_ctl".to_owned()));
    assert!(!fx.one("dir/.branchfs_ctl").exists(), "only in the root");
    assert_eq!(errno(fs::remove_file(&path)), libc::EPERM);
    assert_eq!(errno(fs::rename(&path, fx.one("x"))), libc::EPERM);
    assert_eq!(errno(fs::rename(fx.one("a"), &path)), libc::EPERM);
    assert_eq!(errno(fs::hard_link(&path, fx.one("x"))), libc::EPERM);
    assert_eq!(errno(fs::set_permissions(&path, Permissions::from_mode(0o666))), libc::EPERM);
    if rustix::process::geteuid().is_root() {
        assert_eq!(fs::read(&path).unwrap(), b"");
    } else {
        assert_eq!(errno(fs::read(&path)), libc::EACCES);
    }
}

#[test]
fn writing_commit_commits_this_branch() {
    let Some(fx) = mounted() else { return };
    fx.fork("two");
    fs::write(fx.one("a"), "by one").unwrap();
    fs::write(fx.one(".branchfs_ctl"), "commit\n").unwrap();
    assert_eq!(fs::read_to_string(fx.base.path().join("a")).unwrap(), "by one");
    assert_eq!(list(&fx.at("")), ["main", "two"]);
}

#[test]
fn writing_abort_discards_this_branch() {
    let Some(fx) = mounted() else { return };
    fx.fork("two");
    fs::write(fx.one("a"), "by one").unwrap();
    let mut file = control(&fx, "one");
    file.write_all(b"abort").unwrap();
    assert_eq!(list(&fx.at("")), ["main", "two"]);
    assert_eq!(fs::read_to_string(fx.at("main/a")).unwrap(), "base\n");
    assert_eq!(errno(file.write(b"abort")), libc::ESTALE);
}

#[test]
fn other_text_is_refused_and_changes_nothing() {
    let Some(fx) = mounted() else { return };
    let mut file = control(&fx, "one");
    for text in [&b"Commit"[..], b"commit one", b"fork", b"\xff", &[b'x'; 100_000]] {
        assert_eq!(errno(file.write(text)), libc::EINVAL);
    }
    assert_eq!(list(&fx.at("")), ["main", "one"]);
}

#[test]
fn ioctls_fork_commit_and_abort() {
    let Some(fx) = mounted() else { return };
    fs::write(fx.one("a"), "by one").unwrap();
    let reply = ioctl(&control(&fx, "one"), FORK).unwrap();
    assert!(reply.starts_with(b"one-fork\0") && reply.ends_with(b"\0"));
    assert_eq!(fs::read_to_string(fx.at("one-fork/a")).unwrap(), "by one");
    ioctl(&control(&fx, "one-fork"), ABORT).unwrap();
    assert_eq!(list(&fx.at("")), ["main", "one"]);
    ioctl(&File::open(fx.one("")).unwrap(), COMMIT).unwrap();
    assert_eq!(fs::read_to_string(fx.base.path().join("a")).unwrap(), "by one");
    assert_eq!(list(&fx.at("")), ["main"]);
}

/// The prototype took any file for the control file: an ioctl on whatever was open committed the branch.
#[test]
fn an_ioctl_on_any_other_file_is_refused() {
    let Some(fx) = mounted() else { return };
    let writable = OpenOptions::new().write(true).open(fx.one("a")).unwrap();
    let others = [writable, File::open(fx.one("dir")).unwrap(), File::open(fx.at("")).unwrap()];
    for file in &others {
        for number in [FORK, COMMIT, ABORT] {
            assert_eq!(ioctl(file, number), Err(libc::ENOTTY));
        }
    }
    assert_eq!(ioctl(&control(&fx, "one"), 0x6203), Err(libc::ENOTTY));
    if rustix::process::geteuid().is_root() {
        let read_only = File::open(fx.one(".branchfs_ctl")).unwrap();
        match data() {
            Data::Opened | Data::Passthrough => assert_eq!(ioctl(&read_only, COMMIT), Err(libc::EBADF)),
            // Only root can open it so, and may order anything.
            Data::Cached => assert!(ioctl(&read_only, FORK).unwrap().starts_with(b"one-fork\0")),
        }
        if fx.store.branch("one-fork").is_ok() {
            fx.abort("one-fork");
        }
    }
    assert_eq!(list(&fx.at("")), ["main", "one"]);
}

#[test]
fn a_file_of_that_name_in_the_base_is_hidden_and_kept() {
    if mounted().is_none() {
        return;
    }
    let base = tempfile::tempdir().unwrap();
    fs::write(base.path().join(".branchfs_ctl"), "mine").unwrap();
    let fx = mounted_over(base);
    assert!(list(&fx.one("")).is_empty());
    fs::write(fx.one("x"), "").unwrap();
    fx.commit("one");
    assert_eq!(fs::read_to_string(fx.base.path().join(".branchfs_ctl")).unwrap(), "mine");
}
