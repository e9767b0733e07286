//! How programs are confined, as plain data.

use branch_proc::{Command, Limits, Net, Observe, Policy, Requirement, Rung};

/// Bounds, sandbox and network of a program. The default is a process group of its own and nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// What it may use, all its processes together.
    pub limits: Limits,
    /// What it may do; without one, whatever the caller may.
    pub policy: Option<Policy>,
    /// Its network; without one the policy's, or the caller's.
    pub net: Option<Net>,
    /// How closely it is looked at; without it, for denials where there is a policy.
    pub observe: Option<Observe>,
    /// Which `/tmp` it sees.
    pub tmp: Tmp,
    /// The best means by which it is held together.
    pub at_most: Rung,
    /// What it must not be without.
    pub requirements: Vec<Requirement>,
}

/// The `/tmp` of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tmp {
    /// The host's.
    Shared,
    /// One of its own, empty, in memory.
    Private,
}

impl Default for Confinement {
    fn default() -> Confinement {
        Confinement {
            limits: Limits::default(),
            policy: None,
            net: None,
            observe: None,
            tmp: Tmp::Shared,
            at_most: Rung::CgroupV2,
            requirements: Vec::new(),
        }
    }
}

impl Confinement {
    pub(crate) fn apply(&self, command: Command) -> Command {
        let mut command = command.limits(self.limits.clone()).at_most(self.at_most);
        if let Some(policy) = &self.policy {
            command = command.policy(policy.clone());
        }
        if let Some(net) = &self.net {
            command = command.net(net.clone());
        }
        if let Some(observe) = self.observe {
            command = command.observe(observe);
        }
        if self.tmp == Tmp::Private {
            command = command.private_tmp();
        }
        self.requirements.iter().fold(command, |command, &requirement| command.require(requirement))
    }
}
