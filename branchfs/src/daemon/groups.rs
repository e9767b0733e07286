//! The process groups attached to branches: kept by pidfd, killed when their branch ends, dropped when they
//! end by themselves.
//!
//! Attaching and ending a branch race: attaching first adds the group, then looks whether the branch lives;
//! ending first makes the branch dead, then looks for its groups. So one of the two sees the other.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use branch_proto::{Event, OnEnd};
use branch_store::BranchId;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use super::events::Events;
use super::pidfds;
use super::survivors::{Identity, Survivor, Survivors};
use super::wake::Wake;

/// Key of the wake-up in the epoll set; groups count from 1.
const WAKE_KEY: u64 = 0;
/// Ended groups taken from one epoll_wait(2).
const BATCH: usize = 64;

/// What is watched in the name of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A process group that runs in it.
    Attached,
    /// The process that has made it and is to attach a group: no part of the branch, and never killed. It is dropped
    /// when a group is attached, or the branch ends.
    Maker,
}

/// A group to be attached, or the maker of a branch.
pub(super) struct Newcomer {
    pub(super) role: Role,
    pub(super) branch: BranchId,
    pub(super) name: String,
    pub(super) identity: Identity,
    pub(super) pidfd: OwnedFd,
    pub(super) on_end: OnEnd,
}

/// One attached group, or the maker of a branch.
pub(super) struct Group {
    pub(super) role: Role,
    /// Ascending in the order of attachment.
    pub(super) key: u64,
    /// Seconds since the epoch of its attachment.
    pub(super) since: i64,
    pub(super) branch: BranchId,
    pub(super) name: String,
    /// Its init, or the maker, in our pid namespace.
    pub(super) identity: Identity,
    pub(super) pidfd: OwnedFd,
    pub(super) on_end: OnEnd,
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// All attached groups. `table` is a leaf lock: nothing is locked under it; the list of survivors is
/// written under it, so that the newest table is the last one written.
pub(super) struct Groups {
    table: Mutex<Table>,
    survivors: Survivors,
    epoll: OwnedFd,
    wake: Wake,
}

#[derive(Default)]
struct Table {
    last: u64,
    groups: HashMap<u64, Arc<Group>>,
    watching: Watching,
}

#[derive(Default, PartialEq, Eq)]
enum Watching {
    #[default]
    On,
    Off,
}

impl Table {
    /// Without the makers.
    fn attached(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values().filter(|group| group.role == Role::Attached)
    }
}

/// Groups that have been sent SIGKILL.
#[must_use = "they may be still alive"]
pub(super) struct Dying(Vec<Arc<Group>>);

impl Groups {
    pub(super) fn new(store: &Path) -> io::Result<Groups> {
        let (epoll, wake) = (epoll::create(epoll::CreateFlags::CLOEXEC)?, Wake::new()?);
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE_KEY), epoll::EventFlags::IN)?;
        Ok(Groups { table: Mutex::default(), survivors: Survivors::new(store)?, epoll, wake })
    }

    /// What an earlier daemon left behind is seen to.
    pub(super) fn survivors_settled(&self) -> io::Result<()> {
        self.survivors.settled()
    }

    /// Adds a group and watches it from now on, also if it has ended already. Who has made its branch is not waited for
    /// any more.
    pub(super) fn add(&self, newcomer: Newcomer) -> io::Result<Arc<Group>> {
        let Newcomer { role, branch, name, identity, pidfd, on_end } = newcomer;
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
        let mut table = self.table.lock();
        table.last += 1;
        let key = table.last;
        let group = Arc::new(Group { key, role, since, branch, name, identity, pidfd, on_end });
        epoll::add(&self.epoll, &*group, epoll::EventData::new_u64(key), epoll::EventFlags::IN)?;
        if role == Role::Attached {
            self.drop_makers(&mut table, &[branch]);
        }
        table.groups.insert(key, group.clone());
        self.write(&table);
        Ok(group)
    }

    /// Branches that have ended need nobody who ends them.
    pub(super) fn forget_makers(&self, branches: &[BranchId]) {
        let mut table = self.table.lock();
        if self.drop_makers(&mut table, branches) > 0 {
            self.write(&table);
        }
    }

    /// How many they were.
    fn drop_makers(&self, table: &mut Table, branches: &[BranchId]) -> usize {
        let of_branches = |group: &Group| group.role == Role::Maker && branches.contains(&group.branch);
        let makers: Vec<_> = table.groups.extract_if(|_, group| of_branches(group)).collect();
        for (_, maker) in &makers {
            self.unwatch(maker);
        }
        makers.len()
    }

    /// Others may still hold the pidfd, so closing it is not enough to take it out of the set.
    fn unwatch(&self, group: &Group) {
        if let Err(errno) = epoll::delete(&self.epoll, group) {
            tracing::error!(%errno, pid = group.identity.pid, "epoll_ctl: a process that is not watched any more");
        }
    }

    /// Live groups of a branch.
    pub(super) fn count(&self, branch: BranchId) -> u32 {
        let of_branch = self.table.lock().attached().filter(|group| group.branch == branch).count();
        u32::try_from(of_branch).unwrap_or(u32::MAX)
    }

    /// The groups of the branches.
    pub(super) fn of(&self, branches: &[BranchId]) -> Vec<Arc<Group>> {
        self.table.lock().attached().filter(|group| branches.contains(&group.branch)).cloned().collect()
    }

    /// Every group there is.
    pub(super) fn all(&self) -> Vec<Arc<Group>> {
        self.table.lock().attached().cloned().collect()
    }

    fn watched(&self) -> Vec<Arc<Group>> {
        self.table.lock().groups.values().cloned().collect()
    }

    /// Those that have ended, are not dropped yet, and whose branches are to go with them; makers, too.
    pub(super) fn ended_with_branch(&self) -> io::Result<Vec<Arc<Group>>> {
        let mut groups: Vec<_> =
            self.watched().into_iter().filter(|group| group.on_end != OnEnd::Keep).collect();
        let mut watched: Vec<_> = groups.iter().map(|group| PollFd::new(group, PollFlags::IN)).collect();
        if watched.is_empty() {
            return Ok(Vec::new());
        }
        rustix::io::retry_on_intr(|| poll(&mut watched, Some(&Timespec::default())))?;
        let ended: Vec<bool> = watched.iter().map(|one| !one.revents().is_empty()).collect();
        let mut ended = ended.into_iter();
        groups.retain(|_| ended.next() == Some(true));
        Ok(groups)
    }

    /// The watcher's thread: has `conclude` see to groups that ended, drops them and tells subscribers, until
    /// [`Groups::stop_watching`].
    pub(super) fn watch(&self, events: &Events, conclude: impl Fn(&Group)) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.table.lock().watching == Watching::On {
            batch.clear();
            let waited = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut batch), None);
            match waited {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return tracing::error!(%errno, "epoll_wait: process groups are not watched"),
            }
            self.wake.clear();
            for event in &batch {
                self.ended(event.data.u64(), events, &conclude);
            }
        }
    }

    /// Ends [`Groups::watch`].
    pub(super) fn stop_watching(&self) {
        self.table.lock().watching = Watching::Off;
        self.wake.notify();
    }

    fn ended(&self, key: u64, events: &Events, conclude: &impl Fn(&Group)) {
        let Some(group) = self.table.lock().groups.get(&key).cloned() else { return };
        // While it is in the table: nobody overlooks it who has to know that it is over.
        conclude(&group);
        let group = {
            let mut table = self.table.lock();
            let Some(group) = table.groups.remove(&key) else { return };
            self.write(&table);
            group
        };
        self.unwatch(&group);
        if group.role == Role::Attached {
            events.publish(&Event::GroupGone { branch: group.name.clone(), pid: group.identity.pid });
        }
    }

    /// A list that cannot be written costs only the clean-up after a kill of this daemon.
    fn write(&self, table: &Table) {
        let takes = |group: &Group| (group.on_end == OnEnd::Abort).then_some(group.branch);
        let groups = table.groups.values();
        let identity = |group: &Group| (group.role == Role::Attached).then_some(group.identity);
        let groups = groups.map(|group| Survivor { identity: identity(group), takes: takes(group) });
        if let Err(error) = self.survivors.write(groups) {
            tracing::warn!(%error, "cannot write down the process groups");
        }
    }
}

/// Sends SIGKILL to all; [`Dying::wait`] waits until nothing of them is left.
pub(super) fn kill(groups: Vec<Arc<Group>>) -> Dying {
    for group in &groups {
        tracing::info!(branch = group.name, pid = group.identity.pid, "killing its process group");
        if let Err(error) = pidfds::kill(group.as_fd()) {
            tracing::error!(%error, pid = group.identity.pid, "cannot kill a process group");
        }
    }
    Dying(groups)
}

impl Dying {
    pub(super) fn wait(self) -> io::Result<()> {
        pidfds::wait_gone(&self.0)
    }

    /// For groups that wait for our answer themselves: the watcher sees them go.
    pub(super) fn do_not_wait(self) {}
}
