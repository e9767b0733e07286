//! lookup and forget.

use std::sync::Arc;
use std::time::Duration;

use branch_store::{Branch, Kind, NodeId, Object, Owner, Stat};
use rustix::io::Errno;

use super::attributes::{FOREVER, SHORT};
use super::belief::{by_number, checked_by_nobody};
use super::inodes::{Counted, Forgotten, Held};
use super::{Attr, Known, Place, Vfs, control, errno, ino, reaping};

/// The outcome of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The name exists; one lookup was counted.
    Entry(Attr),
    /// The name does not exist, and may be believed absent for so long.
    Absent(Duration),
}

impl Vfs {
    /// Finds `name` in a directory and counts a lookup.
    ///
    /// # Errors
    /// The store's, but ENOENT is [`Found::Absent`].
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<Found, Errno> {
        match self.place(parent)? {
            Place::MountRoot => self.lookup_branch(name),
            Place::Link(_) | Place::Control(_) => Err(Errno::NOTDIR),
            Place::Node(dir) if control::is_control_name(dir.object.id, name) => {
                let attr = self.control_attr(&dir.branch)?;
                self.inodes.remember(attr.ino, dir);
                Ok(Found::Entry(attr))
            }
            Place::Node(dir) => self.lookup_object(&dir, name),
        }
    }

    /// Takes back `lookups` lookups. The last one of an unlinked object frees it.
    pub fn forget(&self, ino: u64, lookups: u64) {
        let Some(Forgotten { what: Known { branch, object, .. }, is_orphan }) =
            self.inodes.forget(ino, lookups)
        else {
            return;
        };
        self.kept.forget(ino);
        self.untell(ino, &object);
        self.leave(ino, &object);
        self.listings.forget(ino);
        if let Some(ahead) = &self.ahead {
            ahead.forget(ino);
        }
        self.forgettings.count(self.inodes.len());
        if is_orphan {
            self.reaping.reap(&branch, object.id);
        }
    }

    /// Counts a lookup of an object just made, or given another name.
    pub(super) fn remember_made(&self, dir: &Known, object: Object, stat: Stat) -> Attr {
        let (ino, stat) = self.remember(&dir.child(object), stat);
        by_number(checked_by_nobody(ino, stat))
    }

    /// Counts a lookup of an object just found. The number it is known by, and its attributes, told apart from those of
    /// its earlier lives.
    pub(super) fn remember(&self, known: &Known, mut stat: Stat) -> (u64, Stat) {
        let Counted { ino, lives, before } = self.inodes.remember(known.ino(), known.clone());
        if let Some(before) = before
            && before.object.slot != known.object.slot
        {
            self.untell(ino, &before.object);
        }
        stat.generation = stat.generation.wrapping_add(lives);
        (ino, stat)
    }

    /// Counts a lookup of a branch's root directory.
    pub(super) fn remember_branch(&self, branch: &Arc<Branch>) -> Result<Attr, Errno> {
        if branch.id().0 > ino::BRANCH_INDEX_MAX {
            return Err(Errno::OVERFLOW);
        }
        let root = branch.root();
        let stat = branch.stat(&root).map_err(errno)?;
        let known = Known { branch: Arc::clone(branch), under: root.id, object: root };
        let (ino, stat) = self.remember(&known, stat);
        let attr = self.node_attr(ino, &known)?;
        Ok(Attr { stat: Stat { generation: stat.generation, ..attr.stat }, entry_ttl: FOREVER, ..attr })
    }

    /// The kernel removed the last name of an object.
    pub(super) fn removed(&self, branch: &Branch, orphan: Option<NodeId>) {
        if let Some(id) = orphan {
            self.inodes.removed(ino::of_node(branch.id(), id));
        }
        self.orphaned(branch, orphan);
    }

    /// An object that had lost its last name has one again.
    pub fn revived(&self, branch: &Branch, id: NodeId) {
        self.inodes.revive(ino::of_node(branch.id(), id));
    }

    /// An object lost its last name: it goes now, or with the kernel's last lookup of it.
    pub fn orphaned(&self, branch: &Branch, orphan: Option<NodeId>) {
        let Some(id) = orphan else { return };
        match self.inodes.orphan(ino::of_node(branch.id(), id)) {
            Held::ByKernel => {}
            Held::ByNobody => reaping::reap(branch, &[id]),
        }
    }

    fn lookup_object(&self, dir: &Known, name: &[u8]) -> Result<Found, Errno> {
        let look = self.look(dir);
        match self.find(dir, name) {
            Ok((ino, known, stat)) => {
                let attr = self.found_attr(look, (ino, &known), stat).inspect_err(|_| self.forget(ino, 1))?;
                if attr.entry_ttl > SHORT {
                    self.found_in(dir);
                }
                Ok(Found::Entry(attr))
            }
            Err(Errno::NOENT) => Ok(Found::Absent(self.absent_ttl(look))),
            Err(other) => Err(other),
        }
    }

    /// What a name leads to now, with one lookup of it counted: the number it is known by, and its attributes.
    pub(super) fn find(&self, dir: &Known, name: &[u8]) -> Result<(u64, Known, Stat), Errno> {
        let (object, stat) = dir.branch.lookup(&dir.object, name).map_err(errno)?;
        let known = dir.child(object);
        self.found_anew(&known, &stat);
        let (ino, stat) = self.remember(&known, stat);
        Ok((ino, known, stat))
    }

    /// While a commit is written into the base, who finds a file in main finds it as it will be, and is to read that. Who
    /// had it open before goes on with the old bytes as long as nobody finds it anew.
    fn found_anew(&self, known: &Known, stat: &Stat) {
        if known.branch.is_main() && stat.kind == Kind::File && stat.owner == Owner::Branch {
            self.kept.remove(known.ino());
        }
    }

    /// Absent branches are not cached as absent: the next fork may make them.
    fn lookup_branch(&self, name: &[u8]) -> Result<Found, Errno> {
        let (linked, name) = match name.strip_prefix(b"@") {
            Some(rest) => (true, rest),
            None => (false, name),
        };
        let live = std::str::from_utf8(name).ok().and_then(|name| self.store.branch(name).ok());
        let Some(branch) = live else { return Ok(Found::Absent(Duration::ZERO)) };
        let attr = if linked { self.link_attr(&branch)? } else { self.remember_branch(&branch)? };
        Ok(Found::Entry(attr))
    }
}
