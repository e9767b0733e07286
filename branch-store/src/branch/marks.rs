//! Marks: trees of a branch noted under names, to go back to. A mark is a pointer to a persistent tree; the branch
//! writes in a fresh layer from there on, so the bytes stay, too (I-4).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::branch::{Branch, Data, Shared};
use crate::ids::LayerId;
use crate::node::Time;
use crate::tree::Tree;

/// The mark that a restore leaves where something would be lost otherwise. Nobody else makes one of this name.
pub const BEFORE_RESTORE: &str = "before-restore";
/// The mark that a branch with changes has while its processes have a native view: what they began with. Nobody else
/// makes one of this name.
pub(crate) const BEFORE_NATIVE: &str = "before-native-view";

/// A noted tree.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) name: String,
    pub(crate) time: Time,
    pub(crate) tree: Tree,
}

/// The marks of a branch, in the order they were made. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Marks(Arc<Vec<Arc<Mark>>>);

impl Marks {
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Mark>> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Mark>> {
        self.0.iter().find(|mark| mark.name == name)
    }

    /// Adds the newest one. One of this name that there was is gone.
    pub(crate) fn add(&mut self, mark: Mark) {
        self.remove(&mark.name);
        Arc::make_mut(&mut self.0).push(Arc::new(mark));
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Arc<Mark>> {
        let at = self.0.iter().position(|mark| mark.name == name)?;
        Some(Arc::make_mut(&mut self.0).remove(at))
    }

    /// A name for one that was given none: one more than the greatest number that is the name of another.
    pub(crate) fn next_name(&self) -> String {
        let numbers = self.0.iter().filter_map(|mark| mark.name.parse::<u64>().ok());
        numbers.max().unwrap_or(0).saturating_add(1).to_string()
    }
}

impl Data {
    /// The effect of a mark record, live and in recovery: the tree is noted, and the branch writes in a fresh layer.
    pub(crate) fn mark(&mut self, shared: &Shared, name: &str, time: Time, layer: LayerId) {
        let tree = self.tree.clone();
        self.marks.add(Mark { name: name.to_owned(), time, tree });
        self.layer = layer;
        self.layers.push(layer);
        shared.counters.note_layer(layer);
    }

    /// The effect of its removal.
    pub(crate) fn unmark(&mut self, branch: &Branch, name: &str) {
        if self.marks.remove(name).is_some() {
            branch.littered.store(true, Ordering::Release);
        }
    }
}

/// A mark, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkInfo {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub time: Time,
}

impl Branch {
    /// Its marks, oldest first.
    pub fn marks(&self) -> Vec<MarkInfo> {
        let marks = self.data.read().marks.clone();
        marks.iter().map(|mark| MarkInfo { name: mark.name.clone(), time: mark.time }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_without_a_name_gets_the_next_number() {
        let mut marks = Marks::default();
        let add = |marks: &mut Marks, name: &str| {
            marks.add(Mark { name: name.to_owned(), time: Time::default(), tree: Tree::default() });
            marks.next_name()
        };
        assert_eq!(add(&mut marks, "a"), "1");
        assert_eq!(add(&mut marks, "1"), "2");
        assert_eq!(add(&mut marks, "7"), "8");
        assert_eq!(
            add(&mut marks, "99999999999999999999"),
            "8",
            "what is no number of ours is a name like others"
        );
        assert_eq!(
            add(&mut marks, "18446744073709551615"),
            "18446744073709551615",
            "taken: the caller hears so"
        );
        marks.remove("18446744073709551615");
        marks.remove("7");
        assert_eq!(marks.next_name(), "2");
    }
}
