//! What a commit into a parent that went on must give: three whole trees in, one out.
//!
//! By name and by object, a change of one side is taken. Where both changed the same, differently, it is a
//! conflict for certain; where both touched the same without that, one may be reported.

use std::collections::{BTreeMap, BTreeSet};

use super::alike::{Attributes, merged_file, pick, same_dir, same_file};
use super::tree::{Body, Clock, Ino, Node, Tree};
use crate::when::When;

pub(super) enum Certainty {
    No,
    Maybe(String),
    Yes(String),
}

pub(super) struct Merged {
    pub(super) conflict: Certainty,
    pub(super) tree: Tree,
}

/// Where the merged tree goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    Branch,
    /// The base is compared by path: what lies below a name that went elsewhere is a conflict, too.
    Base,
}

pub(super) fn merge(fork: &Tree, theirs: &Tree, ours: &Tree, into: Into, clock: Clock) -> Merged {
    let (tree, alike) = (theirs.clone(), BTreeMap::new());
    let mut merge = Merge { fork, theirs, ours, tree, conflict: Certainty::No, alike };
    if theirs.version == fork.version {
        let mut tree = ours.clone();
        tree.drop_orphans(|_| false);
        if into == Into::Base {
            loosen_access_times(theirs, &mut tree);
        }
        return Merged { conflict: Certainty::No, tree };
    }
    if into == Into::Base {
        merge.paths();
    }
    merge.find_alike();
    merge.nodes(into, clock);
    merge.entries();
    merge.settle(into, clock);
    if into == Into::Base {
        loosen_access_times(theirs, &mut merge.tree);
    }
    Merged { conflict: merge.conflict, tree: merge.tree }
}

struct Merge<'a> {
    fork: &'a Tree,
    theirs: &'a Tree,
    ours: &'a Tree,
    tree: Tree,
    conflict: Certainty,
    /// Names that both gave something of their own that is the same, with the attributes of it.
    alike: BTreeMap<(Ino, String), Option<Attributes>>,
}

/// What is compared of an object; times and, of a directory, its names apart.
fn essence(node: &Node) -> impl PartialEq + use<'_> {
    let names = if node.is_dir() { node.names.min(1) } else { node.names };
    let body = match &node.body {
        Body::Dir(dir) => Body::Dir(super::tree::Dir { parent: dir.parent, entries: Default::default() }),
        other => other.clone(),
    };
    (body, node.mode, node.uid, node.gid, names, &node.xattrs)
}

fn linked(tree: &Tree, ino: Ino) -> Option<&Node> {
    tree.nodes.get(&ino).filter(|node| node.names > 0)
}

impl Merge<'_> {
    fn surely(&mut self, why: String) {
        if !matches!(self.conflict, Certainty::Yes(_)) {
            self.conflict = Certainty::Yes(why);
        }
    }

    fn perhaps(&mut self, why: String) {
        if matches!(self.conflict, Certainty::No) {
            self.conflict = Certainty::Maybe(why);
        }
    }

    /// What we touched lay, at the fork, on a path that they changed.
    fn paths(&mut self) {
        for (path, ino) in self.fork.paths() {
            let version = |tree: &Tree| linked(tree, ino).map(|node| node.version);
            if version(self.fork) == version(self.ours) {
                continue;
            }
            let mut at = super::ROOT;
            for name in path.names() {
                let [fork, theirs] = [self.fork, self.theirs].map(|tree| child(tree, at, name));
                if fork != theirs {
                    return self.perhaps(format!("they changed the path {path:?}"));
                }
                at = fork.unwrap_or(super::ROOT);
            }
        }
    }

    fn find_alike(&mut self) {
        let dirs: BTreeSet<Ino> = self.ours.nodes.keys().copied().collect();
        for dir in dirs {
            for name in names_in(self.ours, dir) {
                let [fork, theirs, ours] =
                    [self.fork, self.theirs, self.ours].map(|tree| child(tree, dir, name));
                let (Some(their), Some(our)) = (theirs, ours) else { continue };
                if their == our {
                    continue;
                }
                let (their_node, our_node) = (self.theirs.node(their), self.ours.node(our));
                let fork_node = fork.map(|fork| self.fork.node(fork));
                if fork.is_none() && our_node.is_dir() && same_dir((self.theirs, their), (self.ours, our)) {
                    self.alike.insert((dir, name.clone()), None);
                } else if let Some(attributes) = same_file(fork_node, their_node, our_node) {
                    self.alike.insert((dir, name.clone()), Some(attributes));
                }
            }
        }
    }

    /// Whether an object goes, or came, with a name that both gave the same.
    fn is_alike(&self, ino: Ino) -> bool {
        self.alike.keys().any(|(dir, name)| {
            [self.fork, self.theirs, self.ours].into_iter().any(|tree| child(tree, *dir, name) == Some(ino))
        })
    }

    fn nodes(&mut self, into: Into, clock: Clock) {
        let all: BTreeSet<Ino> = self.ours.nodes.keys().chain(self.fork.nodes.keys()).copied().collect();
        for ino in all {
            let [fork, theirs, ours] = [self.fork, self.theirs, self.ours].map(|tree| linked(tree, ino));
            let touched =
                |side: Option<&Node>| side.map(|node| node.version) != fork.map(|node| node.version);
            let differs = |side: Option<&Node>| side.map(essence) != fork.map(essence);
            if !touched(ours) {
                continue;
            }
            if !touched(theirs) {
                if let Some(node) = ours {
                    self.tree.nodes.insert(ino, keep_entries(node, theirs));
                }
                continue;
            }
            match (theirs, ours) {
                (Some(theirs), Some(ours)) if theirs.is_dir() && ours.is_dir() => {
                    self.both_dirs(ino, fork, theirs, ours)
                }
                (Some(their_node), Some(our_node))
                    if differs(theirs)
                        && differs(ours)
                        && fork.and_then(|fork| merged_file(fork, their_node, our_node, into)).is_some() =>
                {
                    self.perhaps(format!("both changed object {ino}, alike or in different attributes"));
                    let merged = fork.and_then(|fork| merged_file(fork, their_node, our_node, into));
                    let (attributes, names) = merged.expect("just looked at");
                    let node = self.tree.node_mut(ino, clock);
                    attributes.set(node);
                    node.names = names;
                    node.mtime = their_node.mtime.or(our_node.mtime);
                    node.ctime = their_node.ctime.or(our_node.ctime);
                    node.atime = their_node.atime.or(our_node.atime);
                }
                (Some(their_node), Some(our_node)) => {
                    if differs(theirs) && differs(ours) && essence(their_node) != essence(our_node) {
                        self.surely(format!("both changed object {ino}"));
                    } else {
                        self.perhaps(format!("both touched object {ino}"));
                    }
                    if differs(ours) {
                        self.tree.nodes.insert(ino, our_node.clone());
                    }
                    let node = self.tree.node_mut(ino, clock);
                    node.mtime = their_node.mtime.or(our_node.mtime);
                    node.ctime = their_node.ctime.or(our_node.ctime);
                    node.atime = their_node.atime.or(our_node.atime);
                }
                _ if self.is_alike(ino) => {
                    self.perhaps(format!("object {ino} goes with a name that both gave the same"));
                }
                (None, Some(_)) if differs(ours) => {
                    self.surely(format!("they removed object {ino}, we changed it"))
                }
                // A file that they moved and rewrote is another file in the base.
                (Some(_), None) if into == Into::Base && self.renewed(ino) => {
                    self.perhaps(format!("they moved and rewrote object {ino}, we removed it"));
                }
                (Some(_), None) if differs(theirs) => {
                    self.surely(format!("we removed object {ino}, they changed it"));
                }
                (Some(_), None) if self.gave_name(ino) => {
                    self.surely(format!("we removed object {ino}, they gave it or put into it a name"));
                }
                _ => self.perhaps(format!("one side removed object {ino}")),
            }
        }
    }

    /// Whether a file of theirs has other bytes, and none of the names it had.
    fn renewed(&self, ino: Ino) -> bool {
        let [fork, theirs] = [self.fork, self.theirs].map(|tree| linked(tree, ino));
        let bytes = |node: Option<&Node>| match node.map(|node| &node.body) {
            Some(Body::File(bytes)) => Some(bytes.clone()),
            _ => None,
        };
        let paths =
            |tree: &Tree| tree.paths().into_iter().filter(|(_, found)| *found == ino).collect::<Vec<_>>();
        let kept = paths(self.fork).into_iter().any(|path| paths(self.theirs).contains(&path));
        bytes(fork) != bytes(theirs) && !kept
    }

    /// Whether they gave an object a name, or, if it is a directory, gave something a name in it.
    fn gave_name(&self, ino: Ino) -> bool {
        let dirs = self.theirs.nodes.keys().filter(|dir| linked(self.theirs, **dir).is_some());
        let mut names = dirs.flat_map(|dir| names_in(self.theirs, *dir).map(move |name| (*dir, name)));
        names.any(|(dir, name)| {
            let [fork, theirs] = [self.fork, self.theirs].map(|tree| child(tree, dir, name));
            theirs.is_some() && fork != theirs && (dir == ino || theirs == Some(ino))
        })
    }

    fn touched(&self, side: &Tree, ino: Ino) -> bool {
        let version = |tree: &Tree| linked(tree, ino).map(|node| node.version);
        version(side) != version(self.fork)
    }

    /// Attribute by attribute; what each did to the names is looked at apart.
    fn both_dirs(&mut self, ino: Ino, fork: Option<&Node>, theirs: &Node, ours: &Node) {
        let Some(fork) = fork else { return self.perhaps(format!("both made directory {ino}")) };
        if essence(fork) != essence(theirs) || essence(fork) != essence(ours) {
            self.perhaps(format!("attributes of directory {ino}"));
        }
        let parent = |node: &Node| match &node.body {
            Body::Dir(dir) => dir.parent,
            _ => 0,
        };
        let attributes = Attributes::merged(fork, theirs, ours);
        let above = pick(parent(fork), parent(theirs), parent(ours));
        if attributes.is_none() || above.is_none() {
            self.surely(format!("both changed attributes of directory {ino}"));
        }
        let version = ours.version.max(theirs.version) + 1;
        let node = self.tree.nodes.get_mut(&ino).expect("it is theirs");
        node.version = version;
        if let Some(attributes) = attributes {
            attributes.set(node);
        }
        (node.atime, node.mtime, node.ctime) =
            (either(theirs.atime, ours.atime), theirs.mtime.or(ours.mtime), theirs.ctime.or(ours.ctime));
        if let (Body::Dir(dir), Some(above)) = (&mut node.body, above) {
            dir.parent = above;
        }
    }

    fn entries(&mut self) {
        let dirs: BTreeSet<Ino> = self.ours.nodes.keys().chain(self.fork.nodes.keys()).copied().collect();
        for dir in dirs {
            let names: BTreeSet<&String> =
                [self.fork, self.ours].into_iter().flat_map(|tree| names_in(tree, dir)).collect();
            for name in names {
                let [fork, theirs, ours] =
                    [self.fork, self.theirs, self.ours].map(|tree| child(tree, dir, name));
                // One may have given the name something else, and the other have changed what it was, if that is no more.
                let acted = |side: &Tree, now: Option<Ino>, other: &Tree| {
                    let changed = |ino| self.touched(side, ino) && linked(other, ino).is_none();
                    now != fork || now.is_some_and(changed)
                };
                let both = acted(self.theirs, theirs, self.ours) && acted(self.ours, ours, self.theirs);
                if both && self.take_alike(dir, name, [theirs, ours]) || ours == fork {
                    continue;
                }
                if theirs != fork {
                    match theirs == ours {
                        true => self.perhaps(format!("both did the same to {name} in {dir}")),
                        false => self.surely(format!("both changed {name} in {dir}")),
                    }
                    continue;
                }
                self.set_entry(dir, name, ours);
            }
        }
    }

    /// Theirs stays, unless one of them did more to the attributes.
    fn take_alike(&mut self, dir: Ino, name: &str, [theirs, ours]: [Option<Ino>; 2]) -> bool {
        let Some(attributes) = self.alike.get(&(dir, name.to_owned())).cloned() else { return false };
        self.perhaps(format!("both gave {name} in {dir} the same"));
        let (Some(theirs), Some(ours)) = (theirs, ours) else { return true };
        let Some(attributes) = attributes.filter(|of| *of != Attributes::of(self.theirs.node(theirs))) else {
            return true;
        };
        let mut node = self.ours.node(ours).clone();
        attributes.set(&mut node);
        self.tree.nodes.insert(ours, node);
        self.set_entry(dir, name, Some(ours));
        true
    }

    fn set_entry(&mut self, dir: Ino, name: &str, child: Option<Ino>) {
        let Some(Node { body: Body::Dir(inside), .. }) = self.tree.nodes.get_mut(&dir) else {
            return if child.is_some() {
                self.surely(format!("directory {dir} is gone"))
            };
        };
        match child {
            Some(child) => drop(inside.entries.insert(name.to_owned(), child)),
            None => drop(inside.entries.remove(name)),
        }
    }

    /// The merged tree must be one: every entry an object, every directory in one place, every object named.
    fn settle(&mut self, into: Into, clock: Clock) {
        self.tree.version = clock.serial;
        let mut found: Vec<Ino> = Vec::new();
        let mut stack = vec![super::ROOT];
        let mut wrong = None;
        while let Some(dir) = stack.pop() {
            let Body::Dir(inside) = &self.tree.node(dir).body else { continue };
            for child in inside.entries.values() {
                match self.tree.nodes.get(child) {
                    None => wrong = Some(format!("object {child} is gone")),
                    Some(node) if node.is_dir() && found.contains(child) => {
                        wrong = Some(format!("directory {child} twice"));
                    }
                    Some(node) if node.is_dir() => stack.push(*child),
                    Some(_) => {}
                }
                found.push(*child);
            }
            if wrong.is_some() {
                break;
            }
        }
        for (ino, node) in &mut self.tree.nodes {
            let names = found.iter().filter(|child| *child == ino).count() as u32;
            let counted = into == Into::Branch && *ino != super::ROOT && !node.is_dir();
            if counted && names > 0 && node.names != names {
                wrong.get_or_insert(format!("object {ino} has {names} names, not {}", node.names));
            }
            node.names = if *ino == super::ROOT { 1 } else { names };
        }
        let holds =
            |dir: &Ino| names_in(self.theirs, *dir).count() > 0 || names_in(self.ours, *dir).count() > 0;
        // Removed before, and alive only for who has it open.
        let removed = |dir: &Ino| {
            [self.theirs, self.ours]
                .iter()
                .any(|side| side.nodes.get(dir).is_some_and(|node| node.names == 0))
        };
        let mut dirs = self.tree.nodes.iter().filter(|(_, node)| node.is_dir() && node.names == 0);
        let lost = dirs.find(|(ino, _)| holds(ino) && !removed(ino));
        if let Some((ino, _)) = lost {
            let (ino, both) =
                (*ino, self.theirs.nodes.contains_key(ino) && self.ours.nodes.contains_key(ino));
            if both {
                wrong.get_or_insert(format!("directory {ino} is nowhere"));
            }
        }
        if let Some(why) = wrong {
            self.surely(why);
        }
        self.tree.drop_orphans(|_| false);
    }
}

/// Somebody may have looked into the base's directories since the fork: the later access counts.
fn loosen_access_times(theirs: &Tree, tree: &mut Tree) {
    for (ino, node) in tree.nodes.iter_mut().filter(|(_, node)| node.is_dir()) {
        if theirs.nodes.get(ino).is_some_and(|node| node.atime == When::Loose) {
            node.atime = When::Loose;
        }
    }
}

/// One access time, or neither for certain.
fn either(theirs: When, ours: When) -> When {
    if theirs == ours { theirs } else { theirs.or(ours) }
}

/// Our attributes, their names: ours come one by one.
fn keep_entries(ours: &Node, theirs: Option<&Node>) -> Node {
    let mut node = ours.clone();
    if let (Body::Dir(dir), Some(Node { body: Body::Dir(kept), .. })) = (&mut node.body, theirs) {
        dir.entries = kept.entries.clone();
    } else if let Body::Dir(dir) = &mut node.body {
        dir.entries.clear();
    }
    node
}

fn names_in(tree: &Tree, dir: Ino) -> impl Iterator<Item = &String> {
    let inside = match linked(tree, dir).map(|node| &node.body) {
        Some(Body::Dir(dir)) => Some(dir),
        _ => None,
    };
    inside.into_iter().flat_map(|dir| dir.entries.keys())
}

fn child(tree: &Tree, dir: Ino, name: &str) -> Option<Ino> {
    match &linked(tree, dir)?.body {
        Body::Dir(dir) => dir.entries.get(name).copied(),
        _ => None,
    }
}
