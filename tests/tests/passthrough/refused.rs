//! Where the kernel takes no file, all is served as without.

use std::fs;
use std::process::Command;

use branchfs_tests::{Ordinary, Site, can_mount, cannot};
use rustix::mount::UnmountFlags;

use crate::scene::{full_of, passing};

/// A mount that goes when dropped.
struct Overlay(std::path::PathBuf);

impl Drop for Overlay {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_base_on_overlayfs_is_served() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    ["lower", "upper", "work", "base"].into_iter().for_each(|name| fs::create_dir(at(name)).unwrap());
    fs::write(at("lower/file"), full_of(b'a')).unwrap();
    let how = ["lower", "upper", "work"].map(|name| format!("{name}dir={}", at(name).display())).join(",");
    let mut mount = Command::new("mount");
    mount.args(["-t", "overlay", "overlay", "-o", &how]).arg(at("base"));
    if !mount.output().is_ok_and(|output| output.status.success()) {
        return cannot("mount an overlayfs");
    }
    let _overlay = Overlay(at("base"));
    let site = Site::init(&at("base"));
    site.ok(&["mount", "--data", "passthrough"]);
    site.ok(&["create", "one"]);
    let path = site.view("one").join("file");
    let reader = fs::File::open(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), full_of(b'a'));
    fs::write(&path, "new").unwrap();
    assert_eq!(std::io::read_to_string(reader).unwrap(), "new", "one inode, served");
    assert_eq!(fs::read(at("base/file")).unwrap(), full_of(b'a'));
    let output = site.cli(&["status"]);
    let status = String::from_utf8_lossy(&output.stdout);
    assert!(status.contains("passthrough (readers pass through, but not all"), "{status}");
}

#[test]
fn an_ordinary_user_is_served_and_told() {
    let Some(user) = Ordinary::new() else { return };
    user.ok("head -c 100000 /dev/zero >long; branchfs mount --data passthrough; branchfs create one");
    assert_eq!(user.ok("wc -c <.branchfs/mnt/one/long"), "100000\n");
    let read = user.ok("cd .branchfs/mnt/one; exec 3<file; echo new >file; cat <&3; cat file");
    assert_eq!(read, "new\nnew\n");
    let status = user.ok("branchfs status");
    assert!(status.contains("passthrough needs root"), "{status}");
}

#[test]
fn a_mount_says_how_it_serves() {
    let Some(workspace) = passing(|_| ()) else { return };
    let status = workspace.ok(&["status", "--json"]);
    assert!(
        status.contains("\"data\":\"passthrough\"") || status.contains("\"data\": \"passthrough\""),
        "{status}"
    );
}
