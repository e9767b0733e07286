use std::io::{self, Write};

use branch_core::{Compared, DiffDetail, FileChange, LogEntry, Side};
use serde::Serialize;

use super::context::Context;
use super::diff;
use super::error::CliError;
use super::exit_code::Code;
use super::log::origin;
use super::output::{Format, Show};
use super::screen;
use super::text;

/// Show a commit into the base in full: who, when, what for, and what it changed
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Its number in 'branchfs log'
    #[arg(value_name = "N")]
    commit: u64,
    /// Names and kinds of changes instead of the patch
    #[arg(long, conflicts_with = "stat")]
    name_status: bool,
    /// Count lines of each file instead
    #[arg(long)]
    stat: bool,
    /// Print the patch (the default)
    #[arg(short, long, conflicts_with_all = ["name_status", "stat"])]
    patch: bool,
    #[command(flatten)]
    screen: screen::Options,
}

#[derive(Serialize)]
struct Shown {
    commit: LogEntry,
    kept: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<FileChange>>,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let workspace = context.workspace()?;
        let found = workspace.show(self.commit);
        let (commit, kept) = found.map_err(|reason| CliError::NotLogged { reason })?;
        let side = |commit| Side::Commit { commit };
        let compared = Compared::Between { old: side(self.commit.saturating_sub(1)), new: side(self.commit) };
        let detail = if self.stat { DiffDetail::Stat } else { DiffDetail::NameStatus };
        if context.format() == Format::Json {
            let changes = kept.then(|| workspace.backend().diff(&compared, detail)).transpose()?;
            context.emit(&Shown { commit, kept, changes })?;
            return Ok(Code::OK);
        }
        let mut head = Vec::new();
        describe(&mut head, &commit, kept).map_err(CliError::Output)?;
        if !kept {
            self.screen.open()?.show(|out| out.write_all(&head))?;
        } else if self.name_status || self.stat {
            let changes = workspace.backend().diff(&compared, detail)?;
            self.screen.open()?.show(|out| {
                out.write_all(&head)?;
                diff::changes(out, &changes, detail)
            })?;
        } else {
            diff::patch(&workspace, &compared, &self.screen, &head)?;
        }
        Ok(Code::OK)
    }
}

impl Show for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        describe(out, &self.commit, self.kept)
    }
}

fn describe(out: &mut dyn Write, entry: &LogEntry, kept: bool) -> io::Result<()> {
    writeln!(out, "commit  {}", entry.commit)?;
    writeln!(out, "branch  {}", origin(entry))?;
    if let Some(by) = entry.by {
        writeln!(out, "user    {by}")?;
    }
    writeln!(out, "time    {}", text::moment(entry.time))?;
    writeln!(out, "size    {}, {}", text::changed(entry.changed, true), text::size(entry.bytes))?;
    if !kept {
        writeln!(out, "changes no longer kept: what it replaced in the base has been given up")?;
    }
    if !entry.message.is_empty() {
        writeln!(out)?;
        entry.message.lines().try_for_each(|line| writeln!(out, "    {}", text::plain(line)))?;
    }
    if kept { writeln!(out) } else { Ok(()) }
}
