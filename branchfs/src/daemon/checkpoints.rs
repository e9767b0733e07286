//! Checkpoints of a branch, and going back to them.

use branch_proto::{Failure, RestoreReport};
use branch_store::NodeId;

use super::endings;
use super::failure::of_store;
use super::native;
use super::state::Daemon;

/// Notes the present state of a branch, with what processes stored to maps; the name.
pub(super) fn make(daemon: &Daemon, branch: &str, name: Option<&str>) -> Result<String, Failure> {
    let branch = daemon.branch(branch)?;
    native::settle(daemon, &branch)?;
    daemon.flush(&branch)?;
    daemon.store.mark(&branch, name).map_err(of_store)
}

/// Forgets a checkpoint. What only it needed is deleted in the background.
pub(super) fn delete(daemon: &Daemon, branch: &str, name: &str) -> Result<(), Failure> {
    let branch = daemon.branch(branch)?;
    daemon.store.unmark(&branch, name).map_err(of_store)?;
    daemon.maintenance.wake();
    Ok(())
}

/// Makes a branch what it was at a checkpoint. When the caller hears of it, the kernel has forgotten what it knew of
/// anything that is different now.
pub(super) fn restore(daemon: &Daemon, name: &str, checkpoint: &str) -> Result<RestoreReport, Failure> {
    let branch = daemon.branch(name)?;
    native::settle(daemon, &branch)?;
    daemon.flush(&branch)?;
    let mount = daemon.mount.get();
    let is_known = |id: NodeId| mount.is_some_and(|mount| mount.knows(branch.id(), id));
    let restored = daemon.store.restore(&branch, checkpoint, &is_known).map_err(of_store)?;
    let mut warnings = Vec::new();
    if let Some(mount) = mount {
        // Before the kernel looks any name up again.
        restored.revived.iter().for_each(|id| mount.revived(&branch, *id));
        endings::orphaned(daemon, &branch, &restored.orphans);
        mount.forget(&restored.invalid);
        warnings.extend(mount.settle().err().map(|e| format!("the kernel may show old content: {e}")));
    }
    daemon.maintenance.wake();
    let saved = restored.saved.map(str::to_owned);
    Ok(RestoreReport { branch: name.to_owned(), checkpoint: checkpoint.to_owned(), saved, warnings })
}
