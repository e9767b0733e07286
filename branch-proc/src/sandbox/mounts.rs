//! Everything read-only but what the policy lets the program write. Landlock says nothing about owner, mode,
//! times and extended attributes of files; a read-only mount does (`mount_setattr(2)`).

use std::ffi::{CStr, CString};

use rustix::io::Errno;

use super::{answer, c_path};
use crate::error::{SpawnError, Step};
use crate::policy::{Rules, WRITABLE_MAX};
use crate::wire::Fail;

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Which parts of the mount tree stay writable.
#[derive(Debug)]
pub(crate) struct ReadOnly {
    /// None of them within another.
    writable: Vec<CString>,
}

impl ReadOnly {
    /// None when everything is writable, or the kernel cannot do it, which [`super::Enforcement`] tells.
    pub(crate) fn new(rules: &Rules) -> Result<Option<ReadOnly>, SpawnError> {
        let writable = rules.writable();
        if writable.first().is_some_and(|path| path.parent().is_none()) || !can_be_read_only() {
            return Ok(None);
        }
        let writable = writable.into_iter().map(c_path).collect::<Result<_, _>>()?;
        Ok(Some(ReadOnly { writable }))
    }

    /// Makes it so in the calling process' mount namespace. Async-signal-safe.
    ///
    /// What stays writable is cloned first and put over itself afterwards: taking the read-only mark off
    /// again would also take it off where the host had set it.
    pub(crate) fn enter(&self) -> Result<(), Fail> {
        let mut clones = [-1; WRITABLE_MAX];
        let failed = |e, index| Fail::new(Step::ReadOnly, e).at(index);
        for (index, path) in self.writable.iter().enumerate() {
            match clone_tree(path) {
                Ok(fd) => clones[index] = fd,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {}
                Err(e) => return Err(failed(e, index)),
            }
        }
        set_read_only(c"/").map_err(|e| failed(e, usize::MAX))?;
        for (index, path) in self.writable.iter().enumerate().filter(|(index, _)| clones[*index] >= 0) {
            put(clones[index], path).map_err(|e| failed(e, index))?;
        }
        Ok(())
    }

    /// What the step with this index was about.
    pub(crate) fn place(&self, index: u32) -> String {
        match self.writable.get(index as usize) {
            Some(path) => format!("all but {}", path.to_string_lossy()),
            None => "all mounts".to_owned(),
        }
    }
}

/// Whether the kernel has `mount_setattr(2)`, Linux 5.12.
pub(super) fn can_be_read_only() -> bool {
    let none = std::ptr::null::<MountAttr>();
    // SAFETY: a size of zero is refused before anything is looked at.
    let asked = unsafe { libc::syscall(libc::SYS_mount_setattr, -1, c"".as_ptr(), 0, none, 0) };
    answer(asked) != Err(Errno::NOSYS)
}

fn clone_tree(path: &CStr) -> Result<i32, Errno> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as u32;
    // SAFETY: path is a C string.
    answer(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
        .map(|fd| fd as i32)
}

fn set_read_only(path: &CStr) -> Result<(), Errno> {
    let attr = MountAttr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let (size, flags) = (size_of::<MountAttr>(), libc::AT_RECURSIVE);
    // SAFETY: path is a C string and attr a valid attribute of the size given.
    let set = unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, path.as_ptr(), flags, &raw const attr, size)
    };
    answer(set).map(drop)
}

fn put(tree: i32, path: &CStr) -> Result<(), Errno> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_SYMLINKS;
    // SAFETY: both paths are C strings.
    let moved = unsafe {
        libc::syscall(libc::SYS_move_mount, tree, c"".as_ptr(), libc::AT_FDCWD, path.as_ptr(), flags)
    };
    answer(moved)?;
    // SAFETY: opened by clone_tree and used no more.
    unsafe { libc::close(tree) };
    Ok(())
}
