//! The child's way into its confinement: a straight line of steps, each with its own error. Runs in the
//! init, before the program exists; async-signal-safe.

use std::ffi::{CStr, CString};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::error::Step;
use crate::net::inside::{self, Namespace};
use crate::overlay;
use crate::private_tmp::PrivateTmp;
use crate::sandbox::ReadOnly;
use crate::wire::Fail;

/// What the confinement shall be, with every string ready for the kernel.
#[derive(Debug)]
pub(crate) struct Confinement {
    pub(crate) namespaces: Namespaces,
    /// Present when the child starts in a user namespace of its own.
    pub(crate) maps: Option<IdMaps>,
    pub(crate) net: Namespace,
    /// Mounted before the binds.
    pub(crate) overlay: Option<overlay::Ready>,
    /// (view, over), bound in this order.
    pub(crate) binds: Vec<(CString, CString)>,
    /// A `/tmp` of its own, with what is bound there.
    pub(crate) private_tmp: Option<PrivateTmp>,
    pub(crate) proc: ProcRule,
    pub(crate) shared_memory: SharedMemory,
    /// What a policy leaves writable.
    pub(crate) read_only: Option<ReadOnly>,
    /// Entered after the binds: a directory inherited from the caller would still be the one underneath.
    pub(crate) cwd: Option<CString>,
}

/// Whether the child starts in namespaces of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespaces {
    Own,
    /// Only its own mounts: the init adopts orphans instead of being the first of a pid namespace.
    Mounts,
    /// The caller's: as above, and nothing is mounted.
    Callers,
}

/// The lines for `/proc/self/uid_map` and `gid_map`.
#[derive(Debug)]
pub(crate) struct IdMaps {
    pub(crate) uid: String,
    pub(crate) gid: String,
}

/// What to do where the kernel refuses a fresh `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcRule {
    /// Keep the inherited one and say so.
    Prefer,
    /// Fail.
    Require,
}

/// Whose `/dev/shm` and `/dev/mqueue` the group sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SharedMemory {
    /// Its own, empty.
    Own,
    /// The caller's: something that the group works on lies there.
    Callers,
}

/// What became of `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcMounted {
    Fresh,
    Refused,
}

/// Enters the confinement. The process is pid 1 of its new namespaces already.
pub(crate) fn enter(plan: &Confinement) -> Result<ProcMounted, Fail> {
    if plan.namespaces == Namespaces::Callers {
        return adopt(plan).map(|()| ProcMounted::Refused);
    }
    if let Some(maps) = &plan.maps {
        map_ids(maps)?;
    }
    hide_memory()?;
    if plan.net == Namespace::Loopback {
        inside::loopback_up()?;
    }
    rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|e| Fail::new(Step::MakePrivate, e))?;
    if let Some(tmp) = &plan.private_tmp {
        tmp.stage()?;
    }
    if let Some(overlay) = &plan.overlay {
        overlay.mount()?;
    }
    for (index, (view, over)) in plan.binds.iter().enumerate() {
        // Recursive: in a less privileged mount namespace, submounts of the view are locked to it and a
        // plain bind is EINVAL (mount_namespaces(7)).
        rustix::mount::mount_bind_recursive(view.as_c_str(), over.as_c_str())
            .map_err(|e| Fail::new(Step::Bind, e).at(index))?;
    }
    if let Some(tmp) = &plan.private_tmp {
        tmp.enter()?;
    }
    if plan.net != Namespace::Callers {
        inside::hide_resolvers()?;
    }
    let proc = match plan.namespaces {
        Namespaces::Own => mount_proc(plan.proc)?,
        Namespaces::Mounts | Namespaces::Callers => become_subreaper().map(|()| ProcMounted::Refused)?,
    };
    if plan.shared_memory == SharedMemory::Own {
        mount_shared_memory()?;
    }
    if let Some(read_only) = &plan.read_only {
        read_only.enter()?;
    }
    change_directory(plan)?;
    Ok(proc)
}

/// The lowest rung: what loses its parent becomes the init's child, so that the init can find and kill it.
fn adopt(plan: &Confinement) -> Result<(), Fail> {
    become_subreaper()?;
    hide_memory()?;
    change_directory(plan)
}

fn become_subreaper() -> Result<(), Fail> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|e| Fail::new(Step::Subreaper, e))
}

fn change_directory(plan: &Confinement) -> Result<(), Fail> {
    let Some(cwd) = &plan.cwd else { return Ok(()) };
    rustix::process::chdir(cwd.as_c_str()).map_err(|e| Fail::new(Step::Chdir, e))
}

/// Maps the caller's ids to themselves, so that the program keeps seeing its own. A process may write these
/// itself as long as it maps nothing but its creator's ids (`user_namespaces(7)`).
fn map_ids(maps: &IdMaps) -> Result<(), Fail> {
    write_file(c"/proc/self/setgroups", b"deny").map_err(|e| Fail::new(Step::SetGroups, e))?;
    write_file(c"/proc/self/uid_map", maps.uid.as_bytes()).map_err(|e| Fail::new(Step::UidMap, e))?;
    write_file(c"/proc/self/gid_map", maps.gid.as_bytes()).map_err(|e| Fail::new(Step::GidMap, e))
}

/// The init carries a copy of the caller's memory, secrets included, and runs as the program's user: not
/// dumpable, it can be neither traced nor read through `/proc/1/mem` (`PR_SET_DUMPABLE(2const)`). `execve`
/// makes the program itself dumpable again. After the id maps, which need `/proc/self` to be ours.
fn hide_memory() -> Result<(), Fail> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|e| Fail::new(Step::HideMemory, e))
}

fn mount_proc(rule: ProcRule) -> Result<ProcMounted, Fail> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match rustix::mount::mount(c"proc", c"/proc", c"proc", flags, None) {
        Ok(()) => Ok(ProcMounted::Fresh),
        // The kernel's answer where the visible /proc is partly masked: a fresh one would reveal more.
        Err(Errno::PERM) if rule == ProcRule::Prefer => Ok(ProcMounted::Refused),
        Err(e) => Err(Fail::new(Step::MountProc, e)),
    }
}

/// What `shm_open(3)` and named semaphores use is a directory of the host's, which namespaces alone do not fence, and
/// so is a mounted file system of message queues: it shows those of the ipc namespace in which it was mounted.
fn mount_shared_memory() -> Result<(), Fail> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let places: [(&CStr, &CStr, Option<&CStr>); 2] =
        [(c"/dev/shm", c"tmpfs", Some(c"mode=1777")), (c"/dev/mqueue", c"mqueue", None)];
    for (place, kind, options) in places {
        match rustix::mount::mount(kind, place, kind, flags, options) {
            // No such place here, or no message queues in this kernel: nothing to fence.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::NODEV) => {}
            Err(e) => return Err(Fail::new(Step::SharedMemory, e)),
        }
    }
    Ok(())
}

fn write_file(path: &CStr, content: &[u8]) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // These files take their content in one write or not at all.
    rustix::io::write(&file, content).map(|_| ())
}
