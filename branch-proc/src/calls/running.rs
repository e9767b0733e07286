//! A call from its start to its record.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::record::{self, CallRecord, Verdict};
use super::table::{Entry, Shared};
use crate::capture::STOP_GRACE;
use crate::error::{GroupError, SpawnError, Step};
use crate::group::Signal;
use crate::outcome::Outcome;
use crate::pidfd::wait_readable;

/// A call whose time stands still is asked again at least this late, and not more often.
const TIMEOUT_LOOK: Duration = Duration::from_millis(10);

/// A call that has been started. Dropping it kills all of it.
#[derive(Debug)]
pub struct RunningCall {
    shared: Arc<Shared>,
    number: u64,
    pid: i32,
    pidfd: OwnedFd,
    timeout: Option<Duration>,
}

impl RunningCall {
    pub(super) fn begin(
        shared: &Arc<Shared>,
        entry: Entry,
        timeout: Option<Duration>,
    ) -> Result<RunningCall, SpawnError> {
        let failed = |e: std::io::Error| {
            SpawnError::new(Step::Prepare, e.raw_os_error().unwrap_or(libc::EMFILE), "a descriptor")
        };
        let pidfd = entry.group.pidfd().try_clone_to_owned().map_err(failed)?;
        let pid = entry.group.pid();
        let number = shared.add(entry);
        Ok(RunningCall { shared: Arc::clone(shared), number, pid, pidfd, timeout })
    }

    /// The pid of its group's init.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable (`poll(2)`) when nothing of it is left; [`RunningCall::wait`] does not block then.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// For how long it has stood still so far.
    pub fn frozen(&self) -> Duration {
        self.shared.table().find(self.number).map_or(Duration::ZERO, |entry| entry.frozen())
    }

    /// Passes a signal to its program; see [`crate::Group::signal`]. One that stands still gets it when it goes on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<(), GroupError> {
        self.shared.table().find(self.number).map_or(Ok(()), |entry| entry.group.signal(signal))
    }

    /// Waits until nothing of it is left, and says what became of it. When its time is up it is asked to end, and
    /// killed after [`STOP_GRACE`].
    ///
    /// # Errors
    /// Only when `poll(2)` does not work (out of memory), or the kernel refuses a signal.
    pub fn wait(self) -> Result<CallRecord, GroupError> {
        let in_time = match self.time_left() {
            None => self.ends_by(None)?,
            Some(left) => self.ends_within(left)?,
        };
        if !in_time {
            self.make_end()?;
        }
        let mut table = self.shared.table();
        let Some(mut entry) = table.remove(self.number) else {
            return Err(self.error("find", Errno::SRCH));
        };
        let outcome = entry.group.wait()?;
        let record = self.record(&entry, outcome);
        let stopped = record.verdict == Verdict::OverLimit;
        if let Some(peak) = record.peak {
            table.history.note(&entry.argv, peak, stopped);
        }
        Ok(record)
    }

    /// Of its time, without that in which it stood still.
    fn time_left(&self) -> Option<Duration> {
        let timeout = self.timeout?;
        let ran = self
            .shared
            .table()
            .find(self.number)
            .map(|entry| entry.started.elapsed().saturating_sub(entry.frozen()));
        Some(timeout.saturating_sub(ran.unwrap_or_default()))
    }

    /// Whether it ends before its time is up.
    fn ends_within(&self, mut left: Duration) -> Result<bool, GroupError> {
        while !left.is_zero() {
            if self.ends_by(Instant::now().checked_add(left.max(TIMEOUT_LOOK)))? {
                return Ok(true);
            }
            left = self.time_left().unwrap_or_default();
        }
        self.ends_by(Some(Instant::now()))
    }

    fn ends_by(&self, deadline: Option<Instant>) -> Result<bool, GroupError> {
        wait_readable(&self.pidfd, deadline).map_err(|e| self.error("watch", e))
    }

    fn make_end(&self) -> Result<(), GroupError> {
        if let Some(entry) = self.shared.table().find(self.number) {
            entry.begin_to_end();
            entry.group.is_out_of_time();
            entry.group.signal(Signal::Term)?;
        }
        if self.ends_by(Instant::now().checked_add(STOP_GRACE))? {
            return Ok(());
        }
        if let Some(entry) = self.shared.table().find(self.number) {
            entry.group.signal_kill()?;
        }
        self.ends_by(None).map(drop)
    }

    fn record(&self, entry: &Entry, outcome: Outcome) -> CallRecord {
        let seen = Some(entry.peak_seen).filter(|peak| *peak > 0);
        let peak = outcome.usage.memory_peak.or(seen);
        let verdict = match outcome.timed_out {
            true => Verdict::TimedOut,
            // It may have ended by itself just before.
            false if entry.gave_way && !outcome.success() => Verdict::GaveWay,
            false => record::verdict_of(outcome.usage.oom_kills, peak, entry.limits.memory_max),
        };
        let (hint, hint_error) = entry.hint.clone();
        let mut record = CallRecord {
            command: entry.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            priority: entry.priority,
            hint,
            hint_error,
            limits: entry.limits.clone(),
            limit_from: entry.limit_from,
            held: entry.group.level().limits.clone(),
            joint_limit: self.shared.options.memory,
            peak,
            frozen: entry.frozen(),
            outcome,
            verdict,
            timeout: self.timeout,
            trouble: entry.trouble.clone(),
            advice: None,
        };
        record.advice = record::advice(&record, &self.shared.options.sizes);
        record
    }

    fn error(&self, doing: &'static str, errno: Errno) -> GroupError {
        GroupError { doing, pid: self.pid, source: errno.into() }
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        // Not while the table is held: the end of its group is waited for.
        let entry = self.shared.table().remove(self.number);
        drop(entry);
    }
}
