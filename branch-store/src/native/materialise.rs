//! A branch's changes written down in overlayfs' words, in the directory that will be the upper one: directories that merge
//! with those of the base or hide them, whiteouts, redirects, and files. It is what overlayfs would have left there if the
//! branch had been made through it. Each object says which node it is, so that it is known again, whatever becomes of it.
//!
//! Files are copies (clones where the filesystem can): processes write into them, and they have their own attributes.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::base::stat_at;
use crate::branch::{OverlayXattrs, Shared, View};
use crate::commit::set_meta;
use crate::copying::{Take, copy_bytes};
use crate::disk::open_dir_readable;
use crate::error::{Error, Result};
use crate::ids::{Name, NodeId};
use crate::node::{Body, Kind, Lower, Meta, Node, Object, Slot, Xattrs};

/// Holds files with several names until all names are made; a directory beside the upper one.
const LINKS: &[u8] = b"links";
/// Which node an object is.
pub(super) const NODE: &[u8] = b"node";

/// Writes what a tree has and the base has not into an empty directory in `beside`.
///
/// # Errors
/// `NotAllowed` for what overlayfs could not show, or this user not make; and the host's.
pub(super) fn materialise(
    shared: &Shared,
    view: View<'_>,
    style: OverlayXattrs,
    beside: &OwnedFd,
    upper: OwnedFd,
) -> Result<()> {
    let Some(top) = view.tree.get(NodeId::ROOT) else { return Ok(()) };
    shared.disk.mkdir(beside, LINKS, 0o700)?;
    let links = open_dir_readable(beside, LINKS)?;
    let (named, todo) = (HashMap::new(), Vec::new());
    let mut maker = Maker { shared, view, style, links, named, todo };
    maker.fill(Arc::new(upper), NodeId::ROOT, top);
    while let Some(step) = maker.todo.pop() {
        match step {
            Step::Name(place, id) => maker.name(place, id)?,
            Step::Finish(place, id) => maker.finish(&place, id)?,
        }
    }
    maker.check_names()?;
    crate::removing::remove_tree(&shared.disk, beside, LINKS)
}

struct Maker<'a> {
    shared: &'a Shared,
    view: View<'a>,
    style: OverlayXattrs,
    links: OwnedFd,
    /// Files with several names, with the number of names that they have so far.
    named: HashMap<NodeId, u32>,
    /// A loop, as the stack is not as deep as a tree of directories can be.
    todo: Vec<Step>,
}

enum Step {
    /// A name comes into being: a node, or a whiteout.
    Name(Place, Option<NodeId>),
    /// A directory has all its names, and gets its attributes.
    Finish(Place, NodeId),
}

struct Place {
    dir: Arc<OwnedFd>,
    /// The node of that.
    of: NodeId,
    name: Name,
}

impl Maker<'_> {
    /// Has the names of a directory made.
    fn fill(&mut self, dir: Arc<OwnedFd>, of: NodeId, node: &Node) {
        let hides = matches!(node.inode.body, Body::Dir { lower: Lower::Opaque, .. });
        for (name, entry) in &node.entries {
            if entry.child.is_some() || !hides {
                self.todo.push(Step::Name(Place { dir: dir.clone(), of, name: name.clone() }, entry.child));
            }
        }
    }

    fn name(&mut self, place: Place, id: Option<NodeId>) -> Result<()> {
        let disk = &self.shared.disk;
        let Some(id) = id else {
            return Ok(disk.mknod(&*place.dir, place.name.as_bytes(), Kind::Char, 0, 0)?);
        };
        let node = self.node(id)?;
        if let Body::Dir { .. } = node.inode.body {
            disk.mkdir(&*place.dir, place.name.as_bytes(), 0o700)?;
            let dir = Arc::new(open_dir_readable(&*place.dir, place.name.as_bytes())?);
            self.todo.push(Step::Finish(place, id));
            self.fill(dir, id, &node);
            return Ok(());
        }
        if node.inode.meta.nlink <= 1 {
            self.make((&place.dir, place.name.as_bytes()), id, &node)?;
            return self.attribute((&place.dir, place.name.as_bytes()), id, &node, None);
        }
        let called = id.0.to_string();
        let names = self.named.get(&id).copied().unwrap_or(0);
        if names == 0 {
            let links = rustix::io::fcntl_dupfd_cloexec(&self.links, 0)?;
            self.make((&links, called.as_bytes()), id, &node)?;
            self.attribute((&links, called.as_bytes()), id, &node, None)?;
        }
        self.named.insert(id, names + 1);
        Ok(disk.link((&self.links, called.as_bytes()), (&*place.dir, place.name.as_bytes()))?)
    }

    /// A file of the base that was changed by one of its names shows the change under the others, too. Where those are,
    /// nobody knows.
    fn check_names(&self) -> Result<()> {
        for (id, names) in &self.named {
            if *names < self.node(*id)?.inode.meta.nlink {
                return Err(Error::NotAllowed("it has changed a file of the base that has several names"));
            }
        }
        Ok(())
    }

    fn node(&self, id: NodeId) -> Result<Arc<Node>> {
        self.view.tree.get(id).cloned().ok_or(Error::Posix(Errno::IO))
    }

    fn make(&mut self, (dir, name): (&OwnedFd, &[u8]), id: NodeId, node: &Node) -> Result<()> {
        let disk = &self.shared.disk;
        match &node.inode.body {
            Body::File(_) => {
                let source = self.view.open(&Object { id, slot: None })?;
                let file = disk.create(dir, name, OFlags::RDWR | OFlags::EXCL, 0o600)?;
                copy_bytes(disk, &source, &file, Take::All)
            }
            Body::Symlink(target) => Ok(disk.symlink(target, dir, name)?),
            Body::Special(Kind::Char) if node.inode.meta.rdev == 0 => {
                Err(Error::NotAllowed("it has a device node that overlayfs takes for a whiteout"))
            }
            Body::Special(kind) => Ok(disk.mknod(dir, name, *kind, 0o600, node.inode.meta.rdev)?),
            Body::Dir { .. } => Err(Error::Posix(Errno::ISDIR)),
        }
    }

    fn finish(&mut self, place: &Place, id: NodeId) -> Result<()> {
        let node = self.node(id)?;
        let mark = match node.inode.body {
            Body::Dir { lower: Lower::Merged, .. } => {
                self.redirect(place, id)?.map(|path| (&b"redirect"[..], path))
            }
            _ => Some((&b"opaque"[..], b"y".to_vec())),
        };
        self.attribute((&place.dir, place.name.as_bytes()), id, &node, mark)
    }

    /// Where in the base a directory's other names are, if not where overlayfs would look for them.
    fn redirect(&self, place: &Place, id: NodeId) -> Result<Option<Vec<u8>>> {
        let slot = self.view.base.dir_slot(id, self.view.epoch)?;
        let above = self.node(place.of)?;
        let merged = matches!(above.inode.body, Body::Dir { lower: Lower::Merged, .. });
        if merged && slot == (Slot { dir: place.of, name: place.name.clone() }) {
            return Ok(None);
        }
        if self.style == OverlayXattrs::User {
            return Err(Error::NotAllowed(
                "it has moved a directory of the base, which overlayfs in a user namespace cannot show",
            ));
        }
        let path = self.view.base.path_of(&slot, self.view.epoch)?;
        Ok(Some([b"/", &path[..]].concat()))
    }

    fn attribute(
        &self,
        (dir, name): (&OwnedFd, &[u8]),
        id: NodeId,
        node: &Node,
        mark: Option<(&[u8], Vec<u8>)>,
    ) -> Result<()> {
        let stat = self.view.stat(&Object { id, slot: None })?;
        let kind = node.inode.kind();
        // Nobody may give others attributes of a user's.
        let takes = self.style == OverlayXattrs::Trusted || matches!(kind, Kind::File | Kind::Dir);
        let tag = takes.then(|| (NODE, id.0.to_string().into_bytes()));
        let marks: Vec<_> = tag.into_iter().chain(mark).collect();
        let xattrs = self.style.dress(&node.inode.meta.xattrs, &marks);
        let meta = Meta { mtime: Some(stat.mtime), xattrs, ..node.inode.meta.clone() };
        let found = stat_at(dir, name)?;
        let refused = set_meta(&self.shared.disk, (dir, name), &found, kind, &meta)?;
        if refused.is_empty() {
            return Ok(());
        }
        Err(Error::NotAllowed("it has an object with an owner, a mode or attributes that cannot be set here"))
    }
}

impl OverlayXattrs {
    pub(super) fn prefix(self) -> &'static [u8] {
        match self {
            OverlayXattrs::Trusted => b"trusted.overlay.",
            OverlayXattrs::User => b"user.overlay.",
        }
    }

    /// Attributes as the upper directory has them: what looks like one of overlayfs' own is kept under another name, and
    /// marks of its own come to it.
    pub(super) fn dress(self, all: &Xattrs, marks: &[(&[u8], Vec<u8>)]) -> Xattrs {
        let prefix = self.prefix();
        if marks.is_empty() && !all.keys().any(|key| key.starts_with(prefix)) {
            return all.clone();
        }
        let escape = |key: &Vec<u8>| match key.strip_prefix(prefix) {
            Some(rest) => [prefix, b"overlay.", rest].concat(),
            None => key.clone(),
        };
        let mut out: BTreeMap<_, _> = all.iter().map(|(key, value)| (escape(key), value.clone())).collect();
        out.extend(marks.iter().map(|(name, value)| ([prefix, name].concat(), value.clone())));
        Arc::new(out)
    }
}
