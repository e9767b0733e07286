//! inotify(7): where fanotify is not to be had. It does not tell who it was.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::source::{By, How, Mark, News, Source, What, check_heard};

const NAMES: ReadFlags =
    ReadFlags::CREATE.union(ReadFlags::DELETE).union(ReadFlags::MOVED_FROM).union(ReadFlags::MOVED_TO);
const MASK: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// Room for a few hundred events.
const BUFFER: usize = 16 << 10;

/// An inotify instance.
pub(super) struct Inotify {
    queue: OwnedFd,
}

impl Inotify {
    pub(super) fn new() -> io::Result<Inotify> {
        Ok(Inotify { queue: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)? })
    }
}

impl Source for Inotify {
    fn how(&self) -> How {
        How::Inotify
    }

    fn add(&self, dir: BorrowedFd<'_>) -> io::Result<Mark> {
        check_heard(dir)?;
        let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let watch = inotify::add_watch(&self.queue, path, MASK)?;
        Ok(watch.to_ne_bytes().into())
    }

    fn remove(&self, mark: &[u8], _dir: Option<Arc<OwnedFd>>) -> io::Result<()> {
        let Ok(watch) = mark.try_into().map(i32::from_ne_bytes) else { return Ok(()) };
        match inotify::remove_watch(&self.queue, watch) {
            // The directory is gone, and its watch with it.
            Err(Errno::INVAL) => Ok(()),
            done => Ok(done?),
        }
    }

    fn read(&self, each: &mut dyn FnMut(News<'_>)) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut events = Reader::new(&self.queue, &mut buffer);
        let mut any = false;
        loop {
            match events.next() {
                Ok(event) => {
                    any = true;
                    let name = event.file_name().map_or(&[][..], |name| name.to_bytes());
                    let mark = event.wd().to_ne_bytes();
                    each(News { mark: &mark, what: what(event.events(), name), by: By::Others });
                }
                Err(Errno::AGAIN) => return Ok(any),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if events.is_buffer_empty() {
                return Ok(any);
            }
        }
    }

    fn queue(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

fn what(events: ReadFlags, name: &[u8]) -> What<'_> {
    if events.contains(ReadFlags::QUEUE_OVERFLOW) {
        What::Lost
    } else if events.contains(ReadFlags::IGNORED) {
        What::Over
    } else if name.is_empty() {
        What::Itself
    } else if events.intersects(NAMES) {
        What::Name(name)
    } else {
        What::Object(name)
    }
}
