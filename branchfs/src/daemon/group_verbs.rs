//! The verbs about process groups: what runs in a branch, and stopping it.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use branch_proc::{Control, Process, Usage};
use branch_proto::{Failure, GroupAction, GroupInfo, OnEnd, ProcessInfo, ViewKind};

use super::endings::{self, Farewell, Requester};
use super::failure::of_io;
use super::groups::Group;
use super::state::Daemon;

/// The groups of a branch, or of all; one that ends meanwhile is left out.
pub(super) fn list(daemon: &Daemon, branch: Option<&str>) -> Result<Vec<GroupInfo>, Failure> {
    let mut groups = match branch {
        Some(name) => daemon.groups.of(&[daemon.branch(name)?.id()]),
        None => daemon.groups.all(),
    };
    groups.sort_unstable_by_key(|group| group.key);
    Ok(groups.iter().filter_map(|group| describe(group)).collect())
}

/// How many groups it was done with. Those that the requester may be in are killed after the answer.
pub(super) fn control(
    daemon: &Daemon,
    branch: &str,
    action: GroupAction,
    requester: Requester,
) -> Result<(u32, Farewell), Failure> {
    let branch = daemon.branch(branch)?;
    let groups = daemon.groups.of(&[branch.id()]);
    let count = u32::try_from(groups.len()).unwrap_or(u32::MAX);
    match action {
        GroupAction::Kill => {
            let farewell = endings::kill(daemon, &branch, requester)
                .map_err(|error| of_io("killing the process groups of a branch", &error))?;
            return Ok((count, farewell));
        }
        GroupAction::Freeze => each(&groups, "freezing a process group", Control::freeze)?,
        GroupAction::Thaw => each(&groups, "thawing a process group", Control::thaw)?,
    }
    Ok((count, Farewell::default()))
}

/// One that has ended is as good as done.
fn each(
    groups: &[Arc<Group>],
    doing: &'static str,
    act: fn(&Control) -> Result<(), branch_proc::GroupError>,
) -> Result<(), Failure> {
    for group in groups {
        let Ok(control) = Control::of(group.as_fd()) else { continue };
        match act(&control) {
            Err(error) if Control::of(group.as_fd()).is_ok() => return Err(of_io(doing, &error.source)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn describe(group: &Group) -> Option<GroupInfo> {
    let control = Control::of(group.as_fd()).ok()?;
    let (usage, processes) = (control.usage(), control.processes());
    Some(GroupInfo {
        branch: group.name.clone(),
        pid: group.identity.pid,
        since: group.since,
        view: if group.on_end == OnEnd::TakeIn { ViewKind::Native } else { ViewKind::Fuse },
        frozen: control.is_frozen(),
        cpu_us: cpu(&usage, &processes),
        memory: usage.memory,
        memory_peak: usage.memory_peak,
        pids: usage.pids,
        io_read: usage.io_read,
        io_written: usage.io_written,
        processes: processes.into_iter().map(process).collect(),
    })
}

fn cpu(usage: &Usage, processes: &[Process]) -> Option<u64> {
    let counted = usage.user.zip(usage.sys).map(|(user, sys)| user + sys);
    Some(micros(counted.unwrap_or_else(|| processes.iter().map(|process| process.cpu).sum())))
}

fn process(process: Process) -> ProcessInfo {
    let Process { pid, parent, command, state, threads, cpu, resident } = process;
    ProcessInfo { pid, parent, command, state, threads, cpu_us: micros(cpu), resident }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
