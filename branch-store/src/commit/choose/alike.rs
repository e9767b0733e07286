//! Equal changes are no conflict (S14). Whether they are equal is looked at only where a conflict would be reported
//! otherwise, so that nobody else pays for reading bytes.

use crate::commit::choose::versions::{Version, are_equal};
use crate::commit::clash::{Clash, Sides, Subject, Why};
use crate::commit::{attributes, choose::Decision};
use crate::conflict::{Conflict, Target};
use crate::error::{Error, Result};
use crate::ids::NodeId;
use crate::node::{Attributes, Kind, Object};

/// Whether a clash is about the name in the base that both sides moved one file away from, to the same place, where both
/// have the same: then what there is to say is said of that place.
pub(super) fn is_moved_alike(sides: &Sides<'_>, clash: &Clash) -> Result<bool> {
    let (Target::Base, Subject::Name(slot)) = (sides.target, &clash.subject) else { return Ok(false) };
    if !matches!(clash.why, Why::BothChanged | Why::GoneBelow) {
        return Ok(false);
    }
    let ours = &sides.ours.indexed;
    let is_gone = |id: &NodeId| {
        let node = ours.tree().get(*id);
        node.is_some_and(|node| node.inode.kind() != Kind::Dir && node.inode.meta.nlink == 1)
    };
    let moved: Vec<NodeId> = ours.index().adopted_at(slot).filter(is_gone).collect();
    let [id] = moved[..] else { return Ok(false) };
    let Some(place) = ours.holder(id).filter(|place| place != slot) else { return Ok(false) };
    let Some(path) = ours.path(id) else { return Ok(false) };
    let there = Clash::new(path, Why::BothCreated, Subject::Name(place));
    let conflict = sides.conflict(&there)?;
    Ok(matches!(decide(sides, &there, &conflict)?, Some(Decision::Theirs)))
}

/// What comes of a clash of two sides that did the same; `None` if they did not. Theirs stays as it is, also its times,
/// unless one side did more to the attributes.
pub(super) fn decide(sides: &Sides<'_>, clash: &Clash, conflict: &Conflict) -> Result<Option<Decision>> {
    let (Some(ours), Some(theirs)) = (&conflict.ours, &conflict.theirs) else { return Ok(None) };
    if (ours.kind, ours.size, &ours.target) != (theirs.kind, theirs.size, &theirs.target) {
        return Ok(None);
    }
    let Some(met) = sides.met(clash)? else { return Ok(None) };
    // One directory is merged by its names and attributes; two are the same if all in them is.
    if ours.kind == Kind::Dir && (met.ours == met.theirs.id || met.fork.is_some() || met.lost) {
        return Ok(None);
    }
    let Some((merged, theirs)) = sides.attributes(&met)? else { return Ok(None) };
    let our = Object { id: met.ours, slot: None };
    let equal = || are_equal((&sides.ours.view, our.clone()), (&sides.theirs.view, met.theirs.clone()));
    match sides.undisturbed(equal) {
        Ok(true) => {}
        // Gone while it was looked at.
        Ok(false) | Err(Error::Posix(rustix::io::Errno::NOENT | rustix::io::Errno::STALE)) => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    }
    if !sides.is_still_theirs(&met)? {
        return Ok(None);
    }
    if attributes::agree(&merged, &theirs) {
        return Ok(Some(Decision::Theirs));
    }
    let mut inode = sides.ours.node(met.ours)?.inode.clone();
    if inode.kind() == Kind::Dir {
        return Ok(None);
    }
    let Attributes { atime, mtime, .. } = inode.meta.attributes();
    inode.meta.set_attributes(Attributes { atime, mtime, ..merged });
    let version = Version { id: met.ours, inode, theirs: met.their_print };
    Ok(Some(Decision::Version(Box::new(version))))
}
