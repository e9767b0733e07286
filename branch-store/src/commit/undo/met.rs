//! What people are told where undoing stops.

use crate::base::{Base, Found};
use crate::conflict::{Conflict, ConflictKind, Target, Version};
use crate::error::Result;
use crate::ids::NodeId;
use crate::node::Kind;

/// Something is in the way.
pub(super) fn met(base: &Base, path: &[u8], kind: ConflictKind, found: Option<&Found>) -> Result<Conflict> {
    let theirs = found.map(|found| version(base, found)).transpose()?;
    Ok(Conflict { kind, theirs, ..nothing_there(path) })
}

/// What must be there was removed or moved since, or a directory above it.
pub(super) fn nothing_there(path: &[u8]) -> Conflict {
    let path = if path.is_empty() { b"." } else { path };
    Conflict {
        path: path.to_vec(),
        others: Vec::new(),
        kind: ConflictKind::ModifyDelete,
        target: Target::Since,
        unmerged: None,
        base: None,
        ours: None,
        theirs: None,
    }
}

fn version(base: &Base, found: &Found) -> Result<Version> {
    let stat = found.stat(NodeId::ROOT);
    let link = stat.kind == Kind::Symlink;
    Ok(Version {
        kind: stat.kind,
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        size: (stat.kind == Kind::File).then_some(stat.size),
        mtime: Some(stat.mtime),
        target: if link { Some(base.read_link(found)?) } else { None },
    })
}
