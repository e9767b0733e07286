//! What differs between two sides: as paths, with line counts if asked for, or as a patch.

use std::io::BufWriter;
use std::os::fd::{BorrowedFd, OwnedFd};

use branch_proto::{ChangeStatus, Compared, DiffDetail, Failure, FileChange, Omitted};
use branch_store::{ChangeKind, CommitId, Directories, Kind, PathChange, Side, Stat};

use super::failure::{of_io, of_patch, of_store};
use super::patch_pipe::PatchPipe;
use super::state::Daemon;
use super::wire_types::{file_change, omitted};
use crate::patch::{self, Lines};

/// Longest file whose lines are counted, in bytes.
const TEXT_MAX: u64 = 8 << 20;
/// Bytes of a patch that are written at once.
const CHUNK: usize = 64 << 10;

/// What differs, sorted by path.
pub(super) fn changes(
    daemon: &Daemon,
    compared: &Compared,
    detail: DiffDetail,
) -> Result<Vec<FileChange>, Failure> {
    let (old, new) = sides(daemon, compared)?;
    let changes = daemon.store.compare(&old, &new, Directories::Whole).map_err(of_store)?;
    let mut found = Vec::with_capacity(changes.len());
    for change in changes {
        let same = matches!(compared, Compared::Between { .. }) && is_same(&old, &new, &change)?;
        match status_of_same(&change) {
            Some(status) if same => found.push(FileChange { status, ..file_change(change) }),
            None if same => {}
            _ if detail == DiffDetail::Stat => found.push(with_lines(&old, &new, change)?),
            _ => found.push(file_change(change)),
        }
    }
    Ok(found)
}

/// Writes what differs as a patch into a pipe; says what is not in it.
pub(super) fn patch(
    daemon: &Daemon,
    client: BorrowedFd<'_>,
    compared: &Compared,
    pipe: OwnedFd,
) -> Result<Vec<Omitted>, Failure> {
    let (old, new) = sides(daemon, compared)?;
    let changes = daemon.store.compare(&old, &new, Directories::Expanded).map_err(of_store)?;
    let pipe = PatchPipe::new(pipe, client).map_err(|error| of_io("preparing the pipe", &error))?;
    let mut out = BufWriter::with_capacity(CHUNK, pipe);
    let left_out = patch::write(&mut out, (&old, &new), &changes).map_err(of_patch)?;
    Ok(left_out.into_iter().map(omitted).collect())
}

fn sides(daemon: &Daemon, compared: &Compared) -> Result<(Side, Side), Failure> {
    match compared {
        Compared::SinceFork { branch } => {
            let branch = daemon.branch(branch)?;
            daemon.flush(&branch)?;
            daemon.store.fork_and_now(&branch).map_err(of_store)
        }
        Compared::Between { old, new } => Ok((side(daemon, old)?, side(daemon, new)?)),
    }
}

fn side(daemon: &Daemon, side: &branch_proto::Side) -> Result<Side, Failure> {
    match side {
        branch_proto::Side::Branch { name } => {
            let branch = daemon.branch(name)?;
            daemon.flush(&branch)?;
            daemon.store.side(&branch).map_err(of_store)
        }
        branch_proto::Side::Checkpoint { branch, name } => {
            daemon.store.marked(&daemon.branch(branch)?, name).map_err(of_store)
        }
        branch_proto::Side::Commit { commit } => daemon.store.base_after(CommitId(*commit)).map_err(of_store),
    }
}

/// Whether two objects under one path, or one that two branches wrote, hold the same.
fn is_same(old: &Side, new: &Side, change: &PathChange) -> Result<bool, Failure> {
    let (ChangeKind::Modified, Some(before), Some(after)) = (&change.kind, &change.old, &change.new) else {
        return Ok(false);
    };
    if before.size != after.size {
        return Ok(false);
    }
    match before.kind {
        Kind::File => {
            let content = |side| content(side, &change.path, patch::CONTENT_MAX);
            let (before, after) = (content(old)?, content(new)?);
            Ok(before.is_some() && before == after)
        }
        Kind::Symlink => Ok(target(old, &change.path)? == target(new, &change.path)?),
        Kind::Dir | Kind::Fifo | Kind::Socket | Kind::Char | Kind::Block => Ok(before.rdev == after.rdev),
    }
}

/// What there is to say of two objects that hold the same.
fn status_of_same(change: &PathChange) -> Option<ChangeStatus> {
    let attributes = |stat: &Option<Stat>| stat.as_ref().map(|stat| (stat.mode, stat.uid, stat.gid));
    (attributes(&change.old) != attributes(&change.new)).then_some(ChangeStatus::Attributes)
}

fn with_lines(old: &Side, new: &Side, change: PathChange) -> Result<FileChange, Failure> {
    let from = match &change.kind {
        ChangeKind::Renamed { from } => from,
        _ => &change.path,
    };
    let before = text(old, from, change.old.as_ref())?;
    let after = text(new, &change.path, change.new.as_ref())?;
    let lines = match (before, after) {
        (Some(before), Some(after)) => patch::count_lines(&before, &after),
        _ => None,
    };
    let wire = file_change(change);
    let Some(Lines { added, removed }) = lines else { return Ok(wire) };
    Ok(FileChange { added: Some(added), removed: Some(removed), ..wire })
}

/// Content of one side: empty where there is nothing, `None` for what has no lines.
fn text(side: &Side, path: &[u8], stat: Option<&Stat>) -> Result<Option<Vec<u8>>, Failure> {
    match stat {
        None => Ok(Some(Vec::new())),
        Some(stat) if stat.kind == Kind::File => content(side, path, TEXT_MAX),
        Some(_) => Ok(None),
    }
}

/// `None` if it is longer than `max`, or gone meanwhile.
fn content(side: &Side, path: &[u8], max: u64) -> Result<Option<Vec<u8>>, Failure> {
    match side.resolve(path).map_err(of_store)? {
        Some((object, _)) => side.read(&object, max).map_err(of_store),
        None => Ok(None),
    }
}

fn target(side: &Side, path: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    let found = side.resolve(path).map_err(of_store)?;
    found.map(|(object, _)| side.read_link(&object).map_err(of_store)).transpose()
}
