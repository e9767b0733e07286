//! The escapers: what this binary does when it is a group's program. Each process that has got out writes a byte to
//! descriptor 9 and stays; `!` says that it could not get there.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::thread;

/// Says to a copy of this binary which escaper it is.
pub(crate) const ESCAPER: &str = "BRANCH_PROC_TEST_ESCAPER";
/// Tells its processes from all others.
pub(crate) const MARKER: &str = "BRANCH_PROC_TEST_MARKER";
const WITNESS: i32 = 9;
/// Chains of processes, each of which waits for the next in vfork(2).
const CHAINS: usize = 3;
const CHAIN_LENGTH: usize = 6;
const THREADS: usize = 3;
/// Children that a forking thread has at a time.
const CHILDREN: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escaper {
    DoubleFork,
    Setsid,
    Daemon,
    Deaf,
    Stopped,
    Storm,
    Threads,
    Mapped,
    Rooted,
    Elsewhere,
    InitKiller,
}

impl Escaper {
    const ALL: [Escaper; 11] = [
        Escaper::DoubleFork,
        Escaper::Setsid,
        Escaper::Daemon,
        Escaper::Deaf,
        Escaper::Stopped,
        Escaper::Storm,
        Escaper::Threads,
        Escaper::Mapped,
        Escaper::Rooted,
        Escaper::Elsewhere,
        Escaper::InitKiller,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Escaper::DoubleFork => "double fork",
            Escaper::Setsid => "setsid",
            Escaper::Daemon => "daemon",
            Escaper::Deaf => "deaf",
            Escaper::Stopped => "stopped",
            Escaper::Storm => "storm",
            Escaper::Threads => "threads",
            Escaper::Mapped => "mapped",
            Escaper::Rooted => "rooted",
            Escaper::Elsewhere => "elsewhere",
            Escaper::InitKiller => "killer of the init",
        }
    }

    /// How many bytes come, each from another process.
    pub(crate) fn processes(self) -> usize {
        match self {
            Escaper::Setsid | Escaper::Stopped => 3,
            Escaper::Storm => CHAINS + 1,
            _ => 2,
        }
    }

    fn escape(self) {
        match self {
            Escaper::DoubleFork => child(|| child(stay)),
            Escaper::Setsid => child(|| {
                become_leader();
                child(|| {
                    become_leader();
                    stay();
                });
                stay();
            }),
            Escaper::Daemon => child(|| {
                // SAFETY: plain system calls in a process with one thread.
                let done = unsafe { libc::daemon(0, 0) } == 0;
                stay_if(done);
            }),
            Escaper::Deaf => child(|| {
                ignore_everything();
                stay();
            }),
            Escaper::Stopped => stopped(),
            Escaper::Storm => (0..CHAINS).for_each(|_| child(|| chain(0))),
            Escaper::Threads => forking_threads(),
            Escaper::Mapped => mapped(),
            Escaper::Rooted => rooted(),
            Escaper::Elsewhere => elsewhere(),
            Escaper::InitKiller => {
                child(stay);
                // SAFETY: plain system calls. The parent of the group's program is its init.
                unsafe { libc::kill(libc::getppid(), libc::SIGKILL) };
            }
        }
    }
}

/// Does nothing unless this process was started as an escaper; then it never returns.
pub(crate) fn be_what_was_asked_for() {
    let Ok(name) = std::env::var(ESCAPER) else {
        println!("skipped: this is what the groups of the other tests run");
        return;
    };
    let escaper = Escaper::ALL.into_iter().find(|escaper| escaper.name() == name).unwrap();
    escaper.escape();
    announce(b'.');
    // SAFETY: the group's stdin is open.
    let stdin = unsafe { BorrowedFd::borrow_raw(0) };
    // The killer's orphans have nobody who would end them but the test.
    while escaper == Escaper::InitKiller || rustix::io::read(stdin, &mut [0; 1]).is_ok_and(|count| count > 0)
    {
        if escaper == Escaper::InitKiller {
            // SAFETY: plain system call.
            unsafe { libc::pause() };
        }
    }
    // SAFETY: plain system call.
    unsafe { libc::_exit(0) }
}

/// Runs `life` in a child, which ends with it.
fn child(life: impl FnOnce()) {
    // SAFETY: the lives make plain system calls only, and end here.
    match unsafe { libc::fork() } {
        0 => {
            life();
            // SAFETY: plain system call.
            unsafe { libc::_exit(0) }
        }
        pid if pid < 0 => announce(b'!'),
        _ => {}
    }
}

fn announce(byte: u8) {
    // SAFETY: passed by the test.
    let witness = unsafe { BorrowedFd::borrow_raw(WITNESS) };
    // Fails when nobody listens any more: then this process is about to be killed.
    rustix::io::write(witness, &[byte]).ok();
}

/// For ever.
fn stay() {
    stay_if(true);
}

fn stay_if(done: bool) {
    announce(if done { b'.' } else { b'!' });
    loop {
        // SAFETY: plain system call.
        unsafe { libc::pause() };
    }
}

fn become_leader() {
    // SAFETY: plain system call.
    unsafe { libc::setsid() };
}

fn ignore_everything() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: ignoring needs no handler; two of them cannot be ignored.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // SAFETY: a set to be filled, and used only here.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
    }
}

/// One stopped by a signal, one that its tracer has stopped.
fn stopped() {
    let stop = || {
        announce(b'.');
        // SAFETY: plain system call.
        unsafe { libc::raise(libc::SIGSTOP) };
    };
    child(stop);
    child(|| {
        // SAFETY: plain system call; the parent is the tracer from here on.
        unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, ptr::null_mut::<u8>(), ptr::null_mut::<u8>()) };
        stop();
    });
    for _ in 0..2 {
        // SAFETY: plain system call without a place for the answer.
        unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WUNTRACED) };
    }
}

/// A chain of processes that wait in vfork(2), the last of which makes children that end at once. The memory is not
/// shared, as it would be with vfork(2) itself: what the kernel waits for is the same.
fn chain(length: usize) {
    if length == 0 {
        announce(b'.');
    }
    loop {
        let flags = libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: without a stack of its own and without sharing memory it is a fork.
        match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
            0 if length < CHAIN_LENGTH => chain(length + 1),
            // SAFETY: plain system call.
            0 => unsafe { libc::_exit(0) },
            // SAFETY: plain system call. At the limit of processes, another may have ended next time.
            _ => drop(unsafe { libc::sched_yield() }),
        }
        // SAFETY: plain system call without a place for the answer.
        while unsafe { libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) } > 0 {}
    }
}

/// Threads that never stop to make children, which stay until there are too many.
fn forking_threads() {
    for _ in 0..THREADS {
        thread::spawn(|| {
            let mut children = [0; CHILDREN];
            for turn in (0..CHILDREN).cycle() {
                // SAFETY: the child makes plain system calls only.
                let made = unsafe { libc::fork() };
                if made == 0 {
                    loop {
                        // SAFETY: plain system call.
                        unsafe { libc::pause() };
                    }
                }
                let old = std::mem::replace(&mut children[turn], made);
                if old > 0 {
                    // SAFETY: an own child that nobody else waits for.
                    unsafe {
                        libc::kill(old, libc::SIGKILL);
                        libc::waitpid(old, ptr::null_mut(), 0);
                    }
                }
            }
        });
    }
    child(stay);
}

/// The file of the view, open and mapped, with a change in the map.
fn mapped() {
    let file = fs::OpenOptions::new().read(true).write(true).open("file").unwrap();
    child(|| {
        let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
        // SAFETY: a map of a file that is as long as the byte written to it.
        let done = unsafe {
            let map = libc::mmap(ptr::null_mut(), 4, protection, libc::MAP_SHARED, fd, 0);
            if map != libc::MAP_FAILED {
                map.cast::<u8>().write(b'M');
            }
            map != libc::MAP_FAILED
        };
        stay_if(done);
    });
}

/// In the view by way of this process' root, which nothing was looked up from.
fn rooted() {
    let here = std::env::current_dir().unwrap();
    let mut path = format!("/proc/{}/root", std::process::id()).into_bytes();
    path.extend(here.as_os_str().as_bytes());
    let path = CString::new(path).unwrap();
    child(|| {
        become_leader();
        // SAFETY: path is a C string; the descriptor stays open as long as the process.
        let done = unsafe {
            libc::chdir(c"/".as_ptr()) == 0
                && libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY) >= 0
                && libc::chdir(path.as_ptr()) == 0
        };
        stay_if(done);
    });
}

/// Out of every control group of the group's.
fn elsewhere() {
    let roots = crate::running::cgroup_roots();
    child(|| {
        become_leader();
        for procs in &roots {
            // A hierarchy may refuse; whether it got away is looked at below.
            drop(fs::write(procs, "0"));
        }
        let left = fs::read_to_string("/proc/thread-self/cgroup").unwrap_or_default();
        stay_if(!roots.is_empty() && !left.is_empty() && !left.contains("branchfs."));
    });
}
