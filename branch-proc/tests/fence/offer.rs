//! What there is to be reached of a process: itself, its memory, and one of each kind of thing that processes share.

use std::ffi::CString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::ptr;

pub(crate) const SECRET: &[u8; 16] = b"nobody else's!!!";

/// How it is found. As words it is passed to another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) pid: i32,
    pub(crate) address: usize,
    pub(crate) key: i32,
    pub(crate) name: String,
}

impl Target {
    pub(crate) fn words(&self) -> String {
        format!("{} {} {} {}", self.pid, self.address, self.key, self.name)
    }

    pub(crate) fn parse(words: &str) -> Target {
        let words: Vec<&str> = words.split_whitespace().collect();
        let [pid, address, key, name] = words[..] else { panic!("{words:?}") };
        let (pid, key) = (pid.parse().unwrap(), key.parse().unwrap());
        Target { pid, address: address.parse().unwrap(), key, name: name.to_owned() }
    }
}

/// Holds the things, and removes them.
pub(crate) struct Offer {
    target: Target,
    posix: CString,
    ids: [i32; 3],
    _socket: UnixListener,
}

impl Offer {
    /// `who` and the pid tell it from others.
    pub(crate) fn make(who: &str) -> Offer {
        let pid = std::process::id() as i32;
        let name = format!("branch-proc-fence-{who}-{pid}");
        // Not 0, which is IPC_PRIVATE.
        let key = who.bytes().fold(pid, |key, byte| key.wrapping_mul(31).wrapping_add(byte.into())) | 1;
        let posix = CString::new(format!("/{name}")).unwrap();
        let (new, mode) = (libc::IPC_CREAT | libc::IPC_EXCL | 0o600, 0o600);
        let create = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
        // SAFETY: plain system calls with valid C strings and no attributes.
        let (ids, shared, queue) = unsafe {
            (
                [libc::shmget(key, 4096, new), libc::semget(key, 1, new), libc::msgget(key, new)],
                libc::shm_open(posix.as_ptr(), create, mode),
                libc::mq_open(posix.as_ptr(), create, mode, ptr::null::<libc::mq_attr>()),
            )
        };
        // A policy refuses queues; that they are there without one is what the attempts of an own group show.
        let why = std::io::Error::last_os_error();
        assert!(ids.iter().all(|id| *id >= 0) && shared >= 0, "{ids:?} {shared}: {why}");
        assert!(queue >= 0 || why.raw_os_error() == Some(libc::EACCES), "{why}");
        let socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let target = Target { pid, address: SECRET.as_ptr().addr(), key, name };
        Offer { target, posix, ids, _socket: socket }
    }

    pub(crate) fn target(&self) -> Target {
        self.target.clone()
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let [shared, semaphore, queue] = self.ids;
        // SAFETY: removes what was made above; the C string is valid.
        unsafe {
            libc::shmctl(shared, libc::IPC_RMID, ptr::null_mut());
            libc::semctl(semaphore, 0, libc::IPC_RMID);
            libc::msgctl(queue, libc::IPC_RMID, ptr::null_mut());
            libc::shm_unlink(self.posix.as_ptr());
            libc::mq_unlink(self.posix.as_ptr());
        }
    }
}
