//! What base and branches hold, in plain maps, and what each step makes of them: the rules of S14, to the path.

use std::collections::{BTreeMap, BTreeSet};

use branch_store::{Choice, MergedText, Texts};

/// Files in two directories that are always there.
pub const PATHS: [&str; 8] = ["a", "b", "x/a", "x/b", "x/c", "y/a", "y/b", "y/c"];
/// Lines of a file. Each write changes one of them.
pub const LINES: usize = 4;

pub type Text = [u32; LINES];
pub type Files = BTreeMap<&'static str, Text>;

pub fn in_words(text: &Text) -> String {
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
pub fn merge_lines(texts: &Texts<'_>) -> std::result::Result<MergedText, String> {
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

/// A branch.
#[derive(Debug, Clone)]
pub struct Line {
    pub name: String,
    pub fork: Files,
    pub now: Files,
    /// Steps of the parent that it has seen.
    pub epoch: usize,
    pub marks: BTreeMap<String, Files>,
}

#[derive(Debug, Clone)]
pub struct Model {
    pub parent: Files,
    /// Paths that each step of the parent touched.
    pub steps: Vec<BTreeSet<&'static str>>,
    pub lines: Vec<Line>,
    /// What the parent was before and after each commit that can be undone, and redone.
    pub done: Vec<(Files, Files)>,
    pub undone: Vec<(Files, Files)>,
}

/// What a step does.
#[derive(Debug)]
pub enum Outcome {
    Done(Model),
    Refused,
    /// Either is right: the base was changed and changed back, or there is nothing left to take.
    Either(Model),
}

pub fn differing(one: &Files, other: &Files) -> BTreeSet<&'static str> {
    PATHS.into_iter().filter(|path| one.get(path) != other.get(path)).collect()
}

pub fn set(files: &mut Files, path: &'static str, text: Option<Text>) {
    match text {
        Some(text) => _ = files.insert(path, text),
        None => _ = files.remove(path),
    }
}

impl Model {
    pub fn of(parent: Files) -> Model {
        Model { parent, steps: Vec::new(), lines: Vec::new(), done: Vec::new(), undone: Vec::new() }
    }

    fn step(&mut self, after: Files) {
        self.steps.push(differing(&self.parent, &after));
        self.parent = after;
    }

    fn touched_since(&self, epoch: usize) -> BTreeSet<&'static str> {
        self.steps[epoch..].iter().flatten().copied().collect()
    }

    /// Where the base was changed and changed back, "theirs" says one thing if that is a conflict and another if it is
    /// none.
    pub fn is_ambiguous(&self, line: &Line) -> bool {
        let touched = self.touched_since(line.epoch);
        let changed = differing(&line.fork, &line.now);
        changed.iter().any(|path| touched.contains(path) && self.parent.get(path) == line.fork.get(path))
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

    pub fn commit(&self, at: usize, choice: Choice, is_main: bool) -> Outcome {
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

    /// A commit into the base that had nothing for it is none: it cannot be undone, and what was undone can be redone.
    pub fn not_logged(mut self, before: &Model) -> Model {
        assert_eq!(self.parent, before.parent, "there was something to commit");
        (self.done, self.undone) = (before.done.clone(), before.undone.clone());
        self
    }

    pub fn rebase(&self, at: usize, choice: Choice) -> Outcome {
        let Some((now, maybe)) = self.together(&self.lines[at], choice) else { return Outcome::Refused };
        let mut model = self.clone();
        let epoch = self.steps.len();
        model.lines[at].go_on(&self.parent, now, epoch);
        if maybe { Outcome::Either(model) } else { Outcome::Done(model) }
    }

    pub fn part(&self, at: usize, choice: Choice, selected: fn(&str) -> bool, is_main: bool) -> Outcome {
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
        let (parent, steps) = (model.parent.clone(), model.steps.len());
        model.lines[at].go_on(&parent, now, steps);
        match (taken.is_empty(), both) {
            (true, false) => Outcome::Refused,
            (true, true) => Outcome::Either(model),
            (false, _) if maybe => Outcome::Either(model),
            (false, _) => Outcome::Done(model),
        }
    }

    pub fn turn(&self, back: bool) -> Outcome {
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

impl Line {
    /// On another state of the parent: marks were trees over the one it has left.
    fn go_on(&mut self, parent: &Files, now: Files, epoch: usize) {
        (self.fork, self.now, self.epoch) = (parent.clone(), now, epoch);
        self.marks.clear();
    }
}
