//! The inode table: what the kernel holds a lookup count on.
//!
//! An object has one number, and a second once the first is retired (see [`super::passing`]). Both are in one shard.
//!
//! Lock order: a shard's lock is a leaf; nothing is called while it is held.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::ino;

const SHARDS: usize = 64;
/// Entries a shard has room for anyway.
const SHRINK_FROM: usize = 32;
const _: () = assert!(SHARDS.is_power_of_two());

/// Inode number → `T`, counted as the kernel counts lookups. An entry goes when the kernel has forgotten it,
/// so the table is as large as the kernel's own cache, not as the tree.
pub(crate) struct Inodes<T> {
    shards: [Mutex<Shard<T>>; SHARDS],
    len: AtomicUsize,
}

struct Shard<T> {
    known: HashMap<u64, Inode<T>>,
    /// First numbers whose objects are known by the second: the first is retired, or the kernel still has the second.
    /// None, as a rule.
    by_second: HashSet<u64>,
}

struct Inode<T> {
    what: T,
    lookups: u64,
    link: Link,
    life: Life,
    standing: Standing,
    /// Lives before this one.
    lives: u32,
}

/// What the kernel thinks of it: a directory that it removed itself stays removed to it, whatever we say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Alive,
    Removed,
}

/// Whether it may be opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Current,
    /// Whoever has it open goes on with the bytes of before; nobody else gets it.
    Retired,
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

/// A lookup that was counted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counted<T> {
    /// The number it was counted for.
    pub(crate) ino: u64,
    /// Lives the object had before this one; to the kernel each is an object of its own.
    pub(crate) lives: u32,
    /// What the word on it was until now.
    pub(crate) before: Option<T>,
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
        let shard = || Shard { known: HashMap::new(), by_second: HashSet::new() };
        Inodes { shards: std::array::from_fn(|_| Mutex::new(shard())), len: AtomicUsize::new(0) }
    }

    /// Counts one lookup, for the number that the object is known by now, and keeps `what` as the latest word on it.
    pub(crate) fn remember(&self, first: u64, what: T) -> Counted<T> {
        let mut shard = self.shard(first).lock();
        let counted = if shard.by_second.contains(&first) {
            shard.remember_second(first, what)
        } else {
            shard.count(first, what, |what| Inode::new(what, Link::Named, Life::Alive))
        };
        self.len.fetch_add(usize::from(counted.before.is_none()), Ordering::Relaxed);
        counted
    }

    /// How many numbers the kernel knows.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether the kernel may still ask for the object.
    pub(crate) fn contains(&self, first: u64) -> bool {
        self.shard(first).lock().numbers(first).next().is_some()
    }

    /// The numbers by which the kernel knows the object.
    pub(crate) fn of(&self, first: u64) -> Vec<u64> {
        self.shard(first).lock().numbers(first).collect()
    }

    /// Whether the object is looked up by its second number.
    pub(crate) fn is_by_second(&self, first: u64) -> bool {
        self.shard(first).lock().by_second.contains(&first)
    }

    /// From now on the object is looked up by its second number.
    pub(crate) fn retire(&self, first: u64) {
        let mut shard = self.shard(first).lock();
        if let Some(inode) = shard.known.get_mut(&first) {
            inode.standing = Standing::Retired;
            shard.by_second.insert(first);
        }
    }

    /// Whether the number is retired.
    pub(crate) fn is_retired(&self, ino: u64) -> bool {
        let shard = self.shard(ino).lock();
        shard.by_second.contains(&ino)
            && shard.known.get(&ino).is_some_and(|inode| inode.standing == Standing::Retired)
    }

    /// Notes that the kernel itself removed its last name.
    pub(crate) fn removed(&self, first: u64) {
        self.shard(first).lock().each(first, |inode| inode.life = Life::Removed);
    }

    /// Notes that it has a name again.
    pub(crate) fn revive(&self, first: u64) {
        self.shard(first).lock().each(first, |inode| {
            inode.lives = inode.lives.wrapping_add(u32::from(inode.life == Life::Removed));
            (inode.link, inode.life) = (Link::Named, Life::Alive);
        });
    }

    /// What the number names, if the kernel may still ask for it.
    pub(crate) fn get(&self, ino: u64) -> Option<T> {
        self.shard(ino).lock().known.get(&ino).map(|inode| inode.what.clone())
    }

    /// Takes lookups back. The last one removes the entry and returns it; an orphan's, if it was the last of both.
    pub(crate) fn forget(&self, ino: u64, lookups: u64) -> Option<Forgotten<T>> {
        let mut shard = self.shard(ino).lock();
        let Entry::Occupied(mut known) = shard.known.entry(ino) else { return None };
        let inode = known.get_mut();
        inode.lookups = inode.lookups.saturating_sub(lookups);
        if inode.lookups > 0 {
            return None;
        }
        let gone = known.remove();
        self.len.fetch_sub(1, Ordering::Relaxed);
        // A table that was large once keeps its room otherwise.
        if shard.known.capacity() > SHRINK_FROM && shard.known.len() < shard.known.capacity() / 8 {
            shard.known.shrink_to_fit();
        }
        let last = !shard.by_second.contains(&ino::first(ino)) || shard.without(ino::first(ino));
        Some(Forgotten { what: gone.what, is_orphan: gone.link == Link::Orphan && last })
    }

    /// Notes that the object lost its last name.
    pub(crate) fn orphan(&self, first: u64) -> Held {
        let mut held = Held::ByNobody;
        self.shard(first).lock().each(first, |inode| {
            inode.link = Link::Orphan;
            held = Held::ByKernel;
        });
        held
    }

    /// Every number for which `want` holds.
    pub(crate) fn numbers(&self, want: impl Fn(u64) -> bool) -> Vec<u64> {
        let mut found = Vec::new();
        for shard in &self.shards {
            found.extend(shard.lock().known.keys().copied().filter(|ino| want(*ino)));
        }
        found
    }

    /// Empties the table at unmount, when no more forgets come, and returns the orphans; of what has two numbers, both.
    pub(crate) fn clear(&self) -> Vec<T> {
        let all = self.shards.iter().flat_map(|shard| {
            let mut shard = shard.lock();
            shard.by_second.clear();
            self.len.fetch_sub(shard.known.len(), Ordering::Relaxed);
            std::mem::take(&mut shard.known).into_values()
        });
        all.filter(|inode| inode.link == Link::Orphan).map(|inode| inode.what).collect()
    }

    fn shard(&self, ino: u64) -> &Mutex<Shard<T>> {
        &self.shards[(ino ^ ino >> 32) as usize % SHARDS]
    }
}

impl<T> Inode<T> {
    fn new(what: T, link: Link, life: Life) -> Inode<T> {
        Inode { what, lookups: 1, link, life, standing: Standing::Current, lives: 0 }
    }
}

impl<T> Shard<T> {
    fn count(&mut self, ino: u64, what: T, new: impl FnOnce(T) -> Inode<T>) -> Counted<T> {
        match self.known.entry(ino) {
            Entry::Occupied(mut known) => {
                let inode = known.get_mut();
                inode.lookups += 1;
                let before = Some(std::mem::replace(&mut inode.what, what));
                Counted { ino, lives: inode.lives, before }
            }
            Entry::Vacant(place) => {
                let lives = place.insert(new(what)).lives;
                Counted { ino, lives, before: None }
            }
        }
    }

    /// What the first number went through its object went through.
    fn remember_second(&mut self, first: u64, what: T) -> Counted<T> {
        let (link, life, lives) = match self.known.get(&first) {
            Some(inode) => (inode.link, inode.life, inode.lives),
            None => (Link::Named, Life::Alive, 0),
        };
        self.count(ino::second(first), what, |what| Inode { lives, ..Inode::new(what, link, life) })
    }

    fn numbers(&self, first: u64) -> impl Iterator<Item = u64> {
        let second = self.by_second.contains(&first).then_some(ino::second(first));
        [Some(first), second].into_iter().flatten().filter(|ino| self.known.contains_key(ino))
    }

    fn each(&mut self, first: u64, mut change: impl FnMut(&mut Inode<T>)) {
        if self.by_second.contains(&first)
            && let Some(inode) = self.known.get_mut(&ino::second(first))
        {
            change(inode);
        }
        if let Some(inode) = self.known.get_mut(&first) {
            change(inode);
        }
    }

    /// One of the two numbers of an object was forgotten: whether the other one is, too. Then the object is known by its
    /// first again.
    fn without(&mut self, first: u64) -> bool {
        let neither = self.numbers(first).next().is_none();
        if neither {
            self.by_second.remove(&first);
        }
        neither
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
        assert!(inodes.numbers(|_| true).is_empty() && inodes.len() == 0, "memory shrinks");
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
        let counted = |lives, before| Counted { ino: 5, lives, before };
        assert_eq!(inodes.remember(5, "x"), counted(0, None));
        assert_eq!(inodes.orphan(5), Held::ByKernel);
        inodes.revive(5);
        assert_eq!(inodes.remember(5, "x"), counted(0, Some("x")), "to the kernel it never went");
        inodes.removed(5);
        assert_eq!(inodes.orphan(5), Held::ByKernel);
        inodes.revive(5);
        assert_eq!(inodes.remember(5, "x"), counted(1, Some("x")));
        assert_eq!(inodes.forget(5, 3), Some(named("x")), "it has a name: nothing to reap");
        inodes.revive(5);
        assert!(!inodes.contains(5));
        assert_eq!(inodes.remember(5, "x"), counted(0, None), "nobody remembers its earlier lives");
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
        assert_eq!((inodes.len(), inodes.clear()), (2, vec!["orphan"]));
        assert_eq!((inodes.len(), inodes.get(5)), (0, None));
    }
    #[test]
    fn a_retired_number_is_known_and_its_object_looked_up_by_the_second() {
        let (inodes, second) = (Inodes::new(), ino::second(5));
        assert_eq!(inodes.remember(5, "x").ino, 5);
        inodes.retire(5);
        assert!(inodes.is_retired(5) && !inodes.is_retired(second));
        assert_eq!(inodes.of(5), [5]);
        assert_eq!(inodes.remember(5, "y"), Counted { ino: second, lives: 0, before: None });
        assert_eq!((inodes.get(5), inodes.get(second)), (Some("x"), Some("y")));
        assert_eq!(inodes.of(5), [5, second]);
        assert_eq!(inodes.forget(5, 1), Some(named("x")));
        assert_eq!(inodes.remember(5, "z").ino, second, "while the kernel has that, it is the one");
        assert_eq!(inodes.forget(second, 2), Some(named("z")));
        assert!(!inodes.contains(5) && !inodes.is_retired(5));
        assert_eq!(inodes.remember(5, "x").ino, 5, "all is forgotten");
        inodes.retire(6);
        assert_eq!(inodes.remember(6, "x").ino, 6, "what is not known cannot be retired");
    }

    #[test]
    fn a_retired_number_stays_retired_when_the_second_is_forgotten() {
        let (inodes, second) = (Inodes::new(), ino::second(5));
        inodes.remember(5, "x");
        inodes.retire(5);
        inodes.remember(5, "x");
        assert_eq!(inodes.forget(second, 1), Some(named("x")));
        assert_eq!(inodes.remember(5, "x").ino, second);
    }

    #[test]
    fn an_orphan_of_two_numbers_is_handed_over_with_the_last_of_them() {
        for order in [[5, ino::second(5)], [ino::second(5), 5]] {
            let inodes = Inodes::new();
            inodes.remember(5, "x");
            inodes.retire(5);
            inodes.remember(5, "x");
            inodes.removed(5);
            assert_eq!(inodes.orphan(5), Held::ByKernel);
            assert_eq!(inodes.forget(order[0], 1), Some(named("x")));
            assert_eq!(inodes.forget(order[1], 1), Some(orphan("x")));
        }
        let inodes = Inodes::new();
        inodes.remember(5, "x");
        inodes.retire(5);
        assert_eq!(inodes.orphan(5), Held::ByKernel);
        inodes.remember(5, "late");
        assert_eq!(inodes.forget(5, 1), Some(named("x")));
        assert_eq!(inodes.forget(ino::second(5), 1), Some(orphan("late")), "a late lookup revives nothing");
    }
}
