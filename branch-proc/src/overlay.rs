//! A native view: a kernel overlayfs over the base, in the group's own mount namespace. Made ready in the parent, mounted in
//! the child, with system calls only.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags};

use crate::error::{SpawnError, Step};
use crate::wire::Fail;

/// An overlayfs to be mounted over a directory of a group's: what it changes goes into `upper`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// Where it is seen.
    pub over: PathBuf,
    /// The layers below, the topmost first; `over` itself can be one.
    pub lower: Vec<PathBuf>,
    /// Takes the changes. On a filesystem that has extended attributes, and below none of the layers but at `over`.
    pub upper: PathBuf,
    /// An empty directory on the same filesystem.
    pub work: PathBuf,
}

/// The same with all strings ready.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) over: CString,
    lower: CString,
    upper: CString,
    work: CString,
    /// As the base is mounted.
    attributes: MountAttrFlags,
    is_root: bool,
}

impl Overlay {
    /// Whether a spawn by this process mounts it without a user namespace: then all of overlayfs can be had.
    pub fn is_mounted_by_root() -> bool {
        !crate::sys::lacks_sys_admin()
    }

    /// `is_root`: mounted without a user namespace of its own.
    pub(crate) fn ready(&self, is_root: bool) -> Result<Ready, SpawnError> {
        let failed = |e: Errno| SpawnError::new(Step::Overlay, e.raw_os_error(), self.over.to_string_lossy());
        let vfs = rustix::fs::statvfs(&self.over).map_err(failed)?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NOATIME;
        for (flag, attribute) in [
            (StatVfsMountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
            (StatVfsMountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
            (StatVfsMountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        ] {
            attributes.set(attribute, vfs.f_flag.contains(flag));
        }
        let text = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| failed(Errno::INVAL));
        let lower: Vec<Vec<u8>> = self.lower.iter().map(|path| escaped(path)).collect();
        Ok(Ready {
            over: text(self.over.as_os_str().as_bytes().to_vec())?,
            lower: text(lower.join(&b':'))?,
            upper: text(escaped(&self.upper))?,
            work: text(escaped(&self.work))?,
            attributes,
            is_root,
        })
    }
}

impl Ready {
    /// Mounts it. Async-signal-safe.
    ///
    /// Moved directories are noted (`redirect_dir`) and files with several names stay one (`index`) where that can be
    /// had, which takes root. fsync is real: never `volatile`. Files are copied up whole: nothing below may be needed
    /// to read what is in the upper directory (`metacopy`).
    pub(crate) fn mount(&self) -> Result<(), Fail> {
        self.try_mount().map_err(|e| Fail::new(Step::Overlay, e))
    }

    fn try_mount(&self) -> Result<(), Errno> {
        let fs = rustix::mount::fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let whose: &[(&CStr, &CStr)] = match self.is_root {
            true => &[(c"index", c"on"), (c"redirect_dir", c"on"), (c"xino", c"auto")],
            false => &[(c"index", c"off"), (c"xino", c"off")],
        };
        let all: [(&CStr, &CStr); 5] = [
            (c"lowerdir", &self.lower),
            (c"upperdir", &self.upper),
            (c"workdir", &self.work),
            (c"metacopy", c"off"),
            (c"nfs_export", c"off"),
        ];
        for (key, value) in all.iter().chain(whose) {
            rustix::mount::fsconfig_set_string(&fs, *key, *value)?;
        }
        if !self.is_root {
            rustix::mount::fsconfig_set_flag(&fs, c"userxattr")?;
        }
        rustix::mount::fsconfig_create(&fs)?;
        let mount = rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, self.attributes)?;
        put(&mount, &self.over)
    }
}

fn put(mount: &OwnedFd, over: &CStr) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", CWD, over, flags)
}

/// Colons part layers, and a backslash takes that meaning away.
fn escaped(path: &Path) -> Vec<u8> {
    let bytes = OsStr::as_bytes(path.as_os_str());
    bytes
        .iter()
        .flat_map(|byte| if b":\\".contains(byte) { vec![b'\\', *byte] } else { vec![*byte] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_part_layers_is_escaped_and_nothing_else() {
        assert_eq!(escaped(Path::new("/a:b\\c,d")), b"/a\\:b\\\\c,d");
    }
}
