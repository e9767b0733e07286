//! The bytes of files.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::process::Command;

use rustix::fs::{FallocateFlags, XattrFlags};

use crate::fixture::{errno, mounted, raw};

/// A shared mapping of a whole file.
pub(crate) struct Map {
    at: *mut u8,
    len: usize,
}

impl Map {
    pub(crate) fn of(file: &File, len: usize) -> Map {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, file.as_raw_fd(), 0) };
        assert_ne!(at, libc::MAP_FAILED);
        Map { at: at.cast(), len }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is `len` bytes, lives as long as `self`, and has no other user in the test.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }

    fn sync(&self) {
        // SAFETY: the range is the mapping's own.
        assert_eq!(unsafe { libc::msync(self.at.cast(), self.len, libc::MS_SYNC) }, 0);
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping's own, and nobody refers to it any more.
        assert_eq!(unsafe { libc::munmap(self.at.cast(), self.len) }, 0);
    }
}

#[test]
fn what_is_written_is_read_back_and_the_base_stays() {
    let Some(fx) = mounted() else { return };
    fs::write(fx.one("new"), "fresh").unwrap();
    fs::write(fx.one("a"), "changed").unwrap();
    assert_eq!(fs::read_to_string(fx.one("new")).unwrap(), "fresh");
    assert_eq!(fs::read_to_string(fx.one("a")).unwrap(), "changed");
    assert_eq!(fs::read_to_string(fx.base.path().join("a")).unwrap(), "base\n");
    assert!(!fx.base.path().join("new").exists());
}

#[test]
fn large_files_survive_unaligned_writes() {
    let Some(fx) = mounted() else { return };
    let bytes: Vec<u8> = (0..3_500_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(fx.one("large"), &bytes).unwrap();
    let mut file = OpenOptions::new().read(true).write(true).open(fx.one("large")).unwrap();
    file.write_all_at(b"middle", 1_234_567).unwrap();
    let mut want = bytes;
    want[1_234_567..1_234_573].copy_from_slice(b"middle");
    let mut got = Vec::new();
    file.read_to_end(&mut got).unwrap();
    assert!(got == want);
    assert_eq!(file.metadata().unwrap().len(), want.len() as u64);
}

#[test]
fn appending_goes_to_the_end_from_every_descriptor() {
    let Some(fx) = mounted() else { return };
    let open = || OpenOptions::new().append(true).open(fx.one("a")).unwrap();
    let (mut first, mut second) = (open(), open());
    for n in 0..10 {
        write!(first, "{n}").unwrap();
        write!(second, "-").unwrap();
    }
    assert_eq!(fs::read_to_string(fx.one("a")).unwrap(), "base\n0-1-2-3-4-5-6-7-8-9-");
}

#[test]
fn truncation_works_at_open_by_path_and_by_descriptor() {
    let Some(fx) = mounted() else { return };
    File::create(fx.one("a")).unwrap();
    assert_eq!(fs::metadata(fx.one("a")).unwrap().len(), 0);
    let file = OpenOptions::new().write(true).open(fx.one("dir/b")).unwrap();
    file.set_len(10).unwrap();
    assert_eq!(fs::read(fx.one("dir/b")).unwrap(), b"b\0\0\0\0\0\0\0\0\0");
    assert_eq!(fs::read(fx.base.path().join("a")).unwrap(), b"base\n");
}

/// A kernel that leaves truncation to our open (ATOMIC_O_TRUNC) asks only afterwards whether the file may be
/// written: an open for reading with O_TRUNC emptied a running program, which died, and was answered ETXTBSY.
#[test]
fn a_running_program_is_not_truncated_by_opening_it() {
    let Some(fx) = mounted() else { return };
    let program = fx.one("program");
    fs::copy("/bin/sleep", &program).unwrap();
    let mut running = Command::new(&program).arg("1000").spawn().unwrap();
    let truncating = OpenOptions::new().read(true).custom_flags(libc::O_TRUNC).open(&program);
    let written = OpenOptions::new().write(true).truncate(true).open(&program);
    let (size, ended) = (fs::metadata(&program).unwrap().len(), running.try_wait().unwrap());
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!((errno(truncating), errno(written)), (libc::ETXTBSY, libc::ETXTBSY));
    assert_eq!((size, ended), (fs::metadata("/bin/sleep").unwrap().len(), None));
}

#[test]
fn a_reader_that_was_first_sees_later_writes() {
    let Some(fx) = mounted() else { return };
    let mut reader = File::open(fx.one("a")).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    OpenOptions::new().write(true).open(fx.one("a")).unwrap().write_all(b"BASE\nmore").unwrap();
    reader.seek(SeekFrom::Start(0)).unwrap();
    text.clear();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "BASE\nmore");
}

#[test]
fn an_unlinked_file_lives_while_it_is_open() {
    let Some(fx) = mounted() else { return };
    for name in ["a", "new"] {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(fx.one(name))
            .unwrap();
        fs::remove_file(fx.one(name)).unwrap();
        assert_eq!(errno(fs::metadata(fx.one(name))), libc::ENOENT);
        file.write_all(b"still here").unwrap();
        file.set_len(8).unwrap();
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "still he");
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        fs::write(fx.one(name), "another").unwrap();
        assert_ne!(fs::metadata(fx.one(name)).unwrap().ino(), file.metadata().unwrap().ino());
    }
}

#[test]
fn stores_to_a_map_reach_the_file() {
    let Some(fx) = mounted() else { return };
    fs::write(fx.one("mapped"), vec![b'.'; 10_000]).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(fx.one("mapped")).unwrap();
    let mut map = Map::of(&file, 10_000);
    drop(file);
    map.bytes()[5000..5005].copy_from_slice(b"store");
    map.sync();
    assert_eq!(&fs::read(fx.one("mapped")).unwrap()[4999..5006], b".store.");
    fs::write(fx.one("mapped"), vec![b'!'; 10_000]).unwrap();
    assert_eq!(map.bytes()[5000], b'!', "a map sees writes");
}

#[test]
fn unsynced_stores_to_a_map_are_in_the_fork_and_in_the_commit() {
    let Some(fx) = mounted() else { return };
    let file = OpenOptions::new().read(true).write(true).open(fx.one("a")).unwrap();
    let mut map = Map::of(&file, 5);
    map.bytes()[..4].copy_from_slice(b"FORK");
    fx.fork_of("one", "two");
    assert_eq!(fs::read_to_string(fx.at("two/a")).unwrap(), "FORK\n");
    map.bytes()[..4].copy_from_slice(b"LAST");
    assert_eq!(fs::read_to_string(fx.at("two/a")).unwrap(), "FORK\n", "the fork does not follow its parent");
    fx.abort("two");
    fx.commit("one");
    assert_eq!(fs::read_to_string(fx.base.path().join("a")).unwrap(), "LAST\n");
}

#[test]
fn space_is_allocated_punched_and_found() {
    let Some(fx) = mounted() else { return };
    let file = File::create_new(fx.one("sparse")).unwrap();
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1 << 20);
    file.write_all_at(&[7; 65536], 0).unwrap();
    file.write_all_at(&[7; 65536], 512 << 10).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 0, 65536).unwrap();
    let mut head = [1; 16];
    File::open(fx.one("sparse")).unwrap().read_exact(&mut head).unwrap();
    assert_eq!(head, [0; 16]);
    let sparse = File::create_new(fx.one("holes")).unwrap();
    sparse.write_all_at(b"data", 1 << 20).unwrap();
    assert_eq!(rustix::fs::seek(&sparse, rustix::fs::SeekFrom::Data(0)).unwrap(), 1 << 20);
    assert_eq!(rustix::fs::seek(&sparse, rustix::fs::SeekFrom::Hole(0)).unwrap(), 0);
    assert_eq!(raw(rustix::fs::seek(&sparse, rustix::fs::SeekFrom::Data(1 << 21))), libc::ENXIO);
}

#[test]
fn ranges_are_copied_within_and_between_branches() {
    let Some(fx) = mounted() else { return };
    fx.fork("two");
    fs::write(fx.one("source"), "0123456789").unwrap();
    let source = File::open(fx.one("source")).unwrap();
    for target in ["one/target", "two/target"] {
        let target_file = File::create_new(fx.at(target)).unwrap();
        let (mut from, mut to) = (2, 3);
        let copied = rustix::fs::copy_file_range(&source, Some(&mut from), &target_file, Some(&mut to), 5);
        assert_eq!(copied, Ok(5));
        assert_eq!(fs::read(fx.at(target)).unwrap(), b"\0\0\x0023456", "{target}");
    }
}

#[test]
fn extended_attributes_are_kept() {
    let Some(fx) = mounted() else { return };
    let path = fx.one("a");
    let set = |value: &[u8], flags| rustix::fs::setxattr(&path, "user.k", value, flags);
    set(b"v1", XattrFlags::CREATE).unwrap();
    assert_eq!(raw(set(b"v2", XattrFlags::CREATE)), libc::EEXIST);
    set(b"v2", XattrFlags::REPLACE).unwrap();
    let mut value = [0; 16];
    assert_eq!(rustix::fs::getxattr(&path, "user.k", &mut value), Ok(2));
    assert_eq!(&value[..2], b"v2");
    assert_eq!(raw(rustix::fs::getxattr(&path, "user.k", &mut [0; 1])), libc::ERANGE);
    let mut names = [0; 64];
    let len = rustix::fs::listxattr(&path, &mut names).unwrap();
    assert!(names[..len].split(|byte| *byte == 0).any(|name| name == b"user.k"));
    rustix::fs::removexattr(&path, "user.k").unwrap();
    assert_eq!(raw(rustix::fs::removexattr(&path, "user.k")), libc::ENODATA);
    assert_eq!(raw(rustix::fs::getxattr(fx.base.path().join("a"), "user.k", &mut value)), libc::ENODATA);
}

#[test]
fn the_filesystem_has_the_size_of_the_one_below() {
    let Some(fx) = mounted() else { return };
    let here = rustix::fs::statvfs(fx.one("")).unwrap();
    let below = rustix::fs::statvfs(fx.base.path()).unwrap();
    assert_eq!((here.f_blocks, here.f_namemax), (below.f_blocks, below.f_namemax));
}

#[test]
fn fsync_of_files_and_directories_succeeds() {
    let Some(fx) = mounted() else { return };
    let mut file = File::create_new(fx.one("durable")).unwrap();
    file.write_all(b"x").unwrap();
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    File::open(fx.one("")).unwrap().sync_all().unwrap();
    File::open(fx.at("")).unwrap().sync_all().unwrap();
}
