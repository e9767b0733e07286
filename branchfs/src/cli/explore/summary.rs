//! A finished explore, for people.

use std::io::{self, Write};

use branch_core::{AttemptReport, ExploreReport, Verdict};

use super::super::commit;
use super::super::conflicts;
use super::super::text;
use super::live::describe;

/// Lines of output shown of an attempt that did not win.
const LINES_SHOWN: usize = 10;

pub(super) fn write(out: &mut dyn Write, report: &ExploreReport) -> io::Result<()> {
    let width = report.attempts.iter().map(|attempt| attempt.branch.len()).max().unwrap_or(0);
    for (i, attempt) in report.attempts.iter().enumerate() {
        let (branch, duration) = (&attempt.branch, text::span(attempt.duration));
        writeln!(out, "{:>3}  {branch:width$}  {duration:>8}  {}", i + 1, describe(&attempt.verdict))?;
    }
    if let Some(reason) = report.attempts.iter().find_map(|attempt| attempt.because.as_deref()) {
        writeln!(out, "branchfs: on the FUSE view: {}", text::plain(reason))?;
    }
    if let Some(commit) = &report.commit {
        return commit::describe(out, commit);
    }
    for (i, attempt) in report.attempts.iter().enumerate() {
        write_output(out, i + 1, attempt)?;
    }
    writeln!(out, "no attempt succeeded; nothing was changed")?;
    for attempt in &report.attempts {
        if let (Verdict::NotCommitted { conflicts, .. }, branch) = (&attempt.verdict, &attempt.branch) {
            if !conflicts.is_empty() {
                writeln!(out, "{branch}: {}", text::count(conflicts.len() as u64, "conflicting path"))?;
                conflicts::describe(out, conflicts)?;
            }
            writeln!(out, "hint: '{branch}' is kept: see 'branchfs diff {branch}', then commit or abort it")?;
        }
    }
    Ok(())
}

fn write_output(out: &mut dyn Write, number: usize, attempt: &AttemptReport) -> io::Result<()> {
    let output = attempt.output.text();
    let lines: Vec<&str> = output.lines().collect();
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "-- the end of what attempt {number} wrote:")?;
    for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
        let line: String = line.chars().filter(|c| !c.is_control() || *c == '\t').collect();
        writeln!(out, "   {line}")?;
    }
    Ok(())
}
