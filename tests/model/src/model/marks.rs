//! Marks of a branch: whole trees, put aside and put back.

use super::branches::why_ended;
use super::tree::{Body, Node, Tree};
use super::{Allowed, MAIN, Model};
use crate::answer::{Answer, Failure};

/// The mark that a restore leaves.
pub(crate) const BEFORE: u8 = 0;

impl Model {
    fn refused(&self, branch: u32) -> Option<Allowed> {
        let failed = |failure| Some(vec![Answer::Failed(failure)]);
        match &self.branches[&branch] {
            _ if branch == MAIN => failed(Failure::NotAllowed),
            ended if !ended.is_live() => failed(why_ended(ended)),
            _ => None,
        }
    }

    pub(super) fn mark(&mut self, branch: u32, mark: u8) -> Allowed {
        if let Some(refused) = self.refused(branch) {
            return refused;
        }
        let of = self.branches.get_mut(&branch).expect("it is known");
        if of.marks.contains_key(&mark) {
            return vec![Answer::Failed(Failure::MarkExists)];
        }
        of.marks.insert(mark, named(&of.tree));
        vec![Answer::Done]
    }

    pub(super) fn unmark(&mut self, branch: u32, mark: u8) -> Allowed {
        if let Some(refused) = self.refused(branch) {
            return refused;
        }
        match self.branches.get_mut(&branch).expect("it is known").marks.remove(&mark) {
            Some(_) => vec![Answer::Done],
            None => vec![Answer::Failed(Failure::NoMark)],
        }
    }

    /// Whether something was saved is the product's to say, but nothing may be lost: what is seen must then be in a mark.
    pub(super) fn restore(&mut self, branch: u32, mark: u8, answer: &Answer) -> Result<Allowed, String> {
        if let Some(refused) = self.refused(branch) {
            return Ok(refused);
        }
        if self.is_readonly(branch) {
            return Ok(vec![Answer::Failed(Failure::NotAllowed)]);
        }
        let open: Vec<_> =
            self.slots.values().filter(|handle| handle.branch == branch).map(|h| h.ino).collect();
        let of = self.branches.get_mut(&branch).expect("it is known");
        let Some(to) = of.marks.get(&mark).cloned() else {
            return Ok(vec![Answer::Failed(Failure::NoMark)]);
        };
        let before = std::mem::replace(&mut of.tree, to);
        match answer {
            Answer::Count(1) => drop(of.marks.insert(BEFORE, named(&before))),
            _ if of.marks.values().any(|mark| same(mark, &named(&before))) => {}
            _ => return Err("that it saved what was there: no mark has it".to_owned()),
        }
        for ino in open {
            if let (Some(node), false) = (before.nodes.get(&ino), of.tree.nodes.contains_key(&ino)) {
                of.tree.nodes.insert(ino, nameless(node));
            }
        }
        Ok(vec![Answer::Count(0), Answer::Count(1)])
    }
}

fn named(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    tree.drop_orphans(|_| false);
    tree
}

fn nameless(node: &Node) -> Node {
    let mut node = Node { names: 0, ..node.clone() };
    if let Body::Dir(dir) = &mut node.body {
        dir.entries.clear();
    }
    node
}

/// Whether both look the same, as far as is known.
fn same(one: &Tree, other: &Tree) -> bool {
    let alike = |a: &Node, b: &Node| {
        (&a.body, a.mode, a.uid, a.gid, a.rdev, a.names, &a.xattrs)
            == (&b.body, b.mode, b.uid, b.gid, b.rdev, b.names, &b.xattrs)
            && a.mtime.may_be(b.mtime)
            && a.ctime.may_be(b.ctime)
    };
    one.nodes.keys().eq(other.nodes.keys())
        && one.nodes.values().zip(other.nodes.values()).all(|(a, b)| alike(a, b))
}
