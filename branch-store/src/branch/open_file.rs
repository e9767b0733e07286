//! The bytes of open files: reading, and writing in place.

use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;

use crate::base::{Found, Guard};
use crate::branch::Branch;
use crate::branch::copy_up::own_layer;
use crate::branch::quota::Partly;
use crate::branch::reading::{Reading, copy_between};
use crate::content::Loan;
use crate::error::{Error, Result};
use crate::ids::{CommitId, LayerId, NodeId};
use crate::node::{Body, Content, Kind, Object, Slot};
use crate::tree::Tree;

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

/// What a content file is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Reading.
    Read,
    /// Reading, and perhaps writing later.
    ReadFirst,
    /// Writing, now.
    Write,
}

/// What a change needs of a file that borrows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// The bytes that it changes.
    Bytes,
    /// All of them in the content file: the host moves them, or makes holes.
    AllBytes,
}

/// Which host file an open file last used.
struct Backing {
    content: Content,
    file: Arc<File>,
    /// What the file borrows.
    loan: Option<Arc<Loan>>,
    /// Whether it can be written to.
    writable: bool,
    /// Once it was written to. Behind `file`: what the host cuts off at the close does not count.
    writing: Option<Writing>,
    /// Of a base file, commits into the base when it was opened: each may rewrite it in place. And the one that the
    /// branch saw the base at: a rebase changes that. Of the branch's own, how often its tree had been replaced: the
    /// next copy-up then puts another file under the same number in the same layer.
    seen: (u64, CommitId),
}

/// A content file is being written to; dropped, how much it holds is noted.
struct Writing {
    branch: Arc<Branch>,
    file: (LayerId, NodeId),
}

impl Writing {
    fn new(branch: &Arc<Branch>, file: (LayerId, NodeId)) -> Writing {
        branch.shared.contents.note_open(file.0, file.1);
        Writing { branch: branch.clone(), file }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.branch.shared.contents.note_closed(self.file.0, self.file.1);
    }
}

/// A file somebody has open. Follows the file through copy-up and forks of its branch.
pub struct OpenFile {
    branch: Arc<Branch>,
    object: Object,
    access: Access,
    backing: Mutex<Option<Backing>>,
    /// The one that it reads from for good.
    pub(super) pinned: OnceLock<Arc<File>>,
}

impl Branch {
    /// Opens a regular file. Copies nothing up by itself; the first write does.
    ///
    /// # Errors
    /// EISDIR, ENXIO for what has no bytes, EROFS, EPERM to write what the base holds immutable or append-only,
    /// ESTALE, and the host's.
    pub fn open(self: &Arc<Self>, object: &Object, access: Access) -> Result<OpenFile> {
        let known = self.read(|view| match (view.tree.get(object.id), &object.slot) {
            (Some(node), _) => Ok(Some(node.inode.kind())),
            // What the base has there is seen when it is opened.
            (None, Some(_)) => Ok(None),
            // A directory, if there is one.
            (None, None) => Ok(Some(view.stat(object)?.kind)),
        })?;
        known.map_or(Ok(()), |kind| self.check_open(kind, Guard::None, access))?;
        let file = OpenFile::new(self, object.clone(), access, None, 0);
        let admit = |found: &Found| self.check_open(found.print.kind, found.guard(), access);
        match file.reader_if(&admit) {
            // Only writing was asked for; the copy-up will say what stands in its way.
            Err(e) if access == Access::Write && e.errno() == Errno::ACCESS => {}
            opened => _ = opened?,
        }
        Ok(file)
    }

    fn check_open(&self, kind: Kind, guard: Guard, access: Access) -> Result<()> {
        match kind {
            Kind::File if access == Access::Read => Ok(()),
            Kind::File if self.is_main() => Err(Error::Posix(Errno::ROFS)),
            Kind::File if guard != Guard::None => Err(Error::Posix(Errno::PERM)),
            Kind::File => Ok(()),
            Kind::Dir => Err(Error::Posix(Errno::ISDIR)),
            _ => Err(Error::Posix(Errno::NXIO)),
        }
    }
}

impl OpenFile {
    /// `content`: the branch's own file of a layer, open for reading and writing, when its tree had been replaced so
    /// often.
    pub(super) fn new(
        branch: &Arc<Branch>,
        object: Object,
        access: Access,
        content: Option<(LayerId, File)>,
        replaced: u64,
    ) -> OpenFile {
        let backing = content.map(|(layer, file)| Backing {
            content: Content::Own(layer),
            file: Arc::new(file),
            loan: None,
            writable: true,
            writing: None,
            seen: (replaced, CommitId(0)),
        });
        let (backing, pinned) = (Mutex::new(backing), OnceLock::new());
        OpenFile { branch: branch.clone(), object, access, backing, pinned }
    }

    pub(super) fn branch(&self) -> &Branch {
        &self.branch
    }

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
        let done = self.reader()?.read_at(buf, offset)?;
        self.branch.check_live()?;
        // A commit that came in between may have been writing to this very base file.
        if commits != self.commits() { self.read_at(buf, offset) } else { Ok(done) }
    }

    fn commits(&self) -> u64 {
        self.branch.shared.counters.commit.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Writes all of `data` at `offset`, or what fits: ENOSPC or EDQUOT only if nothing did.
    ///
    /// # Errors
    /// EBADF, EROFS, EBUSY, ESTALE, ENOSPC, EDQUOT beyond the branch's limit, and the host's.
    pub fn write_at(&self, data: &[u8], offset: u64) -> Result<usize> {
        if data.is_empty() {
            return self.check_writable().map(|()| 0);
        }
        let range = offset..offset.saturating_add(data.len() as u64);
        self.with_writer(range, Partly::Yes, Needs::Bytes, |file, fits| {
            let data = &data[..usize::try_from(fits).map_or(data.len(), |fits| fits.min(data.len()))];
            file.write_at(&self.branch.shared.disk, data, offset)
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
        let own = own_layer(&self.branch.data.read(), self.object.id);
        if let Some(layer) = own {
            // What it borrows is as durable as the base has it.
            let file = shared.contents.open_as_is(layer, self.object.id, OFlags::RDONLY)?;
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
    /// EOPNOTSUPP, and those of [`OpenFile::write_at`]: EDQUOT if not all of it fits.
    pub fn allocate(&self, mode: i32, offset: u64, len: u64) -> Result<()> {
        let flags = u32::try_from(mode).ok().and_then(FallocateFlags::from_bits);
        let flags = flags.ok_or(Error::Posix(Errno::NOTSUP))?;
        // These make holes, or move what is there.
        let gives =
            FallocateFlags::PUNCH_HOLE | FallocateFlags::COLLAPSE_RANGE | FallocateFlags::INSERT_RANGE;
        let grown = if flags.intersects(gives) { 0 } else { len };
        let range = offset..offset.saturating_add(grown);
        self.with_writer(range, Partly::No, Needs::AllBytes, |file, _| {
            Ok(rustix::fs::fallocate(&*file.file, flags, offset, len)?)
        })
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
        file.seek(from)
    }

    /// Copies a range from another open file (or this one) without passing the bytes through the caller.
    ///
    /// # Errors
    /// Those of [`OpenFile::write_at`].
    pub fn copy_from(&self, offset: u64, source: &OpenFile, source_offset: u64, len: u64) -> Result<u64> {
        let same = Arc::ptr_eq(&self.branch, &source.branch);
        self.check_writable()?;
        // Before anything is copied up: a copy of nothing changes nothing.
        let size = crate::base::stat_fd(&*source.reader()?.file)?.stx_size;
        let len = len.min(size.saturating_sub(source_offset));
        if same && self.object.id == source.object.id && offset.abs_diff(source_offset) < len {
            return Err(Error::Posix(Errno::INVAL));
        }
        if len == 0 {
            return Ok(0);
        }
        // Of another branch: before our lock is taken; a commit takes the parent's and then ours.
        let other = if same { None } else { Some(source.reader()?) };
        let range = offset..offset.saturating_add(len);
        self.with_writer(range, Partly::Yes, Needs::Bytes, |file, fits| {
            let from = match &other {
                Some(file) => file.clone(),
                None => source.reader_unlocked()?,
            };
            let disk = &self.branch.shared.disk;
            copy_between(disk, (&from, source_offset), (file, offset), len.min(fits))
        })
    }

    /// Whether a write would be let through.
    fn check_writable(&self) -> Result<()> {
        self.check_access()?;
        let _data = self.branch.data.read();
        self.branch.check_mutable()
    }

    fn check_access(&self) -> Result<()> {
        if self.access == Access::Write { Ok(()) } else { Err(Error::Posix(Errno::BADF)) }
    }

    /// Runs `f` on the branch's own file, with how many bytes of the range it may write.
    fn with_writer<T>(
        &self,
        range: Range<u64>,
        partly: Partly,
        needs: Needs,
        mut f: impl FnMut(&Reading, u64) -> Result<T>,
    ) -> Result<T> {
        self.check_access()?;
        loop {
            let done = self.branch.in_place(&self.object, |data| {
                let file = self.backing(data.layer, Use::Write, self.branch.replaced())?;
                if file.loan.as_ref().is_some_and(|loan| needs == Needs::AllBytes || loan.is_cut()) {
                    return Ok(None);
                }
                let target = (self.object.id, &*file.file);
                self.branch.grow(data, target, range.clone(), partly, |fits| f(&file, fits)).map(Some)
            })?;
            match done {
                Some(done) => return Ok(done),
                None => self.branch.own_all(&self.object)?,
            }
        }
    }

    fn reader(&self) -> Result<Reading> {
        self.reader_if(&|_| Ok(()))
    }

    /// The same, if what the base is found to have may be opened.
    fn reader_if(&self, admit: &impl Fn(&Found) -> Result<()>) -> Result<Reading> {
        self.branch.unless_replaced(|| {
            let file = self.look_up_reader(admit);
            // Asked after the look: the content of a branch that ended may be gone.
            self.branch.check_live()?;
            file
        })
    }

    /// The file's bytes as they are now: after a copy-up by anybody, readers see the copy.
    fn reader_unlocked(&self) -> Result<Reading> {
        self.look_up_reader(&|_| Ok(()))
    }

    /// What is read now, and the host file that has it: all of it.
    pub(super) fn content_read(&self) -> Result<Option<(Content, Arc<File>)>> {
        let Reading { file, loan } = self.reader()?;
        if loan.is_some_and(|loan| !loan.is_complete()) {
            return Ok(None);
        }
        let cached = self.backing.lock();
        let used = cached.as_ref().filter(|backing| Arc::ptr_eq(&backing.file, &file));
        Ok(used.map(|backing| (backing.content.clone(), file)))
    }

    fn look_up_reader(&self, admit: &impl Fn(&Found) -> Result<()>) -> Result<Reading> {
        if let Some(file) = self.pinned.get() {
            return Ok(Reading::whole(file.clone()));
        }
        let replaced = self.branch.replaced();
        let (tree, epoch, current) = {
            let data = self.branch.data.read_recursive();
            (data.tree.clone(), data.epoch, data.layer)
        };
        let content = match tree.get(self.object.id).map(|node| &node.inode.body) {
            Some(Body::File(content)) => content.clone(),
            Some(_) => return Err(Error::Posix(Errno::STALE)),
            None => Content::Base(self.object.slot.clone().ok_or(Error::Posix(Errno::STALE))?),
        };
        match content {
            Content::Base(slot) => self.base_reader(&tree, epoch, slot, admit).map(Reading::whole),
            Content::Own(layer) => match self.about_to_be_replaced() {
                Some(file) => Ok(Reading::whole(file)),
                // Who may write in place will, and need not open it again.
                None if self.access == Access::Write && layer == current => {
                    self.backing(layer, Use::ReadFirst, replaced)
                }
                None => self.backing(layer, Use::Read, replaced),
            },
        }
    }

    /// A base file. Each commit may have rewritten it in place; one that put another file in its place leaves this
    /// one to those who have it open.
    fn base_reader(
        &self,
        tree: &Tree,
        epoch: CommitId,
        slot: Slot,
        admit: &impl Fn(&Found) -> Result<()>,
    ) -> Result<Arc<File>> {
        let seen = (self.commits(), epoch);
        let content = Content::Base(slot.clone());
        let mut cached = self.backing.lock();
        if let Some(backing) = &*cached
            && backing.content == content
            && backing.seen == seen
        {
            return Ok(backing.file.clone());
        }
        let base = &self.branch.shared.base;
        let is_it = |found: &Found| base.id_of(&found.print, tree).is_ok_and(|id| id == self.object.id);
        let found = base.resolve(&slot, epoch)?.filter(|found| is_it(found));
        let file = match (found, &*cached) {
            (Some(found), _) => {
                admit(&found)?;
                Arc::new(base.open_file(&found)?)
            }
            (None, Some(backing)) if matches!(backing.content, Content::Base(_)) => backing.file.clone(),
            (None, _) => return Err(Error::Posix(Errno::STALE)),
        };
        *cached =
            Some(Backing { content, file: file.clone(), loan: None, writable: false, writing: None, seen });
        Ok(file)
    }

    /// While a commit is written into the base, main shows what comes. Who has a file open that is about to be
    /// replaced goes on with it: the same bytes before, while and after. One with several names is rewritten.
    fn about_to_be_replaced(&self) -> Option<Arc<File>> {
        let cached = self.backing.lock();
        let backing = cached.as_ref().filter(|_| self.branch.is_main())?;
        let stays = matches!(backing.content, Content::Base(_))
            && crate::base::stat_fd(&*backing.file).is_ok_and(|st| st.stx_nlink <= 1);
        stays.then(|| backing.file.clone())
    }

    fn backing(&self, layer: LayerId, how: Use, replaced: u64) -> Result<Reading> {
        let content = Content::Own(layer);
        let seen = (replaced, CommitId(0));
        let mut cached = self.backing.lock();
        let fits = |backing: &Backing| {
            backing.content == content && backing.seen == seen && (backing.writable || how != Use::Write)
        };
        let backing = match cached.take() {
            Some(backing) if fits(&backing) => backing,
            other => {
                // Closed only when the next one is open, and kept if that fails.
                *cached = other;
                let writable = how != Use::Read;
                let flags = if writable { OFlags::RDWR } else { OFlags::RDONLY };
                let (file, loan) = self.branch.shared.contents.open_lent(layer, self.object.id, flags)?;
                Backing { content, file: Arc::new(file), loan, writable, writing: None, seen }
            }
        };
        let backing = cached.insert(backing);
        if how == Use::Write && backing.writing.is_none() {
            backing.writing = Some(Writing::new(&self.branch, (layer, self.object.id)));
        }
        backing.loan = backing.loan.take().filter(|loan| !loan.is_returned());
        Ok(Reading { file: backing.file.clone(), loan: backing.loan.clone() })
    }
}
