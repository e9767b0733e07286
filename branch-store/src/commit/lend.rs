//! Write permission that the owner of a directory or file lends itself for one step: what a branch made read-only
//! has to be moved to its place, and a directory that gets another parent is written to. Root never needs it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::base::stat_fd;
use crate::disk::Disk;

/// Permissions that a step may need of what it works on: to write, and to go through.
const NEEDED: u32 = 0o300;

/// Objects whose permissions are put back when this is dropped.
pub(crate) struct Lent<'a> {
    disk: &'a Disk,
    objects: Vec<(OwnedFd, u32)>,
}

impl<'a> Lent<'a> {
    pub(crate) fn new(disk: &'a Disk) -> Lent<'a> {
        Lent { disk, objects: Vec::new() }
    }

    /// A name that is about to move from or to a directory; the name itself only if it is one.
    pub(crate) fn for_name(&mut self, dir: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        self.lend(rustix::io::fcntl_dupfd_cloexec(dir, 0)?)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Ok(object) => self.lend(object),
            Err(Errno::NOTDIR | Errno::NOENT | Errno::LOOP) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Whatever a descriptor refers to, if it is ours.
    pub(crate) fn lend(&mut self, object: OwnedFd) -> Result<(), Errno> {
        let st = stat_fd(&object)?;
        let mode = u32::from(st.stx_mode) & 0o7777;
        if st.stx_uid == rustix::process::geteuid().as_raw() && mode & NEEDED != NEEDED {
            self.disk.chmod(&object, mode | NEEDED)?;
            self.objects.push((object, mode));
        }
        Ok(())
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        for (object, mode) in self.objects.drain(..).rev() {
            // What keeps its place gets its final mode in a later step, and is ours: this does not fail.
            self.disk.chmod(&object, mode).ok();
        }
    }
}

/// Opens a file of ours for writing that its mode forbids us to write to. The caller gives it its final mode.
pub(crate) fn open_for_writing(disk: &Disk, dir: impl AsFd, name: &[u8]) -> Result<File, Errno> {
    let open = |flags: OFlags| {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(dir.as_fd(), name, flags, Mode::empty())
    };
    match open(OFlags::WRONLY) {
        Err(Errno::ACCESS) => {
            let mut lent = Lent::new(disk);
            lent.lend(open(OFlags::PATH)?)?;
            open(OFlags::WRONLY).map(File::from)
        }
        other => other.map(File::from),
    }
}
