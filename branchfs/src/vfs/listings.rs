//! Listings of directories, without handles: an offset says by itself where to go on.
//!
//! The offset after a name is a hash of the name, and names are listed in the order of these. So a reader that goes
//! on in another listing of a changed directory still sees each name that was there throughout exactly once, as in
//! the hashed directories of ext4. Two names with one hash (of 62 bits, keyed anew for each mount) could lose one of
//! them for a reader whose buffer ends between the two.
//!
//! A listing is kept for a while, as readers come back for its next part: `rm -r` of a large directory would
//! otherwise list it again for every hundred names that it removes. It goes when a reader has come to its end, or the
//! kernel has forgotten the directory.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use branch_store::{BranchId, DirEntry};
use lru::LruCache;
use parking_lot::Mutex;

/// Listings kept at most.
const KEPT_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Entries of all kept listings together, but for the latest, which may be larger alone.
const ENTRIES_MAX: usize = 1 << 17;
/// Offsets of the first entry (`.`), the second (`..`), and the first a name can have.
const OWN: u64 = 0;
const PARENT: u64 = 1;
const FIRST: u64 = 2;

/// One entry of a listing.
pub(crate) enum Child {
    /// In a branch.
    Object(DirEntry),
    /// In the mount root.
    Branch(BranchId, String),
}

impl Child {
    pub(crate) fn name(&self) -> &[u8] {
        match self {
            Child::Object(entry) => entry.name.as_bytes(),
            Child::Branch(_, name) => name.as_bytes(),
        }
    }
}

/// The entries of a directory at one moment, in the order of their offsets; `.` and `..` come before them.
pub(crate) struct Listing {
    entries: Vec<(u64, Child)>,
}

/// One step of a walk through a listing.
pub(crate) enum Step<'a> {
    /// `.`
    Own,
    /// `..`
    Parent,
    /// An entry.
    Entry(&'a Child),
}

impl Listing {
    /// Whether nothing comes from `offset` on.
    pub(crate) fn is_over(&self, offset: u64) -> bool {
        offset > PARENT && self.entries.last().is_none_or(|(at, _)| *at < offset)
    }

    /// The steps from `offset` on, each with the offset at which to go on after it.
    pub(crate) fn walk(&self, offset: u64) -> impl Iterator<Item = (u64, Step<'_>)> {
        let own = (offset == OWN).then_some((PARENT, Step::Own));
        let parent = (offset <= PARENT).then_some((FIRST, Step::Parent));
        let from = self.entries.partition_point(|(at, _)| *at < offset);
        let entries = self.entries[from..].iter().map(|(at, child)| (at + 1, Step::Entry(child)));
        own.into_iter().chain(parent).chain(entries)
    }
}

/// The listings that were made last, by the directory's inode number. Its lock is a leaf.
pub(crate) struct Listings {
    recent: Mutex<Recent>,
    /// How many there are, to be seen without the lock: mostly none, and most of what is forgotten is no directory.
    kept: AtomicUsize,
    key: RandomState,
}

struct Recent {
    by_ino: LruCache<u64, Arc<Listing>>,
    entries: usize,
}

impl Listings {
    pub(crate) fn new() -> Listings {
        let recent = Recent { by_ino: LruCache::new(KEPT_MAX), entries: 0 };
        Listings { recent: Mutex::new(recent), kept: AtomicUsize::new(0), key: RandomState::new() }
    }

    /// The listing a reader may go on with.
    pub(crate) fn recent(&self, ino: u64) -> Option<Arc<Listing>> {
        self.recent.lock().by_ino.get(&ino).cloned()
    }

    /// A new listing, which is the one to go on with from now on.
    pub(crate) fn keep(&self, ino: u64, children: Vec<Child>) -> Arc<Listing> {
        let mut entries: Vec<_> =
            children.into_iter().map(|child| (self.offset(child.name()), child)).collect();
        entries.sort_unstable_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.name().cmp(other.name())));
        let listing = Arc::new(Listing { entries });
        let mut recent = self.recent.lock();
        recent.put(ino, &listing);
        self.kept.store(recent.by_ino.len(), Ordering::Relaxed);
        drop(recent);
        listing
    }

    /// A reader has come to the end of the directory, or there will be none any more.
    pub(crate) fn forget(&self, ino: u64) {
        if self.kept.load(Ordering::Relaxed) > 0 {
            let mut recent = self.recent.lock();
            recent.remove(ino);
            self.kept.store(recent.by_ino.len(), Ordering::Relaxed);
        }
    }

    pub(crate) fn clear(&self) {
        let mut recent = self.recent.lock();
        recent.by_ino.clear();
        recent.entries = 0;
        self.kept.store(0, Ordering::Relaxed);
    }

    /// Positive as a file offset, and so is the one after it.
    fn offset(&self, name: &[u8]) -> u64 {
        FIRST + (self.key.hash_one(name) >> 2)
    }
}

impl Recent {
    fn put(&mut self, ino: u64, listing: &Arc<Listing>) {
        self.entries += listing.entries.len();
        if let Some((_, gone)) = self.by_ino.push(ino, Arc::clone(listing)) {
            self.entries -= gone.entries.len();
        }
        while self.entries > ENTRIES_MAX && self.by_ino.len() > 1 {
            let Some((_, gone)) = self.by_ino.pop_lru() else { break };
            self.entries -= gone.entries.len();
        }
    }

    fn remove(&mut self, ino: u64) {
        if let Some(gone) = self.by_ino.pop(&ino) {
            self.entries -= gone.entries.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branches(names: &[&str]) -> Vec<Child> {
        names.iter().map(|name| Child::Branch(BranchId(7), (*name).to_owned())).collect()
    }

    fn walked(listing: &Listing, offset: u64) -> Vec<(u64, Vec<u8>)> {
        let name = |step: Step<'_>| match step {
            Step::Own => b".".to_vec(),
            Step::Parent => b"..".to_vec(),
            Step::Entry(child) => child.name().to_vec(),
        };
        listing.walk(offset).map(|(next, step)| (next, name(step))).collect()
    }

    #[test]
    fn a_walk_resumes_at_any_offset_it_gave_out() {
        let listing = Listings::new().keep(1, branches(&["a", "b", "c"]));
        let all = walked(&listing, 0);
        assert_eq!(all.len(), 5);
        assert_eq!([&all[0].1[..], &all[1].1[..]], [b".", &b".."[..]]);
        for (n, (next, _)) in all.iter().enumerate() {
            assert_eq!(walked(&listing, *next), all[n + 1..]);
            assert!(i64::try_from(*next).is_ok(), "an offset fits into off_t");
        }
    }

    #[test]
    fn a_walk_goes_on_in_a_later_listing_where_it_was() {
        let listings = Listings::new();
        let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let before = walked(&listings.keep(1, branches(&names)), 0);
        let kept: Vec<&str> =
            names.iter().copied().filter(|name| !name.ends_with('3')).chain(["new"]).collect();
        let after = listings.keep(1, branches(&kept));
        for (n, (next, _)) in before.iter().enumerate() {
            let rest: Vec<_> = walked(&after, *next).into_iter().filter(|(_, name)| name != b"new").collect();
            let expected: Vec<_> =
                before[n + 1..].iter().filter(|(_, name)| !name.ends_with(b"3")).cloned().collect();
            assert_eq!(rest, expected);
        }
    }

    #[test]
    fn an_offset_from_nowhere_is_the_end() {
        let listing = Listings::new().keep(1, branches(&["a"]));
        assert!(walked(&listing, u64::MAX).is_empty());
        assert_eq!(walked(&Listings::new().keep(1, Vec::new()), 0).len(), 2, "the dots are always there");
    }

    #[test]
    fn what_is_kept_is_bounded_by_number_and_by_entries() {
        let listings = Listings::new();
        (0..200).for_each(|ino| drop(listings.keep(ino, branches(&["a"]))));
        assert!(listings.recent(0).is_none() && listings.recent(199).is_some());
        assert_eq!(listings.recent.lock().entries, KEPT_MAX.get());
        let many: Vec<String> = (0..ENTRIES_MAX + 1).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for _ in 0..2 {
            drop(listings.keep(7, branches(&many)));
            assert_eq!(listings.recent.lock().by_ino.len(), 1, "the latest stays, however large");
        }
        drop(listings.keep(8, branches(&["a"])));
        assert_eq!(listings.recent.lock().entries, 1);
        listings.forget(7);
        assert!(listings.recent(8).is_some(), "another directory's");
        listings.forget(8);
        assert!(listings.recent(8).is_none());
        assert_eq!(listings.recent.lock().entries, 0);
    }
}
