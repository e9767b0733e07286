//! Staging: everything the steps of a plan need is made, with its final attributes, in the preimage
//! directory of the commit, and made durable before the decision.

mod make;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use self::make::{Counter, Maker, Objects, Site};
use crate::base::stat_fd;
use crate::branch::Shared;
use crate::commit::planner::{Drawn, Stage, UNSTAGED};
use crate::copying::{Take, copy_bytes};
use crate::crew;
use crate::disk::{Disk, open_dir_readable};
use crate::error::{Error, Result};
use crate::ids::{CommitId, LayerId, NodeId};
use crate::node::{Body, Content, Fingerprint, HostKey, Kind, Node};
use crate::plan::{Park, Step};
use crate::progress::{Phase, Watch, ask};
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
    unsynced: Vec<OwnedFd>,
    /// Too many for one fsync each.
    many: bool,
    staged_bytes: u64,
    watch: &'a dyn Watch,
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
            unsynced: Vec::new(),
            many: false,
            staged_bytes: 0,
            watch,
            armed: true,
        })
    }

    /// Makes everything, durably, and fills the inodes into the plan.
    pub(crate) fn fill(&mut self, drawn: &mut Drawn) -> Result<()> {
        let of = count(self.tree, drawn);
        ask(self.watch, Phase::Staging, 0, of)?;
        let left_out = self.make_all(drawn, of)?;
        let places = |step: &Step| match step {
            Step::Attach { park, .. } | Step::Exchange { park, .. } => Some(*park),
            _ => None,
        };
        if !left_out.is_empty() {
            drawn.plan.steps.retain(|step| places(step).is_none_or(|park| !left_out.contains(&park)));
        }
        for step in &mut drawn.plan.steps {
            self.name_object(step);
        }
        ask(self.watch, Phase::Syncing, 0, 0)?;
        self.sync()
    }

    /// Returns the places of what this user may not make.
    ///
    /// What is no directory is made by several threads where there is much of it. The result is the same in any
    /// order: each makes one object, under a name of its own (its number) in the preimage directory, from a content
    /// or base file that nobody writes to meanwhile, and none looks at what another made. Nothing is decided yet, so
    /// a crash in the middle leaves a preimage directory of which the journal does not speak, whatever is in it.
    /// Directories come after it, one after the other: a new file with several names is made in the first of them.
    fn make_all(&mut self, drawn: &Drawn, of: u64) -> Result<HashSet<Park>> {
        let (dirs, single) = self.by_kind(drawn)?;
        let counter = Counter::new(self.watch, of);
        let site = Site {
            shared: self.shared,
            tree: self.tree,
            bytes: self.bytes,
            later: &drawn.later,
            dir: &self.dir,
            counter: &counter,
        };
        let begun = if crew::is_many(single.len()) { single.len() } else { 0 };
        let (mut makers, mut made) = crew::each(
            &single,
            || Maker::new(&site, begun),
            |maker, (index, stage)| maker.stage(*index, stage),
        );
        if made.is_ok() && !dirs.is_empty() {
            let mut maker = Maker::new(&site, single.len());
            maker.objects.many |= makers.iter().any(|maker| maker.objects.many);
            maker.fresh = single.iter().filter_map(|(_, stage)| node_of(stage)).collect();
            made = dirs.iter().try_for_each(|(index, stage)| maker.stage(*index, stage));
            makers.push(maker);
        }
        let objects = makers.into_iter().map(|maker| maker.objects).collect();
        let left_out = self.take_over(objects, drawn.stages.len());
        made.and_then(|()| counter.finish())?;
        Ok(left_out)
    }

    fn take_over(&mut self, all: Vec<Objects>, stages: usize) -> HashSet<Park> {
        let mut left_out = HashSet::new();
        let mut warnings = Vec::new();
        self.made.reserve(stages);
        for objects in all {
            self.many |= objects.many;
            self.made.extend(objects.made);
            left_out.extend(objects.left_out);
            warnings.extend(objects.warnings);
            self.linked.extend(objects.linked);
            self.unsynced.extend(objects.unsynced);
            self.staged_bytes += objects.bytes;
        }
        warnings.sort_by_key(|(index, _)| *index);
        self.warnings.extend(warnings.into_iter().map(|(_, warning)| warning));
        left_out
    }

    /// Directories, and all the rest, with their numbers.
    fn by_kind<'d>(&self, drawn: &'d Drawn) -> Result<(Numbered<'d>, Numbered<'d>)> {
        let (mut dirs, mut single) = (Vec::new(), Vec::with_capacity(drawn.stages.len()));
        for (index, stage) in drawn.stages.iter().enumerate() {
            let node =
                node_of(stage).map(|id| self.tree.get(id).ok_or(Error::Posix(Errno::IO))).transpose()?;
            let is_dir = node.is_some_and(|node| node.inode.kind() == Kind::Dir);
            if is_dir { dirs.push((index, stage)) } else { single.push((index, stage)) }
        }
        Ok((dirs, single))
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

    fn sync(&mut self) -> Result<()> {
        let disk = &self.shared.disk;
        let synced = if self.many {
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

/// Stages with their numbers.
type Numbered<'d> = Vec<(usize, &'d Stage)>;

fn node_of(stage: &Stage) -> Option<NodeId> {
    match stage {
        Stage::Node(_, id, _) => Some(*id),
        Stage::Keep(..) => None,
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
            if let Ok(file) = self.shared.contents.open_as_is(*layer, *id, OFlags::PATH) {
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

/// New bytes, and their modification time, for an existing file, in place.
pub(crate) fn rewrite(disk: &Disk, from: &File, to: &File) -> Result<()> {
    disk.truncate(to, 0)?;
    copy_bytes(disk, from, to, Take::All)?;
    crate::content::set_mtime(to, crate::node::time_of(&stat_fd(from)?.stx_mtime))
}
