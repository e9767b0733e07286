//! The inode table: what the kernel holds a lookup count on.
//!
//! Lock order: a shard's lock is a leaf; nothing is called while it is held.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use parking_lot::Mutex;

const SHARDS: usize = 64;
/// Entries a shard has room for anyway.
const SHRINK_FROM: usize = 256;
const _: () = assert!(SHARDS.is_power_of_two());

/// Inode number → `T`, counted as the kernel counts lookups. An entry goes when the kernel has forgotten it,
/// so the table is as large as the kernel's own cache, not as the tree.
pub(crate) struct Inodes<T> {
    shards: [Mutex<HashMap<u64, Inode<T>>>; SHARDS],
}

struct Inode<T> {
    what: T,
    lookups: u64,
    link: Link,
    life: Life,
    /// Lives before this one.
    lives: u32,
}

/// What the kernel thinks of it: a directory that it removed itself stays removed to it, whatever we say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Alive,
    Removed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Named,
    Orphan,
}

/// Whether the kernel still holds an object that lost its last name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// It does; its last forget will say so.
    ByKernel,
    /// It does not.
    ByNobody,
}

/// What the kernel has forgotten.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forgotten<T> {
    pub(crate) what: T,
    /// Whether it had lost its last name.
    pub(crate) is_orphan: bool,
}

impl<T: Clone> Inodes<T> {
    pub(crate) fn new() -> Inodes<T> {
        Inodes { shards: std::array::from_fn(|_| Mutex::new(HashMap::new())) }
    }

    /// Counts one lookup and keeps `what` as the latest word on it. Says how many lives it had before this one, to
    /// the kernel each is an object of its own, and what the word was until now.
    pub(crate) fn remember(&self, ino: u64, what: T) -> (u32, Option<T>) {
        match self.shard(ino).lock().entry(ino) {
            Entry::Occupied(mut known) => {
                let inode = known.get_mut();
                inode.lookups += 1;
                (inode.lives, Some(std::mem::replace(&mut inode.what, what)))
            }
            Entry::Vacant(place) => {
                place.insert(Inode { what, lookups: 1, link: Link::Named, life: Life::Alive, lives: 0 });
                (0, None)
            }
        }
    }

    /// Whether the kernel may still ask for it.
    pub(crate) fn contains(&self, ino: u64) -> bool {
        self.shard(ino).lock().contains_key(&ino)
    }

    /// Notes that the kernel itself removed its last name.
    pub(crate) fn removed(&self, ino: u64) {
        if let Some(inode) = self.shard(ino).lock().get_mut(&ino) {
            inode.life = Life::Removed;
        }
    }

    /// Notes that it has a name again.
    pub(crate) fn revive(&self, ino: u64) {
        if let Some(inode) = self.shard(ino).lock().get_mut(&ino) {
            inode.lives = inode.lives.wrapping_add(u32::from(inode.life == Life::Removed));
            (inode.link, inode.life) = (Link::Named, Life::Alive);
        }
    }

    /// What the number names, if the kernel may still ask for it.
    pub(crate) fn get(&self, ino: u64) -> Option<T> {
        self.shard(ino).lock().get(&ino).map(|inode| inode.what.clone())
    }

    /// Takes lookups back. The last one removes the entry and returns it.
    pub(crate) fn forget(&self, ino: u64, lookups: u64) -> Option<Forgotten<T>> {
        let mut shard = self.shard(ino).lock();
        let Entry::Occupied(mut known) = shard.entry(ino) else { return None };
        let inode = known.get_mut();
        inode.lookups = inode.lookups.saturating_sub(lookups);
        if inode.lookups > 0 {
            return None;
        }
        let gone = known.remove();
        // A table that was large once keeps its room otherwise.
        if shard.capacity() > SHRINK_FROM && shard.len() < shard.capacity() / 8 {
            shard.shrink_to_fit();
        }
        Some(Forgotten { what: gone.what, is_orphan: gone.link == Link::Orphan })
    }

    /// Notes that the object lost its last name.
    pub(crate) fn orphan(&self, ino: u64) -> Held {
        match self.shard(ino).lock().get_mut(&ino) {
            Some(inode) => {
                inode.link = Link::Orphan;
                Held::ByKernel
            }
            None => Held::ByNobody,
        }
    }

    /// Every number for which `want` holds.
    pub(crate) fn numbers(&self, want: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut found = Vec::new();
        for shard in &self.shards {
            found.extend(shard.lock().keys().copied().filter(|ino| want(*ino)));
        }
        found
    }

    /// Empties the table at unmount, when no more forgets come, and returns the orphans.
    pub(crate) fn clear(&self) -> Vec<T> {
        let all = self.shards.iter().flat_map(|shard| std::mem::take(&mut *shard.lock()).into_values());
        all.filter(|inode| inode.link == Link::Orphan).map(|inode| inode.what).collect()
    }

    fn shard(&self, ino: u64) -> &Mutex<HashMap<u64, Inode<T>>> {
        &self.shards[(ino ^ ino >> 32) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(what: &str) -> Forgotten<&str> {
        Forgotten { what, is_orphan: false }
    }

    fn orphan(what: &str) -> Forgotten<&str> {
        Forgotten { what, is_orphan: true }
    }

    #[test]
    fn the_last_forget_removes_the_entry() {
        let inodes = Inodes::new();
        inodes.remember(5, "a");
        inodes.remember(5, "b");
        assert_eq!(inodes.get(5), Some("b"), "a lookup refreshes");
        assert_eq!(inodes.forget(5, 1), None);
        assert_eq!(inodes.get(5), Some("b"));
        assert_eq!(inodes.forget(5, 1), Some(named("b")));
        assert_eq!(inodes.get(5), None);
        assert!(inodes.numbers(|_| true).is_empty(), "memory shrinks");
    }

    #[test]
    fn an_orphan_is_handed_over_exactly_once() {
        let inodes = Inodes::new();
        inodes.remember(5, "x");
        inodes.remember(5, "x");
        assert_eq!(inodes.orphan(5), Held::ByKernel);
        assert_eq!(inodes.forget(5, 1), None);
        assert_eq!(inodes.forget(5, 1), Some(orphan("x")));
        assert_eq!(inodes.forget(5, 1), None);
        assert_eq!(inodes.orphan(5), Held::ByNobody);
    }

    #[test]
    fn what_the_kernel_removed_and_is_back_lives_anew() {
        let inodes = Inodes::new();
        assert_eq!(inodes.remember(5, "x"), (0, None));
        assert_eq!(inodes.orphan(5), Held::ByKernel);
        inodes.revive(5);
        assert_eq!(inodes.remember(5, "x"), (0, Some("x")), "to the kernel it never went");
        inodes.removed(5);
        assert_eq!(inodes.orphan(5), Held::ByKernel);
        inodes.revive(5);
        assert_eq!(inodes.remember(5, "x"), (1, Some("x")));
        assert_eq!(inodes.forget(5, 3), Some(named("x")), "it has a name: nothing to reap");
        inodes.revive(5);
        assert!(!inodes.contains(5));
        assert_eq!(inodes.remember(5, "x"), (0, None), "nobody remembers its earlier lives");
    }

    #[test]
    fn a_late_lookup_does_not_revive_an_orphan() {
        let inodes = Inodes::new();
        inodes.remember(5, "x");
        assert_eq!(inodes.orphan(5), Held::ByKernel);
        inodes.remember(5, "x");
        assert_eq!(inodes.forget(5, 2), Some(orphan("x")));
    }

    #[test]
    fn forgetting_too_much_or_the_unknown_is_harmless() {
        let inodes = Inodes::new();
        assert_eq!(inodes.forget(9, u64::MAX), None);
        inodes.remember(9, "x");
        assert_eq!(inodes.forget(9, u64::MAX), Some(named("x")));
        assert_eq!(inodes.get(9), None);
    }

    #[test]
    fn clearing_returns_the_orphans_only() {
        let inodes = Inodes::new();
        inodes.remember(5, "named");
        inodes.remember(6, "orphan");
        assert_eq!(inodes.orphan(6), Held::ByKernel);
        assert_eq!(inodes.clear(), ["orphan"]);
        assert_eq!(inodes.get(5), None);
    }
}
