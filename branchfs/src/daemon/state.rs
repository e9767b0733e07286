//! What all threads of the daemon share.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use branch_proto::{BranchInfo, Event, Failure};
use branch_store::{Branch, Processes, Store};

use super::events::Events;
use super::failure::{of_io, of_store};
use super::groups::Groups;
use super::maintenance::Maintenance;
use super::native;
use super::stop::Stop;
use super::under_way::UnderWay;
use super::wire_types::branch_info;
use crate::fuse::Mounted;

pub(super) struct Daemon {
    pub(super) store: Arc<Store>,
    pub(super) mountpoint: PathBuf,
    /// Set once the views are mounted, before the first request is served.
    pub(super) mount: OnceLock<Mounted>,
    pub(super) groups: Groups,
    pub(super) events: Events,
    pub(super) under_way: UnderWay,
    pub(super) maintenance: Maintenance,
    pub(super) stop: Stop,
    /// User id of the store's owner.
    pub(super) owner: u32,
    /// What recovery did, in words.
    pub(super) recovery: Vec<String>,
}

impl Daemon {
    /// The live branch of this name. One that lost to a sibling is told apart from one that never was.
    pub(super) fn branch(&self, name: &str) -> Result<Arc<Branch>, Failure> {
        self.store.branch(name).map_err(of_store)
    }

    /// Brings dirty pages of memory maps into the store: a snapshot or a commit must hold what was written
    /// before it. Nothing can be dirty in main, which is read-only through the mount. So for what was written to a
    /// native view.
    pub(super) fn flush(&self, branch: &Branch) -> Result<(), Failure> {
        if let Some(mount) = self.mount.get().filter(|_| !branch.is_main()) {
            mount.flush_branch(branch.id()).map_err(|error| of_io("writing back mapped pages", &error))?;
        }
        native::take_in(self, branch, Processes::Run)
    }

    /// What a branch holds is what it holds when nobody has its files open, so far as nobody has.
    pub(super) fn info(&self, branch: &Branch) -> Result<BranchInfo, Failure> {
        if let Some(mount) = self.mount.get() {
            mount.let_go(branch.id());
        }
        branch_info(&self.store, &self.groups, &self.mountpoint, branch).map_err(of_store)
    }

    /// Closes what is open only because it was used a short while ago.
    pub(super) fn let_idle_go(&self) {
        if let Some(mount) = self.mount.get() {
            mount.let_idle_go();
        }
    }

    pub(super) fn publish(&self, event: Event) {
        tracing::debug!(?event, "published");
        self.events.publish(&event);
    }
}
