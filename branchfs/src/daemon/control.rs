//! Control files: the same verbs, asked for by a write or an ioctl inside a branch.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use branch_proto::{CommitOptions, Failure, GroupKind};
use branch_store::Children;
use rustix::io::Errno;

use super::endings::{self, Requester};
use super::failure::errno;
use super::state::Daemon;
use super::verbs;
use crate::vfs::Control;

/// Longest part of the parent's name in the name of a branch forked here; with `-` and a number it fits the
/// 127 bytes a control reply holds.
const PREFIX_MAX: usize = 100;
/// Names tried for a fork before giving up.
const TRIES_MAX: u64 = 1 << 16;

/// The view's way to the verbs. The daemon owns the mount, the mount the view and the view this: hence weak.
pub(super) struct FromView {
    daemon: Weak<Daemon>,
    last: AtomicU64,
}

impl FromView {
    pub(super) fn new(daemon: Weak<Daemon>) -> FromView {
        FromView { daemon, last: AtomicU64::new(0) }
    }

    /// `None` only while the daemon goes down.
    fn daemon(&self) -> Result<Arc<Daemon>, Errno> {
        self.daemon.upgrade().ok_or(Errno::SHUTDOWN)
    }
}

impl Control for FromView {
    fn commit(&self, branch: &str) -> Result<(), Errno> {
        let (report, farewell) = endings::commit(
            &*self.daemon()?,
            branch,
            &CommitOptions::default(),
            None,
            Requester::ControlFile,
        )
        .map_err(|failure| refuse("commit", branch, &failure))?;
        farewell.kill();
        for warning in &report.warnings {
            tracing::warn!(branch, warning, "commit by control file");
        }
        Ok(())
    }

    fn abort(&self, branch: &str) -> Result<(), Errno> {
        // The writer waits uninterruptibly: killed now, it dies when it has its answer.
        let (_, farewell) =
            endings::abort(&*self.daemon()?, branch, Children::Refuse, Requester::ControlFile)
                .map_err(|failure| refuse("abort", branch, &failure))?;
        farewell.kill();
        Ok(())
    }

    fn fork(&self, parent: &str) -> Result<String, Errno> {
        let daemon = self.daemon()?;
        let prefix = &parent[..parent.len().min(PREFIX_MAX)];
        for _ in 0..TRIES_MAX {
            let name = format!("{prefix}-{}", self.last.fetch_add(1, Ordering::Relaxed) + 1);
            match verbs::fork(&daemon, std::slice::from_ref(&name), parent, GroupKind::Exclusive, None) {
                Ok(_) => return Ok(name),
                Err(Failure::Exists { .. }) => {}
                Err(failure) => return Err(refuse("fork", parent, &failure)),
            }
        }
        Err(Errno::EXIST)
    }
}

/// An errno says little; the log has the words.
fn refuse(verb: &str, branch: &str, failure: &Failure) -> Errno {
    tracing::info!(verb, branch, %failure, "refused to a control file");
    errno(failure)
}
