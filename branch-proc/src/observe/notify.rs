//! The kernel's side of `seccomp_unotify(2)`: structures, requests, and how the listener's descriptor gets out
//! of the child.

use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::sys::last_errno;

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notification {
    pub(crate) id: u64,
    /// Of the thread, in the supervisor's pid namespace.
    pub(crate) pid: u32,
    flags: u32,
    pub(crate) number: i32,
    arch: u32,
    instruction: u64,
    pub(crate) args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const RECV: u64 = 0xc050_2100;
const SEND: u64 = 0xc018_2101;
const ID_VALID: u64 = 0x4008_2102;
const SET_FLAGS: u64 = 0x4008_2104;
const FLAG_CONTINUE: u32 = 1;
/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`: caller and supervisor take turns, so they may as well share a
/// processor.
const SYNC_WAKE_UP: u64 = 1;

const _: () = assert!(size_of::<Notification>() == 80 && size_of::<Response>() == 24);

/// How a call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// As if nobody had been asked.
    Continue,
    /// With this error number.
    Deny(i32),
}

/// A listener of a seccomp program.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

impl Listener {
    /// Comes over a socket from a child that called [`send_listener`].
    pub(crate) fn receive(socket: &OwnedFd) -> Option<Listener> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0u8; 1];
        let into = &mut [std::io::IoSliceMut::new(&mut byte)];
        rustix::net::recvmsg(socket, into, &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
        let listener = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let listener = Listener(listener?);
        match listener.request(SET_FLAGS, SYNC_WAKE_UP as *mut u8) {
            // Before Linux 6.6 there is no such flag: it is only faster.
            Ok(()) | Err(Errno::INVAL) => Some(listener),
            Err(_) => None,
        }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The next call that waits; None if it is gone meanwhile.
    pub(crate) fn next(&self) -> Option<Notification> {
        // SAFETY: plain numbers; the kernel insists on zero.
        let mut notification: Notification = unsafe { mem::zeroed() };
        self.request(RECV, (&raw mut notification).cast()).ok()?;
        Some(notification)
    }

    /// Whether the call still waits: then what was read of its process was that process', and not one's that
    /// has the same number now.
    pub(crate) fn is_valid(&self, mut id: u64) -> bool {
        self.request(ID_VALID, (&raw mut id).cast()).is_ok()
    }

    /// Answers. That the caller has died meanwhile is no matter.
    pub(crate) fn answer(&self, id: u64, reply: Reply) -> Result<(), Errno> {
        let mut response = match reply {
            // Harmless though the caller's other threads may change the arguments after we have looked:
            // we only look. What is denied, the kernel's own rules deny.
            Reply::Continue => Response { id, value: 0, error: 0, flags: FLAG_CONTINUE },
            Reply::Deny(errno) => Response { id, value: 0, error: -errno, flags: 0 },
        };
        match self.request(SEND, (&raw mut response).cast()) {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    }

    fn request(&self, request: u64, argument: *mut u8) -> Result<(), Errno> {
        // SAFETY: each request is made with what it takes.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), request as _, argument) } {
            -1 => Err(last_errno()),
            _ => Ok(()),
        }
    }
}

/// The two ends for [`send_listener`] and [`Listener::receive`].
pub(crate) fn channel() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

/// Sends a descriptor to the spawner. Async-signal-safe.
pub(crate) fn send_listener(socket: BorrowedFd<'_>, listener: RawFd) -> Result<(), Errno> {
    // SAFETY: the caller has it open for the call.
    let fds = [unsafe { BorrowedFd::borrow_raw(listener) }];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // There is room for exactly this.
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::NOBUFS);
    }
    let byte = [std::io::IoSlice::new(&[0])];
    rustix::net::sendmsg(socket, &byte, &mut control, SendFlags::NOSIGNAL).map(drop)
}
