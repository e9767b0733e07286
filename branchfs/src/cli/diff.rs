use std::io::{self, Write};

use branch_core::{ChangeStatus, DiffDetail, FileChange};
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;
use super::text;

/// Show what a branch changed since its fork
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    branch: String,
    /// Count lines too
    #[arg(long)]
    stat: bool,
}

#[derive(Serialize)]
struct Changed {
    branch: String,
    changes: Vec<FileChange>,
    #[serde(skip)]
    detail: DiffDetail,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let detail = if self.stat { DiffDetail::Stat } else { DiffDetail::NameStatus };
        let changes = context.workspace()?.backend().diff(&self.branch, detail)?;
        context.emit(&Changed { branch: self.branch, changes, detail })?;
        Ok(Code::OK)
    }
}

impl Show for Changed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match self.detail {
            DiffDetail::NameStatus => self.changes.iter().try_for_each(|change| name_status(out, change)),
            DiffDetail::Stat => stat(out, &self.changes),
        }
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

fn name_status(out: &mut dyn Write, change: &FileChange) -> io::Result<()> {
    let path = text::path(&change.path);
    match &change.from {
        Some(from) => writeln!(out, "{}\t{}\t{path}", letter(change.status), text::path(from)),
        None => writeln!(out, "{}\t{path}", letter(change.status)),
    }
}

fn stat(out: &mut dyn Write, changes: &[FileChange]) -> io::Result<()> {
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
        Changed { branch: "b".into(), changes, detail }.text(&mut out).unwrap();
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
}
