//! A workspace to fork branches in, and the branches.

mod branch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use branch_proto::{BranchInfo, CommitReport, Compared, GroupKind, LogEntry, Quota, WorkspaceStatus};

pub use branch::{Branch, CommitError};

use crate::backend::{Backend, Daemon, Launcher};
use crate::error::Error;
use crate::location::Location;
use crate::names::Names;
use crate::patch::Patch;

/// Name of the root branch, which is the base directory itself.
pub const MAIN: &str = "main";

/// A base directory with its tree of branches. Cheap to clone: clones share the backend.
#[derive(Clone)]
pub struct Workspace {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) base: Arc<Path>,
}

impl Workspace {
    /// Opens the workspace that `dir` is in, starting its daemon by `launcher` if none runs: now, and whenever a
    /// later call finds that it has stopped.
    pub fn open(dir: &Path, launcher: Arc<dyn Launcher>) -> Result<Workspace, Error> {
        let location = Location::find(dir)?;
        let daemon = Daemon::connect_or_launch(&location, launcher)?;
        Ok(Workspace::over(Arc::new(daemon), location.base().to_owned()))
    }

    /// A workspace over any backend; `base` is the path the views are bound over for processes.
    pub fn over(backend: Arc<dyn Backend>, base: PathBuf) -> Workspace {
        Workspace { backend, base: base.into() }
    }

    /// The base directory, absolute.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Forks off the base. The handles own their branches: a dropped one is aborted.
    pub fn fork(&self, names: impl Into<Names>, group: GroupKind) -> Result<Vec<Branch>, Error> {
        self.fork_from(MAIN, names, group)
    }

    /// Forks off a branch known by name.
    pub fn fork_from(
        &self,
        parent: &str,
        names: impl Into<Names>,
        group: GroupKind,
    ) -> Result<Vec<Branch>, Error> {
        self.fork_limited(parent, names, group, None)
    }

    /// Forks branches that may hold so much of their own each; `None`: as much as the parent may. A write beyond
    /// that fails with EDQUOT.
    pub fn fork_limited(
        &self,
        parent: &str,
        names: impl Into<Names>,
        group: GroupKind,
        quota: Option<Quota>,
    ) -> Result<Vec<Branch>, Error> {
        let names = names.into().resolve("try");
        let infos = self.backend.create_limited(&names, parent, group, quota)?;
        Ok(infos.into_iter().map(|info| Branch::own(self.clone(), info)).collect())
    }

    /// Takes over a branch that exists; the handle owns it from here on.
    pub fn adopt(&self, branch: &str) -> Result<Branch, Error> {
        Ok(Branch::own(self.clone(), self.backend.inspect(branch)?))
    }

    /// All live branches, parents before children.
    pub fn list(&self) -> Result<Vec<BranchInfo>, Error> {
        self.backend.list()
    }

    /// What differs between two sides, as a patch for `git apply` to be read.
    pub fn patch(&self, compared: &Compared) -> Result<Patch, Error> {
        Patch::start(self.backend.clone(), compared.clone())
    }

    /// The newest commits into the base, newest first.
    pub fn log(&self, limit: u32) -> Result<Vec<LogEntry>, Error> {
        self.backend.log(limit)
    }

    /// One commit into the base, and whether the base before and after it can still be seen.
    pub fn show(&self, commit: u64) -> Result<(LogEntry, bool), Error> {
        self.backend.show(commit)
    }

    /// Takes the last commit into the base back that still stands: the base is as before it, or, where it was changed
    /// on those paths since, nothing is done and the conflicts are reported.
    pub fn undo(&self) -> Result<CommitReport, Error> {
        self.backend.undo()
    }

    /// Takes the last [`Workspace::undo`] back, unless something was committed since.
    pub fn redo(&self) -> Result<CommitReport, Error> {
        self.backend.redo()
    }

    /// The workspace in figures.
    pub fn status(&self) -> Result<WorkspaceStatus, Error> {
        self.backend.status()
    }

    /// The verbs by branch name, without owning handles.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace").field("base", &self.base).finish_non_exhaustive()
    }
}
