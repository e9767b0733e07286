//! What a record says. Branches, layers and groups are made by records alone, so replaying them in order
//! gives the state back.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::history::Displaced;
use crate::ids::{BranchId, CommitId, GroupId, GroupKind, LayerId, NodeId, Quota};
use crate::node::{DisplacedTo, Fingerprint, HostKey, Lender, Slot, Time};
use crate::note::Note;
use crate::plan::Plan;
use crate::tree::Change;

/// One journal record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Record {
    /// One file operation in a branch, and base directories its tree now refers to.
    /// `copied`: content files whose bytes may not be durable when this is; `lent`: those of them that borrow.
    Batch {
        branch: BranchId,
        changes: Vec<Change>,
        dirs: Vec<DirPlace>,
        copied: Vec<(LayerId, NodeId)>,
        lent: Vec<(LayerId, NodeId, Lender)>,
    },
    /// Branches were forked.
    Fork(Fork),
    /// A branch committed into a parent branch. `changes` is what the parent's tree takes over; `None`:
    /// the parent had not changed, its tree is now the child's. `layers`: what was merged of files is there.
    /// `rest`: of a partial commit, what the child goes on with; without one it ends.
    Merge {
        child: BranchId,
        changes: Option<Vec<Change>>,
        layers: Vec<LayerId>,
        stale: Vec<BranchId>,
        rest: Option<Rest>,
    },
    /// A branch moved onto its parent's present state.
    Rebase(Rebase),
    /// The decision to write a branch into the base.
    Decide(Arc<Decide>),
    /// All steps of the decided commit are in the base, durably.
    Done { commit: CommitId, moved: Moved },
    /// Whatever is changed in the base from this time on was not changed by the commit. Not fsynced: without it
    /// the next opening says a later time.
    Closed { commit: CommitId, time: Time },
    /// Branches ended.
    Abort { branches: Vec<BranchId> },
    /// Preimages up to this commit are gone.
    Prune { upto: CommitId },
    /// Checkpoint only: counters and tables that no other record carries.
    Counters(Counters),
    /// Checkpoint only: one live branch.
    Branch(Box<Snapshot>),
    /// Checkpoint only: it is whole.
    End,
    /// Bytes that records before this sequence number speak of as copied are durable.
    Synced { upto: u64 },
    /// A branch's tree was noted under a name; from here on it writes in a fresh layer (I-4).
    Mark { branch: BranchId, name: String, time: Time, layer: LayerId },
    /// A mark is gone.
    Unmark { branch: BranchId, name: String },
    /// A branch's tree became a marked one.
    Restore(Restore),
    /// Layers of a branch that nothing refers to any more.
    Discard { branch: BranchId, layers: Vec<LayerId> },
    /// A branch may hold more, or less, from now on.
    Quota { branch: BranchId, quota: Quota },
    /// A content file borrows nothing any more.
    Returned { layer: LayerId, id: NodeId },
    /// A child of main committed that had nothing for the base: it ends, and these become stale.
    Nothing { child: BranchId, stale: Vec<BranchId> },
}

/// Where a base directory is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DirPlace {
    pub(crate) id: NodeId,
    pub(crate) slot: Slot,
    pub(crate) object: Fingerprint,
}

/// A fork.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fork {
    pub(crate) parent: BranchId,
    /// The parent's fresh layer (I-4).
    pub(crate) parent_layer: LayerId,
    pub(crate) group: GroupId,
    pub(crate) kind: GroupKind,
    pub(crate) time: Time,
    /// What each of the children may hold.
    pub(crate) quota: Quota,
    pub(crate) children: Vec<Child>,
}

/// One branch made by a fork.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Child {
    pub(crate) id: BranchId,
    pub(crate) name: String,
    pub(crate) layer: LayerId,
}

/// A restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restore {
    pub(crate) branch: BranchId,
    /// The mark.
    pub(crate) name: String,
    /// The tree of before was noted at this time, and this is the fresh layer; `None`: some mark has it.
    pub(crate) saved: Option<(Time, LayerId)>,
    /// From the marked tree to the branch's: what lost its last name and is open, directories that children need.
    pub(crate) changes: Vec<Change>,
    pub(crate) dirs: Vec<DirPlace>,
}

/// A branch on its parent's present state: forked from there, with these changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rebase {
    pub(crate) branch: BranchId,
    /// The parent's fresh layer (I-4), as at a fork.
    pub(crate) parent_layer: LayerId,
    /// The branch's fresh layer: until this record is durable, what it had of a file is needed beside what it makes.
    pub(crate) layer: LayerId,
    /// The commit that the parent sees the base at.
    pub(crate) epoch: CommitId,
    /// What was merged of files is there.
    pub(crate) layers: Vec<LayerId>,
    /// From the parent's tree to the branch's.
    pub(crate) changes: Vec<Change>,
    /// Base directories that the tree now refers to.
    pub(crate) dirs: Vec<DirPlace>,
}

/// What a branch goes on with after part of it was merged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rest {
    /// The branch's fresh layer: its older ones are the parent's now.
    pub(crate) layer: LayerId,
    /// The parent's fresh layer (I-4).
    pub(crate) parent_layer: LayerId,
    /// From the parent's tree to the branch's.
    pub(crate) changes: Vec<Change>,
}

/// A part of a branch's changes: names that got another meaning, and objects that got other bytes or attributes.
/// Sorted: a record of the same words has the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) names: BTreeSet<Slot>,
    pub(crate) objects: BTreeSet<NodeId>,
}

/// A partial commit into the base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartOf {
    /// From the branch's tree to the one that the part is of: what was decided in conflicts.
    pub(crate) changes: Vec<Change>,
    pub(crate) part: Part,
}

/// A decided commit into the base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decide {
    pub(crate) commit: CommitId,
    pub(crate) origin: Origin,
    /// The branch's name; of one that undoes or redoes, the name of the branch that committed first.
    pub(crate) name: String,
    pub(crate) time: Time,
    pub(crate) stale: Vec<BranchId>,
    /// Node id of the preimage directory, and the directory itself.
    pub(crate) park: (NodeId, Fingerprint),
    pub(crate) displaced: Vec<Displaced>,
    /// Number of changed objects, for the log.
    pub(crate) changed: u64,
    /// Bytes of the files that it brings, for the log.
    pub(crate) bytes: u64,
    pub(crate) note: Note,
    pub(crate) plan: Plan,
    /// Of a partial commit: the branch goes on with the rest.
    pub(crate) part: Option<PartOf>,
}

/// Where the changes of a commit into the base come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    /// This branch.
    Branch(BranchId),
    /// Taking this commit back.
    Undo(CommitId),
    /// Taking this undoing back.
    Redo(CommitId),
}

/// Where a write-back put things.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Moved {
    pub(crate) dirs: Vec<DirPlace>,
    pub(crate) objects: Vec<DisplacedTo>,
}

/// Counters and tables at a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) next_branch: u32,
    pub(crate) next_layer: u64,
    pub(crate) next_group: u64,
    pub(crate) next_node: u32,
    pub(crate) commits: u64,
    pub(crate) dirs: Vec<DirPlace>,
    pub(crate) parks: Vec<(NodeId, CommitId, Fingerprint)>,
    pub(crate) parked: Vec<(HostKey, Slot)>,
    pub(crate) elsewhere: Vec<(HostKey, Slot)>,
    pub(crate) history: Vec<(CommitId, Displaced)>,
    pub(crate) log: Vec<LogLine>,
    /// Content files that borrow.
    pub(crate) lent: Vec<(LayerId, NodeId, Lender)>,
}

/// One line of the commit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogLine {
    pub(crate) commit: CommitId,
    pub(crate) origin: Origin,
    pub(crate) branch: String,
    /// See `Record::Closed`.
    pub(crate) closed: Option<Time>,
    pub(crate) time: Time,
    pub(crate) changed: u64,
    pub(crate) bytes: u64,
    pub(crate) note: Note,
}

/// A live branch at a checkpoint. Trees are written as differences (from the parent's tree, and from the
/// fork point), so shared parts are written once and shared again when read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) id: BranchId,
    pub(crate) name: String,
    pub(crate) parent: BranchId,
    pub(crate) group: GroupId,
    pub(crate) kind: GroupKind,
    pub(crate) created: Time,
    pub(crate) epoch: CommitId,
    pub(crate) layer: LayerId,
    pub(crate) layers: Vec<LayerId>,
    pub(crate) quota: Quota,
    pub(crate) fork_from_parent: Vec<Change>,
    /// In the order they were made, each as the difference from the one before, the first from the fork point.
    pub(crate) marks: Vec<MarkLine>,
    /// From the newest mark, or the fork point.
    pub(crate) tree_from_newest: Vec<Change>,
}

/// A mark at a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarkLine {
    pub(crate) name: String,
    pub(crate) time: Time,
    pub(crate) changes: Vec<Change>,
}

impl Record {
    /// Whether it speaks of copied bytes.
    pub(crate) fn has_copies(&self) -> bool {
        matches!(self, Record::Batch { copied, .. } if !copied.is_empty())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // postcard fails only for types it cannot express (I-9); these it can, as the round-trip test shows.
        postcard::to_stdvec(self).unwrap_or_else(|e| unreachable!("record is not encodable: {e}"))
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Record, String> {
        match postcard::take_from_bytes(payload) {
            Ok((record, [])) => Ok(record),
            Ok((_, rest)) => Err(format!("{} bytes after the record", rest.len())),
            Err(e) => Err(e.to_string()),
        }
    }
}
