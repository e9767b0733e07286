//! What the modes of [`super::passing`] mean for operations.

use std::time::Duration;

use branch_store::BranchId;
use rustix::io::Errno;

use super::files::{access, intent};
use super::passing::{Issue, LEN_MIN, Pass, Passing, Touched, Way};
use super::{Attr, Known, Opened, Place, Vfs, errno, ino};

/// An open file, and how the kernel is to read it.
pub enum Reading {
    /// Through us.
    Served(Opened),
    /// By itself, from the host.
    Passed {
        /// Handle number.
        fh: u64,
        /// Good until the file is released.
        pass: Pass,
    },
}

impl Vfs {
    /// From now on, before the first request, the kernel may read files of the host by itself.
    pub fn let_pass(&self) {
        self.passing.get_or_init(|| Passing::new(LEN_MIN));
    }

    /// Before it is mounted so that readers pass through: files pass that have at least so many bytes.
    pub fn pass_from(&self, len: u64) {
        self.passing.get_or_init(|| Passing::new(len));
    }

    /// As [`Vfs::open`]; `issue` makes passes.
    ///
    /// # Errors
    /// As [`Vfs::open`]; ESTALE, upon which the kernel looks the name up again, for a number that is retired by this.
    pub fn open_passing(&self, ino: u64, flags: i32, issue: Issue<'_>) -> Result<Reading, Errno> {
        let (Some(passing), Place::Node(known)) = (self.passing.get(), self.place(ino)?) else {
            return self.open(ino, flags).map(Reading::Served);
        };
        let intent = intent(flags);
        let file = known.branch.open(&known.object, access(intent)).map_err(errno)?;
        // The second number never passes. And not every filesystem takes O_DIRECT, which the kernel would pass on.
        let may = ino == ino::first(ino) && flags & libc::O_DIRECT == 0;
        let stable = if may { file.stable().map_err(errno)? } else { None };
        match (passing.open(&self.inodes, ino, stable.as_ref(), issue)?, stable) {
            (Way::Passed(pass), Some(stable)) => {
                file.pin(&stable);
                Ok(Reading::Passed { fh: self.hand_out(ino, file, intent).fh, pass })
            }
            (Way::Passed(_) | Way::Served, _) => Ok(Reading::Served(self.hand_out(ino, file, intent))),
        }
    }

    /// Whether the number is retired: who has it open goes on, its attributes are to be asked for.
    pub fn is_retired(&self, ino: u64) -> bool {
        self.passing.get().is_some() && self.inodes.is_retired(ino)
    }

    /// The object's second number, if it may be known by that.
    pub fn second_of(&self, first: u64) -> Option<u64> {
        self.passing.get().filter(|_| self.inodes.is_by_second(first)).map(|_| ino::second(first))
    }

    /// Takes in a file that was opened without asking how it is to be read.
    pub(super) fn serve(&self, ino: u64) -> Result<(), Errno> {
        let Some(passing) = self.passing.get() else { return Ok(()) };
        let nobody = |_: std::os::fd::BorrowedFd<'_>| Err(Errno::PERM.into());
        passing.open(&self.inodes, ino, None, &nobody).map(drop)
    }

    /// Whether something may be changed by this number. In main nothing may, which the store will say.
    pub(super) fn touch(&self, ino: u64, touched: Touched) -> Result<(), Errno> {
        match (self.passing.get(), touched) {
            _ if ino::is_of(ino, BranchId::MAIN) => Ok(()),
            (Some(passing), Touched::Bytes) => passing.change(&self.inodes, ino),
            (Some(_), Touched::Attributes) if self.inodes.is_retired(ino) => Err(Errno::STALE),
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// Attributes of a retired number. Whoever has it open and asks is told how much there is to read for him; but the
    /// question may also come from a name that leads there still, until it is looked up again.
    pub(super) fn retired_attr(&self, ino: u64, known: &Known) -> Result<Attr, Errno> {
        let mut attr = Attr { ttl: Duration::ZERO, ..self.node_attr(ino, known)? };
        let only_by_handle = attr.stat.nlink <= 1 && self.inodes.get(ino::second(ino)).is_some();
        let stable = self.passing.get().and_then(|passing| passing.passed_from(ino));
        if let Some(stable) = stable.filter(|_| only_by_handle) {
            (attr.stat.size, attr.stat.blocks) = stable.size().map_err(errno)?;
        }
        Ok(attr)
    }
}
