use std::io::{self, Write};

use branch_core::{BranchInfo, GroupKind, MAIN, Quota};
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;
use super::{size, text};

/// Fork branches off a parent, all or none
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names of the new branches, siblings of one group
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// The branch to fork
    #[arg(short, long, default_value = MAIN)]
    parent: String,
    /// Let siblings live on when one commits (by default the first commit makes the others stale)
    #[arg(long, conflicts_with = "frozen")]
    independent: bool,
    /// Let each branch hold at most SIZE of its own, such as 500M or 2GiB; as much as the parent if left out
    #[arg(long, value_name = "SIZE", value_parser = size::limit)]
    max_size: Option<Quota>,
    /// Make the parent read-only until the group has ended
    #[arg(long)]
    frozen: bool,
}

#[derive(Serialize)]
struct Created {
    branches: Vec<BranchInfo>,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let group = match (self.independent, self.frozen) {
            (true, _) => GroupKind::Independent,
            (_, true) => GroupKind::Frozen,
            _ => GroupKind::Exclusive,
        };
        let workspace = context.workspace()?;
        let branches = workspace.backend().create_limited(&self.names, &self.parent, group, self.max_size)?;
        context.emit(&Created { branches })?;
        Ok(Code::OK)
    }
}

impl Show for Created {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        for branch in &self.branches {
            writeln!(out, "{}\t{}", branch.name, text::path(&branch.path))?;
        }
        Ok(())
    }
}
