//! What the init does inside its new network namespace. Async-signal-safe.

use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut};
use std::mem::{self, MaybeUninit};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::error::Step;
use crate::net::mode::Net;
use crate::sys;
use crate::wire::Fail;

/// Where the proxy listens in a group's own loopback; all its ports are free when it starts. Below those that
/// the kernel gives away by itself (`ip_local_port_range`).
pub const PROXY_PORT: u16 = 30128;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Sockets of resolvers outside. They are files, which a network namespace does not hide, and a question to a
/// resolver is a message to the outside.
const RESOLVERS: [&CStr; 2] = [c"/run/systemd/resolve/io.systemd.Resolve", c"/var/run/nscd/socket"];

/// The network namespace of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// The caller's.
    Callers,
    /// Its own, as the kernel makes it: nothing is up.
    Down,
    /// Its own, with loopback.
    Loopback,
}

impl Namespace {
    pub(crate) fn of(net: &Net) -> Namespace {
        match net {
            Net::Open => Namespace::Callers,
            Net::None => Namespace::Down,
            Net::Loopback | Net::Allow(_) => Namespace::Loopback,
        }
    }
}

/// Brings up loopback; the kernel gives it its addresses (`netdevice(7)`).
pub(crate) fn loopback_up() -> Result<(), Fail> {
    let failed = |e| Fail::new(Step::Loopback, e);
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(failed)?;
    // SAFETY: ifreq is plain data, for which zero is valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *place = byte as libc::c_char;
    }
    flags(&socket, libc::SIOCGIFFLAGS, &mut request).map_err(failed)?;
    // SAFETY: the call before has stored the flags, and every bit pattern is a valid one.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    flags(&socket, libc::SIOCSIFFLAGS, &mut request).map_err(failed)
}

/// Puts something that does not answer over the [`RESOLVERS`], in the group's own mounts.
pub(crate) fn hide_resolvers() -> Result<(), Fail> {
    for path in RESOLVERS {
        match rustix::mount::mount_bind(c"/dev/null", path) {
            // There is none, or this user does not reach it.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {}
            Err(e) => return Err(Fail::new(Step::Resolvers, e)),
        }
    }
    Ok(())
}

fn flags(socket: &OwnedFd, operation: libc::c_ulong, request: &mut libc::ifreq) -> Result<(), Errno> {
    // SAFETY: both operations take an ifreq, and this is one.
    match unsafe { libc::ioctl(socket.as_raw_fd(), operation as _, &raw mut *request) } {
        0 => Ok(()),
        _ => Err(sys::last_errno()),
    }
}

/// Makes the socket on which the proxy accepts, and sends it to the spawner: only who is in a namespace can
/// make a socket that belongs to it.
pub(crate) fn hand_over_listener(to: &OwnedFd) -> Result<(), Fail> {
    let failed = |e| Fail::new(Step::ProxySocket, e);
    let listener =
        rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(failed)?;
    rustix::net::bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, PROXY_PORT)).map_err(failed)?;
    rustix::net::listen(&listener, BACKLOG).map_err(failed)?;
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let sockets = [listener.as_fd()];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(failed(Errno::NOMEM));
    }
    rustix::net::sendmsg(to, &[IoSlice::new(b"L")], &mut ancillary, SendFlags::NOSIGNAL)
        .map(|_| ())
        .map_err(failed)
}

/// The spawner's side: the socket, or None if the init has ended without sending it, and tells why.
pub(crate) fn receive_listener(from: &OwnedFd, init: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    loop {
        let mut watched = [PollFd::new(from, PollFlags::IN), PollFd::from_borrowed_fd(init, PollFlags::IN)];
        match rustix::event::poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
        if watched[0].revents().contains(PollFlags::IN) {
            return receive(from);
        }
        if !watched[0].revents().is_empty() || !watched[1].revents().is_empty() {
            return Ok(None);
        }
    }
}

fn receive(from: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let sockets = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    Ok(sockets.flatten().next())
}
