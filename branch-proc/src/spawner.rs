//! The parent's side of a spawn.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::EventfdFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::PidfdFlags;

use crate::cgroup::{Cgroup, OwnCgroup, systemd_scope};
use crate::command::Command;
use crate::confine::{Confinement, Namespaces};
use crate::error::{SpawnError, Step};
use crate::group::{Group, Init, Level, ProcView, UserNamespace};
use crate::init::{self, ChildEnds};
use crate::ladder::Rung;
use crate::net::inside::Namespace;
use crate::observe::Watch;
use crate::place::{self, Place};
use crate::plan::{Plan, raise};
use crate::sandbox::Sandbox;
use crate::sys::{self, SignalsBlocked};
use crate::terminal::Terminal;
use crate::wire::{Fail, REPORT_BYTES, Report};

const NAMESPACES: i32 = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC;

/// A cloned init and the parent's ends of its pipes.
pub(crate) struct Launched {
    init: Init,
    gate: OwnedFd,
    errors: OwnedFd,
}

/// A confined group and what its release takes.
struct Parts {
    group: Group,
    gate: OwnedFd,
    errors: OwnedFd,
    egress: Option<OwnedFd>,
}

/// A group whose program has not begun and waits to be released: who has to know of the group before
/// anything runs in it can be told now. Dropping it ends it, and the program has never run.
#[derive(Debug)]
pub struct Held {
    group: Group,
    gate: OwnedFd,
    errors: OwnedFd,
    egress: Option<OwnedFd>,
    plan: Plan,
}

impl Command {
    /// Starts it; returns when the program has been executed.
    ///
    /// # Errors
    /// The step that failed, what it was about and the system's answer; nothing is left running.
    ///
    /// Source: `clone(2)`, `pid_namespaces(7)`, `mount_namespaces(7)`, `user_namespaces(7)`, `cgroups(7)`.
    pub fn spawn(self) -> Result<Group, SpawnError> {
        self.hold()?.release()
    }

    /// Makes the group, confined as it shall be, and does not yet run the program in it.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn hold(self) -> Result<Held, SpawnError> {
        let mut plan = Plan::new(self)?;
        let asked = plan.at_most;
        let parts = match hold_on(&mut plan, asked) {
            Err(error)
                if asked.has_namespaces()
                    && error.refuses_namespaces()
                    && plan.can_do_without_namespaces() =>
            {
                // If that does not work either, what the better way lacked is the better hint.
                hold_on(&mut plan, Rung::Subreaper).map_err(|_| error)
            }
            held => held,
        };
        parts.map(|Parts { group, gate, errors, egress }| Held { group, gate, errors, egress, plan })
    }
}

impl Held {
    /// As [`Group::pid`].
    pub fn pid(&self) -> i32 {
        self.group.pid()
    }

    /// As [`Group::pidfd`].
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.group.pidfd()
    }

    /// As [`Group::level`].
    pub fn level(&self) -> &Level {
        self.group.level()
    }

    /// Runs the program; returns when it has been executed.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn release(self) -> Result<Group, SpawnError> {
        let Held { mut group, gate, errors, egress, mut plan } = self;
        let refused = |errno: i32| SpawnError::new(Step::Clone, errno, &plan.name);
        if let (Some(from), Some(egress)) = (egress, plan.egress.take()) {
            let failed = |e: Errno| SpawnError::new(Step::Proxy, e.raw_os_error(), &plan.name);
            if let Some(proxy) = egress.start(&from, group.pidfd()).map_err(failed)? {
                group.goes_through(proxy);
            }
        }
        rustix::io::retry_on_intr(|| rustix::io::write(gate.as_fd(), &1u64.to_ne_bytes()))
            .map_err(|e| refused(e.raw_os_error()))?;
        match read_reports(&errors) {
            Told { failed: None, .. } => Ok(group),
            Told { failed: Some(fail), .. } => {
                let error = explain(fail, &plan, group.cgroup());
                end(&mut group, &plan)?;
                Err(error)
            }
        }
    }
}

/// Makes the group on this rung or one that the host offers below it, as far as its confinement.
fn hold_on(plan: &mut Plan, at_most: Rung) -> Result<Parts, SpawnError> {
    if at_most == Rung::Subreaper {
        plan.give_up_namespaces()?;
    }
    let Place { rung, cgroup, limits, rlimits } = place::find(plan, at_most)?;
    plan.program.rlimits = rlimits;
    let (user, proc, systemd) = (user_namespace(&plan.confinement), ProcView::Fresh, systemd_scope());
    let level = Level { rung, user, proc, limits, systemd };
    let terminal = Terminal::of(plan.program.session);
    let mut passed: Vec<RawFd> = plan.program.fds.iter().map(|(source, _)| source.as_raw_fd()).collect();
    passed.extend(plan.program.sandbox.as_ref().and_then(Sandbox::needs));
    let (egress, egress_end) = if plan.egress.is_some() { socket_pair(plan.floor)? } else { (None, None) };
    let life = |ends: &_| init::run(&plan.confinement, &plan.program, ends);
    let (confinement, cgroup_ref) = (&plan.confinement, cgroup.as_ref());
    let launched = launch(confinement, plan.floor, passed, egress_end, &plan.name, cgroup_ref, life);
    let Launched { init, gate, errors } = match launched {
        Err(error) if cgroup.is_some() && refuses_cgroup(&error) && plan.limits.is_empty() => {
            drop(cgroup);
            return hold_on(plan, Rung::PidNamespace);
        }
        launched => launched?,
    };
    let mut group = Group::new(init, level, cgroup, terminal);
    // A failure drops the group, which ends it.
    watch(&mut group, plan)?;
    let told = read_reports(&errors);
    group.sees(told.proc);
    match told.failed {
        None => Ok(Parts { group, gate, errors, egress }),
        Some(fail) => {
            // The end takes the control group away.
            let error = explain(fail, plan, group.cgroup());
            end(&mut group, plan)?;
            Err(error)
        }
    }
}

/// Starts looking at a group that is to be looked at.
fn watch(group: &mut Group, plan: &mut Plan) -> Result<(), SpawnError> {
    let Some((task, listener)) = plan.program.sandbox.as_mut().and_then(Sandbox::task) else { return Ok(()) };
    let failed =
        |e: std::io::Error| SpawnError::new(Step::Prepare, e.raw_os_error().unwrap_or(0), "a thread");
    let pidfd = group.pidfd().try_clone_to_owned().map_err(failed)?;
    group.watched_by(Watch::start(task, listener, pidfd).map_err(failed)?);
    Ok(())
}

/// The init exits by itself after a failure; dropping the group would do as well, but not wait.
fn end(group: &mut Group, plan: &Plan) -> Result<(), SpawnError> {
    let failed = |errno: Option<i32>| SpawnError::new(Step::Clone, errno.unwrap_or(0), &plan.name);
    group.kill().map(drop).map_err(|e| failed(e.source.raw_os_error()))
}

/// The control group may not be entered from where the caller is.
fn refuses_cgroup(error: &SpawnError) -> bool {
    error.step == Step::Clone && [libc::EACCES, libc::EBUSY, libc::EOPNOTSUPP].contains(&error.errno)
}

/// Clones an init into new namespaces and runs `life` in it, which must be async-signal-safe.
pub(crate) fn launch(
    confinement: &Confinement,
    floor: RawFd,
    passed: Vec<RawFd>,
    egress: Option<OwnedFd>,
    name: &str,
    cgroup: Option<&OwnCgroup>,
    life: impl FnOnce(&ChildEnds),
) -> Result<Launched, SpawnError> {
    let (errors, errors_end) = pipe(PipeFlags::empty(), floor)?;
    // Non-blocking: it is read when the init has ended, and a stranger's copy of the other end (a fork
    // between pipe and clone) must not make that wait.
    let (status, status_end) = pipe(PipeFlags::NONBLOCK, floor)?;
    let (gate, gate_end) = gate(floor)?;
    let spawner = raise(own_pidfd()?, floor)?;
    let own_cgroup = cgroup.map(|cgroup| cgroup.open()).transpose()?.flatten();
    let program_cgroup = cgroup.map(|cgroup| cgroup.open_inner()).transpose()?.flatten();
    let program_cgroup = program_cgroup.map(|fd| raise(fd, floor)).transpose()?;
    let entrances = cgroup.map(|cgroup| cgroup.open_entrances()).transpose()?.unwrap_or_default();
    let mut keep = passed;
    keep.extend([&errors_end, &status_end, &gate_end, &spawner].map(AsRawFd::as_raw_fd));
    keep.extend(egress.as_ref().map(AsRawFd::as_raw_fd));
    keep.extend(program_cgroup.as_ref().map(AsRawFd::as_raw_fd));
    keep.sort_unstable();
    let ends = ChildEnds {
        errors: errors_end,
        status: status_end,
        gate: gate_end,
        spawner,
        egress,
        entrances,
        program_cgroup,
        keep,
    };
    let mut flags = 0;
    if confinement.namespaces == Namespaces::Own {
        flags |= NAMESPACES;
    }
    if confinement.maps.is_some() {
        flags |= libc::CLONE_NEWUSER;
    }
    if confinement.net != Namespace::Callers {
        flags |= libc::CLONE_NEWNET;
    }
    let started_nanos = sys::monotonic_nanos();
    let blocked = SignalsBlocked::new();
    // SAFETY: both lives there are (init::run, init::run_probe) are async-signal-safe and never return.
    let cloned = unsafe { sys::clone_init(flags as u64, own_cgroup.as_ref(), || life(&ends)) };
    drop(blocked);
    let (pid, pidfd) = cloned.map_err(|e| SpawnError::new(Step::Clone, e.raw_os_error(), name))?;
    Ok(Launched { init: Init { pid, pidfd, status, started_nanos }, gate, errors })
}

impl Launched {
    /// Waits for a probe's end: what became of `/proc`, or what failed.
    pub(crate) fn probe_result(self) -> Result<ProcView, Fail> {
        let Told { proc, failed } = read_reports(&self.errors);
        let (rung, user, systemd) = (Rung::PidNamespace, UserNamespace::Own, systemd_scope());
        let level = Level { rung, user, proc, limits: Vec::new(), systemd };
        let mut group = Group::new(self.init, level, None, None);
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

/// Where the init sends the proxy's socket.
fn socket_pair(floor: RawFd) -> Result<(Option<OwnedFd>, Option<OwnedFd>), SpawnError> {
    let (from, to) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| SpawnError::new(Step::Prepare, e.raw_os_error(), "a socket pair"))?;
    Ok((Some(from), Some(raise(to, floor)?)))
}

/// An eventfd, twice: no signal comes of writing to it when the init has died, as would of a pipe.
fn gate(floor: RawFd) -> Result<(OwnedFd, OwnedFd), SpawnError> {
    let failed = |e: Errno| SpawnError::new(Step::Prepare, e.raw_os_error(), "an eventfd");
    let gate = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).map_err(failed)?;
    let end = rustix::io::fcntl_dupfd_cloexec(&gate, floor).map_err(failed)?;
    Ok((gate, end))
}

fn own_pidfd() -> Result<OwnedFd, SpawnError> {
    rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
        .map_err(|e| SpawnError::new(Step::Prepare, e.raw_os_error(), "a pidfd of the caller"))
}

/// What the init has told so far.
struct Told {
    proc: ProcView,
    failed: Option<Fail>,
}

/// Reads until the confinement is entered, the program has been executed, or all who could have done it are gone.
fn read_reports(errors: &OwnedFd) -> Told {
    let mut told = Told { proc: ProcView::Fresh, failed: None };
    let mut bytes = [0; REPORT_BYTES];
    loop {
        let failed = match rustix::io::read(errors, &mut bytes) {
            Ok(REPORT_BYTES) => match Report::decode(bytes) {
                Some(Report::ProcInherited) => {
                    told.proc = ProcView::Inherited;
                    continue;
                }
                Some(Report::Ready) => None,
                Some(Report::Failed(fail)) => Some(fail),
                Some(Report::Init(_)) | None => Some(Fail::new(Step::Clone, Errno::PROTO)),
            },
            Ok(_) => None,
            Err(Errno::INTR) => continue,
            Err(e) => Some(Fail::new(Step::Clone, e)),
        };
        told.failed = failed;
        return told;
    }
}

fn explain(fail: Fail, plan: &Plan, cgroup: Option<&Cgroup>) -> SpawnError {
    let thing = match fail.step {
        Step::EnterCgroup => cgroup.map_or_else(String::new, |cgroup| cgroup.entrance(fail.index)),
        Step::Bind => match plan.confinement.binds.get(fail.index as usize) {
            Some((view, over)) => format!("{} over {}", view.to_string_lossy(), over.to_string_lossy()),
            None => plan.name.clone(),
        },
        Step::Overlay => match &plan.confinement.overlay {
            Some(overlay) => overlay.over.to_string_lossy().into_owned(),
            None => plan.name.clone(),
        },
        Step::MountProc => "/proc".to_owned(),
        Step::ReadOnly => {
            plan.confinement.read_only.as_ref().map_or_else(String::new, |r| r.place(fail.index))
        }
        Step::Landlock => plan.program.sandbox.as_ref().map_or_else(String::new, |s| s.place(fail.index)),
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
