//! What each preset has to answer to each attempt.

use branch_proc::Preset;

use crate::attempts::{Answer, Places, tell_all};
use crate::ground::Ground;
use crate::{calls, files};

/// One thing to try.
pub(crate) struct Attempt {
    pub(crate) name: &'static str,
    pub(crate) make: fn(&Places) -> Result<(), i32>,
    /// Whether analyze, edit, build, deploy allow it.
    pub(crate) allowed: [bool; 4],
}

/// Nobody is asked about these: the kernel's rules for other things than paths and calls deny them.
const SILENT: [&str; 8] = [
    "signal the init",
    "become another user",
    "take more than one's share of the processor",
    "read the init's environment",
    "read through the init's root",
    "an abstract socket outside",
    "a child whose flags cannot be looked at",
    "call as a 32-bit program",
];

/// A row of the table: 1 is allowed, 0 is denied.
pub(crate) const fn attempt(
    name: &'static str,
    allowed: [u8; 4],
    make: fn(&Places) -> Result<(), i32>,
) -> Attempt {
    let [analyze, edit, build, deploy] = allowed;
    Attempt { name, make, allowed: [analyze == 1, edit == 1, build == 1, deploy == 1] }
}

impl Attempt {
    /// Whether an answer is one of those that a denial gives.
    pub(crate) fn denied_by(&self, answer: Answer) -> bool {
        is_denial(answer)
    }

    pub(crate) fn is_silent(&self) -> bool {
        SILENT.contains(&self.name)
    }
}

pub(crate) fn is_denial(answer: Answer) -> bool {
    [libc::EACCES, libc::EPERM, libc::EROFS, libc::EXDEV].contains(&answer)
}

/// All attempts.
pub(crate) fn expectations() -> Vec<Attempt> {
    let mut attempts = files::attempts();
    attempts.extend(calls::attempts());
    attempts
}

pub(crate) fn check(preset: Preset) {
    let Some(ground) = Ground::new() else { return };
    let (answers, captured) = tell_all(ground.command().policy(ground.policy(preset)));
    let column = Preset::ALL.iter().position(|one| *one == preset).unwrap();
    let mut wrong = Vec::new();
    for attempt in expectations() {
        let answer = answers[attempt.name];
        let as_expected = if attempt.allowed[column] { answer == 0 } else { attempt.denied_by(answer) };
        if !as_expected {
            wrong.push(format!("{}: allowed is {}, answer {answer}", attempt.name, attempt.allowed[column]));
        }
    }
    assert!(wrong.is_empty(), "{preset}:\n{}", wrong.join("\n"));
    let words = |denial: &branch_proc::Denial| !denial.words.is_empty() && !denial.rule.is_empty();
    assert!(
        captured.outcome.denials.len() > 40 && captured.outcome.denials.iter().all(words),
        "{:?}",
        captured.outcome.denials
    );
}
