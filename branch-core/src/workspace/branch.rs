//! One branch, owned.

use std::path::Path;

use branch_proc::{Command, Group, Outcome};
use branch_proto::{
    BranchInfo, Checkpoint, Children, CommitReport, Compared, DiffDetail, FileChange, GroupKind,
    RestoreReport,
};

use crate::error::Error;
use crate::names::Names;
use crate::program::Program;
use crate::workspace::Workspace;

/// A branch in our hands. Dropping it aborts it and the branches below; [`Branch::commit`],
/// [`Branch::abort`] and [`Branch::keep`] end the ownership.
#[derive(Debug)]
#[must_use = "a dropped branch is aborted"]
pub struct Branch {
    workspace: Workspace,
    info: BranchInfo,
    hold: Hold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Dropping aborts.
    Owned,
    /// Committed, aborted, or left alone.
    Released,
}

impl Branch {
    pub(crate) fn own(workspace: Workspace, info: BranchInfo) -> Branch {
        Branch { workspace, info, hold: Hold::Owned }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Its view: a directory that shows the branch's files.
    pub fn path(&self) -> &Path {
        self.info.path.as_path()
    }

    /// The workspace it belongs to.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// What it changed since its fork, sorted by path.
    pub fn diff(&self, detail: DiffDetail) -> Result<Vec<FileChange>, Error> {
        self.workspace.backend.diff(&Compared::SinceFork { branch: self.name().to_owned() }, detail)
    }

    /// Notes its present state under a name, or the next number, to go back to; the name.
    pub fn checkpoint(&self, name: Option<&str>) -> Result<String, Error> {
        self.workspace.backend.checkpoint(self.name(), name)
    }

    /// Its checkpoints, oldest first.
    pub fn checkpoints(&self) -> Result<Vec<Checkpoint>, Error> {
        Ok(self.workspace.backend.inspect(self.name())?.checkpoints)
    }

    /// Forgets a checkpoint.
    pub fn delete_checkpoint(&self, name: &str) -> Result<(), Error> {
        self.workspace.backend.delete_checkpoint(self.name(), name)
    }

    /// Makes it what it was at a checkpoint; what it was before is saved as one, if none has it.
    pub fn restore(&self, checkpoint: &str) -> Result<RestoreReport, Error> {
        self.workspace.backend.restore(self.name(), checkpoint)
    }

    /// Forks branches off this one.
    pub fn fork(&self, names: impl Into<Names>, group: GroupKind) -> Result<Vec<Branch>, Error> {
        self.workspace.fork_from(self.name(), names, group)
    }

    /// `program` as a command that sees this branch over the base's own path. Its streams and session can
    /// still be chosen; hand it to [`Branch::spawn`].
    pub fn command(&self, program: &Program) -> Command {
        program
            .command(self.workspace.base())
            .bind(self.path(), self.workspace.base())
            .env("BRANCH_NAME", self.name())
    }

    /// Starts a command of this branch. The daemon is told of its process group before the program runs, and
    /// kills it when the branch ends, whoever ends it; if it cannot be told, the program does not run.
    pub fn spawn(&self, command: Command) -> Result<Group, Error> {
        let held = command.hold().map_err(|source| Error::Spawn { source })?;
        self.workspace.backend.attach(self.name(), held.pid(), held.pidfd())?;
        held.release().map_err(|source| Error::Spawn { source })
    }

    /// Runs a program in this branch to its end, on the caller's standard streams.
    pub fn run(&self, program: &Program) -> Result<Outcome, Error> {
        self.spawn(self.command(program))?.wait().map_err(|source| Error::Group { source })
    }

    /// Moves the changes into the parent. On error the handle comes back inside it, still owning the branch.
    pub fn commit(mut self) -> Result<CommitReport, CommitError> {
        match self.workspace.backend.commit(&self.info.name) {
            Ok(report) => {
                self.hold = Hold::Released;
                Ok(report)
            }
            Err(error) => Err(CommitError { error, branch: Box::new(self) }),
        }
    }

    /// Discards it and the branches below; the names of all that ended, leaves first.
    pub fn abort(mut self) -> Result<Vec<String>, Error> {
        self.hold = Hold::Released;
        self.workspace.backend.abort(&self.info.name, Children::Cascade)
    }

    /// Leaves the branch alive on its own.
    pub fn keep(mut self) -> BranchInfo {
        self.hold = Hold::Released;
        self.info.clone()
    }
}

impl Drop for Branch {
    fn drop(&mut self) {
        if self.hold == Hold::Released {
            return;
        }
        // There is nobody to return an error to; one that is gone already is what we wanted.
        match self.workspace.backend.abort(&self.info.name, Children::Cascade) {
            Err(error) if !error.is_gone() => {
                tracing::warn!(branch = self.info.name, %error, "a dropped branch could not be aborted");
            }
            _ => {}
        }
    }
}

/// A commit that did not happen. Nothing was changed; dropping this aborts the branch.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct CommitError {
    /// Why.
    pub error: Error,
    /// The branch, to look at, to retry, to keep.
    pub branch: Box<Branch>,
}

impl From<CommitError> for Error {
    /// Lets go of the branch, which aborts it.
    fn from(failed: CommitError) -> Error {
        failed.error
    }
}
