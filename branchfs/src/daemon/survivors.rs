//! The file `groups` in the store: which process groups are attached, for the next daemon.
//!
//! Groups die with their branch or with the daemon's orderly stop. A daemon that is killed can do neither:
//! its groups live on over views that are dead, and nobody would ever tell them. So every attached group is
//! written down, and the next daemon kills what is left before it mounts anything. A process is recognised
//! by pid and start time, within one boot and one pid namespace; a file from another boot means nothing.
//!
//! ```text
//! 4f1c0b9e-… pid:[4026531836]
//! 4711 9183442
//! ```
//!
//! Not synced: after a power loss there are no processes either. A file that cannot be read kills nobody.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

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
    pub(super) fn write(&self, groups: impl Iterator<Item = Identity>) -> io::Result<()> {
        let lines = groups.map(|group| format!("{} {}\n", group.pid, group.start)).collect::<String>();
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, format!("{}\n{lines}", self.scope))?;
        fs::rename(&fresh, &self.file)
    }

    /// Kills what an earlier daemon left, waits for it and empties the list. How many there were.
    pub(super) fn kill(&self) -> io::Result<usize> {
        let left = match fs::read(&self.file) {
            Ok(bytes) => self.parse(&String::from_utf8_lossy(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let alive: Vec<OwnedFd> = left.into_iter().filter_map(open_if_same).collect();
        pidfds::kill_and_wait(&alive)?;
        self.write(std::iter::empty())?;
        Ok(alive.len())
    }

    /// Lines that are no identities are skipped: better one survivor than the wrong victim.
    fn parse(&self, text: &str) -> Vec<Identity> {
        let mut lines = text.lines();
        if lines.next() != Some(self.scope.as_str()) {
            return Vec::new();
        }
        lines.filter_map(parse_line).collect()
    }
}

fn parse_line(line: &str) -> Option<Identity> {
    let (pid, start) = line.split_once(' ')?;
    let identity = Identity { pid: pid.parse().ok()?, start: start.parse().ok()? };
    // 0 and below would mean process groups or everybody, 1 the host's init: none is ever ours.
    (identity.pid > 1).then_some(identity)
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

    #[test]
    fn a_group_of_a_killed_daemon_is_killed_and_the_list_emptied() {
        let store = tempfile::tempdir().expect("directory");
        let survivors = Survivors::new(store.path()).expect("proc");
        let (mut child, identity) = sleeper();
        survivors.write([identity].into_iter()).expect("written");
        assert_eq!(survivors.kill().expect("killed"), 1);
        assert_eq!(child.wait().expect("reaped").signal(), Some(9));
        assert_eq!(survivors.kill().expect("nothing left"), 0);
    }

    #[test]
    fn a_process_that_only_has_the_same_pid_is_left_alone() {
        let store = tempfile::tempdir().expect("directory");
        let survivors = Survivors::new(store.path()).expect("proc");
        let (mut child, identity) = sleeper();
        survivors.write([Identity { start: identity.start + 1, ..identity }].into_iter()).expect("written");
        assert_eq!(survivors.kill().expect("nobody"), 0);
        assert_eq!(child.try_wait().expect("alive"), None);
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }

    #[test]
    fn garbage_and_another_boot_kill_nobody() {
        let store = tempfile::tempdir().expect("directory");
        let survivors = Survivors::new(store.path()).expect("proc");
        let own = format!("{}\n-1 5\n0 5\n1 5\nx y\n\n7\n", survivors.scope);
        assert_eq!(survivors.parse(&own), vec![]);
        assert_eq!(survivors.parse("another-boot pid:[1]\n4711 5\n"), vec![]);
        assert_eq!(survivors.parse(&format!("{}\n4711 5\n", survivors.scope)).len(), 1);
    }
}
