//! What an object holds on a side, compared without a look at the bytes.

use rustix::io::Errno;

use crate::branch::View;
use crate::error::{Error, Result};
use crate::ids::{LayerId, NodeId};
use crate::node::{Body, Content, Fingerprint, Object, Slot, Time, Xattrs};

/// Where a file's bytes are: what is equal has the same bytes, without a look at them.
#[derive(PartialEq, Eq)]
enum Bytes {
    Own(LayerId),
    /// In a file of the base, as it is or as a commit kept it.
    Base(Fingerprint, Option<Slot>),
}

pub(super) fn bytes_differ(old: (&View<'_>, &Object), new: (&View<'_>, &Object)) -> Result<bool> {
    if old.0.epoch == new.0.epoch && own_layer(old).is_none() && own_layer(new).is_none() {
        return Ok(false);
    }
    Ok(bytes_of(old)? != bytes_of(new)?)
}

fn own_layer((view, object): (&View<'_>, &Object)) -> Option<LayerId> {
    match view.tree.get(object.id).map(|node| &node.inode.body) {
        Some(Body::File(Content::Own(layer))) => Some(*layer),
        _ => None,
    }
}

fn bytes_of(at: (&View<'_>, &Object)) -> Result<Bytes> {
    if let Some(layer) = own_layer(at) {
        return Ok(Bytes::Own(layer));
    }
    let (view, object) = at;
    let slot = match view.tree.get(object.id).map(|node| &node.inode.body) {
        Some(Body::File(Content::Base(slot))) => slot.clone(),
        _ => view.slot_of(object)?,
    };
    let found = view.base.resolve(&slot, view.epoch)?.ok_or(Error::Posix(Errno::STALE))?;
    let mut print = found.seen_print();
    // Changes of attributes alone.
    (print.mode, print.uid, print.gid, print.ctime) = (0, 0, 0, Time::default());
    Ok(Bytes::Base(print, found.was.as_ref().and_then(|was| was.content.clone())))
}

pub(super) fn xattrs(view: &View<'_>, object: &Object) -> Result<Xattrs> {
    match view.tree.get(object.id) {
        Some(node) => Ok(node.inode.meta.xattrs.clone()),
        None => view.base.xattrs(&view.found(object)?, object.id == NodeId::ROOT),
    }
}
