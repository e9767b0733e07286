use std::io::{self, Write};

use branch_core::{BranchInfo, Quota};
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;
use super::{size, text};

/// Show or change how much a branch may hold of its own
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The branch
    branch: String,
    /// At most so much from now on, such as 500M or 2GiB; none: no limit
    #[arg(value_parser = size::limit)]
    size: Option<Quota>,
}

#[derive(Serialize)]
struct Limited {
    branch: BranchInfo,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let workspace = context.workspace()?;
        let branch = match self.size {
            None => workspace.backend().inspect(&self.branch)?,
            Some(quota) => workspace.backend().set_quota(&self.branch, quota)?,
        };
        context.emit(&Limited { branch })?;
        Ok(Code::OK)
    }
}

impl Show for Limited {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let branch = &self.branch;
        let limit = match branch.limit {
            None => "no limit".to_owned(),
            Some(limit) => {
                let left = text::size(limit.saturating_sub(branch.bytes));
                format!("at most {}, {left} left", text::size(limit))
            }
        };
        writeln!(out, "{}: {} of its own, {limit}", branch.name, text::size(branch.bytes))
    }
}
