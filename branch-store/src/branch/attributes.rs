//! Operations on attributes: mode, owner, times, size, extended attributes.

use std::sync::Arc;

use rustix::io::Errno;

use crate::branch::{Branch, Draft};
use crate::content::set_mtime;
use crate::error::{Error, Result};
use crate::ids::{NAME_MAX, NodeId, XATTR_SIZE_MAX, XATTRS_SIZE_MAX};
use crate::node::{Body, Content, Kind, Object, Stat, Time, Xattrs};

/// What to change; `None` leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttrChange {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes: truncate or extend.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<Time>,
    /// Last modification.
    pub mtime: Option<Time>,
}

/// One extended attribute, to be changed in the same record as others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XattrChange<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its new value; `None`: it goes, if it is there.
    pub value: Option<&'a [u8]>,
}

/// What setting an extended attribute expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    /// Nothing.
    Any,
    /// That it is not there yet (EEXIST).
    Create,
    /// That it is there (ENODATA).
    Replace,
}

impl Branch {
    /// Changes attributes; the new ones are returned.
    ///
    /// # Errors
    /// EISDIR or EINVAL for the size of what has none, EROFS, EBUSY, ESTALE, ENOSPC, and the host's.
    pub fn set_attr(&self, object: &Object, change: &AttrChange) -> Result<Stat> {
        self.set_attr_and_xattr(object, change, None)
    }

    /// As [`Branch::set_attr`], with an extended attribute that says the same in other words: one record, so
    /// that they never disagree.
    ///
    /// # Errors
    /// Those of [`Branch::set_attr`]; E2BIG for the value.
    pub fn set_attr_and_xattr(
        &self,
        object: &Object,
        change: &AttrChange,
        xattr: Option<XattrChange<'_>>,
    ) -> Result<Stat> {
        if let Some(xattr) = xattr {
            check_xattr(xattr.name, xattr.value)?;
        }
        if let Some(size) = change.size {
            match self.stat(object)?.kind {
                Kind::File => self.truncate(object, size)?,
                Kind::Dir => return Err(Error::Posix(Errno::ISDIR)),
                _ => return Err(Error::Posix(Errno::INVAL)),
            }
        }
        // Asked for nothing, as chown(2) can be, it still is a change: of ctime.
        let more = (AttrChange { size: None, ..*change }) != AttrChange::default() || xattr.is_some();
        if more || change.size.is_none() {
            self.set_meta(object, change, xattr)?;
        }
        self.stat(object)
    }

    fn set_meta(&self, object: &Object, change: &AttrChange, xattr: Option<XattrChange<'_>>) -> Result<()> {
        self.mutate(|draft| {
            let id = draft.change(object)?;
            let mut inode = draft.node(id)?.inode.clone();
            let meta = &mut inode.meta;
            meta.mode = change.mode.map_or(meta.mode, |mode| mode & 0o7777);
            meta.uid = change.uid.unwrap_or(meta.uid);
            meta.gid = change.gid.unwrap_or(meta.gid);
            let nearest = |time| draft.shared.contents.nearest(time);
            meta.atime = change.atime.map(nearest).transpose()?.unwrap_or(meta.atime);
            meta.ctime = Time::now();
            if let Some(mtime) = change.mtime.map(nearest).transpose()? {
                match inode.body {
                    // The content file of the own layer knows its times (I-5).
                    Body::File(Content::Own(layer)) if layer == draft.layer => {
                        let file = draft.shared.contents.open_as_is(layer, id, rustix::fs::OFlags::WRONLY)?;
                        set_mtime(&file, mtime)?;
                        meta.mtime = None;
                    }
                    _ => meta.mtime = Some(mtime),
                }
            }
            if let Some(XattrChange { name, value }) = xattr {
                meta.xattrs = with_xattr(draft, &meta.xattrs, name, value)?;
            }
            draft.put(id, inode)
        })
    }

    /// One extended attribute.
    ///
    /// # Errors
    /// ENODATA, ESTALE, and the host's.
    pub fn xattr(&self, object: &Object, name: &[u8]) -> Result<Vec<u8>> {
        let value = self.read(|view| match view.tree.get(object.id) {
            Some(node) => Ok(node.inode.meta.xattrs.get(name).cloned()),
            None => view.base.xattr(&view.found(object)?, object.id == NodeId::ROOT, name),
        })?;
        value.ok_or(Error::Posix(Errno::NODATA))
    }

    /// Names of all extended attributes.
    ///
    /// # Errors
    /// ESTALE, and the host's.
    pub fn xattrs(&self, object: &Object) -> Result<Vec<Vec<u8>>> {
        let all = self.read(|view| match view.tree.get(object.id) {
            Some(node) => Ok(node.inode.meta.xattrs.clone()),
            None => view.base.xattrs(&view.found(object)?, object.id == NodeId::ROOT),
        })?;
        Ok(all.keys().cloned().collect())
    }

    /// Sets an extended attribute, or removes it (`None`).
    ///
    /// # Errors
    /// ENODATA, EEXIST, ERANGE, E2BIG, EROFS, EBUSY, ESTALE, ENOSPC, and the host's.
    pub fn set_xattr(
        &self,
        object: &Object,
        name: &[u8],
        value: Option<&[u8]>,
        mode: XattrMode,
    ) -> Result<()> {
        check_xattr(name, value)?;
        self.mutate(|draft| {
            let id = draft.change(object)?;
            let all = &draft.node(id)?.inode.meta.xattrs;
            match (mode, all.contains_key(name), value) {
                (XattrMode::Create, true, _) => return Err(Error::Posix(Errno::EXIST)),
                (XattrMode::Replace, false, _) | (_, false, None) => return Err(Error::Posix(Errno::NODATA)),
                // Setting what is set moves no ctime on ext4.
                (_, true, Some(value)) if all.get(name).is_some_and(|old| old == value) => return Ok(()),
                _ => {}
            }
            let all = with_xattr(draft, all, name, value)?;
            let now = Time::now();
            draft.update(id, |inode| {
                inode.meta.xattrs = all;
                inode.meta.ctime = now;
            })
        })
    }
}

fn check_xattr(name: &[u8], value: Option<&[u8]>) -> Result<()> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(Error::Posix(Errno::RANGE));
    }
    if value.is_some_and(|v| v.len() > XATTR_SIZE_MAX) {
        return Err(Error::Posix(Errno::TOOBIG));
    }
    Ok(())
}

/// The attributes with one changed. What goes beyond our bound or the host's is refused.
fn with_xattr(draft: &Draft<'_>, all: &Xattrs, name: &[u8], value: Option<&[u8]>) -> Result<Xattrs> {
    let mut all = (**all).clone();
    let Some(value) = value else {
        all.remove(name);
        return Ok(Arc::new(all));
    };
    all.insert(name.to_vec(), value.to_vec());
    if all.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > XATTRS_SIZE_MAX {
        return Err(Error::Posix(Errno::NOSPC));
    }
    let all = Arc::new(all);
    crate::xattr::check_room(&draft.shared.park_fd, &all)?;
    Ok(all)
}
