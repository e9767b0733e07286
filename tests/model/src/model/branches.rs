//! Fork, commit, abort, crash.

use std::collections::BTreeMap;

use super::alike::same_dir;
use super::merge::{Certainty, Into, merge};
use super::tree::{Clock, Ino, ROOT, Tree};
use super::{Allowed, MAIN, Model};
use crate::answer::{Answer, Failure};
use crate::call::Group;
use crate::when::When;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Live,
    Stale,
    Ended,
}

#[derive(Debug, Clone)]
pub(crate) struct Branch {
    pub(crate) parent: Option<u32>,
    /// Number of the fork it came from, and its kind.
    group: (u64, Group),
    pub(crate) state: State,
    pub(crate) tree: Tree,
    /// The parent at the fork.
    fork: Tree,
    /// What was noted.
    pub(crate) marks: BTreeMap<u8, Tree>,
    /// The product's number of each object, once seen.
    pub(crate) ids: BTreeMap<Ino, u64>,
}

impl Branch {
    pub(super) fn main(tree: Tree) -> Branch {
        let fork = Tree::default();
        Branch {
            parent: None,
            group: (0, Group::Independent),
            state: State::Live,
            tree,
            fork,
            marks: BTreeMap::new(),
            ids: BTreeMap::new(),
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state == State::Live
    }
}

impl Model {
    /// Live branches, main included.
    pub fn live(&self) -> Vec<u32> {
        self.branches.iter().filter(|(_, branch)| branch.is_live()).map(|(number, _)| *number).collect()
    }

    pub(crate) fn children(&self, parent: u32) -> Vec<u32> {
        let child = |branch: &&Branch| branch.is_live() && branch.parent == Some(parent);
        self.branches.iter().filter(|(_, branch)| child(branch)).map(|(number, _)| *number).collect()
    }

    pub(super) fn is_readonly(&self, branch: u32) -> bool {
        branch == MAIN
            || self.children(branch).iter().any(|child| self.branches[child].group.1 == Group::Frozen)
    }

    pub(super) fn fork(
        &mut self,
        parent: u32,
        first: u32,
        count: u32,
        group: Group,
        clock: Clock,
    ) -> Allowed {
        let from = &self.branches[&parent];
        if !from.is_live() {
            return vec![Answer::Failed(why_ended(from))];
        }
        let mut tree = from.tree.clone();
        tree.drop_orphans(|_| false);
        let fork = tree.clone();
        let ids = from.ids.clone();
        let group = (clock.serial, group);
        let child = Branch {
            parent: Some(parent),
            group,
            state: State::Live,
            tree,
            fork,
            marks: BTreeMap::new(),
            ids,
        };
        for number in first..first + count {
            self.branches.insert(number, child.clone());
        }
        vec![Answer::Done]
    }

    pub(super) fn abort(&mut self, branch: u32, cascade: bool) -> Allowed {
        let failed = |failure| vec![Answer::Failed(failure)];
        if branch == MAIN {
            return failed(Failure::NotAllowed);
        }
        if !self.branches[&branch].is_live() {
            return failed(why_ended(&self.branches[&branch]));
        }
        if !cascade && !self.children(branch).is_empty() {
            return failed(Failure::HasChildren);
        }
        self.end_below(branch, State::Ended);
        vec![Answer::Done]
    }

    /// The model decides what a commit must do where it can; a conflict it cannot rule out may be reported.
    pub(super) fn commit(&mut self, number: u32, answer: &Answer, clock: Clock) -> Result<(), String> {
        let refused = self.commit_is_refused(number);
        if let Some(failure) = refused {
            return if *answer == Answer::Failed(failure.clone()) {
                Ok(())
            } else {
                Err(format!("{failure:?}"))
            };
        }
        let branch = &self.branches[&number];
        let parent = branch.parent.expect("only main has none");
        let into = &self.branches[&parent].tree;
        let merged = merge(
            &branch.fork,
            into,
            &branch.tree,
            if parent == MAIN { Into::Base } else { Into::Branch },
            clock,
        );
        match (answer, merged.conflict) {
            (Answer::Nothing, Certainty::No | Certainty::Maybe(_)) if parent == MAIN => {
                // With the times, which the base is compared with in the end.
                if !same_dir((into, ROOT), (&merged.tree, ROOT)) {
                    return Err("a commit: there is something to commit".to_owned());
                }
            }
            (Answer::Done, Certainty::No | Certainty::Maybe(_)) => {}
            (Answer::Done, Certainty::Yes(why)) => return Err(format!("a conflict: {why}")),
            (Answer::Failed(Failure::Conflicts(paths)), Certainty::Yes(_) | Certainty::Maybe(_))
                if !paths.is_empty() =>
            {
                return Ok(());
            }
            (_, Certainty::No) => return Err("success: nothing meets".to_owned()),
            (_, Certainty::Maybe(why) | Certainty::Yes(why)) => {
                return Err(format!("success or a conflict: {why}"));
            }
        }
        let losers = self.losers(number);
        self.end_below(number, State::Ended);
        for loser in losers {
            self.end_below(loser, State::Stale);
        }
        self.take_over(parent, number, merged.tree, *answer == Answer::Nothing);
        Ok(())
    }

    fn commit_is_refused(&self, number: u32) -> Option<Failure> {
        let branch = &self.branches[&number];
        if number == MAIN {
            Some(Failure::NotAllowed)
        } else if !branch.is_live() {
            Some(why_ended(branch))
        } else if !self.children(number).is_empty() {
            Some(Failure::HasChildren)
        } else {
            None
        }
    }

    fn losers(&self, winner: u32) -> Vec<u32> {
        let group = self.branches[&winner].group;
        if group.1 == Group::Independent {
            return Vec::new();
        }
        let sibling = |(number, branch): &(&u32, &Branch)| {
            **number != winner && branch.is_live() && branch.group == group
        };
        self.branches.iter().filter(sibling).map(|(number, _)| *number).collect()
    }

    fn end_below(&mut self, branch: u32, state: State) {
        for child in self.children(branch) {
            self.end_below(child, state);
        }
        self.branches.get_mut(&branch).expect("it is known").state = state;
    }

    /// The parent becomes the merged tree; what it has open and the tree no longer has is lost to it.
    fn take_over(&mut self, parent: u32, child: u32, mut tree: Tree, nothing: bool) {
        let known = self.branches[&child].ids.clone();
        let into = self.branches.get_mut(&parent).expect("it is known");
        let before = std::mem::take(&mut into.tree);
        let was_orphan = |ino: &Ino| before.nodes.get(ino).is_some_and(|node| node.names == 0);
        for (ino, node) in before.nodes.iter().filter(|(ino, _)| was_orphan(ino)) {
            tree.nodes.entry(*ino).or_insert_with(|| node.clone());
        }
        for (ino, id) in known {
            into.ids.entry(ino).or_insert(id);
        }
        if parent == MAIN {
            if !nothing {
                self.turns.committed(before.clone());
            }
            // What changed may be another file in the base now; access times there are anybody's.
            let same = |ino: &Ino| {
                before.nodes.get(ino).map(|n| n.version) == tree.nodes.get(ino).map(|n| n.version)
            };
            into.ids.retain(|ino, _| same(ino));
            // Change times are the host's.
            tree.nodes.values_mut().for_each(|node| node.ctime = When::sometime());
        }
        into.tree = tree;
    }

    /// After the base was compared: from now on reading it may set access times.
    pub(crate) fn loosen_base_access_times(&mut self) {
        let main = self.branches.get_mut(&MAIN).expect("main never ends");
        main.tree.nodes.values_mut().for_each(|node| node.atime = When::Loose);
    }

    /// Slots of live branches whose object a commit took away, or may have replaced: to be closed.
    pub(crate) fn lost_slots(&self, committed_into: u32, before: &Model) -> Vec<u8> {
        let (now, was) = (&self.branches[&committed_into].tree, &before.branches[&committed_into].tree);
        let version = |tree: &Tree, ino| tree.nodes.get(&ino).map(|node| node.version);
        let lost = |ino: Ino| match version(now, ino) {
            None => true,
            now => committed_into == MAIN && now != version(was, ino),
        };
        let open = self.slots.iter().filter(|(_, handle)| handle.branch == committed_into);
        open.filter(|(_, handle)| lost(handle.ino)).map(|(slot, _)| *slot).collect()
    }

    pub(super) fn crash(&mut self) {
        self.slots.clear();
        self.branches.retain(|_, branch| branch.is_live());
        self.drop_orphans();
    }
}

pub(super) fn why_ended(branch: &Branch) -> Failure {
    if branch.state == State::Stale { Failure::Stale } else { Failure::Ended }
}
