mod colour;

use std::io::{self, BufReader, Write};

use branch_core::{
    ChangeStatus, Compared, DiffDetail, FileChange, MAIN, Omitted, OmittedBecause, Patch, Side, Workspace,
};
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::{Format, Show};
use super::screen::{self, Taken};
use super::text;

/// Bytes of a patch that are taken at once.
const CHUNK: usize = 64 << 10;

/// Show what a branch changed since its fork, or what differs between two
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The branch; of two the older: a branch, BRANCH@NAME for a checkpoint of it, main, or @N for the base after
    /// commit N
    #[arg(value_name = "BRANCH")]
    first: String,
    /// Compare with this one instead of the fork
    #[arg(value_name = "OTHER")]
    second: Option<String>,
    /// Names and kinds of changes only
    #[arg(long, conflicts_with = "stat")]
    name_status: bool,
    /// Count lines of each file
    #[arg(long)]
    stat: bool,
    #[command(flatten)]
    screen: screen::Options,
}

#[derive(Serialize)]
struct Changed {
    #[serde(flatten)]
    sides: Sides,
    changes: Vec<FileChange>,
    #[serde(skip)]
    detail: DiffDetail,
}

/// What was asked for, in the words it was asked in.
#[derive(Serialize)]
#[serde(untagged)]
enum Sides {
    SinceFork { branch: String },
    Between { old: String, new: String },
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let compared = self.compared()?;
        let workspace = context.workspace()?;
        if !self.name_status && !self.stat && context.format() == Format::Text {
            patch(&workspace, &compared, &self.screen, b"")?;
            return Ok(Code::OK);
        }
        let detail = if self.stat { DiffDetail::Stat } else { DiffDetail::NameStatus };
        let changes = workspace.backend().diff(&compared, detail)?;
        let sides = match self.second {
            None => Sides::SinceFork { branch: self.first },
            Some(new) => Sides::Between { old: self.first, new },
        };
        let changed = Changed { sides, changes, detail };
        match context.format() {
            Format::Json => context.emit(&changed)?,
            Format::Text => _ = self.screen.open()?.show(|out| changed.text(out))?,
        }
        Ok(Code::OK)
    }

    fn compared(&self) -> Result<Compared, CliError> {
        let first = side(&self.first)?;
        match (&self.second, first) {
            (Some(second), old) => Ok(Compared::Between { old, new: side(second)? }),
            (None, Side::Branch { name }) => Ok(Compared::SinceFork { branch: name }),
            (None, Side::Checkpoint { branch, .. }) => Err(self.no_fork(&branch)),
            (None, Side::Commit { .. }) => Err(self.no_fork(MAIN)),
        }
    }

    fn no_fork(&self, other: &str) -> CliError {
        CliError::Usage {
            reason: format!("'{}' has no fork to compare with", self.first),
            hint: format!("name two: 'branchfs diff {} {other}'", self.first),
        }
    }
}

/// Prints what differs as a patch, behind some words; what is not in it on standard error.
pub(super) fn patch(
    workspace: &Workspace,
    compared: &Compared,
    screen: &screen::Options,
    head: &[u8],
) -> Result<(), CliError> {
    let mut patch = workspace.patch(compared)?;
    let colours = screen.colours();
    let taken = screen.open()?.show(|out| {
        out.write_all(head)?;
        copy(&mut patch, out, colours)
    })?;
    if taken == Taken::Whole {
        report(&patch.finish()?);
    }
    Ok(())
}

/// A branch, `BRANCH@CHECKPOINT`, or `@N`. No branch's name has the sign in it.
fn side(text: &str) -> Result<Side, CliError> {
    let number = match text.split_once('@') {
        None => return Ok(Side::Branch { name: text.to_owned() }),
        Some(("", number)) => number,
        Some((branch, name)) => {
            return Ok(Side::Checkpoint { branch: branch.to_owned(), name: name.to_owned() });
        }
    };
    let commit = number.parse().map_err(|_| CliError::Usage {
        reason: format!("'{text}' is no commit"),
        hint: "write @ and a number of 'branchfs log'; @0 is the base before the first".into(),
    })?;
    Ok(Side::Commit { commit })
}

fn copy(patch: &mut Patch, out: &mut dyn Write, colours: bool) -> io::Result<()> {
    let mut from = BufReader::with_capacity(CHUNK, patch);
    if colours { colour::copy(&mut from, out) } else { io::copy(&mut from, out).map(drop) }
}

/// One line on standard error: standard output is for `git apply`.
fn report(omitted: &[Omitted]) {
    if omitted.is_empty() {
        return;
    }
    let parts: Vec<String> = omitted.iter().map(left_out).collect();
    let line = format!("branchfs: git has no words for {}: not in the patch", parts.join("; "));
    // Where nobody hears it, the patch is as good without.
    drop(writeln!(io::stderr(), "{line}"));
}

fn left_out(omitted: &Omitted) -> String {
    let n = omitted.paths;
    let what = match omitted.why {
        OmittedBecause::Attributes => format!("attributes of {}", text::count(n, "path")),
        OmittedBecause::EmptyDirectory if n == 1 => "1 empty directory".into(),
        OmittedBecause::EmptyDirectory => format!("{n} empty directories"),
        OmittedBecause::Special => text::count(n, "special file"),
        OmittedBecause::Reserved => format!("{} that git takes for its own", text::count(n, "path")),
    };
    let first = text::path(&omitted.first);
    if n == 1 { format!("{what} ({first})") } else { format!("{what} (first {first})") }
}

impl Show for Changed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        changes(out, &self.changes, self.detail)
    }
}

/// Changes, a line each.
pub(super) fn changes(out: &mut dyn Write, changes: &[FileChange], detail: DiffDetail) -> io::Result<()> {
    match detail {
        DiffDetail::NameStatus => changes.iter().try_for_each(|change| name_status(out, change)),
        DiffDetail::Stat => stat(out, changes),
    }
}

/// git's letters; `m` is ours, for attributes alone.
pub(super) fn letter(status: ChangeStatus) -> char {
    match status {
        ChangeStatus::Added => 'A',
        ChangeStatus::Modified => 'M',
        ChangeStatus::Deleted => 'D',
        ChangeStatus::Renamed => 'R',
        ChangeStatus::Type => 'T',
        ChangeStatus::Attributes => 'm',
    }
}

pub(super) fn name_status(out: &mut dyn Write, change: &FileChange) -> io::Result<()> {
    let path = text::path(&change.path);
    match &change.from {
        Some(from) => writeln!(out, "{}\t{}\t{path}", letter(change.status), text::path(from)),
        None => writeln!(out, "{}\t{path}", letter(change.status)),
    }
}

fn stat(out: &mut dyn Write, changes: &[FileChange]) -> io::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = changes.iter().map(name).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    for (change, name) in changes.iter().zip(names) {
        writeln!(out, " {} {name:width$} | {}", letter(change.status), amount(change))?;
    }
    let sum = |of: fn(&FileChange) -> Option<u64>| changes.iter().filter_map(of).sum::<u64>();
    let (added, removed) = (sum(|change| change.added), sum(|change| change.removed));
    writeln!(out, " {} changed, lines: +{added} -{removed}", text::count(changes.len() as u64, "path"))
}

fn name(change: &FileChange) -> String {
    let path = text::path(&change.path);
    match &change.from {
        Some(from) => format!("{} => {path}", text::path(from)),
        None => path,
    }
}

fn amount(change: &FileChange) -> String {
    match (change.added, change.removed) {
        (None, None) => match (change.old_size, change.new_size) {
            (None, None) => "-".into(),
            (old, new) => format!("{} -> {}", text::size(old.unwrap_or(0)), text::size(new.unwrap_or(0))),
        },
        (added, removed) => format!("+{} -{}", added.unwrap_or(0), removed.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use branch_core::PathBytes;

    fn change(path: &str, status: ChangeStatus) -> FileChange {
        FileChange {
            path: PathBytes(path.into()),
            status,
            from: None,
            added: None,
            removed: None,
            old_size: None,
            new_size: None,
        }
    }

    fn shown(detail: DiffDetail) -> String {
        let changes = vec![
            FileChange { added: Some(3), removed: Some(1), ..change("a.c", ChangeStatus::Modified) },
            FileChange { old_size: Some(10), new_size: Some(4096), ..change("logo", ChangeStatus::Modified) },
            FileChange { from: Some(PathBytes("old".into())), ..change("new", ChangeStatus::Renamed) },
        ];
        let mut out = Vec::new();
        let sides = Sides::SinceFork { branch: "b".into() };
        Changed { sides, changes, detail }.text(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn name_status_is_in_gits_form() {
        assert_eq!(shown(DiffDetail::NameStatus), "M\ta.c\nM\tlogo\nR\told\tnew\n");
    }

    #[test]
    fn stat_counts_lines_of_text_and_bytes_of_the_rest() {
        let expected = " M a.c        | +3 -1
 M logo       | 10 B -> 4.0 KiB
 R old => new | -
 3 paths changed, lines: +3 -1
";
        assert_eq!(shown(DiffDetail::Stat), expected);
    }

    #[test]
    fn of_nothing_stat_says_nothing_as_git() {
        let mut out = Vec::new();
        changes(&mut out, &[], DiffDetail::Stat).unwrap();
        assert_eq!(out, b"");
    }

    #[test]
    fn sides_are_branches_or_numbers_of_commits() {
        assert_eq!(side("main").unwrap(), Side::Branch { name: "main".into() });
        assert_eq!(side("@0").unwrap(), Side::Commit { commit: 0 });
        assert_eq!(side("b@1").unwrap(), Side::Checkpoint { branch: "b".into(), name: "1".into() });
        for wrong in ["@", "@x", "@-1"] {
            assert!(matches!(side(wrong), Err(CliError::Usage { .. })), "{wrong}");
        }
    }

    #[test]
    fn what_is_left_out_is_told_in_one_line() {
        let omitted = |why, paths| left_out(&Omitted { why, paths, first: PathBytes("a\nb".into()) });
        assert_eq!(omitted(OmittedBecause::Attributes, 3), "attributes of 3 paths (first \"a\\nb\")");
        assert_eq!(omitted(OmittedBecause::EmptyDirectory, 1), "1 empty directory (\"a\\nb\")");
    }
}
