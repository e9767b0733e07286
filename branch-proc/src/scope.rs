//! A place for several groups that share limits.

use crate::cgroup::{Home, OwnCgroup, systemd_scope};
use crate::error::{SpawnError, Step};
use crate::limits::{self, Enforced, Limit, Limits};
use crate::usage::{Pressure, Usage};

/// A control group for groups: what is in it is bounded and counted together, and each group may have limits of
/// its own besides. Give it to [`crate::Command::within`]; it must live longer than the groups in it, or what
/// is left of it is removed by a later process.
#[derive(Debug)]
pub struct Scope {
    cgroup: OwnCgroup,
    limits: Vec<(Limit, Enforced)>,
}

impl Scope {
    /// Makes one on this host.
    ///
    /// # Errors
    /// [`Step::Cgroup`] where the caller may make no control groups.
    pub fn new(limits: &Limits) -> Result<Scope, SpawnError> {
        Scope::below(Home::for_limits(), limits)
    }

    /// Makes one inside this one.
    ///
    /// # Errors
    /// As [`Scope::new`].
    pub fn child(&self, limits: &Limits) -> Result<Scope, SpawnError> {
        Scope::below(&self.home(), limits)
    }

    fn below(home: &Home, limits: &Limits) -> Result<Scope, SpawnError> {
        if home.is_empty() {
            let thing = systemd_scope().explain("a control group".to_owned());
            return Err(SpawnError::new(Step::Cgroup, libc::ENOTSUP, thing));
        }
        let cgroup = OwnCgroup::make_parent(home).map_err(SpawnError::from)?;
        let held = cgroup.limit(limits).map_err(SpawnError::from)?;
        Ok(Scope { cgroup, limits: limits::completed(limits, held) })
    }

    pub(crate) fn home(&self) -> Home {
        self.cgroup.as_home()
    }

    /// Bytes used that cannot be taken back without loss: without the cache of files. What is below `rough` is not
    /// looked at that closely. None where nobody counts.
    pub(crate) fn memory_in_use(&self, rough: u64) -> Option<u64> {
        self.cgroup.memory_in_use(rough)
    }

    /// Whether groups in it can have [`Limits::memory_low`].
    pub(crate) fn protects_memory(&self) -> bool {
        self.home().is_delegated_v2()
    }

    /// How the limits that were asked for are held.
    pub fn limits(&self) -> &[(Limit, Enforced)] {
        &self.limits
    }

    /// Changes limits of all of it together; those that are None stay.
    ///
    /// # Errors
    /// [`Step::Cgroup`]
    pub fn limit(&self, limits: &Limits) -> Result<(), SpawnError> {
        self.cgroup.limit(limits).map(drop).map_err(SpawnError::from)
    }

    /// What all of it uses together.
    pub fn usage(&self) -> Usage {
        self.cgroup.usage()
    }

    /// How much all of it waits for memory; None where the kernel does not account for it.
    pub fn pressure(&self) -> Option<Pressure> {
        self.cgroup.pressure()
    }
}
