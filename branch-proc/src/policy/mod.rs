//! What a group may do, as data. Everything here is pure but [`Rules::on_this_host`], which looks at where
//! symbolic links lead and what is there.

mod calls;
mod explain;
mod op;
mod pattern;
mod places;
mod preset;
mod rules;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::net::Net;
pub(crate) use calls::{Fence, TRACING, When};
pub(crate) use explain::arrow;
pub use explain::{Decision, Moved};
pub(crate) use op::{FILE, List, Rights};
pub use op::{Op, OpError};
pub use pattern::{NamePattern, PathPattern, PatternError};
pub(crate) use pattern::{lets_through, normal};
pub use preset::{Preset, PresetError};
pub use rules::Rules;
pub(crate) use rules::{DEVICES, LOADERS};

/// Most entries all the path lists of a policy together may have: each is a rule in the kernel, and looked
/// at in each explanation.
pub const RULES_MAX: usize = 1024;
/// Most directories outside the branch that may be writable: each is a mount of the group's own.
pub const WRITABLE_MAX: usize = 64;

/// What a group may do. What is not allowed is denied; the default allows next to nothing: not even a
/// dynamically linked program starts. Begin with [`Policy::preset`].
///
/// As data (`toml`, `json`) every field may be left out, and unknown ones are errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// What it is called in explanations.
    pub name: String,
    /// What may be done in the branch itself: at the path the view is bound over.
    pub branch: BranchAccess,
    /// Directories that may be listed, with those beneath; their files are not read by that.
    pub fs_list: Vec<PathPattern>,
    /// Directories and files that may be read.
    pub fs_read: Vec<PathPattern>,
    /// Directories and files that may be written: changed, and where they are directories also filled and
    /// emptied. Includes reading.
    pub fs_write: Vec<PathPattern>,
    /// Directories and files from which programs may be executed. Includes reading, which is all that
    /// libraries and scripts need.
    pub fs_exec: Vec<PathPattern>,
    /// The only programs that may be executed: absolute paths, or names that are looked up in the usual
    /// directories for programs. The interpreter of a script has to be named, too. None: whatever `fs_exec`
    /// and `branch` allow. A guard, no wall: a program that is listed can load code from any file it can
    /// read.
    pub spawn: Option<Vec<String>>,
    /// Device nodes, or directories of them, that may be opened and controlled, beyond `/dev/null`, `zero`,
    /// `full`, `random`, `urandom` and `tty`, which always may be.
    pub devices: Vec<PathPattern>,
    /// Variables of the caller's environment that are handed on. What [`crate::Command::env`] sets is, in
    /// any case.
    pub env: Vec<NamePattern>,
    /// The network. What this says of kinds of sockets is enforced by the policy itself: with [`Net::None`]
    /// none but local ones, raw ones never.
    pub net: Net,
    /// Local sockets.
    pub ipc: Ipc,
    /// Whether processes of the group may trace and read each other (debuggers, `strace`, leak checkers).
    /// Those outside are out of reach in any case.
    pub ptrace: bool,
    /// Whether code that lies in no file may be executed (`memfd_create(2)`, then `execveat(2)`), which
    /// otherwise would go around `fs_exec`.
    pub memory_exec: bool,
    /// Capabilities that the program keeps if it has them (`capabilities(7)`; names in small letters without
    /// `cap_`). An ordinary user's program has none.
    pub capabilities: Vec<Capability>,
    /// Makes it an error if this kernel cannot enforce all of the policy; see [`crate::Enforcement`].
    pub require_full: bool,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            name: "custom".to_owned(),
            branch: BranchAccess::default(),
            fs_list: Vec::new(),
            fs_read: Vec::new(),
            fs_write: Vec::new(),
            fs_exec: Vec::new(),
            spawn: None,
            devices: Vec::new(),
            env: Vec::new(),
            net: Net::None,
            ipc: Ipc::default(),
            ptrace: false,
            memory_exec: false,
            capabilities: Vec::new(),
            require_full: false,
        }
    }
}

/// What may be done in the branch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BranchAccess {
    /// Reading.
    ReadOnly,
    /// Reading and writing.
    #[default]
    Write,
    /// Reading, writing, and executing what lies there.
    WriteAndExecute,
}

/// Local sockets (`unix(7)`). Sockets with abstract names of processes outside can be reached with
/// [`Ipc::Host`] only. Those with a path the kernel guards by the file's permissions alone: Landlock has no
/// say in it before its ABI 9.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ipc {
    /// None but pairs (`socketpair(2)`), which are connected already.
    #[default]
    None,
    /// Sockets; abstract names within the group only.
    Group,
    /// As without a policy.
    Host,
}

/// A capability a program may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum Capability {
    /// `CAP_CHOWN`
    Chown = 0,
    /// `CAP_DAC_OVERRIDE`
    DacOverride = 1,
    /// `CAP_FOWNER`
    Fowner = 3,
    /// `CAP_FSETID`
    Fsetid = 4,
    /// `CAP_KILL`
    Kill = 5,
    /// `CAP_SETGID`
    Setgid = 6,
    /// `CAP_SETUID`
    Setuid = 7,
    /// `CAP_NET_BIND_SERVICE`
    NetBindService = 10,
    /// `CAP_MKNOD`: with it, `fs_write` includes making device nodes (`branch` does not, unless a rule of
    /// `fs_write` names it).
    Mknod = 27,
}

impl Policy {
    /// A policy that allows next to nothing.
    pub fn new(name: impl Into<String>) -> Policy {
        Policy { name: name.into(), ..Policy::default() }
    }

    /// Sets what may be done in the branch.
    pub fn branch(mut self, access: BranchAccess) -> Policy {
        self.branch = access;
        self
    }

    /// Adds to `fs_read`.
    pub fn read(mut self, path: PathPattern) -> Policy {
        self.fs_read.push(path);
        self
    }

    /// Adds to `fs_write`.
    pub fn write(mut self, path: PathPattern) -> Policy {
        self.fs_write.push(path);
        self
    }

    /// Adds to `fs_exec`.
    pub fn exec(mut self, path: PathPattern) -> Policy {
        self.fs_exec.push(path);
        self
    }

    /// Adds to `devices`.
    pub fn device(mut self, path: PathPattern) -> Policy {
        self.devices.push(path);
        self
    }

    /// Adds to `env`.
    pub fn pass_env(mut self, name: NamePattern) -> Policy {
        self.env.push(name);
        self
    }

    /// Sets `net`.
    pub fn net(mut self, net: Net) -> Policy {
        self.net = net;
        self
    }

    /// Sets `require_full`.
    pub fn require_full(mut self) -> Policy {
        self.require_full = true;
        self
    }

    /// What it comes to for a branch that is seen at these paths. Several, where several views are bound.
    pub fn rules(&self, branch: impl IntoIterator<Item = PathBuf>) -> Rules {
        Rules::new(self, branch.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_a_short_table_of_toml() {
        let text = r#"
            name = "mine"
            branch = "write-and-execute"
            fs_read = ["/usr", "/etc/ssl/**"]
            env = ["PATH", "!*TOKEN*"]
            ipc = "group"
            spawn = ["git", "/usr/bin/make"]
            capabilities = ["dac_override"]
        "#;
        let policy: Policy = toml::from_str(text).unwrap();
        assert_eq!(policy.branch, BranchAccess::WriteAndExecute);
        assert_eq!(policy.fs_read[1].path(), std::path::Path::new("/etc/ssl"));
        assert_eq!((policy.ipc, policy.ptrace), (Ipc::Group, false));
        assert_eq!(toml::from_str::<Policy>(&toml::to_string(&policy).unwrap()).unwrap(), policy);
    }

    #[test]
    fn what_cannot_be_enforced_or_is_misspelt_is_an_error_that_says_so() {
        let error = |text: &str| toml::from_str::<Policy>(text).unwrap_err().to_string();
        assert!(error("fs_read = [\"/home/*.env\"]").contains("cannot be enforced"));
        assert!(error("fs_raed = []").contains("fs_raed"));
        assert!(error("capabilities = [\"sys_admin\"]").contains("sys_admin"));
    }
}
