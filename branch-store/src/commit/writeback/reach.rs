//! How a step reaches the host: directories by their path, renames that lend permission, and what has to be durable
//! in the end.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{FSYNC_MAX, InDir, Writer};
use crate::base::{stat_at, stat_fd};
use crate::branch::Shared;
use crate::commit::lend::Lent;
use crate::disk::{open_dir, open_dir_readable};
use crate::error::{Error, Result};
use crate::ids::{CommitId, Name, NodeId};
use crate::journal::record::DirPlace;
use crate::node::{HostKey, Kind, Slot};
use crate::plan::{Park, Plan, Step};
use crate::tree::Tree;

/// Opens the commit's preimage directory and those of the commits that the plan undoes.
pub(super) fn open_parks(
    shared: &Shared,
    own: (CommitId, NodeId),
    plan: &Plan,
) -> Result<HashMap<CommitId, (Arc<OwnedFd>, NodeId)>> {
    let mut parks = HashMap::new();
    let spoken_of = plan.steps.iter().filter_map(|step| match step {
        Step::Detach { park, .. } | Step::Attach { park, .. } | Step::Exchange { park, .. } => Some(*park),
        Step::Rewrite { park, .. } => *park,
        Step::AddLink { .. } | Step::SetMeta { .. } => None,
    });
    for commit in spoken_of.map(|park| park.commit).chain([own.0]) {
        if parks.contains_key(&commit) {
            continue;
        }
        let name = commit.0.to_string();
        let dir = open_dir_readable(&shared.park_fd, name.as_bytes())
            .map_err(|e| Error::host("open preimage directory", &name, e))?;
        let known = if commit == own.0 { Some(own.1) } else { shared.base.places.park_id(commit) };
        let id = known.ok_or_else(|| Error::host("find preimage directory", &name, Errno::NOENT))?;
        parks.insert(commit, (Arc::new(dir), id));
    }
    Ok(parks)
}

impl Writer<'_> {
    /// The preimage directory a place is in.
    pub(super) fn park_of(&self, park: Park) -> Result<&OwnedFd> {
        self.parks.get(&park.commit).map(|(dir, _)| &**dir).ok_or(Error::Posix(Errno::IO))
    }

    pub(super) fn own_park(&self) -> Result<&Arc<OwnedFd>> {
        self.parks.get(&self.commit).map(|(dir, _)| dir).ok_or(Error::Posix(Errno::IO))
    }

    pub(super) fn slot(&self, park: Park) -> Result<Slot> {
        let (_, id) = self.parks.get(&park.commit).ok_or(Error::Posix(Errno::IO))?;
        Ok(Slot { dir: *id, name: Name::trusted(&park.name()) })
    }

    /// One atomic exchange; where the filesystem has none, two renames.
    pub(super) fn swap(&self, park: Park, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<()> {
        let staged = park.name();
        let dir = self.park_of(park)?;
        match self.rename_lending((dir, &staged), (parent, name), RenameFlags::EXCHANGE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                let aside = [&staged[..], b".old"].concat();
                self.rename((parent, name), (dir, &aside), RenameFlags::empty(), path)?;
                self.rename((dir, &staged), (parent, name), RenameFlags::empty(), path)?;
                self.rename((dir, &aside), (dir, &staged), RenameFlags::empty(), path)
            }
            other => other.map_err(|e| Error::host("exchange", path, e)),
        }
    }

    pub(super) fn touch_object(&mut self, parent: &Arc<OwnedFd>, name: &[u8], kind: Kind) {
        if self.many {
            return;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // Opening a device does something to it.
        let opened = (kind == Kind::File).then(|| rustix::fs::openat(&**parent, name, flags, Mode::empty()));
        match opened {
            Some(Ok(fd)) => self.touch(Arc::new(fd)),
            // Attributes of what cannot be opened reach the disk with everything else.
            _ => self.many = true,
        }
    }

    pub(super) fn rename(
        &self,
        from: (&OwnedFd, &[u8]),
        to: (&OwnedFd, &[u8]),
        flags: RenameFlags,
        path: &[u8],
    ) -> Result<()> {
        let renamed = match self.rename_lending(from, to, flags) {
            // Filesystems without RENAME_NOREPLACE: the target was seen free, and we hold the write-back lock.
            Err(Errno::INVAL | Errno::NOSYS) if flags == RenameFlags::NOREPLACE => {
                self.rename_lending(from, to, RenameFlags::empty())
            }
            other => other,
        };
        renamed.map_err(|e| Error::host("rename", path, e))
    }

    /// A directory, or one of the two it moves between, may be ours and read-only.
    pub(super) fn rename_lending(
        &self,
        from: (&OwnedFd, &[u8]),
        to: (&OwnedFd, &[u8]),
        flags: RenameFlags,
    ) -> std::result::Result<(), Errno> {
        match self.shared.disk.rename(from, to, flags) {
            Err(Errno::ACCESS) => {
                let mut lent = Lent::new(&self.shared.disk);
                lent.for_name(from.0, from.1)?;
                lent.for_name(to.0, to.1)?;
                self.shared.disk.rename(from, to, flags)
            }
            other => other,
        }
    }

    pub(super) fn parked(&self, park: Park) -> Result<Option<HostKey>> {
        self.key_at(self.park_of(park)?, &park.name())
    }

    /// The directory of a path, one component at a time, never through a symlink (S25).
    pub(super) fn parent<'p>(&mut self, path: &'p [u8]) -> Result<Option<InDir<'p>>> {
        let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path),
        };
        Ok(self.dir(dir)?.map(|(fd, id)| (fd, id, name)))
    }

    /// From the top down and not by recursion: a path may be deeper than a stack.
    pub(super) fn dir(&mut self, path: &[u8]) -> Result<Option<(Arc<OwnedFd>, NodeId)>> {
        if let Some(known) = self.dirs.get(path) {
            return Ok(Some(known.clone()));
        }
        let mut at = (self.shared.base.places.open(NodeId::ROOT)?, NodeId::ROOT);
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        let mut start = 0;
        for end in ends.chain([path.len()]).filter(|end| *end > 0) {
            let known = self.dirs.get(&path[..end]).cloned();
            let Some(next) =
                known.map_or_else(|| self.enter(&at, &path[..end], start), |next| Ok(Some(next)))?
            else {
                return Ok(None);
            };
            (at, start) = (next, end + 1);
        }
        Ok(Some(at))
    }

    /// The directory that an object is to leave: where it was, or, as a crash may have lost this step and kept a later
    /// one (H3), where a directory above it is by now.
    pub(super) fn leaves_from<'p>(
        &mut self,
        path: &'p [u8],
        from: HostKey,
    ) -> Result<Option<(Arc<OwnedFd>, &'p [u8])>> {
        if let Some((parent, _, name)) = self.parent(path)?
            && self.shared.base.home.print(&stat_fd(&*parent)?).map(|print| print.key()) == Some(from)
        {
            return Ok(Some((parent, name)));
        }
        for (park, below) in gone_above(self.plan, path) {
            if let Some(top) = self.taken_to(park)?
                && let Some((dir, name)) = descend(top, below)?
                && self.shared.base.home.print(&stat_fd(&*dir)?).map(|print| print.key()) == Some(from)
            {
                return Ok(Some((dir, name)));
            }
        }
        Ok(None)
    }

    /// Where one of two objects changes places with the other: at its path, or, as a crash may have lost this step and
    /// kept a later one (H3), where a directory above it is by now. The path, if neither is anywhere. With what is there.
    pub(super) fn meets_at<'p>(
        &mut self,
        path: &'p [u8],
        objects: [HostKey; 2],
    ) -> Result<Option<(InDir<'p>, Option<HostKey>)>> {
        let is_one = |key: Option<HostKey>| key.is_some_and(|key| objects.contains(&key));
        let at_path = match self.parent(path)? {
            Some(at) => {
                let found = self.key_at(&at.0, at.2)?;
                Some((at, found))
            }
            None => None,
        };
        if at_path.as_ref().is_some_and(|(_, found)| is_one(*found)) {
            return Ok(at_path);
        }
        for (park, below) in gone_above(self.plan, path) {
            if let Some(top) = self.taken_to(park)?
                && let Some((dir, name)) = descend(top, below)?
                && let found = self.key_at(&dir, name)?
                && is_one(found)
            {
                let print = self.shared.base.home.print(&stat_fd(&*dir)?).ok_or(Error::Posix(Errno::IO))?;
                let id = self.shared.base.id_of(&print, &Tree::default())?;
                return Ok(Some(((dir, id, name), found)));
            }
        }
        Ok(at_path)
    }

    /// A directory that was detached: in its park, or attached already.
    fn taken_to(&mut self, park: Park) -> Result<Option<Arc<OwnedFd>>> {
        match open_dir(self.park_of(park)?, &park.name()) {
            Ok(dir) => return Ok(Some(Arc::new(dir))),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(e) => return Err(Error::host("open directory", park.name(), e)),
        }
        let plan = self.plan;
        let attached = plan.steps.iter().find_map(|step| match step {
            Step::Attach { park: from, path, .. } if *from == park => Some(path),
            _ => None,
        });
        let Some(path) = attached else { return Ok(None) };
        let Some((parent, _, name)) = self.parent(path)? else { return Ok(None) };
        Ok(open_dir(&*parent, name).ok().map(Arc::new))
    }

    /// What is to be durable in the end, once each: the same directory comes by several descriptors.
    pub(super) fn touch(&mut self, object: Arc<OwnedFd>) {
        if self.many || self.touched.iter().any(|(_, known)| Arc::ptr_eq(known, &object)) {
            return;
        }
        let key = stat_fd(&*object).ok().and_then(|st| self.shared.base.home.print(&st)).map(|p| p.key());
        if key.is_some() && self.touched.iter().any(|(known, _)| *known == key) {
            return;
        }
        if self.touched.len() >= FSYNC_MAX {
            self.many = true;
            self.touched.clear();
        } else {
            self.touched.push((key, object));
        }
    }

    pub(super) fn sync(&mut self) -> Result<()> {
        let disk = &self.shared.disk;
        let park = self.own_park()?;
        let synced = if self.many {
            disk.syncfs(park)
        } else {
            self.touched.iter().try_for_each(|(_, fd)| match open_dir_readable(&**fd, b".") {
                Ok(readable) => disk.fsync(&readable),
                Err(Errno::NOTDIR) => disk.fsync(&**fd),
                Err(Errno::ACCESS) => disk.syncfs(park),
                Err(e) => Err(e),
            })
        };
        let parks = || self.parks.values().try_for_each(|(park, _)| disk.fsync(park));
        synced.and_then(|()| parks()).map_err(|e| Error::host("fsync", "base", e))
    }

    /// Opens the last component of a path, which begins at `start`, in the directory of the others.
    fn enter(
        &mut self,
        (parent, parent_id): &(Arc<OwnedFd>, NodeId),
        path: &[u8],
        start: usize,
    ) -> Result<Option<(Arc<OwnedFd>, NodeId)>> {
        let name = &path[start..];
        let fd = match open_dir(&**parent, name) {
            Ok(fd) => Arc::new(fd),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(e) => return Err(Error::host("open directory", path, e)),
        };
        let print = self.shared.base.home.print(&stat_fd(&*fd)?).ok_or(Error::Posix(Errno::IO))?;
        let id = self.shared.base.id_of(&print, &Tree::default())?;
        let slot = Slot { dir: *parent_id, name: Name::trusted(name) };
        if self.shared.base.places.note_dir(id, &slot, print) {
            self.out.moved.dirs.push(DirPlace { id, slot, object: print });
        }
        self.dirs.insert(path.to_vec(), (fd.clone(), id));
        Ok(Some((fd, id)))
    }

    /// The directory of the new name may be ours and read-only.
    pub(super) fn link_lending(
        &self,
        from: (&OwnedFd, &[u8]),
        to: (&OwnedFd, &[u8]),
    ) -> std::result::Result<(), Errno> {
        match self.shared.disk.link(from, to) {
            Err(Errno::ACCESS) => {
                let mut lent = Lent::new(&self.shared.disk);
                lent.for_name(to.0, to.1)?;
                self.shared.disk.link(from, to)
            }
            other => other,
        }
    }

    pub(super) fn key_at(&self, dir: &OwnedFd, name: &[u8]) -> Result<Option<HostKey>> {
        match stat_at(dir, name) {
            Ok(st) => Ok(self.shared.base.home.print(&st).map(|print| print.key())),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::host("stat", name, e)),
        }
    }
}

/// Places that directories above a path go to by the plan, and what is left of the path below each.
fn gone_above<'p>(plan: &Plan, path: &'p [u8]) -> Vec<(Park, &'p [u8])> {
    let gone = plan.steps.iter().filter_map(|step| match step {
        Step::Detach { path, park, .. } | Step::Exchange { path, park, old_dir: Some(_), .. } => {
            Some((*park, path))
        }
        _ => None,
    });
    let below = |above: &[u8]| path.strip_prefix(above).and_then(|rest| rest.strip_prefix(b"/"));
    gone.filter_map(|(park, above)| Some((park, below(above)?))).collect()
}

/// The directory that holds the last component of a path, and that.
fn descend(top: Arc<OwnedFd>, path: &[u8]) -> Result<Option<(Arc<OwnedFd>, &[u8])>> {
    let mut at = top;
    let mut rest = path;
    while let Some(end) = rest.iter().position(|byte| *byte == b'/') {
        at = match open_dir(&*at, &rest[..end]) {
            Ok(next) => Arc::new(next),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(e) => return Err(Error::host("open directory", &rest[..end], e)),
        };
        rest = &rest[end + 1..];
    }
    Ok(Some((at, rest)))
}
