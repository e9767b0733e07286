//! The three versions of one object that two sides met at: where each is, its attributes, its bytes. Looked at only
//! where a conflict would be reported otherwise. Reads, changes nothing.

use std::fs::File;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use crate::branch::View;
use crate::commit::attributes;
use crate::commit::clash::{Clash, SideView, Sides, Subject, Why};
use crate::commit::index::Indexed;
use crate::conflict::Target;
use crate::copying::same_bytes;
use crate::error::{Error, Result};
use crate::ids::NodeId;
use crate::node::{Attributes, Body, Content, Fingerprint, Inode, Kind, Node, Object, Slot, Stat};

/// One object on two sides, and what both started from.
pub(super) struct Met {
    /// `None`: there was nothing, or it is no more what the branch saw (S15).
    pub(super) fork: Option<Object>,
    /// Whether there was something that is gone.
    pub(super) lost: bool,
    pub(super) theirs: Object,
    /// Of the base as it is read now, so that an edit in between is found.
    pub(super) their_print: Option<Fingerprint>,
    pub(super) ours: NodeId,
}

/// A new version of the branch's object.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) id: NodeId,
    pub(super) inode: Inode,
    /// What it was made from, if they are the base.
    pub(super) theirs: Option<Fingerprint>,
}

impl Sides<'_> {
    /// The object that a clash is about, if both sides have one that may be the same or become one.
    pub(super) fn met(&self, clash: &Clash) -> Result<Option<Met>> {
        match clash.why {
            Why::BothChanged | Why::BothCreated | Why::GoneBelow | Why::BaseEdited => {}
            Why::CreatedInRemoved
            | Why::MovedAndRemoved
            | Why::Immutable
            | Why::NotPermitted
            | Why::OtherFilesystem => return Ok(None),
        }
        let found = match &clash.subject {
            Subject::Object(id) if self.is_on_both(*id) => self.met_object(*id),
            Subject::Object(id) => match self.ours.indexed.holder(*id) {
                Some(slot) => self.met_at(&slot, clash),
                None => Ok(None),
            },
            Subject::Name(slot) => self.met_at(slot, clash),
        };
        match found {
            Err(Error::Posix(Errno::NOENT | Errno::NOTDIR | Errno::STALE)) => Ok(None),
            found => found,
        }
    }

    fn is_on_both(&self, id: NodeId) -> bool {
        self.target == Target::Branch && self.ours.has(id) && self.theirs.has(id)
    }

    /// What is changed on one side and replaced on the other is two objects: then the name is what they met at.
    pub(super) fn at_name(&self, clash: &Clash) -> Clash {
        let replaced = |id: NodeId| {
            let (one, other) = match (self.ours.has(id), self.theirs.has(id)) {
                (true, false) => (&self.ours, &self.theirs),
                (false, true) => (&self.theirs, &self.ours),
                (true, true) | (false, false) => return None,
            };
            let slot = one.indexed.holder(id)?;
            let file = one.indexed.tree().get(id)?.inode.kind() != Kind::Dir;
            (file && self.named(&other.view, &slot).is_ok()).then_some(slot)
        };
        match clash.subject {
            Subject::Object(id) if self.target == Target::Branch => match replaced(id) {
                Some(slot) => Clash { subject: Subject::Name(slot), ..clash.clone() },
                None => clash.clone(),
            },
            Subject::Object(_) | Subject::Name(_) => clash.clone(),
        }
    }

    /// The same object on all sides, wherever it is.
    fn met_object(&self, id: NodeId) -> Result<Option<Met>> {
        let object = Object { id, slot: None };
        let node = self.ours.node(id)?;
        let (fork, lost) = match self.fork.indexed.tree().get(id) {
            Some(_) => self.as_kept(object.clone(), &[])?,
            None => match node.inode.origin.as_deref().and_then(|origin| origin.slot.as_ref()) {
                Some(slot) => self.as_kept(Object { slot: Some(slot.clone()), ..object.clone() }, &[id])?,
                None => (None, false),
            },
        };
        // Names that both gave or took would not add up with the links that each counts.
        let links = match &fork {
            Some(fork) => Some(self.fork.stat(fork)?.nlink),
            None => None,
        };
        let renamed = |side: &SideView<'_>| -> Result<bool> {
            let gave = side.indexed.gave_name(self.fork.indexed, id);
            let now = side.node(id)?.inode.meta.nlink;
            Ok(gave || links.is_some_and(|links| links != now))
        };
        if renamed(&self.ours)? && renamed(&self.theirs)? && !self.is_moved_alike(id) {
            return Ok(None);
        }
        Ok(Some(Met { fork, lost, theirs: object, their_print: None, ours: id }))
    }

    /// Whether both have it under one name, the same.
    fn is_moved_alike(&self, id: NodeId) -> bool {
        moved_alike(self.theirs.indexed, self.ours.indexed, id)
    }

    /// What each side has under a name.
    fn met_at(&self, slot: &Slot, clash: &Clash) -> Result<Option<Met>> {
        let ours = self.named(&self.ours.view, slot)?;
        if self.ours.indexed.tree().get(ours.id).is_none() {
            return Ok(None);
        }
        let theirs = self.named(&self.theirs.view, slot)?;
        let their_print = match self.target {
            Target::Base => Some(self.theirs.view.found(&theirs)?.print),
            Target::Branch | Target::Since => None,
        };
        let (fork, lost) = match self.named(&self.fork.view, slot) {
            Ok(object) => {
                let saw = self.saw(slot, clash);
                match (&saw[..], &object.slot) {
                    // The branch made it where there was nothing; who came later came from outside.
                    ([], Some(_)) => (None, false),
                    (prints, Some(_)) if !self.is_seen(&object, prints)? => (None, true),
                    _ => self.as_kept(object, &[ours.id, theirs.id])?,
                }
            }
            Err(Error::Posix(Errno::NOENT | Errno::NOTDIR | Errno::STALE)) => (None, false),
            Err(e) => return Err(e),
        };
        Ok(Some(Met { fork, lost, theirs, their_print, ours: ours.id }))
    }

    /// What the sides saw of the base under a name.
    fn saw(&self, slot: &Slot, clash: &Clash) -> Vec<Fingerprint> {
        let over = |side: &SideView<'_>| {
            let dir = side.indexed.tree().get(slot.dir)?;
            dir.entries.get(&slot.name)?.over.as_deref().copied()
        };
        let sides = [&self.ours, &self.theirs].into_iter().filter_map(over);
        clash.saw.as_deref().copied().into_iter().chain(sides).collect()
    }

    /// Whether the base still has an object as all of these saw it.
    fn is_seen(&self, object: &Object, prints: &[Fingerprint]) -> Result<bool> {
        let now = self.fork.view.found(object)?.seen_print();
        Ok(prints.iter().all(|print| *print == now))
    }

    /// What both started from, if its bytes are still what they were: those of the base may have been edited since.
    /// `adopters`: nodes that may know how it was.
    fn as_kept(&self, object: Object, adopters: &[NodeId]) -> Result<(Option<Object>, bool)> {
        let view = &self.fork.view;
        let of_base = match view.tree.get(object.id).map(|node| (&node.inode.body, &node.inode.origin)) {
            Some((Body::File(Content::Base(slot)), Some(origin))) => Some((slot.clone(), vec![origin.print])),
            Some(_) => None,
            None => object.slot.clone().map(|slot| {
                let sides = [&self.ours, &self.theirs].into_iter();
                let nodes =
                    sides.flat_map(|side| adopters.iter().filter_map(|id| side.indexed.tree().get(*id)));
                let origins = nodes.filter_map(|node| node.inode.origin.as_deref());
                let here = origins.filter(|origin| origin.slot.as_ref() == Some(&slot));
                let prints = here.map(|origin| origin.print).collect();
                (slot, prints)
            }),
        };
        let kept = match of_base {
            None => true,
            Some((slot, prints)) => match view.base.resolve(&slot, view.epoch)? {
                Some(found) => {
                    let now = found.seen_print();
                    prints.iter().all(|print| *print == now)
                }
                None => false,
            },
        };
        Ok(if kept { (Some(object), false) } else { (None, true) })
    }

    /// Whether nobody edited their version since it was met.
    pub(super) fn is_still_theirs(&self, met: &Met) -> Result<bool> {
        match &met.their_print {
            Some(print) => Ok(self.theirs.view.found(&met.theirs)?.print == *print),
            None => Ok(true),
        }
    }

    /// Attributes of both sides together; `None` where they contradict each other.
    pub(super) fn attributes(&self, met: &Met) -> Result<Option<(Attributes, Attributes)>> {
        let theirs = self.theirs.attributes(&met.theirs)?;
        let ours = self.ours.node(met.ours)?.inode.meta.attributes();
        let merged = match &met.fork {
            Some(fork) => attributes::merge(&self.fork.attributes(fork)?, &theirs, &ours),
            None => attributes::agree(&theirs, &ours).then(|| theirs.clone()),
        };
        Ok(merged.map(|merged| (merged, theirs)))
    }

    /// Runs `read` until no commit into the base came in between: one may have been writing to the very file.
    pub(super) fn undisturbed<T>(&self, read: impl Fn() -> Result<T>) -> Result<T> {
        let commits = || self.shared.counters.commit.load(Ordering::Acquire);
        loop {
            let before = commits();
            let got = read()?;
            if before == commits() {
                return Ok(got);
            }
        }
    }
}

/// Whether an object has one name on either side, and the same.
pub(super) fn moved_alike(theirs: &Indexed, ours: &Indexed, id: NodeId) -> bool {
    let one_name = |side: &Indexed| {
        let node = side.tree().get(id)?;
        let mut names = side.index().names(id).cloned();
        let name = names.next().filter(|_| names.next().is_none());
        name.filter(|_| node.inode.meta.nlink == 1)
    };
    one_name(theirs).is_some_and(|name| one_name(ours) == Some(name))
}

impl SideView<'_> {
    fn has(&self, id: NodeId) -> bool {
        self.indexed.tree().get(id).is_some_and(|node| node.inode.meta.nlink > 0)
    }

    pub(super) fn node(&self, id: NodeId) -> Result<&Node> {
        self.indexed.tree().get(id).map(|node| &**node).ok_or(Error::Posix(Errno::STALE))
    }

    pub(super) fn stat(&self, object: &Object) -> Result<Stat> {
        self.view.stat(object)
    }

    pub(super) fn open(&self, object: &Object) -> Result<File> {
        self.view.open(object)
    }

    pub(super) fn attributes(&self, object: &Object) -> Result<Attributes> {
        attributes_of(&self.view, object)
    }
}

/// Whether two sides hold the same under two objects: kind, bytes, target of a link, device, and of directories all
/// that is in them, with attributes. The attributes of the two themselves are another matter.
pub(super) fn are_equal(ours: (&View<'_>, Object), theirs: (&View<'_>, Object)) -> Result<bool> {
    let mut pairs = vec![(ours.1, theirs.1)];
    let (ours, theirs) = (ours.0, theirs.0);
    let mut top = true;
    while let Some((our, their)) = pairs.pop() {
        let (a, b) = (ours.stat(&our)?, theirs.stat(&their)?);
        if a.kind != b.kind {
            return Ok(false);
        }
        let agree = || {
            Ok::<_, Error>(attributes::agree(&attributes_of(theirs, &their)?, &attributes_of(ours, &our)?))
        };
        // What has names elsewhere is more than what is here.
        if !top && (a.kind != Kind::Dir && (a.nlink > 1 || b.nlink > 1) || !agree()?) {
            return Ok(false);
        }
        top = false;
        let same = match a.kind {
            Kind::File => a.size == b.size && same_bytes(&ours.open(&our)?, &theirs.open(&their)?)?,
            Kind::Symlink => ours.read_link(&our)? == theirs.read_link(&their)?,
            Kind::Char | Kind::Block => a.rdev == b.rdev,
            Kind::Fifo | Kind::Socket => true,
            Kind::Dir => {
                let (a, b) = (ours.read_dir(&our)?, theirs.read_dir(&their)?);
                let same =
                    a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.name == b.name && a.kind == b.kind);
                pairs.extend(a.into_iter().zip(b).map(|(a, b)| (a.object, b.object)));
                same
            }
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn attributes_of(view: &View<'_>, object: &Object) -> Result<Attributes> {
    if let Some(node) = view.tree.get(object.id) {
        return Ok(node.inode.meta.attributes());
    }
    let found = view.found(object)?;
    Ok(found.meta(view.base.xattrs(&found, object.id == NodeId::ROOT)?).attributes())
}
