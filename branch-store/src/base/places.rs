//! Where directories and displaced objects of the base are now. Trees never hold paths: they say
//! (directory id, name), and this table follows the directory when a commit moves it.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::{Mutex, RwLock};
use rustix::fs::{AtFlags, StatxFlags};
use rustix::io::Errno;

use crate::disk::open_dir;
use crate::ids::{CommitId, NodeId};
use crate::node::{DisplacedTo, Fingerprint, Home, HostKey, Slot};

/// Directory descriptors kept open. Far below the smallest hard limit on open files seen in the field.
const OPEN_DIRS_MAX: usize = 512;
/// Steps from any directory to the root before the table is declared damaged.
pub(crate) const DEPTH_MAX: usize = 1 << 16;

/// A directory of the base: where it is and which host object it was.
#[derive(Debug, Clone)]
struct Place {
    at: At,
    object: Fingerprint,
}

/// Where a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum At {
    Slot(Slot),
    /// The preimage directory of a commit.
    Park(CommitId),
}

pub(crate) struct Places {
    home: Home,
    root: Arc<OwnedFd>,
    park: Arc<OwnedFd>,
    dirs: RwLock<HashMap<NodeId, Place>>,
    displaced: RwLock<HashMap<HostKey, Slot>>,
    /// Names of objects in preimage directories: links that no view counts.
    parked: RwLock<HashMap<HostKey, HashSet<Slot>>>,
    open: Mutex<LruCache<NodeId, Arc<OwnedFd>>>,
}

impl Places {
    /// `root` is the base, `park` the directory that holds the preimage directories.
    pub(crate) fn new(root: OwnedFd, park: OwnedFd, home: Home) -> Places {
        let capacity = NonZeroUsize::new(OPEN_DIRS_MAX).unwrap_or(NonZeroUsize::MIN);
        Places {
            home,
            root: Arc::new(root),
            park: Arc::new(park),
            dirs: RwLock::default(),
            displaced: RwLock::default(),
            parked: RwLock::default(),
            open: Mutex::new(LruCache::new(capacity)),
        }
    }

    /// Notes where a directory was just seen. Returns whether that is news.
    pub(crate) fn note_dir(&self, id: NodeId, slot: &Slot, object: Fingerprint) -> bool {
        debug_assert_ne!(id, NodeId::ROOT, "the root has no place");
        let known = self
            .dirs
            .read()
            .get(&id)
            .is_some_and(|p| p.at == At::Slot(slot.clone()) && p.object.same_object(&object));
        if !known {
            self.dirs.write().insert(id, Place { at: At::Slot(slot.clone()), object });
            self.open.lock().pop(&id);
        }
        !known
    }

    /// Makes `id` the name of a commit's preimage directory.
    pub(crate) fn note_park(&self, id: NodeId, commit: CommitId, object: Fingerprint) {
        self.dirs.write().insert(id, Place { at: At::Park(commit), object });
    }

    /// The preimage directory of a commit.
    pub(crate) fn park_id(&self, commit: CommitId) -> Option<NodeId> {
        let dirs = self.dirs.read();
        dirs.iter().find(|(_, place)| place.at == At::Park(commit)).map(|(id, _)| *id)
    }

    /// An object went to a place, maybe into a preimage directory, maybe out of one.
    pub(crate) fn note_displaced(&self, moved: &DisplacedTo) {
        let into_park = self.is_parked(moved.to.dir);
        let mut parked = self.parked.write();
        let names = parked.entry(moved.key).or_default();
        if into_park {
            names.insert(moved.to.clone());
        }
        if let Some(left) = &moved.left {
            names.remove(left);
        }
        if names.is_empty() {
            parked.remove(&moved.key);
        }
        drop(parked);
        self.displaced.write().insert(moved.key, moved.to.clone());
    }

    /// Whether a directory is a preimage directory or lies, at any depth, in one.
    pub(crate) fn is_parked(&self, dir: NodeId) -> bool {
        let dirs = self.dirs.read();
        let mut at = dir;
        // A damaged table may go round in circles.
        for _ in 0..DEPTH_MAX {
            match dirs.get(&at).map(|place| &place.at) {
                Some(At::Park(_)) => return true,
                Some(At::Slot(slot)) if slot.dir != NodeId::ROOT => at = slot.dir,
                Some(At::Slot(_)) | None => return false,
            }
        }
        false
    }

    /// Recovery: an object whose place is a name of the base, whatever else of it is parked.
    pub(crate) fn note_elsewhere(&self, key: HostKey, slot: Slot) {
        self.displaced.write().insert(key, slot);
    }

    /// How many of an object's links are preimages.
    pub(crate) fn parked_links(&self, key: HostKey) -> u32 {
        self.parked.read().get(&key).map_or(0, |names| names.len() as u32)
    }

    /// Where a displaced object may be found: where it went last, and its preimages.
    pub(crate) fn displaced(&self, key: HostKey) -> Vec<Slot> {
        let last = self.displaced.read().get(&key).cloned();
        let parked = self.parked.read();
        last.into_iter().chain(parked.get(&key).into_iter().flatten().cloned()).collect()
    }

    /// Where a directory is now, unless it is the root, a preimage directory or unknown.
    pub(crate) fn dir(&self, id: NodeId) -> Option<(Slot, Fingerprint)> {
        match self.dirs.read().get(&id) {
            Some(Place { at: At::Slot(slot), object }) => Some((slot.clone(), *object)),
            Some(Place { at: At::Park(_), .. }) | None => None,
        }
    }

    /// A descriptor for resolving names in the directory.
    ///
    /// # Errors
    /// ESTALE if the directory is not where it was last seen.
    pub(crate) fn open(&self, id: NodeId) -> Result<Arc<OwnedFd>, Errno> {
        if id == NodeId::ROOT {
            return Ok(self.root.clone());
        }
        if let Some(fd) = self.open.lock().get(&id) {
            return Ok(fd.clone());
        }
        let fd = Arc::new(self.walk_to(id)?);
        self.open.lock().put(id, fd.clone());
        Ok(fd)
    }

    /// One component at a time from the nearest open ancestor, never through a symlink (S25).
    fn walk_to(&self, id: NodeId) -> Result<OwnedFd, Errno> {
        let mut names = Vec::new();
        let mut at = id;
        let mut start = loop {
            if at == NodeId::ROOT {
                break self.root.clone();
            }
            if let Some(fd) = self.open.lock().get(&at) {
                break fd.clone();
            }
            let place = self.dirs.read().get(&at).cloned().ok_or(Errno::STALE)?;
            match place.at {
                At::Slot(slot) => {
                    at = slot.dir;
                    names.push((slot.name.as_bytes().to_vec(), place.object));
                }
                At::Park(commit) => {
                    names.push((commit.0.to_string().into_bytes(), place.object));
                    break self.park.clone();
                }
            }
            if names.len() > DEPTH_MAX {
                return Err(Errno::LOOP);
            }
        };
        for (name, object) in names.iter().rev() {
            let next =
                open_dir(&*start, name).map_err(|e| if e == Errno::NOENT { Errno::STALE } else { e })?;
            self.verify(&next, object)?;
            start = Arc::new(next);
        }
        Arc::try_unwrap(start).map_err(|_| Errno::STALE)
    }

    fn verify(&self, fd: &OwnedFd, object: &Fingerprint) -> Result<(), Errno> {
        let st =
            rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
        match self.home.print(&st) {
            Some(found) if found.same_object(object) => Ok(()),
            _ => Err(Errno::STALE),
        }
    }

    /// Drops cached descriptors of directories that a commit moved or removed.
    pub(crate) fn forget_open(&self, id: NodeId) {
        self.open.lock().pop(&id);
    }

    /// Everything the checkpoint needs: directories, parks, displaced objects.
    pub(crate) fn export(&self) -> Export {
        let dirs = self.dirs.read();
        let mut export = Export::default();
        for (id, place) in dirs.iter() {
            match &place.at {
                At::Slot(slot) => export.dirs.push((*id, slot.clone(), place.object)),
                At::Park(commit) => export.parks.push((*id, *commit, place.object)),
            }
        }
        // Names in preimage directories first: the place an object was last seen at has the last word.
        let parked = self.parked.read();
        export.displaced =
            parked.iter().flat_map(|(k, names)| names.iter().map(|s| (*k, s.clone()))).collect();
        let moved = self.displaced.read();
        let outside = moved.iter().filter(|(k, s)| !parked.get(k).is_some_and(|names| names.contains(s)));
        export.elsewhere = outside.map(|(k, s)| (*k, s.clone())).collect();
        export
    }

    /// Forgets parks that are gone and what was in them, at any depth.
    pub(crate) fn prune(&self, keep_park: impl Fn(CommitId) -> bool) {
        let mut gone = HashSet::new();
        let mut found = 1;
        while found > 0 {
            let before = gone.len();
            self.dirs.write().retain(|id, place| {
                let keep = match &place.at {
                    At::Park(commit) => keep_park(*commit),
                    At::Slot(slot) => !gone.contains(&slot.dir),
                };
                keep || !gone.insert(*id)
            });
            found = gone.len() - before;
        }
        self.displaced.write().retain(|_, slot| !gone.contains(&slot.dir));
        self.parked.write().retain(|_, names| {
            names.retain(|slot| !gone.contains(&slot.dir));
            !names.is_empty()
        });
        for id in gone {
            self.forget_open(id);
        }
    }
}

/// The tables as lists.
#[derive(Debug, Default)]
pub(crate) struct Export {
    pub(crate) dirs: Vec<(NodeId, Slot, Fingerprint)>,
    pub(crate) parks: Vec<(NodeId, CommitId, Fingerprint)>,
    /// Names in preimage directories.
    pub(crate) displaced: Vec<(HostKey, Slot)>,
    /// Objects whose place is a name of the base.
    pub(crate) elsewhere: Vec<(HostKey, Slot)>,
}
