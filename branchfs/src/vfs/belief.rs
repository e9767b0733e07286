//! For how long the kernel may believe an answer: what only we can change, for ever; what the base shows, as long as
//! changes of it would be heard of (`crate::watch`, which also says why these steps in this order), else a second.

use std::io;
use std::time::Duration;

use branch_store::{Kind, NodeId, Object, Owner, Stat};
use rustix::io::Errno;

use super::attributes::{FOREVER, SHORT};
use super::{Attr, Known, Vfs, errno, ino};
use crate::watch::{Below, HEARD, Moment, Stale, Told, Trust};

/// A look into a directory that is about to be taken.
#[derive(Clone, Copy)]
pub(super) struct Look {
    dir: NodeId,
    trust: Trust,
    since: Moment,
}

impl Vfs {
    /// What the kernel was told of the base.
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// What is no longer true of that.
    ///
    /// # Errors
    /// The source of news has failed.
    pub fn hear(&self) -> io::Result<Stale> {
        self.told.hear(|view| ino::is_of(view, branch_store::BranchId::MAIN))
    }

    /// The directory an inode was found in, as the kernel knows it.
    pub fn above(&self, ino: u64) -> Option<u64> {
        let Known { object, under, .. } = self.known(ino).ok()?;
        Some(if object.id == NodeId::ROOT { ino::MOUNT_ROOT } else { ino::sibling(ino, under) })
    }

    /// Name and directory an inode was found by, as the kernel knows them.
    pub fn entry(&self, ino: u64) -> Option<(u64, Vec<u8>)> {
        let slot = self.known(ino).ok()?.object.slot?;
        Some((ino::sibling(ino, slot.dir), slot.name.as_bytes().to_vec()))
    }

    /// The inodes, in all branches, of an object that has just been given this name in the base and has another, too:
    /// nothing else tells that directory's news no longer say everything of it.
    pub fn of_linked(&self, dir: NodeId, name: &[u8]) -> Vec<u64> {
        match self.store.main().lookup(&Object { id: dir, slot: None }, name) {
            Ok((object, stat)) if stat.nlink > 1 && stat.kind != Kind::Dir => {
                let all = self.store.branches().into_iter();
                all.flat_map(|branch| self.known_as(branch.id(), object.id)).collect()
            }
            // Gone again, perhaps.
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    /// Prepares a look into a directory whose outcome the kernel is to believe.
    pub(super) fn look(&self, dir: &Known) -> Look {
        let trust = self.told.enter(dir.object.id, dir.ino(), || below(dir));
        Look { dir: dir.object.id, trust, since: self.told.now() }
    }

    /// For how long a name may be believed absent after the look.
    pub(super) fn absent_ttl(&self, look: Look) -> Duration {
        match look.trust {
            Trust::Own => self.own_ttl(look.since),
            Trust::Watched | Trust::Blind => self.name_ttl(look),
        }
    }

    /// An object that was found by the look, as the kernel may believe it. It has been remembered.
    pub(super) fn found_attr(
        &self,
        look: Look,
        (ino, known): (u64, &Known),
        stat: Stat,
    ) -> Result<Attr, Errno> {
        let own = self.own_ttl(look.since);
        let entry_ttl = match (look.trust, stat.owner) {
            (Trust::Own, _) | (_, Owner::Branch) => own,
            (Trust::Watched | Trust::Blind, Owner::Base | Owner::Elsewhere) => self.name_ttl(look),
        };
        let (stat, ttl) = match (stat.owner, stat.kind, &known.object.slot) {
            (Owner::Branch, _, _) => (stat, own),
            (Owner::Base, Kind::Dir, _) => self.dir_attr(known, stat, look.since)?,
            (Owner::Base, _, Some(slot)) if look.trust == Trust::Watched && slot.dir == look.dir => {
                let held = self.told.tell(slot.dir, slot.name.as_bytes(), ino, look.since);
                (stat, if held { HEARD } else { SHORT })
            }
            (Owner::Base | Owner::Elsewhere, _, _) => (stat, SHORT),
        };
        Ok(by_number(Attr { ino, stat, ttl, entry_ttl }))
    }

    /// An object found in a listing. A directory is not watched before somebody goes into it.
    pub(super) fn listed_attr(
        &self,
        look: Look,
        (ino, known): (u64, &Known),
        stat: Stat,
    ) -> Result<Attr, Errno> {
        if stat.kind == Kind::Dir && stat.owner == Owner::Base && !self.told.is_quiet(stat.id, look.since) {
            return Ok(Attr { ino, stat, ttl: SHORT, entry_ttl: self.name_ttl(look) });
        }
        self.found_attr(look, (ino, known), stat)
    }

    /// Attributes of what the kernel knows already by this number.
    pub(super) fn node_attr(&self, ino: u64, known: &Known) -> Result<Attr, Errno> {
        let since = self.told.now();
        // Before the look: nothing but the table leads from news to an inode that is not being looked up.
        let place = known.object.slot.as_ref();
        let held = place.is_some_and(|slot| self.told.tell(slot.dir, slot.name.as_bytes(), ino, since));
        let stat = known.branch.stat(&known.object).map_err(errno)?;
        let (stat, ttl) = match (stat.owner, stat.kind) {
            (Owner::Branch, _) => (stat, self.own_ttl(since)),
            (Owner::Base, Kind::Dir) => self.dir_attr(known, stat, since)?,
            (Owner::Base, _) if held && place.is_some_and(|slot| self.told.is_quiet(slot.dir, since)) => {
                (stat, HEARD)
            }
            (Owner::Base | Owner::Elsewhere, _) => (stat, SHORT),
        };
        Ok(Attr { ino: known.ino(), stat, ttl, entry_ttl: ttl })
    }

    /// The kernel has forgotten an object, or is about to know it by another name.
    pub(super) fn untell(&self, ino: u64, object: &Object) {
        if let Some(slot) = &object.slot {
            self.told.untell(slot.dir, slot.name.as_bytes(), ino, || self.in_base(slot.dir));
        }
    }

    /// The kernel has forgotten a directory, or what is none.
    pub(super) fn leave(&self, ino: u64, object: &Object) {
        self.told.leave(object.id, ino, || self.in_base(object.id));
    }

    /// A directory's own attributes: its own news tell of them, which may not have been heard when `stat` was taken.
    fn dir_attr(&self, known: &Known, stat: Stat, since: Moment) -> Result<(Stat, Duration), Errno> {
        let dir = known.object.id;
        match self.told.enter(dir, known.ino(), || below(known)) {
            Trust::Watched if self.told.is_quiet(dir, since) => Ok((stat, HEARD)),
            Trust::Watched => {
                let since = self.told.now();
                let stat = known.branch.stat(&known.object).map_err(errno)?;
                let held = stat.owner == Owner::Base && self.told.is_quiet(dir, since);
                Ok((stat, if held { HEARD } else { SHORT }))
            }
            Trust::Own | Trust::Blind => Ok((stat, SHORT)),
        }
    }

    /// For what only a verb can change behind the kernel's back: a verb invalidates what it has changed, but not an
    /// answer that is under way.
    fn own_ttl(&self, since: Moment) -> Duration {
        if self.told.is_undoubted(since) { FOREVER } else { SHORT }
    }

    fn name_ttl(&self, look: Look) -> Duration {
        let heard = look.trust == Trust::Watched && self.told.is_quiet(look.dir, look.since);
        if heard { HEARD } else { SHORT }
    }

    /// Also when the branch that showed it has ended.
    fn in_base(&self, dir: NodeId) -> Below {
        self.store.main().base_below(&Object { id: dir, slot: None }).map_err(io::Error::other)
    }
}

fn below(dir: &Known) -> Below {
    dir.branch.base_below(&dir.object).map_err(io::Error::other)
}

/// Attributes in an answer that the kernel takes whatever has become of them meanwhile.
pub(super) fn checked_by_nobody(ino: u64, stat: Stat) -> Attr {
    let ttl = match stat.owner {
        Owner::Branch => FOREVER,
        Owner::Base | Owner::Elsewhere => SHORT,
    };
    Attr { ino, stat, ttl, entry_ttl: ttl }
}

/// The answer to a lookup names the object by one number only. Programs are to see the first: of what has another one the
/// kernel is to ask for the attributes, and gets them with that.
pub(super) fn by_number(attr: Attr) -> Attr {
    if attr.ino == ino::first(attr.ino) { attr } else { Attr { ttl: Duration::ZERO, ..attr } }
}
