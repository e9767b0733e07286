//! System calls in the short form that the tests want them.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

pub(crate) fn rename_with(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), Errno> {
    renameat_with(CWD, from, CWD, to, flags)
}

/// Makes a FIFO, socket, device or regular file.
pub(crate) fn mknod(path: &Path, kind: FileType, mode: u32, device: u64) -> Result<(), Errno> {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(mode), device)
}

/// Runs `act` on a thread that has a umask and a current directory of its own: this one.
pub(crate) fn inside<T: Send>(dir: &Path, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = move || {
            // SAFETY: from here on this thread shares umask and directory with no other.
            unsafe { assert_eq!(libc::unshare(libc::CLONE_FS), 0) };
            rustix::process::chdir(dir).unwrap();
            act()
        };
        scope.spawn(run).join().unwrap()
    })
}

/// As [`inside`], with this user's identity: the calls change that of one thread only. Paths must be relative, as
/// the way to the store is not open to everybody.
pub(crate) fn as_user<T: Send>(dir: &Path, uid: u32, gid: u32, act: impl FnOnce() -> T + Send) -> T {
    inside(dir, move || {
        // SAFETY: these change the credentials of this thread, which ends here.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()), 0);
            assert_eq!(libc::syscall(libc::SYS_setresgid, gid, gid, gid), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, uid, uid, uid), 0);
        }
        act()
    })
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) ino: u64,
    pub(crate) kind: FileType,
}

/// A directory as getdents64(2) lists it, dots included.
pub(crate) fn listing(path: &Path) -> Result<Vec<Entry>, Errno> {
    let dir = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = Vec::with_capacity(64 << 10);
    let mut raw = rustix::fs::RawDir::new(dir, buffer.spare_capacity_mut());
    let mut found = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry?;
        found.push(Entry {
            name: entry.file_name().to_bytes().to_vec(),
            ino: entry.ino(),
            kind: entry.file_type(),
        });
    }
    Ok(found)
}

/// Another process: a script that has `path` as its argument, to be talked to.
pub(crate) fn python(script: &str, path: &Path) -> Child {
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
    python.spawn().unwrap()
}

/// Longest handle, in bytes.
const HANDLE_MAX: usize = 128;

/// name_to_handle_at(2)'s answer, which is of variable length: a header, and the handle behind it.
#[repr(C)]
pub(crate) struct Handle {
    header: libc::file_handle,
    bytes: [u8; HANDLE_MAX],
}

pub(crate) fn handle_of(path: &Path) -> std::io::Result<Handle> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: all zeros is a valid handle of no length.
    let mut handle: Handle = unsafe { std::mem::zeroed() };
    handle.header.handle_bytes = HANDLE_MAX as u32;
    let (at, mut mount) = (&raw mut handle, 0);
    // SAFETY: behind the header there is as much room as it says.
    match unsafe { libc::name_to_handle_at(libc::AT_FDCWD, path.as_ptr(), at.cast(), &mut mount, 0) } {
        0 => Ok(handle),
        _ => Err(std::io::Error::last_os_error()),
    }
}

pub(crate) fn open_handle(mount: &File, handle: &Handle) -> std::io::Result<File> {
    let (mount, handle) = (mount.as_raw_fd(), (&raw const *handle).cast_mut());
    // SAFETY: the kernel reads the handle, which lives through the call, and writes nothing.
    match unsafe { libc::open_by_handle_at(mount, handle.cast(), libc::O_RDONLY | libc::O_CLOEXEC) } {
        -1 => Err(std::io::Error::last_os_error()),
        // SAFETY: the descriptor is new and nobody else's.
        fd => Ok(unsafe { File::from_raw_fd(fd) }),
    }
}

/// A mapping of the first bytes of a file.
pub(crate) struct Map {
    at: *mut u8,
    len: usize,
}

impl Map {
    /// Stores go to the file.
    pub(crate) fn shared(file: &File, len: usize) -> Map {
        Map::new(file, len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED)
    }

    /// Stores stay here.
    pub(crate) fn private(file: &File, len: usize) -> Map {
        Map::new(file, len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE)
    }

    /// For a file that is open only for reading.
    pub(crate) fn read_only(file: &File, len: usize) -> Map {
        Map::new(file, len, libc::PROT_READ, libc::MAP_SHARED)
    }

    fn new(file: &File, len: usize, protection: i32, flags: i32) -> Map {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, file.as_raw_fd(), 0) };
        assert_ne!(at, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Map { at: at.cast(), len }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is `len` bytes and lives as long as `self`, which nobody else refers to meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }

    /// A byte as it is now, whoever stored it.
    pub(crate) fn byte(&self, at: usize) -> u8 {
        assert!(at < self.len);
        // SAFETY: within the mapping, which other processes may store to at any time.
        unsafe { self.at.add(at).read_volatile() }
    }

    pub(crate) fn sync(&self) -> std::io::Result<()> {
        // SAFETY: the range is the mapping's own.
        match unsafe { libc::msync(self.at.cast(), self.len, libc::MS_SYNC) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping's own, and nobody refers to it any more.
        assert_eq!(unsafe { libc::munmap(self.at.cast(), self.len) }, 0);
    }
}
