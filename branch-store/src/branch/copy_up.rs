//! Copy-up: a branch gets its own copy of a file's bytes before it first changes them. Whole or not at all: the
//! copy is made under a temporary name, and the record that the file is the branch's own comes last.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::base::{Guard, stat_fd};
use crate::branch::quota::{Partly, Reserved};
use crate::branch::{Branch, Data, View};
use crate::content::{Copied, Lending, Loan, Original};
use crate::copying::Take;
use crate::error::{Error, Result};
use crate::ids::{CommitId, LayerId, NodeId};
use crate::journal::record::Record;
use crate::node::{Body, Content, Fingerprint, Home, Object, Slot, Time, time_of};

/// Copy-ups tried before the base is declared too busy: somebody edits the file while we copy it.
const COPY_UP_TRIES: usize = 5;

/// How a change of a file's size ended.
enum Resize {
    Done,
    /// Not begun: it borrows, and must not.
    Borrows,
}

/// How a copy-up ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopyUp {
    /// The copy is the file's content.
    Made,
    /// Somebody else's copy is.
    Had,
}

impl Branch {
    /// Cuts a file or extends it. What the branch has not copied yet is copied in its new size: a copy-up
    /// followed by a truncation would leave half of it where the second is refused.
    pub(crate) fn truncate(&self, object: &Object, size: u64) -> Result<()> {
        loop {
            match self.if_own(object, |data| self.resize(data, object.id, size))? {
                Some(Resize::Done) => return Ok(()),
                Some(Resize::Borrows) => self.own_all(object)?,
                None if self.copy_up(object, Take::Resized(size))? == CopyUp::Made => return Ok(()),
                None => {}
            }
        }
    }

    fn resize(&self, data: &Data, id: NodeId, size: u64) -> Result<Resize> {
        let contents = &self.shared.contents;
        let file = contents.open_as_is(data.layer, id, OFlags::WRONLY)?;
        let loan = contents.loan(data.layer, id);
        if loan.as_ref().is_some_and(|loan| loan.is_cut()) {
            return Ok(Resize::Borrows);
        }
        // What is added is a hole.
        let needed = 0..loan.as_ref().map_or(0, |loan| loan.needs(size));
        self.grow(data, (id, &file), needed, Partly::No, |_| {
            match loan {
                Some(loan) => loan.resize(&self.shared.disk, &file, size)?,
                None => rustix::fs::ftruncate(&file, size)?,
            }
            contents.look_again(data.layer, id);
            Ok(Resize::Done)
        })
    }

    /// Makes a file of the branch's own layer borrow nothing any more.
    pub(super) fn own_all(&self, object: &Object) -> Result<()> {
        let _gate = self.shared.gate.read();
        let data = self.data.read();
        self.check_mutable()?;
        let (shared, layer) = (&self.shared, data.layer);
        shared.journal.check()?;
        let loan = shared.contents.loan(layer, object.id);
        let Some(loan) = loan.filter(|_| own_layer(&data, object.id) == Some(layer)) else { return Ok(()) };
        let _one = loan.returning.lock();
        if loan.is_returned() {
            return Ok(());
        }
        let file = shared.contents.open_as_is(layer, object.id, OFlags::RDWR)?;
        let whole = 0..loan.lender().borrowed;
        self.grow(&data, (object.id, &file), whole, Partly::No, |_| loan.complete(&shared.disk, &file))?;
        // Bytes first: a record without them would make zeros of what was durable in the base.
        shared.disk.fdatasync(&file).inspect_err(|_| shared.journal.poison())?;
        shared.journal.append(&Record::Returned { layer, id: object.id })?;
        // And the record before what it allows: holes, that must never be taken for borrowed bytes.
        shared.make_durable()?;
        loan.note_returned();
        shared.contents.note_returned(layer, object.id);
        Ok(())
    }

    /// Runs `f` while the file is the branch's own and in its current layer, copying it up first if need be.
    pub(super) fn in_place<T>(&self, object: &Object, mut f: impl FnMut(&Data) -> Result<T>) -> Result<T> {
        loop {
            if let Some(done) = self.if_own(object, &mut f)? {
                return Ok(done);
            }
            self.copy_up(object, Take::All)?;
        }
    }

    /// Runs `f` if the file is the branch's own and in its current layer. The data lock is held shared:
    /// neither fork nor seal can come in between (I-4).
    fn if_own<T>(&self, object: &Object, f: impl FnOnce(&Data) -> Result<T>) -> Result<Option<T>> {
        let data = self.data.read();
        self.check_mutable()?;
        self.shared.journal.check()?;
        if own_layer(&data, object.id) == Some(data.layer) { f(&data).map(Some) } else { Ok(None) }
    }

    /// Gives the branch its own copy of a file. The bytes are copied without any lock: what is copied from
    /// is frozen (older layers) or, in the base, checked for edits afterwards.
    fn copy_up(&self, object: &Object, take: Take) -> Result<CopyUp> {
        for _ in 0..COPY_UP_TRIES {
            let (data, source) = {
                let data = self.data.read().clone();
                let view = View {
                    base: &self.shared.base,
                    contents: &self.shared.contents,
                    tree: &data.tree,
                    epoch: data.epoch,
                };
                let source = Source::of(&view, object)?;
                (data, source)
            };
            let original = source.original(data.epoch);
            let needed = if matches!(original, Original::Lends(..)) { Take::Resized(0) } else { take };
            let mut reserved = self.reserve(&source.file, needed)?;
            let at = (data.layer, object.id);
            let copied = self.shared.contents.copy_up(at, source.mode, &original, take)?;
            if !source.unchanged()? {
                continue;
            }
            if let Some(reserved) = &mut reserved {
                reserved.settle(&copied.file)?;
            }
            match self.install(object, &data, &source, (copied, reserved), take) {
                Err(Error::Posix(Errno::AGAIN)) => {}
                Err(e) => {
                    self.drop_unrecorded(object.id, data.layer);
                    return Err(e);
                }
                done => return done,
            }
        }
        Err(Error::Posix(Errno::BUSY))
    }

    /// Makes the copy the content, unless the branch or the base went on meanwhile (EAGAIN, no effect).
    fn install(
        &self,
        object: &Object,
        seen: &Data,
        source: &Source,
        (copied, reserved): (Copied<'_>, Option<Reserved<'_>>),
        take: Take,
    ) -> Result<CopyUp> {
        self.mutate(|draft| {
            let again = || Error::Posix(Errno::AGAIN);
            if draft.layer != seen.layer {
                return Err(again());
            }
            let fresh = draft.node(object.id).is_err();
            let id = draft.adopt(object)?;
            let node = draft.node(id)?.clone();
            // The fingerprint that a commit will compare must be that of the bytes copied (S15).
            if fresh && node.inode.origin.as_deref().map(|origin| origin.print) != source.seen {
                return Err(again());
            }
            match &node.inode.body {
                Body::File(Content::Own(layer)) if *layer == draft.layer => return Ok(CopyUp::Had),
                Body::File(content) if *content == source.content => {}
                _ => return Err(again()),
            }
            let mtime = match take {
                Take::All => node.inode.meta.mtime.unwrap_or(source.mtime),
                Take::Resized(_) => Time::now(),
            };
            // Published, it counts by itself; nobody looks meanwhile, as that takes the lock that is held here.
            drop(reserved);
            let lender = copied.lender().cloned();
            copied.publish(draft.layer, id, [node.inode.meta.atime, mtime])?;
            let layer = draft.layer;
            draft.note_copied(layer, id);
            lender.into_iter().for_each(|lender| draft.note_lent(layer, id, lender));
            draft.update(id, |inode| {
                inode.body = Body::File(Content::Own(layer));
                inode.meta.mtime = None;
            })?;
            Ok(CopyUp::Made)
        })
    }

    /// A copy that got its name and then no record must not take up space on a disk that may be full. If the
    /// record may be on the disk after all (a poisoned journal), recovery decides.
    fn drop_unrecorded(&self, id: NodeId, layer: LayerId) {
        let data = self.data.write();
        // After a fork the older layer may be a child's, too.
        let unknown = data.layer == layer && own_layer(&data, id) != Some(layer);
        if unknown && self.shared.journal.check().is_ok() {
            // Best effort: recovery removes what no tree speaks of.
            self.shared.contents.remove(layer, id).ok();
        }
    }
}

pub(super) fn own_layer(data: &Data, id: NodeId) -> Option<LayerId> {
    match data.tree.get(id)?.inode.body {
        Body::File(Content::Own(layer)) => Some(layer),
        _ => None,
    }
}

/// What a copy-up copies from.
struct Source {
    file: Arc<File>,
    /// What that borrows itself.
    loan: Option<Arc<Loan>>,
    /// Whether the copy may borrow from it.
    lends: bool,
    /// The older layer, or the base.
    content: Content,
    home: Home,
    /// The base object, as found.
    print: Option<Fingerprint>,
    /// The same as the branch's epoch sees it.
    seen: Option<Fingerprint>,
    mtime: Time,
    /// As the branch has it.
    mode: u32,
}

impl Source {
    fn of(view: &View<'_>, object: &Object) -> Result<Source> {
        let node = view.tree.get(object.id);
        let mode = node.map(|node| node.inode.meta.mode);
        match node.map(|node| &node.inode.body) {
            Some(Body::File(Content::Own(layer))) => {
                let (file, loan) = view.contents.open_lent(*layer, object.id, OFlags::RDONLY)?;
                let file = Arc::new(file);
                let mtime = time_of(&stat_fd(&*file)?.stx_mtime);
                let content = Content::Own(*layer);
                let (home, mode) = (view.base.home, mode.unwrap_or_default());
                let (print, seen, lends) = (None, None, false);
                Ok(Source { file, loan, lends, content, home, print, seen, mtime, mode })
            }
            Some(Body::File(Content::Base(slot))) => Source::of_base(view, slot, mode),
            Some(Body::Dir { .. }) => Err(Error::Posix(Errno::ISDIR)),
            Some(Body::Symlink(_) | Body::Special(_)) => Err(Error::Posix(Errno::INVAL)),
            None => {
                view.found(object)?;
                Source::of_base(view, &view.slot_of(object)?, mode)
            }
        }
    }

    fn of_base(view: &View<'_>, slot: &Slot, mode: Option<u32>) -> Result<Source> {
        let found = view.base.resolve(slot, view.epoch)?.ok_or(Error::Posix(Errno::STALE))?;
        if found.guard() != Guard::None {
            return Err(Error::Posix(Errno::PERM));
        }
        let file = view.base.open_file(&found)?;
        let mtime = found.stat(NodeId::ROOT).mtime;
        Ok(Source {
            lends: !found.is_kept_copy() && view.contents.may_borrow(&found.statx)?,
            file: Arc::new(file),
            loan: None,
            content: Content::Base(slot.clone()),
            home: view.base.home,
            print: Some(found.print),
            seen: Some(found.seen_print()),
            mtime,
            mode: mode.unwrap_or(found.print.mode),
        })
    }

    /// What the copy is made of.
    fn original(&self, epoch: CommitId) -> Original<'_> {
        match (&self.content, &self.print, &self.loan) {
            (Content::Base(slot), Some(print), _) if self.lends => {
                Original::Lends(&self.file, Lending { slot, epoch, print: *print })
            }
            (.., Some(loan)) => Original::Borrows(&self.file, loan),
            _ => Original::Whole(&self.file),
        }
    }

    /// Whether the base file was left alone while it was copied. (A preimage is another object than the one
    /// it was kept for, and nobody edits it.)
    fn unchanged(&self) -> Result<bool> {
        let Some(before) = &self.print else { return Ok(true) };
        let after = self.home.print(&stat_fd(&*self.file)?);
        Ok(after.is_some_and(|after| !after.same_object(before) || after == *before))
    }
}
