use std::io::{self, Write};

use branch_core::BranchInfo;
use serde::Serialize;

use super::branch_tree;
use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;

/// Show the tree of branches
#[derive(Debug, clap::Args)]
#[command(visible_alias = "ls")]
pub(super) struct Args {}

#[derive(Serialize)]
struct Listed {
    branches: Vec<BranchInfo>,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        context.emit(&Listed { branches: context.workspace()?.list()? })?;
        Ok(Code::OK)
    }
}

impl Show for Listed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        branch_tree::draw(out, &self.branches)
    }
}
