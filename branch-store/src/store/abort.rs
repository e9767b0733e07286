//! The end of branches that do not commit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::branch::{Branch, State};
use crate::error::{Error, Result};
use crate::ids::{BranchId, LayerId};
use crate::journal::record::Record;
use crate::store::{GroupKind, Shared, Store};

/// What abort does with live branches below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Children {
    /// Refuse, naming them.
    Refuse,
    /// Abort them first.
    Cascade,
}

/// What an abort ended.
#[derive(Debug)]
pub struct Ended {
    /// The branches, leaves first.
    pub branches: Vec<Arc<Branch>>,
}

impl Store {
    /// Discards a branch; parent, siblings and base are untouched (S19).
    ///
    /// # Errors
    /// `HasChildren`, `Ended`, `Stale`, `Busy` while it is being committed, `NotAllowed` for main, and the
    /// host's.
    pub fn abort(&self, branch: &Branch, children: Children) -> Result<Ended> {
        let shared = &self.shared;
        if branch.is_main() {
            return Err(Error::NotAllowed("main is the base itself: it cannot be aborted"));
        }
        let _decide = shared.decide.lock();
        let _gate = shared.gate.read();
        if !branch.is_live() {
            return Err(branch.ended_error());
        }
        let ids = shared.registry.read().subtree(branch.id());
        if children == Children::Refuse {
            shared.refuse_children(branch)?;
        }
        let branches = shared.live(&ids);
        if let Some(sealed) = branches.iter().find(|b| b.state() == State::Sealed) {
            return Err(Error::Busy(sealed.name().to_owned()));
        }
        shared.journal.append(&Record::Abort { branches: ids })?;
        shared.end_all(&branches, State::Aborted);
        shared.discard_layers_of(&branches);
        Ok(Ended { branches })
    }
}

impl Shared {
    pub(crate) fn live(&self, ids: &[BranchId]) -> Vec<Arc<Branch>> {
        let registry = self.registry.read();
        ids.iter().filter_map(|id| registry.get(*id)).collect()
    }

    pub(crate) fn refuse_children(&self, branch: &Branch) -> Result<()> {
        let children = self.live(&branch.children());
        if children.is_empty() {
            return Ok(());
        }
        let children = children.iter().map(|child| child.name().to_owned()).collect();
        Err(Error::HasChildren { name: branch.name().to_owned(), children })
    }

    /// Ends branches, leaves first, live and in recovery.
    pub(crate) fn end_all(&self, branches: &[Arc<Branch>], state: State) {
        for branch in branches {
            branch.end(state);
            self.bury(branch);
        }
    }

    /// Takes an ended branch off the books.
    pub(crate) fn bury(&self, branch: &Branch) {
        debug_assert!(!branch.is_live());
        let parent = branch.parent().and_then(|id| self.registry.read().get(id));
        if let (Some(parent), Some((_, GroupKind::Frozen))) = (parent, branch.birth.group) {
            let before = parent.frozen.fetch_sub(1, Ordering::AcqRel);
            debug_assert!(before > 0, "every frozen sibling was counted at the fork");
        }
        self.registry.write().remove(branch);
    }

    /// Ended branches' content goes to the trash: one rename per layer. A failure leaves garbage that the
    /// next recovery finds; the end of the branch stands.
    pub(crate) fn discard_layers_of(&self, branches: &[Arc<Branch>]) {
        for branch in branches {
            let layers = branch.data.read().layers.clone();
            self.discard_layers(&layers);
        }
    }

    pub(crate) fn discard_layers(&self, layers: &[LayerId]) {
        for layer in layers {
            // Recovery sweeps what stays (`recovery::sweep_layers`), so a refusal costs space, not truth.
            self.contents.discard_layer(*layer).ok();
        }
    }
}
