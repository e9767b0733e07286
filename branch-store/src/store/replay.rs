//! Replaying records into the state they were written from.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::branch::{AtFork, Birth, Branch, Data, Mark, Marks, Shared, State};
use crate::commit::{apply_merge, decide, nothing, rebase};
use crate::ids::{BranchId, CommitId, GroupKind, LayerId, NodeId};
use crate::journal::record::{self, Decide, MarkLine, Origin, Rebase, Record, Rest, Restore, Snapshot};
use crate::node::{DisplacedTo, Lender};
use crate::store::{check, fork, litter, maintain, restore};
use crate::tree::{Change, Tree};

/// Applies records. Uses the same functions as live operation, so both agree.
pub(super) struct Replay<'a> {
    pub(super) shared: &'a Arc<Shared>,
    /// The decided commit whose `Done` has not been met.
    pub(super) pending: Option<Arc<Decide>>,
    /// The last partial commit whose branch has not gone on with the rest.
    pub(super) parted: Option<Arc<Decide>>,
}

impl Replay<'_> {
    pub(super) fn apply(&mut self, record: Record) -> std::result::Result<(), String> {
        match record {
            Record::Batch { branch, changes, dirs, copied, lent } => {
                check::dirs(&dirs)?;
                let branch = self.branch(branch)?;
                check::not_main(&branch)?;
                self.went_on(branch.id());
                self.note_dirs(&dirs);
                copied.iter().for_each(|(layer, id)| self.shared.contents.note_returned(*layer, *id));
                self.lend(lent);
                let mut data = branch.data.write();
                self.change(&mut data.tree, &changes)
            }
            Record::Fork(record) => {
                let parent = self.branch(record.parent)?;
                check::fork(self.shared, &parent, &record)?;
                let mut data = parent.data.write();
                fork::apply(self.shared, &parent, &mut data, &record);
                Ok(())
            }
            Record::Merge { child, changes, layers, stale, rest } => {
                self.merge(child, (changes.as_deref(), &layers), &stale, rest.as_ref())
            }
            Record::Rebase(record) => {
                self.parted = None;
                self.rebase(&record)
            }
            Record::Decide(decided) => {
                check::decide(self.shared, self.pending.as_deref(), &decided)?;
                self.decide(&decided)?;
                self.parted = decided.part.is_some().then(|| decided.clone());
                self.pending = Some(decided);
                Ok(())
            }
            Record::Done { commit, moved } => {
                check::done(self.pending.as_deref(), commit)?;
                check::dirs(&moved.dirs)?;
                self.note_dirs(&moved.dirs);
                for object in &moved.objects {
                    self.shared.base.places.note_displaced(object);
                }
                decide::apply_done(self.shared, commit);
                self.pending = None;
                Ok(())
            }
            Record::Closed { commit, time } => {
                decide::apply_closed(self.shared, commit, time);
                Ok(())
            }
            Record::Abort { branches } => {
                check::end(self.shared, &branches)?;
                self.shared.end_all(&self.shared.live(&branches), State::Aborted);
                Ok(())
            }
            Record::Prune { upto } => {
                maintain::apply_prune(self.shared, upto);
                Ok(())
            }
            Record::Counters(counters) => {
                check::counters(self.shared, &counters)?;
                self.counters(counters);
                Ok(())
            }
            Record::Branch(snapshot) => self.snapshot(*snapshot),
            Record::Mark { branch, name, time, layer } => {
                let branch = self.branch(branch)?;
                self.went_on(branch.id());
                check::mark(self.shared, &branch, &name, layer)?;
                branch.data.write().mark(self.shared, &name, time, layer);
                Ok(())
            }
            Record::Unmark { branch, name } => {
                let branch = self.branch(branch)?;
                check::marked(&branch, &name)?;
                branch.data.write().unmark(&branch, &name);
                Ok(())
            }
            Record::Restore(record) => self.restore(&record),
            Record::Discard { branch, layers } => {
                let branch = self.branch(branch)?;
                check::discard(&branch, &layers)?;
                litter::apply(&mut branch.data.write(), &layers);
                Ok(())
            }
            Record::Quota { branch, quota } => {
                let branch = self.branch(branch)?;
                check::not_main(&branch)?;
                branch.data.write().quota = quota;
                Ok(())
            }
            Record::Returned { layer, id } => {
                let had = self.shared.contents.loan(layer, id).is_some();
                self.shared.contents.note_returned(layer, id);
                if had { Ok(()) } else { Err("returns what was not borrowed".to_owned()) }
            }
            Record::Nothing { child, stale } => {
                self.went_on(child);
                self.nothing(child, &stale)
            }
            Record::End | Record::Synced { .. } => Ok(()),
        }
    }

    fn lend(&self, lent: Vec<(LayerId, NodeId, Lender)>) {
        for (layer, id, lender) in lent {
            self.shared.contents.note_lent(layer, id, lender);
        }
    }

    fn decide(&self, decided: &Decide) -> std::result::Result<(), String> {
        let Origin::Branch(child) = decided.origin else {
            check::end(self.shared, &decided.stale)?;
            decide::apply_decide(self.shared, decided);
            return Ok(());
        };
        let child = self.branch(child)?;
        check::ends_by_commit(self.shared, &child, &decided.stale)?;
        if child.parent() != Some(BranchId::MAIN) {
            return Err("decides to write a branch into the base that is not main's".to_owned());
        }
        let losers = self.shared.live(&decided.stale);
        decide::apply_decide(self.shared, decided);
        if let Some(of) = &decided.part {
            of.changes.iter().for_each(|change| self.note_ids(change));
            decide::take_part(self.shared, Tree::default(), &losers);
            return Ok(());
        }
        let tree = child.data.read().tree.clone();
        decide::take_over(self.shared, &child, (tree, &[]), &losers);
        Ok(())
    }

    fn nothing(&self, child: BranchId, stale: &[BranchId]) -> std::result::Result<(), String> {
        let child = self.branch(child)?;
        check::ends_by_commit(self.shared, &child, stale)?;
        if child.parent() != Some(BranchId::MAIN) {
            return Err("commits nothing into what is not main".to_owned());
        }
        nothing::apply(self.shared, &child, &self.shared.live(stale));
        Ok(())
    }

    /// A branch that was changed after a partial commit has gone on as it was: what was decided for the commit is no
    /// longer what it has.
    fn went_on(&mut self, branch: BranchId) {
        let is_its = |decided: &Arc<Decide>| decided.origin == Origin::Branch(branch);
        self.parted = self.parted.take().filter(|decided| !is_its(decided));
    }

    fn branch(&self, id: BranchId) -> std::result::Result<Arc<Branch>, String> {
        self.shared
            .registry
            .read()
            .get(id)
            .ok_or_else(|| format!("speaks of branch {id}, which does not exist"))
    }

    fn change(&self, tree: &mut Tree, changes: &[Change]) -> std::result::Result<(), String> {
        for change in changes {
            self.note_ids(change);
            tree.apply(change).map_err(str::to_owned)?;
        }
        Ok(())
    }

    /// What a tree holds keeps its id, and no other object gets it.
    fn note_ids(&self, change: &Change) {
        let Change::Put { id, inode } = change else { return };
        self.shared.base.note_allocated(*id);
        if let Some(origin) = &inode.origin {
            self.shared.base.note_alias(*id, &origin.print);
        }
    }

    fn note_dirs(&self, dirs: &[crate::journal::record::DirPlace]) {
        for place in dirs {
            self.shared.base.note_allocated(place.id);
            self.shared.base.places.note_dir(place.id, &place.slot, place.object);
        }
    }

    fn merge(
        &self,
        child: BranchId,
        (changes, layers): (Option<&[Change]>, &[LayerId]),
        stale: &[BranchId],
        rest: Option<&Rest>,
    ) -> std::result::Result<(), String> {
        let child = self.branch(child)?;
        check::ends_by_commit(self.shared, &child, stale)?;
        let parent = self.branch(child.parent().ok_or("main cannot be merged")?)?;
        check::not_main(&parent)?;
        check::fresh_layers(self.shared, layers)?;
        layers.iter().for_each(|layer| self.shared.counters.note_layer(*layer));
        changes.unwrap_or_default().iter().for_each(|change| self.note_ids(change));
        if let Some(rest) = rest {
            check::rest(self.shared, rest)?;
            rest.changes.iter().for_each(|change| self.note_ids(change));
            self.shared.counters.note_layer(rest.layer);
            self.shared.counters.note_layer(rest.parent_layer);
        }
        let mut into = parent.data.write();
        let mut ours = child.data.write();
        apply_merge(self.shared, &child, &mut into, &mut ours, (changes, layers), rest)
            .map_err(|e| e.to_string())?;
        drop((into, ours));
        self.shared.end_all(&self.shared.live(stale), State::Stale);
        Ok(())
    }

    fn restore(&self, record: &Restore) -> std::result::Result<(), String> {
        check::dirs(&record.dirs)?;
        let branch = self.branch(record.branch)?;
        check::restore(self.shared, &branch, record)?;
        self.note_dirs(&record.dirs);
        record.changes.iter().for_each(|change| self.note_ids(change));
        restore::apply(self.shared, &branch, &mut branch.data.write(), record).map_err(str::to_owned)
    }

    fn rebase(&self, record: &Rebase) -> std::result::Result<(), String> {
        let branch = self.branch(record.branch)?;
        let parent = self.branch(branch.parent().ok_or("main cannot be rebased")?)?;
        record.changes.iter().for_each(|change| self.note_ids(change));
        check::dirs(&record.dirs)?;
        self.note_dirs(&record.dirs);
        check::free_layers(self.shared, &record.layers)?;
        let mut above = parent.data.write();
        let mut data = branch.data.write();
        check::rebase(self.shared, &branch, (&parent, &above), &data, record)?;
        let layers = record.layers.iter().chain([&record.layer]);
        layers.for_each(|layer| self.shared.counters.note_layer(*layer));
        if !parent.is_main() {
            self.shared.counters.note_layer(record.parent_layer);
            rebase::freshen(&mut above, record);
        }
        rebase::apply(&branch, &mut data, &above.tree, record).map_err(str::to_owned)
    }

    fn counters(&self, from: record::Counters) {
        let counters = &self.shared.counters;
        counters.branch.fetch_max(from.next_branch, Ordering::Relaxed);
        counters.layer.fetch_max(from.next_layer, Ordering::Relaxed);
        counters.group.fetch_max(from.next_group, Ordering::Relaxed);
        counters.commit.fetch_max(from.commits, Ordering::Relaxed);
        let base = &self.shared.base;
        base.note_allocated(crate::ids::NodeId(from.next_node.saturating_sub(1)));
        // Each commit has a preimage directory, and its displacements are kept as long as that.
        let kept = from.parks.iter().map(|(_, commit, _)| commit.0).min();
        let forgotten = kept.map_or(from.commits, |first| first.saturating_sub(1));
        base.history.write().note_forgotten(CommitId(forgotten));
        self.note_dirs(&from.dirs);
        for (id, commit, object) in from.parks {
            base.places.note_park(id, commit, object);
        }
        for (key, slot) in from.parked {
            base.places.note_displaced(&DisplacedTo { key, to: slot, left: None });
        }
        for (key, slot) in from.elsewhere {
            base.places.note_elsewhere(key, slot);
        }
        let mut history = base.history.write();
        for (commit, displaced) in &from.history {
            history.record(*commit, displaced);
        }
        *self.shared.log.lock() = from.log;
        drop(history);
        self.lend(from.lent);
        self.shared.main().data.write().epoch = CommitId(from.commits);
    }

    fn snapshot(&self, snapshot: Snapshot) -> std::result::Result<(), String> {
        let parent = self.branch(snapshot.parent)?;
        check::snapshot(self.shared, &parent, &snapshot)?;
        let mut fork_tree = parent.data.read().tree.clone();
        self.change(&mut fork_tree, &snapshot.fork_from_parent)?;
        let mut tree = fork_tree.clone();
        let mut marks = Marks::default();
        for MarkLine { name, time, changes } in snapshot.marks {
            self.change(&mut tree, &changes)?;
            marks.add(Mark { name, time, tree: tree.clone() });
        }
        self.change(&mut tree, &snapshot.tree_from_newest)?;
        if snapshot.kind == GroupKind::Frozen {
            parent.frozen.fetch_add(1, Ordering::AcqRel);
        }
        let birth = Birth {
            id: snapshot.id,
            name: snapshot.name,
            parent: Some(snapshot.parent),
            group: Some((snapshot.group, snapshot.kind)),
            created: snapshot.created,
            depth: parent.birth.depth + 1,
        };
        let Snapshot { epoch, layer, layers, quota, .. } = snapshot;
        let at_fork = AtFork::default();
        let data = Data { tree, fork_tree, at_fork, epoch, layer, layers, quota, marks, restored: None };
        self.shared.registry.write().insert(Branch::new(self.shared.clone(), birth, data));
        Ok(())
    }
}
