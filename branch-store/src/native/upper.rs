//! Reading the upper directory of an overlayfs: what it holds, in overlayfs' own terms. Changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use lru::LruCache;
use rustix::fs::{Mode, OFlags, Statx};
use rustix::io::Errno;

use crate::base::{stat_at, stat_fd};
use crate::branch::OverlayXattrs;
use crate::disk::{list, open_dir};
use crate::error::{Error, Result};
use crate::ids::{Name, NodeId};
use crate::native::handle::Handle;
use crate::native::materialise::NODE;
use crate::node::{Attributes, Kind, Time, Xattrs, device, time_of};

/// Directories of the upper kept open.
const OPEN_DIRS_MAX: usize = 64;

/// All that is in an upper directory.
pub(super) struct Upper {
    root: OwnedFd,
    /// Where overlayfs keeps copies of files with several names.
    index: Option<Arc<OwnedFd>>,
    /// The first is the root; parents come before their children.
    pub(super) dirs: Vec<Dir>,
    /// Everything else, each inode once.
    pub(super) others: Vec<Other>,
    open: LruCache<usize, Arc<OwnedFd>>,
}

/// A directory.
pub(super) struct Dir {
    pub(super) parent: usize,
    pub(super) name: Name,
    pub(super) object: Object,
    /// Nothing below shows through.
    pub(super) opaque: bool,
    /// Where in the layers below it was before it was moved: an absolute path, or a name in the same directory.
    pub(super) redirect: Option<Vec<u8>>,
    pub(super) entries: BTreeMap<Name, Entry>,
}

/// What a name means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    /// The name is gone.
    Whiteout,
    /// An index into the directories.
    Dir(usize),
    /// An index into the others.
    Other(usize),
}

/// What is no directory.
pub(super) struct Other {
    pub(super) object: Object,
    /// Its names in the upper directory; none if a name of the base that is still there means it (`indexed`).
    pub(super) names: Vec<(usize, Name)>,
    /// Its name in the index, if it has no other.
    indexed: Option<Vec<u8>>,
    /// Of a symbolic link.
    pub(super) target: Vec<u8>,
}

/// An inode of the upper filesystem.
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) statx: Statx,
    /// Without what overlayfs notes for itself.
    pub(super) xattrs: Xattrs,
    /// What it was copied up from.
    pub(super) origin: Option<Handle>,
    /// Which node of the branch it was to begin with.
    pub(super) node: Option<NodeId>,
}

impl Object {
    pub(super) fn key(&self) -> (u64, Time) {
        (self.statx.stx_ino, time_of(&self.statx.stx_btime))
    }

    pub(super) fn attributes(&self) -> Attributes {
        Attributes {
            mode: u32::from(self.statx.stx_mode) & 0o7777,
            uid: self.statx.stx_uid,
            gid: self.statx.stx_gid,
            xattrs: self.xattrs.clone(),
            atime: time_of(&self.statx.stx_atime),
            mtime: Some(time_of(&self.statx.stx_mtime)),
        }
    }

    pub(super) fn ctime(&self) -> Time {
        time_of(&self.statx.stx_ctime)
    }

    pub(super) fn rdev(&self) -> u64 {
        device(self.statx.stx_rdev_major, self.statx.stx_rdev_minor)
    }
}

impl Upper {
    /// Reads the whole of it. What vanishes meanwhile is not there.
    pub(super) fn read(root: OwnedFd, index: Option<OwnedFd>, style: OverlayXattrs) -> Result<Upper> {
        let (object, marks) = inspect(&root, b".", stat_fd(&root)?, Kind::Dir, style)?;
        let name = Name::trusted(b"root");
        let top =
            Dir { parent: 0, name, object, opaque: marks.opaque, redirect: None, entries: BTreeMap::new() };
        let capacity = NonZeroUsize::new(OPEN_DIRS_MAX).unwrap_or(NonZeroUsize::MIN);
        let index = index.map(Arc::new);
        let mut upper =
            Upper { root, index, dirs: vec![top], others: Vec::new(), open: LruCache::new(capacity) };
        let mut seen = HashMap::new();
        let mut at = 0;
        while at < upper.dirs.len() {
            upper.read_dir(at, style, &mut seen)?;
            at += 1;
        }
        upper.read_index(style, &seen)?;
        Ok(upper)
    }

    fn read_dir(&mut self, at: usize, style: OverlayXattrs, seen: &mut HashMap<u64, usize>) -> Result<()> {
        let Some(dir) = there(self.open(at).map_err(Into::into))? else { return Ok(()) };
        let Some(names) = there(list(&*dir).map_err(Into::into))? else { return Ok(()) };
        for name in names {
            let Some(statx) = there(stat_at(&*dir, &name).map_err(Into::into))? else { continue };
            let Some(kind) = Kind::of_mode(u32::from(statx.stx_mode)) else { continue };
            let entry = if kind == Kind::Char && device(statx.stx_rdev_major, statx.stx_rdev_minor) == 0 {
                Entry::Whiteout
            } else if let Some(index) = seen.get(&statx.stx_ino).filter(|_| kind != Kind::Dir) {
                self.others[*index].names.push((at, Name::trusted(&name)));
                Entry::Other(*index)
            } else {
                match there(inspect(&dir, &name, statx, kind, style))? {
                    Some((object, marks)) => self.take(at, &name, object, marks, &dir, seen)?,
                    None => continue,
                }
            };
            self.dirs[at].entries.insert(Name::trusted(&name), entry);
        }
        Ok(())
    }

    fn take(
        &mut self,
        at: usize,
        name: &[u8],
        object: Object,
        marks: Marks,
        dir: &OwnedFd,
        seen: &mut HashMap<u64, usize>,
    ) -> Result<Entry> {
        let called = Name::trusted(name);
        if object.kind == Kind::Dir {
            let Marks { opaque, redirect } = marks;
            let entries = BTreeMap::new();
            self.dirs.push(Dir { parent: at, name: called, object, opaque, redirect, entries });
            return Ok(Entry::Dir(self.dirs.len() - 1));
        }
        let target = match object.kind {
            Kind::Symlink => rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes(),
            _ => Vec::new(),
        };
        seen.insert(object.statx.stx_ino, self.others.len());
        self.others.push(Other { object, names: vec![(at, called)], indexed: None, target });
        Ok(Entry::Other(self.others.len() - 1))
    }

    /// A file of the base with several names was changed, and then lost the names that it was changed by: the others
    /// mean the copy, which only the index has.
    fn read_index(&mut self, style: OverlayXattrs, seen: &HashMap<u64, usize>) -> Result<()> {
        let Some(index) = self.index.clone() else { return Ok(()) };
        for name in list(&*index)? {
            let Some(statx) = there(stat_at(&*index, &name).map_err(Into::into))? else { continue };
            let kind = Kind::of_mode(u32::from(statx.stx_mode)).filter(|kind| *kind == Kind::File);
            let Some(kind) = kind.filter(|_| !seen.contains_key(&statx.stx_ino)) else { continue };
            let Some((object, _)) = there(inspect(&index, &name, statx, kind, style))? else { continue };
            let (names, target) = (Vec::new(), Vec::new());
            self.others.push(Other { object, names, indexed: Some(name), target });
        }
        Ok(())
    }

    /// Where an object that is no directory can be found.
    pub(super) fn place(&mut self, other: usize) -> Result<(Arc<OwnedFd>, Vec<u8>)> {
        match (&self.others[other], &self.index) {
            (Other { indexed: Some(name), .. }, Some(index)) => Ok((index.clone(), name.clone())),
            (Other { names, .. }, _) => {
                let (dir, name) = names.first().cloned().ok_or(Error::Posix(Errno::NOENT))?;
                Ok((self.open(dir)?, name.as_bytes().to_vec()))
            }
        }
    }

    /// A directory, for resolving names in it: component by component, never through a link.
    pub(super) fn open(&mut self, index: usize) -> std::result::Result<Arc<OwnedFd>, Errno> {
        let mut missing = Vec::new();
        let mut at = index;
        let mut fd = loop {
            if let Some(fd) = self.open.get(&at) {
                break fd.clone();
            }
            if at == 0 {
                let root = Arc::new(open_dir(&self.root, b".")?);
                self.open.put(0, root.clone());
                break root;
            }
            missing.push(at);
            at = self.dirs[at].parent;
        };
        while let Some(at) = missing.pop() {
            fd = Arc::new(open_dir(&*fd, self.dirs[at].name.as_bytes())?);
            self.open.put(at, fd.clone());
        }
        Ok(fd)
    }

    /// The bytes of a file.
    pub(super) fn open_file(&mut self, other: usize) -> Result<File> {
        let (dir, name) = self.place(other)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(File::from(rustix::fs::openat(&*dir, &name[..], flags, Mode::empty())?))
    }
}

/// What overlayfs notes of a directory.
#[derive(Default)]
struct Marks {
    opaque: bool,
    redirect: Option<Vec<u8>>,
}

fn inspect(
    dir: &OwnedFd,
    name: &[u8],
    statx: Statx,
    kind: Kind,
    style: OverlayXattrs,
) -> Result<(Object, Marks)> {
    let all = crate::xattr::read_all(dir, name)?;
    let prefix = style.prefix();
    let (mut own, mut marks, mut origin, mut node) = (BTreeMap::new(), Marks::default(), None, None);
    for (key, value) in all.iter() {
        match key.strip_prefix(prefix) {
            None => {
                own.insert(key.clone(), value.clone());
            }
            Some(b"opaque") => marks.opaque = value == b"y",
            Some(b"redirect") => marks.redirect = Some(value.clone()),
            Some(b"origin") => origin = Handle::of_origin(value),
            Some(NODE) => node = std::str::from_utf8(value).ok().and_then(|id| id.parse().ok()).map(NodeId),
            // What a program gives such a name is kept under an escaped one.
            Some(escaped) if escaped.starts_with(b"overlay.") => {
                own.insert([prefix, &escaped[b"overlay.".len()..]].concat(), value.clone());
            }
            Some(_) => {}
        }
    }
    let xattrs = if own.len() == all.len() { all } else { Arc::new(own) };
    Ok((Object { kind, statx, xattrs, origin, node }, marks))
}

/// What has gone between two looks is no error.
fn there<T>(looked: Result<T>) -> Result<Option<T>> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.errno(), Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(e) => Err(e),
    }
}
