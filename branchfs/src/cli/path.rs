use std::io::{self, Write};

use branch_core::PathBytes;
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;

/// Print the directory that shows a branch's files
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The branch
    branch: String,
}

#[derive(Serialize)]
struct Found {
    branch: String,
    path: PathBytes,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let info = context.workspace()?.backend().inspect(&self.branch)?;
        context.emit(&Found { branch: info.name, path: info.path })?;
        Ok(Code::OK)
    }
}

impl Show for Found {
    /// The bytes as they are: this line is for `cd "$(branchfs path b)"`.
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.path.0)?;
        out.write_all(b"\n")
    }
}
