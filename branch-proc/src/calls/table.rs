//! The calls that run, shared by those who wait for them and the thread that watches them.

use std::ffi::OsString;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::CallOptions;
use super::decide::{Motion, Priority, Seen};
use super::hint::{HintError, MemoryHint};
use super::history::History;
use super::record::LimitFrom;
use crate::command::Command;
use crate::group::Group;
use crate::limits::Limits;
use crate::pidfd::wait_readable;
use crate::scope::Scope;

/// The share of the processor that a slowed call has; see [`Priority::cpu_weight`].
const SLOWED_WEIGHT: u16 = 1;

/// What all parts of one [`super::ToolCalls`] share. The groups lie before the scope, and so go first.
#[derive(Debug)]
pub(super) struct Shared {
    table: Mutex<Table>,
    changed: Condvar,
    pub(super) scope: Option<Scope>,
    pub(super) options: CallOptions,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) calls: Vec<Entry>,
    pub(super) history: History,
    pub(super) stopped: bool,
    last_number: u64,
}

/// One call that runs.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) group: Group,
    pub(super) argv: Vec<OsString>,
    pub(super) priority: Priority,
    pub(super) limits: Limits,
    pub(super) hint: (Option<MemoryHint>, Option<HintError>),
    pub(super) limit_from: LimitFrom,
    pub(super) motion: Motion,
    pub(super) can_freeze: bool,
    /// It was killed for others.
    pub(super) gave_way: bool,
    pub(super) trouble: Option<String>,
    /// The most bytes seen, where nobody else counts.
    pub(super) peak_seen: u64,
    pub(super) started: Instant,
    frozen_since: Option<Instant>,
    frozen_before: Duration,
}

impl Shared {
    pub(super) fn new(scope: Option<Scope>, mut options: CallOptions) -> Shared {
        let history = std::mem::take(&mut options.history);
        let table = Table { calls: Vec::new(), history, stopped: false, last_number: 0 };
        Shared { table: Mutex::new(table), changed: Condvar::new(), scope, options }
    }

    /// Nothing that holds it leaves it half changed.
    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to watch, or the end (None).
    pub(super) fn wait_for_calls(&self) -> Option<MutexGuard<'_, Table>> {
        let mut table = self.table();
        while table.calls.is_empty() && !table.stopped {
            table = self.changed.wait(table).unwrap_or_else(PoisonError::into_inner);
        }
        (!table.stopped).then_some(table)
    }

    /// Lets go of the table for a while, or until the end.
    pub(super) fn rest<'a>(&self, table: MutexGuard<'a, Table>, time: Duration) {
        let going_on = |table: &mut Table| !table.stopped;
        let rested = self.changed.wait_timeout_while(table, time, going_on);
        drop(rested.unwrap_or_else(PoisonError::into_inner));
    }

    /// Ends the watching.
    pub(super) fn stop(&self) {
        self.table().stopped = true;
        self.changed.notify_all();
    }

    /// Takes a call in; its number.
    pub(super) fn add(&self, mut entry: Entry) -> u64 {
        let mut table = self.table();
        table.last_number += 1;
        entry.number = table.last_number;
        table.calls.push(entry);
        self.changed.notify_all();
        table.last_number
    }

    /// What a call gets, in bytes, and why; no more than all may use together.
    pub(super) fn memory_for(&self, command: &Command, hint: Option<MemoryHint>) -> (u64, LimitFrom) {
        let options = &self.options;
        let own = || command.limits.memory_max.map(|bytes| (bytes, LimitFrom::Command));
        let hinted = || hint.map(|hint| (hint.bytes(&options.sizes), LimitFrom::Hint));
        let known = || Some((self.table().history.expected(&command.argv)?, LimitFrom::History));
        let default = (options.default_memory.unwrap_or(options.memory), LimitFrom::Default);
        let (bytes, from) = own().or_else(hinted).or_else(known).unwrap_or(default);
        (bytes.min(options.memory), from)
    }
}

impl Table {
    pub(super) fn find(&mut self, number: u64) -> Option<&mut Entry> {
        self.calls.iter_mut().find(|entry| entry.number == number)
    }

    /// Takes a call out.
    pub(super) fn remove(&mut self, number: u64) -> Option<Entry> {
        let at = self.calls.iter().position(|entry| entry.number == number)?;
        Some(self.calls.remove(at))
    }
}

impl Entry {
    pub(super) fn new(
        group: Group,
        argv: Vec<OsString>,
        priority: Priority,
        limits: Limits,
        hint: (Option<MemoryHint>, Option<HintError>),
        limit_from: LimitFrom,
    ) -> Entry {
        Entry {
            number: 0,
            group,
            argv,
            priority,
            limits,
            hint,
            limit_from,
            motion: Motion::Free,
            can_freeze: true,
            gave_way: false,
            trouble: None,
            peak_seen: 0,
            started: Instant::now(),
            frozen_since: None,
            frozen_before: Duration::ZERO,
        }
    }

    pub(super) fn seen(&self) -> Seen {
        let &Entry { priority, number, motion, can_freeze, .. } = self;
        Seen { priority, number, motion, can_freeze }
    }

    /// For how long it has stood still so far.
    pub(super) fn frozen(&self) -> Duration {
        self.frozen_before + self.frozen_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn stood_still(&mut self) {
        self.frozen_before = self.frozen();
        self.frozen_since = None;
    }

    /// Notices when nothing of it is left.
    pub(super) fn look_for_end(&mut self) {
        // Without an answer it is taken to run: the next look asks again.
        if wait_readable(self.group.pidfd(), Some(Instant::now())).unwrap_or(false) {
            self.stood_still();
            self.motion = Motion::Gone;
        }
    }

    pub(super) fn freeze(&mut self) {
        match self.group.freeze() {
            Ok(()) => {
                self.motion = Motion::Frozen;
                self.frozen_since = Some(Instant::now());
            }
            Err(error) => {
                self.can_freeze = false;
                self.trouble = Some(error.to_string());
                // What may have been done of it; if that fails as well, the first failure says why.
                drop(self.group.thaw());
            }
        }
    }

    /// It goes on as if nothing had been.
    pub(super) fn thaw(&mut self) {
        match self.group.thaw() {
            Ok(()) => {
                self.stood_still();
                self.ease();
            }
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }

    /// Its share of the processor, and where the kernel slows down what wants more memory, no more of that.
    pub(super) fn slow(&mut self) {
        let memory_high = self.group.usage().memory;
        self.motion = Motion::Slowed;
        self.limit(Limits { cpu_weight: Some(SLOWED_WEIGHT), memory_high, ..Limits::default() });
    }

    /// Gives it what its priority and its own limits say.
    pub(super) fn ease(&mut self) {
        self.motion = Motion::Free;
        self.limit(Limits {
            cpu_weight: self.limits.cpu_weight.or(Some(self.priority.cpu_weight())),
            memory_high: self.limits.memory_high.or(Some(u64::MAX)),
            ..Limits::default()
        });
    }

    fn limit(&mut self, limits: Limits) {
        if let Err(error) = self.group.limit(&limits) {
            self.trouble = Some(error.to_string());
        }
    }

    /// Its place is kept until who waits for it takes it out.
    pub(super) fn kill(&mut self) {
        match self.group.signal_kill() {
            Ok(()) => {
                self.stood_still();
                // Ending takes processor time, too.
                self.ease();
                self.gave_way = true;
                self.motion = Motion::Ending;
            }
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }

    /// Lets it go on, and be left alone from now on.
    pub(super) fn begin_to_end(&mut self) {
        if self.motion == Motion::Frozen {
            self.thaw();
        }
        self.motion = Motion::Ending;
    }
}
