//! The way from a fresh fork of the caller to the child, in three processes: the messenger, which has the caller's
//! namespaces and C library; the init; the child, which alone comes back.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::Myself;
use crate::confine::{self, Confinement, Namespaces, ProcMounted};
use crate::error::Step;
use crate::init::{self, EXIT_ORPHANED, LastWords, Supervised};
use crate::program::Session;
use crate::sys::{self, Side};
use crate::wire::{Fail, Report};

/// What a messenger takes with it. All signals are blocked.
pub(super) struct Birth {
    pub(super) number: u32,
    pub(super) name: Option<String>,
    pub(super) confinement: Confinement,
    pub(super) errors: OwnedFd,
    pub(super) gate: OwnedFd,
    pub(super) spawner: OwnedFd,
    pub(super) views: Option<OwnedFd>,
    /// Present when the caller's descriptors shall be closed, but these.
    pub(super) keeps: Option<Vec<RawFd>>,
}

/// What is the caller's and has to be put back in the child.
struct Callers {
    name: CString,
    on_child: libc::sigaction,
    dumpable: DumpableBehavior,
}

/// From the messenger on; returns in the child, when it may go on.
///
/// # Safety
/// The calling process has one thread and was made by the C library's fork.
pub(super) unsafe fn live(birth: Birth) -> Myself {
    // SAFETY: passed on to the caller.
    match unsafe { send(&birth) } {
        Ok(Side::Parent(init)) => {
            init::tell(Report::Init(init), &birth.errors);
            sys::exit(0)
        }
        Ok(Side::Child) => {}
        Err(fail) => init::give_up(fail, &birth.errors),
    }
    // SAFETY: the init has one thread; the library's state is that of the messenger.
    match unsafe { start(&birth) } {
        Ok((Side::Parent(child), signals, _)) => look_after(&birth, child, &signals),
        Ok((Side::Child, signals, own)) => {
            drop(signals);
            go_on(birth, own)
        }
        Err(fail) => init::give_up(fail, &birth.errors),
    }
}

/// The messenger's work. It starts the init in the directory of the views: a directory that a process is in goes
/// with it into a new mount namespace, also where no path leads to it any more.
///
/// # Safety
/// As [`live`].
unsafe fn send(birth: &Birth) -> Result<Side, Fail> {
    if let Some(views) = &birth.views {
        rustix::process::fchdir(views).map_err(|e| Fail::new(Step::Chdir, e))?;
    }
    let own = match birth.confinement.namespaces {
        Namespaces::Own => libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC,
        Namespaces::Mounts => libc::CLONE_NEWNS,
        Namespaces::Callers => 0,
    };
    let user = if birth.confinement.maps.is_some() { libc::CLONE_NEWUSER } else { 0 };
    // SAFETY: passed on to the caller.
    unsafe { sys::clone_sibling((own | user) as u64) }.map_err(|e| Fail::new(Step::Clone, e))
}

/// What the init knows and the child needs.
struct Own {
    callers: Callers,
    views: Option<OwnedFd>,
    init: i32,
}

/// The init, up to its fork.
///
/// # Safety
/// As [`live`].
unsafe fn start(birth: &Birth) -> Result<(Side, OwnedFd, Own), Fail> {
    let signal = |e: Errno| Fail::new(Step::Signals, e);
    let views = match birth.views {
        Some(_) => Some(open_here().map_err(|e| Fail::new(Step::Chdir, e))?),
        None => None,
    };
    let callers = Callers {
        name: rustix::thread::name().map_err(signal)?,
        // A caller that ignores it would have the kernel reap the child before the init can.
        on_child: sys::signal_action(libc::SIGCHLD, Some(&sys::default_action())).map_err(signal)?,
        dumpable: rustix::process::dumpable_behavior().map_err(|e| Fail::new(Step::HideMemory, e))?,
    };
    rustix::thread::set_name(sys::INIT_NAME).map_err(signal)?;
    if confine::enter(&birth.confinement)? == ProcMounted::Refused {
        init::tell(Report::ProcInherited, &birth.errors);
    }
    let signals = init::signals_to_handle()?;
    let own = Own { callers, views, init: rustix::process::getpid().as_raw_nonzero().get() };
    // SAFETY: passed on to the caller.
    let side = unsafe { sys::fork_with_libc() }.map_err(|e| Fail::new(Step::Fork, e))?;
    Ok((side, signals, own))
}

/// Of the directory that this process is in, in its own mount namespace.
fn open_here() -> Result<OwnedFd, Errno> {
    rustix::fs::open(c".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The rest of the init's life.
fn look_after(birth: &Birth, child: i32, signals: &OwnedFd) -> ! {
    sys::default_dispositions();
    let supervised = Supervised {
        main: child,
        session: Session::Callers,
        inside: birth.confinement.namespaces,
        spawner: &birth.spawner,
        last_words: LastWords::ExitCode,
    };
    init::supervise(&supervised, signals)
}

/// The child, until it may go on.
fn go_on(birth: Birth, own: Own) -> Myself {
    let Birth { number, name, confinement, errors, gate, spawner, views: callers_views, keeps } = birth;
    drop((spawner, callers_views));
    let Own { callers, views, init } = own;
    let user_namespace = confinement.maps.is_some();
    let ours = [Some(&errors), Some(&gate), views.as_ref()];
    let ours = ours.into_iter().flatten().map(AsRawFd::as_raw_fd).collect();
    if let Err(fail) = callers.put_back(user_namespace).and_then(|()| close_rest(ours, keeps)) {
        init::give_up(fail, &errors);
    }
    init::tell(Report::Ready, &errors);
    drop(errors);
    wait_at(gate);
    Myself { number, name, views, init }
}

impl Callers {
    fn put_back(self, user_namespace: bool) -> Result<(), Fail> {
        let signal = |e: Errno| Fail::new(Step::Signals, e);
        rustix::thread::set_name(&self.name).map_err(signal)?;
        sys::signal_action(libc::SIGCHLD, Some(&self.on_child)).map_err(signal)?;
        if user_namespace {
            // It has all of them there, which only an exec would take away.
            let none = CapabilitySet::empty();
            let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
            rustix::thread::set_capabilities(None, none).map_err(|e| Fail::new(Step::Capabilities, e))?;
        }
        rustix::process::set_dumpable_behavior(self.dumpable).map_err(|e| Fail::new(Step::HideMemory, e))
    }
}

fn close_rest(mut ours: Vec<RawFd>, keeps: Option<Vec<RawFd>>) -> Result<(), Fail> {
    let Some(keeps) = keeps else { return Ok(()) };
    ours.extend(keeps.into_iter().filter(|fd| *fd > libc::STDERR_FILENO));
    ours.sort_unstable();
    sys::close_all_but(libc::STDERR_FILENO + 1, &ours).map_err(|e| Fail::new(Step::CloseRest, e))
}

/// Until the parent opens the gate; its end means that nobody goes on.
fn wait_at(gate: OwnedFd) {
    let mut go = [0];
    match rustix::io::retry_on_intr(|| rustix::io::read(&gate, &mut go)) {
        Ok(1) => {}
        _ => sys::exit(EXIT_ORPHANED),
    }
}
