use std::io::{self, Write};

use branch_core::RestoreReport;
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;

/// Make a branch what it was at a checkpoint
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The branch
    branch: String,
    /// Name of the checkpoint; 'before-restore' takes the last restore back
    name: String,
}

#[derive(Serialize)]
struct Restored {
    restore: RestoreReport,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let restore = context.workspace()?.backend().restore(&self.branch, &self.name)?;
        context.emit(&Restored { restore })?;
        Ok(Code::OK)
    }
}

impl Show for Restored {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let RestoreReport { branch, checkpoint, saved, warnings } = &self.restore;
        match saved {
            Some(saved) => {
                writeln!(out, "{branch} is as at {checkpoint}; what it was before is {branch}@{saved}")?
            }
            None => writeln!(out, "{branch} is as at {checkpoint}")?,
        }
        warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
    }
}
