//! Collecting on demand: what would be freed, and freeing it.

use crate::error::Result;
use crate::ids::CommitId;
use crate::keep::Keep;
use crate::store::maintain::{self, park_bytes, parks, unneeded};
use crate::store::{Store, files, litter};

/// What a collection frees, or would free. Bytes are as the host allocates them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// Commits into the base whose preimages go: they can no longer be undone or redone, nor can the base be seen as it
    /// was before them.
    pub commits: Vec<CommitId>,
    /// Bytes of these preimages.
    pub preimage_bytes: u64,
    /// Bytes of the preimages that stay.
    pub kept_bytes: u64,
    /// Bytes of what nothing refers to: content of ended branches, and files that were removed or replaced after a fork
    /// or checkpoint had frozen them.
    pub remains_bytes: u64,
    /// How many whole layers are among that.
    pub layers: u64,
}

impl Store {
    /// How much of the past is kept.
    pub fn keep(&self) -> Keep {
        *self.shared.keep.lock()
    }

    /// Changes how much of the past is kept, from the next [`Store::reclaim`] on. Durable when it returns.
    ///
    /// # Errors
    /// The host's.
    pub fn set_keep(&self, keep: Keep) -> Result<()> {
        let mut kept = self.shared.keep.lock();
        files::write_keep(&self.shared.dir_path, &self.shared.dir_fd, &keep)?;
        *kept = keep;
        Ok(())
    }

    /// What [`Store::collect`] would free. Changes nothing.
    ///
    /// # Errors
    /// The host's.
    pub fn collectable(&self, keep: &Keep) -> Result<Collected> {
        let shared = &self.shared;
        let (mut gone, mut preimage_bytes, mut kept_bytes) = (Vec::new(), 0, 0);
        {
            let _no_commit = shared.writeback.lock();
            let (upto, no_lease) = unneeded(shared, keep)?;
            drop(no_lease);
            for commit in parks(shared)? {
                let bytes = park_bytes(shared, commit)?;
                if commit <= upto {
                    gone.push(commit);
                    preimage_bytes += bytes;
                } else {
                    kept_bytes += bytes;
                }
            }
        }
        let (waiting, ended) = shared.contents.remains()?;
        let (litter, empty) = litter::measure(shared)?;
        let (remains_bytes, layers) = (waiting + litter, ended + empty);
        Ok(Collected { commits: gone, preimage_bytes, kept_bytes, remains_bytes, layers })
    }

    /// Does what [`Store::reclaim`] does, with this policy and with a look at all branches, and says what it freed.
    ///
    /// # Errors
    /// The host's; repeated calls go on where this one stopped.
    pub fn collect(&self, keep: &Keep) -> Result<Collected> {
        let collected = self.collectable(keep)?;
        litter::suspect_all(&self.shared);
        maintain::reclaim(&self.shared, keep)?;
        Ok(collected)
    }
}
