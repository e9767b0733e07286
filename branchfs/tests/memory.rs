//! What a view keeps of objects of the base that the kernel has forgotten, by the bytes that are allocated.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use branch_store::{Options, Unrecovered};
use branchfs::vfs::{Control, Found, Room, Vfs, ino};
use branchfs::watch::Wish;
use rustix::io::Errno;

struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: all of it is done by the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::SeqCst);
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::SeqCst);
        // SAFETY: as the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// No calls come through control files here.
struct Nobody;

impl Control for Nobody {
    fn commit(&self, _branch: &str) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }

    fn abort(&self, _branch: &str) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }

    fn fork(&self, _parent: &str) -> Result<String, Errno> {
        Err(Errno::NOSYS)
    }
}

/// Bytes more than before a walk.
#[derive(Debug)]
struct Kept {
    walked: isize,
    forgotten: isize,
}

fn make_base(base: &Path, directories: usize, files: usize) {
    for dir in 0..directories {
        let dir = base.join(format!("directory-{dir}"));
        fs::create_dir(&dir).unwrap();
        (0..files).for_each(|n| fs::write(dir.join(format!("some-name-of-a-file-{n}")), "").unwrap());
    }
}

fn entry(vfs: &Vfs, dir: u64, name: &[u8]) -> u64 {
    match vfs.lookup(dir, name).unwrap() {
        Found::Entry(attr) => attr.ino,
        Found::Absent(_) => panic!("{} is there", String::from_utf8_lossy(name)),
    }
}

/// Lists the directory as the kernel does, to an answer without entries. The inodes, each looked up once.
fn listed(vfs: &Vfs, dir: u64) -> Vec<u64> {
    let (mut all, mut offset) = (Vec::new(), 0);
    loop {
        let (before, mut room) = (offset, 100);
        let mut take = |item: branchfs::vfs::Item<'_>, attr: &branchfs::vfs::Attr| {
            if room == 0 {
                return Room::Full;
            }
            (offset, room) = (item.next, room - 1);
            if item.name != b"." && item.name != b".." {
                all.push(attr.ino);
            }
            Room::Left
        };
        vfs.read_dir_plus(dir, before, &mut take).unwrap();
        if offset == before {
            return all;
        }
    }
}

fn walk_and_forget(directories: usize, files: usize) -> Kept {
    let base = tempfile::tempdir().unwrap();
    make_base(base.path(), directories, files);
    let store = base.path().join(branch_store::STORE_DIR);
    branch_store::init(base.path(), &store).unwrap();
    let options = Options { base: base.path().to_owned(), store };
    let (store, _) = Unrecovered::open(options).and_then(Unrecovered::recover).unwrap();
    let vfs = Vfs::new(Arc::new(store), Box::new(Nobody)).watching(Wish::Best);
    let before = LIVE.load(Ordering::SeqCst);
    let root = entry(&vfs, ino::MOUNT_ROOT, b"main");
    let mut known = vec![root];
    for dir in listed(&vfs, root) {
        known.push(dir);
        known.extend(listed(&vfs, dir));
    }
    assert_eq!(known.len(), 1 + directories * (1 + files));
    let list = (known.capacity() * size_of::<u64>()) as isize;
    let walked = LIVE.load(Ordering::SeqCst) - before - list;
    known.iter().rev().for_each(|ino| vfs.forget(*ino, 1));
    assert!(vfs.all_known_inodes().is_empty());
    Kept { walked, forgotten: LIVE.load(Ordering::SeqCst) - before - list }
}

/// A daemon that had shown a million files once held a fifth of a gigabyte after the kernel had forgotten them.
#[test]
fn of_what_the_kernel_has_forgotten_nothing_is_kept_but_where_directories_are() {
    let (few, many) = (walk_and_forget(20, 50), walk_and_forget(20, 1050));
    let files = 20 * 1000;
    println!("20 directories, of 50 files: {few:?}; of 1050: {many:?}");
    assert!((many.forgotten - few.forgotten) / files < 1, "bytes for each forgotten file");
    assert!((many.walked - few.walked) / files < 250, "bytes for each file that the kernel knows");
    let more = walk_and_forget(420, 50);
    println!("420 directories of 50 files: {more:?}");
    assert!((more.forgotten - few.forgotten) / 400 < 400, "bytes for each forgotten directory");
}
