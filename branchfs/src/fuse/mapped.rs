//! Which files of a mount processes have mapped so that all see what is stored: only there can pages be dirty whose
//! bytes nobody has told us.
//!
//! Where files are opened without us, this is the only way to know. syncfs(2) does not do: of a FUSE mount it starts
//! writing pages out and does not wait (Linux 7.0 and stable kernels from 6.18 on; before 6.16 it waited for copies of the pages
//! to be queued). A map that ends is written out by munmap(2) or the end of its process before these return.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;
use rustix::ioctl::{Updater, ioctl, opcode};

use super::Access;
use crate::procfs;

/// Links of `/proc/<pid>/task` of a process with one thread: its own two, and the thread's.
const LINKS_OF_ONE: u64 = 3;
/// `CAP_SYS_PTRACE`, to look at everybody's maps.
const SEES_ALL: u32 = 19;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mapped {
    /// These inodes, and perhaps some that are not dirty; no others.
    Only(BTreeSet<u64>),
    /// Somebody who may have mapped files cannot be looked at.
    Unknown,
}

/// `struct procmap_query` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    flags: u64,
    address: u64,
    start: u64,
    end: u64,
    map_flags: u64,
    page_size: u64,
    offset: u64,
    inode: u64,
    major: u32,
    minor: u32,
    name_size: u32,
    build_id_size: u32,
    name_address: u64,
    build_id_address: u64,
}

const QUERY: rustix::ioctl::Opcode = opcode::read_write::<Query>(b'f', 17);
const SHARED: u64 = 1 << 3;
const OR_NEXT: u64 = 1 << 4;
const OF_FILES: u64 = 1 << 5;

/// Files of the mount whose device has this minor number.
pub(super) fn shared(minor: u32, access: Access) -> Mapped {
    if access == Access::All && !sees_all() {
        return Mapped::Unknown;
    }
    match look(minor, access) {
        Ok(found) => Mapped::Only(found),
        Err(error) => {
            tracing::debug!("looking for maps of files: {error}");
            Mapped::Unknown
        }
    }
}

fn look(minor: u32, access: Access) -> io::Result<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        match of_process(pid, minor, &mut found) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !may_hide(pid, access) => {}
            other => other?,
        }
    }
    Ok(found)
}

/// A process has its memory as long as any of its threads lives, also when the first has ended.
fn of_process(pid: u32, minor: u32, found: &mut BTreeSet<u64>) -> io::Result<()> {
    if of_task(&format!("/proc/{pid}/maps"), minor, found)? {
        return Ok(());
    }
    let tasks = format!("/proc/{pid}/task");
    if fs::metadata(&tasks).map_or(true, |tasks| tasks.nlink() <= LINKS_OF_ONE) {
        return Ok(());
    }
    for task in fs::read_dir(&tasks).into_iter().flatten() {
        if of_task(&format!("{}/maps", task?.path().display()), minor, found)? {
            break;
        }
    }
    Ok(())
}

/// Whether it had memory to look at.
fn of_task(maps: &str, minor: u32, found: &mut BTreeSet<u64>) -> io::Result<bool> {
    let asked = File::open(maps).and_then(|maps| match ask(&maps, minor, found) {
        // Before Linux 6.11.
        Err(Errno::NOTTY) => read(maps, minor, found),
        asked => Ok(asked.map(|()| true)?),
    });
    match asked {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(false),
        asked => asked,
    }
}

fn ask(maps: &impl AsFd, minor: u32, found: &mut BTreeSet<u64>) -> Result<(), Errno> {
    let mut address = 0;
    loop {
        let size = size_of::<Query>() as u64;
        let mut query = Query { size, flags: SHARED | OR_NEXT | OF_FILES, address, ..Query::default() };
        // SAFETY: the structure is that of the request, says its size, and has no room for names.
        match unsafe { ioctl(maps, Updater::<QUERY, Query>::new(&mut query)) } {
            Ok(()) => {}
            // No more maps.
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        if (query.major, query.minor) == (0, minor) {
            found.insert(query.inode);
        }
        address = query.end;
    }
}

fn read(maps: File, minor: u32, found: &mut BTreeSet<u64>) -> io::Result<bool> {
    let text = io::read_to_string(maps)?;
    found.extend(text.lines().filter_map(|line| shared_file(line, minor)));
    Ok(!text.is_empty())
}

/// `start-end rw-s offset major:minor inode path`
fn shared_file(line: &str, minor: u32) -> Option<u64> {
    let mut words = line.split_ascii_whitespace();
    let (_, permissions, _, device, inode) =
        (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    let (found_major, found_minor) = device.split_once(':')?;
    let is_it = permissions.ends_with('s')
        && u32::from_str_radix(found_major, 16) == Ok(0)
        && u32::from_str_radix(found_minor, 16) == Ok(minor);
    inode.parse().ok().filter(|_| is_it)
}

/// Whether somebody who cannot be looked at may have files of the mount. One that is hidden from whoever may look at
/// everybody is the host's own.
fn may_hide(pid: u32, access: Access) -> bool {
    match access {
        Access::All => false,
        Access::Owner => may_be_ours(pid),
    }
}

/// A mount for its owner only is closed to everybody none of whose user ids is ours.
fn may_be_ours(pid: u32) -> bool {
    let ours = rustix::process::geteuid().as_raw().to_string();
    // One that has gone is nobody's.
    procfs::text(pid, "status").is_some_and(|status| {
        let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        ids.is_none_or(|ids| ids.split_ascii_whitespace().any(|id| id == ours))
    })
}

fn sees_all() -> bool {
    procfs::text("self", "status").is_some_and(|status| {
        let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        capabilities
            .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
            .is_some_and(|set| set >> SEES_ALL & 1 == 1)
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::ptr;

    use super::*;

    /// A page of a file of tmpfs, which has a device without a major number, as FUSE has.
    struct Map(*mut libc::c_void);

    impl Map {
        fn new(file: &File, flags: i32, protection: i32) -> Map {
            // SAFETY: a new map of a file of one page, which nobody else knows.
            let at = unsafe { libc::mmap(ptr::null_mut(), 4096, protection, flags, file.as_raw_fd(), 0) };
            assert_ne!(at, libc::MAP_FAILED, "{}", io::Error::last_os_error());
            Map(at)
        }
    }

    impl Drop for Map {
        fn drop(&mut self) {
            // SAFETY: made above, and used by nobody.
            unsafe { libc::munmap(self.0, 4096) };
        }
    }

    fn file() -> (File, u32, u64) {
        let file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.set_len(4096).unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        (file, rustix::fs::minor(stat.st_dev), stat.st_ino)
    }

    #[test]
    fn shared_maps_are_found_and_others_are_not() {
        let (file, minor, inode) = file();
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let _private = Map::new(&file, libc::MAP_PRIVATE, both);
        let mut found = BTreeSet::new();
        of_process(std::process::id(), minor, &mut found).unwrap();
        assert!(!found.contains(&inode));
        let shared = Map::new(&file, libc::MAP_SHARED, both);
        // SAFETY: its protection only.
        assert_eq!(unsafe { libc::mprotect(shared.0, 4096, libc::PROT_READ) }, 0);
        of_process(std::process::id(), minor, &mut found).unwrap();
        assert!(found.contains(&inode), "what was stored before it became read-only may be dirty");
        let mut others = BTreeSet::new();
        of_process(std::process::id(), minor + 1000, &mut others).unwrap();
        assert!(others.is_empty());
    }

    #[test]
    fn the_text_says_the_same() {
        let (file, minor, inode) = file();
        let _shared = Map::new(&file, libc::MAP_SHARED, libc::PROT_READ);
        let (mut asked, mut told) = (BTreeSet::new(), BTreeSet::new());
        of_process(std::process::id(), minor, &mut asked).unwrap();
        assert!(read(File::open("/proc/self/maps").unwrap(), minor, &mut told).unwrap());
        assert!(told.contains(&inode));
        assert_eq!(asked, told);
        assert_eq!(
            shared_file("7f00-7f01 rw-s 00000000 00:2e 4294967308   /m/a b", 0x2e),
            Some(4_294_967_308)
        );
        assert_eq!(shared_file("7f00-7f01 rw-p 00000000 00:2e 12 /m/a", 0x2e), None);
        assert_eq!(shared_file("7f00-7f01 rw-s 00000000 08:2e 12 /m/a", 0x2e), None);
        assert_eq!(shared_file("7f00-7f01 rw-s", 0x2e), None);
    }

    #[test]
    fn everybody_can_be_looked_at_or_it_is_said() {
        let (file, minor, inode) = file();
        let _shared = Map::new(&file, libc::MAP_SHARED, libc::PROT_READ);
        match shared(minor, Access::All) {
            Mapped::Only(found) => assert!(sees_all() && found.contains(&inode)),
            Mapped::Unknown => assert!(!sees_all()),
        }
        assert!(may_be_ours(std::process::id()));
        assert!(!may_be_ours(u32::MAX), "nobody's");
    }
}
