//! The bytes of files: reading, writing in place, copy-up before the first write.

use std::fs::File;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::branch::{Branch, Data, View};
use crate::content::{Copied, Take, copy_range};
use crate::error::{Error, Result};
use crate::ids::LayerId;
use crate::node::{Body, Content, Fingerprint, Kind, Object, Slot, Time, time_of};

/// Copy-ups tried before the base is declared too busy: somebody edits the file while we copy it.
const COPY_UP_TRIES: usize = 5;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Writing, perhaps reading, too.
    Write,
}

/// How much to make durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncWhat {
    /// The bytes, the size, and the names leading there: fdatasync(2).
    Data,
    /// All attributes, too: fsync(2).
    All,
}

/// What to seek.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekWhat {
    /// The next byte of data at or after the offset.
    Data,
    /// The next hole at or after the offset.
    Hole,
}

/// Which host file an open file last used.
#[derive(Clone)]
struct Backing {
    content: Content,
    writable: bool,
    file: Arc<File>,
    /// Commits into the base when it was opened: each may rewrite a base file in place.
    commits: u64,
}

/// A file somebody has open. Follows the file through copy-up and forks of its branch.
pub struct OpenFile {
    branch: Arc<Branch>,
    object: Object,
    access: Access,
    backing: Mutex<Option<Backing>>,
}

impl Branch {
    /// Opens a regular file. Copies nothing up by itself; the first write does.
    ///
    /// # Errors
    /// EISDIR, ENXIO for what has no bytes, EROFS, ESTALE, and the host's.
    pub fn open(self: &Arc<Self>, object: &Object, access: Access) -> Result<OpenFile> {
        match self.stat(object)?.kind {
            Kind::File => {}
            Kind::Dir => return Err(Error::Posix(Errno::ISDIR)),
            _ => return Err(Error::Posix(Errno::NXIO)),
        }
        if access == Access::Write && self.is_main() {
            return Err(Error::Posix(Errno::ROFS));
        }
        Ok(OpenFile { branch: self.clone(), object: object.clone(), access, backing: Mutex::new(None) })
    }

    pub(crate) fn truncate(&self, object: &Object, size: u64) -> Result<()> {
        self.in_place(object, Take::First(size), |layer| {
            let file = self.shared.contents.open(layer, object.id, OFlags::WRONLY)?;
            Ok(rustix::fs::ftruncate(&file, size)?)
        })
    }

    /// Runs `f` while the file is the branch's own and in its current layer, copying it up first if need
    /// be. The data lock is held shared: neither fork nor seal can come in between (I-4).
    fn in_place<T>(&self, object: &Object, take: Take, mut f: impl FnMut(LayerId) -> Result<T>) -> Result<T> {
        loop {
            {
                let data = self.data.read();
                self.check_mutable()?;
                self.shared.journal.check()?;
                if own_layer(&data, object) == Some(data.layer) {
                    return f(data.layer);
                }
            }
            self.copy_up(object, take)?;
        }
    }

    /// Gives the branch its own copy of a file. The bytes are copied without any lock: what is copied from
    /// is frozen (older layers) or, in the base, checked for edits afterwards.
    fn copy_up(&self, object: &Object, take: Take) -> Result<()> {
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
            let copied = self.shared.contents.copy(data.layer, object.id, &source.file, take)?;
            if !source.unchanged()? {
                continue;
            }
            match self.install(object, &data, &source, copied) {
                Err(Error::Posix(Errno::AGAIN)) => {}
                other => return other,
            }
        }
        Err(Error::Posix(Errno::BUSY))
    }

    /// Makes the copy the content, unless the branch or the base went on meanwhile (EAGAIN, no effect).
    fn install(&self, object: &Object, seen: &Data, source: &Source, copied: Copied<'_>) -> Result<()> {
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
                Body::File(Content::Own(layer)) if *layer == draft.layer => return Ok(()),
                Body::File(content) if *content == source.content => {}
                _ => return Err(again()),
            }
            copied.publish(draft.layer, id, Some(node.inode.meta.mtime.unwrap_or(source.mtime)))?;
            let layer = draft.layer;
            draft.update(id, |inode| {
                inode.body = Body::File(Content::Own(layer));
                inode.meta.mtime = None;
            })
        })
    }
}

fn own_layer(data: &Data, object: &Object) -> Option<LayerId> {
    match data.tree.get(object.id)?.inode.body {
        Body::File(Content::Own(layer)) => Some(layer),
        _ => None,
    }
}

/// What a copy-up copies from.
struct Source {
    file: File,
    /// The older layer, or the base.
    content: Content,
    /// The base object, as found.
    print: Option<Fingerprint>,
    /// The same as the branch's epoch sees it.
    seen: Option<Fingerprint>,
    mtime: Time,
}

impl Source {
    fn of(view: &View<'_>, object: &Object) -> Result<Source> {
        match view.tree.get(object.id).map(|node| &node.inode.body) {
            Some(Body::File(Content::Own(layer))) => {
                let file = view.contents.open(*layer, object.id, OFlags::RDONLY)?;
                let mtime = time_of(&crate::base::stat_fd(&file)?.stx_mtime);
                Ok(Source { file, content: Content::Own(*layer), print: None, seen: None, mtime })
            }
            Some(Body::File(Content::Base(slot))) => Source::of_base(view, slot),
            Some(Body::Dir { .. }) => Err(Error::Posix(Errno::ISDIR)),
            Some(Body::Symlink(_) | Body::Special(_)) => Err(Error::Posix(Errno::INVAL)),
            None => {
                view.found(object)?;
                Source::of_base(view, &view.slot_of(object)?)
            }
        }
    }

    fn of_base(view: &View<'_>, slot: &Slot) -> Result<Source> {
        let found = view.base.resolve(slot, view.epoch)?.ok_or(Error::Posix(Errno::STALE))?;
        let file = view.base.open_file(&found)?;
        let mtime = found.stat(crate::ids::NodeId::ROOT).mtime;
        Ok(Source {
            file,
            content: Content::Base(slot.clone()),
            print: Some(found.print),
            seen: Some(found.seen_print()),
            mtime,
        })
    }

    /// Whether the base file was left alone while it was copied. (A preimage is another object than the one
    /// it was kept for, and nobody edits it.)
    fn unchanged(&self) -> Result<bool> {
        let Some(before) = &self.print else { return Ok(true) };
        let after = crate::node::fingerprint(&crate::base::stat_fd(&self.file)?);
        Ok(after.is_some_and(|after| !after.same_object(before) || after == *before))
    }
}

impl OpenFile {
    /// The object that is open.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// What it was opened for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Reads at most `buf.len()` bytes at `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// ESTALE, and the host's.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let commits = self.commits();
        let file = self.reader()?;
        let mut done = 0;
        while done < buf.len() {
            match rustix::io::pread(&*file, &mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.branch.check_live()?;
        // A commit that came in between may have been writing to this very base file.
        if commits != self.commits() { self.read_at(buf, offset) } else { Ok(done) }
    }

    fn commits(&self) -> u64 {
        self.branch.shared.counters.commit.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Writes all of `data` at `offset`, or what fits: ENOSPC only if nothing did.
    ///
    /// # Errors
    /// EBADF, EROFS, EBUSY, ESTALE, ENOSPC, and the host's.
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<usize> {
        self.with_writer(Take::All, |file| {
            let mut done = 0;
            while done < data.len() {
                match rustix::io::pwrite(file, &data[done..], offset + done as u64) {
                    Ok(n) => done += n,
                    Err(Errno::INTR) => {}
                    Err(_) if done > 0 => break,
                    Err(e) => return Err(e.into()),
                }
            }
            Ok(done)
        })
    }

    /// Makes the file durable (S9).
    ///
    /// # Errors
    /// ESTALE, and the host's; a failed fsync poisons the store (S21).
    pub fn sync(&self, what: SyncWhat) -> Result<()> {
        self.branch.check_live()?;
        let shared = &self.branch.shared;
        shared.journal.check()?;
        let own = own_layer(&self.branch.data.read(), &self.object);
        if let Some(layer) = own {
            let file = shared.contents.open(layer, self.object.id, OFlags::RDONLY)?;
            let synced = match what {
                SyncWhat::Data => shared.disk.fdatasync(&file),
                SyncWhat::All => shared.disk.fsync(&file),
            };
            let synced = synced.map_err(Error::from).and_then(|()| shared.contents.sync_layer(layer));
            if let Err(Error::Posix(Errno::NOENT)) = synced {
                // No fsync says this: the branch ended meanwhile, and its layer is gone.
                return Err(Error::Posix(Errno::STALE));
            }
            if let Err(e) = synced {
                shared.journal.poison();
                return Err(e);
            }
        }
        shared.make_durable()
    }

    /// fallocate(2) with its `mode` bits.
    ///
    /// # Errors
    /// EOPNOTSUPP, ENOSPC, and those of [`OpenFile::write_at`].
    pub fn allocate(&self, mode: i32, offset: u64, len: u64) -> Result<()> {
        let flags = u32::try_from(mode).ok().and_then(FallocateFlags::from_bits);
        let flags = flags.ok_or(Error::Posix(Errno::NOTSUP))?;
        self.with_writer(Take::All, |file| Ok(rustix::fs::fallocate(file, flags, offset, len)?))
    }

    /// The next data or hole.
    ///
    /// # Errors
    /// ENXIO at or behind the end, ESTALE, and the host's.
    pub fn seek(&self, offset: u64, what: SeekWhat) -> Result<u64> {
        let file = self.reader()?;
        let from = match what {
            SeekWhat::Data => SeekFrom::Data(offset),
            SeekWhat::Hole => SeekFrom::Hole(offset),
        };
        Ok(rustix::fs::seek(&*file, from)?)
    }

    /// Copies a range from another open file (or this one) without passing the bytes through the caller.
    ///
    /// # Errors
    /// Those of [`OpenFile::write_at`].
    pub fn copy_from(&self, offset: u64, source: &OpenFile, source_offset: u64, len: u64) -> Result<u64> {
        let same = Arc::ptr_eq(&self.branch, &source.branch);
        if same && self.object.id == source.object.id && offset.abs_diff(source_offset) < len {
            return Err(Error::Posix(Errno::INVAL));
        }
        // Of another branch: before our lock is taken; a commit takes the parent's and then ours.
        let other = if same { None } else { Some(source.reader()?) };
        self.with_writer(Take::All, |file| {
            let from = match &other {
                Some(file) => file.clone(),
                None => source.reader_unlocked()?,
            };
            let size = crate::base::stat_fd(&*from)?.stx_size;
            let len = len.min(size.saturating_sub(source_offset));
            copy_range(&from, source_offset, file, offset, len)
        })
    }

    fn with_writer<T>(&self, take: Take, mut f: impl FnMut(&File) -> Result<T>) -> Result<T> {
        if self.access != Access::Write {
            return Err(Error::Posix(Errno::BADF));
        }
        self.branch.in_place(&self.object, take, |layer| {
            let file = self.backing(Content::Own(layer), Access::Write)?;
            f(&file)
        })
    }

    fn reader(&self) -> Result<Arc<File>> {
        let file = self.reader_unlocked();
        // Asked after the look: the content of a branch that ended may be gone.
        self.branch.check_live()?;
        file
    }

    /// The file's bytes as they are now: after a copy-up by anybody, readers see the copy.
    fn reader_unlocked(&self) -> Result<Arc<File>> {
        let (tree, epoch) = self.branch.snapshot();
        let content = match tree.get(self.object.id).map(|node| &node.inode.body) {
            Some(Body::File(content)) => content.clone(),
            Some(_) => return Err(Error::Posix(Errno::STALE)),
            None => Content::Base(self.object.slot.clone().ok_or(Error::Posix(Errno::STALE))?),
        };
        let commits = self.commits();
        let Content::Base(slot) = &content else { return self.backing(content, Access::Read) };
        if let Some(backing) = &*self.backing.lock()
            && backing.content == content
            && backing.commits == commits
        {
            return Ok(backing.file.clone());
        }
        let base = &self.branch.shared.base;
        let found = base.resolve(slot, epoch)?.ok_or(Error::Posix(Errno::STALE))?;
        let file = Arc::new(base.open_file(&found)?);
        *self.backing.lock() = Some(Backing { content, writable: false, file: file.clone(), commits });
        Ok(file)
    }

    fn backing(&self, content: Content, access: Access) -> Result<Arc<File>> {
        let Content::Own(layer) = content else { return Err(Error::Posix(Errno::STALE)) };
        let mut cached = self.backing.lock();
        let writable = access == Access::Write;
        if let Some(backing) = &*cached
            && backing.content == content
            && (backing.writable || !writable)
        {
            return Ok(backing.file.clone());
        }
        let flags = if writable { OFlags::RDWR } else { OFlags::RDONLY };
        let file = Arc::new(self.branch.shared.contents.open(layer, self.object.id, flags)?);
        *cached = Some(Backing { content, writable, file: file.clone(), commits: 0 });
        Ok(file)
    }
}
