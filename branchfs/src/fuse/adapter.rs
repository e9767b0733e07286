//! The kernel's requests: decode, one call, reply.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use branch_store::SyncWhat;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, Notifier, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use rustix::io::Errno;

use super::Data;
use super::backing::{self, Backing};
use super::convert::{Changes, caller, decode_device, rename};
use super::errno::answer;
use super::invalidator::{Invalidator, Kernel as _, harmless};
use super::orders::Orders;
use super::replies;
use crate::vfs::{Attr, By, Cache, Kept, NewMode, Opened, Vfs, Whose, XattrFlags, ino};

/// Largest single write request in bytes, and with it the largest read: as much as the kernel allows.
pub(super) const REQUEST_MAX: u32 = 1 << 20;
/// Requests the kernel may have under way for readahead and asynchronous I/O.
const BACKGROUND_MAX: u16 = 64;

/// What is asked of the kernel where it has it. Not write-back caching, which would have it decide on sizes and
/// times; not locks, which it does well alone; not killing set-user-ID bits, which it then does by setattr. Not truncating in open (ATOMIC_O_TRUNC): it would ask only
/// afterwards whether the file is a running program.
///
/// ACLs are checked by the kernel (POSIX_ACL); they override the umask, so that comes with the request and is
/// applied by us (DONT_MASK). The owner of a file never causes a question for its ACL; anybody else causes one
/// for each object and cache time.
const WANTED: [InitFlags; 9] = [
    InitFlags::FUSE_POSIX_ACL,
    InitFlags::FUSE_DONT_MASK,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_AUTO_INVAL_DATA,
    InitFlags::FUSE_HAS_IOCTL_DIR,
    InitFlags::FUSE_BIG_WRITES,
];

pub(super) struct Adapter {
    vfs: Arc<Vfs>,
    data: Data,
    orders: Orders,
    kernel: Arc<OnceLock<Kernel>>,
    /// Of a mount that lets readers pass through.
    backing: Option<Arc<Backing>>,
}

/// The ways to tell the kernel something that it has not asked.
pub(super) struct Kernel {
    pub(super) direct: Notifier,
    pub(super) invalidator: Invalidator,
}

impl Adapter {
    /// `kernel` is to be set before the first request.
    pub(super) fn new(
        vfs: Arc<Vfs>,
        data: Data,
        kernel: Arc<OnceLock<Kernel>>,
        backing: Option<Arc<Backing>>,
    ) -> Adapter {
        if backing.is_some() {
            vfs.let_pass();
        }
        Adapter { orders: Orders::new(Arc::clone(&vfs)), vfs, data, kernel, backing }
    }

    /// Where a number was retired, its attributes are to be asked for again: they are not those of the object any more.
    /// This waits for no lock that is held while one of our answers is waited for: no pages, no names.
    fn unless_retired<T>(&self, ino: INodeNo, outcome: Result<T, Errno>) -> Result<T, Errno> {
        if let (Err(Errno::STALE), Some(kernel)) = (&outcome, self.kernel.get())
            && self.vfs.is_retired(ino.0)
            && let Err(error) = harmless(kernel.direct.forget_attributes(ino.0))
        {
            tracing::debug!("forgetting the attributes of a retired number: {error}");
        }
        outcome
    }

    /// The one notification that a worker sends, as it has to come before the answer: that of a directory's inode
    /// waits for none of the locks that the renaming process holds (only that of a name does).
    fn forget_listings(&self, dirs: &[u64]) {
        let Some(kernel) = self.kernel.get() else { return };
        for dir in dirs {
            if let Err(error) = kernel.direct.inval_inode(INodeNo(*dir), 0, 0) {
                tracing::debug!("forgetting the listing of a moved directory: {error}");
            }
        }
    }

    fn keep(&self, dir: INodeNo, listed: Result<Kept, Errno>) {
        if let (Ok(Kept::Shortly), Some(kernel)) = (listed, self.kernel.get()) {
            kernel.invalidator.inode_soon(dir.0);
        }
    }

    /// What was stored to a map of a file that takes no writes is no part of it, and others must not go on reading it.
    fn take_back(&self, ino: INodeNo, whose: Whose, written: &Result<u32, Errno>) {
        if let (Whose::Map, Err(Errno::ROFS | Errno::PERM), Some(kernel)) =
            (whose, written, self.kernel.get())
        {
            kernel.invalidator.inode(ino.0);
        }
    }

    fn control_write(&self, file: By, text: &[u8], reply: ReplyWrite) {
        let len = text.len() as u32;
        match self.vfs.order_by_write(file, text) {
            Ok(order) => self.orders.start(order, move |done| replies::written(reply, done.map(|_| len))),
            Err(errno) => reply.error(answer(errno)),
        }
    }
}

/// A handle is never 0.
fn by(ino: INodeNo, fh: FileHandle) -> By {
    if fh.0 == 0 { By::Inode(ino.0) } else { By::Handle(fh.0) }
}

fn unheld(attr: Attr) -> (Attr, Opened) {
    (attr, Opened { fh: 0, cache: Cache::Keep })
}

fn refused<T: std::fmt::Debug>(what: T) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("the kernel's FUSE takes at most {what:?}"))
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for flag in WANTED {
            if config.capabilities().contains(flag) {
                config.add_capabilities(flag).map_err(refused)?;
            }
        }
        config.set_max_write(REQUEST_MAX).map_err(refused)?;
        config.set_max_background(BACKGROUND_MAX).map_err(refused)?;
        self.backing.as_ref().map_or(Ok(()), |backing| backing.ask(config))
    }

    fn destroy(&mut self) {
        self.vfs.shut_down();
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        replies::found(reply, self.vfs.lookup(parent.0, name.as_bytes()));
    }

    fn forget(&self, _request: &Request, ino: INodeNo, lookups: u64) {
        self.vfs.forget(ino.0, lookups);
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        replies::attr(reply, self.vfs.attributes(ino.0));
    }

    fn setattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = Changes { mode, uid, gid, size, atime, mtime }.into();
        replies::attr(reply, self.unless_retired(ino, self.vfs.set_attributes(ino.0, &change)));
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        let target = self.vfs.read_link(ino.0);
        replies::data(reply, target.as_deref().map_err(|errno| *errno));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let (mode, rdev) = (NewMode { mode, umask }, decode_device(rdev));
        replies::entry(reply, self.vfs.make_node(parent.0, name.as_bytes(), caller(request), mode, rdev));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let mode = NewMode { mode, umask };
        replies::entry(reply, self.vfs.make_dir(parent.0, name.as_bytes(), caller(request), mode));
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        replies::empty(reply, self.vfs.unlink(parent.0, name.as_bytes()));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        replies::empty(reply, self.vfs.remove_dir(parent.0, name.as_bytes()));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let target = target.as_os_str().as_bytes();
        replies::entry(reply, self.vfs.make_symlink(parent.0, name.as_bytes(), caller(request), target));
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = ((parent.0, name.as_bytes()), (to.0, to_name.as_bytes()));
        let renamed = rename(flags).and_then(|how| self.vfs.rename(from, to, caller(request), how));
        replies::empty(reply, renamed.map(|moved| self.forget_listings(&moved)));
    }

    fn link(&self, _request: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let linked = self.vfs.link(ino.0, parent.0, name.as_bytes());
        replies::entry(reply, self.unless_retired(ino, linked));
    }

    /// After the first ENOSYS the kernel opens files by itself, and says nothing of closing them.
    fn open(&self, _request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match (self.data, &self.backing) {
            (Data::Cached, _) => reply.error(fuser::Errno::ENOSYS),
            (Data::Opened | Data::Passthrough, None) => {
                replies::opened(reply, self.vfs.open(ino.0, flags.0));
            }
            (Data::Opened | Data::Passthrough, Some(backing)) => {
                let opened = self.vfs.open_passing(ino.0, flags.0, &|file| backing.issue(&reply, file));
                backing::opened(reply, self.unless_retired(ino, opened));
            }
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (mode, name, caller) = (NewMode { mode, umask }, name.as_bytes(), caller(request));
        let created = match self.data {
            Data::Cached => self.vfs.create_unheld(parent.0, name, caller, mode, flags).map(unheld),
            Data::Opened | Data::Passthrough => self.vfs.create(parent.0, name, caller, mode, flags),
        };
        replies::created(reply, created);
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.vfs.read(by(ino, fh), offset, size, |got| replies::data(reply, got));
    }

    fn write(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if ino::is_control(ino.0) {
            return self.control_write(by(ino, fh), data, reply);
        }
        let whose = if write_flags.contains(WriteFlags::FUSE_WRITE_CACHE) { Whose::Map } else { Whose::Call };
        let written = self.vfs.write(by(ino, fh), offset, data, whose);
        self.take_back(ino, whose, &written);
        replies::written(reply, written);
    }

    /// Nothing is buffered here, so there is nothing to flush: after the first ENOSYS the kernel writes its
    /// dirty pages out at close and asks no more.
    fn flush(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.vfs.release(fh.0);
        reply.ok();
    }

    fn fsync(&self, _request: &Request, ino: INodeNo, fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let what = if datasync { SyncWhat::Data } else { SyncWhat::All };
        replies::empty(reply, self.vfs.sync_file(by(ino, fh), what));
    }

    /// Directories need no handles: after the first ENOSYS the kernel asks no more, and keeps listings as long as the
    /// directory's modification time stays.
    fn opendir(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.vfs.read_dir(ino.0, offset, &mut |item| replies::add(&mut reply, item));
        self.keep(ino, listed);
        replies::listed(reply, listed);
    }

    fn readdirplus(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let mut add = |item: crate::vfs::Item<'_>, attr: &_| replies::add_plus(&mut reply, item, attr);
        let listed = self.vfs.read_dir_plus(ino.0, offset, &mut add);
        self.keep(ino, listed);
        replies::listed_plus(reply, listed);
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        replies::empty(reply, self.vfs.sync_dir(ino.0));
    }

    fn statfs(&self, _request: &Request, ino: INodeNo, reply: ReplyStatfs) {
        replies::statfs(reply, self.vfs.statfs(ino.0));
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let set = XattrFlags::decode(flags)
            .and_then(|flags| self.vfs.set_xattr(ino.0, caller(request), name.as_bytes(), value, flags));
        replies::empty(reply, set);
    }

    fn getxattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        replies::xattr(reply, size, self.vfs.xattr(ino.0, name.as_bytes()));
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        replies::xattr(reply, size, self.vfs.xattr_names(ino.0, caller(request)));
    }

    fn removexattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        replies::empty(reply, self.vfs.remove_xattr(ino.0, name.as_bytes()));
    }

    fn access(&self, _request: &Request, ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        replies::empty(reply, self.vfs.access(ino.0));
    }

    fn ioctl(
        &self,
        request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: IoctlFlags,
        number: u32,
        _data: &[u8],
        _room: u32,
        reply: ReplyIoctl,
    ) {
        match self.vfs.order_by_ioctl(ino.0, by(ino, fh), caller(request), number) {
            Ok(order) => self.orders.start(order, move |done| replies::ioctl(reply, done)),
            Err(errno) => reply.error(answer(errno)),
        }
    }

    fn fallocate(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        replies::empty(reply, self.vfs.allocate(by(ino, fh), mode, offset, length));
    }

    fn lseek(
        &self,
        _request: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        replies::offset(reply, self.vfs.seek(by(ino, fh), offset, whence));
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((by(ino_in, fh_in), offset_in), (by(ino_out, fh_out), offset_out));
        replies::written(reply, self.vfs.copy(from, to, len));
    }
}
