//! The calls that run, shared by those who wait for them and the thread that watches them.

use std::ffi::OsString;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use super::CallOptions;
use super::decide::{Motion, Priority, Seen};
use super::hint::{HintError, MemoryHint};
use super::history::History;
use super::record::LimitFrom;
use crate::command::Command;
use crate::error::GroupError;
use crate::group::{DROP_WAIT_MAX, Group};
use crate::limits::Limits;
use crate::outcome::Outcome;
use crate::pidfd::wait_readable;
use crate::scope::Scope;

/// What all parts of one [`super::ToolCalls`] share. The groups lie before the scope, and so go first. The table is held
/// for looking and noting only: what the kernel may take its time over is a [`super::measure::Measure`].
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
    pub(super) group: Arc<GroupOfCall>,
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

    /// Returns after a while, or at the end.
    pub(super) fn rest(&self, time: Duration) {
        let going_on = |table: &mut Table| !table.stopped;
        let rested = self.changed.wait_timeout_while(self.table(), time, going_on);
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
            group: Arc::new(GroupOfCall(RwLock::new(group))),
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
        if wait_readable(self.group.get().pidfd(), Some(Instant::now())).unwrap_or(false) {
            self.stood_still();
            self.motion = Motion::Gone;
        }
    }

    /// What it has when nobody takes anything from it: as its priority and its own limits say.
    pub(super) fn own_limits(&self) -> Limits {
        Limits {
            cpu_weight: self.limits.cpu_weight.or(Some(self.priority.cpu_weight())),
            memory_high: self.limits.memory_high.or(Some(u64::MAX)),
            ..Limits::default()
        }
    }

    /// Gives it what its priority says, before it is watched.
    pub(super) fn ease(&mut self) {
        let eased = self.group.get().limit(&self.own_limits());
        if let Err(error) = eased {
            self.trouble = Some(error.to_string());
        }
    }

    /// It has been frozen; false if it is not to stand still, because it was told to end meanwhile.
    pub(super) fn stands_still(&mut self) -> bool {
        let lives = self.lives();
        if lives {
            self.motion = Motion::Frozen;
            self.frozen_since = Some(Instant::now());
        }
        lives
    }

    /// It goes on, or went on all the time.
    pub(super) fn moves(&mut self, motion: Motion) {
        self.stood_still();
        if self.lives() {
            self.motion = motion;
        }
    }

    /// Kills it for others. Its place is kept until who waits for it takes it out. False if that did not work.
    pub(super) fn kill(&mut self) -> bool {
        let killed = self.group.get().signal_kill();
        match killed {
            Ok(()) => {
                self.gave_way = true;
                self.is_ending();
                true
            }
            Err(error) => {
                self.trouble = Some(error.to_string());
                false
            }
        }
    }

    /// From now on it is left alone.
    pub(super) fn is_ending(&mut self) {
        self.stood_still();
        self.motion = Motion::Ending;
    }

    fn lives(&self) -> bool {
        !matches!(self.motion, Motion::Ending | Motion::Gone)
    }
}

/// The group of a call. What is done to it while it runs is done by several at a time; only who waits for its end, or
/// drops it, has it for itself, when it has ended or been killed: then nothing that others do with it takes long.
#[derive(Debug)]
pub(super) struct GroupOfCall(RwLock<Group>);

impl GroupOfCall {
    pub(super) fn get(&self) -> RwLockReadGuard<'_, Group> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its end, which has come.
    pub(super) fn wait(&self) -> Result<Outcome, GroupError> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).wait()
    }

    /// Ends it, whoever else has to do with it.
    pub(super) fn end(&self) {
        // As when a group is dropped: a failure means that there is nothing more to do.
        if self.get().signal_kill().is_ok() {
            drop(self.0.write().unwrap_or_else(PoisonError::into_inner).wait_timeout(DROP_WAIT_MAX));
        }
    }

    /// It was made to end, and has ended, because its time is up.
    pub(super) fn is_out_of_time(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).is_out_of_time();
    }
}
