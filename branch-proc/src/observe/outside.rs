//! What a call is about that lies outside the group: processes that are signalled or looked into, sockets with
//! abstract names. The kernel denies these by domain (Landlock, network namespaces), not by path.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::process::Process;
use crate::policy::normal;
use crate::processes;

/// What is to be had of a process in `/proc` only by those that may trace it (`proc_pid(5)`).
const LOOKED_INTO: [&str; 16] = [
    "auxv",
    "clear_refs",
    "cwd",
    "environ",
    "exe",
    "fd",
    "fdinfo",
    "map_files",
    "maps",
    "mem",
    "ns",
    "numa_maps",
    "pagemap",
    "root",
    "smaps",
    "smaps_rollup",
];
/// The pid of the init of a pid namespace.
const INIT: i32 = 1;
/// `__SO_ACCEPTCON`, as `/proc/net/unix` shows it: it is listened on.
const LISTENING: u32 = 0x1_0000;
/// `SOCK_DGRAM`.
const DATAGRAMS: u32 = 2;

/// Something of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outside {
    /// A process that is signalled, by the number the caller knows it by.
    Signalled(i32),
    /// A process that is traced, or whose memory is read or written, by that number.
    Traced(i32),
    /// A process that is looked into, by this path.
    LookedInto(PathBuf),
    /// The socket of this abstract name, in the group's own network.
    Socket(String),
    /// The same in the network of the host, which the group is not in.
    SocketElsewhere(String),
}

/// Whether who is signalled is outside. A number below 1 stands for many, of whom those are reached who may be: no
/// denial.
pub(crate) fn signalled(process: &Process, number: i32) -> Option<Outside> {
    is_outside(process, number).then_some(Outside::Signalled(number))
}

/// Whether who is to be traced, or whose memory is asked for, is outside.
pub(crate) fn traced(process: &Process, number: i32) -> Option<Outside> {
    is_outside(process, number).then_some(Outside::Traced(number))
}

fn is_outside(process: &Process, number: i32) -> bool {
    match process.numbers().len() {
        _ if number < INIT => false,
        // In our pid namespace: a group without one of its own.
        1 => Path::new(&format!("/proc/{number}")).exists() && !processes::is_below(number, process.init()),
        _ => number == INIT,
    }
}

/// Whether who is signalled, behind a pidfd, is outside.
pub(crate) fn signalled_by_fd(process: &Process, fd: i32) -> Option<Outside> {
    // Gone, or none at all, is less than 1.
    let pid = process.pid_behind(fd).filter(|pid| *pid >= INIT)?;
    (!processes::is_below(pid, process.init())).then_some(Outside::Signalled(pid))
}

/// Whether a path leads into the init, the one process outside that each group knows the number of.
pub(crate) fn looked_into(path: &Path) -> Option<Outside> {
    let path = normal(path);
    let first = path.strip_prefix("/proc/1").ok()?.components().next()?.as_os_str().to_str()?;
    LOOKED_INTO.contains(&first).then_some(Outside::LookedInto(path))
}

/// Whether the abstract name is one of a socket that only others listen on.
pub(crate) fn socket(process: &Process, name: &[u8]) -> Option<Outside> {
    let shown = format!("@{}", String::from_utf8_lossy(name).replace('\0', "@"));
    let there = listening(&process.table_of_sockets(), &shown);
    if !there.is_empty() {
        let own = processes::descendants(process.init()).into_iter().any(|pid| holds_any(pid, &there));
        return (!own).then_some(Outside::Socket(shown));
    }
    let elsewhere = || fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let outside = process.has_own_network() && !listening(&elsewhere(), &shown).is_empty();
    outside.then_some(Outside::SocketElsewhere(shown))
}

/// The inodes of the sockets that wait for others under this name, in a table as `/proc/net/unix`.
fn listening(table: &str, name: &str) -> BTreeSet<String> {
    let inode = |line: &str| {
        let mut fields = line.split_whitespace();
        let hex = |field: Option<&str>| u32::from_str_radix(field?, 16).ok();
        let flags = hex(fields.nth(3))?;
        let kind = hex(fields.next())?;
        let inode = fields.nth(1)?.to_owned();
        let named = line.ends_with(&format!(" {name}"));
        (named && (flags & LISTENING != 0 || kind == DATAGRAMS)).then_some(inode)
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn holds_any(pid: i32, inodes: &BTreeSet<String>) -> bool {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    links.filter_map(|link| fs::read_link(link.path()).ok()).any(|led| {
        let inode = led.to_str().and_then(|led| led.strip_prefix("socket:[")?.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.contains(inode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_their_abstract_name_if_somebody_waits_there() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 11 @a name\n\
                     0000000000000000: 00000003 00000000 00000000 0001 03 12 @a name\n\
                     0000000000000000: 00000002 00000000 00000000 0002 01 13 @told\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 14 /run/a\n\
                     0000000000000000: 00000003 00000000 00000000 0001 03 15\n";
        let found = |name: &str| listening(table, name).into_iter().collect::<Vec<_>>();
        assert_eq!(
            (found("@a name"), found("@told"), found("@name")),
            (vec!["11".into()], vec!["13".into()], vec![])
        );
    }

    #[test]
    fn only_what_tracing_is_needed_for_is_looking_into_the_init() {
        let into = |path: &str| looked_into(Path::new(path)).is_some();
        assert!(into("/proc/1/environ") && into("/proc/./1/root/etc/passwd") && into("/proc/2/../1/fd/3"));
        assert!(
            !into("/proc/1") && !into("/proc/1/stat") && !into("/proc/12/environ") && !into("/proc/self/mem")
        );
    }
}
