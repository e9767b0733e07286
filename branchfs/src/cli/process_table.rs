//! Process groups as tables: each process, or a line for each group.

use std::io::{self, Write};
use std::time::Duration;

use branch_core::{GroupInfo, ProcessInfo, ViewKind};

use super::text;

/// What stands where a host does not tell.
const UNKNOWN: &str = "?";

/// A row for each process, indented below its parent.
pub(super) fn processes(out: &mut dyn Write, groups: &[GroupInfo]) -> io::Result<()> {
    if groups.is_empty() {
        return writeln!(out, "nothing runs");
    }
    let header = ["BRANCH", "PID", "STATE", "CPU", "MEMORY", "AGE", "COMMAND"].map(str::to_owned).to_vec();
    let rows = groups.iter().flat_map(|group| {
        let depths = depths(group);
        let row = move |(process, depth): (&ProcessInfo, usize)| {
            vec![
                branch(group),
                process.pid.to_string(),
                state(group, process).to_owned(),
                text::span(Duration::from_micros(process.cpu_us)),
                text::size(process.resident),
                text::age(group.since),
                format!("{:width$}{}", "", command(process), width = 2 * depth),
            ]
        };
        group.processes.iter().zip(depths).map(row)
    });
    table(out, std::iter::once(header).chain(rows).collect(), usize::MAX)
}

/// A row for each group. `since` is the CPU time of each group, by its pid, a while ago, and that while: with it the
/// share of a processor is told.
pub(super) fn groups(
    out: &mut dyn Write,
    groups: &[GroupInfo],
    share: impl Fn(&GroupInfo) -> Option<f64>,
    columns: usize,
) -> io::Result<()> {
    let header =
        ["BRANCH", "PID", "STATE", "CPU%", "CPU", "MEMORY", "PEAK", "PIDS", "READ", "WRITTEN", "COMMAND"];
    let size = |bytes: Option<u64>| bytes.map_or(UNKNOWN.to_owned(), text::size);
    let row = |group: &GroupInfo| {
        let first = group.processes.first();
        vec![
            branch(group),
            group.pid.to_string(),
            first.map_or("ended", |process| state(group, process)).to_owned(),
            share(group).map_or(UNKNOWN.to_owned(), |share| format!("{share:.1}")),
            group.cpu_us.map_or(UNKNOWN.to_owned(), |us| text::span(Duration::from_micros(us))),
            size(group.memory),
            size(group.memory_peak),
            group.pids.map_or(UNKNOWN.to_owned(), |pids| pids.to_string()),
            size(group.io_read),
            size(group.io_written),
            first.map(command).unwrap_or_default(),
        ]
    };
    let rows = groups.iter().map(row);
    table(out, std::iter::once(header.map(str::to_owned).to_vec()).chain(rows).collect(), columns)
}

/// A group with a native view does not work on what the branch shows.
fn branch(group: &GroupInfo) -> String {
    let view = if group.view == ViewKind::Native { " (native)" } else { "" };
    format!("{}{view}", text::plain(&group.branch))
}

fn state(group: &GroupInfo, process: &ProcessInfo) -> &'static str {
    match process.state {
        _ if group.frozen => "frozen",
        'R' => "runs",
        'S' | 'I' => "sleeps",
        'D' => "waits",
        'T' | 't' => "stopped",
        'Z' | 'X' => "ended",
        _ => UNKNOWN,
    }
}

fn command(process: &ProcessInfo) -> String {
    text::plain(&process.command.join(" ")).replace('\t', " ")
}

/// How deep each process is below the group's first; parents come before children.
fn depths(group: &GroupInfo) -> Vec<usize> {
    let mut depths: Vec<usize> = Vec::with_capacity(group.processes.len());
    for process in &group.processes {
        let parent = group.processes.iter().take(depths.len()).position(|other| other.pid == process.parent);
        depths.push(parent.map_or(0, |at| depths[at] + 1));
    }
    depths
}

/// Left-aligned columns, two blanks between; no line longer than `columns`.
fn table(out: &mut dyn Write, rows: Vec<Vec<String>>, columns: usize) -> io::Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let line: String = line.trim_end().chars().take(columns).collect();
        writeln!(out, "{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, command: &str) -> ProcessInfo {
        let command = command.split(' ').map(str::to_owned).collect();
        ProcessInfo { pid, parent, command, state: 'S', threads: 1, cpu_us: 5000, resident: 2048 }
    }

    fn group() -> GroupInfo {
        GroupInfo {
            branch: "try-1".into(),
            pid: 10,
            since: i64::MAX,
            view: ViewKind::Fuse,
            frozen: false,
            cpu_us: Some(5000),
            memory: Some(4096),
            memory_peak: None,
            pids: Some(3),
            io_read: None,
            io_written: None,
            processes: vec![process(11, 10, "make test"), process(12, 11, "cc\u{1b}[2J a.c")],
        }
    }

    #[test]
    fn children_are_indented_below_their_parents_and_nothing_moves_the_cursor() {
        let mut out = Vec::new();
        processes(&mut out, &[group()]).unwrap();
        let expected = "\
BRANCH  PID  STATE   CPU   MEMORY   AGE  COMMAND
try-1   11   sleeps  5 ms  2.0 KiB  0s   make test
try-1   12   sleeps  5 ms  2.0 KiB  0s     cc\\u{1b}[2J a.c
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_the_host_does_not_tell_is_a_question_mark_and_lines_are_cut() {
        let mut out = Vec::new();
        groups(&mut out, &[GroupInfo { frozen: true, ..group() }], |_| Some(12.34), 71).unwrap();
        let expected = "\
BRANCH  PID  STATE   CPU%  CPU   MEMORY   PEAK  PIDS  READ  WRITTEN  CO
try-1   10   frozen  12.3  5 ms  4.0 KiB  ?     3     ?     ?        ma
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
