//! What a call that waits comes to: which operations on which paths, in the state the files are in now.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::outside::{self, Outside};
use super::process::{Found, Process};
use super::wanted::{Name, Wanted};
use crate::policy::{Moved, Op};

/// The longest address of a socket (`struct sockaddr_storage`).
const ADDRESS_MAX: usize = 128;
/// The kernel looks no further for a script's interpreter (`BINPRM_BUF_SIZE`).
const SHEBANG_MAX: usize = 256;
/// `struct sockaddr_un` without its path.
const UNIX_PATH_AT: usize = 2;

/// One thing that is about to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Op(Op, PathBuf),
    Move(PathBuf, PathBuf, Moved),
    /// A connection to an address on the network.
    Network(SocketAddr),
    Outside(Outside),
}

/// Everything a call is about to do to paths. Empty where it will fail for another reason anyway.
pub(crate) fn judge(process: &mut Process, wanted: Wanted) -> Vec<Asked> {
    match wanted {
        Wanted::Open(name, flags) => open(process, name, flags),
        Wanted::OpenHow(name, how) => match process.memory(how, 8).try_into().map(u64::from_ne_bytes) {
            Ok(flags) => {
                let flags = flags as i32;
                let new_only = libc::O_CREAT | libc::O_EXCL;
                let follow = flags & libc::O_NOFOLLOW == 0 && flags & new_only != new_only;
                open(process, Name { follow, ..name }, flags)
            }
            Err(_) => Vec::new(),
        },
        Wanted::Execute(name) => match find(process, name) {
            Found::There(path, _) => execute(process, path),
            _ => Vec::new(),
        },
        Wanted::ExecuteFd(fd) => match process.link(&format!("fd/{fd}")) {
            Some(path) if !path.starts_with("/memfd:") => execute(process, path),
            _ => Vec::new(),
        },
        Wanted::Make(name, op) => match find(process, name) {
            Found::Free(path) => vec![Asked::Op(op, path)],
            _ => Vec::new(),
        },
        Wanted::Remove(name) => match find(process, name) {
            Found::There(path, kind) if kind != FileType::Directory => vec![Asked::Op(Op::Remove, path)],
            _ => Vec::new(),
        },
        Wanted::RemoveDir(name) => match find(process, name) {
            Found::There(path, FileType::Directory) => vec![Asked::Op(Op::RemoveDir, path)],
            _ => Vec::new(),
        },
        Wanted::Truncate(name) => match find(process, name) {
            Found::There(path, FileType::RegularFile) => vec![Asked::Op(Op::Truncate, path)],
            _ => Vec::new(),
        },
        Wanted::Attributes(name) => match find(process, name) {
            Found::There(path, _) => vec![Asked::Op(Op::Attributes, path)],
            _ => Vec::new(),
        },
        Wanted::AttributesFd(fd) => match process.link(&format!("fd/{fd}")) {
            // What was passed open is on a mount of the caller's, which may be writable whatever its path.
            Some(path) if process.is_read_only(fd) => vec![Asked::Op(Op::Attributes, path)],
            _ => Vec::new(),
        },
        Wanted::Move(from, to) => two_names(process, from, to, Moved::of_kind),
        Wanted::Link(from, to) => two_names(process, from, to, |_| Moved::Linked),
        Wanted::Bind(address, length) => bind(process, address, length),
        Wanted::Connect(address, length) => connect(process, address, length),
        Wanted::Signal(number) => from_outside(outside::signalled(process, number)),
        Wanted::Trace(number) => from_outside(outside::traced(process, number)),
        Wanted::SignalFd(fd) => from_outside(outside::signalled_by_fd(process, fd)),
    }
}

fn from_outside(outside: Option<Outside>) -> Vec<Asked> {
    outside.map(Asked::Outside).into_iter().collect()
}

fn find(process: &mut Process, name: Name) -> Found {
    process.find(name.dir, name.text, name.follow)
}

fn open(process: &mut Process, name: Name, flags: i32) -> Vec<Asked> {
    if flags & libc::O_PATH != 0 {
        return Vec::new();
    }
    if let Some(path) = process.named(name.dir, name.text)
        && let Some(outside) = outside::looked_into(&path)
    {
        return vec![Asked::Outside(outside)];
    }
    let creates = flags & libc::O_CREAT != 0;
    let (path, kind, mut ops) = match find(process, name) {
        Found::There(..) if creates && flags & libc::O_EXCL != 0 => return Vec::new(),
        Found::There(path, kind) => (path, kind, Vec::new()),
        Found::Free(path) if creates => (path, FileType::RegularFile, vec![Op::Create]),
        Found::Free(_) | Found::Nowhere => return Vec::new(),
    };
    let is_dir = kind == FileType::Directory;
    let unnamed = flags & libc::O_TMPFILE == libc::O_TMPFILE;
    match flags & libc::O_ACCMODE {
        libc::O_RDONLY if is_dir => ops.push(Op::List),
        libc::O_RDONLY => ops.push(Op::Read),
        // No directory can be opened for writing, but as the place of a file without a name.
        _ if is_dir && !unnamed => return Vec::new(),
        libc::O_WRONLY => ops.push(Op::Write),
        _ => ops.extend([Op::Read, Op::Write]),
    }
    if flags & libc::O_TRUNC != 0 && kind == FileType::RegularFile && !ops.contains(&Op::Create) {
        ops.push(Op::Truncate);
    }
    ops.into_iter().map(|op| Asked::Op(op, path.clone())).collect()
}

/// The program, and for a script what interprets it, which the kernel executes without another call.
fn execute(process: &mut Process, path: PathBuf) -> Vec<Asked> {
    let mut asked = vec![Asked::Op(Op::Execute, path.clone())];
    let seen = process.link("root").map(|_| PathBuf::from(format!("/proc/{}/root", process.pid())));
    let inside = seen.and_then(|root| Some(root.join(path.strip_prefix("/").ok()?)));
    if let Some(interpreter) = inside.and_then(|file| interpreter(&file))
        && let Found::There(path, _) = process.find_path(libc::AT_FDCWD, &interpreter, true)
    {
        asked.push(Asked::Op(Op::Execute, path));
    }
    asked
}

fn interpreter(script: &Path) -> Option<PathBuf> {
    // Nothing but a regular file: opening a FIFO would wait.
    if !fs::metadata(script).ok()?.is_file() {
        return None;
    }
    let mut head = Vec::new();
    fs::File::open(script).ok()?.take(SHEBANG_MAX as u64).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let word = line.split(|byte| b" \t".contains(byte)).find(|word| !word.is_empty())?;
    Some(Path::new(std::ffi::OsStr::from_bytes(word)).to_owned())
}

fn two_names(process: &mut Process, from: Name, to: Name, kind: impl Fn(bool) -> Moved) -> Vec<Asked> {
    let Found::There(from, what) = find(process, from) else { return Vec::new() };
    let kind = kind(what == FileType::Directory);
    match find(process, to) {
        Found::Free(to) => vec![Asked::Move(from, to, kind)],
        Found::There(..) if kind == Moved::Linked => Vec::new(),
        Found::There(to, FileType::Directory) => {
            vec![Asked::Op(Op::RemoveDir, to.clone()), Asked::Move(from, to, kind)]
        }
        Found::There(to, _) => vec![Asked::Op(Op::Remove, to.clone()), Asked::Move(from, to, kind)],
        Found::Nowhere => Vec::new(),
    }
}

fn address(process: &Process, address: u64, length: u64) -> (i32, Vec<u8>) {
    let bytes = process.memory(address, (length as usize).min(ADDRESS_MAX));
    let family = bytes.first_chunk().map_or(libc::AF_UNSPEC, |bytes| u16::from_ne_bytes(*bytes).into());
    (family, bytes)
}

fn bind(process: &mut Process, at: u64, length: u64) -> Vec<Asked> {
    let (family, bytes) = address(process, at, length);
    let path = bytes.get(UNIX_PATH_AT..).unwrap_or_default();
    let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
    if family != libc::AF_UNIX || path.is_empty() {
        return Vec::new();
    }
    match process.find_path(libc::AT_FDCWD, Path::new(std::ffi::OsStr::from_bytes(path)), false) {
        Found::Free(path) => vec![Asked::Op(Op::CreateSocket, path)],
        _ => Vec::new(),
    }
}

fn connect(process: &Process, at: u64, length: u64) -> Vec<Asked> {
    let (family, bytes) = address(process, at, length);
    let port = bytes.get(2..4).and_then(|port| port.try_into().ok()).map_or(0, u16::from_be_bytes);
    let ip: Option<IpAddr> = match family {
        libc::AF_INET => {
            bytes.get(4..8).and_then(|ip| <[u8; 4]>::try_from(ip).ok()).map(|ip| Ipv4Addr::from(ip).into())
        }
        libc::AF_INET6 => {
            bytes.get(8..24).and_then(|ip| <[u8; 16]>::try_from(ip).ok()).map(|ip| Ipv6Addr::from(ip).into())
        }
        libc::AF_UNIX => {
            return from_outside(abstract_name(&bytes).and_then(|name| outside::socket(process, name)));
        }
        _ => None,
    };
    ip.map(|ip| Asked::Network(SocketAddr::new(ip, port))).into_iter().collect()
}

/// The name of a local socket that is in no file system (`unix(7)`).
fn abstract_name(address: &[u8]) -> Option<&[u8]> {
    address.get(UNIX_PATH_AT..)?.strip_prefix(b"\0").filter(|name| !name.is_empty())
}
