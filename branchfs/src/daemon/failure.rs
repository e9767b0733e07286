//! Errors of the engine as failures on the wire, and failures as errno for control files. One place each.

use std::io;

use branch_proto::Failure;
use branch_store::Error;
use rustix::io::Errno;

use super::wire_types::conflict;
use crate::patch;

/// What a client is told. The last arm is for what cannot come from a verb on an open store, or is new.
pub(super) fn of_store(error: Error) -> Failure {
    match error {
        Error::NoSuchBranch(name) | Error::Ended(name) => Failure::NoSuchBranch { name },
        Error::BranchExists(name) => Failure::Exists { name },
        Error::BadBranchName { name, reason } => Failure::BadName { name, reason: reason.to_owned() },
        Error::NoSuchMark { branch, name } => Failure::NoSuchCheckpoint { branch, name },
        Error::MarkExists { branch, name } => Failure::CheckpointExists { branch, name },
        Error::Stale(name) => Failure::Stale { name },
        Error::HasChildren { name, children } => Failure::HasChildren { name, children },
        Error::Busy(name) => Failure::Busy { name, reason: "it is being committed".to_owned() },
        Error::Attached(names) => Failure::Busy {
            name: names.join("', '"),
            reason: "its processes write to a native view, under which the base does not change: wait for them, or \
                     'branchfs kill' them"
                .to_owned(),
        },
        Error::Conflicts(conflicts) => {
            Failure::Conflicts { conflicts: conflicts.into_iter().map(conflict).collect() }
        }
        Error::Cancelled => Failure::Cancelled,
        Error::NotAllowed(reason) => Failure::NotAllowed { reason: reason.to_owned() },
        no @ (Error::NotKept { .. } | Error::Inseparable { .. } | Error::NothingSelected) => {
            Failure::NotAllowed { reason: no.to_string() }
        }
        poisoned @ (Error::Unfinished { .. } | Error::Poisoned) => {
            Failure::Poisoned { errno: poisoned.errno().raw_os_error(), detail: poisoned.to_string() }
        }
        limit @ Error::Limit { .. } => Failure::Limit { reason: limit.to_string() },
        other => Failure::Io { errno: other.errno().raw_os_error(), detail: other.to_string() },
    }
}

/// A patch that is not whole.
pub(super) fn of_patch(error: patch::Error) -> Failure {
    match error {
        patch::Error::Side { path, source: Error::Posix(errno) } => {
            let cause = io::Error::from(errno);
            Failure::Io { errno: errno.raw_os_error(), detail: format!("reading {path}: {cause}") }
        }
        patch::Error::Side { path: _, source } => of_store(source),
        long @ patch::Error::TooLong { .. } => Failure::Limit { reason: long.to_string() },
        patch::Error::Output(error) => of_io("writing the patch", &error),
    }
}

/// A step of ours that the operating system refused.
pub(super) fn of_io(step: &str, error: &io::Error) -> Failure {
    Failure::Io { errno: error.raw_os_error().unwrap_or(0), detail: format!("{step}: {error}") }
}

/// A stop that did not go well.
pub(super) fn of_stop(error: &super::error::Error) -> Failure {
    Failure::Io { errno: 0, detail: error.to_string() }
}

/// What a control file answers, the same numbers as [`Error::errno`].
pub(super) fn errno(failure: &Failure) -> Errno {
    Errno::from_raw_os_error(failure.errno())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_file_answers_the_errno_the_engine_names() {
        let errors: Vec<fn() -> Error> = vec![
            || Error::NoSuchBranch("b".into()),
            || Error::BranchExists("b".into()),
            || Error::NoSuchMark { branch: "b".into(), name: "m".into() },
            || Error::MarkExists { branch: "b".into(), name: "m".into() },
            || Error::Stale("b".into()),
            || Error::HasChildren { name: "b".into(), children: vec!["c".into()] },
            || Error::Busy("b".into()),
            || Error::Attached(vec!["b".into()]),
            || Error::Conflicts(vec![]),
            || Error::Cancelled,
            || Error::NotAllowed("no"),
            || Error::Limit { what: "branches", max: 1 },
            || Error::Posix(Errno::DQUOT),
            || Error::Poisoned,
            || Error::Unfinished { commit: 1, cause: Box::new(Error::Posix(Errno::NOSPC)) },
        ];
        for error in errors {
            assert_eq!(errno(&of_store(error())), error().errno(), "{:?}", error());
        }
    }
}
