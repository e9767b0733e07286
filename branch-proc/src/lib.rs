//! Process groups tied to a directory view.
//!
//! A [`Command`] names a program and which directory (a branch's *view*) it shall see over which path (the
//! base's own). [`Command::spawn`] creates it *inside* its confinement: one `clone3(2)` makes new mount,
//! pid and ipc namespaces (and a user namespace when the caller has no `CAP_SYS_ADMIN`), a minimal init
//! binds the view, mounts a fresh `/proc` and starts the program. What comes back is a [`Group`]:
//! everything the program starts, however it forks, daemonises or calls `setsid`, is in it, because it is
//! in the pid namespace (`pid_namespaces(7)`). When the program exits, when the group is killed or dropped,
//! or when the process that spawned it dies, the kernel kills all of it; the group's pidfd becomes readable
//! only when nothing of it is left.
//!
//! ```no_run
//! # fn main() -> Result<(), branch_proc::CaptureError> {
//! use branch_proc::{CaptureOptions, Command};
//! let done = Command::new(["make", "test"])
//!     .bind("/run/views/try-1", "/home/me/project")
//!     .current_dir("/home/me/project")
//!     .capture(CaptureOptions::default())?;
//! assert_eq!(done.outcome.shell_code(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! The crate knows nothing of stores or file systems: it gets directories and commands. It never prints.
//! The caller's environment is handed on to the program (unless [`Command::env_clear`] is called) and
//! looked into only for `PATH`.

pub mod branch;
mod c_path;
mod calls;
mod capture;
mod cgroup;
mod command;
mod confine;
mod control;
mod error;
mod group;
pub mod host;
mod init;
mod ladder;
mod limits;
mod net;
mod observe;
mod outcome;
mod overlay;
mod pidfd;
mod place;
mod plan;
mod policy;
mod private_tmp;
mod processes;
mod program;
mod sandbox;
mod scope;
mod spawner;
mod sys;
mod terminal;
mod usage;
mod wire;

pub use calls::{
    Call, CallOptions, CallRecord, HINT_VARIABLE, HISTORY_COMMANDS_MAX, HISTORY_PEAKS_MAX, HintError,
    HintSizes, History, LimitFrom, MemoryHint, Priority, RunningCall, ToolCalls, Verdict, memory_advice,
};
pub use capture::{CaptureOptions, Captured, OUTPUT_CAP_DEFAULT, Output, STOP_GRACE, Stream};
pub use cgroup::allow_systemd_scope;
pub use command::{Command, FD_TARGET_MAX, Stdio};
pub use control::Control;
pub use error::{CaptureError, GroupError, KillError, SpawnError, Step};
pub use group::{DROP_WAIT_MAX, Group, Level, ProcView, Signal, UserNamespace, kill_all};
pub use ladder::{Requirement, Rung, SystemdScope};
pub use limits::{Enforced, IoMax, Limit, Limits};
#[cfg(fuzzing)]
#[doc(hidden)]
pub use net::fuzz;
pub use net::{
    HOST_RULES_MAX, HostRule, HostRuleError, Net, NetError, NetRefusal, PORTS_DEFAULT, PROXY_PORT, Resolve,
    SystemResolver,
};
pub use observe::{DENIALS_MAX, Observe, TRIED_MAX, Tried};
pub use outcome::{Denial, Exit, Outcome};
pub use overlay::Overlay;
pub use pidfd::{Named, kill_pidfd, named_by, order_kill};
pub use policy::{
    BranchAccess, Capability, Decision, Ipc, Moved, NamePattern, Op, OpError, PathPattern, PatternError,
    Policy, Preset, PresetError, RULES_MAX, Rules, WRITABLE_MAX,
};
pub use processes::Process;
pub use sandbox::Enforcement;
pub use scope::Scope;
pub use spawner::Held;
pub use usage::{Pressure, Usage};
