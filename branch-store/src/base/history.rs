//! What commits displaced in the base, so that older snapshots stay true (S2).
//!
//! A branch sees the base as it was at its epoch: for each name and each object the first record made
//! after that epoch says what was there; without one the base still is what it was.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{CommitId, Name, NodeId};
use crate::node::{Fingerprint, HostKey, Meta, Slot, Time};

/// What a commit found under a name that it changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Was {
    /// Nothing.
    Absent,
    /// This object; the places table says where it is now.
    Object(HostKey),
}

/// What an object was before a commit changed it in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ObjectWas {
    /// Its birth: another object may have its number by now.
    pub birth: Time,
    /// Its attributes, `mtime` set.
    pub meta: Meta,
    /// Its size in bytes.
    pub size: u64,
    /// Its bytes, kept in the commit's preimage directory, if they changed.
    pub content: Option<Slot>,
}

/// One thing a commit displaced. Part of the decision record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Displaced {
    /// A name got another meaning.
    Entry {
        /// The name.
        slot: Slot,
        /// What it meant.
        was: Was,
    },
    /// An object changed in place.
    Object {
        /// The object.
        key: HostKey,
        /// What it was.
        was: ObjectWas,
    },
    /// A directory moved.
    Dir {
        /// The directory.
        id: NodeId,
        /// Where it was.
        slot: Slot,
    },
}

/// What commits displaced since an epoch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Since {
    pub(crate) names: Vec<Slot>,
    /// Objects, by number and birth.
    pub(crate) objects: HashSet<(HostKey, Time)>,
}

type Line<T> = Vec<(CommitId, T)>;

/// All displacements some live snapshot may still have to see.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    entries: HashMap<NodeId, BTreeMap<Name, Line<Was>>>,
    objects: HashMap<HostKey, Line<Arc<ObjectWas>>>,
    dirs: HashMap<NodeId, Line<Slot>>,
    /// The oldest commit after which the base can be seen as it was: displacements of all later ones are here.
    oldest: u64,
}

fn first_after<T>(line: &[(CommitId, T)], epoch: CommitId) -> Option<&(CommitId, T)> {
    debug_assert!(line.windows(2).all(|w| w[0].0 <= w[1].0), "displacements are recorded in commit order");
    line.iter().find(|(commit, _)| *commit > epoch)
}

impl History {
    pub(crate) fn oldest(&self) -> CommitId {
        CommitId(self.oldest)
    }

    /// Recovery: displacements of this commit and earlier ones are not here.
    pub(crate) fn note_forgotten(&mut self, upto: CommitId) {
        self.oldest = self.oldest.max(upto.0);
    }

    pub(crate) fn record(&mut self, commit: CommitId, displaced: &Displaced) {
        match displaced {
            Displaced::Entry { slot, was } => {
                let names = self.entries.entry(slot.dir).or_default();
                let line = names.entry(slot.name.clone()).or_default();
                // Within one commit the first displacement is what older snapshots saw.
                if line.last().is_none_or(|(last, _)| *last < commit) {
                    line.push((commit, was.clone()));
                }
            }
            Displaced::Object { key, was } => {
                let line = self.objects.entry(*key).or_default();
                if line.last().is_none_or(|(last, _)| *last < commit) {
                    line.push((commit, Arc::new(was.clone())));
                }
            }
            Displaced::Dir { id, slot } => self.dirs.entry(*id).or_default().push((commit, slot.clone())),
        }
    }

    pub(crate) fn entry(&self, slot: &Slot, epoch: CommitId) -> Option<Was> {
        let line = self.entries.get(&slot.dir)?.get(&slot.name)?;
        first_after(line, epoch).map(|(_, was)| was.clone())
    }

    /// Names of a directory that older snapshots see differently.
    pub(crate) fn entries_of(&self, dir: NodeId, epoch: CommitId) -> Vec<(Name, Was)> {
        let Some(names) = self.entries.get(&dir) else { return Vec::new() };
        names
            .iter()
            .filter_map(|(name, line)| first_after(line, epoch).map(|(_, was)| (name.clone(), was.clone())))
            .collect()
    }

    pub(crate) fn object(&self, print: &Fingerprint, epoch: CommitId) -> Option<Arc<ObjectWas>> {
        let line = self.objects.get(&print.key())?;
        let mut after = line
            .iter()
            .filter(|(commit, was)| *commit > epoch && was.birth == print.birth)
            .map(|(_, was)| was);
        let was = after.next()?;
        if was.content.is_some() {
            return Some(was.clone());
        }
        // Attributes changed first, the bytes maybe later: each by the first commit that changed it.
        Some(match after.find(|was| was.content.is_some()) {
            Some(later) => Arc::new(ObjectWas { content: later.content.clone(), ..(**was).clone() }),
            None => was.clone(),
        })
    }

    pub(crate) fn dir(&self, id: NodeId, epoch: CommitId) -> Option<Slot> {
        first_after(self.dirs.get(&id)?, epoch).map(|(_, slot)| slot.clone())
    }

    /// Names and objects that a snapshot at `epoch` and the base as it is now show differently.
    pub(crate) fn since(&self, epoch: CommitId) -> Since {
        fn is_since<T>(line: &[(CommitId, T)], epoch: CommitId) -> bool {
            line.last().is_some_and(|(commit, _)| *commit > epoch)
        }
        let names = self.entries.iter().flat_map(|(dir, names)| {
            let changed = names.iter().filter(|(_, line)| is_since(line, epoch));
            changed.map(|(name, _)| Slot { dir: *dir, name: name.clone() })
        });
        let objects = self.objects.iter().filter(|(_, line)| is_since(line, epoch));
        let births = objects.flat_map(|(key, line)| {
            line.iter().filter(|(commit, _)| *commit > epoch).map(|(_, was)| (*key, was.birth))
        });
        Since { names: names.collect(), objects: births.collect() }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.objects.is_empty() && self.dirs.is_empty()
    }

    /// Forgets what no snapshot at `oldest` or later can ask for.
    pub(crate) fn prune(&mut self, oldest: CommitId) {
        fn keep<T>(line: &mut Line<T>, oldest: CommitId) -> bool {
            line.retain(|(commit, _)| *commit > oldest);
            !line.is_empty()
        }
        self.note_forgotten(oldest);
        self.entries.retain(|_, names| {
            names.retain(|_, line| keep(line, oldest));
            !names.is_empty()
        });
        self.objects.retain(|_, line| keep(line, oldest));
        self.dirs.retain(|_, line| keep(line, oldest));
    }

    /// Everything, for the checkpoint, in commit order.
    pub(crate) fn all(&self) -> Vec<(CommitId, Displaced)> {
        let entries = self.entries.iter().flat_map(|(dir, names)| {
            names.iter().flat_map(|(name, line)| {
                let slot = Slot { dir: *dir, name: name.clone() };
                line.iter()
                    .map(move |(c, was)| (*c, Displaced::Entry { slot: slot.clone(), was: was.clone() }))
            })
        });
        let objects = self.objects.iter().flat_map(|(key, line)| {
            line.iter().map(|(c, was)| (*c, Displaced::Object { key: *key, was: (**was).clone() }))
        });
        let dirs = self.dirs.iter().flat_map(|(id, line)| {
            line.iter().map(|(c, slot)| (*c, Displaced::Dir { id: *id, slot: slot.clone() }))
        });
        let mut all: Vec<_> = entries.chain(objects).chain(dirs).collect();
        all.sort_by_key(|(commit, _)| *commit);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(name: &str) -> Slot {
        Slot { dir: NodeId::ROOT, name: Name::trusted(name.as_bytes()) }
    }

    #[test]
    fn a_snapshot_sees_the_first_displacement_after_its_epoch() {
        let mut history = History::default();
        let key = HostKey { dev: 1, ino: 7 };
        history.record(CommitId(2), &Displaced::Entry { slot: slot("f"), was: Was::Absent });
        history.record(CommitId(5), &Displaced::Entry { slot: slot("f"), was: Was::Object(key) });
        assert_eq!(history.entry(&slot("f"), CommitId(1)), Some(Was::Absent));
        assert_eq!(history.entry(&slot("f"), CommitId(2)), Some(Was::Object(key)));
        assert_eq!(history.entry(&slot("f"), CommitId(4)), Some(Was::Object(key)));
        assert_eq!(history.entry(&slot("f"), CommitId(5)), None);
        assert_eq!(history.entry(&slot("g"), CommitId(0)), None);
    }

    #[test]
    fn pruning_forgets_only_what_no_snapshot_can_ask_for() {
        let mut history = History::default();
        history.record(CommitId(2), &Displaced::Entry { slot: slot("f"), was: Was::Absent });
        history.record(CommitId(5), &Displaced::Dir { id: NodeId(9), slot: slot("d") });
        history.prune(CommitId(2));
        assert_eq!(history.entry(&slot("f"), CommitId(2)), None);
        assert_eq!(history.dir(NodeId(9), CommitId(4)), Some(slot("d")));
        history.prune(CommitId(5));
        assert!(history.is_empty());
    }
}
