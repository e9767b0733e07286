//! The door to the host filesystem for everything whose order or durability matters: each namespace and
//! durability call passes here, so that a test can fail or stop it at call k. Data-path reads and writes
//! of file content do not.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::gatekeeper::{Call, Entry, Gatekeeper};

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

    /// Whether somebody counts the calls, or may stop one.
    pub(crate) fn is_guarded(&self) -> bool {
        self.gatekeeper.is_some()
    }

    fn pass<T>(&self, call: Call<'_>, act: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        crate::asked::note(call.name());
        let Some(gatekeeper) = &self.gatekeeper else { return act() };
        gatekeeper.before_call(&call)?;
        let done = act();
        if done.is_ok() {
            gatekeeper.after_call(&call);
        }
        done
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
        let flags = flags | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        self.pass(make("create", dir.as_fd(), name), || {
            rustix::fs::openat(dir.as_fd(), name, flags, Mode::from_raw_mode(mode)).map(File::from)
        })
    }

    pub(crate) fn mkdir(&self, dir: impl AsFd, name: &[u8], mode: u32) -> Result<(), Errno> {
        self.pass(make("mkdir", dir.as_fd(), name), || {
            rustix::fs::mkdirat(dir.as_fd(), name, Mode::from_raw_mode(mode))
        })
    }

    pub(crate) fn rename(
        &self,
        from: (impl AsFd, &[u8]),
        to: (impl AsFd, &[u8]),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let call = Call::Rename { from: entry(&from), to: entry(&to), exchange };
        self.pass(call, || rustix::fs::renameat_with(&from.0, from.1, &to.0, to.1, flags))
    }

    pub(crate) fn link(&self, from: (impl AsFd, &[u8]), to: (impl AsFd, &[u8])) -> Result<(), Errno> {
        let call = Call::Link { from: entry(&from), to: entry(&to) };
        self.pass(call, || rustix::fs::linkat(&from.0, from.1, &to.0, to.1, AtFlags::empty()))
    }

    pub(crate) fn symlink(&self, target: &[u8], dir: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        self.pass(make("symlink", dir.as_fd(), name), || rustix::fs::symlinkat(target, dir.as_fd(), name))
    }

    pub(crate) fn mknod(
        &self,
        dir: impl AsFd,
        name: &[u8],
        kind: crate::node::Kind,
        mode: u32,
        rdev: u64,
    ) -> Result<(), Errno> {
        let device = rustix::fs::makedev((rdev >> 32) as u32, rdev as u32);
        self.pass(make("mknod", dir.as_fd(), name), || {
            rustix::fs::mknodat(dir.as_fd(), name, kind.file_type(), Mode::from_raw_mode(mode), device)
        })
    }

    pub(crate) fn unlink(&self, dir: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        self.remove(dir, name, AtFlags::empty())
    }

    /// unlinkat(2) with its flags.
    pub(crate) fn remove(&self, dir: impl AsFd, name: &[u8], flags: AtFlags) -> Result<(), Errno> {
        let call = if flags.contains(AtFlags::REMOVEDIR) { "rmdir" } else { "unlink" };
        let at = Entry { dir: dir.as_fd(), name };
        self.pass(Call::Remove { name: call, at }, || rustix::fs::unlinkat(dir.as_fd(), name, flags))
    }

    /// Of whatever a descriptor refers to: fchmod(2) refuses those that only name an object.
    pub(crate) fn chmod(&self, object: &OwnedFd, mode: u32) -> Result<(), Errno> {
        let path = format!("/proc/self/fd/{}", object.as_raw_fd());
        self.pass(change("chmod", object), || rustix::fs::chmod(path, Mode::from_raw_mode(mode)))
    }

    /// Owner, mode, times and extended attributes of an object in `dir` are about to be set.
    pub(crate) fn set_meta(&self, dir: impl AsFd) -> Result<(), Errno> {
        self.pass(change("set_meta", &dir), || Ok(()))
    }

    /// The journal's one write per record. Short writes are the caller's to finish or undo.
    pub(crate) fn append(&self, file: &File, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        self.pass(change("append", file), || {
            let len = self.at_most("append", bytes.len());
            rustix::io::pwrite(file, &bytes[..len], offset)
        })
    }

    /// Makes `to` share all blocks of `source`, where the filesystem can.
    pub(crate) fn clone_file(&self, source: &File, to: &File) -> Result<(), Errno> {
        self.pass(change("clone", to), || rustix::fs::ioctl_ficlone(to, source))
    }

    /// Moves both offsets by what was copied, maybe less than `len`; 0 at the end of the source.
    pub(crate) fn copy_file_range(
        &self,
        (source, from): (&File, &mut u64),
        (to, at): (&File, &mut u64),
        len: usize,
    ) -> Result<usize, Errno> {
        self.pass(change("copy_file_range", to), || {
            let len = self.at_most("copy_file_range", len);
            rustix::fs::copy_file_range(source, Some(from), to, Some(at), len)
        })
    }

    /// Writes copied bytes, maybe not all.
    pub(crate) fn copy_write(&self, file: &File, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        self.pass(change("copy_write", file), || {
            let len = self.at_most("copy_write", bytes.len());
            rustix::io::pwrite(file, &bytes[..len], offset)
        })
    }

    /// Writes copied bytes, whole blocks: the host writes each of them whole or not at all.
    pub(crate) fn fill(&self, file: &File, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        self.pass(change("fill", file), || rustix::io::pwrite(file, bytes, offset))
    }

    pub(crate) fn truncate(&self, file: &File, len: u64) -> Result<(), Errno> {
        self.pass(change("truncate", file), || rustix::fs::ftruncate(file, len))
    }

    pub(crate) fn fdatasync(&self, file: impl AsFd) -> Result<(), Errno> {
        let call = Call::Sync { name: "fdatasync", of: file.as_fd() };
        self.pass(call, || rustix::fs::fdatasync(file.as_fd()))
    }

    pub(crate) fn fsync(&self, file: impl AsFd) -> Result<(), Errno> {
        let call = Call::Sync { name: "fsync", of: file.as_fd() };
        self.pass(call, || rustix::fs::fsync(file.as_fd()))
    }

    pub(crate) fn syncfs(&self, file: impl AsFd) -> Result<(), Errno> {
        self.pass(Call::SyncAll { of: file.as_fd() }, || rustix::fs::syncfs(file.as_fd()))
    }
}

fn entry<'a>(at: &'a (impl AsFd, &'a [u8])) -> Entry<'a> {
    Entry { dir: at.0.as_fd(), name: at.1 }
}

fn make<'a>(name: &'static str, dir: BorrowedFd<'a>, entry: &'a [u8]) -> Call<'a> {
    Call::Make { name, at: Entry { dir, name: entry } }
}

fn change<'a>(name: &'static str, of: &'a impl AsFd) -> Call<'a> {
    Call::Change { name, of: of.as_fd() }
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

/// Names in a directory, without `.` and `..`; one that somebody has deleted has none.
pub(crate) fn list(dir: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    match names_in(dir) {
        Err(Errno::NOENT) => Ok(Vec::new()),
        listed => listed,
    }
}

fn names_in(dir: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_somebody_has_deleted_has_no_names() {
        let dir = tempfile::TempDir::new().unwrap();
        let open = open_dir_readable(rustix::fs::CWD, dir.path().as_os_str().as_encoded_bytes()).unwrap();
        std::fs::write(dir.path().join("a"), "").unwrap();
        assert_eq!(list(&open), Ok(vec![b"a".to_vec()]));
        dir.close().unwrap();
        assert_eq!(list(&open), Ok(Vec::new()));
        assert_eq!(crate::measuring::bytes_below(&open).unwrap(), 0);
    }
}
