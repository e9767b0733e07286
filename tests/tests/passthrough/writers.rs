//! Writers of every kind, under readers that pass.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use branch_proto::GroupKind;
use rustix::fs::FallocateFlags;

use crate::scene::{LEN, Reader, full_of, passing, read_alone};

type Writer = (&'static str, fn(&Path));

/// A shared map of a file, stored to.
fn store_through_a_map(path: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let (both, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a new map of LEN bytes, of which six are stored to, and given back.
    unsafe {
        let map = libc::mmap(std::ptr::null_mut(), LEN, both, shared, file.as_raw_fd(), 0);
        assert_ne!(map, libc::MAP_FAILED);
        std::ptr::copy_nonoverlapping(b"stored".as_ptr(), map.cast(), 6);
        assert_eq!(libc::msync(map, LEN, libc::MS_SYNC), 0);
        assert_eq!(libc::munmap(map, LEN), 0);
    }
}

const WRITERS: [Writer; 8] = [
    ("O_RDWR", |path| {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        file.write_all_at(b"written", 0).unwrap();
    }),
    ("O_APPEND", |path| OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap()),
    ("O_CREAT|O_TRUNC", |path| fs::write(path, "fresh").unwrap()),
    ("O_RDONLY|O_TRUNC", |path| {
        drop(OpenOptions::new().read(true).custom_flags(libc::O_TRUNC).open(path).unwrap());
    }),
    ("truncate(2)", |path| {
        let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: a path that ends with NUL.
        assert_eq!(unsafe { libc::truncate(path.as_ptr(), 5) }, 0);
    }),
    ("a shared map", store_through_a_map),
    ("fallocate(2)", |path| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 2 * LEN as u64 - 1).unwrap();
    }),
    ("copy_file_range(2)", |path| {
        let (from, to) = (
            File::open(path.with_file_name("other")).unwrap(),
            OpenOptions::new().write(true).open(path).unwrap(),
        );
        let copied = rustix::fs::copy_file_range(&from, Some(&mut 0), &to, Some(&mut 10), 100).unwrap();
        assert_eq!(copied, 100);
    }),
];

/// What the writer makes of a file of this letter, on the host.
fn made_by(dir: &Path, writer: fn(&Path), letter: u8) -> Vec<u8> {
    let path = dir.join("made");
    fs::write(&path, full_of(letter)).unwrap();
    fs::write(dir.join("other"), full_of(b'o')).unwrap();
    writer(&path);
    fs::read(path).unwrap()
}

/// A server that lets the kernel go on with the same inode after a copy-up has the base written to.
#[test]
fn no_writer_reaches_the_base_or_who_reads_and_whoever_opens_afterwards_sees_it() {
    let Some(workspace) = passing(|base| {
        fs::write(base.join("other"), full_of(b'o')).unwrap();
        (0..WRITERS.len()).for_each(|n| fs::write(base.join(n.to_string()), full_of(b'a')).unwrap());
    }) else {
        return;
    };
    let (one, two) = (workspace.branch("one"), workspace.branch("two"));
    for (n, (what, writer)) in WRITERS.into_iter().enumerate() {
        let (path, sibling) = (one.join(n.to_string()), two.join(n.to_string()));
        let number = fs::metadata(&path).unwrap().ino();
        let (mine, others) = (Reader::of(&path), Reader::of(&sibling));
        let expected = made_by(workspace.outside(), writer, b'a');
        writer(&path);
        for _ in 0..2 {
            assert_eq!(fs::read(&path).unwrap(), expected, "{what}: who opens it now");
            let meta = fs::metadata(&path).unwrap();
            assert_eq!((meta.size(), meta.ino()), (expected.len() as u64, number), "{what}");
            assert_eq!((mine.bytes(), mine.size()), (full_of(b'a'), LEN as u64), "{what}: who has it open");
            assert_eq!(
                fs::read(workspace.base().join(n.to_string())).unwrap(),
                full_of(b'a'),
                "{what}: the base"
            );
            assert_eq!(read_alone(&workspace, &[&mine, &others]), [full_of(b'a'), full_of(b'a')], "{what}");
        }
        assert_eq!(fs::read(&sibling).unwrap(), full_of(b'a'), "{what}: the sibling");
        // Once more, beside readers of the new bytes: these are told.
        let now = Reader::of(&path);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"again", 0).unwrap();
        assert_eq!(&now.bytes()[..5], b"again", "{what}");
        assert_eq!(mine.bytes(), full_of(b'a'), "{what}");
    }
    workspace.commit("one");
    for (n, (what, writer)) in WRITERS.into_iter().enumerate() {
        let mut expected = made_by(workspace.outside(), writer, b'a');
        expected.resize(expected.len().max(5), 0);
        expected[..5].copy_from_slice(b"again");
        assert_eq!(fs::read(workspace.base().join(n.to_string())).unwrap(), expected, "{what}: committed");
    }
}

#[test]
fn a_file_that_is_open_for_writing_is_read_through_the_daemon_until_it_is_closed() {
    let Some(workspace) = passing(|base| fs::write(base.join("file"), full_of(b'a')).unwrap()) else {
        return;
    };
    let path = workspace.branch("one").join("file");
    let writer = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let reader = Reader::of(&path);
    assert_eq!(reader.bytes(), full_of(b'a'));
    writer.write_all_at(b"new", 0).unwrap();
    assert_eq!(&reader.bytes()[..3], b"new", "one file");
    drop((writer, reader));
    assert_eq!(&fs::read(&path).unwrap()[..3], b"new");
    assert_eq!(fs::read(workspace.base().join("file")).unwrap(), full_of(b'a'));
}

#[test]
fn one_name_of_several_shows_what_is_written_to_another() {
    let Some(workspace) = passing(|base| {
        fs::write(base.join("a"), full_of(b'a')).unwrap();
        fs::hard_link(base.join("a"), base.join("b")).unwrap();
        fs::write(base.join("alone"), full_of(b'a')).unwrap();
    }) else {
        return;
    };
    let view = workspace.branch("one");
    let linked = Reader::of(&view.join("a"));
    fs::write(view.join("b"), "through b").unwrap();
    assert_eq!(linked.bytes(), b"through b");
    // A second name, under a reader who passes.
    let alone = Reader::of(&view.join("alone"));
    let number = fs::metadata(view.join("alone")).unwrap().ino();
    fs::hard_link(view.join("alone"), view.join("second")).unwrap();
    fs::write(view.join("second"), "through the second").unwrap();
    for name in ["alone", "second"] {
        assert_eq!(fs::read(view.join(name)).unwrap(), b"through the second", "{name}");
        let meta = fs::metadata(view.join(name)).unwrap();
        assert_eq!((meta.nlink(), meta.size(), meta.ino()), (2, 18, number), "{name}");
    }
    assert_eq!(alone.bytes(), full_of(b'a'));
    assert_eq!(fs::read(workspace.base().join("alone")).unwrap(), full_of(b'a'));
    workspace.commit("one");
    assert_eq!(fs::read(workspace.base().join("alone")).unwrap(), b"through the second");
    assert_eq!(fs::metadata(workspace.base().join("second")).unwrap().nlink(), 2);
}

#[test]
fn names_and_attributes_change_under_a_reader_who_passes() {
    let Some(workspace) = passing(|base| {
        ["a", "b", "c"].into_iter().for_each(|name| fs::write(base.join(name), full_of(b'a')).unwrap());
    }) else {
        return;
    };
    let view = workspace.branch("one");
    let readers = ["a", "b", "c"].map(|name| Reader::of(&view.join(name)));
    fs::remove_file(view.join("a")).unwrap();
    fs::rename(view.join("b"), view.join("moved")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(view.join("c"), mode).unwrap();
    assert_eq!(fs::metadata(view.join("c")).unwrap().mode() & 0o777, 0o600);
    fs::write(view.join("moved"), "new").unwrap();
    fs::write(view.join("a"), "another").unwrap();
    assert_eq!(fs::read(view.join("moved")).unwrap(), b"new");
    assert_eq!(fs::read(view.join("a")).unwrap(), b"another");
    assert_eq!(fs::read(view.join("c")).unwrap(), full_of(b'a'));
    for reader in &readers {
        assert_eq!(reader.bytes(), full_of(b'a'));
    }
    assert_eq!(
        read_alone(&workspace, &[&readers[2]]),
        [full_of(b'a')],
        "bytes are the same after a change of attributes"
    );
    workspace.commit("one");
    assert_eq!(fs::read(workspace.base().join("moved")).unwrap(), b"new");
    assert_eq!(fs::metadata(workspace.base().join("c")).unwrap().mode() & 0o777, 0o600);
}

/// A program that was opened by a path that is no name (here: its descriptor) cannot be looked up again.
#[test]
fn a_retired_number_is_not_opened_by_descriptor_and_takes_no_attributes() {
    let Some(workspace) = passing(|base| fs::write(base.join("file"), full_of(b'a')).unwrap()) else {
        return;
    };
    let path = workspace.branch("one").join("file");
    let reader = Reader::of(&path);
    let again = format!("/proc/self/fd/{}", reader.file.as_raw_fd());
    assert_eq!(fs::read(&again).unwrap(), full_of(b'a'));
    fs::write(&path, "new").unwrap();
    assert_eq!(fs::read(&again).unwrap_err().raw_os_error(), Some(libc::ESTALE));
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    assert_eq!(rustix::fs::fchmod(&reader.file, mode), Err(rustix::io::Errno::STALE));
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn a_running_program_is_not_written_to() {
    let Some(workspace) = passing(|base| assert!(fs::copy("/bin/sleep", base.join("sleep")).unwrap() > 0))
    else {
        return;
    };
    let path = workspace.branch("one").join("sleep");
    let mut running = std::process::Command::new(&path).arg("60").spawn().unwrap();
    let refused = OpenOptions::new().write(true).open(&path).unwrap_err();
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(refused.raw_os_error(), Some(libc::ETXTBSY));
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"x").unwrap();
    assert_eq!(fs::read(workspace.base().join("sleep")).unwrap(), fs::read("/bin/sleep").unwrap());
}

#[test]
fn what_is_asked_of_the_daemon_is_answered_of_the_same_bytes() {
    let Some(workspace) = passing(|base| {
        let file = File::create(base.join("file")).unwrap();
        file.write_all_at(b"data", 1 << 16).unwrap();
        file.set_len(1 << 20).unwrap();
    }) else {
        return;
    };
    let view = workspace.branch("one");
    let reader = Reader::of(&view.join("file"));
    fs::write(view.join("file"), "all data, no hole").unwrap();
    let data = rustix::fs::seek(&reader.file, rustix::fs::SeekFrom::Data(0)).unwrap();
    assert_eq!(data, 1 << 16);
    let copy = File::create(view.join("copy")).unwrap();
    let copied = rustix::fs::copy_file_range(&reader.file, Some(&mut (1 << 16)), &copy, None, 100).unwrap();
    assert_eq!((copied, &fs::read(view.join("copy")).unwrap()[..5]), (100, &b"data\0"[..]));
    reader.file.sync_all().unwrap();
}

/// Locks are the kernel's, and it has them by inode.
#[test]
fn a_lock_of_a_reader_who_passes_is_not_seen_by_who_comes_after_the_change() {
    let Some(workspace) = passing(|base| fs::write(base.join("file"), full_of(b'a')).unwrap()) else {
        return;
    };
    let path = workspace.branch("one").join("file");
    let (first, second) = (File::open(&path).unwrap(), File::open(&path).unwrap());
    first.lock().unwrap();
    assert!(second.try_lock().is_err(), "two readers");
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    writer.try_lock().unwrap();
    assert!(File::open(&path).unwrap().try_lock().is_err());
}

#[test]
fn reading_without_the_page_cache_works() {
    let Some(workspace) = passing(|base| fs::write(base.join("file"), full_of(b'a')).unwrap()) else {
        return;
    };
    let path = workspace.branch("one").join("file");
    let direct = || OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
    // SAFETY: a new private map, so aligned as O_DIRECT wants it, of which the slice is the only user.
    let buffer = unsafe {
        let (both, how) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let map = libc::mmap(std::ptr::null_mut(), 4096, both, how, -1, 0);
        assert_ne!(map, libc::MAP_FAILED);
        std::slice::from_raw_parts_mut(map.cast::<u8>(), 4096)
    };
    for _ in 0..2 {
        let file = direct();
        file.read_exact_at(buffer, 8192).unwrap();
        assert_eq!(buffer, &full_of(b'a')[..4096]);
        let reader = Reader::of(&path);
        drop(file);
        assert_eq!(reader.bytes(), full_of(b'a'));
        direct().read_exact_at(buffer, 0).unwrap();
    }
}

#[test]
fn the_child_reads_what_its_parent_froze_and_the_parent_goes_on() {
    let Some(workspace) = passing(|_| ()) else { return };
    let parent = workspace.branch("parent");
    fs::write(parent.join("file"), full_of(b'p')).unwrap();
    let before = Reader::of(&parent.join("file"));
    workspace.fork(&["child"], "parent", GroupKind::Independent);
    let (child, frozen) =
        (Reader::of(&workspace.view("child").join("file")), Reader::of(&parent.join("file")));
    assert_eq!(read_alone(&workspace, &[&child]), [full_of(b'p')]);
    fs::write(parent.join("file"), "the parent's").unwrap();
    assert_eq!(frozen.bytes().len(), before.bytes().len(), "served together, or both the old bytes");
    assert_eq!(fs::read(parent.join("file")).unwrap(), b"the parent's");
    assert_eq!(fs::read(workspace.view("child").join("file")).unwrap(), full_of(b'p'));
    assert_eq!(read_alone(&workspace, &[&child]), [full_of(b'p')]);
}
