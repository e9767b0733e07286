//! Who wins which conflicts: globs of a request as an answer to each conflict.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use branch_proto::{Choices, Failure};
use branch_store::{Choice, Conflict};
use globset::GlobSet;

use super::globs::{check_number, set};
use super::wire_types::to_choice;

/// Choices, ready to be asked.
pub(super) struct Chooser {
    ours: GlobSet,
    theirs: GlobSet,
    rest: Choice,
}

impl Chooser {
    pub(super) fn new(choices: &Choices) -> Result<Chooser, Failure> {
        check_number(&[&choices.ours, &choices.theirs])?;
        Ok(Chooser {
            ours: set(&choices.ours)?,
            theirs: set(&choices.theirs)?,
            rest: choices.rest.map_or(Choice::Refuse, to_choice),
        })
    }

    pub(super) fn choose(&self, conflict: &Conflict) -> Choice {
        let path = OsStr::from_bytes(&conflict.path);
        match (self.ours.is_match(path), self.theirs.is_match(path)) {
            (true, false) => Choice::Ours,
            (false, true) => Choice::Theirs,
            (true, true) => Choice::Refuse,
            (false, false) => self.rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use branch_store::{ConflictKind, Target};

    use super::*;

    fn conflict(path: &[u8]) -> Conflict {
        let (path, others, kind, target) = (path.to_vec(), vec![], ConflictKind::Content, Target::Base);
        Conflict { path, others, kind, target, base: None, ours: None, theirs: None }
    }

    fn chooser(ours: &[&str], theirs: &[&str], rest: Option<branch_proto::Choice>) -> Chooser {
        let globs = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
        Chooser::new(&Choices { ours: globs(ours), theirs: globs(theirs), rest }).expect("globs")
    }

    #[test]
    fn the_side_that_a_glob_names_wins_and_both_is_neither() {
        let chooser = chooser(&["src", "*.lock"], &["doc/**/*.md", "src/gen/?"], None);
        let cases: &[(&[u8], Choice)] = &[
            (b"src", Choice::Ours),
            (b"src/deep/er", Choice::Ours),
            (b"Cargo.lock", Choice::Ours),
            (b"sub/Cargo.lock", Choice::Refuse),
            (b"doc/a.md", Choice::Theirs),
            (b"doc/x/y/a.md", Choice::Theirs),
            (b"src/gen/a", Choice::Refuse),
            (b"other", Choice::Refuse),
        ];
        for (path, choice) in cases {
            assert_eq!(chooser.choose(&conflict(path)), *choice, "{}", String::from_utf8_lossy(path));
        }
    }

    #[test]
    fn what_no_glob_names_is_left_to_the_rest_also_where_it_is_no_text() {
        let chooser = chooser(&[], &["*\\*"], Some(branch_proto::Choice::Ours));
        assert_eq!(chooser.choose(&conflict(b"\xff")), Choice::Ours);
        assert_eq!(chooser.choose(&conflict(b"\xff*")), Choice::Theirs);
    }

    #[test]
    fn what_is_no_glob_is_named() {
        let choices = Choices { ours: vec!["a[".to_owned()], ..Choices::default() };
        let failure = Chooser::new(&choices).err().expect("no glob");
        assert!(failure.to_string().contains("'a['"), "{failure}");
    }
}
