use branch_core::MAIN;

use super::commit::Committed;
use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::long;

/// Take the last undo back, unless something was committed since
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    long: long::Options,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let workspace = context.workspace()?;
        let turned = self.long.watch(context, &workspace, MAIN, || workspace.redo())?;
        let commit = turned.map_err(|reason| CliError::NotTurned { reason })?;
        context.emit(&Committed { commit })?;
        Ok(Code::OK)
    }
}
