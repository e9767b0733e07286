//! The parent's side of a spawn.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::PidfdFlags;

use crate::command::Command;
use crate::confine::Confinement;
use crate::error::{SpawnError, Step};
use crate::group::{Group, Level, ProcView, UserNamespace};
use crate::init::{self, ChildEnds};
use crate::plan::{Plan, raise};
use crate::sys::{self, SignalsBlocked};
use crate::terminal::Terminal;
use crate::wire::{Fail, REPORT_BYTES, Report};

const NAMESPACES: i32 = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC;

/// A cloned init and the parent's ends of its pipes.
pub(crate) struct Launched {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    errors: OwnedFd,
    status: OwnedFd,
    started_nanos: u64,
}

impl Command {
    /// Starts it; returns when the program has been executed.
    ///
    /// # Errors
    /// The step that failed, what it was about and the system's answer; nothing is left running.
    ///
    /// Source: `clone(2)`, `pid_namespaces(7)`, `mount_namespaces(7)`, `user_namespaces(7)`.
    pub fn spawn(self) -> Result<Group, SpawnError> {
        spawn(Plan::new(self)?)
    }
}

fn spawn(plan: Plan) -> Result<Group, SpawnError> {
    let terminal = Terminal::of(plan.program.session);
    let passed: Vec<RawFd> = plan.program.fds.iter().map(|(source, _)| source.as_raw_fd()).collect();
    let launched = launch(&plan.confinement, plan.floor, passed, &plan.name, |ends| {
        init::run(&plan.confinement, &plan.program, ends)
    })?;
    let (proc, failed) = read_reports(&launched.errors);
    let user = user_namespace(&plan.confinement);
    let Launched { pid, pidfd, errors: _, status, started_nanos } = launched;
    let mut group = Group::new(pid, pidfd, status, started_nanos, Level { user, proc }, terminal);
    match failed {
        None => Ok(group),
        Some(fail) => {
            // The init exits by itself after a failure; dropping the group would do as well, but not wait.
            group.kill().map_err(|e| {
                SpawnError::new(Step::Clone, e.source.raw_os_error().unwrap_or(0), &plan.name)
            })?;
            Err(explain(fail, &plan))
        }
    }
}

/// Clones an init into new namespaces and runs `life` in it, which must be async-signal-safe.
pub(crate) fn launch(
    confinement: &Confinement,
    floor: RawFd,
    passed: Vec<RawFd>,
    name: &str,
    life: impl FnOnce(&ChildEnds),
) -> Result<Launched, SpawnError> {
    let (errors, errors_end) = pipe(PipeFlags::empty(), floor)?;
    // Non-blocking: it is read when the init has ended, and a stranger's copy of the other end (a fork
    // between pipe and clone) must not make that wait.
    let (status, status_end) = pipe(PipeFlags::NONBLOCK, floor)?;
    let spawner = raise(own_pidfd()?, floor)?;
    let mut keep = passed;
    keep.extend([errors_end.as_raw_fd(), status_end.as_raw_fd(), spawner.as_raw_fd()]);
    keep.sort_unstable();
    let ends = ChildEnds { errors: errors_end, status: status_end, spawner, keep };
    let mut namespaces = NAMESPACES;
    if confinement.maps.is_some() {
        namespaces |= libc::CLONE_NEWUSER;
    }
    let started_nanos = sys::monotonic_nanos();
    let blocked = SignalsBlocked::new();
    // SAFETY: both lives there are (init::run, init::run_probe) are async-signal-safe and never return.
    let cloned = unsafe { sys::clone_init(namespaces as u64, || life(&ends)) };
    drop(blocked);
    let (pid, pidfd) = cloned.map_err(|e| SpawnError::new(Step::Clone, e.raw_os_error(), name))?;
    Ok(Launched { pid, pidfd, errors, status, started_nanos })
}

impl Launched {
    /// Waits for a probe's end: what became of `/proc`, or what failed.
    pub(crate) fn probe_result(self) -> Result<ProcView, Fail> {
        let (proc, failed) = read_reports(&self.errors);
        let level = Level { user: UserNamespace::Own, proc };
        let mut group = Group::new(self.pid, self.pidfd, self.status, self.started_nanos, level, None);
        if let Err(e) = group.wait() {
            let errno = Errno::from_io_error(&e.source).unwrap_or(Errno::IO);
            return Err(Fail::new(Step::Clone, errno));
        }
        failed.map_or(Ok(proc), Err)
    }
}

fn user_namespace(confinement: &Confinement) -> UserNamespace {
    if confinement.maps.is_some() { UserNamespace::Own } else { UserNamespace::Callers }
}

fn pipe(flags: PipeFlags, floor: RawFd) -> Result<(OwnedFd, OwnedFd), SpawnError> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | flags)
        .map_err(|e| SpawnError::new(Step::Prepare, e.raw_os_error(), "pipes"))?;
    Ok((read, raise(write, floor)?))
}

fn own_pidfd() -> Result<OwnedFd, SpawnError> {
    rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .map_err(|e| SpawnError::new(Step::Prepare, e.raw_os_error(), "a pidfd of the caller"))
}

/// Reads until the program has been executed or all who could have done it are gone.
fn read_reports(errors: &OwnedFd) -> (ProcView, Option<Fail>) {
    let mut proc = ProcView::Fresh;
    let mut bytes = [0; REPORT_BYTES];
    loop {
        match rustix::io::read(errors, &mut bytes) {
            Ok(REPORT_BYTES) => match Report::decode(bytes) {
                Some(Report::ProcInherited) => proc = ProcView::Inherited,
                Some(Report::Failed(fail)) => return (proc, Some(fail)),
                None => return (proc, Some(Fail::new(Step::Clone, Errno::PROTO))),
            },
            Ok(_) => return (proc, None),
            Err(Errno::INTR) => {}
            Err(e) => return (proc, Some(Fail::new(Step::Clone, e))),
        }
    }
}

fn explain(fail: Fail, plan: &Plan) -> SpawnError {
    let thing = match fail.step {
        Step::Bind => match plan.confinement.binds.get(fail.index as usize) {
            Some((view, over)) => format!("{} over {}", view.to_string_lossy(), over.to_string_lossy()),
            None => plan.name.clone(),
        },
        Step::MountProc => "/proc".to_owned(),
        Step::Chdir => match &plan.confinement.cwd {
            Some(cwd) => cwd.to_string_lossy().into_owned(),
            None => plan.name.clone(),
        },
        Step::Descriptors => match plan.program.fds.get(fail.index as usize) {
            Some((_, target)) => format!("descriptor {target} to {}", plan.name),
            None => plan.name.clone(),
        },
        _ => plan.name.clone(),
    };
    SpawnError::new(fail.step, fail.errno, thing)
}
