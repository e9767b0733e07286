use std::io::{self, Write};

use branch_core::{CommitAction, LogEntry};
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;
use super::text;

/// Show the newest commits into the base
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// At most so many
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: u32,
}

#[derive(Serialize)]
struct Logged {
    commits: Vec<LogEntry>,
    /// At most so many were asked for.
    #[serde(skip)]
    limit: u32,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let commits = context.workspace()?.log(self.limit)?;
        context.emit(&Logged { commits, limit: self.limit })?;
        Ok(Code::OK)
    }
}

impl Show for Logged {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.commits.is_empty() && self.limit > 0 {
            return writeln!(out, "no commits yet");
        }
        for entry in &self.commits {
            let (changed, size) = (text::changed(entry.changed, true), text::size(entry.bytes));
            let (commit, when, origin) = (entry.commit, text::moment(entry.time), origin(entry));
            let subject =
                entry.message.lines().next().map_or(String::new(), |line| format!("  {}", text::plain(line)));
            writeln!(out, "{commit:>4}  {when}  {origin}  {changed}, {size}{subject}")?;
        }
        Ok(())
    }
}

/// The branch, and what was undone or redone.
pub(super) fn origin(entry: &LogEntry) -> String {
    match entry.action {
        CommitAction::Commit => entry.branch.clone(),
        CommitAction::Undo { of } => format!("undo of {of}: {}", entry.branch),
        CommitAction::Redo { of } => format!("redo of {of}: {}", entry.branch),
    }
}
