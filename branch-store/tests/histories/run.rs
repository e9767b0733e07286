//! One history: random steps in the store and in the model, some of them the last of their process.

use std::collections::BTreeMap;
use std::sync::Arc;

use branch_store::*;

use crate::common::gate::Fuse;
use crate::common::random::Random;
use crate::common::{Paths, Workspace};
use crate::model::{Files, LINES, Line, Model, Outcome, PATHS, in_words, merge_lines, set};
use crate::seen::{KEPT, difference, marks_of};

const BRANCHES: usize = 3;
/// Marks that a branch has at most, but for the restore's own.
const MARKS: [&str; 2] = ["one", "two"];

/// What was done, and how it ended: step to number.
pub type Tally = BTreeMap<String, u64>;

pub struct Run<'l> {
    w: Workspace,
    parent: &'static str,
    model: Model,
    random: Random,
    next: u32,
    log: &'l mut Vec<String>,
    tally: &'l mut Tally,
}

impl<'l> Run<'l> {
    pub fn new(seed: u64, log: &'l mut Vec<String>, tally: &'l mut Tally) -> Run<'l> {
        let mut random = Random(seed);
        let numbered = PATHS.into_iter().enumerate().filter(|(number, _)| number % 2 == 0);
        let files: Files = numbered.map(|(number, path)| (path, [number as u32; LINES])).collect();
        let texts: Vec<(&str, String)> = files.iter().map(|(path, text)| (*path, in_words(text))).collect();
        let mut given: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (*path, text.as_str())).collect();
        given.extend(KEPT.map(|path| (path, "")));
        let w = Workspace::new(&given);
        w.fork("main", "parent");
        let parent = ["main", "main", "parent"][random.below(3)];
        Run { w, parent, model: Model::of(files), random, next: 100, log, tally }
    }

    pub fn step(&mut self) {
        while self.model.lines.len() < BRANCHES {
            self.fork();
        }
        match self.random.below(12) {
            0..=5 => self.edit(),
            6 if self.random.below(3) == 0 => {
                self.note("checkpoint of the store", "");
                self.w.store().checkpoint().unwrap();
            }
            6 => {
                self.note("restart", "");
                self.w.reopen();
            }
            7 | 8 => self.mark_or_restore(),
            _ => self.act(),
        }
        if let Some(wrong) = difference(&self.w, self.parent, &self.model) {
            panic!("{wrong}");
        }
    }

    fn note(&mut self, what: &str, more: &str) {
        *self.tally.entry(what.to_owned()).or_default() += 1;
        self.log.push(format!("{what} {more}"));
    }

    fn fork(&mut self) {
        self.next += 1;
        let name = format!("line{}", self.next);
        self.w.fork_as(self.parent, &[&name], GroupKind::Independent);
        self.note("fork", &name);
        let (files, epoch) = (self.model.parent.clone(), self.model.steps.len());
        let marks = BTreeMap::new();
        self.model.lines.push(Line { name, fork: files.clone(), now: files, epoch, marks });
    }

    fn edit(&mut self) {
        let at = self.random.below(self.model.lines.len());
        let path = PATHS[self.random.below(PATHS.len())];
        self.next += 1;
        let line = &mut self.model.lines[at];
        let branch = self.w.branch(&line.name);
        let text = match line.now.get(path) {
            Some(_) if self.random.below(4) == 0 => None,
            Some(old) => {
                let mut text = *old;
                text[self.random.below(LINES)] = self.next;
                Some(text)
            }
            None => Some([self.next; LINES]),
        };
        match &text {
            Some(text) => branch.put(path, &in_words(text)).unwrap(),
            None => branch.remove(path).unwrap(),
        }
        set(&mut line.now, path, text);
        let more = format!("{} {path} {text:?}", line.name);
        self.note("edit", &more);
    }

    fn choice(&mut self, at: usize) -> Choice {
        match self.random.below(4) {
            1 if self.model.is_ambiguous(&self.model.lines[at]) => Choice::Ours,
            0 => Choice::Ours,
            1 => Choice::Theirs,
            2 => Choice::Merge(Merger(merge_lines)),
            _ => Choice::Refuse,
        }
    }

    fn selection(&mut self) -> fn(&str) -> bool {
        [
            |path: &str| path.starts_with('x'),
            |path: &str| !path.starts_with('y'),
            |path: &str| path.ends_with('a'),
        ][self.random.below(3)]
    }

    /// Something with a branch, a quarter of the time ended by a death at some call; whether it was.
    fn carry_out<T>(
        &mut self,
        name: &str,
        (what, more): (&str, &str),
        act: impl FnOnce(&Store, &Arc<Branch>) -> Result<T>,
    ) -> (Result<T>, bool) {
        let death = (self.random.below(4) == 0).then(|| self.random.below(calls_max(what)));
        self.log.push(format!("{what} {name} {more} death {death:?}"));
        let fuse = Fuse::counting();
        if let Some(calls) = death {
            self.w.reopen_on(Disk::guarded(fuse.clone())).unwrap();
            fuse.set(calls as u64);
        }
        let branch = self.w.branch(name);
        let result = act(self.w.store(), &branch);
        drop(branch);
        let died = death.is_some_and(|calls| fuse.calls() > calls as u64);
        if death.is_some() {
            self.w.reopen();
        }
        let how = match &result {
            _ if died => "died",
            Ok(_) => "done",
            Err(_) => "refused",
        };
        *self.tally.entry(format!("{what} {how}")).or_default() += 1;
        (result, died)
    }

    /// Between a branch and its parent.
    fn act(&mut self) {
        let is_main = self.parent == "main";
        let at = self.random.below(self.model.lines.len());
        let name = self.model.lines[at].name.clone();
        let choice = self.choice(at);
        let selected = self.selection();
        let kinds = ["commit", "rebase", "part", "commit", "rebase", "part", "part", "undo", "redo", "undo"];
        let what = kinds[self.random.below(if is_main { kinds.len() } else { 7 })];
        let outcome = match what {
            "commit" => self.model.commit(at, choice, is_main),
            "rebase" => self.model.rebase(at, choice),
            "part" => self.model.part(at, choice, selected, is_main),
            _ => self.model.turn(what == "undo"),
        };
        let resolver = |_: &Conflict| choice;
        let selector = |path: &[u8]| std::str::from_utf8(path).is_ok_and(selected);
        let commits = self.commits();
        let (result, died) = self.carry_out(&name, (what, word(choice)), |store, branch| match what {
            "commit" => store.commit_with(branch, &resolver).map(|_| true),
            "rebase" => store.rebase(branch, &resolver).map(|done| done.moved),
            "part" => store.commit_part(branch, &resolver, &selector).map(|_| true),
            "undo" => store.undo().map(|_| true),
            _ => store.redo().map(|_| true),
        });
        let is_refusal =
            |e: &Error| matches!(e, Error::Conflicts(_) | Error::NothingSelected | Error::NotAllowed(_));
        match (result, outcome) {
            (Ok(moved), Outcome::Done(mut model) | Outcome::Either(mut model)) => {
                if !moved {
                    assert_eq!(self.model.parent, self.model.lines[at].fork, "{name} should have moved");
                    model.lines[at].marks = self.model.lines[at].marks.clone();
                }
                let nothing = is_main && what == "commit" && self.commits() == commits;
                self.model = if nothing { model.not_logged(&self.model) } else { model };
            }
            (Err(_), Outcome::Done(model) | Outcome::Either(model)) if died => {
                self.after_death(model, &name, (what, choice), self.commits() > commits);
            }
            (Err(_), Outcome::Refused) if died => {}
            (Err(e), Outcome::Refused | Outcome::Either(_)) if is_refusal(&e) => {}
            (result, outcome) => panic!("{result:?}, not {outcome:?} (died: {died})"),
        }
    }

    /// All or nothing. Where both look alike, the log or another rebase tells.
    fn after_death(&mut self, model: Model, name: &str, (what, choice): (&str, Choice), is_logged: bool) {
        let before = difference(&self.w, self.parent, &self.model);
        let done = match (before, difference(&self.w, self.parent, &model)) {
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(one), Some(other)) => panic!("neither\n{one}\nnor\n{other}"),
            (None, None) if self.parent == "main" && what != "rebase" => is_logged,
            (None, None) => {
                let branch = self.w.branch(name);
                let again = self.w.store().rebase(&branch, &|_| choice);
                assert!(matches!(again, Ok(_) | Err(Error::Conflicts(_))), "{again:?}");
                again.is_ok()
            }
        };
        if done {
            let nothing = self.parent == "main" && what == "commit" && !is_logged;
            self.model = if nothing { model.not_logged(&self.model) } else { model };
        }
    }

    /// Commits into the base so far.
    fn commits(&self) -> u64 {
        self.w.store().usage().unwrap().commits
    }

    /// Within a branch.
    fn mark_or_restore(&mut self) {
        let at = self.random.below(self.model.lines.len());
        let line = self.model.lines[at].clone();
        let mark = MARKS[self.random.below(MARKS.len())];
        let has_it = line.marks.contains_key(mark);
        let mut after = line.clone();
        let (what, mark) = match self.random.below(5) {
            0 if has_it => ("unmark", mark),
            1 if line.marks.contains_key(BEFORE_RESTORE) => ("restore", BEFORE_RESTORE),
            _ if has_it => ("restore", mark),
            _ => ("mark", mark),
        };
        match what {
            "mark" => _ = after.marks.insert(mark.to_owned(), line.now.clone()),
            "unmark" => _ = after.marks.remove(mark),
            _ => after.now = line.marks[mark].clone(),
        }
        let (result, died) = self.carry_out(&line.name, (what, mark), |store, branch| match what {
            "mark" => store.mark(branch, Some(mark)).map(drop),
            "unmark" => store.unmark(branch, mark),
            _ => store.restore(branch, mark, &|_| false).map(drop),
        });
        assert!(result.is_ok() || died, "{result:?}");
        // Whether a restore saved what was there is the store's business: it must not be lost.
        let marks = marks_of(&self.w.branch(&line.name));
        if what == "restore" && marks.iter().any(|mark| mark == BEFORE_RESTORE) {
            let kept = [line.now.clone()].into_iter().chain(line.marks.get(BEFORE_RESTORE).cloned());
            for saved in kept {
                after.marks.insert(BEFORE_RESTORE.to_owned(), saved);
                self.model.lines[at] = after.clone();
                if difference(&self.w, self.parent, &self.model).is_none() {
                    break;
                }
            }
        }
        self.model.lines[at] = after;
        if died && difference(&self.w, self.parent, &self.model).is_some() {
            self.model.lines[at] = line;
            return;
        }
        let lost = what == "restore" && !self.model.lines[at].marks.values().any(|files| *files == line.now);
        assert!(!lost, "what {} was before its restore is nowhere", line.name);
    }
}

fn word(choice: Choice) -> &'static str {
    match choice {
        Choice::Ours => "ours",
        Choice::Theirs => "theirs",
        Choice::Merge(_) => "merge",
        Choice::Refuse => "refuse",
    }
}

/// Deaths come at most so many calls after the beginning of a step: about as many as it has.
fn calls_max(what: &str) -> usize {
    match what {
        "mark" | "unmark" | "restore" => 2,
        "rebase" => 10,
        _ => 90,
    }
}
