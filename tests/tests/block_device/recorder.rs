//! The disk that remembers: a FUSE file system that is one file, and writes down every write, discard and flush
//! before it answers. A loop device on it turns REQ_FLUSH and FUA into fsync.
//!
//! It is a process of its own and does nothing else, so that it depends on nobody who waits for the disk: it never
//! touches the loop device, keeps image and log in memory, and must not reclaim memory by writing to a disk.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, INodeNo, KernelConfig, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyOpen, ReplyWrite, Request as Asked, Session,
    SessionACL, WriteFlags,
};
use rustix::process::Signal;

use crate::image::Image;
use crate::log::Request;

/// Tells the test's own program to be the recorder: paths of the image to begin with and of the log.
pub(crate) const IMAGE: &str = "BRANCHFS_TEST_RECORDER_IMAGE";
pub(crate) const LOG: &str = "BRANCHFS_TEST_RECORDER_LOG";

/// If this process was started as a recorder: serves the FUSE device on standard input until it is unmounted.
pub(crate) fn serve_if_asked() -> bool {
    let (Some(image), Some(log)) = (std::env::var_os(IMAGE), std::env::var_os(LOG)) else { return false };
    // Without a server the requests fail, so nothing hangs when the test has died.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    match rustix::process::configure_io_flusher_behavior(true) {
        // In a container even root may lack CAP_SYS_RESOURCE; it matters only when memory runs out.
        Ok(()) | Err(rustix::io::Errno::PERM) => {}
        Err(errno) => panic!("PR_SET_IO_FLUSHER: {errno}"),
    }
    let log = File::options().append(true).open(log).unwrap();
    let disk = Disk { image: Image::load(Path::new(&image)), log };
    let device = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let session = Session::from_fd(Recorder(Mutex::new(disk)), device, SessionACL::All, Config::default());
    match session.and_then(Session::run) {
        // The release of the file was still on its way when the mount ended: nobody waits for its answer.
        Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => {}
        ended => ended.unwrap(),
    }
    true
}

struct Disk {
    image: Image,
    log: File,
}

struct Recorder(Mutex<Disk>);

impl Recorder {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }
}

impl Disk {
    /// Written down first: what the host has an answer to is in the log.
    fn take(&mut self, request: Request) -> Result<(), Errno> {
        request.append(&mut self.log).map_err(Errno::from)?;
        match request {
            Request::Write { offset, bytes } => self.image.write(offset, &bytes),
            Request::Zero { offset, len } => self.image.zero(offset, len),
            Request::Flush => {}
        }
        Ok(())
    }
}

impl Filesystem for Recorder {
    fn init(&mut self, _: &Asked, config: &mut KernelConfig) -> std::io::Result<()> {
        // As much as the kernel offers: a request to the disk arrives as one.
        config
            .set_max_write(1 << 20)
            .map(drop)
            .map_err(|most| std::io::Error::other(format!("at most {most}")))
    }

    fn getattr(&self, _: &Asked, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let size = self.disk().image.size();
        let attr = FileAttr {
            ino,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::RegularFile,
            perm: 0o600,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        };
        reply.attr(&Duration::from_secs(3600), &attr);
    }

    /// Past the page cache, which would hold writes back and merge them.
    fn open(&self, _: &Asked, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Asked,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        reply.data(&self.disk().image.read(offset, size as usize));
    }

    fn write(
        &self,
        _: &Asked,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk().take(Request::Write { offset, bytes: data.to_vec() }) {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    /// The loop device asks for holes and for zeros, never for room.
    fn fallocate(
        &self,
        _: &Asked,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let zeros = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE;
        if mode & zeros == 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        answer(self.disk().take(Request::Zero { offset, len }), reply);
    }

    fn fsync(&self, _: &Asked, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.disk().take(Request::Flush), reply);
    }

    /// close(2) of a descriptor: no barrier of the disk's.
    fn flush(&self, _: &Asked, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}

fn answer(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}
