//! Equal changes of both sides, and attributes that both changed.

use std::collections::{BTreeMap, BTreeSet};

use super::merge::Into;
use super::tree::{Body, Ino, Node, Tree};

/// The attributes that a merge takes one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) xattrs: BTreeMap<String, Vec<u8>>,
}

impl Attributes {
    pub(super) fn of(node: &Node) -> Attributes {
        Attributes { mode: node.mode, uid: node.uid, gid: node.gid, xattrs: node.xattrs.clone() }
    }

    pub(super) fn set(self, node: &mut Node) {
        (node.mode, node.uid, node.gid, node.xattrs) = (self.mode, self.uid, self.gid, self.xattrs);
    }

    /// Of both sides together; `None` where both changed the same one, differently.
    pub(super) fn merged(fork: &Node, theirs: &Node, ours: &Node) -> Option<Attributes> {
        let names: BTreeSet<&String> =
            [fork, theirs, ours].into_iter().flat_map(|node| node.xattrs.keys()).collect();
        let mut xattrs = BTreeMap::new();
        for name in names {
            let [fork, theirs, ours] = [fork, theirs, ours].map(|node| node.xattrs.get(name));
            if let Some(value) = pick(fork, theirs, ours)? {
                xattrs.insert(name.clone(), value.clone());
            }
        }
        Some(Attributes {
            mode: pick(fork.mode, theirs.mode, ours.mode)?,
            uid: pick(fork.uid, theirs.uid, ours.uid)?,
            gid: pick(fork.gid, theirs.gid, ours.gid)?,
            xattrs,
        })
    }
}

/// The side that changed; `None` if both did, differently.
pub(super) fn pick<T: PartialEq>(fork: T, theirs: T, ours: T) -> Option<T> {
    if theirs == ours || ours == fork {
        return Some(theirs);
    }
    (theirs == fork).then_some(ours)
}

/// Two objects that are no directories and hold the same, and the attributes they come to together.
pub(super) fn same_file(fork: Option<&Node>, theirs: &Node, ours: &Node) -> Option<Attributes> {
    if theirs.is_dir() || (&theirs.body, theirs.rdev) != (&ours.body, ours.rdev) {
        return None;
    }
    match fork {
        Some(fork) => Attributes::merged(fork, theirs, ours),
        None => Some(Attributes::of(ours)).filter(|of| *of == Attributes::of(theirs)),
    }
}

/// One file that both changed, with the attributes and the number of names that it comes to; `None` where they
/// contradict each other. In the base each name is on its own, and the host counts them.
pub(super) fn merged_file(fork: &Node, theirs: &Node, ours: &Node, into: Into) -> Option<(Attributes, u32)> {
    let names = match into {
        Into::Base => theirs.names,
        Into::Branch => pick(fork.names, theirs.names, ours.names)?,
    };
    Some((same_file(Some(fork), theirs, ours)?, names))
}

/// Two directories, made by each side, with the same in them.
pub(super) fn same_dir((theirs, their): (&Tree, Ino), (ours, our): (&Tree, Ino)) -> bool {
    let (a, b) = (theirs.node(their), ours.node(our));
    if Attributes::of(a) != Attributes::of(b) {
        return false;
    }
    match (&a.body, &b.body) {
        (Body::Dir(a), Body::Dir(b)) => {
            a.entries.keys().eq(b.entries.keys())
                && a.entries.values().zip(b.entries.values()).all(|(a, b)| same_dir((theirs, *a), (ours, *b)))
        }
        (_, Body::Dir(_)) | (Body::Dir(_), _) => false,
        _ => same_file(None, a, b).is_some(),
    }
}
