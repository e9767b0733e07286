//! Checkpoint: the whole state in one file, so that restart time does not grow with history.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use crate::branch::{Birth, Data, Shared};
use crate::error::{Error, Result};
use crate::ids::BranchId;
use crate::journal::record::{Counters, DirPlace, MarkLine, Record, Snapshot};
use crate::journal::{Header, write_file};
use crate::store::Store;
use crate::store::files::{checkpoint_name, journal_name, numbered};
use crate::tree::{Change, Tree};

impl Store {
    /// Writes a checkpoint and starts a new journal. Changes wait only while the picture is taken.
    ///
    /// # Errors
    /// The host's; `Corrupt` for a tree that could not be read back. The store goes on with the journals it has.
    pub fn checkpoint(&self) -> Result<()> {
        let shared = &self.shared;
        let _no_commit_half_way = shared.writeback.lock();
        let (number, records) = {
            let _alone = shared.gate.write();
            shared.journal.check()?;
            let number = shared.journal_number.load(Ordering::Acquire) + 1;
            let records = picture(shared);
            let fresh = |first| {
                let header = Header { workspace: shared.workspace, first };
                write_file(&shared.disk, &shared.dir_fd, &journal_name(number), header, &[])
            };
            shared.make_durable()?;
            if let Err(e) = shared.journal.rotate(fresh) {
                // It may have its name already: records appended to the old journal would not join it.
                if numbered(&shared.dir_fd, "journal").is_ok_and(|n| !n.contains(&number)) {
                    return Err(e);
                }
                shared.journal.poison();
                return Err(e);
            }
            shared.journal_number.store(number, Ordering::Release);
            (number, records)
        };
        let header = Header { workspace: shared.workspace, first: 1 };
        let records = records.encode()?;
        write_file(&shared.disk, &shared.dir_fd, &checkpoint_name(number), header, &records)?;
        remove_older(shared, number)
    }
}

/// All state at one instant. Cheap: trees are shared, not copied.
struct Picture {
    counters: Counters,
    branches: Vec<(Birth, Data)>,
}

fn picture(shared: &Shared) -> Picture {
    let branches = shared.registry.read().all();
    let branches = branches.iter().map(|b| (b.birth.clone(), b.data.read().clone())).collect();
    let counters = &shared.counters;
    let places = shared.base.places.export();
    let counters = Counters {
        next_branch: counters.branch.load(Ordering::Relaxed),
        next_layer: counters.layer.load(Ordering::Relaxed),
        next_group: counters.group.load(Ordering::Relaxed),
        next_node: shared.base.next_id(),
        commits: counters.commit.load(Ordering::Relaxed),
        dirs: places.dirs.into_iter().map(|(id, slot, object)| DirPlace { id, slot, object }).collect(),
        parks: places.parks,
        parked: places.displaced,
        elsewhere: places.elsewhere,
        history: shared.base.history.read().all(),
        log: shared.log.lock().clone(),
        lent: shared
            .contents
            .loans()
            .into_iter()
            .map(|(layer, id, loan)| (layer, id, loan.lender().clone()))
            .collect(),
    };
    Picture { counters, branches }
}

impl Picture {
    fn encode(self) -> Result<Vec<Record>> {
        let mut records = vec![Record::Counters(self.counters)];
        let by_id: HashMap<BranchId, &Data> =
            self.branches.iter().map(|(birth, data)| (birth.id, data)).collect();
        for (birth, data) in &self.branches {
            let (Some(parent), Some((group, kind))) = (birth.parent, birth.group) else { continue };
            let Some(above) = by_id.get(&parent) else { continue };
            let mut newest = &data.fork_tree;
            let mut marks = Vec::new();
            for mark in data.marks.iter() {
                let changes = diff(newest, &mark.tree)?;
                marks.push(MarkLine { name: mark.name.clone(), time: mark.time, changes });
                newest = &mark.tree;
            }
            records.push(Record::Branch(Box::new(Snapshot {
                id: birth.id,
                name: birth.name.clone(),
                parent,
                group,
                kind,
                created: birth.created,
                epoch: data.epoch,
                layer: data.layer,
                layers: data.layers.clone(),
                quota: data.quota,
                fork_from_parent: diff(&above.tree, &data.fork_tree)?,
                marks,
                tree_from_newest: diff(newest, &data.tree)?,
            })));
        }
        records.push(Record::End);
        Ok(records)
    }
}

/// The changes from one tree to another, if they can be applied again: a journal that no store wrote, yet with
/// checksums that are right, can have left an entry without its node (I-1).
fn diff(old: &Tree, new: &Tree) -> Result<Vec<Change>> {
    let changes = old.diff(new);
    let dangles = |change: &Change| match change {
        Change::Link { entry, .. } => entry.child.is_some_and(|child| new.get(child).is_none()),
        _ => false,
    };
    if changes.iter().any(dangles) {
        let cause = "an entry names a node that does not exist (I-1)".to_owned();
        return Err(Error::Corrupt { file: "journal".to_owned(), offset: 0, cause });
    }
    Ok(changes)
}

fn remove_older(shared: &Shared, number: u64) -> Result<()> {
    for (stem, name) in [("checkpoint", checkpoint_name as fn(u64) -> String), ("journal", journal_name)] {
        for old in numbered(&shared.dir_fd, stem)?.into_iter().filter(|n| *n < number) {
            shared.disk.unlink(&shared.dir_fd, name(old).as_bytes())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Name, NodeId};
    use crate::node::{Body, Entry, Inode, Kind, Lower, Meta};

    fn put(tree: &mut Tree, id: NodeId, body: Body) {
        let time = crate::node::Time::default();
        let (mode, uid, gid, nlink, rdev) = (0o644, 0, 0, 1, 0);
        let xattrs = std::sync::Arc::default();
        let meta = Meta { mode, uid, gid, nlink, rdev, atime: time, mtime: Some(time), ctime: time, xattrs };
        let inode = Box::new(Inode { meta, origin: None, body });
        tree.apply(&Change::Put { id, inode }).unwrap();
    }

    /// Story: `fuzz/recover` had a record drop a node that still had a name in a removed directory, where nobody sees
    /// it. The store opened, and its next checkpoint could never be read again.
    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let mut tree = Tree::default();
        let (parent, id) = (NodeId::ROOT, NodeId(7));
        put(&mut tree, parent, Body::Dir { parent, lower: Lower::Opaque });
        put(&mut tree, id, Body::Special(Kind::Fifo));
        let entry = Entry { child: Some(id), over: None };
        tree.apply(&Change::Link { dir: parent, name: Name::trusted(b"x"), entry }).unwrap();
        assert_eq!(diff(&Tree::default(), &tree).unwrap().len(), 3);
        tree.apply(&Change::Drop { id }).unwrap();
        assert!(matches!(diff(&Tree::default(), &tree), Err(Error::Corrupt { .. })));
    }
}
