//! Undo and redo of commits into the base: whole trees, put back.

use std::collections::BTreeSet;

use super::tree::{Clock, Ino, Node, Tree};
use super::{Allowed, MAIN, Model};
use crate::answer::{Answer, Failure};
use crate::when::When;

/// So many can be undone, and so many redone, whatever was reclaimed.
const KEPT: usize = 16;

/// What the base was, newest last.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    undo: Vec<State>,
    redo: Vec<State>,
    /// Files that had several names in the base.
    linked: BTreeSet<Ino>,
}

#[derive(Debug, Clone)]
struct State {
    tree: Tree,
    /// Its preimages may have been reclaimed.
    doubtful: bool,
    /// Change times in it may be later than they were.
    stamped: bool,
}

impl Turns {
    /// Something was committed over this.
    pub(super) fn committed(&mut self, before: Tree) {
        self.note_links(&before);
        self.undo.push(State { tree: before, doubtful: false, stamped: false });
        self.redo.clear();
    }

    fn note_links(&mut self, tree: &Tree) {
        let several = |(_, node): &(&Ino, &Node)| node.names > 1 && !node.is_dir();
        self.linked.extend(tree.nodes.iter().filter(several).map(|(ino, _)| *ino));
    }

    fn reclaimed(&mut self) {
        for states in [&mut self.undo, &mut self.redo] {
            let beyond = states.len().saturating_sub(KEPT);
            states[..beyond].iter_mut().for_each(|state| state.doubtful = true);
            states.iter_mut().for_each(|state| state.stamped = true);
        }
    }
}

impl Model {
    /// A name that is deleted among the preimages stamps the change time of a file that has others: what forked before
    /// may take that for an edit, and so may undo and redo.
    pub(super) fn reclaim(&mut self, clock: Clock) -> Allowed {
        self.turns.note_links(&self.branches[&MAIN].tree);
        self.turns.reclaimed();
        for (number, branch) in &mut self.branches {
            for ino in &self.turns.linked {
                for tree in branch.marks.values_mut() {
                    tree.nodes.get_mut(ino).into_iter().for_each(|node| node.ctime = When::sometime());
                }
                let Some(node) = branch.tree.nodes.get_mut(ino) else { continue };
                node.ctime = When::sometime();
                if *number == MAIN {
                    (node.version, branch.tree.version) = (clock.serial, clock.serial);
                }
            }
        }
        vec![Answer::Done]
    }

    pub(super) fn undo(&mut self, answer: &Answer, clock: Clock) -> Allowed {
        let to = self.turns.undo.pop();
        self.turn(to, answer, clock, |turns| &mut turns.redo, |turns| &mut turns.undo)
    }

    pub(super) fn redo(&mut self, answer: &Answer, clock: Clock) -> Allowed {
        let to = self.turns.redo.pop();
        self.turn(to, answer, clock, |turns| &mut turns.undo, |turns| &mut turns.redo)
    }

    fn turn(
        &mut self,
        to: Option<State>,
        answer: &Answer,
        clock: Clock,
        onto: impl FnOnce(&mut Turns) -> &mut Vec<State>,
        off: impl FnOnce(&mut Turns) -> &mut Vec<State>,
    ) -> Allowed {
        let refused = Answer::Failed(Failure::NotAllowed);
        let Some(to) = to else { return vec![refused] };
        if to.doubtful && *answer == refused {
            off(&mut self.turns).push(to);
            return vec![refused];
        }
        let main = self.branches.get_mut(&MAIN).expect("main never ends");
        let changed = |ino: &Ino| {
            let [now, then] = [&main.tree, &to.tree].map(|tree| tree.nodes.get(ino).map(|node| node.version));
            now != then
        };
        if to.stamped
            && matches!(answer, Answer::Failed(Failure::Conflicts(_)))
            && self.turns.linked.iter().any(changed)
        {
            off(&mut self.turns).push(to);
            return vec![answer.clone()];
        }
        let from = std::mem::take(&mut main.tree);
        main.tree = put_back(&from, to.tree, clock);
        let version = |tree: &Tree, ino: &Ino| tree.nodes.get(ino).map(|node| node.version);
        let now = &main.tree;
        main.ids.retain(|ino, _| version(&from, ino) == version(now, ino));
        self.turns.note_links(&from);
        onto(&mut self.turns).push(State { tree: from, doubtful: false, stamped: false });
        vec![Answer::Done]
    }
}

/// The tree of then, as something new where it differs from what is there.
fn put_back(from: &Tree, mut tree: Tree, clock: Clock) -> Tree {
    tree.version = clock.serial;
    tree.drop_orphans(|_| false);
    for (ino, node) in &mut tree.nodes {
        if from.nodes.get(ino).map(|node| node.version) != Some(node.version) {
            node.version = clock.serial;
        }
        // Both are the host's: change times, and access times of what anybody may have looked at.
        (node.ctime, node.atime) = (When::sometime(), When::Loose);
    }
    // What was removed and is open.
    for (ino, node) in from.nodes.iter().filter(|(_, node)| node.names == 0) {
        tree.nodes.entry(*ino).or_insert_with(|| node.clone());
    }
    tree
}
