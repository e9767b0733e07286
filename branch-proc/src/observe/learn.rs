//! From what a group has tried to a policy that allows it, and no more than is practical to read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::record::Tried;
use crate::net::Net;
use crate::policy::{
    BranchAccess, Capability, DEVICES, Ipc, LOADERS, List, NamePattern, PathPattern, PatternError, Policy,
    TRACING,
};

/// From this many entries of a directory on, the rule is for the directory.
const ENTRIES_MANY: usize = 4;
/// Rules are for directories this deep at least: nobody means all of `/` or `/home` by a few files in it.
const DEPTH_MIN: usize = 2;

impl Tried {
    /// How much could not be kept, and is missing in the policy.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Addresses outside this machine that were connected to, as `IP port N`. A policy's network allows hosts by
    /// name, which cannot be told from these.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.addresses.iter().map(String::as_str)
    }

    /// The policy that allows what was tried: many files of one directory become a rule for the directory. The
    /// branch, seen at the paths `branch`, gets what was done in it; `env` are the variables the program had.
    ///
    /// # Errors
    /// [`PatternError`] for a path that no rule can name, because it contains `*`, `?` or `[`.
    pub fn policy(
        &self,
        name: &str,
        branch: &[PathBuf],
        env: impl IntoIterator<Item = OsString>,
    ) -> Result<Policy, PatternError> {
        let mut wanted = Wanted::default();
        for (op, path) in &self.paths {
            if let Some(place) = op.place(path) {
                wanted.add(op.list(), place, branch);
            }
        }
        let mut policy = Policy::new(name);
        policy.branch = wanted.branch();
        if !wanted.exec.is_empty() || policy.branch == BranchAccess::WriteAndExecute {
            // The kernel executes the loader of a program without being asked.
            wanted.exec.extend(LOADERS.iter().map(PathBuf::from));
        }
        let exec = collapse(wanted.exec);
        let write = collapse(wanted.write);
        let covered = |path: &Path| exec.iter().chain(&write).any(|rule| path.starts_with(rule));
        let read: BTreeSet<PathBuf> =
            collapse(wanted.read).into_iter().filter(|path| !covered(path)).collect();
        let readable = |path: &Path| covered(path) || read.iter().any(|rule| path.starts_with(rule));
        policy.fs_list = patterns(outermost(wanted.list).into_iter().filter(|path| !readable(path)))?;
        policy.fs_read = patterns(read)?;
        policy.fs_write = patterns(write)?;
        policy.fs_exec = patterns(exec)?;
        policy.devices = patterns(wanted.devices)?;
        policy.env =
            env.into_iter().filter_map(|name| NamePattern::new(name.into_string().ok()?).ok()).collect();
        policy.ptrace = TRACING.iter().any(|(call, _)| self.calls.contains(*call));
        policy.memory_exec = self.calls.contains("memfd_create");
        policy.ipc = if self.calls.contains("socket") { Ipc::Group } else { Ipc::None };
        policy.net = match (self.addresses.is_empty(), self.own_network) {
            (false, _) => Net::Open,
            (true, true) => Net::Loopback,
            (true, false) => Net::None,
        };
        policy.capabilities =
            vec![Capability::Chown, Capability::DacOverride, Capability::Fowner, Capability::Fsetid];
        Ok(policy)
    }
}

#[derive(Default)]
struct Wanted {
    in_branch: BTreeSet<List>,
    list: BTreeSet<PathBuf>,
    read: BTreeSet<PathBuf>,
    write: BTreeSet<PathBuf>,
    exec: BTreeSet<PathBuf>,
    devices: BTreeSet<PathBuf>,
}

impl Wanted {
    fn add(&mut self, list: List, place: &Path, branch: &[PathBuf]) {
        // Always allowed, or another process' next time.
        if DEVICES.iter().any(|device| place == Path::new(device)) || place.starts_with("/dev/fd") {
            return;
        }
        if branch.iter().any(|branch| place.starts_with(branch)) {
            self.in_branch.insert(list);
            return;
        }
        let node = place.starts_with("/dev") && !place.starts_with("/dev/shm");
        let place = if place.starts_with("/proc") { Path::new("/proc") } else { place };
        let set = match list {
            _ if node => &mut self.devices,
            List::FsWrite => &mut self.write,
            List::FsExec => &mut self.exec,
            List::Names => &mut self.list,
            _ => &mut self.read,
        };
        set.insert(place.to_owned());
    }

    fn branch(&self) -> BranchAccess {
        if self.in_branch.contains(&List::FsExec) {
            BranchAccess::WriteAndExecute
        } else if self.in_branch.contains(&List::FsWrite) {
            BranchAccess::Write
        } else {
            BranchAccess::ReadOnly
        }
    }
}

/// Puts many entries of a directory together, from the deepest up, and leaves out what lies beneath another.
fn collapse(mut paths: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    loop {
        let mut entries: BTreeMap<&Path, usize> = BTreeMap::new();
        for parent in paths.iter().filter_map(|path| path.parent()) {
            *entries.entry(parent).or_default() += 1;
        }
        let deep = |dir: &Path| dir.components().count() > DEPTH_MIN;
        let many = entries.into_iter().filter(|(dir, count)| *count >= ENTRIES_MANY && deep(dir));
        let deepest = many.max_by_key(|(dir, _)| dir.components().count());
        let Some(dir) = deepest.map(|(dir, _)| dir.to_owned()) else { return outermost(paths) };
        paths.retain(|path| !path.starts_with(&dir));
        paths.insert(dir);
    }
}

fn outermost(paths: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let mut kept: Vec<PathBuf> = Vec::new();
    for path in paths {
        // Sorted, so what a path is beneath comes just before it, if it was kept.
        if !kept.last().is_some_and(|last| path.starts_with(last)) {
            kept.push(path);
        }
    }
    kept.into_iter().collect()
}

fn patterns(paths: impl IntoIterator<Item = PathBuf>) -> Result<Vec<PathPattern>, PatternError> {
    paths.into_iter().map(PathPattern::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Op;

    fn tried(paths: &[(Op, &str)]) -> Tried {
        let paths = paths.iter().map(|(op, path)| (*op, PathBuf::from(path))).collect();
        Tried { paths, ..Tried::default() }
    }

    fn learned(paths: &[(Op, &str)]) -> Policy {
        tried(paths).policy("learned", &[PathBuf::from("/work")], []).unwrap()
    }

    fn texts(patterns: &[PathPattern]) -> Vec<String> {
        patterns.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn many_files_of_a_directory_become_a_rule_for_it() {
        let many = ["a", "b", "c", "d"].map(|name| format!("/usr/lib/x/{name}"));
        let mut paths: Vec<_> = many.iter().map(|path| (Op::Read, path.as_str())).collect();
        paths.push((Op::Read, "/etc/one"));
        paths.push((Op::Execute, "/usr/bin/cc"));
        let policy = learned(&paths);
        assert_eq!(texts(&policy.fs_read), ["/etc/one", "/usr/lib/x"]);
        assert!(texts(&policy.fs_exec).contains(&"/usr/bin/cc".to_owned()));
    }

    #[test]
    fn neither_the_root_nor_its_directories_are_rules() {
        let many = ["a", "b", "c", "d", "e"];
        let paths: Vec<_> = many.iter().flat_map(|n| [format!("/{n}"), format!("/home/{n}")]).collect();
        let policy = learned(&paths.iter().map(|path| (Op::Read, path.as_str())).collect::<Vec<_>>());
        assert_eq!(policy.fs_read.len(), 10);
    }

    #[test]
    fn what_was_done_in_the_branch_is_not_a_list_of_paths() {
        let policy = learned(&[(Op::Write, "/work/a"), (Op::Create, "/work/b/c"), (Op::Read, "/work/d")]);
        assert_eq!(policy.branch, BranchAccess::Write);
        assert!(policy.fs_write.is_empty() && policy.fs_read.is_empty());
        assert_eq!(learned(&[(Op::Read, "/work/d")]).branch, BranchAccess::ReadOnly);
        assert_eq!(learned(&[(Op::Execute, "/work/d")]).branch, BranchAccess::WriteAndExecute);
    }

    #[test]
    fn making_a_file_needs_its_directory_and_writing_one_does_not() {
        let policy = learned(&[(Op::Create, "/srv/out/new"), (Op::Write, "/srv/log/old")]);
        assert_eq!(texts(&policy.fs_write), ["/srv/log/old", "/srv/out"]);
    }

    #[test]
    fn what_is_allowed_anyway_is_left_out() {
        let policy =
            learned(&[(Op::Write, "/dev/null"), (Op::Read, "/proc/self/maps"), (Op::Write, "/dev/kvm")]);
        assert_eq!(texts(&policy.fs_read), ["/proc"]);
        assert_eq!(texts(&policy.devices), ["/dev/kvm"]);
        assert!(policy.fs_write.is_empty());
    }
}
