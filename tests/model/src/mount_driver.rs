//! Calls as system calls on a mount, served by this very process.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path as HostPath, PathBuf};
use std::sync::Arc;

use branch_store::{Children, Options, Store, Unrecovered};
use branchfs::fuse::{self, Access, Data, MountOptions, Mounted};
use branchfs::vfs::Vfs;
use branchfs::watch::Wish;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Gid, Mode as Bits, OFlags, RenameFlags, SeekFrom, Timespec,
    Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use tempfile::TempDir;

use crate::answer::{Answer, Failure};
use crate::call::{Call, Expect, Kind, Mode, Path, Place, Space, Stamp, Whence, bytes_of, filled, letter_of};
use crate::driver::{Driver, Level};
use crate::host;
use crate::model::MAIN;
use crate::picture::{Picture, Seen};
use crate::store_driver::{failure, group_kind, mark_name, name_of, of_commit};
use crate::vfs_driver::Nobody;

/// Drives a mount.
pub struct MountDriver {
    options: Options,
    mountpoint: TempDir,
    open: Option<Served>,
    slots: BTreeMap<u8, OwnedFd>,
    /// Beside slots that are open for reading, where readers pass through.
    readers: BTreeMap<u8, Reader>,
    _quiet: Option<NoAtime>,
}

/// Where readers pass through, who has a file open for reading goes on with the bytes of before when it is changed. What
/// the model knows of is then opened for writing, which never passes, and beside it this is open: first, every other
/// time, so that it passes.
struct Reader {
    file: OwnedFd,
    before: Vec<u8>,
}

/// Readers who pass through move access times as the mount of the base says, and the model knows of none.
struct NoAtime(PathBuf);

impl NoAtime {
    fn over(base: &HostPath) -> NoAtime {
        rustix::mount::mount_bind(base, base).expect("root may mount");
        let mounted = NoAtime(base.to_owned());
        let flags = MountFlags::BIND | MountFlags::NOATIME;
        rustix::mount::mount_remount(base, flags, "").expect("remounted");
        mounted
    }
}

impl Drop for NoAtime {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).expect("unmounted");
    }
}

struct Served {
    store: Arc<Store>,
    mounted: Mounted,
}

type Outcome<T> = Result<T, Errno>;

impl MountDriver {
    /// Mounts the store of a base.
    ///
    /// # Panics
    /// If it cannot be opened or mounted.
    pub fn new(base: &HostPath) -> MountDriver {
        let options = Options { base: base.to_owned(), store: base.join(branch_store::STORE_DIR) };
        rustix::process::umask(Bits::empty());
        let mountpoint = TempDir::new().expect("a mountpoint");
        let _quiet = (data() == Data::Passthrough).then(|| NoAtime::over(base));
        let (slots, readers) = Default::default();
        let mut driver = MountDriver { options, mountpoint, open: None, slots, readers, _quiet };
        driver.open();
        driver
    }

    fn open(&mut self) {
        let opened = Unrecovered::open(self.options.clone()).and_then(Unrecovered::recover);
        let (store, _) = opened.unwrap_or_else(|error| panic!("opening the store: {error}"));
        // Of every file only what is written is the branch's, where the host allows it.
        store.borrow_from(1);
        let store = Arc::new(store);
        let vfs = Arc::new(Vfs::new(Arc::clone(&store), Box::new(Nobody)).watching(Wish::Best));
        vfs.reap_in_background().expect("a thread");
        if data() == Data::Passthrough {
            vfs.pass_from(1);
        }
        let options = MountOptions { access: Access::permitted(), data: data() };
        let mounted = fuse::mount(vfs, self.mountpoint.path(), &options).expect("a mount");
        self.open = Some(Served { store, mounted });
    }

    fn close_all(&mut self) {
        self.slots.clear();
        self.readers.clear();
        let Some(served) = self.open.take() else { return };
        served.mounted.unmount().expect("unmounted");
        served.mounted.join().expect("served to the end");
    }

    fn served(&self) -> &Served {
        self.open.as_ref().expect("mounted between calls")
    }

    fn host_path(&self, place: &Place) -> PathBuf {
        let (start, path) = match place {
            Place::In(number, path) => (self.mountpoint.path().join(name_of(*number)), path),
            Place::Under(slot, path) => {
                (format!("/proc/self/fd/{}", self.slots[slot].as_raw_fd()).into(), path)
            }
        };
        path.names().fold(start, |at, name| at.join(host::os(bytes_of(name))))
    }

    /// What is open is named by `/proc`, whose own link is to be followed; nothing else is.
    fn flags(place: &Place) -> AtFlags {
        match place {
            Place::Under(_, path) if path.0.is_empty() => AtFlags::empty(),
            _ => AtFlags::SYMLINK_NOFOLLOW,
        }
    }

    fn carry_out(&mut self, call: &Call) -> Result<Answer, Failure> {
        match call {
            Call::Fork { .. }
            | Call::Commit { .. }
            | Call::Undo
            | Call::Redo
            | Call::Abort { .. }
            | Call::Mark { .. }
            | Call::Unmark { .. }
            | Call::Checkpoint
            | Call::Reclaim => {
                return self.on_branches(call);
            }
            Call::Restore { branch, mark } => return self.restore(*branch, *mark).map(Answer::Count),
            Call::Crash => {
                self.close_all();
                self.open();
                return Ok(Answer::Done);
            }
            // The kernel forgets when it wants to: here it is made to.
            Call::Forget => {
                self.served().mounted.settle().expect("the invalidator lives");
                return Ok(Answer::Done);
            }
            _ => {}
        }
        let answer = match self.on_names(call).transpose() {
            Some(answer) => answer,
            None => match self.on_bytes(call).transpose() {
                Some(answer) => answer,
                None => self.on_attributes(call).map(|()| Answer::Done),
            },
        };
        answer.map_err(Failure::Errno)
    }

    fn on_names(&mut self, call: &Call) -> Outcome<Option<Answer>> {
        match call {
            Call::Make { place, kind, mode } => make(&self.host_path(place), *kind, *mode)?,
            Call::Link { from, to } => {
                let flags =
                    if Self::flags(from).is_empty() { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
                rustix::fs::linkat(CWD, self.host_path(from), CWD, self.host_path(to), flags)?;
            }
            Call::Unlink { place } => rustix::fs::unlinkat(CWD, self.host_path(place), AtFlags::empty())?,
            Call::Rmdir { place } => rustix::fs::unlinkat(CWD, self.host_path(place), AtFlags::REMOVEDIR)?,
            Call::Rename { from, to, mode } => {
                let flags = match mode {
                    Mode::Replace => RenameFlags::empty(),
                    Mode::NoReplace => RenameFlags::NOREPLACE,
                    Mode::Exchange => RenameFlags::EXCHANGE,
                };
                rustix::fs::renameat_with(CWD, self.host_path(from), CWD, self.host_path(to), flags)?;
            }
            Call::ReadLink { place } => {
                let target = rustix::fs::readlink(self.host_path(place), Vec::new())?;
                return Ok(Some(Answer::Bytes(target.into_bytes())));
            }
            Call::Open { slot, place, write, truncate } => {
                let path = self.host_path(place);
                let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let reads = data() == Data::Passthrough && !*write && !*truncate;
                if reads && self.is_file_in_branch(place, &path)? {
                    return self.open_both(*slot, &path, flags).map(|()| Some(Answer::Done));
                }
                let access = if *write { OFlags::RDWR } else { OFlags::RDONLY };
                let truncate = if *truncate { OFlags::TRUNC } else { OFlags::empty() };
                let fd = rustix::fs::open(path, flags | access | truncate, Bits::empty())?;
                self.slots.insert(*slot, fd);
            }
            Call::Close { slot } => drop((self.slots.remove(slot), self.readers.remove(slot))),
            Call::List { slot } => {
                let mut names = Vec::new();
                for entry in rustix::fs::Dir::read_from(&self.slots[slot])? {
                    let entry = entry?;
                    let name = entry.file_name().to_bytes();
                    if name != b"." && name != b".." {
                        names.push(letter_of(name));
                    }
                }
                names.sort();
                return Ok(Some(Answer::Names(names)));
            }
            _ => return Ok(None),
        }
        Ok(Some(Answer::Done))
    }

    /// Of main nothing can be opened for writing.
    fn is_file_in_branch(&self, place: &Place, path: &HostPath) -> Outcome<bool> {
        let stat = rustix::fs::statat(CWD, path, Self::flags(place))?;
        let main = std::fs::metadata(self.mountpoint.path().join(name_of(MAIN)));
        let main = main.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_ino >> 32 != main.ino() >> 32)
    }

    fn open_both(&mut self, slot: u8, path: &HostPath, flags: OFlags) -> Outcome<()> {
        let open = |access| rustix::fs::open(path, flags | access, Bits::empty());
        let (file, fd) = if slot.is_multiple_of(2) {
            let file = open(OFlags::RDONLY)?;
            (file, open(OFlags::RDWR)?)
        } else {
            let fd = open(OFlags::RDWR)?;
            (open(OFlags::RDONLY)?, fd)
        };
        let before = all_of(&file)?;
        self.readers.insert(slot, Reader { file, before });
        self.slots.insert(slot, fd);
        Ok(())
    }

    /// What a slot that is open for reading refuses, it refuses itself.
    fn writer(&self, slot: &u8) -> &OwnedFd {
        self.readers.get(slot).map_or(&self.slots[slot], |reader| &reader.file)
    }

    /// Every reader has the bytes of before, or those that there are now.
    fn check_readers(&self) -> Outcome<()> {
        for (slot, Reader { file, before }) in &self.readers {
            match (all_of(file), all_of(&self.slots[slot])) {
                (Ok(bytes), _) if bytes == *before => {}
                (Ok(bytes), Ok(now)) if bytes == now => {}
                // Its branch has ended.
                (Err(Errno::STALE), Err(Errno::STALE)) => {}
                (_, _) => return Err(Errno::UCLEAN),
            }
        }
        Ok(())
    }

    fn on_bytes(&mut self, call: &Call) -> Outcome<Option<Answer>> {
        let count = |n: usize| Answer::Count(n as u64);
        Ok(Some(match call {
            Call::Read { slot, offset, len } => {
                let mut bytes = vec![0; *len as usize];
                let got = rustix::io::pread(&self.slots[slot], &mut bytes[..], *offset)?;
                bytes.truncate(got);
                Answer::Bytes(bytes)
            }
            Call::Write { slot, offset, len, fill } => {
                count(rustix::io::pwrite(self.writer(slot), &filled(*fill, *len), *offset)?)
            }
            Call::Append { slot, len, fill } => {
                let file = self.writer(slot);
                let appending = rustix::fs::fcntl_getfl(file)?;
                rustix::fs::fcntl_setfl(file, appending | OFlags::APPEND)?;
                let written = rustix::io::write(file, &filled(*fill, *len));
                rustix::fs::fcntl_setfl(file, appending)?;
                count(written?)
            }
            Call::Allocate { slot, what, offset, len } => {
                let flags = match what {
                    Space::Extend => FallocateFlags::empty(),
                    Space::KeepSize => FallocateFlags::KEEP_SIZE,
                    Space::Punch => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                    Space::Zero => FallocateFlags::ZERO_RANGE,
                };
                rustix::fs::fallocate(self.writer(slot), flags, *offset, *len)?;
                Answer::Done
            }
            Call::Copy { from, offset, to, to_offset, len } => {
                let (mut offset, mut to_offset) = (*offset, *to_offset);
                let (from, to) = (&self.slots[from], self.writer(to));
                let len = *len as usize;
                count(rustix::fs::copy_file_range(from, Some(&mut offset), to, Some(&mut to_offset), len)?)
            }
            Call::Seek { slot, offset, whence } => {
                let to = match whence {
                    Whence::Data => SeekFrom::Data(*offset),
                    Whence::Hole => SeekFrom::Hole(*offset),
                };
                Answer::Count(rustix::fs::seek(&self.slots[slot], to)?)
            }
            Call::Sync { slot, data_only } => {
                let file = &self.slots[slot];
                if *data_only {
                    rustix::fs::fdatasync(file)?
                } else {
                    rustix::fs::fsync(file)?
                }
                Answer::Done
            }
            _ => return Ok(None),
        }))
    }

    fn on_attributes(&mut self, call: &Call) -> Outcome<()> {
        match call {
            Call::Truncate { place: Place::Under(slot, path), size } if path.0.is_empty() => {
                rustix::fs::ftruncate(self.writer(slot), *size)
            }
            Call::Truncate { place, size } => {
                let path = self.host_path(place);
                let file = rustix::fs::open(
                    path,
                    OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Bits::empty(),
                )?;
                rustix::fs::ftruncate(file, *size)
            }
            Call::Chmod { place, mode } => {
                rustix::fs::chmodat(CWD, self.host_path(place), Bits::from_raw_mode(*mode), AtFlags::empty())
            }
            Call::Chown { place, uid, gid } => {
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                rustix::fs::chownat(CWD, self.host_path(place), uid, gid, Self::flags(place))
            }
            Call::Times { place, atime, mtime } => {
                let times = Timestamps { last_access: timespec(*atime), last_modification: timespec(*mtime) };
                rustix::fs::utimensat(CWD, self.host_path(place), &times, Self::flags(place))
            }
            Call::SetXattr { place, name, len, fill, expect } => {
                let flags = match expect {
                    Expect::Any => XattrFlags::empty(),
                    Expect::Create => XattrFlags::CREATE,
                    Expect::Replace => XattrFlags::REPLACE,
                };
                let value = filled(*fill, *len);
                if Self::flags(place).is_empty() {
                    return rustix::fs::setxattr(self.host_path(place), *name, &value, flags);
                }
                rustix::fs::lsetxattr(self.host_path(place), *name, &value, flags)
            }
            Call::RemoveXattr { place, name } if Self::flags(place).is_empty() => {
                rustix::fs::removexattr(self.host_path(place), *name)
            }
            Call::RemoveXattr { place, name } => rustix::fs::lremovexattr(self.host_path(place), *name),
            other => unreachable!("{other:?} is done elsewhere"),
        }
    }

    /// What the daemon does for a restore, without the daemon.
    fn restore(&self, number: u32, mark: u8) -> Result<u64, Failure> {
        let Served { store, mounted } = self.served();
        let branch = match store.branch(&name_of(number)) {
            Err(branch_store::Error::NoSuchBranch(_)) => return Err(Failure::Ended),
            other => other.map_err(failure)?,
        };
        mounted.flush_branch(branch.id()).expect("flushed");
        let is_known = |id| mounted.knows(branch.id(), id);
        let done = store.restore(&branch, &mark_name(mark), &is_known).map_err(failure)?;
        done.revived.iter().for_each(|id| mounted.revived(&branch, *id));
        done.orphans.iter().for_each(|id| mounted.orphaned(&branch, *id));
        mounted.forget(&done.invalid);
        mounted.settle().expect("the invalidator lives");
        Ok(u64::from(done.saved.is_some()))
    }

    /// The same for the other verbs.
    fn on_branches(&mut self, call: &Call) -> Result<Answer, Failure> {
        let Served { store, mounted } = self.served();
        let find = |number: u32| match store.branch(&name_of(number)) {
            Err(branch_store::Error::NoSuchBranch(_)) => Err(Failure::Ended),
            other => other.map_err(failure),
        };
        match call {
            Call::Fork { parent, first, count, group } => {
                let names: Vec<String> = (*first..first + count).map(name_of).collect();
                let parent = find(*parent)?;
                mounted.flush_branch(parent.id()).expect("flushed");
                store.fork(&parent, &names, group_kind(*group)).map_err(failure)?;
            }
            Call::Commit { branch } => {
                let branch = find(*branch)?;
                mounted.flush_branch(branch.id()).expect("flushed");
                let done = store.commit(&branch).map_err(failure)?;
                mounted.forget(&done.invalid);
                mounted.forget_branches(&[branch]);
                mounted.forget_branches(&done.stale);
                mounted.settle().expect("the invalidator lives");
                return Ok(of_commit(&done));
            }
            Call::Undo | Call::Redo => {
                let done = if *call == Call::Undo { store.undo() } else { store.redo() };
                mounted.forget(&done.map_err(failure)?.invalid);
                mounted.settle().expect("the invalidator lives");
            }
            Call::Abort { branch, cascade } => {
                let children = if *cascade { Children::Cascade } else { Children::Refuse };
                let ended = store.abort(&*find(*branch)?, children).map_err(failure)?;
                mounted.forget_branches(&ended.branches);
                mounted.settle().expect("the invalidator lives");
            }
            Call::Mark { branch, mark } => {
                let branch = find(*branch)?;
                mounted.flush_branch(branch.id()).expect("flushed");
                store.mark(&branch, Some(&mark_name(*mark))).map(drop).map_err(failure)?;
            }
            Call::Unmark { branch, mark } => {
                store.unmark(&*find(*branch)?, &mark_name(*mark)).map_err(failure)?;
            }
            Call::Checkpoint => store.checkpoint().map(drop).map_err(failure)?,
            _ => store.reclaim().map_err(failure)?,
        }
        Ok(Answer::Done)
    }
}

impl Driver for MountDriver {
    fn level(&self) -> Level {
        Level::Mounted
    }

    fn call(&mut self, call: &Call) -> Answer {
        let answer = self.carry_out(call).unwrap_or_else(Answer::Failed);
        self.check_readers().map_or_else(Answer::from, |()| answer)
    }

    fn look(&mut self, branch: u32) -> Result<Picture, Answer> {
        host::look_below(&self.host_path(&Place::In(branch, Path::from("")))).map_err(answer)
    }

    fn look_at_slot(&mut self, slot: u8) -> Result<Seen, Answer> {
        let fd = &self.slots[&slot];
        let meta = File::from(fd.as_fd().try_clone_to_owned().map_err(answer)?).metadata().map_err(answer)?;
        host::of_open(fd, &meta).map_err(answer)
    }
}

impl Drop for MountDriver {
    fn drop(&mut self) {
        self.close_all();
    }
}

fn all_of(file: &OwnedFd) -> Outcome<Vec<u8>> {
    let (mut bytes, mut done) = (vec![0; 1 << 16], 0);
    loop {
        match rustix::io::pread(file, &mut bytes[done..], done as u64)? {
            0 => break,
            more => done += more,
        }
        if done == bytes.len() {
            bytes.resize(2 * done, 0);
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

fn answer(error: std::io::Error) -> Answer {
    Errno::from_io_error(&error).unwrap_or(Errno::IO).into()
}

fn make(path: &HostPath, kind: Kind, mode: u32) -> Outcome<()> {
    let bits = Bits::from_raw_mode(mode);
    let node = |kind, device| rustix::fs::mknodat(CWD, path, kind, bits, device);
    match kind {
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, bits).map(drop)
        }
        Kind::Dir => rustix::fs::mkdir(path, bits),
        Kind::Symlink(letter) => rustix::fs::symlink(host::os(&[letter]), path),
        Kind::Fifo => node(FileType::Fifo, 0),
        Kind::Socket => node(FileType::Socket, 0),
        Kind::Char(minor) => node(FileType::CharacterDevice, rustix::fs::makedev(1, u32::from(minor))),
        Kind::Block(minor) => node(FileType::BlockDevice, rustix::fs::makedev(7, u32::from(minor))),
    }
}

fn timespec(stamp: Stamp) -> Timespec {
    match stamp {
        Stamp::Omit => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        Stamp::Now => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW },
        Stamp::At(sec, nsec) => Timespec { tv_sec: sec, tv_nsec: i64::from(nsec) as _ },
    }
}

/// How file data are served: as `BRANCHFS_DATA` says.
fn data() -> Data {
    match std::env::var("BRANCHFS_DATA") {
        Ok(name) => Data::named(&name).unwrap_or_else(|| panic!("BRANCHFS_DATA={name} is no way")),
        Err(_) => Data::default(),
    }
}
