//! The init of a group, pid 1 of its pid namespace: enters the confinement, starts the program, forwards signals,
//! reaps, and ends with the program, upon which the kernel kills whatever is left in the namespace
//! (`pid_namespaces(7)`). Without a namespace it kills what is left itself.
//!
//! It is a clone of a possibly multithreaded caller that never execs: everything here is async-signal-safe
//! (`signal-safety(7)`), allocates nothing and cannot panic.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::cgroup;
use crate::confine::{self, Confinement, Namespaces, ProcMounted};
use crate::error::Step;
use crate::net::inside::hand_over_listener;
use crate::outcome::Exit;
use crate::program::{Program, Session, become_program};
use crate::sys::{self, Side};
use crate::wire::{Ended, Fail, Report};

/// Bytes read at once of the list of children; what does not fit is read when those have been killed.
const CHILDREN_CHUNK: usize = 4096;

/// The signals that are passed on to the program.
const FORWARDED: [i32; 6] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGTERM];

/// Exit code of an init or program process that failed to start; the error pipe says why.
const EXIT_NOT_STARTED: i32 = 127;
/// Exit code of an init whose spawner has died. Nobody is left to read it.
pub(crate) const EXIT_ORPHANED: i32 = 125;

/// The child's ends of what ties it to its spawner.
#[derive(Debug)]
pub(crate) struct ChildEnds {
    /// Takes [`Report`]s; close-on-exec, so its end of file is the good news.
    pub(crate) errors: OwnedFd,
    /// Takes one [`Ended`].
    pub(crate) status: OwnedFd,
    /// An eventfd: readable when the program may run.
    pub(crate) gate: OwnedFd,
    /// Readable when the spawner's process is gone. `PR_SET_PDEATHSIG` would be tied to the spawning
    /// *thread*, and a pipe's end of file to every process that happens to hold a copy; a pidfd is tied to
    /// the process.
    pub(crate) spawner: OwnedFd,
    /// Takes the proxy's socket, where there is to be a proxy.
    pub(crate) egress: Option<OwnedFd>,
    /// The directories of cgroup v1 to enter, before anything else: they are closed with the rest.
    pub(crate) entrances: Vec<OwnedFd>,
    /// The cgroup v2 directory that the program starts in.
    pub(crate) program_cgroup: Option<OwnedFd>,
    /// Every descriptor above the standard streams that the init needs, ascending. All others it closes
    /// first: they may be the pipes of other spawns of the same caller, who wait for their end of file.
    pub(crate) keep: Vec<RawFd>,
}

/// The init's life.
pub(crate) fn run(confinement: &Confinement, program: &Program, ends: &ChildEnds) -> ! {
    match start(confinement, program, ends) {
        Ok((main, signals)) => supervise(
            &Supervised {
                main,
                session: program.session,
                inside: confinement.namespaces,
                spawner: &ends.spawner,
                last_words: LastWords::Pipe(&ends.status),
            },
            &signals,
        ),
        Err(fail) => give_up(fail, &ends.errors),
    }
}

/// Enters the confinement and leaves it again: shows whether this host can do it.
pub(crate) fn run_probe(confinement: &Confinement, ends: &ChildEnds) {
    match confine::enter(confinement) {
        Ok(ProcMounted::Fresh) => {}
        Ok(ProcMounted::Refused) => tell(Report::ProcInherited, &ends.errors),
        Err(fail) => give_up(fail, &ends.errors),
    }
}

/// What the init looks after.
pub(crate) struct Supervised<'a> {
    pub(crate) main: i32,
    pub(crate) session: Session,
    pub(crate) inside: Namespaces,
    /// Readable when the spawner's process is gone.
    pub(crate) spawner: &'a OwnedFd,
    pub(crate) last_words: LastWords<'a>,
}

/// How the init tells of the program's end.
#[derive(Clone, Copy)]
pub(crate) enum LastWords<'a> {
    /// One [`Ended`] into this pipe.
    Pipe(&'a OwnedFd),
    /// By ending as the program did: its exit code, or 128+n after signal n.
    ExitCode,
}

fn start(confinement: &Confinement, program: &Program, ends: &ChildEnds) -> Result<(i32, OwnedFd), Fail> {
    sys::default_dispositions();
    for (index, entrance) in ends.entrances.iter().enumerate() {
        cgroup::enter(entrance).map_err(|e| Fail::new(Step::EnterCgroup, e).at(index))?;
    }
    close_all_but(3, &ends.keep);
    rustix::thread::set_name(sys::INIT_NAME).map_err(|e| Fail::new(Step::Signals, e))?;
    if confine::enter(confinement)? == ProcMounted::Refused {
        tell(Report::ProcInherited, &ends.errors);
    }
    if let Some(to) = &ends.egress {
        hand_over_listener(to)?;
    }
    if program.session == Session::Own {
        rustix::process::setsid().map_err(|e| Fail::new(Step::Session, e))?;
    }
    let signals = signals_to_handle()?;
    tell(Report::Ready, &ends.errors);
    wait_for_release(&signals, ends);
    // SAFETY: the child only runs become_program and give_up, both async-signal-safe, and ends there.
    match unsafe { sys::fork(ends.program_cgroup.as_ref()) } {
        Ok(Side::Parent(main)) => Ok((main, signals)),
        Ok(Side::Child) => give_up(become_program(program), &ends.errors),
        Err(e) => Err(Fail::new(Step::Fork, e)),
    }
}

/// All signals are blocked since before the clone, so none of these can have been lost.
pub(crate) fn signals_to_handle() -> Result<OwnedFd, Fail> {
    let mut handled = sys::signal_set(&FORWARDED);
    // SAFETY: an initialised set and a valid signal number.
    unsafe {
        libc::sigaddset(&raw mut handled, libc::SIGCHLD);
        libc::sigaddset(&raw mut handled, sys::SIGNAL_END);
    }
    sys::signalfd(&handled).map_err(|e| Fail::new(Step::Signals, e))
}

/// Everything is in place; whoever has to know of the group before its program runs is being told.
fn wait_for_release(signals: &OwnedFd, ends: &ChildEnds) {
    loop {
        let mut watched = [
            PollFd::new(&ends.gate, PollFlags::IN),
            PollFd::new(&ends.spawner, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        match rustix::event::poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => sys::exit(EXIT_ORPHANED),
        }
        let ordered = !watched[2].revents().is_empty()
            && sys::read_signal(signals).is_some_and(|signal| signal.ssi_signo as i32 == sys::SIGNAL_END);
        if ordered || !watched[1].revents().is_empty() {
            sys::exit(EXIT_ORPHANED);
        }
        if !watched[0].revents().is_empty() {
            return;
        }
    }
}

/// From the program's start to its end.
pub(crate) fn supervise(group: &Supervised<'_>, signals: &OwnedFd) -> ! {
    // Holding a copy of the program's streams would keep its readers from seeing their end.
    let status = match group.last_words {
        LastWords::Pipe(status) => status.as_raw_fd(),
        LastWords::ExitCode => signals.as_raw_fd(),
    };
    let mut keep = [signals.as_raw_fd(), status, group.spawner.as_raw_fd()];
    keep.sort_unstable();
    close_all_but(0, &keep);
    loop {
        // First, for whoever ended before SIGCHLD was the init's: a disposition that is reset forgets what is pending.
        reap(group);
        let mut watched = [PollFd::new(signals, PollFlags::IN), PollFd::new(group.spawner, PollFlags::IN)];
        match rustix::event::poll(&mut watched, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => leave(group, EXIT_ORPHANED),
        }
        if !watched[1].revents().is_empty() {
            leave(group, EXIT_ORPHANED);
        }
        while let Some(signal) = sys::read_signal(signals) {
            if signal.ssi_signo as i32 == sys::SIGNAL_END {
                leave(group, EXIT_ORPHANED);
            }
            forward(&signal, group);
        }
    }
}

/// Ends, and with it everything in the group: the kernel sees to that in a pid namespace, else the init itself.
fn leave(group: &Supervised<'_>, code: i32) -> ! {
    if group.inside != Namespaces::Own {
        sweep();
    }
    sys::exit(code)
}

/// Kills its children until none is left: the children of a killed one become its own, as it is a subreaper. Only
/// who forks faster than this loop goes round can keep it going.
///
/// Nothing is reaped between the look and the wait that may block: who is reaped has handed its children over, and
/// those have not been killed yet. When the wait begins, all who were seen are dying, and one of them will end it.
fn sweep() {
    loop {
        kill_children();
        // SAFETY: plain system call without a place for the answer.
        let waited = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
        if waited < 0 && sys::last_errno() != Errno::INTR {
            return;
        }
        // SAFETY: as above.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
    }
}

/// One signal for everybody in the list of children (`proc_pid_task(5)`), or those who fit.
fn kill_children() {
    let Ok(list) = rustix::fs::open(c"/proc/thread-self/children", OFlags::RDONLY, Mode::empty()) else {
        // The host was looked at before: it has this file.
        return;
    };
    let mut text = [0; CHILDREN_CHUNK];
    let length = rustix::io::read(&list, &mut text[..]).unwrap_or(0);
    // Closed by hand: nothing here may depend on a destructor.
    drop(list);
    let mut pid: i32 = 0;
    for &byte in &text[..length] {
        if byte.is_ascii_digit() {
            pid = pid.wrapping_mul(10).wrapping_add(i32::from(byte - b'0'));
        } else if pid > 1 {
            // SAFETY: plain system call; it is our child, so the number is nobody else's.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            pid = 0;
        }
    }
}

/// To the program's process group where it leads one, else to the program. What a terminal sends
/// (`SI_KERNEL`) it sends to the whole foreground group itself.
fn forward(signal: &libc::signalfd_siginfo, group: &Supervised<'_>) {
    let number = signal.ssi_signo as i32;
    if number == libc::SIGCHLD || signal.ssi_code == libc::SI_KERNEL {
        return;
    }
    let target = match group.session {
        Session::Own => -group.main,
        Session::Callers => group.main,
    };
    // SAFETY: plain system call. Its only failure, nobody left to signal, is followed by SIGCHLD.
    unsafe { libc::kill(target, number) };
}

/// Reaps everything that has ended; ends when the program has.
fn reap(group: &Supervised<'_>) {
    loop {
        let mut status = 0;
        // SAFETY: status is a valid place for the answer.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
            pid if pid == group.main => finish(group, status),
            pid if pid > 0 => {}
            _ => return,
        }
    }
}

fn finish(group: &Supervised<'_>, wait_status: i32) -> ! {
    let LastWords::Pipe(status) = group.last_words else {
        leave(group, Exit::from_wait_status(wait_status).shell_code())
    };
    let ended = Ended { wait_status, at_nanos: sys::monotonic_nanos() };
    // Fails only when the spawner has closed its end or died: then nobody wants to know.
    let told = rustix::io::write(status, &ended.encode());
    leave(group, if told.is_ok() { 0 } else { EXIT_ORPHANED })
}

/// To the spawner.
pub(crate) fn tell(report: Report, errors: &OwnedFd) {
    // An unread report means a spawner that is gone, which the init notices by itself.
    if rustix::io::write(errors, &report.encode()).is_err() {
        sys::exit(EXIT_ORPHANED);
    }
}

/// Ends, and says why.
pub(crate) fn give_up(fail: Fail, errors: &OwnedFd) -> ! {
    tell(Report::Failed(fail), errors);
    sys::exit(EXIT_NOT_STARTED)
}

/// Closes everything from `first` on but the descriptors of `keep`, which ascend. A group whose init keeps
/// strangers' descriptors open would hang their readers: rather none at all.
fn close_all_but(first: RawFd, keep: &[RawFd]) {
    if sys::close_all_but(first, keep).is_err() {
        sys::exit(EXIT_NOT_STARTED);
    }
}
