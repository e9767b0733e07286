//! Who is alive: live branches by index, name, parent and group.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::branch::{Branch, State};
use crate::error::{Error, Result};
use crate::ids::{BranchId, GroupId};

/// Most names of stale branches remembered, the newest.
const STALE_MAX: usize = 4096;

#[derive(Default)]
pub(crate) struct Registry {
    by_id: BTreeMap<BranchId, Arc<Branch>>,
    by_name: HashMap<String, BranchId>,
    children: HashMap<BranchId, BTreeSet<BranchId>>,
    groups: HashMap<GroupId, BTreeSet<BranchId>>,
    stale: Stale,
}

/// Names of branches that became stale, so that a loser is told why its branch is gone (S12). Kept here, so
/// that a name passes from live to stale in one step, seen by no one in between. A checkpoint forgets them.
#[derive(Default)]
struct Stale {
    names: HashSet<String>,
    order: VecDeque<String>,
}

impl Registry {
    pub(crate) fn insert(&mut self, branch: Arc<Branch>) {
        let id = branch.id();
        let previous = self.by_name.insert(branch.name().to_owned(), id);
        debug_assert!(previous.is_none(), "names of live branches are unique (I-7)");
        self.stale.names.remove(branch.name());
        if let Some(parent) = branch.parent() {
            self.children.entry(parent).or_default().insert(id);
        }
        if let Some((group, _)) = branch.birth.group {
            self.groups.entry(group).or_default().insert(id);
        }
        self.by_id.insert(id, branch);
    }

    pub(crate) fn remove(&mut self, branch: &Branch) {
        let id = branch.id();
        debug_assert!(!self.children.contains_key(&id), "leaves end first (I-8)");
        self.by_id.remove(&id);
        self.by_name.remove(branch.name());
        if branch.state() == State::Stale {
            self.stale.remember(branch.name());
        }
        if let Some(parent) = branch.parent() {
            remove_member(&mut self.children, parent, id);
        }
        if let Some((group, _)) = branch.birth.group {
            remove_member(&mut self.groups, group, id);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Registry::default();
    }

    pub(crate) fn get(&self, id: BranchId) -> Option<Arc<Branch>> {
        self.by_id.get(&id).cloned()
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Branch>> {
        self.get(*self.by_name.get(name)?)
    }

    /// The live branch of this name.
    ///
    /// # Errors
    /// `Stale` for one that lost to a sibling, `NoSuchBranch`.
    pub(crate) fn named(&self, name: &str) -> Result<Arc<Branch>> {
        let absent = if self.stale.names.contains(name) { Error::Stale } else { Error::NoSuchBranch };
        self.by_name(name).ok_or_else(|| absent(name.to_owned()))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Parents before children: a child's index is always the greater one.
    pub(crate) fn all(&self) -> Vec<Arc<Branch>> {
        self.by_id.values().cloned().collect()
    }

    pub(crate) fn children_of(&self, id: BranchId) -> Vec<BranchId> {
        self.children.get(&id).map(|set| set.iter().copied().collect()).unwrap_or_default()
    }

    /// Live siblings of the same fork, without the branch itself.
    pub(crate) fn siblings_of(&self, branch: &Branch) -> Vec<BranchId> {
        let Some((group, _)) = branch.birth.group else { return Vec::new() };
        let members = self.groups.get(&group).into_iter().flatten();
        members.copied().filter(|id| *id != branch.id()).collect()
    }

    /// The branch and everything below it, leaves first.
    pub(crate) fn subtree(&self, id: BranchId) -> Vec<BranchId> {
        let mut order = vec![id];
        let mut at = 0;
        while at < order.len() {
            order.extend(self.children_of(order[at]));
            at += 1;
        }
        order.reverse();
        order
    }
}

impl Stale {
    fn remember(&mut self, name: &str) {
        self.names.insert(name.to_owned());
        self.order.push_back(name.to_owned());
        if self.order.len() > STALE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
    }
}

fn remove_member<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeSet<BranchId>>, key: K, id: BranchId) {
    if let std::collections::hash_map::Entry::Occupied(mut entry) = map.entry(key) {
        entry.get_mut().remove(&id);
        if entry.get().is_empty() {
            entry.remove();
        }
    }
}
