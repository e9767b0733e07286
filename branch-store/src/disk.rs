//! The door to the host filesystem for everything whose order or durability matters: each namespace and
//! durability call passes here, so that a test can fail or stop it at call k. Data-path reads and writes
//! of file content do not.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// Decides the fate of each call before it reaches the host.
pub trait Gatekeeper: Send + Sync {
    /// Called with the name of the system call; an error is returned in its place, undone.
    ///
    /// # Errors
    /// Whatever the test wants the host to answer.
    fn before(&self, call: &'static str) -> Result<(), Errno>;

    /// How many of `len` bytes a copying call may move at most: a host is free to do less than it was asked for.
    fn at_most(&self, _call: &'static str, len: usize) -> usize {
        len
    }
}

/// Host calls, each passing the gatekeeper if there is one.
#[derive(Clone, Default)]
pub struct Disk {
    gatekeeper: Option<Arc<dyn Gatekeeper>>,
}

impl Disk {
    /// A disk whose calls pass `gatekeeper` first.
    pub fn guarded(gatekeeper: Arc<dyn Gatekeeper>) -> Disk {
        Disk { gatekeeper: Some(gatekeeper) }
    }

    fn pass(&self, call: &'static str) -> Result<(), Errno> {
        match &self.gatekeeper {
            Some(gatekeeper) => gatekeeper.before(call),
            None => Ok(()),
        }
    }

    fn at_most(&self, call: &'static str, len: usize) -> usize {
        match &self.gatekeeper {
            Some(gatekeeper) => gatekeeper.at_most(call, len).clamp(1, len),
            None => len,
        }
    }

    pub(crate) fn create(
        &self,
        dir: impl AsFd,
        name: &[u8],
        flags: OFlags,
        mode: u32,
    ) -> Result<File, Errno> {
        self.pass("create")?;
        let flags = flags | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode)).map(File::from)
    }

    pub(crate) fn mkdir(&self, dir: impl AsFd, name: &[u8], mode: u32) -> Result<(), Errno> {
        self.pass("mkdir")?;
        rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode))
    }

    pub(crate) fn rename(
        &self,
        from: (impl AsFd, &[u8]),
        to: (impl AsFd, &[u8]),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        self.pass("rename")?;
        rustix::fs::renameat_with(from.0, from.1, to.0, to.1, flags)
    }

    pub(crate) fn link(&self, from: (impl AsFd, &[u8]), to: (impl AsFd, &[u8])) -> Result<(), Errno> {
        self.pass("link")?;
        rustix::fs::linkat(from.0, from.1, to.0, to.1, AtFlags::empty())
    }

    pub(crate) fn symlink(&self, target: &[u8], dir: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        self.pass("symlink")?;
        rustix::fs::symlinkat(target, dir, name)
    }

    pub(crate) fn mknod(
        &self,
        dir: impl AsFd,
        name: &[u8],
        kind: crate::node::Kind,
        mode: u32,
        rdev: u64,
    ) -> Result<(), Errno> {
        self.pass("mknod")?;
        let device = rustix::fs::makedev((rdev >> 32) as u32, rdev as u32);
        rustix::fs::mknodat(dir, name, kind.file_type(), Mode::from_raw_mode(mode), device)
    }

    pub(crate) fn unlink(&self, dir: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        self.pass("unlink")?;
        rustix::fs::unlinkat(dir, name, AtFlags::empty())
    }

    /// Of whatever a descriptor refers to: fchmod(2) refuses those that only name an object.
    pub(crate) fn chmod(&self, object: &OwnedFd, mode: u32) -> Result<(), Errno> {
        self.pass("chmod")?;
        let path = format!("/proc/self/fd/{}", object.as_raw_fd());
        rustix::fs::chmod(path, Mode::from_raw_mode(mode))
    }

    /// The journal's one write per record. Short writes are the caller's to finish or undo.
    pub(crate) fn append(&self, file: &File, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        self.pass("append")?;
        rustix::io::pwrite(file, bytes, offset)
    }

    /// Makes `to` share all blocks of `source`, where the filesystem can.
    pub(crate) fn clone_file(&self, source: &File, to: &File) -> Result<(), Errno> {
        self.pass("clone")?;
        rustix::fs::ioctl_ficlone(to, source)
    }

    /// Moves both offsets by what was copied, maybe less than `len`; 0 at the end of the source.
    pub(crate) fn copy_file_range(
        &self,
        (source, from): (&File, &mut u64),
        (to, at): (&File, &mut u64),
        len: usize,
    ) -> Result<usize, Errno> {
        self.pass("copy_file_range")?;
        let len = self.at_most("copy_file_range", len);
        rustix::fs::copy_file_range(source, Some(from), to, Some(at), len)
    }

    /// Writes copied bytes, maybe not all.
    pub(crate) fn copy_write(&self, file: &File, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        self.pass("copy_write")?;
        let len = self.at_most("copy_write", bytes.len());
        rustix::io::pwrite(file, &bytes[..len], offset)
    }

    pub(crate) fn truncate(&self, file: &File, len: u64) -> Result<(), Errno> {
        self.pass("truncate")?;
        rustix::fs::ftruncate(file, len)
    }

    pub(crate) fn fdatasync(&self, file: impl AsFd) -> Result<(), Errno> {
        self.pass("fdatasync")?;
        rustix::fs::fdatasync(file)
    }

    pub(crate) fn fsync(&self, file: impl AsFd) -> Result<(), Errno> {
        self.pass("fsync")?;
        rustix::fs::fsync(file)
    }

    pub(crate) fn syncfs(&self, file: impl AsFd) -> Result<(), Errno> {
        self.pass("syncfs")?;
        rustix::fs::syncfs(file)
    }
}

/// An flock(2), released when dropped. Closing would not do: a child between fork and exec holds a copy of the
/// descriptor, and the lock with it.
pub(crate) struct Locked(OwnedFd);

impl Locked {
    /// Locks at once or not at all (EWOULDBLOCK).
    pub(crate) fn new(file: OwnedFd) -> Result<Locked, Errno> {
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Locked(file))
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing the descriptor right after is the fallback.
        rustix::fs::flock(&self.0, FlockOperation::Unlock).ok();
    }
}

/// Opens a directory below `dir` for resolving names only.
pub(crate) fn open_dir(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Opens a directory below `dir` so that it can be listed and fsynced.
pub(crate) fn open_dir_readable(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Names in a directory, without `.` and `..`.
pub(crate) fn list(dir: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let fd = open_dir_readable(dir, b".")?;
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(64 * 1024);
    let mut entries = rustix::fs::RawDir::new(fd, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Deletes everything below a directory of the store, never following a symlink.
pub(crate) fn remove_below(dir: impl AsFd) -> crate::error::Result<()> {
    for name in list(&dir)? {
        remove_tree(&dir, &name)?;
    }
    Ok(())
}

pub(crate) fn remove_tree(dir: impl AsFd, name: &[u8]) -> crate::error::Result<()> {
    let failed = |op| move |e| crate::error::Error::host(op, name, e);
    match unlink(&dir, name, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        // Linux says the first of a directory, POSIX the second; the second may also be chattr(1)'s.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(failed("remove")(e)),
    }
    let inner = open_dir_readable(&dir, name).or_else(|e| match e {
        Errno::ACCESS => {
            rustix::fs::chmodat(&dir, name, Mode::RWXU, AtFlags::empty())?;
            open_dir_readable(&dir, name)
        }
        Errno::NOTDIR => Err(Errno::PERM),
        other => Err(other),
    });
    remove_below(inner.map_err(failed("open"))?)?;
    unlink(&dir, name, AtFlags::REMOVEDIR).map_err(failed("remove directory"))
}

/// From a directory that a branch made read-only, too: it is ours to delete.
fn unlink(dir: impl AsFd, name: &[u8], flags: AtFlags) -> Result<(), Errno> {
    let removed = match rustix::fs::unlinkat(&dir, name, flags) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(&dir, ".", Mode::RWXU, AtFlags::empty())?;
            rustix::fs::unlinkat(&dir, name, flags)
        }
        other => other,
    };
    if removed == Err(Errno::NOENT) { Ok(()) } else { removed }
}
