//! What every verb starts from: where, and how to answer.

use std::path::{Path, PathBuf};

use branch_core::{Location, Workspace};

use super::error::CliError;
use super::launcher;
use super::output::{self, Format, Show};

pub(super) struct Context {
    directory: PathBuf,
    format: Format,
}

impl Context {
    pub(super) fn new(directory: Option<PathBuf>, format: Format) -> Context {
        Context { directory: directory.unwrap_or_else(|| PathBuf::from(".")), format }
    }

    /// Where the user is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    pub(super) fn location(&self) -> Result<Location, CliError> {
        Ok(Location::find(&self.directory)?)
    }

    /// The workspace, its daemon started if need be.
    pub(super) fn workspace(&self) -> Result<Workspace, CliError> {
        Ok(Workspace::open(&self.directory, std::sync::Arc::new(launcher::launch))?)
    }

    /// For verbs whose standard output belongs to a command: text goes to standard error.
    pub(super) fn emit_beside_command(&self, value: &impl Show) -> Result<(), CliError> {
        match self.format {
            Format::Json => output::emit(self.format, value),
            Format::Text => value.text(&mut std::io::stderr().lock()).map_err(CliError::Output),
        }
    }

    pub(super) fn emit(&self, value: &impl Show) -> Result<(), CliError> {
        output::emit(self.format, value)
    }
}
