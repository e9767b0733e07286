//! A branch whose processes have a native view: a kernel overlayfs over the base, whose upper directory is taken into the
//! tree when they have ended, or somebody asks. Until then nobody else changes the branch.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::ids::{LayerId, NodeId};
use crate::node::Time;
use crate::tree::Tree;

/// Where overlayfs keeps what it has to remember of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverlayXattrs {
    /// `trusted.overlay.*`: mounted by root.
    Trusted,
    /// `user.overlay.*`: mounted in a user namespace (`userxattr`).
    User,
}

/// What is known of an upper directory.
#[derive(Debug)]
pub(crate) struct NativeView {
    /// When it was attached, by the clock of the host's filesystem: what was changed in the base after that was changed
    /// behind the view.
    pub(crate) since: Time,
    pub(crate) xattrs: OverlayXattrs,
    pub(crate) start: Start,
    /// The nodes of what was taken in so far, by inode number and birth time: an object stays the same one.
    pub(crate) known: HashMap<(u64, Time), Known>,
}

/// What a branch was when it got its native view. Its content is frozen.
#[derive(Debug, Clone)]
pub(crate) enum Start {
    /// As it was forked: the tree of the fork.
    Fork(Tree),
    /// Changed since: a mark has the tree ([`BEFORE_NATIVE`](crate::branch::BEFORE_NATIVE)).
    Mark(Tree),
}

impl Start {
    pub(crate) fn tree(&self) -> &Tree {
        match self {
            Start::Fork(tree) | Start::Mark(tree) => tree,
        }
    }
}

/// An object that was taken in before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) id: NodeId,
    /// The layer that its bytes were copied to, and its change time then.
    pub(crate) copied: Option<(LayerId, Time)>,
}

/// Whether there is such a view.
#[derive(Debug, Default)]
pub(crate) struct Attached {
    is: AtomicBool,
    /// Taken before the branch's data.
    view: Mutex<Option<NativeView>>,
}

impl Attached {
    pub(crate) fn is_so(&self) -> bool {
        self.is.load(Ordering::Acquire)
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, Option<NativeView>> {
        self.view.lock()
    }

    /// Under the data lock: no change is under way.
    pub(crate) fn set(&self, slot: &mut MutexGuard<'_, Option<NativeView>>, view: Option<NativeView>) {
        self.is.store(view.is_some(), Ordering::Release);
        **slot = view;
    }
}
