//! Which directories will probably be asked about next, so that the kernel is told of their names in listings, which costs half
//! of what it costs name by name.
//!
//! Two names that were found in a directory: its listing is wanted. A program that goes into a second directory beside one where
//! that was so probably goes through all of them, in the order of their names (git does; so does everything that
//! sorts): those that follow are wanted, too, as deep as it went into the first ones; each time that it is met in one that was not
//! foreseen, twice as many. So the work is in proportion to what is asked for, and nothing is done when nobody asks.
//!
//! Only names that are believed for long count: others will be asked for again anyway.
//!
//! Lock order: both locks are leaves, and never held together.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use branch_store::NodeId;
use lru::LruCache;
use parking_lot::{Condvar, Mutex};

use super::{Known, Vfs, ino};

/// Names found in a directory before its listing is wanted.
const ENOUGH: u32 = 2;
/// Directories remembered.
const KNOWN_MAX: NonZeroUsize = NonZeroUsize::new(8192).unwrap();
/// Wishes that may wait; more are dropped.
const WAITING_MAX: usize = 64;
/// Directories wanted ahead of a program that goes through them, at first and at most.
const FOLLOWING_MIN: usize = 8;
const FOLLOWING_MAX: usize = 256;
/// Levels of directories below those.
const HEIGHT_MAX: u32 = 4;
/// Directories deeper than this are not expected.
const LEVELS_MAX: usize = 64;
/// After so long the kernel may have forgotten what it was told, but not the directory.
const AGAIN: Duration = Duration::from_secs(1);

const _: () = assert!(FOLLOWING_MIN <= FOLLOWING_MAX);

/// Where a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its inode number.
    pub dir: u64,
    /// Its path, from the mount root.
    pub path: PathBuf,
}

/// A directory's inode number and a name in it.
type Entry = (u64, Vec<u8>);

/// What is to be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The names of a directory from this offset on.
    Names(Route, Part),
    /// The directories in a directory that follow a name, and those below them.
    Following {
        /// The directory they are in.
        above: Route,
        /// The name.
        after: Vec<u8>,
        /// How many.
        count: usize,
        /// How many levels below them.
        height: u32,
    },
}

/// From where a listing is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The beginning, where the kernel may have nothing of it.
    First,
    /// This offset.
    From(u64),
}

/// How far the kernel was told of a directory's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    /// To the end.
    All,
    /// It goes on at this offset.
    To(u64),
}

/// Whether listings are asked for before names are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefetch {
    /// Where a program probably will ask for the names.
    #[default]
    On,
    /// Never.
    Off,
}

/// What is known, and what is wanted.
#[derive(Debug)]
pub struct Ahead {
    known: Mutex<LruCache<u64, Directory>>,
    wanted: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Wanted>,
    over: bool,
    busy: bool,
}

#[derive(Debug)]
struct Directory {
    found: u32,
    progress: Progress,
    /// Directories in it that were gone through, and the last of them.
    walked: u32,
    last: Vec<u8>,
    following: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    At(Part),
    Wanted,
    Told(Instant),
}

impl Default for Directory {
    fn default() -> Directory {
        let progress = Progress::At(Part::First);
        Directory { found: 0, progress, walked: 0, last: Vec::new(), following: FOLLOWING_MIN }
    }
}

impl Ahead {
    pub(super) fn new() -> Arc<Ahead> {
        let (known, wanted) = (Mutex::new(LruCache::new(KNOWN_MAX)), Mutex::default());
        Arc::new(Ahead { known, wanted, changed: Condvar::new() })
    }

    /// A name was found in a directory. `route` says where that is; of a name, in which directory.
    pub(super) fn found(&self, dir: u64, route: impl Fn(u64) -> Option<(Route, Option<Entry>)>) {
        let Some(part) = self.count(dir) else { return };
        let Some((here, entry)) = route(dir) else { return };
        if !self.want(Wanted::Names(here, part)) {
            return self.tried(dir);
        }
        let (mut entry, mut height) = (entry, 0);
        while let Some((above, name)) = entry {
            let Some(count) = self.walked(above, &name, height) else { return };
            let Some((there, next)) = route(above) else { return };
            self.want(Wanted::Following { above: there, after: name, count, height });
            (entry, height) = (next.filter(|_| count == FOLLOWING_MIN), height + 1);
        }
    }

    /// The kernel has forgotten a directory.
    pub(super) fn forget(&self, dir: u64) {
        self.known.lock().pop(&dir);
    }

    /// The next wish; `None` when it is over.
    pub fn next(&self) -> Option<Wanted> {
        let mut waiting = self.wanted.lock();
        waiting.busy = false;
        self.changed.notify_all();
        loop {
            if waiting.over {
                return None;
            }
            if let Some(wanted) = waiting.queue.pop_front() {
                waiting.busy = true;
                return Some(wanted);
            }
            self.changed.wait(&mut waiting);
        }
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.wanted.lock().over
    }

    /// No wish is fulfilled any more. Waits until none is, but no longer than this.
    pub fn end(&self, at_most: Duration) {
        let mut waiting = self.wanted.lock();
        waiting.over = true;
        waiting.queue.clear();
        self.changed.notify_all();
        let deadline = Instant::now() + at_most;
        while waiting.busy && !self.changed.wait_until(&mut waiting, deadline).timed_out() {}
    }

    /// Whether nothing of a directory has been told yet, nor is about to be.
    pub fn is_untold(&self, dir: u64) -> bool {
        self.known.lock().peek(&dir).is_none_or(|known| known.progress == Progress::At(Part::First))
    }

    /// A listing was asked for. If nothing came of it, it may be wanted again.
    pub fn tried(&self, dir: u64) {
        if let Some(directory) = self.known.lock().peek_mut(&dir)
            && directory.progress == Progress::Wanted
        {
            directory.progress = Progress::At(Part::First);
        }
    }

    /// The kernel has been told of names in a directory.
    pub(super) fn told(&self, dir: u64, listed: Listed) {
        let mut known = self.known.lock();
        let directory = known.get_or_insert_mut(dir, Directory::default);
        directory.found = 0;
        directory.progress = match listed {
            Listed::All => Progress::Told(Instant::now()),
            Listed::To(offset) => Progress::At(Part::From(offset)),
        };
    }

    /// From where the directory is wanted, if it is from now on.
    fn count(&self, dir: u64) -> Option<Part> {
        let mut known = self.known.lock();
        let directory = known.get_or_insert_mut(dir, Directory::default);
        directory.found += 1;
        if directory.found < ENOUGH {
            return None;
        }
        let part = match directory.progress {
            Progress::At(part) => part,
            Progress::Told(when) if when.elapsed() >= AGAIN => Part::First,
            Progress::Wanted | Progress::Told(_) => return None,
        };
        (directory.progress, directory.found) = (Progress::Wanted, 0);
        Some(part)
    }

    /// A directory of this name in this one was gone through, so deep. How many of those that follow are wanted.
    fn walked(&self, dir: u64, name: &[u8], height: u32) -> Option<usize> {
        let mut known = self.known.lock();
        let directory = known.get_or_insert_mut(dir, Directory::default);
        if directory.last == name {
            return None;
        }
        directory.last = name.to_vec();
        directory.walked = directory.walked.saturating_add(1);
        if directory.walked < ENOUGH || height > HEIGHT_MAX {
            return None;
        }
        let count = directory.following;
        directory.following = (count * 2).min(FOLLOWING_MAX);
        Some(count)
    }

    /// Whether there was room for it.
    fn want(&self, wanted: Wanted) -> bool {
        let mut waiting = self.wanted.lock();
        let has_room = !waiting.over && waiting.queue.len() < WAITING_MAX;
        if has_room {
            waiting.queue.push_back(wanted);
            self.changed.notify_all();
        }
        has_room
    }
}

impl Vfs {
    /// Which listings are wanted; `None` if none ever are.
    pub fn ahead(&self) -> Option<&Arc<Ahead>> {
        self.ahead.as_ref()
    }

    /// A name that may be believed for long was found in a directory.
    pub(super) fn found_in(&self, dir: &Known) {
        if let Some(ahead) = &self.ahead {
            ahead.found(dir.ino(), |dir| self.route(dir));
        }
    }

    /// Path of a directory and, unless it is a branch's root, its name in the directory above. None of what a branch has made itself:
    /// what is new was not forgotten yet.
    fn route(&self, dir: u64) -> Option<(Route, Option<Entry>)> {
        let (mut names, mut at) = (Vec::new(), dir);
        let branch = loop {
            let Known { branch, object, .. } = self.known(at).ok()?;
            let Some(slot) = object.slot.filter(|_| object.id != NodeId::ROOT) else {
                break (object.id == NodeId::ROOT).then_some(branch)?;
            };
            at = ino::sibling(at, slot.dir);
            names.push((at, slot.name));
            if names.len() > LEVELS_MAX {
                return None;
            }
        };
        let entry = names.first().map(|(above, name)| (*above, name.as_bytes().to_vec()));
        let names = names.iter().rev().map(|(_, name)| OsStr::from_bytes(name.as_bytes()));
        let path = [OsStr::new(branch.name())].into_iter().chain(names).collect();
        Some((Route { dir, path }, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories by number: 1 is the root, 10 to 99 lie in it, 1000 to 9999 in those.
    fn route(dir: u64) -> Option<(Route, Option<Entry>)> {
        let above = if dir >= 1000 { dir / 100 } else { 1 };
        let entry = (dir > 1).then(|| (above, dir.to_string().into_bytes()));
        Some((Route { dir, path: dir.to_string().into() }, entry))
    }

    fn find(ahead: &Ahead, dir: u64, names: usize) -> Vec<Wanted> {
        (0..names).for_each(|_| ahead.found(dir, route));
        ahead.wanted.lock().queue.drain(..).collect()
    }

    fn names(dir: u64, part: Part) -> Wanted {
        Wanted::Names(route(dir).unwrap().0, part)
    }

    fn following(above: u64, after: u64, count: usize, height: u32) -> Wanted {
        Wanted::Following { above: route(above).unwrap().0, after: after.to_string().into(), count, height }
    }

    #[test]
    fn the_second_name_found_wants_the_listing_once_and_what_is_left_of_it_when_names_are_found_again() {
        let ahead = Ahead::new();
        assert_eq!(find(&ahead, 10, 1), []);
        assert_eq!(find(&ahead, 10, 1), [names(10, Part::First)]);
        assert_eq!(find(&ahead, 10, 9), [], "it is being listed");
        ahead.told(10, Listed::To(77));
        assert_eq!(find(&ahead, 10, 2), [names(10, Part::From(77))]);
        ahead.told(10, Listed::All);
        ahead.tried(10);
        assert_eq!(find(&ahead, 10, 9), [], "answers that were under way");
        ahead.forget(10);
        assert_eq!(find(&ahead, 10, 2), [names(10, Part::First)]);
        ahead.tried(10);
        assert_eq!(find(&ahead, 10, 2), [names(10, Part::First)], "nothing came of it");
    }

    #[test]
    fn who_goes_into_a_second_directory_is_expected_in_those_that_follow() {
        let ahead = Ahead::new();
        assert_eq!(find(&ahead, 1001, 2), [names(1001, Part::First)]);
        assert_eq!(find(&ahead, 1002, 2), [names(1002, Part::First), following(10, 1002, FOLLOWING_MIN, 0)]);
        let next = [names(1020, Part::First), following(10, 1020, 2 * FOLLOWING_MIN, 0)];
        assert_eq!(find(&ahead, 1020, 2), next, "where it was not expected any more");
        assert_eq!(find(&ahead, 1101, 2), [names(1101, Part::First)], "a directory beside the one above");
        let next = [
            names(1102, Part::First),
            following(11, 1102, FOLLOWING_MIN, 0),
            following(1, 11, FOLLOWING_MIN, 1),
        ];
        assert_eq!(find(&ahead, 1102, 2), next, "and in those that follow that, as deep");
    }

    #[test]
    fn what_waits_is_bounded_and_what_was_dropped_may_be_wanted_again() {
        let ahead = Ahead::new();
        (0..2 * WAITING_MAX as u64).for_each(|dir| {
            ahead.found(10 + dir, |_| Some((route(10 + dir)?.0, None)));
            ahead.found(10 + dir, |_| Some((route(10 + dir)?.0, None)));
        });
        let waiting: Vec<_> = ahead.wanted.lock().queue.drain(..).collect();
        assert_eq!(waiting.len(), WAITING_MAX);
        let dropped = 10 + WAITING_MAX as u64;
        assert_eq!(find(&ahead, dropped, 2), [names(dropped, Part::First)]);
    }

    #[test]
    fn nothing_is_wanted_when_it_is_over_and_its_end_waits_for_what_is_under_way() {
        let ahead = Ahead::new();
        ahead.found(10, route);
        ahead.found(10, route);
        assert_eq!(ahead.next(), Some(names(10, Part::First)));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ahead.is_over() {
                    std::thread::yield_now();
                }
                assert_eq!(ahead.next(), None);
            });
            ahead.end(Duration::from_secs(600));
        });
        assert!(!ahead.wanted.lock().busy);
        assert_eq!(find(&ahead, 20, 9), []);
    }
}
