//! Random histories of three branches of one parent: edits, commits whole and in part, conflicts decided every way,
//! text merged, rebases, undo and redo, checkpoints, restarts, and deaths in the middle of any of it. A model of plain
//! maps says what each step does, to the path; after each step everything is compared.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use branch_store::*;
use common::gate::Fuse;
use common::random::Random;
use common::{Paths, Workspace};

/// Files in two directories that are always there.
const PATHS: [&str; 8] = ["a", "b", "x/a", "x/b", "x/c", "y/a", "y/b", "y/c"];
const KEPT: [&str; 2] = ["x/kept", "y/kept"];
const BRANCHES: usize = 3;
/// Lines of a file. Each write changes one of them.
const LINES: usize = 4;
/// Deaths come at most so many calls after the beginning of a step.
const CALLS_MAX: usize = 90;

type Text = [u32; LINES];
type Files = BTreeMap<&'static str, Text>;

fn in_words(text: &Text) -> String {
    text.iter().map(|line| format!("{line}\n")).collect()
}

/// Line by line; none if both changed one, differently.
fn merged(base: &Text, ours: &Text, theirs: &Text) -> Option<Text> {
    let mut out = *theirs;
    for line in 0..LINES {
        match (ours[line] == base[line], theirs[line] == base[line]) {
            (true, _) => {}
            (false, true) => out[line] = ours[line],
            (false, false) if ours[line] == theirs[line] => {}
            (false, false) => return None,
        }
    }
    Some(out)
}

/// The same for the engine: files have the same number of lines.
fn merge_lines(texts: &Texts<'_>) -> std::result::Result<MergedText, String> {
    let lines = |bytes: &[u8]| -> Option<Text> {
        let text = std::str::from_utf8(bytes).ok()?;
        let lines: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        lines.try_into().ok()
    };
    let versions = (texts.base.and_then(lines), lines(texts.ours), lines(texts.theirs));
    let (Some(base), Some(ours), Some(theirs)) = versions else { return Err("no lines of ours".to_owned()) };
    let bytes = merged(&base, &ours, &theirs).map(|text| in_words(&text).into_bytes());
    bytes.map(|bytes| MergedText { bytes, markers: 0 }).ok_or_else(|| "both changed a line".to_owned())
}

#[derive(Debug, Clone)]
struct Line {
    name: String,
    fork: Files,
    now: Files,
    /// Steps of the parent that it has seen.
    epoch: usize,
}

#[derive(Debug, Clone)]
struct Model {
    parent: Files,
    /// Paths that each step of the parent touched.
    steps: Vec<BTreeSet<&'static str>>,
    lines: Vec<Line>,
    /// What the parent was before and after each commit that can be undone, and redone.
    done: Vec<(Files, Files)>,
    undone: Vec<(Files, Files)>,
}

/// What a step does.
enum Outcome {
    Done(Model),
    Refused,
    /// Either is right: the base was changed and changed back, or there is nothing left to take.
    Either(Model),
}

fn differing(one: &Files, other: &Files) -> BTreeSet<&'static str> {
    PATHS.into_iter().filter(|path| one.get(path) != other.get(path)).collect()
}

fn set(files: &mut Files, path: &'static str, text: Option<Text>) {
    match text {
        Some(text) => _ = files.insert(path, text),
        None => _ = files.remove(path),
    }
}

impl Model {
    fn step(&mut self, after: Files) {
        self.steps.push(differing(&self.parent, &after));
        self.parent = after;
    }

    fn touched_since(&self, epoch: usize) -> BTreeSet<&'static str> {
        self.steps[epoch..].iter().flatten().copied().collect()
    }

    /// The branch's files on the parent's, and whether a conflict that is none would be right, too.
    fn together(&self, line: &Line, choice: Choice) -> Option<(Files, bool)> {
        let mut out = self.parent.clone();
        let (mut conflict, mut maybe) = (false, false);
        let touched = self.touched_since(line.epoch);
        for path in differing(&line.fork, &line.now) {
            let sides = [&line.fork, &line.now, &self.parent].map(|files| files.get(path).copied());
            let [then, ours, theirs] = sides;
            if theirs == then && !touched.contains(path) {
                set(&mut out, path, ours);
                continue;
            }
            if ours == theirs {
                continue;
            }
            maybe |= theirs == then;
            match choice {
                Choice::Ours => set(&mut out, path, ours),
                Choice::Theirs => {}
                Choice::Merge(_) => match (then, ours, theirs) {
                    (Some(then), Some(ours), Some(theirs)) => match merged(&then, &ours, &theirs) {
                        Some(text) => set(&mut out, path, Some(text)),
                        None => conflict = true,
                    },
                    _ if theirs == then => set(&mut out, path, ours),
                    _ => conflict = true,
                },
                Choice::Refuse if theirs == then => set(&mut out, path, ours),
                Choice::Refuse => conflict = true,
            }
        }
        (!conflict).then_some((out, maybe))
    }

    fn commit(&self, at: usize, choice: Choice, is_main: bool) -> Outcome {
        let Some((after, maybe)) = self.together(&self.lines[at], choice) else { return Outcome::Refused };
        let mut model = self.clone();
        model.lines.remove(at);
        model.committed(after, is_main);
        if maybe { Outcome::Either(model) } else { Outcome::Done(model) }
    }

    fn committed(&mut self, after: Files, is_main: bool) {
        if is_main {
            self.done.push((self.parent.clone(), after.clone()));
            self.undone.clear();
        }
        self.step(after);
    }

    fn rebase(&self, at: usize, choice: Choice) -> Outcome {
        let Some((now, maybe)) = self.together(&self.lines[at], choice) else { return Outcome::Refused };
        let mut model = self.clone();
        let line = &mut model.lines[at];
        (line.fork, line.now, line.epoch) = (self.parent.clone(), now, self.steps.len());
        if maybe { Outcome::Either(model) } else { Outcome::Done(model) }
    }

    fn part(&self, at: usize, choice: Choice, selected: fn(&str) -> bool, is_main: bool) -> Outcome {
        let Some((now, maybe)) = self.together(&self.lines[at], choice) else { return Outcome::Refused };
        let mut after = self.parent.clone();
        let taken: Vec<&str> =
            differing(&self.parent, &now).into_iter().filter(|path| selected(path)).collect();
        for path in PATHS.into_iter().filter(|path| taken.contains(path)) {
            set(&mut after, path, now.get(path).copied());
        }
        // What both did equally may count as a change of the branch still.
        let both = differing(&self.lines[at].fork, &self.lines[at].now).into_iter().any(selected);
        let mut model = self.clone();
        model.committed(after, is_main);
        let steps = model.steps.len();
        let line = &mut model.lines[at];
        (line.fork, line.now, line.epoch) = (model.parent.clone(), now, steps);
        match (taken.is_empty(), both) {
            (true, false) => Outcome::Refused,
            (true, true) => Outcome::Either(model),
            (false, _) if maybe => Outcome::Either(model),
            (false, _) => Outcome::Done(model),
        }
    }

    fn turn(&self, back: bool) -> Outcome {
        let mut model = self.clone();
        let (from, to) = match back {
            true => (&mut model.done, &mut model.undone),
            false => (&mut model.undone, &mut model.done),
        };
        let Some((before, after)) = from.pop() else { return Outcome::Refused };
        to.push((before.clone(), after.clone()));
        model.step(if back { before } else { after });
        Outcome::Done(model)
    }
}

fn files_of(tree: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let files = tree.iter().filter(|(path, text)| text.starts_with("File") && !KEPT.contains(&path.as_str()));
    let body = |text: &String| text.splitn(4, ' ').nth(3).unwrap_or_default().to_owned();
    files.map(|(path, text)| (path.clone(), body(text))).collect()
}

fn shown(files: &Files) -> BTreeMap<String, String> {
    files.iter().map(|(path, text)| ((*path).to_owned(), in_words(text))).collect()
}

/// How the store differs from a model.
fn difference(w: &Workspace, parent: &str, model: &Model) -> Option<String> {
    let mut wrong: Vec<String> = Vec::new();
    let compare = |wrong: &mut Vec<String>, name: &str, real: BTreeMap<String, String>, files: &Files| {
        let wanted = shown(files);
        if real != wanted {
            wrong.push(format!("{name}: {real:?}, not {wanted:?}"));
        }
    };
    compare(&mut wrong, parent, files_of(&w.branch(parent).tree()), &model.parent);
    if parent == "main" {
        compare(&mut wrong, "base", files_of(&w.base_tree()), &model.parent);
    }
    let mut live: Vec<String> = w.store().branches().iter().map(|branch| branch.name().to_owned()).collect();
    live.retain(|name| name.starts_with("line"));
    for line in &model.lines {
        match w.store().branch(&line.name) {
            Ok(branch) => compare(&mut wrong, &line.name, files_of(&branch.tree()), &line.now),
            Err(e) => wrong.push(format!("{}: {e}", line.name)),
        }
        live.retain(|name| *name != line.name);
    }
    if !live.is_empty() {
        wrong.push(format!("more than there should be: {live:?}"));
    }
    (!wrong.is_empty()).then(|| wrong.join("\n"))
}

struct Run<'l> {
    w: Workspace,
    parent: &'static str,
    model: Model,
    random: Random,
    next: u32,
    log: &'l mut Vec<String>,
}

impl Run<'_> {
    fn fork(&mut self) {
        self.next += 1;
        let name = format!("line{}", self.next);
        self.w.fork_as(self.parent, &[&name], GroupKind::Independent);
        self.log.push(format!("fork {name}"));
        let (files, epoch) = (self.model.parent.clone(), self.model.steps.len());
        self.model.lines.push(Line { name, fork: files.clone(), now: files, epoch });
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
        self.log.push(format!("{} {path} {text:?}", line.name));
        match &text {
            Some(text) => branch.put(path, &in_words(text)).unwrap(),
            None => branch.remove(path).unwrap(),
        }
        set(&mut line.now, path, text);
    }

    /// Where the base was changed and changed back, "theirs" says one thing if that is a conflict and another if it is
    /// none.
    fn is_ambiguous(&self, line: &Line) -> bool {
        let touched = self.model.touched_since(line.epoch);
        let changed = differing(&line.fork, &line.now);
        changed
            .iter()
            .any(|path| touched.contains(path) && self.model.parent.get(path) == line.fork.get(path))
    }

    fn choice(&mut self, at: usize) -> Choice {
        match self.random.below(4) {
            1 if self.is_ambiguous(&self.model.lines[at]) => Choice::Ours,
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

    /// A step of the whole, maybe the last of this process.
    fn act(&mut self) {
        let is_main = self.parent == "main";
        let at = self.random.below(self.model.lines.len());
        let name = self.model.lines[at].name.clone();
        let choice = self.choice(at);
        let selected = self.selection();
        let kind = self.random.below(if is_main { 12 } else { 8 });
        let outcome = match kind {
            0..=2 => self.model.commit(at, choice, is_main),
            3 | 4 => self.model.rebase(at, choice),
            5..=7 => self.model.part(at, choice, selected, is_main),
            8 | 9 => self.model.turn(true),
            _ => self.model.turn(false),
        };
        let death = (self.random.below(4) == 0).then(|| self.random.below(CALLS_MAX));
        let what = [
            "commit", "commit", "commit", "rebase", "rebase", "part", "part", "part", "undo", "undo", "redo",
            "redo",
        ][kind];
        self.log.push(format!("{what} {name} {} death {death:?}", word(choice)));
        let fuse = Fuse::counting();
        if let Some(calls) = death {
            self.w.reopen_on(Disk::guarded(fuse.clone())).unwrap();
            fuse.set(calls as u64);
        }
        let store = self.w.store();
        let branch = store.branch(&name).unwrap();
        let resolver = |_: &Conflict| choice;
        let selector = |path: &[u8]| std::str::from_utf8(path).is_ok_and(selected);
        let result = match what {
            "commit" => store.commit_with(&branch, &resolver).map(drop),
            "rebase" => store.rebase(&branch, &resolver).map(drop),
            "part" => store.commit_part(&branch, &resolver, &selector).map(drop),
            "undo" => store.undo().map(drop),
            _ => store.redo().map(drop),
        };
        drop(branch);
        let died = death.is_some_and(|calls| fuse.calls() > calls as u64);
        if death.is_some() {
            self.w.reopen();
        }
        self.settle(result, outcome, died);
    }

    fn settle(&mut self, result: Result<()>, outcome: Outcome, died: bool) {
        let refused =
            |e: &Error| matches!(e, Error::Conflicts(_) | Error::NothingSelected | Error::NotAllowed(_));
        match (result, outcome) {
            (Ok(()), Outcome::Done(model) | Outcome::Either(model)) => self.model = model,
            (Err(e), Outcome::Refused | Outcome::Either(_)) if refused(&e) && !died => {}
            (Err(_), Outcome::Done(model) | Outcome::Either(model)) if died => {
                // All or nothing.
                if difference(&self.w, self.parent, &self.model).is_some() {
                    self.model = model;
                }
            }
            (Err(_), Outcome::Refused) if died => {}
            (result, outcome) => {
                let wanted = match outcome {
                    Outcome::Done(_) => "done",
                    Outcome::Refused => "refused",
                    Outcome::Either(_) => "either",
                };
                panic!("{result:?}, not {wanted} (died: {died})");
            }
        }
    }

    fn check(&self) {
        if let Some(wrong) = difference(&self.w, self.parent, &self.model) {
            panic!("{wrong}");
        }
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

fn one_run(seed: u64, steps: usize, log: &mut Vec<String>) {
    let mut random = Random(seed);
    let mut model = Model {
        parent: Files::new(),
        steps: Vec::new(),
        lines: Vec::new(),
        done: Vec::new(),
        undone: Vec::new(),
    };
    for (number, path) in PATHS.into_iter().enumerate().filter(|(number, _)| number % 2 == 0) {
        model.parent.insert(path, [number as u32; LINES]);
    }
    let texts: Vec<(&str, String)> =
        model.parent.iter().map(|(path, text)| (*path, in_words(text))).collect();
    let mut files: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (*path, text.as_str())).collect();
    files.extend(KEPT.map(|path| (path, "")));
    let w = Workspace::new(&files);
    w.fork("main", "parent");
    let parent = ["main", "main", "parent"][random.below(3)];
    let mut run = Run { w, parent, model, random, next: 100, log };
    for _ in 0..steps {
        while run.model.lines.len() < BRANCHES {
            run.fork();
        }
        match run.random.below(10) {
            0..=5 => run.edit(),
            6 if run.random.below(3) == 0 => {
                run.log.push("checkpoint".into());
                run.w.store().checkpoint().unwrap();
            }
            6 => {
                run.log.push("restart".into());
                run.w.reopen();
            }
            _ => run.act(),
        }
        run.check();
    }
}

#[test]
fn histories_of_three_branches_are_what_a_model_says() {
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (first, rounds): (u64, u64) = (number("BRANCHFS_SEED", 1), number("BRANCHFS_ROUNDS", 200));
    let steps = 60;
    for seed in first..first + rounds {
        let mut log = Vec::new();
        let run = std::panic::AssertUnwindSafe(|| one_run(seed, steps, &mut log));
        if let Err(cause) = std::panic::catch_unwind(run) {
            println!("{}", log.join("\n"));
            println!("seed {seed} failed; BRANCHFS_SEED={seed} BRANCHFS_ROUNDS=1 repeats it");
            std::panic::resume_unwind(cause);
        }
    }
    println!("{rounds} histories of {steps} steps");
}
