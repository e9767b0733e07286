//! Marks are made and removed in time that does not depend on what is in the branch: a mark is a pointer and a record.

use parking_lot::RwLockWriteGuard;

use crate::branch::{BEFORE_NATIVE, BEFORE_RESTORE, Branch, Data};
use crate::error::{Error, Result};
use crate::ids::{MARKS_MAX, check_branch_name};
use crate::journal::record::Record;
use crate::node::Time;
use crate::store::Store;

impl Store {
    /// Notes the present tree of a branch under a name; without one it gets the next number. The name is returned.
    /// As durable as a fork: it survives the death of this process at once, a power failure from the next fsync,
    /// commit or [`Store::settle`] on.
    ///
    /// # Errors
    /// `BadBranchName`, `MarkExists`, `Limit` (marks of a branch), `NotAllowed` for main, `Ended`, `Stale`, `Busy` while
    /// the branch is being committed, and the host's. In every case nothing was made.
    pub fn mark(&self, branch: &Branch, name: Option<&str>) -> Result<String> {
        let shared = &self.shared;
        refuse_main(branch)?;
        if let Some(name) = name {
            check_name(name)?;
        }
        let _decide = shared.decide.lock();
        let _gate = shared.gate.read();
        let mut data = open(branch)?;
        let name = name.map_or_else(|| data.marks.next_name(), str::to_owned);
        if data.marks.get(&name).is_some() {
            return Err(Error::MarkExists { branch: branch.name().to_owned(), name });
        }
        if data.marks.len() >= MARKS_MAX {
            return Err(Error::Limit { what: "checkpoints of one branch", max: MARKS_MAX as u64 });
        }
        let (time, layer) = (Time::now(), shared.counters.new_layer());
        shared.journal.append(&Record::Mark { branch: branch.id(), name: name.clone(), time, layer })?;
        data.mark(shared, &name, time, layer);
        Ok(name)
    }

    /// Removes a mark. What only it needed is given back by the next [`Store::reclaim`].
    ///
    /// # Errors
    /// `NoSuchMark`, and those of [`Store::mark`].
    pub fn unmark(&self, branch: &Branch, name: &str) -> Result<()> {
        let shared = &self.shared;
        refuse_main(branch)?;
        let _decide = shared.decide.lock();
        let _gate = shared.gate.read();
        let mut data = open(branch)?;
        if data.marks.get(name).is_none() {
            return Err(no_such_mark(branch, name));
        }
        shared.journal.append(&Record::Unmark { branch: branch.id(), name: name.to_owned() })?;
        data.unmark(branch, name);
        Ok(())
    }
}

/// main has no marks: its content is the base, which others change, and its past is the log of commits.
pub(super) fn refuse_main(branch: &Branch) -> Result<()> {
    if branch.is_main() {
        return Err(Error::NotAllowed(
            "main is the base itself: it has no checkpoints; 'undo' takes commits back",
        ));
    }
    Ok(())
}

pub(super) fn no_such_mark(branch: &Branch, name: &str) -> Error {
    Error::NoSuchMark { branch: branch.name().to_owned(), name: name.to_owned() }
}

/// The data of a live branch, to be changed.
pub(super) fn open(branch: &Branch) -> Result<RwLockWriteGuard<'_, Data>> {
    let data = branch.data.write();
    branch.check_unsealed().map(|()| data)
}

/// Marks are named like branches. One name is the restore's own.
fn check_name(name: &str) -> Result<()> {
    let bad = |reason| Error::BadBranchName { name: name.to_owned(), reason };
    check_branch_name(name).map_err(bad)?;
    match name {
        BEFORE_RESTORE => Err(bad("'before-restore' is what a restore leaves behind")),
        BEFORE_NATIVE => Err(bad("'before-native-view' is what a branch was before its native view")),
        _ => Ok(()),
    }
}
