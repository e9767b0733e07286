//! What to run in a branch, as plain data: it can be run in any number of branches.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use branch_proc::Command;

use crate::confinement::Confinement;

/// What a program works on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum View {
    /// The daemon's mount.
    #[default]
    Fuse,
    /// A kernel overlayfs over the base in the group's own mount namespace, taken into the branch when the group has
    /// ended; an error where that cannot be.
    Native,
    /// Native where it is the same to everybody: mounted by root, in a workspace without other branches than those that end
    /// together with this one.
    Auto,
}

/// A program with its arguments, working directory, additional environment and confinement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    argv: Vec<OsString>,
    directory: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    confinement: Confinement,
    view: View,
}

impl Program {
    /// The program and its arguments; a name without `/` is looked up in `PATH`, in the branch.
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Program {
        let argv = argv.into_iter().map(Into::into).collect();
        Program {
            argv,
            directory: None,
            env: Vec::new(),
            confinement: Confinement::default(),
            view: View::Fuse,
        }
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

    /// What it works on; the daemon's mount unless told otherwise.
    pub fn view(mut self, view: View) -> Program {
        self.view = view;
        self
    }

    pub(crate) fn wanted_view(&self) -> View {
        self.view
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
