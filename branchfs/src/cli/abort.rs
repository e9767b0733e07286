use std::io::{self, Write};

use branch_core::Children;
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;

/// Discard a branch
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The branch
    branch: String,
    /// Discard the branches below it too
    #[arg(long)]
    cascade: bool,
}

#[derive(Serialize)]
struct Aborted {
    aborted: Vec<String>,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let children = if self.cascade { Children::Cascade } else { Children::Refuse };
        let aborted = context.workspace()?.backend().abort(&self.branch, children)?;
        context.emit(&Aborted { aborted })?;
        Ok(Code::OK)
    }
}

impl Show for Aborted {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "aborted {}", self.aborted.join(", "))
    }
}
