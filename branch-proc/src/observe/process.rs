//! A process of the group, seen from outside: its memory, its descriptors, and what a path means to it.

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Longest path the kernel takes, with its NUL (`PATH_MAX`).
const PATH_MAX: usize = 4096;
/// Pages are read one by one: the text may end just before one that is not there.
const PAGE: usize = 4096;
/// How many links of `/proc` are followed one after the other.
const LINKS_MAX: usize = 8;

/// A process that waits for an answer.
pub(crate) struct Process {
    pid: u32,
    /// Of the group's init.
    init: i32,
    root: Option<OwnedFd>,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// This, of this kind; its path as the process itself would find it without links.
    There(PathBuf, FileType),
    /// Nothing, in a directory that is there.
    Free(PathBuf),
    /// Neither, or it cannot be told.
    Nowhere,
}

impl Process {
    /// `root` is its root directory, if that is known already.
    pub(crate) fn new(pid: u32, init: i32, root: Option<OwnedFd>) -> Process {
        Process { pid, init, root }
    }

    pub(crate) fn into_root(self) -> Option<OwnedFd> {
        self.root
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The init of its group, in our pid namespace.
    pub(crate) fn init(&self) -> i32 {
        self.init
    }

    /// Its numbers, from our pid namespace down to its own.
    pub(crate) fn numbers(&self) -> Vec<i32> {
        let status = fs::read_to_string(self.file("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        line.split_whitespace().filter_map(|number| number.parse().ok()).collect()
    }

    /// The pid behind one of its pidfds, in our pid namespace; -1 if that process is gone.
    pub(crate) fn pid_behind(&self, fd: i32) -> Option<i32> {
        let text = fs::read_to_string(self.file(&format!("fdinfo/{fd}"))).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
    }

    /// The local sockets of its network, as `/proc/net/unix` shows them.
    pub(crate) fn table_of_sockets(&self) -> String {
        fs::read_to_string(self.file("net/unix")).unwrap_or_default()
    }

    /// Whether it is in another network than we are.
    pub(crate) fn has_own_network(&self) -> bool {
        let (its, ours) = (fs::read_link(self.file("ns/net")), fs::read_link("/proc/self/ns/net"));
        its.is_ok_and(|its| ours.is_ok_and(|ours| its != ours))
    }

    /// A path in its memory as it stands there, made absolute by one of its directories.
    pub(crate) fn named(&self, dir: i32, text: u64) -> Option<PathBuf> {
        self.absolute(dir, &self.text(text)?)
    }

    /// The name of the program it runs.
    pub(crate) fn program(&self) -> String {
        match self.link("exe") {
            Some(path) => path.to_string_lossy().into_owned(),
            None => fs::read_to_string(self.file("comm")).unwrap_or_default().trim_end().to_owned(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }

    /// Where one of its links in `/proc` leads, if that is a path.
    pub(crate) fn link(&self, name: &str) -> Option<PathBuf> {
        fs::read_link(self.file(name)).ok().filter(|path| path.is_absolute())
    }

    /// Whether one of its descriptors is of a file on a read-only mount.
    pub(crate) fn is_read_only(&self, fd: i32) -> bool {
        let mount = rustix::fs::statvfs(self.file(&format!("fd/{fd}")));
        mount.is_ok_and(|mount| mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
    }

    /// Bytes of its memory: as many as there are from there on, at most `length`.
    pub(crate) fn memory(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0u8; length];
        let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: length };
        let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: length };
        let pid = self.pid as libc::pid_t;
        // SAFETY: local is a valid place of that length; the remote side is checked by the kernel.
        let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
        bytes.truncate(usize::try_from(read).unwrap_or(0));
        bytes
    }

    /// A C string of its memory.
    fn text(&self, address: u64) -> Option<PathBuf> {
        let mut text = Vec::new();
        while text.len() < PATH_MAX {
            let from = address.checked_add(text.len() as u64)?;
            let piece = self.memory(from, PAGE - (from as usize % PAGE));
            if piece.is_empty() {
                return None;
            }
            if let Some(end) = piece.iter().position(|&byte| byte == 0) {
                text.extend_from_slice(&piece[..end]);
                return Some(OsString::from_vec(text).into());
            }
            text.extend_from_slice(&piece);
        }
        None
    }

    /// What a path in its memory leads to, relative to one of its directories.
    pub(crate) fn find(&mut self, dir: i32, text: u64, follow: bool) -> Found {
        match self.text(text) {
            // An empty path means the descriptor itself, or nothing.
            Some(path) if path.as_os_str().is_empty() => Found::Nowhere,
            Some(path) => self.find_path(dir, &path, follow),
            None => Found::Nowhere,
        }
    }

    /// What a path leads to, relative to one of its directories.
    pub(crate) fn find_path(&mut self, dir: i32, path: &Path, follow: bool) -> Found {
        let Some(mut path) = self.absolute(dir, path) else { return Found::Nowhere };
        for _ in 0..LINKS_MAX {
            match self.own_link(&path, follow) {
                Some(Some(led)) => path = led,
                // A pipe or the like: in no file system.
                Some(None) => return Found::Nowhere,
                None => break,
            }
        }
        match self.open(&path, follow) {
            Ok(found) => found,
            Err(Errno::NOENT) => self.free(&path),
            Err(_) => Found::Nowhere,
        }
    }

    fn absolute(&self, dir: i32, path: &Path) -> Option<PathBuf> {
        if path.is_absolute() {
            return Some(path.to_owned());
        }
        let start = if dir == libc::AT_FDCWD { self.link("cwd")? } else { self.link(&format!("fd/{dir}"))? };
        Some(start.join(path))
    }

    /// Links in `/proc/self` that are no text, and so cannot be followed by another process: where one leads
    /// (Some(None): to no path). None: there is none in it.
    fn own_link(&self, path: &Path, follow: bool) -> Option<Option<PathBuf>> {
        let text = path.as_os_str().as_bytes();
        let own = |rest: &str, tail: &Path| {
            let led = self.link(rest);
            Some(led.map(|led| if tail.as_os_str().is_empty() { led } else { led.join(tail) }))
        };
        for (name, number) in [("/dev/stdin", 0), ("/dev/stdout", 1), ("/dev/stderr", 2)] {
            if text == name.as_bytes() && follow {
                return own(&format!("fd/{number}"), Path::new(""));
            }
        }
        let rest =
            ["/proc/self", "/proc/thread-self"].into_iter().find_map(|own| path.strip_prefix(own).ok());
        let fds = path.strip_prefix("/dev/fd").ok().map(|rest| Path::new("fd").join(rest));
        let rest = match (rest, fds) {
            (Some(rest), _) => rest.to_owned(),
            (None, Some(fds)) => fds,
            (None, None) => return None,
        };
        let mut parts = rest.components();
        let is_last = |parts: &std::path::Components<'_>| parts.as_path().as_os_str().is_empty();
        let first = parts.next()?.as_os_str().to_str()?.to_owned();
        let name = match first.as_str() {
            "root" | "cwd" | "exe" => first,
            "fd" => format!("fd/{}", parts.next()?.as_os_str().to_str()?),
            _ => return None,
        };
        if is_last(&parts) && !follow {
            return None;
        }
        own(&name, parts.as_path())
    }

    /// Opens it as the process would, its own root and mounts included, without touching it.
    fn open(&mut self, path: &Path, follow: bool) -> Result<Found, Errno> {
        let path = self.with_own_pid(path);
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        if !follow {
            flags |= OFlags::NOFOLLOW;
        }
        let fd = rustix::fs::openat2(self.root()?, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        let real = fs::read_link(name).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        Ok(if real.is_absolute() { Found::There(real, kind) } else { Found::Nowhere })
    }

    fn free(&mut self, path: &Path) -> Found {
        let (Some(parent), Some(Component::Normal(name))) = (path.parent(), path.components().next_back())
        else {
            return Found::Nowhere;
        };
        match self.open(parent, true) {
            Ok(Found::There(parent, FileType::Directory)) => Found::Free(parent.join(name)),
            _ => Found::Nowhere,
        }
    }

    fn root(&mut self) -> Result<&OwnedFd, Errno> {
        if self.root.is_none() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.root = Some(rustix::fs::open(self.file("root"), flags, Mode::empty())?);
        }
        self.root.as_ref().ok_or(Errno::NOENT)
    }

    /// `/proc/self` is another's for us: by the number it has in its own pid namespace.
    fn with_own_pid(&self, path: &Path) -> PathBuf {
        let Ok(rest) = path.strip_prefix("/proc/self") else { return path.to_owned() };
        let own = self.numbers().pop();
        own.map_or_else(|| path.to_owned(), |own| Path::new("/proc").join(own.to_string()).join(rest))
    }
}
