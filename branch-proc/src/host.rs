//! What this host lets the caller do, found out by doing it: nothing in `/proc/sys` tells the whole truth.

use serde::{Deserialize, Serialize};

use crate::error::{SpawnError, Step};
use crate::group::{ProcView, UserNamespace};
use crate::init;
use crate::net::inside::Namespace;
use crate::plan::{bare_confinement, own_id_maps};
use crate::sandbox::Enforcement;
use crate::spawner;
use crate::sys;

/// Whether the host offers something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Support {
    /// It does.
    Available,
    /// It does not; why, and what can be done about it.
    Missing {
        /// For the user's eyes.
        why: String,
    },
}

impl Support {
    /// Whether it is there.
    pub fn is_available(&self) -> bool {
        *self == Support::Available
    }
}

/// What `doctor` tells about processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which user namespace groups of this caller will be in.
    pub user: UserNamespace,
    /// User namespaces for this user (`user_namespaces(7)`); needed unless the caller has `CAP_SYS_ADMIN`.
    pub user_namespaces: Support,
    /// What every group needs: new mount, pid and ipc namespaces, private mounts.
    pub groups: Support,
    /// A fresh `/proc` in a group; without it groups work but see the caller's.
    pub fresh_proc: Support,
    /// Network namespaces with a loopback of their own; without them a group has the caller's network or none.
    pub networks: Support,
    /// All that a policy may deny; where something is missing, the rest is enforced all the same.
    pub policies: Support,
}

impl Report {
    /// Finds out, by making three short-lived processes.
    pub fn probe() -> Report {
        let own = probe(UserNamespace::Own, Namespace::Callers);
        let user = if sys::lacks_sys_admin() { UserNamespace::Own } else { UserNamespace::Callers };
        let used = match user {
            UserNamespace::Own => own.clone(),
            UserNamespace::Callers => probe(user, Namespace::Callers),
        };
        Report {
            user,
            user_namespaces: support(own.map(|_| ())),
            fresh_proc: support(used.clone().and_then(fresh)),
            groups: support(used.map(|_| ())),
            networks: support(probe(user, Namespace::Loopback).map(|_| ())),
            policies: policies(&Enforcement::of_this_kernel()),
        }
    }
}

fn probe(user: UserNamespace, net: Namespace) -> Result<ProcView, SpawnError> {
    let maps = match user {
        UserNamespace::Own => Some(own_id_maps()),
        UserNamespace::Callers => None,
    };
    let confinement = bare_confinement(maps, net);
    let life = |ends: &_| init::run_probe(&confinement, ends);
    let launched = spawner::launch(&confinement, 3, Vec::new(), None, "a probe", None, life)?;
    launched.probe_result().map_err(|fail| SpawnError::new(fail.step, fail.errno, "a probe"))
}

fn fresh(view: ProcView) -> Result<(), SpawnError> {
    match view {
        ProcView::Fresh => Ok(()),
        ProcView::Inherited => Err(SpawnError::new(Step::MountProc, libc::EPERM, "/proc")),
    }
}

fn policies(enforcement: &Enforcement) -> Support {
    match enforcement.is_full() {
        true => Support::Available,
        false => Support::Missing {
            why: format!("not enforced by this kernel: {}", enforcement.missing.join("; ")),
        },
    }
}

fn support(result: Result<(), SpawnError>) -> Support {
    match result {
        Ok(()) => Support::Available,
        Err(error) => Support::Missing { why: error.to_string() },
    }
}
