//! One staged object after the other. Several makers may be at work at once, each for itself.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Bytes, FSYNC_MAX};
use crate::base::{stat_at, stat_fd};
use crate::branch::Shared;
use crate::commit::apply_meta::{Refused, set_meta};
use crate::commit::planner::Stage;
use crate::content::file_name;
use crate::copying::{Take, copy_bytes_watched};
use crate::disk::open_dir_readable;
use crate::error::{Error, Result};
use crate::ids::{LINK_MAX, LayerId, NodeId};
use crate::node::{Body, Content, HostKey, Kind, Meta, Node, Slot};
use crate::plan::{Park, join};
use crate::progress::{PROGRESS_BYTES, PROGRESS_EVERY, Phase, Progress, Watch, ask_at};
use crate::tree::Tree;

/// What all makers of one commit share.
pub(super) struct Site<'a> {
    pub(super) shared: &'a Shared,
    pub(super) tree: &'a Tree,
    pub(super) bytes: Bytes,
    /// Nodes that a staged directory must leave out.
    pub(super) later: &'a HashSet<NodeId>,
    /// The preimage directory of the commit.
    pub(super) dir: &'a OwnedFd,
    pub(super) counter: &'a Counter<'a>,
}

/// How far all of them are. Whoever gets to the next report makes it, one at a time and in order.
pub(super) struct Counter<'a> {
    watch: &'a dyn Watch,
    of: u64,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    /// Objects that were begun.
    begun: u64,
    /// Bytes copied for them.
    copied: u64,
    /// The watch said no: it is not asked again.
    called_off: bool,
}

impl<'a> Counter<'a> {
    pub(super) fn new(watch: &'a dyn Watch, of: u64) -> Counter<'a> {
        Counter { watch, of, counted: Mutex::default() }
    }

    fn next_object(&self) -> Result<()> {
        let mut counted = self.counted.lock();
        counted.begun += 1;
        if counted.begun.is_multiple_of(PROGRESS_EVERY) { self.tell(&mut counted) } else { Ok(()) }
    }

    /// A long copy tells how far it is, and can be called off in the middle, whoever heard the no.
    fn copied(&self, bytes: u64) -> Result<()> {
        let mut counted = self.counted.lock();
        let before = counted.copied / PROGRESS_BYTES;
        counted.copied += bytes;
        let news = counted.copied / PROGRESS_BYTES != before;
        if news || counted.called_off { self.tell(&mut counted) } else { Ok(()) }
    }

    /// Everything is staged.
    ///
    /// # Errors
    /// `Cancelled`.
    pub(super) fn finish(&self) -> Result<()> {
        let mut counted = self.counted.lock();
        debug_assert_eq!(counted.begun, self.of, "everything was staged once");
        self.tell(&mut counted)
    }

    fn tell(&self, counted: &mut Counted) -> Result<()> {
        if counted.called_off {
            return Err(Error::Cancelled);
        }
        let Counted { begun: done, copied: bytes, .. } = *counted;
        let told = ask_at(self.watch, Progress { phase: Phase::Staging, done, of: self.of, bytes });
        counted.called_off = told.is_err();
        told
    }
}

/// What a maker made.
#[derive(Default)]
pub(super) struct Objects {
    pub(super) made: Vec<(Park, HostKey)>,
    /// Places of what this user may not make.
    pub(super) left_out: Vec<Park>,
    /// Each with the number of its stage.
    pub(super) warnings: Vec<(usize, String)>,
    /// Content files that share their inode with a staged one.
    pub(super) linked: Vec<(LayerId, NodeId)>,
    pub(super) unsynced: Vec<OwnedFd>,
    /// Too many for one fsync each.
    pub(super) many: bool,
    /// Bytes of files.
    pub(super) bytes: u64,
}

pub(super) struct Maker<'a> {
    site: &'a Site<'a>,
    /// The number of the stage.
    index: usize,
    pub(super) objects: Objects,
    begun: usize,
    /// What has been made and may have further names in staged directories.
    pub(super) fresh: HashSet<NodeId>,
    /// The layer of the last content file.
    layer: Option<(LayerId, Arc<OwnedFd>)>,
}

impl<'a> Maker<'a> {
    /// `begun`: so many objects are made already, or will be.
    pub(super) fn new(site: &'a Site<'a>, begun: usize) -> Maker<'a> {
        let objects = Objects { many: begun > FSYNC_MAX, ..Objects::default() };
        Maker { site, index: 0, objects, begun, fresh: HashSet::new(), layer: None }
    }

    pub(super) fn stage(&mut self, index: usize, stage: &Stage) -> Result<()> {
        self.index = index;
        match stage {
            Stage::Node(park, id, path) => match self.make((self.site.dir, &park.name()), *id, path)? {
                Some(key) => self.objects.made.push((*park, key)),
                None => self.objects.left_out.push(*park),
            },
            Stage::Keep(park, slot) => self.keep(*park, slot)?,
        }
        Ok(())
    }

    /// `None`, with a warning, for what this user may not make: a device node.
    fn make(&mut self, (dir, name): (&OwnedFd, &[u8]), id: NodeId, path: &[u8]) -> Result<Option<HostKey>> {
        let node = self.site.tree.get(id).ok_or(Error::Posix(Errno::IO))?;
        let disk = &self.site.shared.disk;
        let failed = |op: &'static str| move |e: Errno| Error::host(op, path, e);
        let meta = &node.inode.meta;
        self.next_object()?;
        match &node.inode.body {
            Body::File(Content::Own(layer)) => self.make_file(dir, name, id, *layer, meta.nlink)?,
            Body::File(Content::Base(_)) => return Err(Error::Posix(Errno::IO)),
            Body::Symlink(target) => disk.symlink(target, dir, name).map_err(failed("symlink"))?,
            Body::Special(kind) => match disk.mknod(dir, name, *kind, meta.mode, meta.rdev) {
                Err(e @ (Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::NOTSUP)) => {
                    self.objects.warnings.push((self.index, Refused::node(e).of(path)));
                    return Ok(None);
                }
                made => made.map_err(failed("mknod"))?,
            },
            Body::Dir { .. } => {
                disk.mkdir(dir, name, 0o700).map_err(failed("mkdir"))?;
                self.make_children((dir, name), node, path)?;
            }
        }
        self.finish_object((dir, name), node.inode.kind(), meta, path).map(Some)
    }

    fn next_object(&mut self) -> Result<()> {
        self.begun += 1;
        self.objects.many |= self.begun > FSYNC_MAX;
        self.site.counter.next_object()
    }

    fn finish_object(
        &mut self,
        (dir, name): (&OwnedFd, &[u8]),
        kind: Kind,
        meta: &Meta,
        path: &[u8],
    ) -> Result<HostKey> {
        let found = stat_at(dir, name)?;
        let refused = set_meta(&self.site.shared.disk, (dir, name), &found, kind, meta)?;
        // Nothing is decided yet: there may be room another time.
        if let Some(full) = refused.iter().find(|r| matches!(r.errno, Errno::NOSPC | Errno::DQUOT)) {
            return Err(Error::host("set attributes of", path, full.errno));
        }
        let index = self.index;
        self.objects.warnings.extend(refused.iter().map(|refused| (index, refused.of(path))));
        self.remember(dir, name, kind)?;
        let print = self.site.shared.base.home.print(&found).ok_or(Error::Posix(Errno::IO))?;
        self.objects.bytes += if kind == Kind::File { print.size } else { 0 };
        Ok(print.key())
    }

    fn make_children(&mut self, (dir, name): (&OwnedFd, &[u8]), node: &Node, path: &[u8]) -> Result<()> {
        let inner = open_dir_readable(dir, name)?;
        for (child_name, child) in node.entries.iter().filter_map(|(n, e)| e.child.map(|id| (n, id))) {
            let child_node = self.site.tree.get(child).ok_or(Error::Posix(Errno::IO))?;
            let reused = self.site.later.contains(&child)
                || matches!(child_node.inode.body, Body::File(Content::Base(_)));
            // Further names of one new file come by `AddLink` steps; the plan walks in this same order.
            if !reused && self.fresh.insert(child) {
                let path = join(path, child_name.as_bytes());
                self.make((&inner, child_name.as_bytes()), child, &path)?;
            }
        }
        Ok(())
    }

    /// The content file itself, by one more link; a copy where the filesystems differ, or where its names alone
    /// are as many as a file can have.
    fn make_file(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        id: NodeId,
        layer: LayerId,
        nlink: u32,
    ) -> Result<()> {
        let (disk, contents) = (&self.site.shared.disk, &self.site.shared.contents);
        // Here it may fail: nothing is decided.
        contents.complete(layer, id)?;
        let layer_dir = self.layer_dir(layer)?;
        let linked = match (self.site.bytes, nlink) {
            (Bytes::Copied, _) | (_, LINK_MAX..) => Err(Errno::MLINK),
            (Bytes::Given, _) => disk.link((&*layer_dir, &file_name(id)), (dir, name)),
        };
        match linked {
            Ok(()) => {
                self.objects.linked.push((layer, id));
                Ok(())
            }
            Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::NOTSUP) => {
                let source = contents.open(layer, id, OFlags::RDONLY)?;
                let mtime = crate::node::time_of(&stat_fd(&source)?.stx_mtime);
                let file = disk.create(dir, name, OFlags::RDWR | OFlags::EXCL, 0o600)?;
                self.copy(&source, &file)?;
                crate::content::set_mtime(&file, mtime)
            }
            Err(e) => Err(Error::host("link", "content file", e)),
        }
    }

    fn copy(&self, source: &File, to: &File) -> Result<()> {
        let counter = self.site.counter;
        let heard = &mut |bytes| counter.copied(bytes);
        copy_bytes_watched(&self.site.shared.disk, source, to, Take::All, heard)
    }

    fn layer_dir(&mut self, layer: LayerId) -> Result<Arc<OwnedFd>> {
        if let Some((known, dir)) = &self.layer
            && *known == layer
        {
            return Ok(dir.clone());
        }
        let dir = self.site.shared.contents.layer_dir(layer)?;
        self.layer = Some((layer, dir.clone()));
        Ok(dir)
    }

    /// Copies the bytes of a base file that is about to be rewritten in place.
    fn keep(&mut self, park: Park, slot: &Slot) -> Result<()> {
        let shared = self.site.shared;
        let found = shared.base.resolve_now(slot)?.ok_or(Error::Posix(Errno::STALE))?;
        // Whoever has borrowed from it when it had but one name.
        shared.contents.complete_borrowers_of(found.print.key())?;
        let source = shared.base.open_file(&found)?;
        let file = shared.disk.create(self.site.dir, &park.name(), OFlags::RDWR | OFlags::EXCL, 0o600)?;
        self.copy(&source, &file)?;
        self.next_object()?;
        if self.objects.many {
            self.objects.unsynced.clear();
        } else {
            self.objects.unsynced.push(file.into());
        }
        Ok(())
    }

    fn remember(&mut self, dir: &OwnedFd, name: &[u8], kind: Kind) -> Result<()> {
        if self.objects.many {
            self.objects.unsynced.clear();
            return Ok(());
        }
        let opened = match kind {
            Kind::File => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                rustix::fs::openat(dir, name, flags, Mode::empty())
            }
            Kind::Dir => open_dir_readable(dir, name),
            _ => return Ok(()),
        };
        match opened {
            Ok(object) => self.objects.unsynced.push(object),
            // A mode without read permission cannot be opened by an ordinary owner: syncfs then.
            Err(Errno::ACCESS) => self.objects.many = true,
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }
}
