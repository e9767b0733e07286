//! fanotify(7), as ordinary users may have it since Linux 5.13: marks on directories, and events that name directory
//! handle and name.
//!
//! Raw system calls: of the crates that wrap them, none reads these records.

use std::ffi::{CStr, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;

use super::source::{By, How, Mark, News, Source, What, check_heard};

/// Names that have another meaning now.
const NAMES: u64 = libc::FAN_CREATE | libc::FAN_DELETE | libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO;
/// Changes of an object, of one in the directory or of itself.
const OBJECTS: u64 = libc::FAN_ATTRIB | libc::FAN_MODIFY | libc::FAN_CLOSE_WRITE;
/// The end of the directory, or of its place.
const SELF: u64 = libc::FAN_DELETE_SELF | libc::FAN_MOVE_SELF;
const MASK: u64 = NAMES | OBJECTS | SELF | libc::FAN_ONDIR | libc::FAN_EVENT_ON_CHILD;

/// `AT_HANDLE_FID`: a handle that need not lead back to the object, which more filesystems have. Since Linux 6.5.
const HANDLE_FID: c_int = 0x200;
/// The largest handle: `MAX_HANDLE_SZ`.
const HANDLE_MAX: usize = 128;
/// Length and type, before the bytes of a `file_handle`.
const HANDLE_HEADER: usize = 8;
/// What is before the `file_handle` in a record: type, padding, length, filesystem id.
const RECORD_HEADER: usize = 12;
/// What every event begins with: `fanotify_event_metadata`.
const METADATA: usize = 24;
/// Room for a few hundred events.
const BUFFER: usize = 64 << 10;

/// A group of marks and its queue.
pub(super) struct Fanotify {
    group: OwnedFd,
    pid: i32,
}

impl Fanotify {
    pub(super) fn new() -> io::Result<Fanotify> {
        let flags =
            libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | libc::FAN_REPORT_DFID_NAME;
        // SAFETY: no pointers; the descriptor it returns is nobody else's.
        let group = unsafe {
            let fd = libc::fanotify_init(flags, libc::O_RDONLY as libc::c_uint);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Fanotify { group, pid: rustix::process::getpid().as_raw_nonzero().get() })
    }

    fn change(&self, how: libc::c_uint, dir: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: the path is a string that ends in NUL, and the descriptors are open.
        let done = unsafe {
            let (group, dir) = (self.group.as_raw_fd(), dir.as_raw_fd());
            libc::fanotify_mark(group, how | libc::FAN_MARK_ONLYDIR, MASK, dir, c".".as_ptr())
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Source for Fanotify {
    fn how(&self) -> How {
        How::Fanotify
    }

    fn add(&self, dir: BorrowedFd<'_>) -> io::Result<Mark> {
        check_heard(dir)?;
        let mark = handle_of(dir)?;
        self.change(libc::FAN_MARK_ADD, dir)?;
        Ok(mark)
    }

    /// One that cannot be opened any more keeps its mark until it, or this process, is gone: nobody listens to it.
    fn remove(&self, _mark: &[u8], dir: Option<Arc<OwnedFd>>) -> io::Result<()> {
        dir.map_or(Ok(()), |dir| self.change(libc::FAN_MARK_REMOVE, dir.as_fd()))
    }

    fn read(&self, each: &mut dyn FnMut(News<'_>)) -> io::Result<bool> {
        let mut buffer = vec![0; BUFFER];
        let got = match rustix::io::retry_on_intr(|| rustix::io::read(&self.group, &mut buffer[..])) {
            Ok(got) => got,
            Err(Errno::AGAIN) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let mut rest = &buffer[..got];
        while let Some(event) = Event::first(rest) {
            if let Some(news) = event.news(self.pid) {
                each(news);
            }
            rest = &rest[event.len..];
        }
        Ok(got > 0)
    }

    fn queue(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

/// Type and bytes of the directory's handle, as events have them.
fn handle_of(dir: BorrowedFd<'_>) -> io::Result<Mark> {
    match handle(dir, HANDLE_FID) {
        // A kernel that does not know the flag.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => handle(dir, 0),
        other => other,
    }
}

fn handle(dir: BorrowedFd<'_>, flags: c_int) -> io::Result<Mark> {
    // Words, so that it is aligned for the structure.
    let mut room = [0u32; (HANDLE_HEADER + HANDLE_MAX) / 4];
    room[0] = HANDLE_MAX as u32;
    let mut mount = 0;
    // SAFETY: `room` begins with the number of bytes that are behind the header, and they are there.
    let done = unsafe {
        let room = room.as_mut_ptr().cast::<libc::file_handle>();
        libc::name_to_handle_at(dir.as_raw_fd(), c"".as_ptr(), room, &mut mount, libc::AT_EMPTY_PATH | flags)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes: Vec<u8> = room.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let (mark, _) = mark_and_rest(&bytes).ok_or_else(|| io::Error::other("a file handle of odd size"))?;
    Ok(mark.into())
}

/// A `file_handle` at the beginning of `bytes`: all of it as a mark, and what follows.
fn mark_and_rest(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    bytes.split_at_checked(HANDLE_HEADER.checked_add(len)?)
}

/// One event, as the kernel wrote it.
struct Event<'a> {
    len: usize,
    mask: u64,
    pid: i32,
    records: &'a [u8],
}

impl<'a> Event<'a> {
    /// The first of some events; `None` if there is no whole one.
    fn first(bytes: &'a [u8]) -> Option<Event<'a>> {
        let len = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let header = u16::from_ne_bytes(bytes.get(6..8)?.try_into().ok()?) as usize;
        let mask = u64::from_ne_bytes(bytes.get(8..16)?.try_into().ok()?);
        let pid = i32::from_ne_bytes(bytes.get(20..24)?.try_into().ok()?);
        let records = bytes.get(header.max(METADATA)..len)?;
        Some(Event { len, mask, pid, records })
    }

    fn news(&self, own: i32) -> Option<News<'a>> {
        if self.mask & libc::FAN_Q_OVERFLOW != 0 {
            return Some(News { mark: &[], what: What::Lost, by: By::Others });
        }
        let by = if self.pid == own { By::Us } else { By::Others };
        let (mark, name) = self.place()?;
        let what = match name {
            _ if self.mask & libc::FAN_DELETE_SELF != 0 => What::Over,
            b"." => What::Itself,
            name if self.mask & NAMES != 0 => What::Name(name),
            name => What::Object(name),
        };
        Some(News { mark, what, by })
    }

    /// Directory and name it is about.
    fn place(&self) -> Option<(&'a [u8], &'a [u8])> {
        let mut rest = self.records;
        loop {
            let len = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) as usize;
            let record = rest.get(..len)?;
            if record.first() == Some(&libc::FAN_EVENT_INFO_TYPE_DFID_NAME) {
                let (mark, name) = mark_and_rest(record.get(RECORD_HEADER..)?)?;
                return Some((mark, CStr::from_bytes_until_nul(name).ok()?.to_bytes()));
            }
            rest = rest.get(len.max(1)..)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn heard(source: &Fanotify) -> Vec<String> {
        let mut all = Vec::new();
        while source
            .read(&mut |news| {
                let what = match news.what {
                    What::Name(name) => format!("name {}", String::from_utf8_lossy(name)),
                    What::Object(name) => format!("object {}", String::from_utf8_lossy(name)),
                    other => format!("{other:?}"),
                };
                all.push(what);
            })
            .unwrap()
        {}
        all.dedup();
        all
    }

    #[test]
    fn a_directory_is_heard_until_its_mark_is_removed() {
        let Ok(source) = Fanotify::new() else { return eprintln!("SKIPPED: no fanotify") };
        let dir = tempfile::tempdir().unwrap();
        let fd: Arc<OwnedFd> = Arc::new(fs::File::open(dir.path()).unwrap().into());
        let mark = source.add(fd.as_fd()).unwrap();
        assert_eq!(source.add(fd.as_fd()).unwrap(), mark, "watched once");
        let mut marks = Vec::new();
        fs::create_dir(dir.path().join("sub")).unwrap();
        source.read(&mut |news| marks.push((Mark::from(news.mark), news.by))).unwrap();
        assert_eq!(marks, [(mark.clone(), By::Us)]);
        fs::write(dir.path().join("f"), "x").unwrap();
        assert_eq!(heard(&source), ["name f"], "and that it changed, in one event");
        fs::write(dir.path().join("f"), "y").unwrap();
        assert_eq!(heard(&source), ["object f"]);
        fs::remove_file(dir.path().join("f")).unwrap();
        assert_eq!(heard(&source), ["name f"]);
        source.remove(&mark, Some(fd)).unwrap();
        fs::write(dir.path().join("g"), "x").unwrap();
        assert_eq!(heard(&source), Vec::<String>::new());
    }

    #[test]
    fn bytes_that_are_no_event_are_nothing() {
        assert!(Event::first(&[]).is_none());
        assert!(Event::first(&[255; 23]).is_none());
        assert!(Event::first(&[0; 64]).is_none());
        let none = Event { len: 24, mask: libc::FAN_CREATE, pid: 1, records: &[2, 0, 0, 0] };
        assert!(none.news(1).is_none());
        let short = Event { len: 24, mask: libc::FAN_CREATE, pid: 1, records: &[2, 0, 4, 0] };
        assert!(short.news(1).is_none());
    }
}
