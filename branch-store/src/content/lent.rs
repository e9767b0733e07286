//! Which content files borrow bytes from the base, and when that is allowed.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;
use rustix::fs::{OFlags, SeekFrom, Statx};
use rustix::io::Errno;

use crate::base::stat_fd;
use crate::content::Contents;
use crate::content::loan::{Loan, UNIT, holder};
use crate::copying::{Take, copy_bytes};
use crate::error::{Error, Result};
use crate::ids::{CommitId, LayerId, NodeId};
use crate::measuring::allocated;
use crate::node::{Fingerprint, HostKey, Lender, Slot};

/// Smaller files are copied at once, in bytes: that costs about as much as the rest of a copy-up.
const BORROW_MIN: u64 = 4 << 20;
/// Files that borrow keep a file of the base open each; beyond so many a copy-up copies everything.
const LOANS_MAX: usize = 256;
/// `statfs(2)`'s numbers of ext4 and tmpfs. They cannot clone, and tell holes from data to the block.
const EXT4: u64 = 0xef53;
const TMPFS: u64 = 0x0102_1994;

/// Content files that borrow.
pub(super) struct Lent {
    loans: RwLock<HashMap<(LayerId, NodeId), Arc<Loan>>>,
    /// How many: mostly none, and then nobody takes the lock.
    count: AtomicUsize,
    /// Files of so many bytes borrow.
    from: AtomicU64,
}

impl Default for Lent {
    fn default() -> Lent {
        Lent { loans: RwLock::default(), count: AtomicUsize::new(0), from: AtomicU64::new(BORROW_MIN) }
    }
}

/// The file of the base that a copy is made of, and how to find it again.
pub(crate) struct Lending<'a> {
    pub(crate) slot: &'a Slot,
    pub(crate) epoch: CommitId,
    pub(crate) print: Fingerprint,
}

/// What a copy-up copies.
pub(crate) enum Original<'a> {
    /// A file of the base, that may be borrowed from.
    Lends(&'a Arc<File>, Lending<'a>),
    /// A content file that borrows.
    Borrows(&'a File, &'a Loan),
    /// Any other.
    Whole(&'a File),
}

impl Contents {
    /// What a content file borrows, if it does.
    pub(crate) fn loan(&self, layer: LayerId, id: NodeId) -> Option<Arc<Loan>> {
        if self.lent.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.lent.loans.read().get(&(layer, id)).cloned()
    }

    /// Files of so many bytes borrow from now on: tests do it with small ones.
    pub(crate) fn borrow_from(&self, bytes: u64) {
        self.lent.from.store(bytes, Ordering::Relaxed);
    }

    /// Whether a copy of this file of the base would borrow from it. Of several names one may be rewritten in place
    /// by a commit; what has holes is copied with them; what the host can clone is cloned.
    pub(crate) fn may_borrow(&self, source: &Statx) -> Result<bool> {
        let wanted = source.stx_size >= self.lent.from.load(Ordering::Relaxed)
            && source.stx_size > 0
            && source.stx_nlink == 1
            && allocated(source) >= source.stx_size
            && self.lent.count.load(Ordering::Relaxed) < LOANS_MAX;
        if !wanted {
            return Ok(false);
        }
        let host = rustix::fs::fstatfs(&self.content)?;
        Ok(matches!(host.f_type as u64, EXT4 | TMPFS))
    }

    /// Gives an empty file what a copy-up of `original` gives it.
    pub(super) fn make_up(&self, to: &File, original: &Original<'_>, take: Take) -> Result<Option<Loan>> {
        match original {
            Original::Lends(source, lending) if take == Take::All => {
                let Lending { slot, epoch, print } = lending;
                self.disk.truncate(to, print.size)?;
                let made = stat_fd(to)?;
                if !is_exact(to, &made)? {
                    return copy_bytes(&self.disk, source, to, take).map(|()| None);
                }
                let (slot, epoch, borrowed) = ((*slot).clone(), *epoch, print.size);
                let lender = Lender { slot, epoch, print: *print, holder: holder(&made), borrowed };
                Ok(Some(Loan::new(lender, Arc::clone(source))))
            }
            Original::Borrows(source, loan) => {
                let copy = loan.for_copy(holder(&stat_fd(to)?), |missing| {
                    copy_bytes(&self.disk, source, to, take)?;
                    match take {
                        Take::All => Ok(()),
                        Take::Resized(size) => loan.fill(&self.disk, missing, 0..size, to),
                    }
                })?;
                Ok((take == Take::All && !copy.is_complete()).then_some(copy))
            }
            Original::Lends(source, _) => copy_bytes(&self.disk, source, to, take).map(|()| None),
            Original::Whole(source) => copy_bytes(&self.disk, source, to, take).map(|()| None),
        }
    }

    /// Notes what a file borrows; what the one of that name borrowed before.
    pub(super) fn set_loan(&self, layer: LayerId, id: NodeId, loan: Option<Arc<Loan>>) -> Option<Arc<Loan>> {
        if loan.is_none() && self.lent.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut loans = self.lent.loans.write();
        let before = match loan {
            Some(loan) => loans.insert((layer, id), loan),
            None => loans.remove(&(layer, id)),
        };
        self.lent.count.store(loans.len(), Ordering::Release);
        before
    }

    /// Opens a content file with what it borrows: both of one file, whatever takes its place meanwhile. That works
    /// because a file that borrows is noted before it gets its name, and one that does not when it has it.
    pub(crate) fn open_lent(
        &self,
        layer: LayerId,
        id: NodeId,
        flags: OFlags,
    ) -> Result<(File, Option<Arc<Loan>>)> {
        loop {
            let before = self.loan(layer, id);
            let file = self.open_as_is(layer, id, flags)?;
            let after = self.loan(layer, id);
            let fits = match (&before, &after) {
                (None, None) => true,
                (Some(before), Some(after)) => Arc::ptr_eq(before, after) && after.is_of(&file)?,
                _ => false,
            };
            if fits {
                return Ok((file, after));
            }
            std::thread::yield_now();
        }
    }

    /// Opens a content file with all its bytes.
    ///
    /// # Errors
    /// Those of [`Contents::complete`].
    pub(crate) fn open(&self, layer: LayerId, id: NodeId, flags: OFlags) -> Result<File> {
        loop {
            let (file, loan) = self.open_lent(layer, id, flags)?;
            if loan.is_none_or(|loan| loan.is_complete()) {
                return Ok(file);
            }
            self.complete(layer, id)?;
        }
    }

    /// As the journal says; [`Contents::find_lender`] makes it one that can be read.
    pub(crate) fn note_lent(&self, layer: LayerId, id: NodeId, lender: Lender) {
        self.set_loan(layer, id, Some(Arc::new(Loan::noted(lender))));
    }

    /// The content file has all its bytes, durably, and the journal says so.
    pub(crate) fn note_returned(&self, layer: LayerId, id: NodeId) {
        self.set_loan(layer, id, None);
    }

    pub(super) fn forget_loans_of(&self, layer: LayerId) {
        self.keep_loans(|of, _| of != layer);
    }

    /// Forgets the loans of files that are no more.
    pub(crate) fn sweep_loans(&self, known: &HashSet<(LayerId, NodeId)>) {
        self.keep_loans(|layer, id| known.contains(&(layer, id)));
    }

    fn keep_loans(&self, keep: impl Fn(LayerId, NodeId) -> bool) {
        if self.lent.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut loans = self.lent.loans.write();
        loans.retain(|(layer, id), _| keep(*layer, *id));
        self.lent.count.store(loans.len(), Ordering::Release);
    }

    /// All of them.
    pub(crate) fn loans(&self) -> Vec<(LayerId, NodeId, Arc<Loan>)> {
        let loans = self.lent.loans.read();
        let mut all: Vec<_> = loans.iter().map(|((layer, id), loan)| (*layer, *id, loan.clone())).collect();
        all.sort_unstable_by_key(|(layer, id, _)| (*layer, *id));
        all
    }

    /// The oldest base that somebody borrows from.
    pub(crate) fn oldest_lender(&self) -> Option<CommitId> {
        self.loans()
            .iter()
            .filter(|(.., loan)| !loan.is_complete())
            .map(|(.., loan)| loan.lender().epoch)
            .min()
    }

    /// After a restart: what an earlier process had written of a file, and the file that lends it the rest. `down`: the
    /// power may have failed since.
    pub(crate) fn find_lender(
        &self,
        (layer, id): (LayerId, NodeId),
        source: Option<File>,
        down: bool,
    ) -> Result<()> {
        let Some(noted) = self.loan(layer, id) else { return Ok(()) };
        let file = match self.open_as_is(layer, id, OFlags::RDWR) {
            Err(Error::Posix(Errno::NOENT)) => return Ok(()),
            file => file?,
        };
        let found = Loan::found(&self.disk, noted.lender().clone(), source, &file, down)?;
        self.set_loan(layer, id, Some(Arc::new(found)));
        Ok(())
    }

    /// Copies what a content file borrows, so that it is a file like any other.
    ///
    /// # Errors
    /// EIO if the base has not got it any more; the host's.
    pub(crate) fn complete(&self, layer: LayerId, id: NodeId) -> Result<()> {
        if self.loan(layer, id).is_none_or(|loan| loan.is_complete()) {
            return Ok(());
        }
        let (file, Some(loan)) = self.open_lent(layer, id, OFlags::RDWR)? else { return Ok(()) };
        let done = loan.complete(&self.disk, &file);
        self.look_again(layer, id);
        done
    }

    /// The same, durably, for all that borrow from a file of the base that is about to be written to.
    ///
    /// # Errors
    /// As [`Contents::complete`].
    pub(crate) fn complete_borrowers_of(&self, key: HostKey) -> Result<()> {
        for (layer, id, loan) in self.loans() {
            if loan.lender().print.key() == key && !loan.is_complete() {
                self.complete(layer, id)?;
                self.disk.fdatasync(self.open_as_is(layer, id, OFlags::RDONLY)?)?;
            }
        }
        Ok(())
    }
}

/// Whether the host tells holes of an empty file from data, to the block. The older driver of ext2 does not, nor does a
/// tmpfs of huge pages.
fn is_exact(file: &File, stat: &Statx) -> Result<bool> {
    match rustix::fs::seek(file, SeekFrom::Data(0)) {
        Err(Errno::NXIO) => Ok(u64::from(stat.stx_blksize) <= UNIT),
        Ok(_) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
