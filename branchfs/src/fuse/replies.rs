//! A result, answered.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use branch_store::Stat;
use fuser::{
    FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite,
    ReplyXattr,
};
use rustix::fs::StatVfs;
use rustix::io::Errno;

use super::convert::{absent, file_attr, file_type};
use super::errno::answer;
use crate::vfs::{Attr, Cache, Found, Item, Kept, Opened, Room};

type Outcome<T> = Result<T, Errno>;

pub(super) fn empty(reply: ReplyEmpty, outcome: Outcome<()>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(answer(errno)),
    }
}

pub(super) fn attr(reply: ReplyAttr, outcome: Outcome<Attr>) {
    match outcome {
        Ok(attr) => reply.attr(&attr.ttl, &file_attr(&attr)),
        Err(errno) => reply.error(answer(errno)),
    }
}

pub(super) fn entry(reply: ReplyEntry, outcome: Outcome<Attr>) {
    found(reply, outcome.map(Found::Entry));
}

pub(super) fn found(reply: ReplyEntry, outcome: Outcome<Found>) {
    match outcome {
        Ok(Found::Entry(attr)) => {
            reply.entry_with_ttls(&attr.ttl, &attr.entry_ttl, &file_attr(&attr), generation(&attr.stat));
        }
        Ok(Found::Absent(Duration::ZERO)) => reply.error(fuser::Errno::ENOENT),
        Ok(Found::Absent(ttl)) => reply.entry(&ttl, &absent(), Generation(0)),
        Err(errno) => reply.error(answer(errno)),
    }
}

pub(super) fn opened(reply: ReplyOpen, outcome: Outcome<Opened>) {
    match outcome {
        Ok(opened) => reply.opened(FileHandle(opened.fh), cache_flags(opened.cache)),
        Err(errno) => reply.error(answer(errno)),
    }
}

pub(super) fn created(reply: ReplyCreate, outcome: Outcome<(Attr, Opened)>) {
    match outcome {
        Ok((attr, opened)) => reply.created(
            &attr.ttl,
            &file_attr(&attr),
            generation(&attr.stat),
            FileHandle(opened.fh),
            cache_flags(opened.cache),
        ),
        Err(errno) => reply.error(answer(errno)),
    }
}

pub(super) fn data(reply: ReplyData, outcome: Outcome<&[u8]>) {
    match outcome {
        Ok(bytes) => reply.data(bytes),
        Err(errno) => reply.error(answer(errno)),
    }
}

pub(super) fn written(reply: ReplyWrite, outcome: Outcome<u32>) {
    match outcome {
        Ok(len) => reply.written(len),
        Err(errno) => reply.error(answer(errno)),
    }
}

pub(super) fn offset(reply: ReplyLseek, outcome: Outcome<i64>) {
    match outcome {
        Ok(offset) => reply.offset(offset),
        Err(errno) => reply.error(answer(errno)),
    }
}

pub(super) fn ioctl(reply: ReplyIoctl, outcome: Outcome<Vec<u8>>) {
    match outcome {
        Ok(bytes) => reply.ioctl(0, &bytes),
        Err(errno) => reply.error(answer(errno)),
    }
}

/// Size 0 asks how large the answer would be.
pub(super) fn xattr(reply: ReplyXattr, size: u32, outcome: Outcome<Vec<u8>>) {
    match outcome.map(|bytes| (u32::try_from(bytes.len()), bytes)) {
        Ok((Ok(len), _)) if size == 0 => reply.size(len),
        Ok((Ok(len), bytes)) if len <= size => reply.data(&bytes),
        Ok(_) => reply.error(fuser::Errno::ERANGE),
        Err(errno) => reply.error(answer(errno)),
    }
}

pub(super) fn statfs(reply: ReplyStatfs, outcome: Outcome<StatVfs>) {
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    match outcome {
        Ok(fs) => reply.statfs(
            fs.f_blocks,
            fs.f_bfree,
            fs.f_bavail,
            fs.f_files,
            fs.f_ffree,
            small(fs.f_bsize),
            small(fs.f_namemax),
            small(fs.f_frsize),
        ),
        Err(errno) => reply.error(answer(errno)),
    }
}

pub(super) fn listed(reply: ReplyDirectory, outcome: Outcome<Kept>) {
    match outcome {
        Ok(_) => reply.ok(),
        Err(errno) => reply.error(answer(errno)),
    }
}

pub(super) fn listed_plus(reply: ReplyDirectoryPlus, outcome: Outcome<Kept>) {
    match outcome {
        Ok(_) => reply.ok(),
        Err(errno) => reply.error(answer(errno)),
    }
}

pub(super) fn add(reply: &mut ReplyDirectory, item: Item<'_>) -> Room {
    let name = OsStr::from_bytes(item.name);
    room(reply.add(INodeNo(item.ino), item.next, file_type(item.kind), name))
}

/// The crate has one time for entry and attributes here: the shorter.
pub(super) fn add_plus(reply: &mut ReplyDirectoryPlus, item: Item<'_>, attr: &Attr) -> Room {
    let name = OsStr::from_bytes(item.name);
    let ttl = attr.ttl.min(attr.entry_ttl);
    room(reply.add(INodeNo(item.ino), item.next, name, &ttl, &file_attr(attr), generation(&attr.stat)))
}

fn room(full: bool) -> Room {
    if full { Room::Full } else { Room::Left }
}

fn generation(stat: &Stat) -> Generation {
    Generation(u64::from(stat.generation))
}

fn cache_flags(cache: Cache) -> FopenFlags {
    match cache {
        Cache::Keep => FopenFlags::FOPEN_KEEP_CACHE,
        Cache::Bypass => FopenFlags::FOPEN_DIRECT_IO,
    }
}
