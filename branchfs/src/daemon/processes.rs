//! What `/proc` says about processes: to recognise them again, and to know who they belong to.

use crate::procfs::text;

/// Longest chain of parents followed; chains that long do not occur, cycles cannot.
const ANCESTORS_MAX: usize = 4096;

/// When the process started, in clock ticks since boot: with its id, its identity until the next boot.
/// `None` if it is gone.
pub(super) fn start_time(pid: i32) -> Option<u64> {
    stat_field(&text(pid, "stat")?, 22)?.parse().ok()
}

/// Real user id of the process. Read from its status, not from the owner of its directory: that is root
/// for processes which may not be dumped.
pub(super) fn real_uid(pid: i32) -> Option<u32> {
    let status = text(pid, "status")?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    uids.split_whitespace().next()?.parse().ok()
}

/// Whether `pid` is `init` or descends from it. In a pid namespace orphans are handed to its init, so the
/// chain of parents of everything in it leads there.
pub(super) fn is_inside(pid: i32, init: i32) -> bool {
    std::iter::successors(Some(pid), |pid| parent(*pid))
        .take(ANCESTORS_MAX)
        .take_while(|pid| *pid > 0)
        .any(|ancestor| ancestor == init)
}

fn parent(pid: i32) -> Option<i32> {
    stat_field(&text(pid, "stat")?, 4)?.parse().ok()
}

/// A field of `/proc/<pid>/stat`, numbered from 1 as in proc(5), from the third on: the second is the
/// command in brackets and may contain anything.
fn stat_field(stat: &str, number: usize) -> Option<&str> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn own_pid() -> i32 {
        i32::try_from(std::process::id()).expect("a pid")
    }

    #[test]
    fn a_command_with_brackets_and_spaces_does_not_shift_the_fields() {
        let line = "7 (a) R (b) S 3 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(stat_field(line, 4), Some("3"));
        assert_eq!(stat_field(line, 22), Some("4242"));
        assert_eq!(stat_field("nonsense", 4), None);
    }

    /// A long name in another script is cut in the middle of a character: the process was taken for one that has
    /// gone, and a commit that came from below it killed it before the answer.
    #[test]
    fn a_child_is_inside_its_parent_and_not_the_other_way_round_whatever_its_name() {
        let directory = tempfile::tempdir().expect("directory");
        let program = directory.path().join("fourteen-bytesü");
        std::os::unix::fs::symlink("/bin/cat", &program).expect("linked");
        let mut child = std::process::Command::new(program)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("spawned");
        // Until it has answered it may still bear our name.
        child.stdin.as_mut().expect("piped").write_all(b"x").expect("written");
        child.stdout.as_mut().expect("piped").read_exact(&mut [0]).expect("read");
        let pid = i32::try_from(child.id()).expect("a pid");
        let name = std::fs::read(format!("/proc/{pid}/comm")).expect("read");
        std::str::from_utf8(&name).expect_err("cut in the middle");
        assert!(is_inside(pid, own_pid()));
        assert!(is_inside(pid, pid));
        assert!(!is_inside(own_pid(), pid));
        assert!(start_time(pid) >= start_time(own_pid()));
        assert_eq!(real_uid(pid), Some(rustix::process::getuid().as_raw()));
        drop(child.stdin.take());
        child.wait().expect("reaped");
        assert_eq!(start_time(pid), None);
    }
}
