//! What the host would refuse is found while nothing has been written: behind the decision there is no way back.

use rustix::fs::{Access, AtFlags, Statx};
use rustix::io::Errno;

use super::Planner;
use super::ahead::{Named, Names};
use crate::base::{Found, Guard, stat_fd};
use crate::commit::clash::{Clash, Subject, Why};
use crate::error::Result;
use crate::ids::NodeId;
use crate::node::{HostKey, Kind, Slot};
use crate::plan::RelPath;

const SUID: u32 = 0o4000;
const SGID_EXECUTABLE: u32 = 0o2010;
const STICKY: u32 = 0o1000;

/// What a plan does to the names in a directory of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    Added,
    Removed,
}

impl Planner<'_> {
    /// An object that the branch changed or took away. A directory that only holds changes is none.
    pub(super) fn permit_change(
        &mut self,
        names: &Names<'_>,
        named: &Named<'_>,
        found: &Found,
    ) -> Result<()> {
        if found.guard() == Guard::None {
            return Ok(());
        }
        let holds = match named.child {
            Some(child) if found.print.kind == Kind::Dir => self.identity(child) == Some(found.print.key()),
            _ => false,
        };
        if !holds {
            self.clash_at(&names.path(named), Why::Immutable, &named.slot, named.entry);
        }
        Ok(())
    }

    /// Names of a base directory.
    pub(super) fn permit_names(&mut self, dir: NodeId, how: Change) -> Result<()> {
        if self.permitted.get(&dir).is_some_and(|known| *known >= how) {
            return Ok(());
        }
        self.permitted.insert(dir, how);
        let fd = match self.base.places.open(dir) {
            Ok(fd) => fd,
            // Gone: a conflict of its own.
            Err(Errno::STALE | Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let st = stat_fd(&*fd)?;
        match (Guard::of(&st), how) {
            (Guard::None, _) | (Guard::AppendOnly, Change::Added) => {}
            (Guard::AppendOnly | Guard::Immutable, _) => {
                let path = self.dir_path(dir)?;
                self.refuse(path, Why::Immutable, Subject::Object(dir));
            }
        }
        if !is_ours(st.stx_uid) && !may(&*fd, b".", Access::WRITE_OK | Access::EXEC_OK) {
            let path = self.dir_path(dir)?;
            self.refuse(path, Why::NotPermitted, Subject::Object(dir));
        }
        Ok(())
    }

    /// An object that leaves its name.
    pub(super) fn permit_leaving(&mut self, slot: &Slot, found: &Found) -> Result<()> {
        self.permit_names(slot.dir, Change::Removed)?;
        let above = self.above(slot.dir)?;
        let sticky = u32::from(above.stx_mode) & STICKY != 0;
        let kept = sticky && !is_ours(above.stx_uid) && !is_ours(found.print.uid) && !is_root();
        // A directory that gets another parent is written to.
        let fixed = found.print.kind == Kind::Dir
            && !is_ours(found.print.uid)
            && !may(&*self.base.places.open(slot.dir)?, found.place.name.as_bytes(), Access::WRITE_OK);
        if kept || fixed {
            let path = self.base_path(slot)?;
            self.refuse(path, Why::NotPermitted, Subject::Name(slot.clone()));
        }
        if found.guard() != Guard::None {
            let path = self.base_path(slot)?;
            self.refuse(path, Why::Immutable, Subject::Name(slot.clone()));
        }
        Ok(())
    }

    /// A base directory, looked at once: all the names that leave it ask the same of it.
    fn above(&mut self, dir: NodeId) -> Result<Statx> {
        if let Some(known) = self.above.get(&dir) {
            return Ok(*known);
        }
        let st = stat_fd(&*self.base.places.open(dir)?)?;
        self.above.insert(dir, st);
        Ok(st)
    }

    /// A file that is to be rewritten in place.
    pub(super) fn permit_bytes(&mut self, found: &Found) -> Result<()> {
        let dir = self.base.places.open(found.place.dir)?;
        if !is_ours(found.print.uid) && !may(&*dir, found.place.name.as_bytes(), Access::WRITE_OK) {
            let path = self.base_path(&found.place)?;
            self.refuse(path, Why::NotPermitted, Subject::Name(found.place.clone()));
        }
        Ok(())
    }

    /// Attributes of a directory that keeps its place. (Of other objects `permit_change` has spoken.)
    pub(super) fn permit_attributes(&mut self, dir: NodeId, found: &Found, path: &[u8]) {
        if found.print.kind == Kind::Dir && found.guard() != Guard::None {
            self.refuse(path.to_vec(), Why::Immutable, Subject::Object(dir));
        }
    }

    /// A further name for a base object: what /proc/sys/fs/protected_hardlinks asks for.
    pub(super) fn permit_link(&mut self, object: HostKey) -> Result<()> {
        let seen = self.seen_at.get(&object).and_then(|slot| self.seen.get(slot));
        let Some(found) = seen.map(|seen| seen.found.clone()) else { return Ok(()) };
        let print = &found.print;
        let dir = self.base.places.open(found.place.dir)?;
        let safe = print.kind == Kind::File
            && print.mode & SUID == 0
            && print.mode & SGID_EXECUTABLE != SGID_EXECUTABLE
            && may(&*dir, found.place.name.as_bytes(), Access::READ_OK | Access::WRITE_OK);
        if !is_root() && !is_ours(print.uid) && !safe {
            let path = self.base_path(&found.place)?;
            self.refuse(path, Why::NotPermitted, Subject::Name(found.place.clone()));
        }
        Ok(())
    }

    fn refuse(&mut self, path: RelPath, why: Why, subject: Subject) {
        self.conflicts.push(Clash::new(path, why, subject));
    }

    /// `.` is the base itself.
    fn dir_path(&mut self, dir: NodeId) -> Result<RelPath> {
        if dir == NodeId::ROOT {
            return Ok(b".".to_vec());
        }
        let slot = self.base.dir_slot(dir, self.head)?;
        self.base_path(&slot)
    }
}

/// Owners lend themselves the permission they need (`commit::lend`).
fn is_ours(uid: u32) -> bool {
    rustix::process::geteuid().as_raw() == uid
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Only a plain refusal counts: a host that answers otherwise will say so when it is asked to act.
fn may(dir: impl std::os::fd::AsFd, name: &[u8], access: Access) -> bool {
    !matches!(rustix::fs::accessat(dir, name, access, AtFlags::empty()), Err(Errno::ACCESS))
}
