//! A branch's view bound elsewhere: `.branchfs` is for its owner only, and suites become other users.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use branchfs_tests::is_mounted;
use rustix::mount::{UnmountFlags, mount, mount_bind, unmount};
use tempfile::TempDir;

/// A mount on a directory everybody can reach; unmounted when dropped.
pub(crate) struct Bound(TempDir);

impl Bound {
    /// The directory itself, elsewhere.
    pub(crate) fn bind(view: &Path) -> Bound {
        let bound = Bound::reachable();
        mount_bind(view, bound.path()).unwrap();
        fs::set_permissions(bound.path(), PermissionsExt::from_mode(0o777)).unwrap();
        bound
    }

    /// An empty tmpfs.
    pub(crate) fn tmpfs() -> Bound {
        let bound = Bound::reachable();
        mount("none", bound.path(), "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        bound
    }

    fn reachable() -> Bound {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("mnt")).unwrap();
        Bound(dir)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("mnt")
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let unmounted = unmount(self.path(), UnmountFlags::DETACH);
        // The first panic tells more.
        if !std::thread::panicking() && is_mounted(&self.path()) {
            unmounted.unwrap();
        }
    }
}
