//! Restore: a branch's tree becomes a marked one. One record, one pointer; the cost is that of saying what a view has
//! to forget.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::branch::{BEFORE_RESTORE, Branch, Data, Draft, Mark, Shared};
use crate::commit::{Invalid, forgotten};
use crate::error::{Error, Result};
use crate::ids::{BranchId, NodeId};
use crate::journal::record::{self, Record};
use crate::node::{Body, Entry, Kind, Lower, Node, Object, Slot, Time};
use crate::store::Store;
use crate::store::mark::{no_such_mark, open, refuse_main};
use crate::tree::{Change, Tree};

/// What a restore did.
#[derive(Debug)]
pub struct Restored {
    /// The mark that holds what the branch was before, if no mark had it already.
    pub saved: Option<&'static str>,
    /// What views of the branch must forget.
    pub invalid: Vec<Invalid>,
    /// What lost its last name and lives, for those who have it open, until [`Branch::reap`].
    pub orphans: Vec<NodeId>,
    /// Directories that had been removed and are back.
    pub revived: Vec<NodeId>,
}

impl Store {
    /// Makes the tree of a branch a marked one, all or nothing at every instant; as durable as [`Store::mark`]. What
    /// the branch was before is noted as [`BEFORE_RESTORE`], in the place of an earlier one, unless some mark shows
    /// just that. Marks stay, and so do branches below, each with what it saw at its fork. `is_known` says what
    /// somebody may have open: that lives on without a name if the mark does not have it.
    ///
    /// # Errors
    /// `NoSuchMark`, `NotAllowed` for main and while a frozen group lives, `Ended`, `Stale`, `Busy` while the branch is
    /// being committed, and the host's. In every case nothing was changed.
    pub fn restore(
        &self,
        branch: &Arc<Branch>,
        name: &str,
        is_known: &dyn Fn(NodeId) -> bool,
    ) -> Result<Restored> {
        let shared = &self.shared;
        refuse_main(branch)?;
        let _decide = shared.decide.lock();
        let _gate = shared.gate.read();
        let mut data = open(branch)?;
        if branch.frozen.load(Ordering::Acquire) > 0 {
            return Err(Error::NotAllowed(
                "the branch is read-only until the frozen group below it has ended",
            ));
        }
        let mark = data.marks.get(name).cloned().ok_or_else(|| no_such_mark(branch, name))?;
        let before = data.tree.clone();
        let (changes, dirs) = way(shared, branch, &data, &mark, is_known)?;
        let saved = (!is_kept(&data)).then(|| (Time::now(), shared.counters.new_layer()));
        let record = record::Restore { branch: branch.id(), name: name.to_owned(), saved, changes, dirs };
        shared.journal.append(&Record::Restore(record.clone()))?;
        let applied = apply(shared, branch, &mut data, &record);
        applied.map_err(|cause| Error::Corrupt {
            file: "restore".to_owned(),
            offset: 0,
            cause: cause.to_owned(),
        })?;
        Ok(restored(branch.id(), &before, &data.tree, saved.is_some()))
    }
}

/// The effect of a restore record, live and in recovery.
///
/// # Errors
/// What the tree does not have; live code writes no such record.
pub(super) fn apply(
    shared: &Shared,
    branch: &Branch,
    data: &mut Data,
    record: &record::Restore,
) -> std::result::Result<(), &'static str> {
    let mark = data.marks.get(&record.name).cloned().ok_or("restores a checkpoint that does not exist")?;
    let mut tree = mark.tree.clone();
    record.changes.iter().try_for_each(|change| tree.apply(change))?;
    if let Some((time, layer)) = record.saved {
        let replaced = data.marks.get(BEFORE_RESTORE).is_some();
        data.mark(shared, BEFORE_RESTORE, time, layer);
        branch.littered.fetch_or(replaced, Ordering::AcqRel);
    }
    data.tree = tree.clone();
    data.restored = Some((mark, tree));
    branch.note_replaced();
    Ok(())
}

/// Whether the branch shows what some mark has, or what the last restore made of one that is still there: nothing would
/// be lost.
fn is_kept(data: &Data) -> bool {
    let is_there =
        |mark: &Arc<Mark>| data.marks.get(&mark.name).is_some_and(|there| Arc::ptr_eq(there, mark));
    let restored = data.restored.as_ref().filter(|(mark, _)| is_there(mark)).map(|(_, tree)| tree);
    let marked = data.marks.iter().map(|mark| &mark.tree);
    restored.into_iter().chain(marked).any(|tree| tree.shows_the_same(&data.tree))
}

/// From the marked tree to the one that the branch gets.
fn way(
    shared: &Shared,
    branch: &Branch,
    data: &Data,
    mark: &Mark,
    is_known: &dyn Fn(NodeId) -> bool,
) -> Result<(Vec<Change>, Vec<record::DirPlace>)> {
    let fork = |id: &BranchId| {
        let child = shared.registry.read().get(*id);
        child.map(|child| child.data.read().fork_tree.clone())
    };
    let forks = branch.children().iter().filter_map(fork).collect();
    let draft = Draft::new(shared, &Data { tree: mark.tree.clone(), ..data.clone() });
    let mut way = Way { before: &data.tree, mark: &mark.tree, is_known, forks, draft };
    for change in data.tree.diff(&mark.tree) {
        match change {
            Change::Drop { id } => way.dropped(id)?,
            Change::Put { id, .. } => way.put(id)?,
            Change::Link { dir, name, entry } => way.covered(Slot { dir, name }, &entry)?,
            Change::Unlink { .. } | Change::Touch { .. } => {}
        }
    }
    Ok(match way.draft.finish(branch.id()).1 {
        Some(Record::Batch { changes, dirs, .. }) => (changes, dirs),
        _ => (Vec::new(), Vec::new()),
    })
}

/// The two trees differ in what has no name, and in what children's commits are about.
struct Way<'a> {
    before: &'a Tree,
    mark: &'a Tree,
    is_known: &'a dyn Fn(NodeId) -> bool,
    /// What the children forked from.
    forks: Vec<Tree>,
    draft: Draft<'a>,
}

impl Way<'_> {
    /// The branch has it, the mark does not.
    fn dropped(&mut self, id: NodeId) -> Result<()> {
        let Some(node) = self.before.get(id).filter(|node| !node.is_grave()) else { return Ok(()) };
        let slot = node.inode.origin.as_deref().map(|origin| origin.slot.as_ref());
        // The base's own again, with or without a name meanwhile: it goes on under its id.
        let Some(slot) = slot.filter(|slot| slot.is_none_or(|slot| is_shown(self.mark, slot))) else {
            return self.keep_nameless(id, node);
        };
        // What a child does with it is merged with what the parent has of it: one that it took its changes back from.
        if self.forks.iter().any(|fork| fork.get(id).is_some()) {
            self.draft.adopt(&Object { id, slot: slot.cloned() })?;
        }
        Ok(())
    }

    /// The mark has it, the branch does not, or otherwise.
    fn put(&mut self, id: NodeId) -> Result<()> {
        if !self.mark.get(id).is_some_and(|node| node.is_nameless()) {
            return Ok(());
        }
        match self.before.get(id) {
            Some(node) => self.keep_nameless(id, node),
            // Nobody has had it open since it was forgotten.
            None => self.draft.push(Change::Drop { id }),
        }
    }

    /// The mark means something else by a name, or nothing. Where the branch showed the base's object under it, that has no
    /// node on either side if this was its only name.
    fn covered(&mut self, slot: Slot, entry: &Entry) -> Result<()> {
        // A directory that was removed has its grave.
        let Some(print) = entry.over.as_deref().filter(|print| print.kind != Kind::Dir) else {
            return Ok(());
        };
        let id = self.draft.shared.base.id_of(print, self.before)?;
        let has_node = self.before.get(id).is_some() || self.draft.node(id).is_ok();
        if has_node || !is_shown(self.before, &slot) || !(self.is_known)(id) {
            return Ok(());
        }
        self.draft.adopt_nameless(id, &slot, print)
    }

    /// What has no name in the mark stays as it is for those who have it open.
    fn keep_nameless(&mut self, id: NodeId, node: &Node) -> Result<()> {
        if !(self.is_known)(id) {
            return match self.mark.get(id) {
                Some(_) => self.draft.push(Change::Drop { id }),
                None => Ok(()),
            };
        }
        let mut inode = node.inode.clone();
        inode.lose_names();
        self.draft.put(id, inode)
    }
}

/// Whether a tree that has no node of a base object shows it under the name it was adopted from.
fn is_shown(tree: &Tree, slot: &Slot) -> bool {
    tree.get(slot.dir).is_none_or(|dir| {
        let merged = matches!(dir.inode.body, Body::Dir { lower: Lower::Merged, .. });
        merged && !dir.entries.contains_key(&slot.name)
    })
}

fn restored(branch: BranchId, before: &Tree, after: &Tree, saved: bool) -> Restored {
    let changes = before.diff(after);
    let has_name = |tree: &Tree, id| tree.get(id).is_some_and(|node| node.inode.meta.nlink > 0);
    let has_none = |tree: &Tree, id| tree.get(id).is_some_and(|node| node.inode.meta.nlink == 0);
    let is_nameless = |tree: &Tree, id| tree.get(id).is_some_and(|node| node.is_nameless());
    let (mut orphans, mut revived) = (Vec::new(), Vec::new());
    for change in &changes {
        match change {
            Change::Put { id, .. } if is_nameless(after, *id) => {
                orphans.extend((!is_nameless(before, *id)).then_some(*id));
            }
            Change::Put { id, inode } if has_none(before, *id) && has_name(after, *id) => {
                revived.extend((inode.kind() == Kind::Dir).then_some(*id));
            }
            Change::Drop { id } if before.get(*id).is_some_and(|node| node.is_grave()) => revived.push(*id),
            _ => {}
        }
    }
    let saved = saved.then_some(BEFORE_RESTORE);
    Restored { saved, invalid: forgotten(branch, before, &changes), orphans, revived }
}
