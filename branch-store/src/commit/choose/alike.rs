//! Equal changes are no conflict (S14). Whether they are equal is looked at only where a conflict would be reported
//! otherwise, so that nobody else pays for reading bytes.

use crate::commit::choose::versions::{Version, are_equal};
use crate::commit::clash::{Clash, Sides};
use crate::commit::{attributes, choose::Decision};
use crate::conflict::Conflict;
use crate::error::{Error, Result};
use crate::node::{Attributes, Kind, Object};

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
