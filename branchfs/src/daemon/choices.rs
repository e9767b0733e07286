//! Who wins which conflicts: globs of a request as an answer to each conflict.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use branch_proto as wire;
use branch_proto::{Choices, Failure};
use branch_store::{Choice, Conflict, Merger};
use globset::GlobSet;

use super::globs::{check_number, set};
use crate::text_merge;

/// Choices, ready to be asked.
pub(super) struct Chooser {
    ours: GlobSet,
    theirs: GlobSet,
    merge: GlobSet,
    merger: Merger,
    rest: Choice,
}

impl Chooser {
    pub(super) fn new(choices: &Choices) -> Result<Chooser, Failure> {
        check_number(&[&choices.ours, &choices.theirs, &choices.merge])?;
        let merger = Merger(if choices.markers { text_merge::marked } else { text_merge::clean });
        let rest = match choices.rest {
            None => Choice::Refuse,
            Some(wire::Choice::Ours) => Choice::Ours,
            Some(wire::Choice::Theirs) => Choice::Theirs,
            Some(wire::Choice::Merge) => Choice::Merge(merger),
        };
        let [ours, theirs, merge] = [&choices.ours, &choices.theirs, &choices.merge].map(|globs| set(globs));
        Ok(Chooser { ours: ours?, theirs: theirs?, merge: merge?, merger, rest })
    }

    pub(super) fn choose(&self, conflict: &Conflict) -> Choice {
        let path = OsStr::from_bytes(&conflict.path);
        match [&self.ours, &self.theirs, &self.merge].map(|globs| globs.is_match(path)) {
            [true, false, false] => Choice::Ours,
            [false, true, false] => Choice::Theirs,
            [false, false, true] => Choice::Merge(self.merger),
            [false, false, false] => self.rest,
            _ => Choice::Refuse,
        }
    }
}

#[cfg(test)]
mod tests {
    use branch_store::{ConflictKind, Target};

    use super::*;

    fn conflict(path: &[u8]) -> Conflict {
        let (path, others, kind, target) = (path.to_vec(), vec![], ConflictKind::Content, Target::Base);
        Conflict { path, others, kind, target, unmerged: None, base: None, ours: None, theirs: None }
    }

    fn chooser(ours: &[&str], theirs: &[&str], rest: Option<branch_proto::Choice>) -> Chooser {
        let globs = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
        let (ours, theirs) = (globs(ours), globs(theirs));
        Chooser::new(&Choices { ours, theirs, rest, ..Choices::default() }).expect("globs")
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
    fn texts_are_merged_where_a_glob_says_so_and_nothing_else_does() {
        let merge = vec!["*.md".to_owned(), "src".to_owned()];
        let (ours, theirs) = (vec!["src/gen".to_owned()], vec!["x.md".to_owned()]);
        let rest = Some(branch_proto::Choice::Ours);
        let choices = Choices { ours, theirs, merge, rest, markers: false };
        let chooser = Chooser::new(&choices).expect("globs");
        let merger = Choice::Merge(Merger(text_merge::clean));
        let cases: &[(&[u8], Choice)] = &[
            (b"a.md", merger),
            (b"src/a", merger),
            (b"src/gen/a", Choice::Refuse),
            (b"x.md", Choice::Refuse),
            (b"other", Choice::Ours),
        ];
        for (path, choice) in cases {
            assert_eq!(chooser.choose(&conflict(path)), *choice, "{}", String::from_utf8_lossy(path));
        }
        let rest = Some(branch_proto::Choice::Merge);
        let marked = Chooser::new(&Choices { rest, markers: true, ..Choices::default() }).expect("no globs");
        assert_eq!(marked.choose(&conflict(b"other")), Choice::Merge(Merger(text_merge::marked)));
    }

    #[test]
    fn what_is_no_glob_is_named() {
        let choices = Choices { ours: vec!["a[".to_owned()], ..Choices::default() };
        let failure = Chooser::new(&choices).err().expect("no glob");
        assert!(failure.to_string().contains("'a['"), "{failure}");
    }
}
