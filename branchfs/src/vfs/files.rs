//! Open files: open, create, read, write, release, fsync, fallocate, lseek, copy_file_range.

use std::cell::RefCell;
use std::sync::Arc;

use branch_store::{Access, NewKind, OpenFile, SeekWhat, SyncWhat};
use rustix::io::Errno;

use super::birth::{self, NewMode};
use super::handles::{ControlHandle, FileHandle, Handle, Intent};
use super::{Attr, Caller, Known, Place, Vfs, errno, ino};

/// Most one copy_file_range moves: what one read(2) or write(2) can, and what the reply has room for.
const COPY_MAX: u64 = 0x7fff_f000;
const _: () = assert!(COPY_MAX <= u32::MAX as u64);

/// An open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Handle number.
    pub fh: u64,
    /// How the kernel may cache its data.
    pub cache: Cache,
}

/// What a request names an open file by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The handle that opening it gave.
    Handle(u64),
    /// Its inode number: the kernel opened it without asking, and has seen that the request is permitted.
    Inode(u64),
}

/// How the kernel may cache a file's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Keep what it has from earlier opens; changes are invalidated.
    Keep,
    /// None: every read and write comes here, whole.
    Bypass,
}

/// Where bytes to be written come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A call that hears how much was written.
    Call,
    /// Pages of a map: nobody hears of a part, so that it has to be an error.
    Map,
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Vfs {
    /// Opens a file with the flags of open(2). O_TRUNC is not ours: the kernel sets the size when it has opened.
    ///
    /// # Errors
    /// The store's.
    pub fn open(&self, ino: u64, flags: i32) -> Result<Opened, Errno> {
        let intent = intent(flags);
        match self.place(ino)? {
            Place::Node(known) => self.open_node(ino, &known, flags),
            Place::Control(branch) if branch.is_live() => {
                let fh = self.handles.insert(Handle::Control(ControlHandle { branch, intent }));
                Ok(Opened { fh, cache: Cache::Bypass })
            }
            Place::Control(_) => Err(Errno::STALE),
            Place::MountRoot => Err(Errno::ISDIR),
            Place::Link(_) => Err(Errno::LOOP),
        }
    }

    /// Makes a regular file and opens it.
    ///
    /// # Errors
    /// The store's. ESTALE if the name exists without O_EXCL: the kernel, which asked because it believed the
    /// name absent, then looks it up and opens it with the permission checks that belong to that.
    pub fn create(
        &self,
        parent: u64,
        name: &[u8],
        caller: Caller,
        mode: NewMode,
        flags: i32,
    ) -> Result<(Attr, Opened), Errno> {
        let (attr, file) = self.make_file(parent, name, caller, mode, flags)?;
        let opened = self.hand_out(attr.ino, file, intent(flags));
        Ok((attr, opened))
    }

    /// The same for a kernel that names open files by their inodes.
    ///
    /// # Errors
    /// As [`Vfs::create`].
    pub fn create_unheld(
        &self,
        parent: u64,
        name: &[u8],
        caller: Caller,
        mode: NewMode,
        flags: i32,
    ) -> Result<Attr, Errno> {
        let (attr, file) = self.make_file(parent, name, caller, mode, flags)?;
        self.kept.put(attr.ino, Arc::new(file));
        Ok(attr)
    }

    fn make_file(
        &self,
        parent: u64,
        name: &[u8],
        caller: Caller,
        mode: NewMode,
        flags: i32,
    ) -> Result<(Attr, OpenFile), Errno> {
        let dir = self.parent_of(parent, name)?;
        let new = birth::born(&dir, caller, mode, NewKind::File)?;
        let made = dir.branch.create_open(&dir.object, name, new, access(intent(flags))).map_err(errno);
        let (file, stat) = match made {
            Err(Errno::EXIST) if flags & libc::O_EXCL == 0 => return Err(Errno::STALE),
            other => other?,
        };
        let attr = self.remember_made(&dir, file.object().clone(), stat);
        self.serve(attr.ino).inspect_err(|_| self.forget(attr.ino, 1))?;
        Ok((attr, file))
    }

    /// Reads up to `size` bytes, fewer only at the end of the file, and hands them to `with`.
    pub fn read<R>(
        &self,
        file: By,
        offset: u64,
        size: u32,
        with: impl FnOnce(Result<&[u8], Errno>) -> R,
    ) -> R {
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let got = self.read_into(file, offset, &mut buffer[..size]);
            with(got.map(|len| &buffer[..len]))
        })
    }

    /// Writes all of `data`, or for a call as much as went in before an error.
    ///
    /// # Errors
    /// The store's, if nothing was written, or not all of a map's; EBADF unless opened for writing.
    pub fn write(&self, file: By, offset: u64, data: &[u8], whose: Whose) -> Result<u32, Errno> {
        self.with_file(file, Access::Write, |file| {
            let mut done = 0;
            while done < data.len() {
                match file.write_at(&data[done..], offset + done as u64).map_err(errno) {
                    Ok(0) => break,
                    Ok(len) => done += len,
                    Err(Errno::INTR) => continue,
                    Err(error) if done == 0 || whose == Whose::Map => return Err(error),
                    Err(_) => break,
                }
            }
            u32::try_from(done).map_err(|_| Errno::INVAL)
        })
    }

    /// Closes a file.
    pub fn release(&self, fh: u64) {
        let gone = self.handles.remove(fh);
        if let (Some(passing), Some(Handle::File(open))) = (self.passing.get(), gone.as_deref()) {
            passing.close(open.ino);
        }
    }

    /// Makes a file's data, and with [`SyncWhat::All`] its attributes and the names leading to it, durable.
    ///
    /// # Errors
    /// The store's.
    pub fn sync_file(&self, file: By, what: SyncWhat) -> Result<(), Errno> {
        if self.is_control(file)? {
            return Ok(());
        }
        self.with_file(file, Access::Read, |file| file.sync(what).map_err(errno))
    }

    /// fallocate(2).
    ///
    /// # Errors
    /// The store's.
    pub fn allocate(&self, file: By, mode: i32, offset: u64, len: u64) -> Result<(), Errno> {
        self.with_file(file, Access::Write, |file| file.allocate(mode, offset, len).map_err(errno))
    }

    /// Next data or hole, as lseek(2). The kernel keeps the file position and does every other seek itself.
    ///
    /// # Errors
    /// The store's; EINVAL for any other `whence`; ENXIO beyond the end.
    pub fn seek(&self, file: By, offset: i64, whence: i32) -> Result<i64, Errno> {
        let what = match whence {
            libc::SEEK_DATA => SeekWhat::Data,
            libc::SEEK_HOLE => SeekWhat::Hole,
            _ => return Err(Errno::INVAL),
        };
        let offset = u64::try_from(offset).map_err(|_| Errno::NXIO)?;
        let found = self.with_file(file, Access::Read, |file| file.seek(offset, what).map_err(errno))?;
        i64::try_from(found).map_err(|_| Errno::OVERFLOW)
    }

    /// Copies between two open files, also of different branches.
    ///
    /// # Errors
    /// The store's.
    pub fn copy(&self, from: (By, u64), to: (By, u64), len: u64) -> Result<u32, Errno> {
        let len = len.min(COPY_MAX);
        let copied = self.with_file(from.0, Access::Read, |source| {
            self.with_file(to.0, Access::Write, |target| {
                target.copy_from(to.1, source, from.1, len).map_err(errno)
            })
        })?;
        u32::try_from(copied).map_err(|_| Errno::OVERFLOW)
    }

    fn open_node(&self, ino: u64, known: &Known, flags: i32) -> Result<Opened, Errno> {
        let intent = intent(flags);
        let file = known.branch.open(&known.object, access(intent)).map_err(errno)?;
        Ok(self.hand_out(ino, file, intent))
    }

    pub(super) fn hand_out(&self, ino: u64, file: OpenFile, intent: Intent) -> Opened {
        let fh = self.handles.insert(Handle::File(FileHandle { ino, file, intent }));
        Opened { fh, cache: Cache::Keep }
    }

    fn read_into(&self, file: By, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        if self.is_control(file)? {
            return Ok(0);
        }
        self.with_file(file, Access::Read, |file| read_fully(file, offset, buffer))
    }

    fn is_control(&self, file: By) -> Result<bool, Errno> {
        match file {
            By::Handle(fh) => {
                let handle = self.handles.get(fh).ok_or(Errno::BADF)?;
                Ok(matches!(&*handle, Handle::Control(_)))
            }
            By::Inode(ino) => Ok(ino::is_control(ino)),
        }
    }

    /// Of a file that has a handle, `access` is what the handle was opened for.
    fn with_file<R>(
        &self,
        file: By,
        access: Access,
        mut act: impl FnMut(&OpenFile) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        match file {
            By::Handle(fh) => match &*self.handles.get(fh).ok_or(Errno::BADF)? {
                Handle::File(open) => act(&open.file),
                Handle::Control(_) => Err(Errno::BADF),
            },
            By::Inode(ino) => {
                let known = self.node(ino, Errno::BADF)?;
                match act(&*self.kept_open(ino, &known, access)?) {
                    // The host gives back what it has reserved behind the ends of other files when they are closed.
                    Err(Errno::DQUOT) => {
                        self.kept.let_go(known.branch.id());
                        act(&*self.kept_open(ino, &known, access)?)
                    }
                    done => done,
                }
            }
        }
    }

    /// The file, open for at least that. One that is kept for reading reads on even when it has lost its place in the base.
    fn kept_open(&self, ino: u64, known: &Known, access: Access) -> Result<Arc<OpenFile>, Errno> {
        let fits = |file: &Arc<OpenFile>| {
            (access == Access::Read || file.access() == Access::Write) && *file.object() == known.object
        };
        if let Some(file) = self.kept.get(ino).filter(fits) {
            return Ok(file);
        }
        let file = Arc::new(known.branch.open(&known.object, access).map_err(errno)?);
        self.kept.put(ino, Arc::clone(&file));
        Ok(file)
    }
}

fn read_fully(file: &OpenFile, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64).map_err(errno) {
            Ok(0) => break,
            Ok(len) => done += len,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

pub(super) fn intent(flags: i32) -> Intent {
    match flags & libc::O_ACCMODE {
        libc::O_RDONLY => Intent::Read,
        _ => Intent::Write,
    }
}

pub(super) fn access(intent: Intent) -> Access {
    match intent {
        Intent::Read => Access::Read,
        Intent::Write => Access::Write,
    }
}
