use std::io::{self, Write};

use branch_core::Checkpoint;
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;
use super::text;

/// Note the present state of a branch, to go back to with 'restore'
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The branch
    branch: String,
    /// Name of the checkpoint; without one it gets the next number
    #[arg(conflicts_with_all = ["list", "delete"])]
    name: Option<String>,
    /// Show the checkpoints of the branch instead
    #[arg(long, conflicts_with = "delete")]
    list: bool,
    /// Forget this checkpoint instead
    #[arg(long, value_name = "NAME")]
    delete: Option<String>,
}

#[derive(Serialize)]
struct Made {
    branch: String,
    checkpoint: String,
}

#[derive(Serialize)]
struct Deleted {
    branch: String,
    deleted: String,
}

#[derive(Serialize)]
struct Listed {
    branch: String,
    checkpoints: Vec<Checkpoint>,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let Args { branch, name, list, delete } = self;
        let workspace = context.workspace()?;
        if list {
            let checkpoints = workspace.backend().inspect(&branch)?.checkpoints;
            context.emit(&Listed { branch, checkpoints })?;
        } else if let Some(deleted) = delete {
            workspace.backend().delete_checkpoint(&branch, &deleted)?;
            context.emit(&Deleted { branch, deleted })?;
        } else {
            let checkpoint = workspace.backend().checkpoint(&branch, name.as_deref())?;
            context.emit(&Made { branch, checkpoint })?;
        }
        Ok(Code::OK)
    }
}

impl Show for Made {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}@{}", self.branch, self.checkpoint)
    }
}

impl Show for Deleted {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "deleted {}@{}", self.branch, self.deleted)
    }
}

impl Show for Listed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let width = self.checkpoints.iter().map(|c| c.name.len()).max().unwrap_or(0);
        for Checkpoint { name, created } in &self.checkpoints {
            writeln!(out, "{name:width$}  {}", text::moment(*created))?;
        }
        Ok(())
    }
}
