//! opendir, readdir, readdirplus, releasedir, fsyncdir.

use std::sync::Arc;

use branch_store::{DirEntry, Kind, NodeId};
use parking_lot::Mutex;
use rustix::io::Errno;

use super::belief::Look;
use super::handles::{Child, DirHandle, Handle};
use super::snapshot::{Snapshot, Step};
use super::{Attr, Known, Place, Vfs, control, errno, ino};

/// One entry handed to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// Inode number.
    pub ino: u64,
    /// Offset at which to go on after this entry.
    pub next: u64,
    /// Name.
    pub name: &'a [u8],
    /// What it is.
    pub kind: Kind,
}

/// Whether the reader's buffer took the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It did, go on.
    Left,
    /// It did not, stop.
    Full,
}

impl Vfs {
    /// Opens a directory and returns its handle number.
    ///
    /// # Errors
    /// The store's; ENOTDIR.
    pub fn open_dir(&self, ino: u64) -> Result<u64, Errno> {
        match self.place(ino)? {
            Place::MountRoot => {}
            Place::Node(known) => match known.branch.stat(&known.object).map_err(errno)?.kind {
                Kind::Dir => {}
                Kind::File | Kind::Symlink | Kind::Fifo | Kind::Socket | Kind::Char | Kind::Block => {
                    return Err(Errno::NOTDIR);
                }
            },
            Place::Link(_) | Place::Control(_) => return Err(Errno::NOTDIR),
        }
        Ok(self.handles.insert(Handle::Dir(DirHandle { ino, listing: Mutex::new(None) })))
    }

    /// Lists from `offset` on until `sink` is full. Offset 0 takes a new snapshot: rewinddir(3) sees changes.
    ///
    /// # Errors
    /// The store's; EBADF for a handle that is not an open directory.
    pub fn read_dir(
        &self,
        fh: u64,
        offset: u64,
        sink: &mut dyn FnMut(Item<'_>) -> Room,
    ) -> Result<(), Errno> {
        let (own, listing) = self.listing(fh, offset)?;
        for (next, step) in listing.walk(offset) {
            if sink(self.item(own, next, &step)) == Room::Full {
                break;
            }
        }
        Ok(())
    }

    /// As [`Vfs::read_dir`], with attributes; counts one lookup of each entry taken, but of the dots.
    /// Entries that vanished since the snapshot are left out.
    ///
    /// # Errors
    /// As [`Vfs::read_dir`].
    pub fn read_dir_plus(
        &self,
        fh: u64,
        offset: u64,
        sink: &mut dyn FnMut(Item<'_>, &Attr) -> Room,
    ) -> Result<(), Errno> {
        let (own, listing) = self.listing(fh, offset)?;
        let look = self.known(own).ok().map(|dir| self.look(&dir));
        let mut last = offset;
        for (next, step) in listing.walk(offset) {
            let item = self.item(own, next, &step);
            let attr = match self.attr_of(own, look, &step) {
                Ok(attr) => attr,
                Err(Errno::NOENT | Errno::STALE) => continue,
                Err(other) if last == offset => return Err(other),
                // The reader gets what it has, and the error when it goes on from here.
                Err(_) => break,
            };
            if sink(item, &attr) == Room::Full {
                if let Step::Entry(_) = step {
                    self.forget(attr.ino, 1);
                }
                break;
            }
            last = next;
        }
        Ok(())
    }

    /// Makes the names in a directory durable, with everything acknowledged before.
    ///
    /// # Errors
    /// The store's.
    pub fn sync_dir(&self, ino: u64) -> Result<(), Errno> {
        match self.place(ino)? {
            Place::Node(known) => known.branch.sync().map_err(errno),
            Place::MountRoot => self.store.sync().map_err(errno),
            Place::Link(_) | Place::Control(_) => Err(Errno::INVAL),
        }
    }

    fn listing(&self, fh: u64, offset: u64) -> Result<(u64, Arc<Snapshot<Child>>), Errno> {
        let handle = self.handles.get(fh).ok_or(Errno::BADF)?;
        let Handle::Dir(dir) = &*handle else { return Err(Errno::BADF) };
        let place = self.place(dir.ino)?;
        if matches!(&place, Place::Node(known) if !known.branch.is_live()) {
            return Err(Errno::STALE);
        }
        let mut listing = dir.listing.lock();
        if let (Some(taken), true) = (&*listing, offset > 0) {
            return Ok((dir.ino, Arc::clone(taken)));
        }
        let taken = Arc::new(self.snapshot(place)?);
        *listing = Some(Arc::clone(&taken));
        Ok((dir.ino, taken))
    }

    fn snapshot(&self, place: Place) -> Result<Snapshot<Child>, Errno> {
        match place {
            Place::MountRoot => {
                let shown = |id: u32| id <= ino::BRANCH_INDEX_MAX;
                let live = self.store.branches().into_iter().filter(|branch| shown(branch.id().0));
                Ok(Snapshot::new(live.map(Child::Branch).collect()))
            }
            Place::Node(Known { branch, object, .. }) => {
                let mut entries = branch.read_dir(&object).map_err(errno)?;
                entries.retain(|entry| !control::is_control_name(object.id, entry.name.as_bytes()));
                Ok(Snapshot::new(entries.into_iter().map(Child::Object).collect()))
            }
            Place::Link(_) | Place::Control(_) => Err(Errno::NOTDIR),
        }
    }

    fn item<'a>(&self, own: u64, next: u64, step: &Step<'a, Child>) -> Item<'a> {
        match step {
            Step::Own => Item { ino: own, next, name: b".", kind: Kind::Dir },
            Step::Parent => Item { ino: self.parent_or_self(own), next, name: b"..", kind: Kind::Dir },
            Step::Entry(Child::Object(DirEntry { name, object, kind })) => {
                Item { ino: ino::sibling(own, object.id), next, name: name.as_bytes(), kind: *kind }
            }
            Step::Entry(Child::Branch(branch)) => {
                Item { ino: ino::of_root(branch.id()), next, name: branch.name().as_bytes(), kind: Kind::Dir }
            }
        }
    }

    fn attr_of(&self, own: u64, look: Option<Look>, step: &Step<'_, Child>) -> Result<Attr, Errno> {
        match step {
            Step::Own => self.attributes(own),
            Step::Parent => self.attributes(own).map(|attr| Attr { ino: self.parent_or_self(own), ..attr }),
            Step::Entry(Child::Branch(branch)) => self.remember_branch(branch),
            Step::Entry(Child::Object(entry)) => {
                let (dir, look) = (self.known(own)?, look.ok_or(Errno::STALE)?);
                let stat = dir.branch.stat(&entry.object).map_err(errno)?;
                let known = dir.child(entry.object.clone());
                let stat = self.remember(&known, stat);
                self.listed_attr(look, &known, stat).inspect_err(|_| self.forget(known.ino(), 1))
            }
        }
    }

    /// What `..` of a directory is; of one that is gone, itself.
    fn parent_or_self(&self, ino: u64) -> u64 {
        let parent = match self.known(ino) {
            Ok(Known { object, .. }) if object.id == NodeId::ROOT => Ok(ino::MOUNT_ROOT),
            Ok(Known { branch, object, .. }) => {
                branch.parent_of(&object).map(|parent| ino::sibling(ino, parent)).map_err(errno)
            }
            Err(unknown) => Err(unknown),
        };
        parent.unwrap_or(ino)
    }
}
