//! The base directory, seen at an epoch. Reads only: the one writer is `commit::writeback`.

pub(crate) mod history;
pub(crate) mod places;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::{Mutex, RwLock};
use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use crate::base::history::{History, ObjectWas, Was};
use crate::base::places::Places;
use crate::error::{Error, Result};
use crate::ids::{CommitId, Name, NodeId, STORE_DIR};
use crate::node::{
    Fingerprint, Home, HostKey, Kind, Meta, Node, Owner, Slot, Stat, Time, Xattrs, device, generation,
    time_of,
};
use crate::tree::Tree;

/// How often a name is looked up again when a commit moves the object at the same moment.
const RACE_RETRIES: usize = 8;

/// The base and what is known of it.
pub(crate) struct Base {
    pub(crate) places: Places,
    pub(crate) history: RwLock<History>,
    pub(crate) home: Home,
    root: Fingerprint,
    ids: Ids,
}

/// Node ids for what has no usable host inode number of its own.
pub(crate) struct Ids {
    next: AtomicU32,
    aliases: Mutex<HashMap<(HostKey, Time), NodeId>>,
}

/// An object of the base as one epoch sees it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Where it is now.
    pub(crate) place: Slot,
    pub(crate) print: Fingerprint,
    pub(crate) statx: Statx,
    /// Links that are preimages: nobody's names.
    pub(crate) parked: u32,
    /// A commit has moved it since the epoch.
    pub(crate) moved: bool,
    /// What it was at the epoch, if a commit changed it in place since.
    pub(crate) was: Option<Arc<ObjectWas>>,
}

impl Base {
    pub(crate) fn new(root: OwnedFd, park: OwnedFd) -> Result<Base> {
        let st = stat_fd(&root)?;
        let home = Home::of(&st);
        let print = home.print(&st).ok_or(Error::Posix(Errno::NOTDIR))?;
        Ok(Base {
            places: Places::new(root, park, home),
            history: RwLock::default(),
            home,
            root: print,
            ids: Ids { next: AtomicU32::new(NodeId::FIRST_ALLOCATED), aliases: Mutex::default() },
        })
    }

    pub(crate) fn root_print(&self) -> Fingerprint {
        self.root
    }

    /// A node id nobody has.
    pub(crate) fn allocate_id(&self) -> Result<NodeId> {
        let id = self.ids.next.fetch_add(1, Ordering::Relaxed);
        if id < NodeId::FIRST_ALLOCATED {
            return Err(Error::Limit {
                what: "nodes made in one store",
                max: u64::from(!NodeId::FIRST_ALLOCATED),
            });
        }
        Ok(NodeId(id))
    }

    /// The next id to be handed out.
    pub(crate) fn next_id(&self) -> u32 {
        self.ids.next.load(Ordering::Relaxed)
    }

    /// Recovery: never hand out `id` again.
    pub(crate) fn note_allocated(&self, id: NodeId) {
        if id.0 >= NodeId::FIRST_ALLOCATED {
            self.ids.next.fetch_max(id.0.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// The id of a base object in a tree: its inode number where that is free, so that git's index stays
    /// valid in a fresh branch; else an alias. A number that the host has given to another object since
    /// the tree adopted the first is not free, nor is that of one that the base lost and the tree has still.
    pub(crate) fn id_of(&self, print: &Fingerprint, tree: &Tree) -> Result<NodeId> {
        if let Some(id) = self.plain_id(print.key()) {
            let is_it = |node: &Arc<Node>| {
                node.inode.origin.as_deref().is_some_and(|origin| origin.print.same_object(print))
            };
            if tree.get(id).is_none_or(is_it) {
                return Ok(id);
            }
        }
        let key = (print.key(), print.birth);
        if let Some(id) = self.ids.aliases.lock().get(&key) {
            return Ok(*id);
        }
        let id = self.allocate_id()?;
        Ok(*self.ids.aliases.lock().entry(key).or_insert(id))
    }

    /// Ids under which trees may know a base object.
    pub(crate) fn known_ids(&self, key: HostKey, birth: Time) -> Vec<NodeId> {
        if key == self.root.key() {
            return vec![NodeId::ROOT];
        }
        let alias = self.ids.aliases.lock().get(&(key, birth)).copied();
        self.plain_id(key).into_iter().chain(alias).collect()
    }

    fn plain_id(&self, key: HostKey) -> Option<NodeId> {
        let ino = u32::try_from(key.ino).ok()?;
        (key.dev == self.root.dev && ino > NodeId::ROOT.0 && ino < NodeId::FIRST_ALLOCATED)
            .then_some(NodeId(ino))
    }

    /// Recovery: an adopted object keeps its alias.
    pub(crate) fn note_alias(&self, id: NodeId, print: &Fingerprint) {
        if id.0 >= NodeId::FIRST_ALLOCATED {
            self.ids.aliases.lock().insert((print.key(), print.birth), id);
        }
    }

    /// What a name meant at an epoch; `None`: nothing.
    pub(crate) fn resolve(&self, slot: &Slot, epoch: CommitId) -> Result<Option<Found>> {
        if is_hidden(slot) {
            return Ok(None);
        }
        for _ in 0..RACE_RETRIES {
            let was = self.history.read().entry(slot, epoch);
            match was {
                Some(Was::Absent) => return Ok(None),
                Some(Was::Object(key)) => {
                    if let Some(found) = self.find_displaced(slot, key)? {
                        return Ok(Some(self.at_epoch(Found { moved: true, ..found }, epoch)));
                    }
                }
                None => {
                    let found = self.resolve_now(slot)?;
                    // A commit may have been decided in between; its history stands before its first step.
                    if self.history.read().entry(slot, epoch).is_none() {
                        return Ok(found.map(|found| self.at_epoch(found, epoch)));
                    }
                }
            }
        }
        Err(Error::Posix(Errno::STALE))
    }

    /// What a name means in the host filesystem now.
    pub(crate) fn resolve_now(&self, slot: &Slot) -> Result<Option<Found>> {
        let dir = match self.places.open(slot.dir) {
            Ok(dir) => dir,
            Err(Errno::STALE | Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        match stat_at(&dir, slot.name.as_bytes()) {
            Ok(st) => Ok(self.home.print(&st).map(|print| Found {
                place: slot.clone(),
                print,
                statx: st,
                parked: self.places.parked_links(print.key()),
                moved: false,
                was: None,
            })),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn find_displaced(&self, original: &Slot, key: HostKey) -> Result<Option<Found>> {
        for place in self.places.displaced(key).into_iter().chain([original.clone()]) {
            if let Some(found) = self.resolve_now(&place)?
                && found.print.key() == key
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The name in the base that a commit gave an object.
    pub(crate) fn find_moved(&self, object: &Fingerprint) -> Result<Option<Slot>> {
        for place in self.places.displaced(object.key()) {
            if !self.places.is_parked(place.dir)
                && self.resolve_now(&place)?.is_some_and(|found| found.print.same_object(object))
            {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    fn at_epoch(&self, mut found: Found, epoch: CommitId) -> Found {
        found.was = self.history.read().object(&found.print, epoch);
        found
    }

    /// Attributes of the root directory at an epoch.
    pub(crate) fn resolve_root(&self, epoch: CommitId) -> Result<Found> {
        let root = self.places.open(NodeId::ROOT)?;
        let statx = stat_fd(&*root)?;
        let print = self.home.print(&statx).ok_or(Error::Posix(Errno::NOTDIR))?;
        let place = Slot { dir: NodeId::ROOT, name: Name::trusted(b"root") };
        // The store's own directory is nobody's subdirectory.
        Ok(self.at_epoch(Found { place, print, statx, parked: 1, moved: false, was: None }, epoch))
    }

    /// A directory that is known by its id, where it was at an epoch.
    pub(crate) fn resolve_dir(&self, id: NodeId, epoch: CommitId) -> Result<Option<Found>> {
        match id {
            NodeId::ROOT => self.resolve_root(epoch).map(Some),
            _ => self.resolve(&self.dir_slot(id, epoch)?, epoch),
        }
    }

    /// The name a directory had at an epoch.
    pub(crate) fn dir_slot(&self, id: NodeId, epoch: CommitId) -> Result<Slot> {
        if let Some(slot) = self.history.read().dir(id, epoch) {
            return Ok(slot);
        }
        self.places.dir(id).map(|(slot, _)| slot).ok_or(Error::Posix(Errno::STALE))
    }

    /// The path that leads to a name at an epoch.
    pub(crate) fn path_of(&self, slot: &Slot, epoch: CommitId) -> Result<Vec<u8>> {
        let mut names: Vec<Name> = vec![slot.name.clone()];
        let mut at = slot.dir;
        while at != NodeId::ROOT {
            let above = self.dir_slot(at, epoch)?;
            names.push(above.name);
            at = above.dir;
        }
        let names: Vec<&[u8]> = names.iter().rev().map(Name::as_bytes).collect();
        Ok(names.join(&b'/'))
    }

    /// Names in a directory at an epoch, with their kinds.
    pub(crate) fn list(&self, dir: NodeId, epoch: CommitId) -> Result<BTreeMap<Name, Listed>> {
        let mut names = self.list_now(dir)?;
        for (name, was) in self.history.read().entries_of(dir, epoch) {
            match was {
                Was::Absent => {
                    names.remove(&name);
                }
                Was::Object(_) => {
                    names.insert(name, Listed::Displaced);
                }
            }
        }
        Ok(names)
    }

    fn list_now(&self, dir: NodeId) -> Result<BTreeMap<Name, Listed>> {
        let fd = self.places.open(dir)?;
        let fd = open_quietly(&*fd, b".", OFlags::DIRECTORY)?;
        let mut names = BTreeMap::new();
        let mut buffer = Vec::with_capacity(64 * 1024);
        let mut entries = rustix::fs::RawDir::new(fd, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !Name::is_valid(name) || (dir == NodeId::ROOT && name == STORE_DIR.as_bytes()) {
                continue;
            }
            let kind = Kind::of_mode(entry.file_type().as_raw_mode());
            names.insert(Name::trusted(name), Listed::Now { ino: entry.ino(), kind });
        }
        Ok(names)
    }

    /// The id a listed name has if it needs no further look: same device, plain number, not adopted.
    pub(crate) fn listed_id(&self, ino: u64, tree: &Tree) -> Option<NodeId> {
        let ino = u32::try_from(ino).ok()?;
        let plain = ino > NodeId::ROOT.0 && ino < NodeId::FIRST_ALLOCATED;
        (plain && tree.get(NodeId(ino)).is_none()).then_some(NodeId(ino))
    }

    /// Opens a found file's bytes for reading.
    pub(crate) fn open_file(&self, found: &Found) -> Result<File> {
        let place = match &found.was {
            Some(was) => was.content.as_ref().unwrap_or(&found.place),
            None => &found.place,
        };
        let dir = self.places.open(place.dir)?;
        Ok(File::from(open_quietly(&*dir, place.name.as_bytes(), OFlags::NONBLOCK)?))
    }

    pub(crate) fn read_link(&self, found: &Found) -> Result<Vec<u8>> {
        if found.print.kind != Kind::Symlink {
            return Err(Error::Posix(Errno::INVAL));
        }
        let dir = self.places.open(found.place.dir)?;
        Ok(rustix::fs::readlinkat(&*dir, found.place.name.as_bytes(), Vec::new())?.into_bytes())
    }

    /// Extended attributes of a found object. Filesystems without them have none.
    pub(crate) fn xattrs(&self, found: &Found, root: bool) -> Result<Xattrs> {
        if let Some(was) = &found.was {
            return Ok(was.meta.xattrs.clone());
        }
        let dir = self.places.open(found.place.dir)?;
        crate::xattr::read_all(&dir, name_of(found, root))
    }

    /// One extended attribute of a found object: the kernel asks for ACLs of nearly everything.
    pub(crate) fn xattr(&self, found: &Found, root: bool, attribute: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(was) = &found.was {
            return Ok(was.meta.xattrs.get(attribute).cloned());
        }
        let dir = self.places.open(found.place.dir)?;
        crate::xattr::read_one(&dir, name_of(found, root), attribute)
    }
}

fn name_of(found: &Found, root: bool) -> &[u8] {
    if root { b"." } else { found.place.name.as_bytes() }
}

/// What chattr(1) forbids everybody, root too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Nothing.
    None,
    /// Anything but adding: bytes at the end of a file, names to a directory.
    AppendOnly,
    /// Any change.
    Immutable,
}

impl Guard {
    pub(crate) fn of(st: &Statx) -> Guard {
        if st.stx_attributes.contains(StatxAttributes::IMMUTABLE) {
            Guard::Immutable
        } else if st.stx_attributes.contains(StatxAttributes::APPEND) {
            Guard::AppendOnly
        } else {
            Guard::None
        }
    }
}

/// What a listing knows of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listed {
    /// In the host directory now; kind unknown on filesystems that do not tell.
    Now { ino: u64, kind: Option<Kind> },
    /// Moved by a commit since: to be looked up.
    Displaced,
}

impl Found {
    /// What nobody may do to it.
    pub(crate) fn guard(&self) -> Guard {
        Guard::of(&self.statx)
    }

    /// Whether its bytes of the epoch are in a copy, as a commit wrote over them.
    pub(crate) fn is_kept_copy(&self) -> bool {
        self.was.as_ref().is_some_and(|was| was.content.is_some())
    }

    /// Names the object has in the base, and outside of it.
    pub(crate) fn links(&self) -> u32 {
        self.statx.stx_nlink.saturating_sub(self.parked).max(1)
    }

    fn owner(&self) -> Owner {
        let one_name = self.print.kind == Kind::Dir || self.links() == 1;
        if one_name && !self.moved && self.was.is_none() { Owner::Base } else { Owner::Elsewhere }
    }

    /// What the epoch sees, as a commit compares it: a file that a commit changed in place since is a conflict.
    pub(crate) fn seen_print(&self) -> Fingerprint {
        let mut print = self.print;
        if let Some(was) = &self.was
            && print.kind != Kind::Dir
        {
            (print.mode, print.uid, print.gid) = (was.meta.mode, was.meta.uid, was.meta.gid);
            (print.size, print.ctime) = (was.size, was.meta.ctime);
            print.mtime = was.meta.mtime.unwrap_or(print.mtime);
        }
        print
    }

    /// Attributes for `stat(2)`.
    pub(crate) fn stat(&self, id: NodeId) -> Stat {
        let st = &self.statx;
        let mut stat = Stat {
            id,
            generation: generation(self.print.birth),
            owner: self.owner(),
            kind: self.print.kind,
            mode: self.print.mode,
            uid: st.stx_uid,
            gid: st.stx_gid,
            nlink: self.links(),
            rdev: device(st.stx_rdev_major, st.stx_rdev_minor),
            size: st.stx_size,
            blocks: st.stx_blocks,
            atime: time_of(&st.stx_atime),
            mtime: time_of(&st.stx_mtime),
            ctime: time_of(&st.stx_ctime),
        };
        if let Some(was) = &self.was {
            stat.mode = was.meta.mode;
            (stat.uid, stat.gid) = (was.meta.uid, was.meta.gid);
            (stat.atime, stat.ctime) = (was.meta.atime, was.meta.ctime);
            stat.mtime = was.meta.mtime.unwrap_or(stat.mtime);
            stat.size = was.size;
            stat.nlink = was.meta.nlink;
        }
        stat
    }

    /// The attributes a node adopted from this object starts with.
    pub(crate) fn meta(&self, xattrs: Xattrs) -> Meta {
        let stat = self.stat(NodeId::ROOT);
        Meta {
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            nlink: stat.nlink,
            rdev: stat.rdev,
            atime: stat.atime,
            mtime: Some(stat.mtime),
            ctime: stat.ctime,
            xattrs,
        }
    }
}

/// The store's own directory at the top of the base is no part of any view.
pub(crate) fn is_hidden(slot: &Slot) -> bool {
    slot.dir == NodeId::ROOT && slot.name.as_bytes() == STORE_DIR.as_bytes()
}

const STATX: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

pub(crate) fn stat_at(dir: impl AsFd, name: &[u8]) -> std::result::Result<Statx, Errno> {
    crate::asked::note("stat");
    rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, STATX)
}

/// Opens an object of the base for reading. Being read, listed or copied up in a branch is no access to it; of
/// what belongs to others the host counts it.
fn open_quietly(dir: impl AsFd, name: &[u8], more: OFlags) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    crate::asked::note("open");
    let open = |flags| rustix::fs::openat(&dir, name, flags, Mode::empty());
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        opened => opened,
    }
}

pub(crate) fn stat_fd(fd: impl AsFd) -> std::result::Result<Statx, Errno> {
    crate::asked::note("stat");
    rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, STATX)
}
