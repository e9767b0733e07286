//! What the kernel knows of a caller and a FUSE request does not carry. The caller waits for our answer, so
//! what `/proc` says of it is what was true at its call. Where it says nothing (another PID namespace), the
//! caller has no more than its user and group.

use super::Caller;
use crate::procfs;

const CAP_FSETID: u32 = 4;
const CAP_SYS_ADMIN: u32 = 21;

impl Caller {
    /// Whether a set-group-ID bit of an object of this group survives what the caller does (inode(7)).
    pub(super) fn keeps_setgid(self, gid: u32) -> bool {
        self.gid == gid
            || self.status().is_some_and(|status| status.groups.contains(&gid) || status.has(CAP_FSETID))
    }

    /// Whether the caller sees `trusted.*` attributes (xattr(7)).
    pub(super) fn sees_trusted(self) -> bool {
        self.status().is_some_and(|status| status.has(CAP_SYS_ADMIN))
    }

    fn status(self) -> Option<Status> {
        let mut status = Status::parse(&procfs::text(self.pid, "status")?)?;
        // Capabilities in a user namespace of its own are none over our mount.
        let namespace = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/user")).ok();
        if namespace(&self.pid.to_string()) != namespace("self") {
            status.capabilities = 0;
        }
        Some(status)
    }
}

/// The part of `/proc/PID/status` that matters here (proc_pid_status(5)).
#[derive(Debug, PartialEq, Eq)]
struct Status {
    /// Supplementary groups.
    groups: Vec<u32>,
    /// Effective capabilities, one bit each.
    capabilities: u64,
}

impl Status {
    fn parse(text: &str) -> Option<Status> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let groups = field("Groups:")?.split_whitespace().map(|group| group.parse().ok());
        let capabilities = u64::from_str_radix(field("CapEff:")?.trim(), 16).ok()?;
        Some(Status { groups: groups.collect::<Option<_>>()?, capabilities })
    }

    fn has(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn groups_and_capabilities_are_read() {
        let text =
            "Name:\tx\nGid:\t1\t1\t1\t1\nGroups:\t4 27 1000 \nCapInh:\tff\nCapEff:\t0000000000200010\n";
        let status = Status::parse(text).unwrap();
        assert_eq!(status.groups, [4, 27, 1000]);
        assert!(status.has(CAP_FSETID) && status.has(CAP_SYS_ADMIN) && !status.has(0));
        assert_eq!(Status::parse("Groups:\t\nCapEff:\t0\n").unwrap().groups, [0; 0]);
        assert_eq!(Status::parse("Name:\tx\n"), None);
    }

    #[test]
    fn a_program_may_have_a_name_that_is_no_text() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
        std::os::unix::fs::symlink("/bin/cat", &program).unwrap();
        let mut command = std::process::Command::new(program);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Until it has answered it may still bear our name.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let caller = Caller { uid: 0, gid: 0, pid: child.id() };
        assert!(caller.status().is_some());
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn whoever_is_out_of_sight_has_its_own_group_and_nothing_else() {
        let unseen = Caller { uid: 0, gid: 7, pid: 0 };
        assert!(unseen.keeps_setgid(7) && !unseen.keeps_setgid(8) && !unseen.sees_trusted());
    }
}
