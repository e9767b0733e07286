//! The base as the host has it: made, and looked at.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::Path as HostPath;

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, Timespec, Timestamps};

use crate::call::{Path, bytes_of, filled, letter_of};
use crate::model::Host;
use crate::picture::{Picture, Seen, Thing};
use crate::when::Time;

const XATTR_MAX: usize = 4096;

/// Fills a fresh base. Some are empty, most have a bit of everything.
pub(crate) fn furnish(base: &HostPath, variant: u64) -> io::Result<()> {
    let at = |path: &str| path.split('/').fold(base.to_owned(), |dir, letter| dir.join(os(bytes_of(letter))));
    if variant % 8 == 7 {
        return Ok(());
    }
    for dir in ["b", "b/d", "d", "d/b", "w"] {
        fs::create_dir(at(dir))?;
    }
    for (path, len) in [("a", 3), ("b/a", 5000), ("b/d/x", 4096), ("d/a", 1), ("w/c", 0)] {
        fs::write(at(path), filled(len as u8, len))?;
    }
    let sparse = fs::File::create(at("d/b/a"))?;
    sparse.write_all_at(&filled(9, 100), 12_000)?;
    fs::hard_link(at("a"), at("d/c"))?;
    fs::hard_link(at("b/a"), at("b/c"))?;
    symlink("a", at("c"))?;
    let node = |path: &str, kind, device| {
        rustix::fs::mknodat(CWD, at(path), kind, Mode::from_raw_mode(0o640), device)
    };
    node("d/w", FileType::Fifo, 0)?;
    node("b/x", FileType::Socket, 0)?;
    if rustix::process::geteuid().is_root() {
        node("x", FileType::CharacterDevice, rustix::fs::makedev(1, 3))?;
    }
    let value = filled(1, 40);
    for path in ["a", "d"] {
        rustix::fs::lsetxattr(at(path), "user.a", &value, rustix::fs::XattrFlags::empty())?;
    }
    let old = Timespec { tv_sec: 1_234_567_890, tv_nsec: 987_654_321 };
    let times = Timestamps { last_access: old, last_modification: old };
    for path in ["b/a", "c", "d", "b"] {
        rustix::fs::utimensat(CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// Tries what differs from one filesystem to the next.
pub(crate) fn probe(dir: &HostPath) -> io::Result<Host> {
    let file = tempfile::tempfile_in(dir)?;
    let zero_range = rustix::fs::fallocate(&file, FallocateFlags::ZERO_RANGE, 0, 4096).is_ok();
    Ok(Host { zero_range })
}

/// Everything in the base but the store. Links are counted by name: a removed name of a file with several may
/// live on as a preimage.
pub(crate) fn look(base: &HostPath) -> io::Result<Picture> {
    let mut stats = BTreeMap::new();
    walk(base, &"".into(), &mut stats)?;
    let mut links: BTreeMap<u64, u32> = BTreeMap::new();
    for (_, meta) in stats.values() {
        *links.entry(meta.ino()).or_default() += 1;
    }
    let seen = |(path, (at, meta)): (&Path, &(std::path::PathBuf, fs::Metadata))| {
        let mut seen = of(at, meta)?;
        if seen.thing != Thing::Dir {
            seen.nlink = links[&meta.ino()];
        } else if path.0.is_empty() {
            // The store's own directory.
            seen.nlink = seen.nlink.saturating_sub(1);
        }
        Ok((path.clone(), seen))
    };
    stats.iter().map(seen).collect()
}

/// Everything below a directory of a mount, with inode numbers as they are within their branch.
pub(crate) fn look_below(root: &HostPath) -> io::Result<Picture> {
    let mut stats = BTreeMap::new();
    walk(root, &"".into(), &mut stats)?;
    let seen = |(path, (at, meta)): (&Path, &(std::path::PathBuf, fs::Metadata))| {
        let mut seen = of(at, meta)?;
        seen.ino &= u64::from(u32::MAX);
        Ok((path.clone(), seen))
    };
    stats.iter().map(seen).collect()
}

/// What an open file or directory of a mount is and holds.
pub(crate) fn of_open(fd: &OwnedFd, meta: &fs::Metadata) -> io::Result<Seen> {
    let mut list = [0; XATTR_MAX];
    let len = rustix::fs::flistxattr(fd, &mut list[..])?;
    let mut xattrs = BTreeMap::new();
    for name in list[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = [0; XATTR_MAX];
        let len = rustix::fs::fgetxattr(fd, name, &mut value[..])?;
        xattrs.insert(String::from_utf8_lossy(name).into_owned(), value[..len].to_vec());
    }
    let mut seen = attributes(meta, xattrs);
    seen.ino &= u64::from(u32::MAX);
    if meta.is_file() {
        let mut bytes = vec![0; meta.size() as usize + 1];
        let got = rustix::io::pread(fd, &mut bytes[..], 0)?;
        bytes.truncate(got);
        seen.thing = Thing::File(bytes);
    }
    Ok(seen)
}

type Stats = BTreeMap<Path, (std::path::PathBuf, fs::Metadata)>;

/// All attributes first: reading bytes may set access times.
fn walk(at: &HostPath, path: &Path, out: &mut Stats) -> io::Result<()> {
    let meta = fs::symlink_metadata(at)?;
    let is_dir = meta.is_dir();
    out.insert(path.clone(), (at.to_owned(), meta));
    if !is_dir {
        return Ok(());
    }
    for entry in fs::read_dir(at)? {
        let name = entry?.file_name();
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str());
        if !(path.0.is_empty() && bytes == branch_store::STORE_DIR.as_bytes()) {
            walk(&at.join(&name), &path.join(&letter_of(bytes)), out)?;
        }
    }
    Ok(())
}

/// An object of the host, with what it holds.
pub(crate) fn of(at: &HostPath, meta: &fs::Metadata) -> io::Result<Seen> {
    let thing = match FileType::from_raw_mode(meta.mode()) {
        FileType::Directory => Thing::Dir,
        FileType::Symlink => {
            Thing::Symlink(std::os::unix::ffi::OsStrExt::as_bytes(fs::read_link(at)?.as_os_str()).to_vec())
        }
        FileType::Fifo => Thing::Fifo,
        FileType::Socket => Thing::Socket,
        FileType::CharacterDevice => Thing::Char,
        FileType::BlockDevice => Thing::Block,
        _ => Thing::File(read(at)?),
    };
    Ok(Seen { thing, ..attributes(meta, xattrs(at)?) })
}

/// Everything but what it holds.
pub(crate) fn attributes(meta: &fs::Metadata, xattrs: BTreeMap<String, Vec<u8>>) -> Seen {
    let time = |sec: i64, nsec: i64| -> Time { (sec, nsec as u32) };
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    Seen {
        thing: Thing::Dir,
        ino: meta.ino(),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        nlink: meta.nlink() as u32,
        rdev: u64::from(major) << 32 | u64::from(minor),
        size: meta.size(),
        atime: time(meta.atime(), meta.atime_nsec()),
        mtime: time(meta.mtime(), meta.mtime_nsec()),
        ctime: time(meta.ctime(), meta.ctime_nsec()),
        xattrs,
    }
}

fn read(at: &HostPath) -> io::Result<Vec<u8>> {
    let flags = OFlags::NOFOLLOW | OFlags::NOATIME;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(at);
    let mut file = file.or_else(|_| fs::File::open(at))?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut file, &mut bytes)?;
    Ok(bytes)
}

fn xattrs(at: &HostPath) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut list = [0; XATTR_MAX];
    let len = rustix::fs::llistxattr(at, &mut list[..])?;
    let mut all = BTreeMap::new();
    for name in list[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = [0; XATTR_MAX];
        let len = rustix::fs::lgetxattr(at, name, &mut value[..])?;
        all.insert(String::from_utf8_lossy(name).into_owned(), value[..len].to_vec());
    }
    Ok(all)
}

pub(crate) fn os(bytes: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}
