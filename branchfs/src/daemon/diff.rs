//! What a branch changed, with line counts where both sides can be read.
//!
//! The engine keeps attributes of the old side, not its content. The parent still has that content as long
//! as it has not changed the file since the fork; where it has, the counts are absent.

use std::sync::Arc;

use branch_proto::{DiffDetail, Failure, FileChange};
use branch_store::{Access, Branch, Kind, Object, PathChange, Result, Stat, Store};

use super::failure::of_store;
use super::line_count::{self, Lines};
use super::wire_types::file_change;

/// Longest file whose lines are counted, in bytes.
const TEXT_MAX: u64 = 8 << 20;

/// The changes of `branch`, sorted by path.
pub(super) fn changes(
    store: &Store,
    branch: &Arc<Branch>,
    detail: DiffDetail,
) -> std::result::Result<Vec<FileChange>, Failure> {
    let parent = branch.parent().and_then(|id| store.branch_by_id(id));
    let change = |change: PathChange| match detail {
        DiffDetail::NameStatus => file_change(change),
        DiffDetail::Stat => with_lines(branch, parent.as_ref(), change),
    };
    let mut changes: Vec<FileChange> =
        store.diff(branch).map_err(of_store)?.into_iter().map(change).collect();
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(changes)
}

fn with_lines(branch: &Arc<Branch>, parent: Option<&Arc<Branch>>, change: PathChange) -> FileChange {
    let (old, new) = (change.old.clone(), change.new.clone());
    let wire = file_change(change);
    let old_path = wire.from.as_ref().unwrap_or(&wire.path);
    let lines =
        lines(side(parent, &old_path.0, old.as_ref()), side(Some(branch), &wire.path.0, new.as_ref()));
    FileChange { added: lines.map(|lines| lines.added), removed: lines.map(|lines| lines.removed), ..wire }
}

fn lines(old: Option<Vec<u8>>, new: Option<Vec<u8>>) -> Option<Lines> {
    line_count::count(&old?, &new?)
}

/// Content of one side: empty where there is no file, `None` where it cannot be told.
fn side(branch: Option<&Arc<Branch>>, path: &[u8], expected: Option<&Stat>) -> Option<Vec<u8>> {
    let Some(expected) = expected else { return Some(Vec::new()) };
    if expected.kind != Kind::File || expected.size > TEXT_MAX {
        return None;
    }
    let branch = branch?;
    let (object, stat) = resolve(branch, path).ok()?;
    let same = stat.id == expected.id && stat.size == expected.size && stat.mtime == expected.mtime;
    if same { read(branch, &object, expected.size).ok() } else { None }
}

fn resolve(branch: &Branch, path: &[u8]) -> Result<(Object, Stat)> {
    let root = branch.root();
    let stat = branch.stat(&root)?;
    path.split(|byte| *byte == b'/').try_fold((root, stat), |(dir, _), name| branch.lookup(&dir, name))
}

fn read(branch: &Arc<Branch>, object: &Object, size: u64) -> Result<Vec<u8>> {
    let file = branch.open(object, Access::Read)?;
    let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut filled = 0;
    while filled < content.len() {
        match file.read_at(&mut content[filled..], filled as u64)? {
            0 => break,
            got => filled += got,
        }
    }
    content.truncate(filled);
    Ok(content)
}
