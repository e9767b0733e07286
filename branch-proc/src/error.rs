//! What can go wrong, with cause, thing and what to do.

use std::fmt;
use std::io;
use std::time::Duration;

/// The step of a spawn that failed, in the order in which they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Checking the request and making pipes, before anything is created.
    Prepare,
    /// Making control groups and setting limits (`cgroups(7)`), before anything runs in them.
    Cgroup,
    /// Something that was required is not to be had on this host.
    Require,
    /// `clone3(2)` into new namespaces.
    Clone,
    /// Moving the init into its control groups of cgroup v1, by itself (`cgroups(7)`).
    EnterCgroup,
    /// Writing `/proc/self/setgroups`, needed before the gid map (`user_namespaces(7)`).
    SetGroups,
    /// Writing `/proc/self/uid_map`.
    UidMap,
    /// Writing `/proc/self/gid_map`.
    GidMap,
    /// Adopting everything that loses its parent (`PR_SET_CHILD_SUBREAPER(2const)`).
    Subreaper,
    /// Making the init unreadable for the program (`PR_SET_DUMPABLE(2const)`).
    HideMemory,
    /// Bringing up loopback in a network namespace of its own (`network_namespaces(7)`).
    Loopback,
    /// Opening the proxy's socket in that namespace and passing it out.
    ProxySocket,
    /// Starting the proxy's threads.
    Proxy,
    /// Making every mount private, so that nothing leaks to the host (`mount_namespaces(7)`).
    MakePrivate,
    /// Mounting a native view (`overlayfs`).
    Overlay,
    /// Binding a view over a base path (`mount(2)`, `MS_BIND`).
    Bind,
    /// Hiding the host's resolvers from a group with a network of its own.
    Resolvers,
    /// Making a `/tmp` of its own.
    PrivateTmp,
    /// Mounting a fresh `/proc` for the new pid namespace.
    MountProc,
    /// Mounting shared memory (`/dev/shm`) and message queues (`/dev/mqueue`) of its own (`shm_overview(7)`).
    SharedMemory,
    /// Making all mounts read-only but those a policy lets the program write (`mount_setattr(2)`).
    ReadOnly,
    /// Entering the working directory, by its path after the binds.
    Chdir,
    /// Starting a session of its own (`setsid(2)`).
    Session,
    /// Setting up signal handling of the init (`signalfd(2)`).
    Signals,
    /// Forking the program from the init.
    Fork,
    /// Putting standard streams and passed descriptors in place (`dup2(2)`).
    Descriptors,
    /// Giving up the capabilities with which root could leave its network (`capabilities(7)`).
    Capabilities,
    /// Limits of each process (`setrlimit(2)`).
    Rlimit,
    /// Marking every other descriptor close-on-exec, or closing it (`close_range(2)`).
    CloseRest,
    /// Giving up gaining privileges by `execve(2)`, which a policy needs (`PR_SET_NO_NEW_PRIVS(2const)`).
    NoNewPrivs,
    /// Entering the policy's rules for files, sockets and signals (`landlock(7)`).
    Landlock,
    /// Installing the filter of system calls of a policy, or of a network of its own (`seccomp(2)`).
    Seccomp,
    /// `execve(2)` of the program.
    Exec,
}

impl Step {
    /// Every step, in order; a step's place is its number on the error pipe.
    pub(crate) const ALL: [Step; 33] = [
        Step::Prepare,
        Step::Cgroup,
        Step::Require,
        Step::Clone,
        Step::EnterCgroup,
        Step::SetGroups,
        Step::UidMap,
        Step::GidMap,
        Step::Subreaper,
        Step::HideMemory,
        Step::Loopback,
        Step::ProxySocket,
        Step::Proxy,
        Step::MakePrivate,
        Step::Overlay,
        Step::Bind,
        Step::Resolvers,
        Step::PrivateTmp,
        Step::MountProc,
        Step::SharedMemory,
        Step::ReadOnly,
        Step::Chdir,
        Step::Session,
        Step::Signals,
        Step::Fork,
        Step::Descriptors,
        Step::Capabilities,
        Step::Rlimit,
        Step::CloseRest,
        Step::NoNewPrivs,
        Step::Landlock,
        Step::Seccomp,
        Step::Exec,
    ];

    fn phrase(self) -> &'static str {
        match self {
            Step::Prepare => "prepare",
            Step::Cgroup => "use control group",
            Step::Require => "offer",
            Step::Clone => "create namespaces for",
            Step::EnterCgroup => "enter control group",
            Step::SetGroups => "switch off setgroups for",
            Step::UidMap => "map the user id of",
            Step::GidMap => "map the group id of",
            Step::Subreaper => "adopt the orphans of",
            Step::HideMemory => "hide the caller's memory from",
            Step::Loopback => "bring up loopback for",
            Step::ProxySocket => "open the proxy's socket for",
            Step::Proxy => "start the proxy of",
            Step::MakePrivate => "make mounts private for",
            Step::Overlay => "mount an overlayfs over",
            Step::Bind => "bind",
            Step::Resolvers => "hide the host's resolvers from",
            Step::PrivateTmp => "make a private /tmp for",
            Step::MountProc => "mount a fresh",
            Step::SharedMemory => "mount shared memory of its own for",
            Step::ReadOnly => "make read-only",
            Step::Chdir => "enter directory",
            Step::Session => "start a session for",
            Step::Signals => "set up signals for",
            Step::Fork => "fork",
            Step::Descriptors => "pass",
            Step::Capabilities => "give up capabilities for",
            Step::Rlimit => "limit",
            Step::CloseRest => "close inherited descriptors of",
            Step::NoNewPrivs => "set no_new_privs for",
            Step::Landlock => "enforce",
            Step::Seccomp => "filter the system calls of",
            Step::Exec => "execute",
        }
    }

    fn hint(self, errno: i32) -> &'static str {
        match (self, errno) {
            (Step::Prepare, libc::EMFILE | libc::ENFILE) => {
                "close descriptors or raise the limit (ulimit -n)"
            }
            (Step::Cgroup, libc::EACCES | libc::EPERM | libc::EROFS | libc::ENOTSUP) => {
                "control groups belong to root here: delegate one (systemd: Delegate=yes, or a user session), or do \
                 without limits for the whole group"
            }
            (Step::Cgroup, libc::EINVAL | libc::ERANGE | libc::ENODEV) => {
                "the kernel does not take this value"
            }
            (Step::EnterCgroup, libc::EACCES | libc::EPERM) => {
                "who moves a process needs the right to write the directory's tasks file: delegate that, too"
            }
            (Step::EnterCgroup, libc::EINVAL) => {
                "the cpu controller takes no real-time thread without cpu.rt_runtime_us: start it from an ordinary one"
            }
            (Step::Require, _) => {
                "it was required and this host does not have it; 'branchfs doctor' shows what it has"
            }
            (Step::Clone, libc::EPERM) => {
                "allow user namespaces for ordinary users (sysctl kernel.unprivileged_userns_clone, seccomp \
                 profile of the container) or run with CAP_SYS_ADMIN"
            }
            (Step::Clone, libc::ENOSPC) => {
                "raise sysctl user.max_user_namespaces, max_pid_namespaces, max_mnt_namespaces or max_net_namespaces"
            }
            (Step::Clone, libc::ENOSYS | libc::EINVAL) => {
                "clone3 with namespaces needs Linux 5.5 or newer and a seccomp profile that lets it pass"
            }
            (Step::Clone | Step::Fork, libc::EAGAIN) => {
                "the process limit is reached: raise it (ulimit -u, pids cgroup) or end other processes"
            }
            (Step::Loopback | Step::ProxySocket, _) => {
                "network namespaces do not work here: use --net none or open, or see what the container forbids"
            }
            (Step::Proxy, _) => "the proxy needs a thread and some descriptors: raise ulimit -u and -n",
            (Step::Capabilities, _) => {
                "root without CAP_SETPCAP cannot give up what would let its program leave its network"
            }
            (
                Step::SetGroups | Step::UidMap | Step::GidMap | Step::MakePrivate,
                libc::EPERM | libc::EACCES,
            ) => {
                "the host restricts user namespaces: see sysctl \
                 kernel.apparmor_restrict_unprivileged_userns, or run with CAP_SYS_ADMIN"
            }
            (Step::Overlay, libc::ENODEV) => {
                "this kernel has no overlayfs (modprobe overlay): use --view fuse"
            }
            (Step::Overlay, _) => {
                "this kernel, or the filesystem of the store, cannot do it (the kernel's log says why): use --view fuse"
            }
            (Step::Bind, libc::ENOENT) => {
                "create both directories first: the view must exist and so must the path it is bound over"
            }
            (Step::Bind, libc::ENOTDIR) => {
                "view and base must be of the same kind: two directories or two files"
            }
            (Step::Bind, libc::ENOTCONN) => "the filesystem behind the view has gone: is its daemon running?",
            (Step::Bind, libc::EACCES) => {
                "this user cannot reach the view or the base: check the permissions of its parents, and \
                 allow_other of a FUSE mount"
            }
            (Step::MountProc, _) => {
                "parts of /proc are masked here, as in most containers: allow the inherited /proc, or unmask it"
            }
            (Step::SharedMemory, _) => {
                "to share the caller's instead, bind it over itself: /dev/shm over /dev/shm"
            }
            (Step::Chdir, libc::ENOENT) => {
                "the path is looked up after the view is bound: does it exist in the branch?"
            }
            (Step::ReadOnly, _) => {
                "the policy's writable directories become mounts of the group's own: are they on a file system that \
                 can be mounted a second time?"
            }
            (Step::Landlock, libc::EOPNOTSUPP) => {
                "use a newer kernel, one with Landlock switched on (boot option lsm=landlock,…), or a policy \
                 without require_full"
            }
            (Step::Landlock, libc::E2BIG) => {
                "Landlock can be stacked 16 times: this group is within 16 others"
            }
            (Step::Seccomp, libc::EINVAL | libc::ENOSYS) => {
                "the kernel has no seccomp filters: it needs CONFIG_SECCOMP_FILTER"
            }
            (Step::Seccomp, libc::EBUSY) => {
                "this group is within one that is looked at already: look at this one not at all (Observe::Nothing)"
            }
            (Step::Exec, libc::ENOENT) => {
                "is it installed and on PATH, and its interpreter present? The path is looked up \
                 inside the view"
            }
            (Step::Exec, libc::EACCES) => {
                "is it an executable file (chmod +x), not on a noexec mount, and in fs_exec of the policy, if it has \
                 one?"
            }
            (Step::Exec, libc::ENOEXEC) => "not a program for this machine, or a script without a #! line",
            (Step::Exec, libc::E2BIG) => "shorten the arguments or the environment",
            _ => "",
        }
    }
}

/// A program could not be started; nothing of it is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnError {
    /// The step that failed.
    pub step: Step,
    /// The system's error number (`errno(3)`).
    pub errno: i32,
    /// What the step was about: a path, a pair of paths, a program.
    pub thing: String,
}

impl SpawnError {
    pub(crate) fn new(step: Step, errno: i32, thing: impl Into<String>) -> Self {
        SpawnError { step, errno, thing: thing.into() }
    }

    /// Whether this host does not let this caller make namespaces and mounts in them.
    pub(crate) fn refuses_namespaces(&self) -> bool {
        let steps = [Step::Clone, Step::SetGroups, Step::UidMap, Step::GidMap, Step::MakePrivate];
        let refused = [libc::EPERM, libc::EACCES, libc::ENOSPC, libc::ENOSYS, libc::EINVAL];
        steps.contains(&self.step) && refused.contains(&self.errno)
    }

    /// What to do about it; empty where there is nothing useful to say.
    pub fn hint(&self) -> &'static str {
        self.step.hint(self.errno)
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = io::Error::from_raw_os_error(self.errno);
        write!(f, "cannot {} {}: {cause}", self.step.phrase(), self.thing)?;
        if self.hint().is_empty() { Ok(()) } else { write!(f, "; {}", self.hint()) }
    }
}

impl std::error::Error for SpawnError {}

/// A running group could not be watched or signalled.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} process group {pid}: {source}")]
pub struct GroupError {
    /// What was being done, as a verb.
    pub doing: &'static str,
    /// The init's pid in the caller's pid namespace.
    pub pid: i32,
    /// The system's answer.
    pub source: io::Error,
}

/// A program could not be run to its end with its output kept. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It was not started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// It could not be watched, and was killed.
    #[error(transparent)]
    Group(#[from] GroupError),
}

/// A process given by pidfd could not be killed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KillError {
    /// The descriptor is not a pidfd.
    #[error("descriptor {fd} is not a pidfd: {source}")]
    NotAPidfd {
        /// The descriptor's number.
        fd: i32,
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel did not let us signal or watch it.
    #[error("cannot kill process {pid}: {source}; the killer needs the same user or CAP_KILL")]
    Refused {
        /// Its pid in the caller's pid namespace (-1: gone, 0: not visible here).
        pid: i32,
        /// The system's answer.
        source: io::Error,
    },
    /// It was sent SIGKILL but is still there.
    #[error(
        "process {pid} is still there {waited:?} after SIGKILL; it may hang in a filesystem (state D in ps)"
    )]
    StillThere {
        /// Its pid in the caller's pid namespace.
        pid: i32,
        /// How long was waited.
        waited: Duration,
    },
}
