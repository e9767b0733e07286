//! Which means a group gets on this host: its rung, its control groups, and limits for each process where there
//! are none for the group.

use crate::cgroup::{Extent, Home, OwnCgroup, systemd_scope};
use crate::error::{SpawnError, Step};
use crate::ladder::{Requirement, Rung};
use crate::limits::{self, Enforced, Limit, Limits};
use crate::plan::Plan;

/// What a group is made with.
pub(crate) struct Place {
    pub(crate) rung: Rung,
    pub(crate) cgroup: Option<OwnCgroup>,
    /// How each limit that is set is held.
    pub(crate) limits: Vec<(Limit, Enforced)>,
    /// (resource, value) for each process.
    pub(crate) rlimits: Vec<(u32, u64)>,
}

/// Looks from `at_most` downwards. The group's init counts as one of its processes.
pub(crate) fn find(plan: &Plan, at_most: Rung) -> Result<Place, SpawnError> {
    let (mut rung, mut cgroup) = (at_most.max(Rung::PidNamespace), None);
    if at_most < Rung::PidNamespace {
        let home = match &plan.home {
            Some(home) => home,
            None if plan.limits.concern_the_group() => Home::for_limits(),
            None => Home::of_host(),
        };
        if let Some(made) = make(home, plan)? {
            rung = if home.is_delegated_v2() { Rung::CgroupV2.max(at_most) } else { Rung::CgroupHybrid };
            cgroup = Some(made);
        }
    }
    let mut held = match &cgroup {
        Some(cgroup) => cgroup.limit(&with_init(&plan.limits))?,
        None => Vec::new(),
    };
    let rlimits = rlimits(plan, &mut held);
    let limits = limits::completed(&plan.limits, held);
    match plan.requirements.iter().find_map(|required| required.missing(rung, &limits)) {
        Some(missing) => Err(SpawnError::new(Step::Require, libc::ENOTSUP, systemd_scope().explain(missing))),
        None => Ok(Place { rung, cgroup, limits, rlimits }),
    }
}

/// None where the host has nothing, or what it seemed to have cannot be used and nobody insists on it.
fn make(home: &Home, plan: &Plan) -> Result<Option<OwnCgroup>, SpawnError> {
    if home.is_empty() {
        return Ok(None);
    }
    // A scope counts and bounds what is in it.
    let controllers = plan.home.is_some() || !plan.limits.is_empty();
    let extent = if controllers { Extent::Everywhere } else { Extent::Unified };
    match OwnCgroup::make(home, extent) {
        Ok(made) => Ok(Some(made)),
        Err(_) if !plan.requirements.contains(&Requirement::EnforcedLimits) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The init is a process of the group, and nobody counts it who sets a limit.
fn with_init(limits: &Limits) -> Limits {
    Limits { pids_max: limits.pids_max.map(|max| max.saturating_add(1)), ..limits.clone() }
}

/// Limits of each process: those that are meant so, and in place of those that nothing holds for the group.
fn rlimits(plan: &Plan, held: &mut Vec<(Limit, Enforced)>) -> Vec<(u32, u64)> {
    let limits = &plan.limits;
    let mut set = Vec::new();
    let mut add = |limit, resource, value: Option<u64>, how| {
        let Some(value) = value else { return };
        if held.iter().all(|(has, _)| *has != limit) {
            set.push((resource, value));
            held.push((limit, how));
        }
    };
    add(Limit::OpenFiles, libc::RLIMIT_NOFILE, limits.open_files, Enforced::Fully);
    add(Limit::FileSize, libc::RLIMIT_FSIZE, limits.file_size, Enforced::Fully);
    add(Limit::MemoryMax, libc::RLIMIT_DATA, limits.memory_max, Enforced::EachProcess);
    if plan.confinement.maps.is_some() {
        // Counted in the user namespace, which is the group's own (`user_namespaces(7)`), its init included.
        let max = limits.pids_max.map(|max| u64::from(max) + 1);
        add(Limit::PidsMax, libc::RLIMIT_NPROC, max, Enforced::Fully);
    }
    set
}
