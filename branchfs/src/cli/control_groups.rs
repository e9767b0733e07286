//! `kill`, `freeze`, `thaw`: one thing done with all process groups of a branch.

use std::io::{self, Write};

use branch_core::GroupAction;
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;
use super::text;

/// Which branch.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The branch
    branch: String,
}

#[derive(Serialize)]
struct Controlled {
    branch: String,
    action: GroupAction,
    groups: u32,
}

impl Args {
    pub(super) fn execute(self, context: &Context, action: GroupAction) -> Result<Code, CliError> {
        let groups = context.workspace()?.backend().control_groups(&self.branch, action)?;
        context.emit(&Controlled { branch: self.branch, action, groups })?;
        Ok(Code::OK)
    }
}

impl Show for Controlled {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let done = match self.action {
            GroupAction::Kill => "killed",
            GroupAction::Freeze => "froze",
            GroupAction::Thaw => "thawed",
        };
        match self.groups {
            0 => writeln!(out, "nothing runs in {}", self.branch),
            groups => {
                writeln!(out, "{done} {} of {}", text::count(groups.into(), "process group"), self.branch)
            }
        }
    }
}
