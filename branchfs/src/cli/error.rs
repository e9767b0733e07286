//! What a person is told: the cause, the thing, and the next command to type.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use branch_core::{ClientError, Conflict, ConflictKind, Error, Failure};

use super::exit_code::Code;
use super::text;
use crate::vfs::CONTROL_NAME;

#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Core(#[from] Error),
    #[error("cannot make the store at {}: {reason}", .store.display())]
    Init { store: PathBuf, reason: String },
    #[error("{} is a workspace already, with its store at {}", .base.display(), .store.display())]
    InitTwice { base: PathBuf, store: PathBuf },
    #[error("cannot {doing} {}: {source}", .path.display())]
    Path { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot {doing}: {source}")]
    System { doing: &'static str, source: io::Error },
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    #[error("the daemon stopped: {reason}")]
    Daemon { reason: String },
    #[error("{reason}")]
    Usage { reason: String, hint: String },
    /// Conflicts that the choices given left over.
    #[error(transparent)]
    Undecided(Error),
    #[error("{reason}")]
    Kept { reason: Box<CliError>, branch: String },
    #[error("{reason}")]
    NotTurned { reason: Error },
    /// A commit asked for by its number.
    #[error("{reason}")]
    NotLogged { reason: Error },
    #[error("{reason}")]
    Spawn { reason: String, hint: String, code: Code },
    #[error("{reason}")]
    Other { reason: String, hint: String },
}

impl CliError {
    /// The kind, as `--json` spells it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            CliError::Core(error) | CliError::Undecided(error) => core_facts(error).0,
            CliError::Init { .. } => "init",
            CliError::InitTwice { .. } => "workspace-exists",
            CliError::Path { .. } | CliError::System { .. } | CliError::Output(_) => "io",
            CliError::Daemon { .. } => "daemon",
            CliError::Usage { .. } => "usage",
            CliError::Kept { reason, .. } => reason.kind(),
            CliError::NotTurned { reason } | CliError::NotLogged { reason } => core_facts(reason).0,
            CliError::Spawn { .. } => "spawn",
            CliError::Other { .. } => "failure",
        }
    }

    pub(super) fn code(&self) -> Code {
        match self {
            CliError::Core(error) | CliError::Undecided(error) => core_facts(error).1,
            CliError::Usage { .. } => Code::USAGE,
            CliError::Kept { reason, .. } => reason.code(),
            CliError::NotTurned { reason } | CliError::NotLogged { reason } => core_facts(reason).1,
            CliError::Spawn { code, .. } => *code,
            _ => Code::FAILURE,
        }
    }

    /// The next thing to type.
    pub(super) fn hint(&self) -> String {
        match self {
            CliError::Core(error) => core_hint(error),
            CliError::Undecided(_) => undecided_hint(self.conflicts()),
            CliError::Init { .. } => "is the file system writable? 'branchfs doctor' looks closer".into(),
            CliError::InitTwice { .. } => "run 'branchfs status' to see it".into(),
            CliError::Path { .. } => "check the path and its permissions".into(),
            CliError::System { .. } => "run 'branchfs doctor' to see what this machine lacks".into(),
            CliError::Output(_) => "is the disk full, or the reader gone?".into(),
            CliError::Daemon { .. } => "run 'branchfs doctor' to see what this machine lacks".into(),
            CliError::Usage { hint, .. } | CliError::Other { hint, .. } | CliError::Spawn { hint, .. } => {
                hint.clone()
            }
            CliError::NotTurned { reason: Error::Failed(Failure::Conflicts { .. }) } => {
                "nothing was done: the base was changed there since; take those changes out of the way, then try again"
                    .into()
            }
            CliError::NotTurned { reason: Error::Failed(Failure::NotAllowed { .. }) } => {
                "run 'branchfs log' to see what was committed and undone".into()
            }
            CliError::NotLogged { reason: Error::Failed(Failure::NotAllowed { .. }) } => {
                "run 'branchfs log' to see the commits and their numbers".into()
            }
            CliError::NotTurned { reason } | CliError::NotLogged { reason } => core_hint(reason),
            CliError::Kept { branch, .. } => format!(
                "nothing is lost: the work is in branch '{branch}'; see 'branchfs diff {branch}', then commit or abort it"
            ),
        }
    }

    /// Details that are data: the paths of a conflict.
    pub(super) fn conflicts(&self) -> &[branch_core::Conflict] {
        match self {
            CliError::Core(Error::Failed(Failure::Conflicts { conflicts }))
            | CliError::NotTurned { reason: Error::Failed(Failure::Conflicts { conflicts }) }
            | CliError::Undecided(Error::Failed(Failure::Conflicts { conflicts })) => conflicts,
            CliError::Kept { reason, .. } => reason.conflicts(),
            _ => &[],
        }
    }

    pub(super) fn at(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> CliError {
        move |source| CliError::Path { doing, path: path.into(), source }
    }
}

fn core_facts(error: &Error) -> (&'static str, Code) {
    match error {
        Error::NoWorkspace { .. } => ("no-workspace", Code::NO_WORKSPACE),
        Error::Location { .. } => ("workspace-unreadable", Code::NO_WORKSPACE),
        Error::Launch(_) | Error::Daemon(_) => ("daemon", Code::DAEMON),
        Error::Failed(failure) => failure_facts(failure),
        Error::Spawn { .. } | Error::Group { .. } => ("process", Code::FAILURE),
        Error::System { .. } => ("io", Code::FAILURE),
        Error::Invalid { .. } => ("usage", Code::USAGE),
    }
}

fn failure_facts(failure: &Failure) -> (&'static str, Code) {
    match failure {
        Failure::Version { .. } => ("version", Code::DAEMON),
        Failure::NoSuchBranch { .. } => ("no-such-branch", Code::NO_SUCH_BRANCH),
        Failure::Exists { .. } => ("exists", Code::FAILURE),
        Failure::NoSuchCheckpoint { .. } => ("no-such-checkpoint", Code::FAILURE),
        Failure::CheckpointExists { .. } => ("checkpoint-exists", Code::FAILURE),
        Failure::BadName { .. } => ("bad-name", Code::USAGE),
        Failure::Stale { .. } => ("stale", Code::STALE),
        Failure::HasChildren { .. } => ("has-children", Code::FAILURE),
        Failure::Conflicts { .. } => ("conflicts", Code::CONFLICTS),
        Failure::Busy { .. } => ("busy", Code::FAILURE),
        Failure::Cancelled => ("cancelled", Code::INTERRUPTED),
        Failure::NotAllowed { .. } => ("not-allowed", Code::FAILURE),
        Failure::Limit { .. } => ("limit", Code::FAILURE),
        Failure::Malformed { .. } => ("malformed", Code::FAILURE),
        Failure::Poisoned { .. } => ("poisoned", Code::FAILURE),
        Failure::Io { .. } => ("io", Code::FAILURE),
    }
}

fn core_hint(error: &Error) -> String {
    match error {
        Error::NoWorkspace { start } => match control_file(start) {
            Some(control) => format!(
                "this is a branch seen from within, as by 'run': 'echo commit > {0}' commits it ('echo abort' discards it); \
                 everything else is said outside",
                control.display()
            ),
            None => "run 'branchfs init' here to make one".into(),
        },
        Error::Location { path, .. } => {
            format!("check {}, or name another workspace with -C DIR", path.display())
        }
        Error::Launch(_) | Error::Spawn { .. } | Error::Group { .. } | Error::System { .. } => {
            "run 'branchfs doctor' to see what this machine lacks".into()
        }
        Error::Daemon(error) => daemon_hint(error),
        Error::Failed(failure) => failure_hint(failure),
        Error::Invalid { .. } => "see 'branchfs help'".into(),
    }
}

/// The control file of the branch that is shown here or above.
fn control_file(start: &Path) -> Option<PathBuf> {
    let name = OsStr::from_bytes(CONTROL_NAME);
    start.ancestors().map(|dir| dir.join(name)).find(|control| control.symlink_metadata().is_ok())
}

fn daemon_hint(error: &ClientError) -> String {
    match error {
        ClientError::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            "only the owner of the store and root can: run it as that user".into()
        }
        ClientError::Closed | ClientError::NotTaken | ClientError::Frame(_) => {
            "what was asked for has happened as a whole or not at all: look with 'branchfs list' and 'branchfs log', then \
             try again; the next command starts a new daemon"
                .into()
        }
        ClientError::Connect { .. }
        | ClientError::Version { .. }
        | ClientError::Failed(_)
        | ClientError::Mismatch { .. } => {
            "run 'branchfs stop' and try again: the next command starts a new daemon".into()
        }
    }
}

/// Of conflicts that the choices given left over.
fn undecided_hint(conflicts: &[Conflict]) -> String {
    let moved = |conflict: &&Conflict| conflict.kind == ConflictKind::RenameRename;
    match conflicts.iter().find(moved) {
        Some(moved) => format!(
            "nothing was changed: what both moved has two paths, and no choice is between them. To take theirs, move it \
             back to {0} in the branch and say --theirs={0}; to keep yours too, leave a copy under its new name",
            text::path(&moved.path)
        ),
        None => "nothing was changed: no choice was made for these paths, or none is possible there (what the branch needs \
                 is gone): change the branch there, then try again"
            .into(),
    }
}

fn failure_hint(failure: &Failure) -> String {
    match failure {
        Failure::Version { .. } => {
            "run 'branchfs stop': the next command starts a daemon of this version".into()
        }
        Failure::NoSuchBranch { .. } => "run 'branchfs list' to see the branches".into(),
        Failure::Exists { name } => format!("choose another name, or 'branchfs abort {name}' first"),
        Failure::NoSuchCheckpoint { branch, .. } => {
            format!("run 'branchfs checkpoint {branch} --list' to see its checkpoints")
        }
        Failure::CheckpointExists { branch, name } => {
            format!("choose another name, or 'branchfs checkpoint {branch} --delete {name}' first")
        }
        Failure::BadName { .. } => {
            "names are 1 to 255 of A-Z a-z 0-9 . _ - and begin with neither . nor -".into()
        }
        Failure::Stale { .. } => {
            "its sibling's changes are in the parent: fork again with 'branchfs create'".into()
        }
        Failure::HasChildren { name, .. } => {
            format!("commit or abort them first, or 'branchfs abort --cascade {name}'")
        }
        Failure::Conflicts { .. } => {
            "the branch is untouched: decide with --merge[=GLOB], --ours[=GLOB] or --theirs[=GLOB] (try --dry-run), or \
             abort it"
                .into()
        }
        Failure::Busy { .. } => "wait for it to finish, then try again".into(),
        Failure::Cancelled => "the branch and the base are as before: try again when you like".into(),
        Failure::NotAllowed { .. } => "see 'branchfs help'".into(),
        Failure::Limit { .. } => "ask for less at once".into(),
        Failure::Malformed { .. } => "run 'branchfs stop': the daemon may be of another version".into(),
        Failure::Poisoned { .. } => {
            "is its disk full or broken? Mend that, then run 'branchfs stop': the next command starts a daemon that goes on \
             from what is durable"
                .into()
        }
        Failure::Io { errno, .. } if *errno == libc::EDQUOT => {
            "nothing was changed: give the branch more with 'branchfs quota BRANCH SIZE', or remove what it does not need".into()
        }
        Failure::Io { .. } => "the daemon's log tells more: see 'branchfs status'".into(),
    }
}
