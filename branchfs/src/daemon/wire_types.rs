//! The engine's types as wire types, and back.

use std::path::Path;
use std::time::Duration;

use branch_proto as wire;
use branch_proto::PathBytes;
use branch_store::{Branch, ChangeKind, Kind, PathChange, Stat, Store};

use super::groups::Groups;
use crate::patch::Why;

/// One branch, as clients see it.
pub(super) fn branch_info(
    store: &Store,
    groups: &Groups,
    mountpoint: &Path,
    branch: &Branch,
) -> branch_store::Result<wire::BranchInfo> {
    let holdings = branch.holdings()?;
    Ok(wire::BranchInfo {
        name: branch.name().to_owned(),
        index: branch.id().0,
        parent: branch.parent().and_then(|id| name_of(store, id)),
        group: branch.group().map(group_kind),
        created: branch.created().sec,
        changed: holdings.changed,
        bytes: holdings.exclusive,
        content: holdings.content,
        limit: match branch.quota() {
            branch_store::Quota::Bytes(limit) => Some(limit),
            branch_store::Quota::Unlimited => None,
        },
        view: if branch.is_attached() { wire::ViewKind::Native } else { wire::ViewKind::Fuse },
        groups: groups.count(branch.id()),
        children: branch.children().into_iter().filter_map(|id| name_of(store, id)).collect(),
        checkpoints: branch.marks().into_iter().map(checkpoint).collect(),
        path: PathBytes::from(mountpoint.join(branch.name()).as_path()),
    })
}

/// What is kept, with what a request wants otherwise.
pub(super) fn to_keep(keep: branch_store::Keep, change: wire::KeepChange) -> branch_store::Keep {
    let bound = |bound| match bound {
        wire::Bound::Unlimited => None,
        wire::Bound::AtMost(most) => Some(most),
    };
    branch_store::Keep {
        commits: change.commits.unwrap_or(keep.commits),
        age: change.age.map_or(keep.age, |age| bound(age).map(Duration::from_secs)),
        bytes: change.bytes.map_or(keep.bytes, bound),
    }
}

pub(super) fn gc_report(collected: branch_store::Collected, keep: branch_store::Keep) -> wire::GcReport {
    wire::GcReport {
        commits: collected.commits.into_iter().map(|commit| commit.0).collect(),
        preimage_bytes: collected.preimage_bytes,
        kept_bytes: collected.kept_bytes,
        remains_bytes: collected.remains_bytes,
        layers: collected.layers,
        keep: wire::Keep { commits: keep.commits, age: keep.age.map(|age| age.as_secs()), bytes: keep.bytes },
    }
}

pub(super) fn to_quota(quota: wire::Quota) -> branch_store::Quota {
    match quota {
        wire::Quota::Unlimited => branch_store::Quota::Unlimited,
        wire::Quota::Bytes(bytes) => branch_store::Quota::Bytes(bytes),
    }
}

fn checkpoint(mark: branch_store::MarkInfo) -> wire::Checkpoint {
    wire::Checkpoint { name: mark.name, created: mark.time.sec }
}

/// What a patch left out, as clients see it.
pub(super) fn omitted(omitted: crate::patch::Omitted) -> wire::Omitted {
    let why = match omitted.why {
        Why::Attributes => wire::OmittedBecause::Attributes,
        Why::EmptyDirectory => wire::OmittedBecause::EmptyDirectory,
        Why::Special => wire::OmittedBecause::Special,
        Why::Reserved => wire::OmittedBecause::Reserved,
    };
    wire::Omitted { why, paths: omitted.paths, first: PathBytes(omitted.first) }
}

/// A change without line counts.
pub(super) fn file_change(change: PathChange) -> wire::FileChange {
    let (status, from) = match change.kind {
        ChangeKind::Added => (wire::ChangeStatus::Added, None),
        ChangeKind::Modified => (wire::ChangeStatus::Modified, None),
        ChangeKind::Deleted => (wire::ChangeStatus::Deleted, None),
        ChangeKind::Renamed { from } => (wire::ChangeStatus::Renamed, Some(PathBytes(from))),
        ChangeKind::Type => (wire::ChangeStatus::Type, None),
        ChangeKind::Attributes => (wire::ChangeStatus::Attributes, None),
    };
    wire::FileChange {
        path: PathBytes(change.path),
        status,
        from,
        added: None,
        removed: None,
        old_size: change.old.as_ref().and_then(size),
        new_size: change.new.as_ref().and_then(size),
    }
}

/// Decided conflicts, sorted by path. What was refused is among the conflicts.
pub(super) fn resolved(resolved: &[branch_store::Resolved]) -> Vec<wire::Resolved> {
    let one = |resolved: &branch_store::Resolved| {
        let choice = match resolved.choice {
            branch_store::Choice::Ours => wire::Choice::Ours,
            branch_store::Choice::Theirs => wire::Choice::Theirs,
            branch_store::Choice::Merge(_) => wire::Choice::Merge,
            branch_store::Choice::Refuse => return None,
        };
        let path = PathBytes(resolved.conflict.path.clone());
        let (kind, markers) = (conflict_kind(resolved.conflict.kind), resolved.markers as u64);
        Some(wire::Resolved { path, kind, choice, markers })
    };
    let mut all: Vec<wire::Resolved> = resolved.iter().filter_map(one).collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all.dedup();
    all
}

pub(super) fn planned_step(step: branch_store::PlannedStep) -> wire::PlannedStep {
    let action = match step.action {
        branch_store::StepAction::Remove => wire::StepAction::Remove,
        branch_store::StepAction::Detach => wire::StepAction::Detach,
        branch_store::StepAction::Create => wire::StepAction::Create,
        branch_store::StepAction::Move => wire::StepAction::Move,
        branch_store::StepAction::Replace => wire::StepAction::Replace,
        branch_store::StepAction::Link => wire::StepAction::Link,
        branch_store::StepAction::Rewrite => wire::StepAction::Rewrite,
        branch_store::StepAction::Attributes => wire::StepAction::Attributes,
    };
    wire::PlannedStep { action, path: PathBytes(step.path), from: step.from.map(PathBytes) }
}

/// A conflict, with its words.
pub(super) fn conflict(conflict: branch_store::Conflict) -> wire::Conflict {
    wire::Conflict {
        path: PathBytes(conflict.path),
        kind: conflict_kind(conflict.kind),
        reason: conflict.kind.reason(conflict.target),
        unmerged: conflict.unmerged,
        others: conflict.others.into_iter().map(PathBytes).collect(),
        base: conflict.base.map(version),
        ours: conflict.ours.map(version),
        theirs: conflict.theirs.map(version),
    }
}

fn conflict_kind(kind: branch_store::ConflictKind) -> wire::ConflictKind {
    use branch_store::ConflictKind as Kind;
    match kind {
        Kind::Content => wire::ConflictKind::Content,
        Kind::Attributes => wire::ConflictKind::Attributes,
        Kind::CreateCreate => wire::ConflictKind::CreateCreate,
        Kind::ModifyDelete => wire::ConflictKind::ModifyDelete,
        Kind::DeleteModify => wire::ConflictKind::DeleteModify,
        Kind::RenameRename => wire::ConflictKind::RenameRename,
        Kind::RenameDelete => wire::ConflictKind::RenameDelete,
        Kind::DeleteRename => wire::ConflictKind::DeleteRename,
        Kind::Type => wire::ConflictKind::Type,
        Kind::CreatedInRemoved => wire::ConflictKind::CreatedInRemoved,
        Kind::RemovedAround => wire::ConflictKind::RemovedAround,
        Kind::Immutable => wire::ConflictKind::Immutable,
        Kind::NotPermitted => wire::ConflictKind::NotPermitted,
        Kind::OtherFilesystem => wire::ConflictKind::OtherFilesystem,
    }
}

fn version(version: branch_store::Version) -> wire::Version {
    wire::Version {
        kind: file_kind(version.kind),
        mode: version.mode,
        uid: version.uid,
        gid: version.gid,
        size: version.size,
        mtime: version.mtime.map(|time| time.sec),
        target: version.target.map(PathBytes),
    }
}

fn file_kind(kind: Kind) -> wire::FileKind {
    match kind {
        Kind::File => wire::FileKind::File,
        Kind::Dir => wire::FileKind::Directory,
        Kind::Symlink => wire::FileKind::Symlink,
        Kind::Fifo => wire::FileKind::Fifo,
        Kind::Socket => wire::FileKind::Socket,
        Kind::Char => wire::FileKind::CharDevice,
        Kind::Block => wire::FileKind::BlockDevice,
    }
}

pub(super) fn log_entry(entry: branch_store::LogEntry) -> wire::LogEntry {
    wire::LogEntry {
        commit: entry.commit.0,
        action: commit_action(entry.action),
        branch: entry.branch,
        time: entry.time.sec,
        changed: entry.changed,
        bytes: entry.bytes,
        by: entry.note.by,
        message: entry.note.message,
    }
}

pub(super) fn commit_action(action: branch_store::Action) -> wire::CommitAction {
    match action {
        branch_store::Action::Commit => wire::CommitAction::Commit,
        branch_store::Action::Undo(of) => wire::CommitAction::Undo { of: of.0 },
        branch_store::Action::Redo(of) => wire::CommitAction::Redo { of: of.0 },
    }
}

pub(super) fn group_kind(kind: branch_store::GroupKind) -> wire::GroupKind {
    match kind {
        branch_store::GroupKind::Exclusive => wire::GroupKind::Exclusive,
        branch_store::GroupKind::Independent => wire::GroupKind::Independent,
        branch_store::GroupKind::Frozen => wire::GroupKind::Frozen,
    }
}

pub(super) fn commit_phase(phase: branch_store::Phase) -> wire::CommitPhase {
    match phase {
        branch_store::Phase::Planning => wire::CommitPhase::Planning,
        branch_store::Phase::Staging => wire::CommitPhase::Staging,
        branch_store::Phase::Syncing => wire::CommitPhase::Syncing,
        branch_store::Phase::Deciding => wire::CommitPhase::Deciding,
        branch_store::Phase::WritingBack => wire::CommitPhase::WritingBack,
        branch_store::Phase::Finishing => wire::CommitPhase::Finishing,
        branch_store::Phase::Done => wire::CommitPhase::Done,
    }
}

pub(super) fn to_group_kind(kind: wire::GroupKind) -> branch_store::GroupKind {
    match kind {
        wire::GroupKind::Exclusive => branch_store::GroupKind::Exclusive,
        wire::GroupKind::Independent => branch_store::GroupKind::Independent,
        wire::GroupKind::Frozen => branch_store::GroupKind::Frozen,
    }
}

pub(super) fn to_children(children: wire::Children) -> branch_store::Children {
    match children {
        wire::Children::Refuse => branch_store::Children::Refuse,
        wire::Children::Cascade => branch_store::Children::Cascade,
    }
}

fn name_of(store: &Store, id: branch_store::BranchId) -> Option<String> {
    store.branch_by_id(id).map(|branch| branch.name().to_owned())
}

/// The size a person would compare; a directory's number is the host filesystem's own business.
fn size(stat: &Stat) -> Option<u64> {
    (stat.kind != Kind::Dir).then_some(stat.size)
}
