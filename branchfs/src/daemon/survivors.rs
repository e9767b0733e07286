//! The file `groups` in the store: which process groups are attached, for the next daemon.
//!
//! Groups die with their branch or with the daemon's orderly stop. A daemon that is killed can do neither:
//! its groups live on over views that are dead, and nobody would ever tell them. So every attached group is
//! written down, and the next daemon kills what is left before it mounts anything. A process is recognised
//! by pid and start time, within one boot and one pid namespace; a file from another boot kills nobody. A branch that
//! was to end with its group is named by its number: the next daemon aborts it, whatever became of the group. So is,
//! without a process, a branch to which its maker has not attached a group yet.
//!
//! ```text
//! 4f1c0b9e-… pid:[4026531836]
//! 4711 9183442
//! 4715 9183460 17
//! - 18
//! ```
//!
//! Not synced: after a power loss there are no processes either, and such a branch is aborted if the file is there. A
//! file that cannot be read kills nobody.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use branch_store::BranchId;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::pidfds;
use super::processes::start_time;

/// A process across the life of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: i32,
    /// Clock ticks since boot.
    pub(super) start: u64,
}

/// What ends when the daemon does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Survivor {
    /// The attached group. None if there is none yet, and in a file of another boot or pid namespace.
    pub(super) identity: Option<Identity>,
    /// The branch that ends with it.
    pub(super) takes: Option<BranchId>,
}

/// What an earlier daemon has left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Estate {
    /// How many groups were alive; they are not any more.
    pub(super) killed: usize,
    /// What was to end with a group, alive or not.
    pub(super) branches: Vec<BranchId>,
}

/// The file and the line that says when and where its numbers mean something.
pub(super) struct Survivors {
    file: PathBuf,
    scope: String,
}

impl Survivors {
    pub(super) fn new(store: &Path) -> io::Result<Survivors> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let namespace = fs::read_link("/proc/self/ns/pid")?;
        let scope = format!("{} {}", boot.trim(), namespace.display());
        Ok(Survivors { file: store.join("groups"), scope })
    }

    /// Replaces the list, atomically.
    pub(super) fn write(&self, groups: impl Iterator<Item = Survivor>) -> io::Result<()> {
        let lines = groups.map(line).collect::<String>();
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, format!("{}\n{lines}", self.scope))?;
        fs::rename(&fresh, &self.file)
    }

    /// Kills what an earlier daemon left, and waits for it. The list stays until [`Survivors::settled`]: whoever dies in
    /// between leaves it to the next.
    pub(super) fn kill(&self) -> io::Result<Estate> {
        let left = match fs::read(&self.file) {
            Ok(bytes) => self.parse(&String::from_utf8_lossy(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Estate::default()),
            Err(error) => return Err(error),
        };
        let alive: Vec<OwnedFd> = left.iter().filter_map(|one| open_if_same(one.identity?)).collect();
        pidfds::kill_and_wait(&alive)?;
        let branches = left.iter().filter_map(|one| one.takes).collect();
        Ok(Estate { killed: alive.len(), branches })
    }

    /// Empties the list: what it says has been done.
    pub(super) fn settled(&self) -> io::Result<()> {
        self.write(std::iter::empty())
    }

    /// Lines that are no groups are skipped: better one survivor than the wrong victim.
    fn parse(&self, text: &str) -> Vec<Survivor> {
        let mut lines = text.lines();
        let here = lines.next() == Some(self.scope.as_str());
        let left = lines.filter_map(parse_line);
        left.map(|one| Survivor { identity: one.identity.filter(|_| here), ..one }).collect()
    }
}

fn line(group: Survivor) -> String {
    let process = group.identity.map_or_else(|| "-".to_owned(), |one| format!("{} {}", one.pid, one.start));
    let takes = group.takes.map_or_else(String::new, |branch| format!(" {}", branch.0));
    format!("{process}{takes}\n")
}

fn parse_line(line: &str) -> Option<Survivor> {
    let mut words = line.split(' ');
    let identity = match words.next()? {
        "-" => None,
        pid => Some(Identity { pid: pid.parse().ok()?, start: words.next()?.parse().ok()? }),
    };
    let takes = words.next().map(|branch| branch.parse().map(BranchId)).transpose().ok()?;
    // 0 and below would mean process groups or everybody, 1 the host's init: none is ever ours.
    identity.is_none_or(|one| one.pid > 1).then_some(Survivor { identity, takes })
}

/// The start time is read after the descriptor is open, so it is the time of what the descriptor names.
fn open_if_same(group: Identity) -> Option<OwnedFd> {
    let pidfd = pidfd_open(Pid::from_raw(group.pid)?, PidfdFlags::empty()).ok()?;
    (start_time(group.pid) == Some(group.start)).then_some(pidfd)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command};

    use super::*;

    fn sleeper() -> (Child, Identity) {
        let child = Command::new("sleep").arg("1000").spawn().expect("spawned");
        let pid = i32::try_from(child.id()).expect("a pid");
        (child, Identity { pid, start: start_time(pid).expect("alive") })
    }

    fn alone(identity: Identity) -> Survivor {
        Survivor { identity: Some(identity), takes: None }
    }

    #[test]
    fn a_group_of_a_killed_daemon_is_killed_and_the_list_emptied_when_all_is_done() {
        let store = tempfile::tempdir().expect("directory");
        let survivors = Survivors::new(store.path()).expect("proc");
        let (mut child, identity) = sleeper();
        survivors.write([alone(identity)].into_iter()).expect("written");
        assert_eq!(survivors.kill().expect("killed"), Estate { killed: 1, branches: vec![] });
        assert_eq!(child.wait().expect("reaped").signal(), Some(9));
        survivors.settled().expect("written");
        assert_eq!(survivors.kill().expect("nothing left"), Estate::default());
    }

    #[test]
    fn a_process_that_only_has_the_same_pid_is_left_alone() {
        let store = tempfile::tempdir().expect("directory");
        let survivors = Survivors::new(store.path()).expect("proc");
        let (mut child, identity) = sleeper();
        let other = Identity { start: identity.start + 1, ..identity };
        survivors.write([alone(other)].into_iter()).expect("written");
        assert_eq!(survivors.kill().expect("nobody"), Estate::default());
        assert_eq!(child.try_wait().expect("alive"), None);
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }

    #[test]
    fn a_branch_that_was_to_end_with_its_group_is_named_also_after_another_boot() {
        let store = tempfile::tempdir().expect("directory");
        let survivors = Survivors::new(store.path()).expect("proc");
        let (mut child, identity) = sleeper();
        let takes = Some(BranchId(17));
        survivors.write([Survivor { identity: Some(identity), takes }].into_iter()).expect("written");
        let rebooted =
            fs::read_to_string(&survivors.file).expect("read").replacen(&survivors.scope, "then", 1);
        fs::write(&survivors.file, rebooted).expect("written");
        assert_eq!(survivors.kill().expect("nobody"), Estate { killed: 0, branches: vec![BranchId(17)] });
        assert_eq!(child.try_wait().expect("alive"), None);
        survivors.write([Survivor { identity: Some(identity), takes }].into_iter()).expect("written");
        assert_eq!(survivors.kill().expect("killed"), Estate { killed: 1, branches: vec![BranchId(17)] });
        assert_eq!(child.wait().expect("reaped").signal(), Some(9));
    }

    #[test]
    fn a_branch_that_has_no_group_yet_is_named_without_a_process() {
        let store = tempfile::tempdir().expect("directory");
        let survivors = Survivors::new(store.path()).expect("proc");
        let takes = Some(BranchId(18));
        survivors.write([Survivor { identity: None, takes }].into_iter()).expect("written");
        assert_eq!(survivors.kill().expect("nobody"), Estate { killed: 0, branches: vec![BranchId(18)] });
    }

    #[test]
    fn garbage_and_another_boot_kill_nobody() {
        let store = tempfile::tempdir().expect("directory");
        let survivors = Survivors::new(store.path()).expect("proc");
        let own = format!("{}\n-1 5\n0 5\n1 5\nx y\n\n7\n4711 5 x\n", survivors.scope);
        assert_eq!(survivors.parse(&own), vec![]);
        let other = survivors.parse("another-boot pid:[1]\n4711 5\n");
        assert!(other.iter().all(|left| left.identity.is_none()), "{other:?}");
        assert_eq!(survivors.parse(&format!("{}\n4711 5\n", survivors.scope)).len(), 1);
    }
}
