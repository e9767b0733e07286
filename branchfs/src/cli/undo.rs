use super::commit::Committed;
use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;

/// Take the last commit into the base back: the base is as before it
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let commit = context.workspace()?.undo().map_err(|reason| CliError::NotTurned { reason })?;
        context.emit(&Committed { commit })?;
        Ok(Code::OK)
    }
}
