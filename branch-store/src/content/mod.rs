//! Content files: `content/<layer>/<node id>`, ordinary files holding what a branch wrote.
//!
//! I-4: a file in a layer is written only by the branch whose current layer it is; a fork gives the parent
//! and every child a fresh one, so all older layers are frozen.

mod ahead;
mod doomed;
mod ledger;
mod lent;
mod loan;
mod ranges;

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lru::LruCache;
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, RenameFlags, Statx, Timespec, Timestamps};
use rustix::io::Errno;

use crate::base::{stat_at, stat_fd};
use crate::copying::Take;
use crate::disk::{Disk, open_dir, open_dir_readable};
use crate::error::{Error, Result};
use crate::host_times::HostTimes;
use crate::ids::{LayerId, NodeId};
use crate::measuring::{allocated, bytes_below};
use crate::node::{Lender, Time};

use self::ahead::Ahead;
pub(crate) use self::doomed::Doomed;
use self::doomed::Waiting;
use self::ledger::Ledger;
use self::lent::Lent;
pub(crate) use self::lent::{Lending, Original};
pub(crate) use self::loan::{Edit, Loan};

/// The mode of a content file of whose node nothing is known.
pub(crate) const PRIVATE: u32 = 0o600;
/// Layer directories kept open.
const OPEN_LAYERS_MAX: usize = 128;
/// More copy-ups than this are made durable by one syncfs.
const SYNC_MAX: usize = 64;

pub(crate) struct Contents {
    disk: Disk,
    content: OwnedFd,
    trash: OwnedFd,
    layers: Mutex<LruCache<LayerId, Arc<OwnedFd>>>,
    temporary: AtomicU64,
    times: HostTimes,
    /// Copy-ups not known to be durable. The bytes they were copied from may be, so the journal must not
    /// become durable before them (S9).
    published: Mutex<BTreeSet<(LayerId, NodeId)>>,
    waiting: Mutex<Waiting>,
    ledger: Ledger,
    lent: Lent,
    ahead: Ahead,
}

/// A finished private copy that has not got its name yet; dropping it removes it.
pub(crate) struct Copied<'a> {
    contents: &'a Contents,
    dir: Arc<OwnedFd>,
    temporary: Vec<u8>,
    pub(crate) file: File,
    loan: Option<Loan>,
    armed: bool,
}

impl Contents {
    pub(crate) fn new(disk: Disk, store: impl AsFd) -> Result<Contents> {
        let capacity = NonZeroUsize::new(OPEN_LAYERS_MAX).unwrap_or(NonZeroUsize::MIN);
        Ok(Contents {
            disk,
            content: open_dir_readable(&store, b"content")?,
            trash: open_dir_readable(&store, b"trash")?,
            layers: Mutex::new(LruCache::new(capacity)),
            temporary: AtomicU64::new(0),
            times: HostTimes::default(),
            published: Mutex::default(),
            waiting: Mutex::default(),
            ledger: Ledger::default(),
            lent: Lent::default(),
            ahead: Ahead::default(),
        })
    }

    /// A time as the files here can have it.
    pub(crate) fn nearest(&self, time: Time) -> Result<Time> {
        Ok(self.times.nearest(&self.content, time)?)
    }

    pub(crate) fn layer_dir(&self, layer: LayerId) -> Result<Arc<OwnedFd>> {
        if let Some(fd) = self.layers.lock().get(&layer) {
            return Ok(fd.clone());
        }
        let fd = Arc::new(open_dir(&self.content, &layer_name(layer))?);
        self.layers.lock().put(layer, fd.clone());
        Ok(fd)
    }

    fn layer_dir_or_new(&self, layer: LayerId) -> Result<Arc<OwnedFd>> {
        match self.layer_dir(layer) {
            Err(Error::Posix(Errno::NOENT)) => {
                match self.disk.mkdir(&self.content, &layer_name(layer), 0o700) {
                    Ok(()) => self.count_from_nothing(layer),
                    Err(Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                self.layer_dir(layer)
            }
            other => other,
        }
    }

    /// A new empty file for a node with that mode, replacing what a crashed attempt may have left. Nobody had one of
    /// this number in the layer before, so that none waits to be deleted.
    pub(crate) fn create(&self, layer: LayerId, id: NodeId, mode: u32) -> Result<File> {
        let dir = self.layer_dir_or_new(layer)?;
        let flags = OFlags::RDWR | OFlags::TRUNC;
        let file = self.disk.create(&*dir, &file_name(id), flags, writable(mode))?;
        self.set_loan(layer, id, None);
        self.note_bytes(layer, id, 0);
        Ok(file)
    }

    /// Makes a file that was written elsewhere in the store a node's content, under a further name.
    pub(crate) fn take_link(&self, (layer, id): (LayerId, NodeId), from: (impl AsFd, &[u8])) -> Result<()> {
        let dir = self.layer_dir_or_new(layer)?;
        let name = file_name(id);
        self.waiting.lock().spare(layer, id);
        match self.disk.link((&from.0, from.1), (&*dir, &name)) {
            // An older copy of it, that somebody may be about to read.
            Err(Errno::EXIST) => {
                let number = self.temporary.fetch_add(1, Ordering::Relaxed);
                let temporary = format!("{}.{number}.up", id.0).into_bytes();
                self.disk.link(from, (&*dir, &temporary))?;
                self.disk.rename((&*dir, &temporary), (&*dir, &name), RenameFlags::empty())?;
            }
            linked => linked?,
        }
        self.set_loan(layer, id, None);
        self.note_bytes(layer, id, allocated(&stat_at(&*dir, &name)?));
        self.note_published([(layer, id)]);
        Ok(())
    }

    /// Moves a directory of the store out of the way, under a name nobody has, which is returned.
    pub(crate) fn trash_dir(&self, from: (impl AsFd, &[u8]), kind: &str) -> Result<Vec<u8>> {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let unique = [kind.as_bytes(), b"-", from.1, b"-", number.to_string().as_bytes()].concat();
        let moved = self.disk.rename((&from.0, from.1), (&self.trash, &unique), RenameFlags::NOREPLACE);
        moved.map_err(|e| Error::host("move to trash", from.1, e))?;
        self.disk.fsync(&self.trash)?;
        Ok(unique)
    }

    /// Deletes something in the trash now.
    pub(crate) fn remove_from_trash(&self, name: &[u8]) -> Result<()> {
        crate::removing::remove_tree(&self.disk, &self.trash, name)
    }

    /// Opens a content file that may borrow: what is missing reads as zeros.
    pub(crate) fn open_as_is(&self, layer: LayerId, id: NodeId, flags: OFlags) -> Result<File> {
        let dir = self.layer_dir(layer)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        crate::asked::note("open");
        Ok(File::from(rustix::fs::openat(&*dir, &file_name(id)[..], flags, Mode::empty())?))
    }

    pub(crate) fn stat(&self, layer: LayerId, id: NodeId) -> Result<Statx> {
        Ok(stat_at(&*self.layer_dir(layer)?, &file_name(id))?)
    }

    pub(crate) fn remove(&self, layer: LayerId, id: NodeId) -> Result<()> {
        self.note_bytes(layer, id, 0);
        self.set_loan(layer, id, None);
        match self.disk.unlink(&*self.layer_dir(layer)?, &file_name(id)) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Copies `source` into a temporary file of the layer, for a node with that mode: whole or not at all (S21).
    pub(crate) fn copy(
        &self,
        at: (LayerId, NodeId),
        mode: u32,
        source: &File,
        take: Take,
    ) -> Result<Copied<'_>> {
        self.copy_up(at, mode, &Original::Whole(source), take)
    }

    /// The same of what may lend its bytes.
    pub(crate) fn copy_up(
        &self,
        (layer, id): (LayerId, NodeId),
        mode: u32,
        original: &Original<'_>,
        take: Take,
    ) -> Result<Copied<'_>> {
        let dir = self.layer_dir_or_new(layer)?;
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{}.{number}.up", id.0).into_bytes();
        let flags = OFlags::RDWR | OFlags::TRUNC;
        let file = self.disk.create(&*dir, &temporary, flags, writable(mode))?;
        let mut copied = Copied { contents: self, dir, temporary, file, loan: None, armed: true };
        copied.loan = self.make_up(&copied.file, original, take)?;
        Ok(copied)
    }

    /// Moves a layer out of the way in one step; `empty_trash` deletes it later.
    pub(crate) fn discard_layer(&self, layer: LayerId) -> Result<()> {
        self.none_ahead(layer);
        self.layers.lock().pop(&layer);
        self.forget_layer(layer);
        self.forget_loans_of(layer);
        let name = layer_name(layer);
        match self.disk.rename((&self.content, &name), (&self.trash, &name), RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::host("discard layer", &name, e)),
        }
    }

    /// Layers present on disk.
    pub(crate) fn layers(&self) -> Result<Vec<LayerId>> {
        let names = crate::disk::list(&self.content)?;
        Ok(names.iter().filter_map(|n| std::str::from_utf8(n).ok()?.parse().ok().map(LayerId)).collect())
    }

    /// Files in a layer, if it is there.
    pub(crate) fn files(&self, layer: LayerId) -> Result<Vec<NodeId>> {
        let dir = match self.layer_dir(layer) {
            Err(Error::Posix(Errno::NOENT)) => return Ok(Vec::new()),
            other => other?,
        };
        let names = crate::disk::list(&*dir)?;
        Ok(names.iter().filter_map(|n| std::str::from_utf8(n).ok()?.parse().ok().map(NodeId)).collect())
    }

    /// Makes every copy-up since the last call durable, and says which they were.
    pub(crate) fn sync_published(&self) -> Result<BTreeSet<(LayerId, NodeId)>> {
        let published = std::mem::take(&mut *self.published.lock());
        self.sync_files(&published)?;
        Ok(published)
    }

    /// Copy-ups that are not known to be durable.
    pub(crate) fn note_published(&self, copied: impl IntoIterator<Item = (LayerId, NodeId)>) {
        self.published.lock().extend(copied);
    }

    /// Whether every copy-up is durable, and nothing waits to be deleted.
    pub(crate) fn is_settled(&self) -> bool {
        self.published.lock().is_empty() && self.waiting.lock().is_empty()
    }

    /// Makes files and their names durable.
    pub(crate) fn sync_files(&self, published: &BTreeSet<(LayerId, NodeId)>) -> Result<()> {
        if published.len() > SYNC_MAX {
            return Ok(self.disk.syncfs(&self.content)?);
        }
        let layers: BTreeSet<LayerId> = published.iter().map(|(layer, _)| *layer).collect();
        let files = published.iter().map(|(layer, id)| {
            let file = self.open_as_is(*layer, *id, OFlags::RDONLY)?;
            Ok(self.disk.fdatasync(&file)?)
        });
        let dirs = layers.iter().map(|layer| self.sync_layer(*layer));
        // Gone meanwhile (unlinked, aborted, committed): nothing is left to be durable.
        files.chain(dirs).try_for_each(|synced| match synced {
            Err(Error::Posix(Errno::NOENT)) => Ok(()),
            other => other,
        })
    }

    /// Makes the names in a layer durable.
    pub(crate) fn sync_layer(&self, layer: LayerId) -> Result<()> {
        let dir = open_dir_readable(&*self.layer_dir(layer)?, b".")?;
        self.disk.fsync(&dir)?;
        Ok(self.disk.fsync(&self.content)?)
    }

    /// Bytes of what is in the trash, or waits to be deleted; and how many of them are layers.
    pub(crate) fn remains(&self) -> Result<(u64, u64)> {
        let mut bytes = bytes_below(&self.trash)?;
        let is_layer = |name: &Vec<u8>| name.iter().all(u8::is_ascii_digit);
        let mut layers = crate::disk::list(&self.trash)?.iter().filter(|name| is_layer(name)).count() as u64;
        for doomed in self.waiting() {
            match doomed {
                Doomed::Layer(layer) => {
                    bytes += self.held(&[layer])?;
                    layers += 1;
                }
                // It may be gone by now.
                Doomed::File(layer, id) => bytes += self.stat(layer, id).map_or(0, |stat| allocated(&stat)),
            }
        }
        Ok((bytes, layers))
    }

    /// Deletes what is in the trash. Runs in the background; a crash repeats it.
    pub(crate) fn empty_trash(&self) -> Result<()> {
        crate::removing::remove_below(&self.disk, &self.trash)
    }

    /// Removes what no tree speaks of: copies that a crash left unfinished, and finished ones whose record was
    /// refused.
    pub(crate) fn sweep_layer(&self, layer: LayerId, known: &HashSet<(LayerId, NodeId)>) -> Result<()> {
        let dir = self.layer_dir(layer)?;
        let is_known = |name: &[u8]| {
            let id = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
            id.is_some_and(|id| known.contains(&(layer, NodeId(id))))
        };
        for name in crate::disk::list(&*dir)?.iter().filter(|name| !is_known(name)) {
            self.disk.unlink(&*dir, name)?;
        }
        Ok(())
    }

    /// Gets rid of a preimage directory: into the trash, or at once where that is on another filesystem.
    pub(crate) fn trash_preimage(&self, park: impl AsFd, name: &[u8]) -> Result<()> {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let unique = [b"preimage-", name, b"-", number.to_string().as_bytes()].concat();
        match self.disk.rename((&park, name), (&self.trash, &unique), RenameFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::XDEV) => crate::removing::remove_tree(&self.disk, &park, name),
            Err(e) => Err(Error::host("move to trash", name, e)),
        }
    }
}

impl Copied<'_> {
    /// What it borrows.
    pub(crate) fn lender(&self) -> Option<&Lender> {
        self.loan.as_ref().map(Loan::lender)
    }

    /// Gives the copy its times and its name. (The access time is nobody's before a commit takes the file as it is,
    /// and then need not set it.)
    pub(crate) fn publish(mut self, layer: LayerId, id: NodeId, [atime, mtime]: [Time; 2]) -> Result<()> {
        set_times(&self.file, timespec(atime), timespec(mtime))?;
        // Looked at, so that the kernel gives the next change a time of its own (see `clock`), as it would have
        // done on the file that this is a copy of.
        let stat = stat_fd(&self.file)?;
        let to = (&*self.dir, &file_name(id)[..]);
        self.contents.waiting.lock().spare(layer, id);
        let contents = self.contents;
        let loan = self.loan.take().map(Arc::new);
        let before = loan.clone().map(|loan| contents.set_loan(layer, id, Some(loan)));
        let named = contents.disk.rename((&*self.dir, &self.temporary), to, RenameFlags::empty());
        if named.is_err() {
            before.map(|before| contents.set_loan(layer, id, before));
        } else if loan.is_none() {
            contents.set_loan(layer, id, None);
        }
        named?;
        self.armed = false;
        self.contents.note_bytes(layer, id, allocated(&stat));
        self.contents.note_published([(layer, id)]);
        Ok(())
    }
}

impl Drop for Copied<'_> {
    fn drop(&mut self) {
        if self.armed {
            // Best effort: recovery removes `*.up` files that stay.
            self.contents.disk.unlink(&*self.dir, &self.temporary).ok();
        }
    }
}

pub(crate) fn set_mtime(file: &File, mtime: Time) -> Result<()> {
    set_times(file, Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT }, timespec(mtime))
}

fn set_times(file: &File, last_access: Timespec, last_modification: Timespec) -> Result<()> {
    Ok(rustix::fs::futimens(file, &Timestamps { last_access, last_modification })?)
}

fn timespec(time: Time) -> Timespec {
    Timespec { tv_sec: time.sec, tv_nsec: i64::from(time.nsec) as _ }
}

/// The mode of a node, as far as its content file may have it, so that a commit mostly finds it as it is to be. Nobody
/// else gets past the layer's directory, and we must be able to write.
fn writable(mode: u32) -> u32 {
    mode & 0o777 | PRIVATE
}

fn layer_name(layer: LayerId) -> Vec<u8> {
    layer.0.to_string().into_bytes()
}

pub(crate) fn file_name(id: NodeId) -> Vec<u8> {
    id.0.to_string().into_bytes()
}
