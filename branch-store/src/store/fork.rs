//! Fork: n branches off one parent, all or none, in time that depends on n alone (S1).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::branch::{AtFork, Birth, Branch, Data, Marks, Shared};
use crate::error::{Error, Result};
use crate::ids::{
    BRANCH_ID_MAX, BRANCHES_MAX, BranchId, DEPTH_MAX, FORK_MAX, GroupId, GroupKind, Quota, check_branch_name,
};
use crate::journal::record::{Child, Fork, Record};
use crate::node::Time;
use crate::store::Store;

impl Store {
    /// Forks `names.len()` branches off `parent`.
    ///
    /// # Errors
    /// `BadBranchName`, `BranchExists`, `Limit` (64 names, depth, number of branches), `Ended`, `Busy`
    /// while the parent is being committed, and the host's. In every case nothing was made.
    pub fn fork(&self, parent: &Branch, names: &[String], kind: GroupKind) -> Result<Vec<Arc<Branch>>> {
        self.fork_limited(parent, names, kind, None)
    }

    /// Forks branches that may hold so much each; `None`: as much as the parent may.
    ///
    /// # Errors
    /// As [`Store::fork`].
    pub fn fork_limited(
        &self,
        parent: &Branch,
        names: &[String],
        kind: GroupKind,
        quota: Option<Quota>,
    ) -> Result<Vec<Arc<Branch>>> {
        let shared = &self.shared;
        // A fork of main waits for a commit into the base: half of one is nothing to fork from.
        let _writeback = parent.is_main().then(|| shared.writeback.lock());
        let _decide = shared.decide.lock();
        let _gate = shared.gate.read();
        check(shared, parent, names)?;
        let mut data = parent.data.write();
        parent.check_unsealed()?;
        let quota = quota.unwrap_or(data.quota);
        let fork = plan(shared, parent, names, kind, quota);
        shared.journal.append(&Record::Fork(fork.clone()))?;
        Ok(apply(shared, parent, &mut data, &fork))
    }
}

fn check(shared: &Shared, parent: &Branch, names: &[String]) -> Result<()> {
    if names.is_empty() || names.len() > FORK_MAX {
        return Err(Error::Limit { what: "branches in one fork (at least 1)", max: FORK_MAX as u64 });
    }
    if parent.birth.depth >= DEPTH_MAX {
        return Err(Error::Limit { what: "nesting depth", max: u64::from(DEPTH_MAX) });
    }
    let registry = shared.registry.read();
    if registry.len() + names.len() > BRANCHES_MAX {
        return Err(Error::Limit { what: "live branches", max: BRANCHES_MAX as u64 });
    }
    let made = shared.counters.branch.load(Ordering::Relaxed) as usize;
    if made + names.len() > BRANCH_ID_MAX as usize {
        return Err(Error::Limit { what: "branches made in one store", max: u64::from(BRANCH_ID_MAX) });
    }
    let mut seen = HashSet::new();
    for name in names {
        check_branch_name(name).map_err(|reason| Error::BadBranchName { name: name.clone(), reason })?;
        if registry.by_name(name).is_some() || !seen.insert(name) {
            return Err(Error::BranchExists(name.clone()));
        }
    }
    Ok(())
}

fn plan(shared: &Shared, parent: &Branch, names: &[String], kind: GroupKind, quota: Quota) -> Fork {
    let counters = &shared.counters;
    let children = names.iter().map(|name| Child {
        id: BranchId(counters.branch.fetch_add(1, Ordering::Relaxed)),
        name: name.clone(),
        layer: counters.new_layer(),
    });
    Fork {
        parent: parent.id(),
        parent_layer: counters.new_layer(),
        group: GroupId(counters.group.fetch_add(1, Ordering::Relaxed)),
        kind,
        time: Time::now(),
        quota,
        children: children.collect(),
    }
}

/// The effect of a fork record, live and in recovery.
pub(super) fn apply(shared: &Arc<Shared>, parent: &Branch, data: &mut Data, fork: &Fork) -> Vec<Arc<Branch>> {
    if !parent.is_main() {
        data.layer = fork.parent_layer;
        data.layers.push(fork.parent_layer);
    }
    shared.counters.note_layer(fork.parent_layer);
    shared.counters.group.fetch_max(fork.group.0 + 1, Ordering::Relaxed);
    if fork.kind == GroupKind::Frozen {
        parent.frozen.fetch_add(fork.children.len() as u32, Ordering::AcqRel);
    }
    // One for all: they begin alike.
    let at_fork = AtFork::default();
    let born = |child| born(shared, parent, (data, &at_fork), fork, child);
    let branches: Vec<_> = fork.children.iter().map(born).collect();
    let mut registry = shared.registry.write();
    for branch in &branches {
        registry.insert(branch.clone());
    }
    branches
}

fn born(
    shared: &Arc<Shared>,
    parent: &Branch,
    (data, at_fork): (&Data, &AtFork),
    fork: &Fork,
    child: &Child,
) -> Arc<Branch> {
    shared.counters.note_layer(child.layer);
    shared.counters.branch.fetch_max(child.id.0 + 1, Ordering::Relaxed);
    let birth = Birth {
        id: child.id,
        name: child.name.clone(),
        parent: Some(parent.id()),
        group: Some((fork.group, fork.kind)),
        created: fork.time,
        depth: parent.birth.depth + 1,
    };
    let data = Data {
        tree: data.tree.clone(),
        fork_tree: data.tree.clone(),
        at_fork: at_fork.clone(),
        epoch: data.epoch,
        layer: child.layer,
        layers: vec![child.layer],
        marks: Marks::default(),
        restored: None,
        quota: fork.quota,
    };
    Branch::new(shared.clone(), birth, data)
}
