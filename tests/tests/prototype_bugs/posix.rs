//! Operations the prototype did not have, or got wrong.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};

use branchfs_tests::{Workspace, skip};
use rustix::fs::{CWD, FallocateFlags, FileType, Mode, RenameFlags, XattrFlags};
use rustix::io::Errno;

use crate::{errno, list};

fn workspace() -> Option<Workspace> {
    Workspace::over(|base| {
        fs::create_dir_all(base.join("dir/sub")).unwrap();
        fs::write(base.join("dir/file"), "base\n").unwrap();
        fs::write(base.join("file"), "base\n").unwrap();
        fs::write(base.join("other"), "other\n").unwrap();
    })
}

/// Compilers, databases and git unlink what they have open.
#[test]
fn unlinked_files_that_are_open_go_on() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    fs::write(view.join("own"), "own\n").unwrap();
    for name in ["own", "file"] {
        let mut file = OpenOptions::new().read(true).write(true).open(view.join(name)).unwrap();
        fs::remove_file(view.join(name)).unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0, "{name}");
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"more\n").unwrap();
        let mut content = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut content).unwrap();
        assert!(content.ends_with("\nmore\n") && content.len() > 8, "{content:?}");
        file.set_len(3).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 3);
        assert!(!view.join(name).exists());
    }
    assert_eq!(list(&view), ["dir", "other"]);
    workspace.commit("b");
    assert_eq!(list(&workspace.base()), [".branchfs", "dir", "other"]);
}

#[test]
fn a_file_replaced_by_a_rename_stays_readable_for_those_who_have_it_open() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    let mut old = File::open(view.join("file")).unwrap();
    fs::rename(view.join("other"), view.join("file")).unwrap();
    let mut content = String::new();
    old.read_to_string(&mut content).unwrap();
    assert_eq!(content, "base\n");
    assert_eq!(fs::read_to_string(view.join("file")).unwrap(), "other\n");
}

#[test]
fn rename_works_in_all_its_kinds() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    fs::rename(view.join("file"), view.join("dir/moved")).unwrap();
    assert_eq!(fs::read_to_string(view.join("dir/moved")).unwrap(), "base\n");
    let rename = |from: &str, to: &str, flags| {
        rustix::fs::renameat_with(CWD, view.join(from), CWD, view.join(to), flags)
    };
    assert_eq!(rename("other", "dir/file", RenameFlags::NOREPLACE), Err(Errno::EXIST));
    rename("other", "dir/file", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read_to_string(view.join("dir/file")).unwrap(), "other\n");
    assert_eq!(fs::read_to_string(view.join("other")).unwrap(), "base\n");
    rename("other", "dir/sub", RenameFlags::EXCHANGE).unwrap();
    assert!(view.join("other").is_dir() && view.join("dir/sub").is_file());
    assert_eq!(errno(fs::rename(view.join("dir"), view.join("dir/file/x"))), libc::ENOTDIR);
    assert_eq!(errno(fs::rename(view.join("other"), view.join("other/x"))), libc::EINVAL);
    fs::rename(view.join("dir"), view.join("other")).unwrap();
    assert_eq!(list(&view), ["other"]);
    workspace.commit("b");
    assert_eq!(list(&workspace.base().join("other")), ["file", "moved", "sub"]);
}

#[test]
fn hard_links_share_content_and_count() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    fs::hard_link(view.join("file"), view.join("dir/link")).unwrap();
    fs::write(view.join("dir/link"), "through the link\n").unwrap();
    assert_eq!(fs::read_to_string(view.join("file")).unwrap(), "through the link\n");
    let of = |name: &str| fs::metadata(view.join(name)).unwrap();
    assert_eq!((of("file").nlink(), of("file").ino()), (2, of("dir/link").ino()));
    fs::remove_file(view.join("file")).unwrap();
    assert_eq!(of("dir/link").nlink(), 1);
}

#[test]
fn special_files_can_be_made() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    let make =
        |name: &str, kind, device| rustix::fs::mknodat(CWD, view.join(name), kind, Mode::from(0o600), device);
    make("fifo", FileType::Fifo, 0).unwrap();
    make("socket", FileType::Socket, 0).unwrap();
    make("regular", FileType::RegularFile, 0).unwrap();
    let kind = |name: &str| fs::symlink_metadata(view.join(name)).unwrap().file_type();
    assert!(kind("fifo").is_fifo() && kind("socket").is_socket() && kind("regular").is_file());
    if !rustix::process::geteuid().is_root() {
        return skip("only root can make devices");
    }
    // 0:0 is a legal device, although overlayfs means a deletion by it.
    for (name, major, minor) in [("null", 1, 3), ("zero", 0, 0)] {
        let device = rustix::fs::makedev(major, minor);
        make(name, FileType::CharacterDevice, device).unwrap();
        let seen = fs::metadata(view.join(name)).unwrap();
        assert_eq!((seen.file_type().is_char_device(), seen.rdev()), (true, device), "{name}");
    }
}

#[test]
fn extended_attributes_work() {
    let mut supported = true;
    let made = Workspace::over(|base| {
        fs::write(base.join("file"), "base\n").unwrap();
        let set = rustix::fs::setxattr(base.join("file"), "user.old", b"base", XattrFlags::empty());
        supported = set != Err(Errno::OPNOTSUPP);
    });
    let Some(workspace) = made else { return };
    if !supported {
        return skip("the base's filesystem has no user attributes");
    }
    let file = workspace.branch("b").join("file");
    let set = |name: &str, value: &[u8], flags| rustix::fs::setxattr(&file, name, value, flags);
    let get = |name: &str| {
        let mut value = [0; 64];
        rustix::fs::getxattr(&file, name, &mut value[..]).map(|length| value[..length].to_vec())
    };
    assert_eq!(get("user.old"), Ok(b"base".to_vec()));
    set("user.new", b"new", XattrFlags::CREATE).unwrap();
    assert_eq!(set("user.new", b"again", XattrFlags::CREATE), Err(Errno::EXIST));
    assert_eq!(set("user.none", b"", XattrFlags::REPLACE), Err(Errno::NODATA));
    rustix::fs::removexattr(&file, "user.old").unwrap();
    assert_eq!((get("user.old"), get("user.new")), (Err(Errno::NODATA), Ok(b"new".to_vec())));
    let mut names = [0_u8; 64];
    let length = rustix::fs::listxattr(&file, &mut names[..]).unwrap();
    assert_eq!(&names[..length], b"user.new\0");
}

/// fsync answered "no such call", and programs that check gave up. What it promises is tested here as far as
/// a killed daemon can: power cuts are the simulator's.
#[test]
fn what_was_fsynced_is_there_after_a_kill() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    let mut file = File::create(view.join("dir/new")).unwrap();
    file.write_all(b"durable\n").unwrap();
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    File::open(view.join("dir")).unwrap().sync_all().unwrap();
    rustix::fs::syncfs(&file).unwrap();
    drop(file);
    workspace.kill_daemon();
    workspace.names();
    assert_eq!(fs::read_to_string(view.join("dir/new")).unwrap(), "durable\n");
}

/// All zeroes before: installers saw a full disk.
#[test]
fn statfs_tells_the_room_there_is() {
    let Some(workspace) = workspace() else { return };
    let view = workspace.branch("b");
    let below = rustix::fs::statvfs(workspace.store()).unwrap();
    for path in [view.clone(), view.join("dir/file")] {
        let seen = rustix::fs::statvfs(path).unwrap();
        assert_eq!(seen.f_blocks * seen.f_frsize, below.f_blocks * below.f_frsize);
        assert!(seen.f_bavail > 0);
        assert_eq!(seen.f_namemax, 255);
    }
}

#[test]
fn fallocate_reserves_extends_and_punches() {
    let Some(workspace) = workspace() else { return };
    let path = workspace.branch("b").join("file");
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let allocate = |flags, offset, length| rustix::fs::fallocate(file.as_fd(), flags, offset, length);
    match allocate(FallocateFlags::empty(), 0, 64 << 10) {
        Err(Errno::OPNOTSUPP) => return skip("the filesystem below has no fallocate"),
        done => done.unwrap(),
    }
    assert_eq!(file.metadata().unwrap().len(), 64 << 10);
    assert_eq!(&fs::read(&path).unwrap()[..6], b"base\n\0");
    allocate(FallocateFlags::KEEP_SIZE, 0, 128 << 10).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 64 << 10);
    file.write_all_at(&[7; 16 << 10], 0).unwrap();
    allocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 4096, 4096).unwrap();
    let content = fs::read(&path).unwrap();
    assert_eq!((content[4095], content[4096], content[8191], content[8192]), (7, 0, 0, 7));
}
