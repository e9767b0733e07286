//! readdir, readdirplus, fsyncdir.

use std::sync::Arc;

use branch_store::{DirEntry, Kind, NodeId};
use rustix::io::Errno;

use super::ahead::Listed;
use super::attributes::SHORT;
use super::belief::Look;
use super::listings::{Child, Listing, Step};
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

/// For how long the kernel may keep a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Until it is told otherwise.
    UntilTold,
    /// For [`super::SHORT`]: of what changes in the base nobody may hear, or somebody has heard already.
    Shortly,
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
    /// Lists from `offset` on until `sink` is full. Offset 0 looks anew: rewinddir(3) sees changes.
    ///
    /// # Errors
    /// The store's; ENOTDIR.
    pub fn read_dir(
        &self,
        own: u64,
        offset: u64,
        sink: &mut dyn FnMut(Item<'_>) -> Room,
    ) -> Result<Kept, Errno> {
        let look = self.look_into(own);
        let listing = self.listing(own, offset)?;
        for (next, step) in listing.walk(offset) {
            if sink(self.item(own, next, &step)) == Room::Full {
                break;
            }
        }
        Ok(self.kept(look))
    }

    /// As [`Vfs::read_dir`], with attributes; counts one lookup of each entry taken, but of the dots.
    /// Each is what its name leads to now: the kernel believes it as it believes a lookup. Names that vanished since the
    /// snapshot are left out.
    ///
    /// # Errors
    /// As [`Vfs::read_dir`].
    pub fn read_dir_plus(
        &self,
        own: u64,
        offset: u64,
        sink: &mut dyn FnMut(Item<'_>, &Attr) -> Room,
    ) -> Result<Kept, Errno> {
        let look = self.look_into(own);
        let listing = self.listing(own, offset)?;
        let (mut last, mut listed) = (offset, Listed::All);
        for (next, step) in listing.walk(offset) {
            let (item, attr) = match self.attr_of(own, look, &step) {
                Ok(attr) => (self.item_as(own, next, &step, &attr), attr),
                Err(Errno::NOENT | Errno::STALE) => continue,
                Err(other) if last == offset => return Err(other),
                // The reader gets what it has, and the error when it goes on from here.
                Err(_) => break,
            };
            if sink(item, &attr) == Room::Full {
                if let Step::Entry(_) = step {
                    self.forget(attr.ino, 1);
                }
                listed = Listed::To(last);
                break;
            }
            last = next;
        }
        if let Some(ahead) = &self.ahead {
            ahead.told(own, listed);
        }
        Ok(self.kept(look))
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

    /// `None` for the mount root, which only we change.
    fn look_into(&self, ino: u64) -> Option<Look> {
        self.known(ino).ok().map(|dir| self.look(&dir))
    }

    fn kept(&self, look: Option<Look>) -> Kept {
        match look {
            Some(look) if self.absent_ttl(look) <= SHORT => Kept::Shortly,
            Some(_) | None => Kept::UntilTold,
        }
    }

    /// What a reader who is at `offset` reads on in. At its end nobody goes on in it.
    fn listing(&self, ino: u64, offset: u64) -> Result<Arc<Listing>, Errno> {
        let place = self.place(ino)?;
        if matches!(&place, Place::Node(known) if !known.branch.is_live()) {
            return Err(Errno::STALE);
        }
        let listing = match self.listings.recent(ino) {
            Some(listing) if offset > 0 => listing,
            _ => self.listings.keep(ino, self.children(place)?),
        };
        if listing.is_over(offset) {
            self.listings.forget(ino);
        }
        Ok(listing)
    }

    fn children(&self, place: Place) -> Result<Vec<Child>, Errno> {
        match place {
            Place::MountRoot => {
                let shown = |id: u32| id <= ino::BRANCH_INDEX_MAX;
                let live = self.store.branches().into_iter().filter(|branch| shown(branch.id().0));
                Ok(live.map(|branch| Child::Branch(branch.id(), branch.name().to_owned())).collect())
            }
            Place::Node(Known { branch, object, .. }) => {
                let mut entries = branch.read_dir(&object).map_err(errno)?;
                entries.retain(|entry| !control::is_control_name(object.id, entry.name.as_bytes()));
                Ok(entries.into_iter().map(Child::Object).collect())
            }
            Place::Link(_) | Place::Control(_) => Err(Errno::NOTDIR),
        }
    }

    fn item<'a>(&self, own: u64, next: u64, step: &Step<'a>) -> Item<'a> {
        match step {
            Step::Own => Item { ino: own, next, name: b".", kind: Kind::Dir },
            Step::Parent => Item { ino: self.parent_or_self(own), next, name: b"..", kind: Kind::Dir },
            Step::Entry(Child::Object(DirEntry { name, object, kind })) => {
                Item { ino: ino::sibling(own, object.id), next, name: name.as_bytes(), kind: *kind }
            }
            Step::Entry(Child::Branch(id, name)) => {
                Item { ino: ino::of_root(*id), next, name: name.as_bytes(), kind: Kind::Dir }
            }
        }
    }

    /// The same with what the name leads to by now.
    fn item_as<'a>(&self, own: u64, next: u64, step: &Step<'a>, attr: &Attr) -> Item<'a> {
        let item = self.item(own, next, step);
        match step {
            Step::Entry(Child::Object(_)) => {
                Item { ino: ino::sibling(own, attr.stat.id), kind: attr.stat.kind, ..item }
            }
            Step::Own | Step::Parent | Step::Entry(Child::Branch(..)) => item,
        }
    }

    fn attr_of(&self, own: u64, look: Option<Look>, step: &Step<'_>) -> Result<Attr, Errno> {
        match step {
            Step::Own => self.attributes(own),
            Step::Parent => self.attributes(own).map(|attr| Attr { ino: self.parent_or_self(own), ..attr }),
            Step::Entry(Child::Branch(id, _)) => {
                self.remember_branch(&self.store.branch_by_id(*id).ok_or(Errno::STALE)?)
            }
            Step::Entry(Child::Object(entry)) => {
                let (dir, look) = (self.known(own)?, look.ok_or(Errno::STALE)?);
                let (ino, known, stat) = self.find(&dir, entry.name.as_bytes())?;
                self.listed_attr(look, (ino, &known), stat).inspect_err(|_| self.forget(ino, 1))
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
