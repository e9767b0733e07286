//! Native views, for those who mount them.

use std::sync::Arc;

use crate::branch::{Branch, OverlayXattrs};
use crate::error::Result;
use crate::native::{self, NativePaths, Processes, Taken};
use crate::store::Store;

impl Store {
    /// Makes directories for an overlayfs over the base that takes a branch's changes, durably, before anybody mounts it.
    /// From now until [`Store::take_in`] after the end of the processes nobody else changes the branch (EBUSY), forks,
    /// marks or commits it (`Attached`), and nobody changes the base but a commit that ends the branch. There must have
    /// been no commit into the base since the fork. What the branch has and the base has not is copied into the upper
    /// directory, and takes as long as that.
    ///
    /// # Errors
    /// `NotAllowed` with the reason, `Attached`, `HasChildren`, `Busy` (somebody changed it meanwhile, too), `Ended`,
    /// `Stale`, and the host's. If the branch is attached all the same, nobody has anything to do in its view: it is to be
    /// taken in.
    pub fn attach(&self, branch: &Branch, xattrs: OverlayXattrs) -> Result<NativePaths> {
        native::attach(&self.shared, branch, xattrs)
    }

    /// Takes what processes did in a native view into the branch, all or nothing. If they have ended, the branch is its
    /// own again; the caller knows that nobody writes any more. Nothing happens to a branch without a native view.
    ///
    /// # Errors
    /// `Ended`, `Stale`, and the host's; then nothing has changed, and it can be tried again.
    pub fn take_in(&self, branch: &Branch, processes: Processes) -> Result<Taken> {
        native::take_in(&self.shared, branch, processes)
    }

    /// Branches with native views.
    pub fn attached(&self) -> Vec<Arc<Branch>> {
        self.branches().into_iter().filter(|branch| branch.is_attached()).collect()
    }
}
