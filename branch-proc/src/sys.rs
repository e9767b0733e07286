//! System calls that rustix does not wrap, or not for use between clone and exec. Nothing here allocates or
//! locks.

use std::ffi::CStr;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

/// `clone3(2)`, Linux 5.5: handled signals are back at their default in the child. (libc's constant does
/// not fit the type it is given there.)
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// Highest signal number (`SIGRTMAX`).
const SIGNAL_MAX: i32 = 64;

/// `clone3(2)`, Linux 5.7: the child starts in the cgroup v2 directory of `clone_args.cgroup`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// What a group's init is called, for `ps` and to be recognised.
pub(crate) const INIT_NAME: &CStr = c"branch-init";
/// Orders a group's init to end everything in it: on the lowest rung, where SIGKILL would end the init alone. The
/// highest real-time signal; nobody sends it by chance.
pub(crate) const SIGNAL_END: i32 = SIGNAL_MAX;

/// The two sides of [`clone3`].
pub(crate) enum Side {
    Child,
    Parent(i32),
}

/// `clone3(2)` without a stack: the child goes on with a copy of the address space, as after fork.
///
/// # Safety
/// The child may only do what is async-signal-safe (`signal-safety(7)`): other threads of the caller may
/// have held any lock. It must not return from the caller's frame but exec or exit.
unsafe fn clone3(
    flags: u64,
    exit_signal: i32,
    pidfd: &mut RawFd,
    cgroup: Option<&OwnedFd>,
) -> Result<Side, Errno> {
    // SAFETY: all-zero is the documented "absent" value of every field.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = flags;
    args.exit_signal = exit_signal as u64;
    args.pidfd = &raw mut *pidfd as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: args is a valid clone_args of the size given; stack is null, which without CLONE_VM means
    // fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, mem::size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(last_errno()),
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid as i32)),
    }
}

/// Clones a group's init, into a cgroup v2 directory if one is given; `run` is the child's life, after which it
/// exits.
///
/// The init has no exit signal: the embedding program gets no SIGCHLD for it, and its `waitpid(-1)` does
/// not take it from us (`__WALL` would).
///
/// # Safety
/// `run` may only do what is async-signal-safe.
pub(crate) unsafe fn clone_init(
    namespaces: u64,
    cgroup: Option<&OwnedFd>,
    run: impl FnOnce(),
) -> Result<(i32, OwnedFd), Errno> {
    let mut pidfd: RawFd = -1;
    // SAFETY: the child goes straight into `run`, which the caller promises to be async-signal-safe.
    match unsafe {
        clone3(namespaces | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND, 0, &mut pidfd, cgroup)?
    } {
        Side::Child => {
            run();
            exit(0)
        }
        // SAFETY: with CLONE_PIDFD the kernel has just stored a new descriptor that nobody else owns.
        Side::Parent(pid) => Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// Forks inside the init, into a cgroup v2 directory if one is given; glibc's fork would take locks and run atfork
/// handlers.
///
/// # Safety
/// The child may only do what is async-signal-safe, and must exec or exit.
pub(crate) unsafe fn fork(cgroup: Option<&OwnedFd>) -> Result<Side, Errno> {
    let mut unused: RawFd = -1;
    // SAFETY: passed on to the caller.
    unsafe { clone3(CLONE_CLEAR_SIGHAND, libc::SIGCHLD, &mut unused, cgroup) }
}

/// Clones a sibling: a child of the calling process's own parent, signal handlers and all. The parent gets SIGCHLD
/// for it if it gets that for the caller.
///
/// # Safety
/// The calling process has one thread.
pub(crate) unsafe fn clone_sibling(namespaces: u64) -> Result<Side, Errno> {
    let mut unused: RawFd = -1;
    // SAFETY: with one thread nobody else can hold a lock, and the child may do whatever the caller may.
    unsafe { clone3(namespaces | libc::CLONE_PARENT as u64, 0, &mut unused, None) }
}

/// `fork(3)` of the C library, which goes on in the child.
///
/// # Safety
/// The child of a process with several threads may only do what its C library allows there.
pub(crate) unsafe fn fork_with_libc() -> Result<Side, Errno> {
    // SAFETY: passed on to the caller.
    match unsafe { libc::fork() } {
        -1 => Err(last_errno()),
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(pid)),
    }
}

/// Sets what a signal does, if told; what it did before (`sigaction(2)`).
pub(crate) fn signal_action(signal: i32, action: Option<&libc::sigaction>) -> Result<libc::sigaction, Errno> {
    // SAFETY: sigaction is plain data, for which zero is valid: SIG_DFL, no flags, empty mask.
    let mut old: libc::sigaction = unsafe { mem::zeroed() };
    let new = action.map_or(std::ptr::null(), |action| &raw const *action);
    // SAFETY: both places are valid for the call; a handler is only ever put back where it was.
    match unsafe { libc::sigaction(signal, new, &raw mut old) } {
        0 => Ok(old),
        _ => Err(last_errno()),
    }
}

/// What a signal does by default.
pub(crate) fn default_action() -> libc::sigaction {
    // SAFETY: as in [`signal_action`].
    unsafe { mem::zeroed() }
}

/// Waits for the end of a child and reaps it; None if somebody else has.
pub(crate) fn reap(pid: i32) -> Option<i32> {
    loop {
        let mut status = 0;
        // SAFETY: status is a valid place for the answer.
        match unsafe { libc::waitpid(pid, &raw mut status, 0) } {
            reaped if reaped == pid => return Some(status),
            _ if last_errno() == Errno::INTR => {}
            _ => return None,
        }
    }
}

/// `kill(2)` of one process; whether it is there and may be signalled.
pub(crate) fn signal_process(pid: i32, signal: i32) -> bool {
    // SAFETY: plain system call.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Waits for signals, which are all that can end this.
pub(crate) fn wait_for_the_end() -> ! {
    loop {
        // SAFETY: plain system call.
        unsafe { libc::pause() };
    }
}

/// `_exit(2)`: no atexit handlers, no flushing of the caller's buffers.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: always sound; ends the process.
    unsafe { libc::_exit(code) }
}

/// The calling thread's errno.
pub(crate) fn last_errno() -> Errno {
    // SAFETY: glibc and musl return a valid thread-local pointer.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

/// Puts every signal back to its default action, also those the caller ignores (`signal(7)`). By raw calls:
/// libc's wrapper refuses the two signals it keeps for itself, which a caller can have inherited as
/// ignored.
pub(crate) fn default_dispositions() {
    // The kernel's struct sigaction (handler, flags, restorer, mask), zero being SIG_DFL without flags.
    let default = [0u64; 4];
    for signal in 1..=SIGNAL_MAX {
        let old: *mut u64 = std::ptr::null_mut();
        // SAFETY: installs no handler. Only SIGKILL and SIGSTOP are refused, which have no other
        // disposition.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), old, size_of::<u64>()) };
    }
}

/// An empty signal set plus `signals`.
pub(crate) fn signal_set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigset_t is plain bits; sigemptyset then gives it its defined value.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: set is a valid sigset_t.
    unsafe { libc::sigemptyset(&raw mut set) };
    for &signal in signals {
        // SAFETY: set is initialised; a number that is no signal is refused and changes nothing.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Replaces the calling thread's signal mask (`sigprocmask(2)`).
pub(crate) fn set_signal_mask(set: &libc::sigset_t) -> Result<(), Errno> {
    // SAFETY: set is a valid sigset_t; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        errno => Err(Errno::from_raw_os_error(errno)),
    }
}

/// Blocks all signals of the calling thread until dropped, so that none is handled in a fresh child.
pub(crate) struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    pub(crate) fn new() -> SignalsBlocked {
        let mut old = signal_set(&[]);
        let mut all = signal_set(&[]);
        // SAFETY: both are valid sigset_t; with these arguments neither call can fail.
        unsafe {
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
        }
        SignalsBlocked(old)
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the mask was given to us by the kernel.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// A close-on-exec, non-blocking `signalfd(2)` for a set of blocked signals.
pub(crate) fn signalfd(set: &libc::sigset_t) -> Result<OwnedFd, Errno> {
    // SAFETY: set is valid; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(last_errno());
    }
    // SAFETY: just created, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads one pending signal; None when there is none.
pub(crate) fn read_signal(fd: &OwnedFd) -> Option<libc::signalfd_siginfo> {
    let mut bytes = [0u8; mem::size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut bytes) {
        Ok(n) if n == bytes.len() => {
            // SAFETY: the kernel fills whole records, and every bit pattern is a valid signalfd_siginfo.
            Some(unsafe { mem::transmute::<[u8; 128], libc::signalfd_siginfo>(bytes) })
        }
        _ => None,
    }
}

/// `close_range(2)`; an empty range is fine.
pub(crate) fn close_range(first: u32, last: u32, flags: u32) -> Result<(), Errno> {
    if first > last {
        return Ok(());
    }
    // SAFETY: callers are single-threaded children that use none of these descriptors afterwards.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Closes everything from `first` on but the descriptors of `keep`, which ascend.
pub(crate) fn close_all_but(mut first: RawFd, keep: &[RawFd]) -> Result<(), Errno> {
    for last in keep.iter().map(|fd| fd - 1).chain([RawFd::MAX]) {
        if last >= first {
            close_range(first as u32, last as u32, 0)?;
        }
        first = last.saturating_add(2);
    }
    Ok(())
}

/// `dup2(2)` onto a number, which stays open over exec.
pub(crate) fn dup2(from: RawFd, to: RawFd) -> Result<(), Errno> {
    // SAFETY: dup2 of plain numbers; the child owns all its descriptors and drops no OwnedFd afterwards.
    if unsafe { libc::dup2(from, to) } < 0 { Err(last_errno()) } else { Ok(()) }
}

/// `pidfd_send_signal(2)` with any signal number.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: no siginfo is passed; a number that is no signal and a descriptor that is no pidfd are refused.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// `setrlimit(2)`, soft and hard.
pub(crate) fn limit_resource(resource: u32, value: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: value, rlim_max: value };
    let old: *mut libc::rlimit64 = std::ptr::null_mut();
    // SAFETY: limit is valid; the old one is not asked for; pid 0 is the caller.
    match unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, old) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Pid and uid of who is at the other end of a connection (`unix(7)`, `SO_PEERCRED`); pid 0 is one that cannot be seen
/// from here, which rustix has no type for.
pub(crate) fn peer(socket: BorrowedFd<'_>) -> Result<(i32, u32), Errno> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = mem::size_of::<libc::ucred>() as libc::socklen_t;
    let place = (&raw mut peer).cast();
    // SAFETY: the kernel fills in at most the bytes given, all of which are numbers.
    let answer = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, place, &raw mut length)
    };
    if answer == 0 { Ok((peer.pid, peer.uid)) } else { Err(last_errno()) }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub(crate) fn monotonic_nanos() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The effective user lacks what mount and pid namespaces need (`capabilities(7)`), so that a user
/// namespace has to come first.
pub(crate) fn lacks_sys_admin() -> bool {
    use rustix::thread::CapabilitySet;
    match rustix::thread::capabilities(None) {
        Ok(sets) => !sets.effective.contains(CapabilitySet::SYS_ADMIN),
        Err(_) => true,
    }
}
