//! What a supervisor writes down, bounded, for whoever asks when the group has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::outcome::Denial;
use crate::policy::Op;

/// Most different denials that are kept.
pub const DENIALS_MAX: usize = 256;
/// Most different paths that learning keeps.
pub const TRIED_MAX: usize = 65_536;

/// Everything a group has tried, to make a policy of it: see [`Tried::policy`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tried {
    /// Operations and their paths; moves count as what they make and remove.
    pub(crate) paths: BTreeSet<(Op, PathBuf)>,
    /// System calls that policies may deny.
    pub(crate) calls: BTreeSet<String>,
    /// Addresses outside this machine.
    pub(crate) addresses: BTreeSet<String>,
    /// Whether anything was connected to within this machine.
    pub(crate) own_network: bool,
    /// How much did not fit any more.
    pub(crate) dropped: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Record {
    denials: Vec<Denial>,
    by_what: BTreeMap<(String, String), usize>,
    dropped: u64,
    pub(crate) tried: Tried,
    done: bool,
}

impl Record {
    /// Counts a denial; `make` is only asked for one that was not there yet.
    pub(crate) fn deny(&mut self, op: &str, object: String, make: impl FnOnce() -> Denial) {
        let key = (op.to_owned(), object);
        if let Some(&index) = self.by_what.get(&key) {
            self.denials[index].count += 1;
        } else if self.denials.len() < DENIALS_MAX {
            self.by_what.insert(key, self.denials.len());
            self.denials.push(make());
        } else {
            self.dropped += 1;
        }
    }

    /// Notes a path for learning.
    pub(crate) fn tried(&mut self, op: Op, path: PathBuf) {
        if self.tried.paths.len() < TRIED_MAX {
            self.tried.paths.insert((op, path));
        } else if !self.tried.paths.contains(&(op, path)) {
            self.tried.dropped += 1;
        }
    }
}

impl Record {
    pub(crate) fn tried_address(&mut self, address: String) {
        if self.tried.addresses.len() < TRIED_MAX {
            self.tried.addresses.insert(address);
        } else {
            self.tried.dropped += 1;
        }
    }
}

/// Shared by the supervisor, who writes, and the group, which reads in the end.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    record: Mutex<Record>,
    ended: Condvar,
}

impl Shared {
    /// Nobody panics with it, and a record is whole at any time.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn end(&self) {
        self.lock().done = true;
        self.ended.notify_all();
    }

    /// Returns when the supervisor has ended, or `patience` is over: it may hang in a file system that does not
    /// answer.
    pub(crate) fn wait(&self, patience: Duration) {
        let waiting = self.ended.wait_timeout_while(self.lock(), patience, |record| !record.done);
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn denials(&self) -> Vec<Denial> {
        self.lock().denials.clone()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    pub(crate) fn take_tried(&self) -> Tried {
        std::mem::take(&mut self.lock().tried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(op: &str) -> Denial {
        let word = String::new;
        Denial { op: op.to_owned(), object: word(), rule: word(), words: word(), count: 1, by: None }
    }

    #[test]
    fn the_same_denial_is_counted_and_what_does_not_fit_is_too() {
        let shared = Shared::default();
        for round in 0..3 {
            for number in 0..DENIALS_MAX + 2 {
                shared.lock().deny("read", number.to_string(), || denial("read"));
            }
            assert_eq!(shared.lock().dropped, 2 * (round + 1));
        }
        shared.end();
        shared.wait(Duration::ZERO);
        let seen = shared.denials();
        assert_eq!((seen.len(), seen[0].count), (DENIALS_MAX, 3));
    }
}
