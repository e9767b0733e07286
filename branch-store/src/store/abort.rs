//! The end of branches that do not commit.

use std::sync::Arc;

use crate::branch::{Branch, State};
use crate::error::{Error, Result};

use crate::journal::record::Record;
use crate::store::Store;

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
        let held = shared.hold(&branches);
        shared.journal.append(&Record::Abort { branches: ids })?;
        shared.end_all(&branches, State::Aborted);
        drop(held);
        shared.discard_layers_of(&branches);
        Ok(Ended { branches })
    }
}
