use std::io::{self, Write};

use branch_core::GroupInfo;
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;
use super::process_table;

/// Show the processes of a branch, or of all
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The branch; all if left out
    branch: Option<String>,
}

#[derive(Serialize)]
struct Running {
    groups: Vec<GroupInfo>,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let groups = context.workspace()?.backend().groups(self.branch.as_deref())?;
        context.emit(&Running { groups })?;
        Ok(Code::OK)
    }
}

impl Show for Running {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        process_table::processes(out, &self.groups)
    }
}
