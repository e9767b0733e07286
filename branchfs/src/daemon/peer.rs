//! Who is at the other end of a connection.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// Credentials of the process that connected, as they were then (unix(7), SO_PEERCRED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    /// `None` where the process is outside our pid namespace.
    pub(super) pid: Option<i32>,
}

impl Peer {
    /// rustix has this call too, but with a pid type that cannot hold the 0 of a foreign pid namespace.
    pub(super) fn of(stream: &UnixStream) -> io::Result<Peer> {
        let mut credentials = MaybeUninit::<libc::ucred>::zeroed();
        let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(io::Error::other)?;
        // SAFETY: the descriptor is open, the buffer is as long as `len` says, and both outlive the call.
        let answer = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                credentials.as_mut_ptr().cast(),
                &mut len,
            )
        };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all-zero bytes are a ucred, and the kernel has filled it in.
        let credentials = unsafe { credentials.assume_init() };
        Ok(Peer { uid: credentials.uid, pid: (credentials.pid > 0).then_some(credentials.pid) })
    }

    /// Whether it may talk to the daemon of a store that belongs to `owner` (S24).
    pub(super) fn may_talk(self, owner: u32) -> bool {
        self.uid == owner || self.uid == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (_ours, theirs) = UnixStream::pair().expect("pair");
        let pid = i32::try_from(std::process::id()).ok();
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(Peer::of(&theirs).expect("credentials"), Peer { uid, pid });
    }

    #[test]
    fn only_the_owner_and_root_may_talk() {
        let peer = |uid| Peer { uid, pid: None };
        assert!(peer(1000).may_talk(1000) && peer(0).may_talk(1000));
        assert!(!peer(1001).may_talk(1000) && !peer(1000).may_talk(0));
    }
}
