//! A call from its start to its record.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::measure::Measure;
use super::record::{self, CallRecord, Verdict};
use super::table::{Entry, GroupOfCall, Shared};
use crate::capture::{Output, STOP_GRACE, Taps};
use crate::error::{GroupError, SpawnError, Step};
use crate::group::Signal;
use crate::outcome::Outcome;
use crate::pidfd::wait_readable;
use crate::sys::SignalsBlocked;

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
    output: Option<Reader>,
}

/// The thread that reads a call's output: its two streams.
type Reader = JoinHandle<Result<[Output; 2], Errno>>;

impl RunningCall {
    pub(super) fn begin(
        shared: &Arc<Shared>,
        entry: Entry,
        timeout: Option<Duration>,
        taps: Option<Taps>,
    ) -> Result<RunningCall, SpawnError> {
        let failed = |e: std::io::Error| {
            SpawnError::new(Step::Prepare, e.raw_os_error().unwrap_or(libc::EMFILE), "a descriptor")
        };
        let pidfd = entry.group.get().pidfd().try_clone_to_owned().map_err(failed)?;
        let pid = entry.group.get().pid();
        let output = taps.map(|taps| read(taps, pidfd.try_clone()?)).transpose().map_err(failed)?;
        let number = shared.add(entry);
        Ok(RunningCall { shared: Arc::clone(shared), number, pid, pidfd, timeout, output })
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
        self.group().map_or(Ok(()), |group| group.get().signal(signal))
    }

    /// Waits until nothing of it is left, and says what became of it. When its time is up it is asked to end, and
    /// killed after [`STOP_GRACE`].
    ///
    /// # Errors
    /// Only when `poll(2)` does not work (out of memory), or the kernel refuses a signal.
    pub fn wait(mut self) -> Result<CallRecord, GroupError> {
        self.wait_for_record()
    }

    /// As [`RunningCall::wait`], with what it wrote to standard output and to standard error, if it was started with
    /// [`super::Call::capture`]: else nothing.
    ///
    /// # Errors
    /// As [`RunningCall::wait`].
    pub fn wait_with_output(mut self) -> Result<(CallRecord, [Output; 2]), GroupError> {
        let record = self.wait_for_record()?;
        let Some(reader) = self.output.take() else { return Ok((record, Default::default())) };
        // It panics no more than this thread does, and has nothing to wait for any more.
        let read = reader.join().map_err(|_| self.error("read", Errno::IO))?;
        Ok((record, read.map_err(|e| self.error("read", e))?))
    }

    fn wait_for_record(&mut self) -> Result<CallRecord, GroupError> {
        let in_time = match self.time_left() {
            None => self.ends_by(None)?,
            Some(left) => self.ends_within(left)?,
        };
        if !in_time {
            self.make_end()?;
        }
        // Its own statement: the table is not held while its last words are waited for.
        let entry = self.shared.table().remove(self.number);
        let entry = entry.ok_or_else(|| self.error("find", Errno::SRCH))?;
        if !in_time {
            entry.group.is_out_of_time();
        }
        let outcome = entry.group.wait()?;
        let record = self.record(&entry, outcome);
        let stopped = record.verdict == Verdict::OverLimit;
        if let Some(peak) = record.peak {
            self.shared.table().history.note(&entry.argv, peak, stopped);
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
        let measure = self.shared.table().find(self.number).and_then(Measure::let_end);
        if let Some(measure) = measure {
            measure.carry_out(&self.shared);
        }
        let Some(group) = self.group() else { return Ok(()) };
        group.get().signal(Signal::Term)?;
        if self.ends_by(Instant::now().checked_add(STOP_GRACE))? {
            return Ok(());
        }
        group.get().signal_kill()?;
        self.ends_by(None).map(drop)
    }

    fn group(&self) -> Option<Arc<GroupOfCall>> {
        self.shared.table().find(self.number).map(|entry| Arc::clone(&entry.group))
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
            held: entry.group.get().level().limits.clone(),
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

/// Starts to read, until the group behind the pidfd has ended.
fn read(taps: Taps, pidfd: OwnedFd) -> std::io::Result<Reader> {
    // The embedding program's signals are for its own threads.
    let blocked = SignalsBlocked::new();
    let reading = thread::Builder::new().name("call-output".to_owned());
    let reader = reading.spawn(move || taps.read_all(pidfd.as_fd()));
    drop(blocked);
    reader
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        // Not while the table is held: the end of its group is waited for.
        let entry = self.shared.table().remove(self.number);
        if let Some(entry) = entry {
            entry.group.end();
        }
    }
}
