//! Staging: everything the steps of a plan need is made, with its final attributes, in the preimage
//! directory of the commit, and made durable before the decision.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::base::stat_fd;
use crate::branch::Shared;
use crate::commit::apply_meta::{Refused, Set, set_meta};
use crate::commit::planner::{Drawn, Stage, UNSTAGED};
use crate::content::file_name;
use crate::copying::{Take, copy_bytes, copy_bytes_watched};
use crate::disk::{Disk, open_dir_readable};
use crate::error::{Error, Result};
use crate::ids::{CommitId, LINK_MAX, LayerId, NodeId};
use crate::node::{Body, Content, Fingerprint, HostKey, Kind, Meta, Node, Slot};
use crate::plan::{Park, Step, join};
use crate::progress::{PROGRESS_BYTES, PROGRESS_EVERY, Phase, Progress, Watch, ask, ask_at};
use crate::tree::Tree;

/// Up to so many objects are fsynced one by one; more are faster with one syncfs.
const FSYNC_MAX: usize = 64;

/// What becomes of the branch's content files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// They become the base's, by one more link.
    Given,
    /// The branch goes on: they are copied.
    Copied,
}

/// The preimage directory of one commit, filled with what the plan's steps need.
pub(crate) struct Staging<'a> {
    shared: &'a Shared,
    tree: &'a Tree,
    commit: CommitId,
    bytes: Bytes,
    pub(crate) dir: OwnedFd,
    pub(crate) warnings: Vec<String>,
    /// Content files that share their inode with a staged one; their mode is put back if nothing comes of it.
    linked: Vec<(LayerId, NodeId)>,
    made: HashMap<Park, HostKey>,
    fresh: HashSet<NodeId>,
    unsynced: Vec<OwnedFd>,
    objects: usize,
    staged_bytes: u64,
    watch: &'a dyn Watch,
    /// Objects made, of so many.
    staged: (u64, u64),
    /// Bytes copied for them.
    copied: u64,
    armed: bool,
}

impl<'a> Staging<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        tree: &'a Tree,
        commit: CommitId,
        bytes: Bytes,
        watch: &'a dyn Watch,
    ) -> Result<Staging<'a>> {
        let name = commit.0.to_string();
        let park = &shared.park_fd;
        shared.disk.mkdir(park, name.as_bytes(), 0o700).map_err(|e| Error::host("mkdir", &name, e))?;
        let dir = open_dir_readable(park, name.as_bytes())?;
        Ok(Staging {
            shared,
            tree,
            commit,
            bytes,
            dir,
            warnings: Vec::new(),
            linked: Vec::new(),
            made: HashMap::new(),
            fresh: HashSet::new(),
            unsynced: Vec::new(),
            objects: 0,
            staged_bytes: 0,
            watch,
            staged: (0, 0),
            copied: 0,
            armed: true,
        })
    }

    /// Makes everything, durably, and fills the inodes into the plan.
    pub(crate) fn fill(&mut self, drawn: &mut Drawn) -> Result<()> {
        let mut left_out = HashSet::new();
        self.staged = (0, count(self.tree, drawn));
        ask(self.watch, Phase::Staging, 0, self.staged.1)?;
        for stage in &drawn.stages {
            match stage {
                Stage::Node(park, id, path) => {
                    let dir = self.dir.try_clone().map_err(io)?;
                    match self.make((&dir, &park.name()), *id, path, &drawn.later)? {
                        Some(key) => _ = self.made.insert(*park, key),
                        None => _ = left_out.insert(*park),
                    }
                }
                Stage::Keep(park, slot) => self.keep(*park, slot)?,
            }
        }
        let places = |step: &Step| match step {
            Step::Attach { park, .. } | Step::Exchange { park, .. } => Some(*park),
            _ => None,
        };
        drawn.plan.steps.retain(|step| places(step).is_none_or(|park| !left_out.contains(&park)));
        for step in &mut drawn.plan.steps {
            self.name_object(step);
        }
        let (staged, of) = self.staged;
        debug_assert_eq!(staged, of, "everything was staged once");
        self.report()?;
        ask(self.watch, Phase::Syncing, 0, 0)?;
        self.sync()
    }

    pub(crate) fn print(&self) -> Result<Fingerprint> {
        self.shared.base.home.print(&stat_fd(&self.dir)?).ok_or(Error::Posix(Errno::IO))
    }

    /// Bytes of the files that are staged.
    pub(crate) fn bytes(&self) -> u64 {
        self.staged_bytes
    }

    /// A decision is on its way to the disk and may stand, whatever is reported of it: from now on what was
    /// staged is no longer ours to remove.
    pub(crate) fn disarm(&mut self) {
        self.armed = false;
    }

    /// The warnings, and the content files that are one with a staged file.
    pub(crate) fn finish(mut self) -> (Vec<String>, Vec<(LayerId, NodeId)>) {
        debug_assert!(!self.armed, "finished only after the decision");
        (std::mem::take(&mut self.warnings), std::mem::take(&mut self.linked))
    }

    fn name_object(&self, step: &mut Step) {
        let (park, object) = match step {
            Step::Attach { park, object, .. } | Step::Exchange { park, new: object, .. } => (park, object),
            _ => return,
        };
        if *object == UNSTAGED
            && let Some(key) = self.made.get(park)
        {
            *object = *key;
        }
    }

    /// `None`, with a warning, for what this user may not make: a device node.
    fn make(
        &mut self,
        (dir, name): (&OwnedFd, &[u8]),
        id: NodeId,
        path: &[u8],
        later: &HashSet<NodeId>,
    ) -> Result<Option<HostKey>> {
        let node = self.tree.get(id).ok_or(Error::Posix(Errno::IO))?.clone();
        let disk = &self.shared.disk;
        let failed = |op: &'static str| move |e: Errno| Error::host(op, path, e);
        let meta = &node.inode.meta;
        self.next_object()?;
        self.fresh.insert(id);
        match &node.inode.body {
            Body::File(Content::Own(layer)) => {
                self.make_file(dir, name, id, *layer, node.inode.meta.nlink)?
            }
            Body::File(Content::Base(_)) => return Err(Error::Posix(Errno::IO)),
            Body::Symlink(target) => disk.symlink(target, dir, name).map_err(failed("symlink"))?,
            Body::Special(kind) => match disk.mknod(dir, name, *kind, meta.mode, meta.rdev) {
                Err(e @ (Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::NOTSUP)) => {
                    self.warnings.push(Refused::node(e).of(path));
                    return Ok(None);
                }
                made => made.map_err(failed("mknod"))?,
            },
            Body::Dir { .. } => {
                disk.mkdir(dir, name, 0o700).map_err(failed("mkdir"))?;
                self.make_children((dir, name), &node, path, later)?;
            }
        }
        self.finish_object((dir, name), node.inode.kind(), meta, path).map(Some)
    }

    fn next_object(&mut self) -> Result<()> {
        self.objects += 1;
        self.staged.0 += 1;
        if self.staged.0.is_multiple_of(PROGRESS_EVERY) { self.report() } else { Ok(()) }
    }

    fn report(&self) -> Result<()> {
        let (done, of) = self.staged;
        ask_at(self.watch, Progress { phase: Phase::Staging, done, of, bytes: self.copied })
    }

    /// A long copy tells how far it is, and can be called off in the middle.
    fn copy(&mut self, source: &File, to: &File) -> Result<()> {
        let disk = &self.shared.disk.clone();
        copy_bytes_watched(disk, source, to, Take::All, &mut |bytes| {
            let before = self.copied / PROGRESS_BYTES;
            self.copied += bytes;
            if self.copied / PROGRESS_BYTES == before { Ok(()) } else { self.report() }
        })
    }

    fn finish_object(
        &mut self,
        (dir, name): (&OwnedFd, &[u8]),
        kind: Kind,
        meta: &Meta,
        path: &[u8],
    ) -> Result<HostKey> {
        let Set { found, refused } = set_meta(&self.shared.disk, dir, name, kind, meta)?;
        // Nothing is decided yet: there may be room another time.
        if let Some(full) = refused.iter().find(|r| matches!(r.errno, Errno::NOSPC | Errno::DQUOT)) {
            return Err(Error::host("set attributes of", path, full.errno));
        }
        self.warnings.extend(refused.iter().map(|refused| refused.of(path)));
        self.remember(dir, name, kind)?;
        let print = self.shared.base.home.print(&found).ok_or(Error::Posix(Errno::IO))?;
        self.staged_bytes += if kind == Kind::File { print.size } else { 0 };
        Ok(print.key())
    }

    fn make_children(
        &mut self,
        (dir, name): (&OwnedFd, &[u8]),
        node: &Node,
        path: &[u8],
        later: &HashSet<NodeId>,
    ) -> Result<()> {
        let inner = open_dir_readable(dir, name)?;
        for (child_name, child) in node.entries.iter().filter_map(|(n, e)| e.child.map(|id| (n, id))) {
            let child_node = self.tree.get(child).ok_or(Error::Posix(Errno::IO))?;
            let reused =
                later.contains(&child) || matches!(child_node.inode.body, Body::File(Content::Base(_)));
            // Further names of one new file come by `AddLink` steps; the plan walks in this same order.
            if !reused && !self.fresh.contains(&child) {
                let path = join(path, child_name.as_bytes());
                self.make((&inner, child_name.as_bytes()), child, &path, later)?;
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
        let layer_dir = self.shared.contents.layer_dir(layer)?;
        let linked = match (self.bytes, nlink) {
            (Bytes::Copied, _) | (_, LINK_MAX..) => Err(Errno::MLINK),
            (Bytes::Given, _) => self.shared.disk.link((&*layer_dir, &file_name(id)), (dir, name)),
        };
        match linked {
            Ok(()) => {
                self.linked.push((layer, id));
                Ok(())
            }
            Err(Errno::XDEV | Errno::PERM | Errno::MLINK | Errno::NOTSUP) => {
                let source = self.shared.contents.open(layer, id, OFlags::RDONLY)?;
                let mtime = crate::node::time_of(&stat_fd(&source)?.stx_mtime);
                let file = self.shared.disk.create(dir, name, OFlags::RDWR | OFlags::EXCL, 0o600)?;
                self.copy(&source, &file)?;
                crate::content::set_mtime(&file, mtime)
            }
            Err(e) => Err(Error::host("link", "content file", e)),
        }
    }

    /// Copies the bytes of a base file that is about to be rewritten in place.
    fn keep(&mut self, park: Park, slot: &Slot) -> Result<()> {
        let found = self.shared.base.resolve_now(slot)?.ok_or(Error::Posix(Errno::STALE))?;
        let source = self.shared.base.open_file(&found)?;
        let file = self.shared.disk.create(&self.dir, &park.name(), OFlags::RDWR | OFlags::EXCL, 0o600)?;
        self.copy(&source, &file)?;
        self.next_object()?;
        self.unsynced.push(file.into());
        Ok(())
    }

    fn remember(&mut self, dir: &OwnedFd, name: &[u8], kind: Kind) -> Result<()> {
        if self.objects > FSYNC_MAX {
            self.unsynced.clear();
            return Ok(());
        }
        match kind {
            Kind::File => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                // A mode without read permission cannot be opened by an ordinary owner: syncfs then.
                match rustix::fs::openat(dir, name, flags, Mode::empty()) {
                    Ok(file) => self.unsynced.push(file),
                    Err(Errno::ACCESS) => self.objects = FSYNC_MAX + 1,
                    Err(e) => return Err(e.into()),
                }
            }
            Kind::Dir => match open_dir_readable(dir, name) {
                Ok(fd) => self.unsynced.push(fd),
                Err(Errno::ACCESS) => self.objects = FSYNC_MAX + 1,
                Err(e) => return Err(e.into()),
            },
            _ => {}
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        let disk = &self.shared.disk;
        let synced = if self.objects > FSYNC_MAX {
            disk.syncfs(&self.dir)
        } else {
            self.unsynced.iter().try_for_each(|fd| disk.fsync(fd)).and_then(|()| disk.fsync(&self.dir))
        };
        self.unsynced.clear();
        synced.and_then(|()| disk.fsync(&self.shared.park_fd)).map_err(|e| {
            self.shared.journal.poison();
            Error::host("fsync", "staged files", e)
        })
    }
}

/// How many objects will be staged.
fn count(tree: &Tree, drawn: &Drawn) -> u64 {
    let mut fresh = HashSet::new();
    let mut kept = 0;
    let mut stack = Vec::new();
    for stage in &drawn.stages {
        match stage {
            Stage::Node(_, id, _) => stack.push(*id),
            Stage::Keep(..) => kept += 1,
        }
    }
    while let Some(id) = stack.pop() {
        let Some(node) = tree.get(id).filter(|_| fresh.insert(id)) else { continue };
        stack.extend(node.entries.values().filter_map(|entry| entry.child).filter(|child| {
            let base = |node: &Arc<Node>| matches!(node.inode.body, Body::File(Content::Base(_)));
            !drawn.later.contains(child) && !tree.get(*child).is_some_and(base)
        }));
    }
    kept + fresh.len() as u64
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        for (layer, id) in &self.linked {
            if let Ok(file) = self.shared.contents.open(*layer, *id, OFlags::PATH) {
                // The branch goes on writing to its content file: the final mode must not be in the way.
                self.shared.disk.chmod(&file.into(), 0o600).ok();
            }
        }
        // At once and not by way of the trash: the next try gives the base these files, and a link that goes
        // later changes their ctime, which fingerprints hold. Recovery removes what a refusal leaves.
        let name = self.commit.0.to_string();
        crate::removing::remove_tree(&self.shared.disk, &self.shared.park_fd, name.as_bytes()).ok();
    }
}

fn io(e: std::io::Error) -> Error {
    Error::Posix(Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

/// New bytes, and their modification time, for an existing file, in place.
pub(crate) fn rewrite(disk: &Disk, from: &File, to: &File) -> Result<()> {
    disk.truncate(to, 0)?;
    copy_bytes(disk, from, to, Take::All)?;
    crate::content::set_mtime(to, crate::node::time_of(&stat_fd(from)?.stx_mtime))
}
