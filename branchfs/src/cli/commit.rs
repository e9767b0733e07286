use std::io::{self, Write};

use branch_core::{CommitAction, CommitReport};
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;
use super::text;

/// Move a branch's changes into its parent, all or none
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    branch: String,
}

#[derive(Serialize)]
pub(super) struct Committed {
    pub(super) commit: CommitReport,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let commit = context.workspace()?.backend().commit(&self.branch)?;
        context.emit(&Committed { commit })?;
        Ok(Code::OK)
    }
}

impl Show for Committed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        describe(out, &self.commit)
    }
}

/// What a commit did, in a line and its warnings.
pub(super) fn describe(out: &mut dyn Write, report: &CommitReport) -> io::Result<()> {
    let number = report.commit.map(|n| format!(" as commit {n}")).unwrap_or_default();
    let changed = text::count(report.changed, "path");
    match report.action {
        CommitAction::Commit => {
            writeln!(out, "committed {} into {}{number}: {changed}", report.branch, report.into)?;
        }
        CommitAction::Undo { of } => {
            writeln!(out, "undid commit {of} ({}){number}: {changed}", report.branch)?;
        }
        CommitAction::Redo { of } => {
            writeln!(out, "redid what commit {of} undid ({}){number}: {changed}", report.branch)?;
        }
    }
    if !report.stale.is_empty() {
        writeln!(out, "stale now: {}", report.stale.join(", "))?;
    }
    report.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
}
