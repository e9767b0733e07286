//! The processes of a group, from `/proc` (`proc(5)`): everything below its init.

use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One process of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid in the caller's pid namespace.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its arguments; its name in brackets if it has none.
    pub command: Vec<String>,
    /// The state letter of `proc_pid_stat(5)`: R, S, D, T, Z and so on.
    pub state: char,
    /// Threads.
    pub threads: u64,
    /// CPU time so far, user and system.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident: u64,
}

/// What `stat` tells of one process.
struct Stat {
    name: String,
    state: char,
    parent: i32,
    ticks: u64,
    threads: u64,
    pages: u64,
}

/// Everything below `init`, parents before children. A process that forks meanwhile may be missed.
pub(crate) fn below(init: i32) -> Vec<Process> {
    descendants(init).into_iter().filter_map(look).collect()
}

/// Pids of everything below `init`, parents before children.
pub(crate) fn descendants(init: i32) -> Vec<i32> {
    let mut found = children(init);
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children(pid));
        next += 1;
    }
    found
}

/// Whether `pid` is below `init`; not for the init itself.
pub(crate) fn is_below(pid: i32, init: i32) -> bool {
    let mut above = stat(pid).map(|stat| stat.parent);
    while let Some(parent) = above.filter(|parent| *parent > 0) {
        if parent == init {
            return true;
        }
        above = stat(parent).map(|stat| stat.parent);
    }
    false
}

/// Whether it has been stopped by a signal, or has ended: it can do nothing.
pub(crate) fn is_still(pid: i32) -> bool {
    stat(pid).is_none_or(|stat| matches!(stat.state, 'T' | 't' | 'Z' | 'X'))
}

/// The children of all threads of a process.
fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn look(pid: i32) -> Option<Process> {
    let stat = stat(pid)?;
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = match arguments.strip_suffix(b"\0").unwrap_or(&arguments) {
        [] => vec![format!("[{}]", stat.name)],
        arguments => arguments.split(|&b| b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect(),
    };
    let cpu = Duration::from_secs_f64(stat.ticks as f64 / rustix::param::clock_ticks_per_second() as f64);
    let resident = stat.pages * rustix::param::page_size() as u64;
    Some(Process {
        pid,
        parent: stat.parent,
        command,
        state: stat.state,
        threads: stat.threads,
        cpu,
        resident,
    })
}

fn stat(pid: i32) -> Option<Stat> {
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(&String::from_utf8_lossy(&bytes))
}

/// The second field is the name in brackets and may contain anything.
fn parse(line: &str) -> Option<Stat> {
    let (before, after) = line.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    // Counted from 1 as in the manual, from the third on.
    let fields: Vec<&str> = after.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |at: usize| field(at)?.parse::<u64>().ok();
    Some(Stat {
        name: name.to_owned(),
        state: field(3)?.chars().next()?,
        parent: field(4)?.parse().ok()?,
        ticks: number(14)? + number(15)?,
        threads: number(20)?,
        pages: number(24)?,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let line = "7 (a) R (b) S 3 7 7 0 -1 0 0 0 0 0 11 4 0 0 20 0 2 0 4242 900 25";
        let stat = parse(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.state, stat.parent), ("a) R (b", 'S', 3));
        assert_eq!((stat.ticks, stat.threads, stat.pages), (15, 2, 25));
        assert!(parse("nonsense").is_none());
    }

    #[test]
    fn a_child_is_found_with_its_arguments() {
        let mut child = std::process::Command::new("cat")
            .args(["-u", "-"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Until it answers it may still be on its way through exec, with arguments half in place.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let own = std::process::id() as i32;
        let found = below(own).into_iter().find(|process| process.pid == pid).unwrap();
        assert!(is_below(pid, own) && !is_below(own, own) && !is_below(own, pid));
        assert_eq!(found.command, ["cat", "-u", "-"]);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
