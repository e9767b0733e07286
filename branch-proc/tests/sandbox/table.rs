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

/// The attempts whose denial is not told, and why not.
const SILENT: [(&str, &str); 4] = [
    (
        "become another user",
        "as for any ordinary user: a missing capability, which no rule of a policy is about",
    ),
    ("take more than one's share of the processor", "as for any ordinary user: a missing capability"),
    (
        "a child whose flags cannot be looked at",
        "clone3 is answered with \"there is no such call\", upon which every C library uses clone: nothing is refused",
    ),
    (
        "call as a 32-bit program",
        "answered by the filter itself: the numbers of such calls mean others to who looks",
    ),
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
        SILENT.iter().any(|(name, _)| *name == self.name)
    }
}

/// What is listed as silent.
pub(crate) fn silent() -> impl Iterator<Item = &'static str> {
    SILENT.into_iter().map(|(name, _)| name)
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
