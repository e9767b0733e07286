//! The ladder of means that hold a group together, best first, and what a caller may insist on.

use serde::{Deserialize, Serialize};

use crate::limits::{Enforced, Limit};

/// What holds a group together. Each offers what the ones below it do, except [`Rung::Subreaper`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// A pid namespace, and a cgroup v2 with controllers: everything can be bounded, counted, frozen and
    /// killed as a whole.
    CgroupV2,
    /// A pid namespace, controllers of cgroup v1 where bounds are asked for, and a cgroup v2 without
    /// controllers where one is mounted, for freezing.
    CgroupHybrid,
    /// A pid namespace alone: nothing escapes the kill. Freezing is by signals, bounds are for each process.
    PidNamespace,
    /// A child subreaper (`PR_SET_CHILD_SUBREAPER(2const)`), without namespaces: the view is seen at its own
    /// path only, `/proc` is the caller's, and a process that kills the init, or forks faster than it can be
    /// killed, **escapes**.
    Subreaper,
}

impl Rung {
    /// Whether a group on this rung is in namespaces of its own.
    pub fn has_namespaces(self) -> bool {
        self != Rung::Subreaper
    }

    /// As messages spell it.
    pub fn name(self) -> &'static str {
        match self {
            Rung::CgroupV2 => "cgroup-v2",
            Rung::CgroupHybrid => "cgroup-hybrid",
            Rung::PidNamespace => "pid-namespace",
            Rung::Subreaper => "subreaper",
        }
    }
}

/// Whether this process was moved to a scope of the user's systemd for the sake of its groups
/// ([`crate::allow_systemd_scope`]).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemdScope {
    /// Systemd was not asked: it was not allowed, or not needed.
    #[default]
    NotAsked,
    /// It was moved, and is there now.
    Entered {
        /// The scope's name, for `systemctl --user status`.
        unit: String,
    },
    /// Nothing came of it.
    Refused {
        /// For the user's eyes.
        why: String,
    },
}

impl SystemdScope {
    /// What is missing, with the reason why systemd did not help.
    pub(crate) fn explain(&self, missing: String) -> String {
        match self {
            SystemdScope::Refused { why } => format!("{missing} (systemd gave no scope: {why})"),
            SystemdScope::NotAsked | SystemdScope::Entered { .. } => missing,
        }
    }
}

/// Something a group must not be without: where the host does not offer it, the spawn is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requirement {
    /// Nothing of the group survives its kill, whatever it does: a pid namespace.
    InescapableKill,
    /// Every limit that is set is held for the whole group.
    EnforcedLimits,
    /// A `/proc` that shows the group's processes only.
    FreshProc,
}

impl Requirement {
    /// What is missing on a group like this, in words; None if nothing is.
    pub(crate) fn missing(self, rung: Rung, limits: &[(Limit, Enforced)]) -> Option<String> {
        match self {
            Requirement::InescapableKill if !rung.has_namespaces() => {
                Some("an inescapable kill (a pid namespace)".to_owned())
            }
            Requirement::EnforcedLimits => limits
                .iter()
                .find(|(_, enforced)| *enforced != Enforced::Fully)
                .map(|(limit, _)| format!("a limit for the whole group: {limit:?}")),
            // The init finds out.
            Requirement::InescapableKill | Requirement::FreshProc => None,
        }
    }
}
