//! From a branch's tree to a plan. Reads the base, changes nothing.
//!
//! Two walks over the directories the tree shares with the base. The first decides for every name what
//! happens to the base object under it: it stays, it is exchanged, or it is detached (removed, or wanted
//! elsewhere). The second, parents first, places what the branch has.

mod ahead;
mod look;
mod permit;
mod place;
mod removed;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use self::ahead::{Looked, Names};
use crate::base::history::Displaced;
use crate::base::{Base, Found};
use crate::commit::clash::Clash;
use rustix::fs::Statx;
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::ids::{CommitId, NodeId};
use crate::node::{Body, Fingerprint, HostKey, Kind, Lower, Node, Slot};
use crate::plan::{Park, Plan, RelPath, Step, join};
use crate::tree::Tree;

/// Stands for a staged object until staging has made it and knows its inode.
pub(crate) const UNSTAGED: HostKey = HostKey { dev: 0, ino: 0 };

/// What staging has to prepare before the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Make the node (a directory with what is fresh below it) at the park; its final path, for people.
    Node(Park, NodeId, RelPath),
    /// Copy the current bytes of a base file to the park: they are about to be rewritten in place.
    Keep(Park, Slot),
}

/// A plan whose staged objects do not exist yet.
pub(crate) struct Drawn {
    pub(crate) plan: Plan,
    pub(crate) stages: Vec<Stage>,
    pub(crate) displaced: Vec<Displaced>,
    /// Parks of `Displaced::Object` contents: filled in once the preimage directory has an id.
    pub(crate) kept: HashMap<HostKey, Park>,
    /// Nodes that a staged directory must leave out: they are attached later.
    pub(crate) later: HashSet<NodeId>,
}

/// What the first walk found at a name, if anything.
struct Seen {
    found: Arc<Looked>,
    fate: Fate,
}

/// What happens to the base object under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// There is none.
    Free,
    /// It stays.
    Stays,
    /// It goes to its park before anything appears.
    Detached,
    /// It goes to its park in the same step that puts the new object here.
    Exchanged,
}

pub(crate) struct Planner<'a> {
    base: &'a Base,
    tree: &'a Tree,
    /// The newest commit: the base as it is now.
    head: CommitId,
    seen: HashMap<Slot, Seen>,
    /// Base objects the branch still has.
    reused: HashSet<HostKey>,
    /// Links of base files, where they were looked at.
    links: HashMap<HostKey, u32>,
    /// Where a base object was seen, and the name under which a node stays in place.
    seen_at: HashMap<HostKey, Slot>,
    staying: HashMap<NodeId, Slot>,
    /// Detached objects, to be attached elsewhere.
    parked: HashMap<HostKey, Vec<Park>>,
    /// First final path of a node.
    placed: HashMap<NodeId, RelPath>,
    next_park: u64,
    detaches: Vec<Step>,
    appears: Vec<Step>,
    links_added: Vec<Step>,
    rewrites: Vec<Step>,
    metas: Vec<Step>,
    /// Whether one of them sets anything: directories on the way are among them.
    sets: bool,
    /// Base directories whose names the host lets us change.
    permitted: HashMap<NodeId, permit::Change>,
    /// Base directories as they are, and their paths.
    above: HashMap<NodeId, Statx>,
    dir_paths: HashMap<NodeId, RelPath>,
    /// Names of files with several, in directories that the branch removed.
    leaving_with_dir: Vec<(Slot, Found)>,
    conflicts: Vec<Clash>,
    drawn: Drawn,
}

/// Draws the plan that brings `tree` into the base, or says where the two sides met.
///
/// # Errors
/// The host's.
pub(crate) fn draw(
    base: &Base,
    tree: &Tree,
    head: CommitId,
) -> Result<std::result::Result<Drawn, Vec<Clash>>> {
    let drawn = Drawn {
        plan: Plan::default(),
        stages: Vec::new(),
        displaced: Vec::new(),
        kept: HashMap::new(),
        later: HashSet::new(),
    };
    let mut planner = Planner {
        base,
        tree,
        head,
        seen: HashMap::new(),
        reused: HashSet::new(),
        links: HashMap::new(),
        seen_at: HashMap::new(),
        staying: HashMap::new(),
        parked: HashMap::new(),
        placed: HashMap::new(),
        next_park: 0,
        detaches: Vec::new(),
        appears: Vec::new(),
        links_added: Vec::new(),
        rewrites: Vec::new(),
        metas: Vec::new(),
        sets: false,
        permitted: HashMap::new(),
        above: HashMap::new(),
        dir_paths: HashMap::new(),
        leaving_with_dir: Vec::new(),
        conflicts: Vec::new(),
        drawn,
    };
    planner.run()?;
    Ok(planner.finish())
}

impl<'a> Planner<'a> {
    fn run(&mut self) -> Result<()> {
        let Some(root) = self.tree.get(NodeId::ROOT) else { return Ok(()) };
        let names = Names::of(self.tree)?;
        let found = names.look(self.base, self.head)?;
        for (named, found) in names.names.iter().zip(&found) {
            self.look_at(&names, named, found.as_ref())?;
        }
        self.look_at_origins()?;
        self.collect_reused(&names.nodes);
        for (named, found) in names.names.iter().zip(found) {
            match self.decide(named, found) {
                // In a directory that the base has no more: that is among the conflicts.
                Err(Error::Posix(Errno::STALE)) if !self.conflicts.is_empty() => {}
                decided => decided?,
            }
        }
        if self.conflicts.is_empty() {
            self.place_children(NodeId::ROOT, b"")?;
            self.change_nameless()?;
            self.count_leaving_with_dir()?;
            self.meta_of(NodeId::ROOT, root, b"", true)?;
        }
        Ok(())
    }

    fn finish(mut self) -> std::result::Result<Drawn, Vec<Clash>> {
        if !self.conflicts.is_empty() {
            return Err(self.conflicts);
        }
        // Deepest first: a directory goes only after what moves out of it.
        let depth = |step: &Step| match step {
            Step::Detach { path, .. } => path.iter().filter(|b| **b == b'/').count(),
            _ => 0,
        };
        self.detaches.sort_by_key(|step| std::cmp::Reverse(depth(step)));
        let moves = [self.rewrites, self.detaches, self.appears, self.links_added];
        if !self.sets && moves.iter().all(Vec::is_empty) {
            // Directories as they are already.
            self.metas.clear();
            self.drawn.displaced.clear();
        }
        self.drawn.plan.steps = moves.into_iter().flatten().chain(self.metas).collect();
        Ok(self.drawn)
    }

    fn node(&self, id: NodeId) -> Result<&'a Node> {
        ahead::node(self.tree, id)
    }

    fn new_park(&mut self) -> Park {
        self.next_park += 1;
        Park { commit: CommitId(self.head.0 + 1), number: self.next_park }
    }

    fn dir_id(&self, print: &Fingerprint) -> Result<Option<NodeId>> {
        if print.kind != Kind::Dir {
            return Ok(None);
        }
        self.base.id_of(print, self.tree).map(Some)
    }

    /// Where a base name is now.
    fn base_path(&mut self, slot: &Slot) -> Result<RelPath> {
        if slot.dir == NodeId::ROOT {
            return Ok(slot.name.as_bytes().to_vec());
        }
        if let Some(dir) = self.dir_paths.get(&slot.dir) {
            return Ok(join(dir, slot.name.as_bytes()));
        }
        let dir = self.base.path_of(&self.base.dir_slot(slot.dir, self.head)?, self.head)?;
        let path = join(&dir, slot.name.as_bytes());
        self.dir_paths.insert(slot.dir, dir);
        Ok(path)
    }
}

fn is_merged(node: &Node) -> bool {
    matches!(node.inode.body, Body::Dir { lower: Lower::Merged, .. })
}
