//! What to do where a branch and its parent meet: the options of all verbs that can find conflicts.

use std::io::{self, Write};

use branch_core::{Choice, Choices, Failure, Resolved};

use super::error::CliError;
use super::text;

/// Who wins conflicts.
#[derive(Debug, clap::Args)]
pub(super) struct Decisions {
    /// In a conflict the branch wins: on paths that match GLOB, or wherever nothing else is said
    #[arg(long, value_name = "GLOB", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    ours: Vec<String>,
    /// In a conflict the parent wins: the branch's change of that path is dropped
    #[arg(long, value_name = "GLOB", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    theirs: Vec<String>,
    /// The branch wins every conflict that it can win; the same as --ours
    #[arg(long)]
    force: bool,
    /// In a conflict of two changes of a text both are kept: on paths that match GLOB, or wherever nothing else is said
    #[arg(long, value_name = "GLOB", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    merge: Vec<String>,
    /// Where both changed the same lines, write both versions into the file, between conflict markers
    #[arg(long, requires = "merge")]
    markers: bool,
}

impl Decisions {
    /// An option without a glob is for the rest.
    pub(super) fn choices(self) -> Result<Choices, CliError> {
        let bare = |globs: &[String]| globs.iter().any(String::is_empty);
        let rest = match (self.force || bare(&self.ours), bare(&self.theirs), bare(&self.merge)) {
            (false, false, false) => None,
            (true, false, false) => Some(Choice::Ours),
            (false, true, false) => Some(Choice::Theirs),
            (false, false, true) => Some(Choice::Merge),
            _ => {
                return Err(CliError::Usage {
                    reason:
                        "on the paths that no glob names, only one of --ours, --theirs and --merge can be"
                            .into(),
                    hint: "give all but one of them a glob, as in --theirs='*.lock'".into(),
                });
            }
        };
        let globs = |globs: Vec<String>| globs.into_iter().filter(|glob| !glob.is_empty()).collect();
        let (ours, theirs, merge) = (globs(self.ours), globs(self.theirs), globs(self.merge));
        Ok(Choices { ours, theirs, merge, markers: self.markers, rest })
    }
}

/// The error where choices were made and did not decide everything.
pub(super) fn undecided(choices: &Choices, error: branch_core::Error) -> CliError {
    match error.failure() {
        Some(Failure::Conflicts { .. }) if *choices != Choices::default() => CliError::Undecided(error),
        _ => error.into(),
    }
}

/// Who won what.
pub(super) fn decided(out: &mut dyn Write, resolved: &[Resolved]) -> io::Result<()> {
    for Resolved { path, choice, markers, .. } in resolved {
        let what = match (choice, markers) {
            (Choice::Ours, _) => "ours wins".to_owned(),
            (Choice::Theirs, _) => "theirs wins".to_owned(),
            (Choice::Merge, 0) => "merged".to_owned(),
            (Choice::Merge, n) => format!("merged, with {}", text::count(*n, "marked conflict")),
        };
        writeln!(out, "  {what}: {}", text::path(path))?;
    }
    Ok(())
}
