//! A tree with everything that archivers get wrong: names, links, holes, attributes, times, devices, depth.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, makedev, mknodat, utimensat,
};

/// Levels of the deepest directory, each of [`LEVEL`] bytes.
const LEVELS: usize = 60;
const LEVEL: usize = 40;

/// Fills `dir`, which exists. As root with owners, devices and privileged attributes, too.
pub(crate) fn hostile_tree(dir: &Path) {
    names(&at(dir, "names"));
    links(&at(dir, "links"));
    contents(&at(dir, "contents"));
    special(&at(dir, "special"));
    modes(&at(dir, "modes"));
    attributes(&at(dir, "attributes"));
    deep(&at(dir, "deep"));
    settle(dir);
    times(&at(dir, "times"));
    set_time(dir, 1_000_000_000, 1);
}

fn at(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir(&path).unwrap();
    path
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

fn names(dir: &Path) {
    let longest = "n".repeat(255);
    let odd: [&[u8]; 16] = [
        b"new\nline",
        b"tab\t",
        b" blank ",
        b"-rf",
        b"--",
        b"*?[a]",
        b"back\\slash",
        b"\"quotes'`$(x)",
        b"\xff\xfe\x80",
        b"\xc3\xa4",
        b"a\xcc\x88",
        b"\x01\x7f\x1b[31m",
        b"...",
        b"#~!;&|<>",
        longest.as_bytes(),
        b"\\012\\377",
    ];
    for name in odd {
        fs::write(dir.join(OsStr::from_bytes(name)), name).unwrap();
        fs::create_dir_all(dir.join("directories").join(OsStr::from_bytes(name)).join("below")).unwrap();
    }
}

fn links(dir: &Path) {
    fs::write(dir.join("one"), "of three\n").unwrap();
    fs::create_dir(dir.join("far")).unwrap();
    fs::hard_link(dir.join("one"), dir.join("two")).unwrap();
    fs::hard_link(dir.join("one"), dir.join("far/three")).unwrap();
    symlink("nowhere", dir.join("dangling")).unwrap();
    symlink("far", dir.join("to a directory")).unwrap();
    symlink("self", dir.join("self")).unwrap();
    symlink(OsStr::from_bytes(b"\xff\n"), dir.join("odd")).unwrap();
    symlink("x/".repeat(1000), dir.join("long")).unwrap();
    fs::hard_link(dir.join("dangling"), dir.join("far/dangling too")).unwrap();
}

fn contents(dir: &Path) {
    File::create(dir.join("empty")).unwrap();
    let bytes: Vec<u8> = (0..1_000_003_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(dir.join("large"), &bytes).unwrap();
    for (name, size, data) in
        [("hole", 2 << 20, &[][..]), ("islands", 4 << 20, &[1 << 20, 2 << 20, (4 << 20) - 4096])]
    {
        let file = File::create(dir.join(name)).unwrap();
        file.set_len(size).unwrap();
        for at in data {
            file.write_all_at(&bytes[..4096], *at).unwrap();
        }
    }
}

fn special(dir: &Path) {
    let node =
        |name: &str, kind, device| mknodat(CWD, dir.join(name), kind, Mode::from(0o640), device).unwrap();
    node("fifo", FileType::Fifo, 0);
    drop(UnixListener::bind(dir.join("socket")).unwrap());
    if root() {
        node("character", FileType::CharacterDevice, makedev(1, 3));
        node("block", FileType::BlockDevice, makedev(7, 200));
    }
}

fn modes(dir: &Path) {
    for mode in [0o000, 0o111, 0o444, 0o600, 0o666, 0o777, 0o4755, 0o2755, 0o6711, 0o1644] {
        let (file, below) = (dir.join(format!("file-{mode:o}")), dir.join(format!("dir-{mode:o}")));
        fs::write(&file, "mode\n").unwrap();
        fs::create_dir(&below).unwrap();
        if root() {
            chown(&file, Some(mode), Some(mode + 1)).unwrap();
            chown(&below, Some(mode + 2), Some(70_000)).unwrap();
        }
        // An ordinary user has to come back in.
        let traversable = if root() { mode } else { mode | 0o700 };
        fs::set_permissions(&file, PermissionsExt::from_mode(traversable)).unwrap();
        fs::set_permissions(&below, PermissionsExt::from_mode(traversable)).unwrap();
    }
    symlink("file-600", dir.join("another's")).unwrap();
    if root() {
        lchown(dir.join("another's"), Some(123_456), Some(65_534)).unwrap();
    }
}

fn attributes(dir: &Path) {
    let set =
        |path: &Path, name: &str, value: &[u8]| lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
    let (file, below) = (dir.join("file"), dir.join("directory"));
    fs::write(&file, "attributes\n").unwrap();
    fs::create_dir(&below).unwrap();
    for path in [&file, &below] {
        set(path, "user.text", b"value");
        set(path, "user.empty", b"");
        set(path, "user.bytes", b"\0\xff\n");
        set(path, "user.large", &[b'v'; 1500]);
        // Version 2, one user entry (1234: rwx), the owner, the group, the mask, the others: see acl(5).
        set(path, "system.posix_acl_access", &acl(0o5));
    }
    set(&below, "system.posix_acl_default", &acl(0o7));
    if root() {
        set(&file, "trusted.private", b"root's");
        // cap_net_raw, effective and permitted: see linux/capability.h, revision 2.
        let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        set(&file, "security.capability", &capability);
        fs::create_dir(below.join("inherits")).unwrap();
    }
}

/// More than a mode can say, as the kernel takes it: version 2, then tag, permissions and id of each entry.
fn acl(mask: u16) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (0x01, 7, u32::MAX),
        (0x02, 7, 1234),
        (0x04, 4, u32::MAX),
        (0x08, 6, 4321),
        (0x10, mask, u32::MAX),
        (0x20, 1, u32::MAX),
    ] {
        bytes.extend([tag, permissions].iter().flat_map(|n: &u16| n.to_le_bytes()));
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn deep(dir: &Path) {
    let mut path = dir.to_owned();
    for level in 0..LEVELS {
        path.push(format!("{level:0width$}", width = LEVEL - 1));
        fs::create_dir(&path).unwrap();
    }
    fs::write(path.join("bottom"), "deep\n").unwrap();
}

fn times(dir: &Path) {
    let seconds = [-1_000_000_000, -1, 0, 1, (1 << 31) - 1, 1 << 31, 4_000_000_000];
    for (name, nanoseconds) in [("even", 0), ("odd", 123_456_789), ("last", 999_999_999)] {
        for second in seconds {
            let path = dir.join(format!("{name} {second}"));
            fs::write(&path, "time\n").unwrap();
            set_time(&path, second, nanoseconds);
        }
    }
    set_time(dir, -1, 999_999_999);
}

/// Sets the times of all that is there: making it has left the clock's.
fn settle(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            settle(&entry.path());
        }
        let length = entry.file_name().len() as i64;
        set_time(&entry.path(), 1_000_000_000 + length, 1_000_000 * length);
    }
}

fn set_time(path: &Path, tv_sec: i64, tv_nsec: i64) {
    let time = Timespec { tv_sec, tv_nsec };
    let both = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &both, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
