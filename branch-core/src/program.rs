//! What to run in a branch, as plain data: it can be run in any number of branches.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use branch_proc::Command;

use crate::confinement::Confinement;

/// A program with its arguments, working directory, additional environment and confinement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    argv: Vec<OsString>,
    directory: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    confinement: Confinement,
}

impl Program {
    /// The program and its arguments; a name without `/` is looked up in `PATH`, in the branch.
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Program {
        let argv = argv.into_iter().map(Into::into).collect();
        Program { argv, directory: None, env: Vec::new(), confinement: Confinement::default() }
    }

    /// A line for `sh -c`.
    pub fn shell(line: impl Into<OsString>) -> Program {
        Program::new([OsString::from("sh"), "-c".into(), line.into()])
    }

    /// Starts in this directory: an absolute path as it is in the base. The base itself unless told otherwise.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Program {
        self.directory = Some(directory.into());
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Program {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Bounds what it may use and do.
    pub fn confine(mut self, confinement: Confinement) -> Program {
        self.confinement = confinement;
        self
    }

    /// Program and arguments.
    pub fn argv(&self) -> &[OsString] {
        &self.argv
    }

    pub(crate) fn command(&self, base: &Path) -> Command {
        let command = Command::new(self.argv.iter().cloned())
            .current_dir(self.directory.as_deref().unwrap_or(base))
            .envs(self.env.iter().cloned());
        self.confinement.apply(command)
    }
}
