//! Setting what a branch may hold.

use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::ids::Quota;
use crate::journal::record::Record;
use crate::store::Store;

impl Store {
    /// Changes what a branch may hold of its own, from the next change on. One that holds more already keeps it and
    /// takes nothing more.
    ///
    /// # Errors
    /// `NotAllowed` for main, `Busy` while it is being committed, `Ended`, `Stale`, and the host's.
    pub fn set_quota(&self, branch: &Branch, quota: Quota) -> Result<()> {
        if branch.is_main() {
            return Err(Error::NotAllowed("main is the base itself: it holds nothing that could be limited"));
        }
        let shared = &self.shared;
        let _gate = shared.gate.read();
        // Nobody writes meanwhile: from here on who does says so.
        let mut data = branch.data.write();
        branch.check_unsealed()?;
        shared.contents.held(&data.layers)?;
        shared.journal.append(&Record::Quota { branch: branch.id(), quota })?;
        data.quota = quota;
        Ok(())
    }
}
