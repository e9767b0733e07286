//! A policy for a certain branch: one list of paths and rights, which is both what the kernel is given and
//! what explanations are made of.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use landlock::AccessFs;

use crate::net::Net;

use super::calls::{Fence, fences};
use super::op::{DEVICE, EXEC, FILE, LIST, List, NODES, READ, Rights, WRITE};
use super::{BranchAccess, Capability, Policy, normal};

/// Devices every program may use: they give nothing away and keep nothing.
pub(crate) const DEVICES: [&str; 6] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
/// Where programs that a policy names without a directory are looked for.
const PROGRAM_DIRS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// The kernel executes these on behalf of dynamically linked programs.
pub(crate) const LOADERS: [&str; 5] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-linux.so.2",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// One path and what may be done there and beneath.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) path: PathBuf,
    pub(crate) rights: Rights,
    pub(crate) list: List,
}

impl Rule {
    /// By bytes, for both are without `.`, `..` and repeated slashes: this is asked for each rule at each call of
    /// a group that is looked at.
    pub(super) fn covers(&self, path: &Path) -> bool {
        let rest = path.as_os_str().as_bytes().strip_prefix(self.path.as_os_str().as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || self.path.parent().is_none())
    }

    fn is_inside(&self, branch: &Path) -> bool {
        self.path != branch && self.path.starts_with(branch)
    }

    /// As it stands in the policy.
    pub(super) fn named(&self) -> String {
        format!("{} {}", self.list.name(), self.path.display())
    }

    /// Whether the mount there stays writable.
    pub(super) fn is_writable(&self) -> bool {
        matches!(self.list, List::FsWrite | List::Branch) && self.rights.contains(AccessFs::MakeReg)
    }
}

/// A policy for a branch at certain paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    pub(super) name: String,
    branch: Vec<PathBuf>,
    pub(super) rules: Vec<Rule>,
    pub(super) fences: Vec<Fence>,
    pub(super) net: Net,
}

impl Rules {
    pub(crate) fn new(policy: &Policy, branch: Vec<PathBuf>) -> Rules {
        let mut rules = Vec::new();
        let mut add = |path: &Path, rights: Rights, list| {
            rules.push(Rule { path: normal(path), rights, list });
        };
        let exec = if policy.spawn.is_none() { EXEC } else { READ };
        for path in &branch {
            let rights = match policy.branch {
                BranchAccess::ReadOnly => READ,
                BranchAccess::Write => WRITE,
                BranchAccess::WriteAndExecute => WRITE | exec,
            };
            add(path, rights, List::Branch);
        }
        let nodes = policy.capabilities.contains(&Capability::Mknod);
        let write = if nodes { WRITE | NODES } else { WRITE };
        policy.fs_list.iter().for_each(|p| add(p.path(), LIST, List::Names));
        policy.fs_read.iter().for_each(|p| add(p.path(), READ, List::FsRead));
        policy.fs_write.iter().for_each(|p| add(p.path(), write, List::FsWrite));
        policy.fs_exec.iter().for_each(|p| add(p.path(), exec, List::FsExec));
        policy.devices.iter().for_each(|p| add(p.path(), DEVICE, List::Devices));
        DEVICES.iter().for_each(|path| add(Path::new(path), DEVICE, List::Always));
        if let Some(programs) = &policy.spawn {
            let named = programs.iter().flat_map(|program| program_paths(program));
            named.for_each(|path| add(&path, EXEC & FILE, List::Spawn));
            LOADERS.iter().for_each(|path| add(Path::new(path), EXEC & FILE, List::Spawn));
        }
        Rules { name: policy.name.clone(), branch, rules, fences: fences(policy), net: policy.net.clone() }
    }

    /// As the kernel will see it when a program starts now: rules for paths that are symbolic links are for
    /// what these lead to, and rules for what is not there are gone. What lies in the branch is left as it
    /// is: the caller sees the base there.
    pub fn on_this_host(mut self) -> Rules {
        let branch = std::mem::take(&mut self.branch);
        self.rules.retain_mut(|rule| {
            // /proc is the group's own; its links lead elsewhere for us than for a program.
            let elsewhere =
                branch.iter().any(|branch| rule.is_inside(branch)) || rule.path.starts_with("/proc");
            if elsewhere {
                return true;
            }
            match fs::canonicalize(&rule.path) {
                Ok(real) => {
                    rule.path = real;
                    true
                }
                Err(_) => false,
            }
        });
        self.branch = branch;
        self
    }

    /// Lets a program open again what it has been passed.
    pub(crate) fn pass(&mut self, path: PathBuf, rights: Rights) {
        self.rules.push(Rule { path, rights, list: List::Passed });
    }

    /// The calls that are denied.
    pub(crate) fn fences(&self) -> &[Fence] {
        &self.fences
    }

    /// The policy's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel is to be given.
    pub(crate) fn all(&self) -> &[Rule] {
        &self.rules
    }

    /// The directories and files that stay writable, none within another.
    pub(crate) fn writable(&self) -> Vec<&Path> {
        let writable = self.rules.iter().filter(|rule| rule.is_writable());
        let mut paths: Vec<&Path> = writable.map(|rule| rule.path.as_path()).collect();
        paths.sort_unstable();
        paths.dedup_by(|path, before| path.starts_with(before));
        paths
    }
}

fn program_paths(program: &str) -> Vec<PathBuf> {
    if program.contains('/') {
        return vec![PathBuf::from(program)];
    }
    PROGRAM_DIRS.iter().map(|dir| Path::new(dir).join(program)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str) -> Rule {
        Rule { path: PathBuf::from(path), rights: READ, list: List::FsRead }
    }

    #[test]
    fn a_rule_covers_its_path_and_what_is_beneath_and_no_more() {
        for (rule_path, path, covers) in [
            ("/a/b", "/a/b", true),
            ("/a/b", "/a/b/c", true),
            ("/a/b", "/a/bc", false),
            ("/a/b", "/a", false),
            ("/", "/a", true),
            ("/", "/", true),
        ] {
            assert_eq!(rule(rule_path).covers(Path::new(path)), covers, "{rule_path} {path}");
            assert_eq!(Path::new(path).starts_with(rule_path), covers);
        }
    }
}
