//! The thread that has the kernel list directories before somebody asks for their names (`crate::vfs::Ahead` says which).
//!
//! It reads them through the mount, as anybody would: only an answer to a listing can give the kernel names that it has not
//! asked for. It is a thread of the process that answers, so:
//!
//! - No request waits for it, and it takes no lock while it waits for an answer.
//! - It has descriptors of its own. Otherwise, were the process killed while the thread waits for an answer, the thread would
//!   keep the FUSE device open, and with it the connection from whose end alone it would hear that there is none.
//! - It holds nothing that closes descriptors when it is dropped, as these would be others' here.
//! - Of what it opened in the mount nothing is open once [`Ahead::end`] has returned, so that it can be unmounted.
//! - It follows no symbolic links, so that nobody can lead it out of the mount; what it opened it reads only if it is what was meant.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, fstat, minor, openat2, seek};

use crate::vfs::{Ahead, Part, Route, Wanted};

/// Room for one answer: some 350 names with their attributes.
const ANSWER: usize = 64 << 10;
/// Names read for one wish.
const NAMES_MAX: usize = 10_000;
/// No entry has this offset (`crate::vfs` hashes names to offsets of 62 bits, the dots have 0 and 1). Where the kernel keeps a listing it would
/// not ask for it again, but it keeps nothing that goes on here.
const NOWHERE: u64 = 3;

/// Starts the thread. It ends by [`Ahead::end`].
///
/// # Errors
/// No thread to be had.
pub(super) fn start(ahead: Arc<Ahead>, mountpoint: &Path, device: u32) -> io::Result<()> {
    let mountpoint = mountpoint.to_owned();
    let run = move || match own_descriptors() {
        Ok(()) => serve(&Lister { ahead, mountpoint, device }),
        Err(error) => tracing::warn!("names are not fetched ahead: {error}"),
    };
    thread::Builder::new().name("branchfs-ahead".into()).spawn(run).map(drop)
}

/// This thread's alone from here on: standard streams, and what it opens itself.
fn own_descriptors() -> io::Result<()> {
    let first: libc::c_uint = 3;
    // SAFETY: no pointers; this thread owns nothing that refers to a descriptor.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

struct Lister {
    ahead: Arc<Ahead>,
    mountpoint: PathBuf,
    /// Minor number of the mount's device.
    device: u32,
}

/// A directory in one that was listed.
struct Subdirectory {
    name: Vec<u8>,
    ino: u64,
}

fn serve(lister: &Lister) {
    while let Some(wanted) = lister.ahead.next() {
        // What ended or moved meanwhile, or may not be read, is left to who asks for it.
        if let Err(error) = lister.fulfil(&wanted) {
            tracing::trace!("{wanted:?}: {error}");
        }
    }
}

impl Lister {
    fn fulfil(&self, wanted: &Wanted) -> io::Result<()> {
        match wanted {
            Wanted::Names(dir, part) => {
                let offset = match part {
                    Part::First => NOWHERE,
                    Part::From(offset) => *offset,
                };
                let listed = self.list(dir, offset, &mut |_| Go::ToTheNextAnswer);
                self.ahead.tried(dir.dir);
                listed
            }
            Wanted::Following { above, after, count, height } => {
                let mut left = NAMES_MAX;
                let mut below = self.directories(above, &mut left)?;
                below.retain(|sub| sub.name > *after);
                below.truncate(*count);
                below.iter().try_for_each(|sub| self.descend(&within(above, sub), *height, &mut left))
            }
        }
    }

    /// Lists a directory and those below it, so deep.
    fn descend(&self, dir: &Route, height: u32, left: &mut usize) -> io::Result<()> {
        if *left == 0 || self.ahead.is_over() {
            return Ok(());
        }
        if height > 0 {
            let below = self.directories(dir, left)?;
            return below.iter().try_for_each(|sub| self.descend(&within(dir, sub), height - 1, left));
        }
        if self.ahead.is_untold(dir.dir) {
            self.list(dir, 0, &mut |_| {
                *left = left.saturating_sub(1);
                Go::ToTheNextAnswer
            })?;
        }
        Ok(())
    }

    /// The directories in a directory, by name.
    fn directories(&self, dir: &Route, left: &mut usize) -> io::Result<Vec<Subdirectory>> {
        let mut found = Vec::new();
        self.list(dir, 0, &mut |entry| {
            let name = entry.file_name().to_bytes();
            if entry.file_type() == FileType::Directory && name != b"." && name != b".." {
                found.push(Subdirectory { name: name.to_vec(), ino: entry.ino() });
            }
            *left = left.saturating_sub(1);
            if *left == 0 { Go::ToTheNextAnswer } else { Go::On }
        })?;
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Reads from the offset on as long as `each` says.
    fn list(
        &self,
        dir: &Route,
        offset: u64,
        each: &mut dyn FnMut(&rustix::fs::RawDirEntry<'_>) -> Go,
    ) -> io::Result<()> {
        let Some(fd) = self.open(dir)? else { return Ok(()) };
        if offset > 0 {
            seek(&fd, SeekFrom::Start(offset))?;
        }
        let mut room = Vec::with_capacity(ANSWER);
        let mut entries = RawDir::new(fd, room.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let go = each(&entry?);
            if entries.is_buffer_empty() && go == Go::ToTheNextAnswer {
                break;
            }
        }
        Ok(())
    }

    /// The directory, if it is still there.
    fn open(&self, dir: &Route) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inside = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = openat2(CWD, self.mountpoint.join(&dir.path), flags, Mode::empty(), inside)?;
        let found = fstat(&fd)?;
        Ok((found.st_ino == dir.dir && minor(found.st_dev) == self.device).then_some(fd))
    }
}

/// How far a directory is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Go {
    /// To the end.
    On,
    /// To the end of what the kernel has got in one answer.
    ToTheNextAnswer,
}

fn within(dir: &Route, sub: &Subdirectory) -> Route {
    use std::os::unix::ffi::OsStrExt;
    Route { dir: sub.ino, path: dir.path.join(std::ffi::OsStr::from_bytes(&sub.name)) }
}
