//! The attempts: one system call that would reach what is offered, each with the error number it was answered with.

use std::ffi::CString;
use std::mem;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::ptr;

use crate::offer::{SECRET, Target};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Attempt {
    Signal,
    /// By a pidfd that was passed: the strongest handle there is.
    PidfdSignal,
    Ptrace,
    ReadMemory,
    ProcMem,
    SysvShm,
    SysvSemaphore,
    SysvQueue,
    PosixShm,
    PosixQueue,
    AbstractSocket,
}

/// The number under which a pidfd of the target is passed.
pub(crate) const PIDFD: i32 = 42;

impl Attempt {
    pub(crate) const ALL: [Attempt; 11] = [
        Attempt::Signal,
        Attempt::PidfdSignal,
        Attempt::Ptrace,
        Attempt::ReadMemory,
        Attempt::ProcMem,
        Attempt::SysvShm,
        Attempt::SysvSemaphore,
        Attempt::SysvQueue,
        Attempt::PosixShm,
        Attempt::PosixQueue,
        Attempt::AbstractSocket,
    ];

    /// 0, or an error number.
    pub(crate) fn make(self, target: &Target) -> i32 {
        let Target { pid, address, key, name } = target;
        let (pid, key) = (*pid, *key);
        let posix = CString::new(format!("/{name}")).unwrap();
        match self {
            // SAFETY: plain system call. Signal 0 is refused or allowed as any other is, and does nothing.
            Attempt::Signal => answer(unsafe { libc::kill(pid, 0) }.into()),
            Attempt::PidfdSignal => {
                let none = ptr::null::<libc::siginfo_t>();
                // SAFETY: as above.
                answer(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, PIDFD, 0, none, 0) })
            }
            Attempt::Ptrace => trace(pid),
            Attempt::ReadMemory => read_memory(pid, *address),
            Attempt::ProcMem => proc_mem(pid, *address),
            // SAFETY: plain system calls, those below with valid C strings.
            Attempt::SysvShm => answer(unsafe { libc::shmget(key, 0, 0) }.into()),
            // SAFETY: as above.
            Attempt::SysvSemaphore => answer(unsafe { libc::semget(key, 0, 0) }.into()),
            // SAFETY: as above.
            Attempt::SysvQueue => answer(unsafe { libc::msgget(key, 0) }.into()),
            // SAFETY: as above.
            Attempt::PosixShm => answer(unsafe { libc::shm_open(posix.as_ptr(), libc::O_RDWR, 0) }.into()),
            // SAFETY: as above.
            Attempt::PosixQueue => answer(unsafe { libc::mq_open(posix.as_ptr(), libc::O_RDWR) }.into()),
            Attempt::AbstractSocket => {
                let address = SocketAddr::from_abstract_name(name).unwrap();
                UnixStream::connect_addr(&address).map_or_else(|e| e.raw_os_error().unwrap(), |_| 0)
            }
        }
    }
}

fn answer(result: i64) -> i32 {
    if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap() } else { 0 }
}

fn trace(pid: i32) -> i32 {
    let none = ptr::null_mut::<u8>();
    // SAFETY: plain system call; whoever was seized is let go at once.
    let seized = answer(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, none, none) });
    if seized == 0 {
        // SAFETY: as above. A tracee that runs is stopped before it can be let go.
        unsafe {
            libc::ptrace(libc::PTRACE_INTERRUPT, pid, none, none);
            libc::waitpid(pid, ptr::null_mut(), libc::__WALL);
            libc::ptrace(libc::PTRACE_DETACH, pid, none, none);
        }
    }
    seized
}

fn read_memory(pid: i32, address: usize) -> i32 {
    let mut found = [0_u8; SECRET.len()];
    let local = libc::iovec { iov_base: found.as_mut_ptr().cast(), iov_len: found.len() };
    let remote = libc::iovec { iov_base: ptr::without_provenance_mut(address), iov_len: found.len() };
    // SAFETY: local is a buffer of this length; remote is an address of another process.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    if read < 0 {
        return answer(-1);
    }
    assert_eq!(&found, SECRET);
    0
}

fn proc_mem(pid: i32, address: usize) -> i32 {
    use std::os::unix::fs::FileExt;
    let mut found = [0_u8; SECRET.len()];
    let read = std::fs::File::open(format!("/proc/{pid}/mem"))
        .and_then(|memory| memory.read_exact_at(&mut found, address as u64));
    match read {
        Ok(()) => {
            assert_eq!(&found, SECRET);
            0
        }
        Err(e) => e.raw_os_error().unwrap(),
    }
}

const _: () = assert!(mem::size_of::<usize>() == mem::size_of::<*const u8>());
