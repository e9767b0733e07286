//! Content files made ahead, where many are being made: that costs the host more than all else that a create does.
//!
//! Off unless somebody runs [`Contents::make_ahead`], and never with a gatekeeper: what counts the host's calls, or stops
//! at the k-th, must find them where they are needed. What is not used goes when nothing was made for a while; what a killed
//! process leaves, recovery removes as it does everything that no tree speaks of.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::fs::{Mode, Timespec, UTIME_NOW};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::base::stat_fd;
use crate::content::{Contents, set_times, writable};
use crate::error::{Error, Result};
use crate::ids::{LayerId, NodeId};

/// After so many creates in one layer that found nothing.
const ROW: u32 = 4;
/// How many are made at first. Twice as many whenever they were used up.
const FIRST: usize = 8;
/// How many there are for one layer at most.
const LAYER_MAX: usize = 128;
/// The same for all: each is a descriptor, and a file of the host.
const ALL_MAX: usize = 512;
/// And no more than this part of the descriptors that the process may have.
const DESCRIPTORS: u64 = 16;
/// A layer in which nothing was made for so long needs none.
const IDLE: Duration = Duration::from_secs(1);

const _: () = assert!(FIRST <= LAYER_MAX && LAYER_MAX <= ALL_MAX);

/// What was made ahead. `state` is a leaf lock.
#[derive(Default)]
pub(super) struct Ahead {
    state: Mutex<State>,
    /// There may be something to do.
    wanted: Condvar,
    /// Nothing is being made any more.
    idle: Condvar,
}

#[derive(Default)]
struct State {
    phase: Phase,
    layers: HashMap<LayerId, Line>,
    /// Files in all layers.
    ready: usize,
    most: usize,
    making: Option<LayerId>,
}

#[derive(Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Off,
    On,
    Over,
}

struct Line {
    ready: VecDeque<Ready>,
    wanted: usize,
    filling: bool,
    /// Creates that found nothing, since there were more wanted.
    missed: u32,
    /// Of the last create.
    mode: u32,
    used: Instant,
}

struct Ready {
    layer: LayerId,
    id: NodeId,
    file: File,
    mode: u32,
}

enum Step {
    Make(LayerId, u32),
    Remove(VecDeque<Ready>),
}

impl Contents {
    /// A new empty file for a new node, which gets its number with it, and whose times are now.
    ///
    /// # Errors
    /// The host's.
    pub(crate) fn make(
        &self,
        layer: LayerId,
        mode: u32,
        number: impl Fn() -> Result<NodeId>,
    ) -> Result<(NodeId, File)> {
        if let Some(ready) = self.ahead.take(layer, mode) {
            return born(ready, mode);
        }
        let id = number()?;
        let made = match self.create(layer, id, mode) {
            // What nobody has asked for yet must not be what there is no room for.
            Err(Error::Posix(Errno::NOSPC | Errno::DQUOT)) if self.give_back() => {
                self.create(layer, id, mode)
            }
            made => made,
        };
        Ok((id, made?))
    }

    /// Makes files ahead for whoever makes many, until [`Contents::stop_making_ahead`].
    pub(crate) fn make_ahead(&self, number: impl Fn() -> Result<NodeId>) {
        if self.disk.is_guarded() {
            return;
        }
        self.ahead.start(most());
        while let Some(step) = self.ahead.next() {
            match step {
                Step::Make(layer, mode) => {
                    let made = number().and_then(|id| self.make_one(layer, id, mode));
                    // Whoever needs one is told why there is none.
                    self.remove_ready(self.ahead.made(layer, made.ok()));
                }
                Step::Remove(ready) => self.remove_ready(ready),
            }
        }
        self.give_back();
    }

    pub(crate) fn stop_making_ahead(&self) {
        self.ahead.stop();
    }

    /// The layer's directory is about to go, with whatever is in it.
    pub(super) fn none_ahead(&self, layer: LayerId) {
        self.ahead.retire(layer);
    }

    /// Looked at, so that the kernel gives it a time of its own when it is taken (see `clock`).
    fn make_one(&self, layer: LayerId, id: NodeId, mode: u32) -> Result<Ready> {
        let file = self.create(layer, id, mode)?;
        stat_fd(&file)?;
        Ok(Ready { layer, id, file, mode })
    }

    /// Removes all that was made ahead; whether that was anything.
    fn give_back(&self) -> bool {
        let ready = self.ahead.drain();
        let any = !ready.is_empty();
        self.remove_ready(ready);
        any
    }

    /// What stays costs a file; recovery removes it.
    fn remove_ready(&self, ready: impl IntoIterator<Item = Ready>) {
        for Ready { layer, id, .. } in ready {
            self.remove(layer, id).ok();
        }
    }
}

/// A file that was made for any node is made for this one now.
fn born(ready: Ready, mode: u32) -> Result<(NodeId, File)> {
    if writable(ready.mode) != writable(mode) {
        crate::asked::note("chmod");
        rustix::fs::fchmod(&ready.file, Mode::from_raw_mode(writable(mode)))?;
    }
    crate::asked::note("utimens");
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    set_times(&ready.file, now, now)?;
    Ok((ready.id, ready.file))
}

fn most() -> usize {
    let share = getrlimit(Resource::Nofile).current.map_or(ALL_MAX as u64, |limit| limit / DESCRIPTORS);
    usize::try_from(share).map_or(ALL_MAX, |share| share.min(ALL_MAX))
}

impl Ahead {
    fn take(&self, layer: LayerId, mode: u32) -> Option<Ready> {
        let mut state = self.state.lock();
        if state.phase != Phase::On {
            return None;
        }
        let line = state.layers.entry(layer).or_insert_with(|| Line::new(mode));
        let taken = line.take(mode);
        let wakes = line.filling || line.missed == 1;
        state.ready -= usize::from(taken.is_some());
        if wakes {
            self.wanted.notify_one();
        }
        taken
    }

    fn start(&self, most: usize) {
        let mut state = self.state.lock();
        if state.phase == Phase::Off {
            (state.phase, state.most) = (Phase::On, most);
        }
    }

    fn stop(&self) {
        self.state.lock().phase = Phase::Over;
        self.wanted.notify_one();
    }

    /// What to do next; `None`: it is over.
    fn next(&self) -> Option<Step> {
        let mut state = self.state.lock();
        while state.phase == Phase::On {
            let now = Instant::now();
            if let Some(unused) = state.unused(now) {
                return Some(Step::Remove(unused));
            }
            if let Some((layer, mode)) = state.wanted() {
                state.making = Some(layer);
                return Some(Step::Make(layer, mode));
            }
            if state.layers.is_empty() {
                self.wanted.wait(&mut state);
            } else {
                self.wanted.wait_for(&mut state, IDLE);
            }
        }
        None
    }

    /// What was asked for is made; returned if nobody wants it any more.
    fn made(&self, layer: LayerId, ready: Option<Ready>) -> Option<Ready> {
        let mut state = self.state.lock();
        state.making = None;
        self.idle.notify_all();
        let Some(line) = state.layers.get_mut(&layer) else { return ready };
        match ready {
            Some(ready) => {
                line.ready.push_back(ready);
                line.filling = line.ready.len() < line.wanted;
                state.ready += 1;
            }
            None => (line.filling, line.wanted) = (false, 0),
        }
        None
    }

    fn retire(&self, layer: LayerId) {
        let mut state = self.state.lock();
        if let Some(line) = state.layers.remove(&layer) {
            state.ready -= line.ready.len();
        }
        while state.making == Some(layer) {
            self.idle.wait(&mut state);
        }
    }

    fn drain(&self) -> VecDeque<Ready> {
        let mut state = self.state.lock();
        state.ready = 0;
        std::mem::take(&mut state.layers).into_values().flat_map(|line| line.ready).collect()
    }
}

impl State {
    /// What was made for a layer in which nothing has been made for long.
    fn unused(&mut self, now: Instant) -> Option<VecDeque<Ready>> {
        let layer = self.layers.iter().find(|(_, line)| now.duration_since(line.used) >= IDLE);
        let line = layer.map(|(layer, _)| *layer).and_then(|layer| self.layers.remove(&layer))?;
        self.ready -= line.ready.len();
        Some(line.ready)
    }

    fn wanted(&self) -> Option<(LayerId, u32)> {
        let filling = self.layers.iter().find(|(_, line)| line.filling && self.ready < self.most)?;
        Some((*filling.0, filling.1.mode))
    }
}

impl Line {
    fn new(mode: u32) -> Line {
        Line { ready: VecDeque::new(), wanted: 0, filling: false, missed: 0, mode, used: Instant::now() }
    }

    fn take(&mut self, mode: u32) -> Option<Ready> {
        (self.mode, self.used) = (mode, Instant::now());
        let taken = self.ready.pop_front();
        if taken.is_none() {
            self.missed += 1;
            if self.missed == ROW {
                self.missed = 0;
                self.wanted = (self.wanted * 2).clamp(FIRST, LAYER_MAX);
            }
        }
        self.filling |= self.ready.len() * 2 < self.wanted;
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::*;
    use crate::disk::Disk;
    use crate::gatekeeper::Gatekeeper;

    const A: LayerId = LayerId(1);
    const B: LayerId = LayerId(2);

    fn ready(layer: LayerId) -> Option<Ready> {
        Some(Ready { layer, id: NodeId(7), file: tempfile::tempfile().unwrap(), mode: 0o644 })
    }

    fn on(most: usize) -> Ahead {
        let ahead = Ahead::default();
        ahead.start(most);
        ahead
    }

    fn miss(ahead: &Ahead, layer: LayerId, times: u32) {
        assert!((0..times).all(|_| ahead.take(layer, 0o644).is_none()));
    }

    fn wanted(ahead: &Ahead) -> Option<(LayerId, u32)> {
        ahead.state.lock().wanted()
    }

    /// How many are made until no more are wanted.
    fn fill(ahead: &Ahead) -> usize {
        let mut made = 0;
        while let Some((layer, _)) = wanted(ahead) {
            assert!(ahead.made(layer, ready(layer)).is_none());
            made += 1;
        }
        made
    }

    #[test]
    fn nothing_is_made_for_a_few_files() {
        let ahead = on(100);
        miss(&ahead, A, ROW - 1);
        assert_eq!(fill(&ahead), 0);
        miss(&ahead, A, 1);
        assert_eq!(fill(&ahead), FIRST);
    }

    #[test]
    fn what_is_used_up_is_made_anew_and_twice_as_much_when_it_did_not_last() {
        let ahead = on(ALL_MAX);
        miss(&ahead, A, ROW);
        assert_eq!(fill(&ahead), FIRST);
        for left in (FIRST / 2..FIRST).rev() {
            assert_eq!(fill(&ahead), 0, "more than half is there");
            assert!(ahead.take(A, 0o644).is_some());
            assert_eq!(ahead.state.lock().layers[&A].ready.len(), left);
        }
        assert!(ahead.take(A, 0o644).is_some());
        assert_eq!(fill(&ahead), FIRST / 2 + 1);
        let mut wanted = FIRST;
        while wanted < 2 * LAYER_MAX {
            while ahead.take(A, 0o644).is_some() {}
            miss(&ahead, A, ROW - 1);
            wanted *= 2;
            assert_eq!(fill(&ahead), wanted.min(LAYER_MAX));
        }
    }

    #[test]
    fn there_are_never_more_than_the_descriptors_allow() {
        let ahead = on(FIRST + 2);
        miss(&ahead, A, ROW);
        miss(&ahead, B, ROW);
        assert_eq!(fill(&ahead), FIRST + 2);
        let full = if ahead.state.lock().layers[&A].ready.len() == FIRST { A } else { B };
        assert!(ahead.take(full, 0o644).is_some());
        assert_eq!(fill(&ahead), 1, "one for the other layer");
        assert_eq!(ahead.drain().len(), FIRST + 2);
        assert_eq!(fill(&ahead), 0);
    }

    #[test]
    fn where_none_can_be_made_it_is_not_tried_at_once_again() {
        let ahead = on(100);
        miss(&ahead, A, ROW);
        ahead.made(A, None);
        assert_eq!(fill(&ahead), 0);
        miss(&ahead, A, ROW - 1);
        assert_eq!(fill(&ahead), 0);
        miss(&ahead, A, 1);
        assert_eq!(fill(&ahead), FIRST);
    }

    #[test]
    fn nothing_is_wanted_before_the_start_and_after_the_end() {
        let ahead = Ahead::default();
        miss(&ahead, A, ROW);
        assert!(ahead.state.lock().layers.is_empty());
        ahead.stop();
        ahead.start(100);
        miss(&ahead, A, ROW);
        assert!(ahead.next().is_none(), "stopped before it began");
    }

    #[test]
    fn a_layer_goes_only_when_nothing_is_being_made_in_it() {
        let ahead = Arc::new(on(100));
        miss(&ahead, A, ROW);
        assert!(matches!(ahead.next(), Some(Step::Make(A, 0o644))));
        // Another layer's end waits for nothing.
        ahead.retire(B);
        let retiring = {
            let ahead = Arc::clone(&ahead);
            thread::spawn(move || ahead.retire(A))
        };
        let is_there = || ahead.state.lock().layers.contains_key(&A);
        while is_there() {
            thread::yield_now();
        }
        assert!(!retiring.is_finished());
        assert!(ahead.made(A, ready(A)).is_some(), "nobody wants it any more");
        retiring.join().unwrap();
        assert_eq!(ahead.state.lock().ready, 0);
    }

    #[test]
    fn what_was_not_used_for_long_is_handed_back_to_be_removed() {
        let ahead = on(100);
        miss(&ahead, A, ROW);
        fill(&ahead);
        let mut state = ahead.state.lock();
        let used = state.layers[&A].used;
        assert!(state.unused(used + IDLE / 2).is_none());
        assert_eq!(state.unused(used + IDLE).map(|files| files.len()), Some(FIRST));
        assert_eq!((state.ready, state.layers.len()), (0, 0));
    }

    /// A disk with room for so many files.
    struct Room(AtomicU32);

    impl Gatekeeper for Room {
        fn before(&self, call: &'static str) -> std::result::Result<(), Errno> {
            match call {
                "create" if self.0.load(Ordering::Relaxed) == 0 => return Err(Errno::NOSPC),
                "create" => _ = self.0.fetch_sub(1, Ordering::Relaxed),
                "unlink" => _ = self.0.fetch_add(1, Ordering::Relaxed),
                _ => {}
            }
            Ok(())
        }
    }

    #[test]
    fn what_nobody_has_asked_for_gives_way_to_what_somebody_does() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["content", "trash"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let disk = Disk::guarded(Arc::new(Room(AtomicU32::new(ROW + FIRST as u32 + 1))));
        let contents = Contents::new(disk, File::open(dir.path()).unwrap()).unwrap();
        contents.ahead.start(100);
        let ids = AtomicU32::new(1);
        let number = || Ok(NodeId(ids.fetch_add(1, Ordering::Relaxed)));
        let make = |layer| contents.make(layer, 0o644, number).map(|(id, _)| id);
        (0..ROW).for_each(|_| _ = make(A).unwrap());
        while let Some((layer, mode)) = wanted(&contents.ahead) {
            let made = contents.make_one(layer, number().unwrap(), mode).unwrap();
            assert!(contents.ahead.made(layer, Some(made)).is_none());
        }
        let held = |layer: LayerId| {
            std::fs::read_dir(dir.path().join("content").join(layer.0.to_string())).unwrap().count()
        };
        assert_eq!(held(A), ROW as usize + FIRST);
        (0..2).for_each(|_| _ = make(B).unwrap());
        assert_eq!((held(A), held(B)), (ROW as usize, 2), "the second found the disk full");
        (0..FIRST - 1).for_each(|_| _ = make(B).unwrap());
        assert_eq!(make(B).unwrap_err().errno(), Errno::NOSPC, "there is nothing more to give back");
    }
}
