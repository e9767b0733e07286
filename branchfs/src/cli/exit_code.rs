//! Exit codes: the one table. `docs/cli.md` mirrors it, and a test compares the two.

use std::process::ExitCode;

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code(pub(super) u8);

impl Code {
    pub(super) const OK: Code = Code(0);
    pub(super) const FAILURE: Code = Code(1);
    pub(super) const USAGE: Code = Code(2);
    pub(super) const NO_WORKSPACE: Code = Code(3);
    pub(super) const NO_SUCH_BRANCH: Code = Code(4);
    pub(super) const STALE: Code = Code(5);
    pub(super) const CONFLICTS: Code = Code(6);
    pub(super) const DAEMON: Code = Code(7);
    pub(super) const NO_WINNER: Code = Code(8);
    pub(super) const TIMEOUT: Code = Code(124);
    pub(super) const CANNOT_EXECUTE: Code = Code(126);
    pub(super) const NOT_FOUND: Code = Code(127);
    pub(super) const INTERRUPTED: Code = Code(130);
}

/// Every code with its meaning. `run` passes the code of its command through instead.
pub(super) const TABLE: &[(Code, &str)] = &[
    (Code::OK, "done"),
    (Code::FAILURE, "failed, for a reason without a code of its own"),
    (Code::USAGE, "wrong usage"),
    (Code::NO_WORKSPACE, "no workspace here or above"),
    (Code::NO_SUCH_BRANCH, "no such branch"),
    (Code::STALE, "the branch is stale: a sibling committed first"),
    (Code::CONFLICTS, "the commit conflicts with changes of the parent"),
    (Code::DAEMON, "the daemon cannot be reached or started"),
    (Code::NO_WINNER, "explore: no attempt succeeded"),
    (Code::TIMEOUT, "run: the time was up"),
    (Code::CANNOT_EXECUTE, "run: the command cannot be executed"),
    (Code::NOT_FOUND, "run: the command was not found"),
    (Code::INTERRUPTED, "interrupted by Ctrl-C"),
];

/// The table for `--help`.
pub(super) fn help() -> String {
    let rows = TABLE.iter().map(|(code, meaning)| format!("  {:>3}  {meaning}\n", code.0));
    format!("Exit codes:\n{}Run passes the exit code of its command through.", rows.collect::<String>())
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> ExitCode {
        ExitCode::from(code.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_code_has_two_meanings() {
        for (i, (code, _)) in TABLE.iter().enumerate() {
            assert!(TABLE[..i].iter().all(|(earlier, _)| earlier != code), "{code:?} twice");
        }
    }

    #[test]
    fn the_documentation_holds_every_row() {
        let docs = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md"));
        for (code, meaning) in TABLE {
            let row = format!("| {} | {meaning} |", code.0);
            assert!(docs.contains(&row), "docs/cli.md lacks: {row}");
        }
    }
}
