//! What becomes durable in which order: copied bytes before a record says so, records before what they made
//! superfluous is deleted. On its own the kernel writes in any order (H3).

use crate::branch::{Branch, Shared};
use crate::content::Doomed;
use crate::error::Result;
use crate::ids::{LayerId, NodeId};
use crate::journal::record::Record;

impl Shared {
    /// Everything acknowledged so far becomes durable, bytes before the records that speak of them.
    ///
    /// # Errors
    /// The host's; a failed sync poisons the store (S21).
    pub(crate) fn make_durable(&self) -> Result<()> {
        self.journal.check()?;
        // One at a time: whoever comes second must not take what the first is still syncing for done.
        let mut marked = self.settling.lock();
        let (upto, copied) = self.journal.frontier();
        let published = self.contents.sync_published().inspect_err(|_| self.journal.poison())?;
        if copied.is_some_and(|copied| copied >= *marked) {
            // Should the power fail, the journal ends before the first copy-up that no such record vouches for.
            if let Err(e) = self.journal.append(&Record::Synced { upto }) {
                self.contents.note_published(published);
                return Err(e);
            }
            *marked = upto;
        }
        self.journal.sync()?;
        self.contents.bury(upto);
        Ok(())
    }

    /// The same right after a decision was appended. It may be on the disk whatever is answered, so after any failure
    /// only recovery can tell whether it stands.
    ///
    /// # Errors
    /// As [`Shared::make_durable`]; the store is poisoned.
    pub(crate) fn make_decision_durable(&self) -> Result<()> {
        self.make_durable().inspect_err(|_| self.journal.poison())
    }

    /// The same if a power failure would take more than the newest operations: copied bytes, or space that nobody
    /// needs any more.
    ///
    /// # Errors
    /// As [`Shared::make_durable`].
    pub(crate) fn settle(&self) -> Result<()> {
        if self.contents.is_settled() { Ok(()) } else { self.make_durable() }
    }

    /// Ended branches' content goes to the trash: one rename per layer, once their end is durable. A failure leaves
    /// garbage that the next recovery finds; the end of the branch stands.
    pub(crate) fn discard_layers_of(&self, branches: &[std::sync::Arc<Branch>]) {
        for branch in branches {
            let layers = branch.data.read().layers.clone();
            self.discard_layers(&layers);
        }
    }

    pub(crate) fn discard_layers(&self, layers: &[LayerId]) {
        layers.iter().for_each(|layer| self.doom(Doomed::Layer(*layer)));
    }

    /// Content files that no tree speaks of go once that is durable: a power failure may bring their names back. So
    /// that space does not wait for ever, some of them make it so.
    ///
    /// # Errors
    /// As [`Shared::make_durable`], if the store takes nothing more.
    pub(crate) fn discard_contents(&self, files: impl IntoIterator<Item = (LayerId, NodeId)>) -> Result<()> {
        files.into_iter().for_each(|(layer, id)| self.doom(Doomed::File(layer, id)));
        if !self.contents.is_waiting_long() {
            return Ok(());
        }
        // What could not be done for want of space is tried again.
        self.make_durable().or_else(|_| self.journal.check())
    }

    pub(crate) fn doom(&self, doomed: Doomed) {
        let (next, _) = self.journal.frontier();
        self.contents.doom(next, doomed);
        self.contents.bury(self.journal.durable());
    }
}
