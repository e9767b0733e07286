use std::io::{self, Write};

use branch_core::RebaseReport;
use serde::Serialize;

use super::context::Context;
use super::decisions::{Decisions, decided, undecided};
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;
use super::text;

/// Move a branch onto its parent's present state: what others committed since shows, its changes stay
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The branch
    branch: String,
    #[command(flatten)]
    decisions: Decisions,
}

#[derive(Serialize)]
struct Rebased {
    rebase: RebaseReport,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let choices = self.decisions.choices()?;
        let rebase = context.workspace()?.backend().rebase(&self.branch, &choices);
        let rebase = rebase.map_err(|error| undecided(&choices, error))?;
        context.emit(&Rebased { rebase })?;
        Ok(Code::OK)
    }
}

impl Show for Rebased {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let RebaseReport { branch, onto, moved, changed, resolved, warnings } = &self.rebase;
        if !moved {
            return writeln!(out, "{branch} is on the present state of {onto} already");
        }
        let changed = text::count(*changed, "changed path");
        writeln!(out, "rebased {branch} onto the present state of {onto}: {changed}")?;
        decided(out, resolved)?;
        warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
    }
}
