//! Tool calls: commands of one session, or one tenant, that share memory. Each is a group with a limit of its own,
//! chosen by a hint or by what the command took before; when all together get short of memory, what matters less is
//! slowed down, then stands still for a while, and is only killed when that is not enough.

mod decide;
mod hint;
mod history;
mod measure;
mod monitor;
mod record;
mod running;
mod table;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use self::decide::Priority;
pub use self::hint::{HINT_VARIABLE, HintError, HintSizes, MemoryHint};
pub use self::history::{HISTORY_COMMANDS_MAX, HISTORY_PEAKS_MAX, History};
pub use self::record::{CallRecord, LimitFrom, Verdict, memory_advice};
pub use self::running::RunningCall;
use self::table::{Entry, Shared};
use crate::capture::Taps;
use crate::command::Command;
use crate::error::{SpawnError, Step};
use crate::limits::{Enforced, Limit, Limits};
use crate::scope::Scope;

/// What the calls of one [`ToolCalls`] share, and what they get who say nothing.
#[derive(Debug, Clone)]
pub struct CallOptions {
    /// Bytes of memory that all calls may use together.
    pub memory: u64,
    /// Further limits for all together; its `memory_max` is replaced by `memory`.
    pub limits: Limits,
    /// What the words of hints mean.
    pub sizes: HintSizes,
    /// Bytes of memory for a call without hint and history. None: as much as all may use together.
    pub default_memory: Option<u64>,
    /// What commands took before; [`ToolCalls::history`] gives it back.
    pub history: History,
}

impl CallOptions {
    /// With `memory` bytes for all calls together, and nothing else said.
    pub fn new(memory: u64) -> CallOptions {
        let (limits, sizes, history) = (Limits::default(), HintSizes::default(), History::default());
        CallOptions { memory, limits, sizes, default_memory: None, history }
    }
}

/// A command to be run as one call.
#[derive(Debug)]
pub struct Call {
    command: Command,
    priority: Priority,
    hint: Option<MemoryHint>,
    timeout: Option<Duration>,
    cap: Option<usize>,
}

impl Call {
    /// Of priority normal, with the hint that is set in the command's own environment ([`Command::env`],
    /// [`HINT_VARIABLE`]) if there is one, and as much time as it takes. A `memory_max` among the command's own
    /// limits goes before hint and history.
    pub fn new(command: Command) -> Call {
        Call { command, priority: Priority::default(), hint: None, timeout: None, cap: None }
    }

    /// How much it matters.
    pub fn priority(mut self, priority: Priority) -> Call {
        self.priority = priority;
        self
    }

    /// Instead of the hint in its environment.
    pub fn hint(mut self, hint: MemoryHint) -> Call {
        self.hint = Some(hint);
        self
    }

    /// Keeps the first `cap` bytes of each of its standard output and standard error, for
    /// [`RunningCall::wait_with_output`]; the rest is read, counted and thrown away, as with [`Command::capture`], so that
    /// it never waits for a reader. Replaces the command's own stdout and stderr.
    pub fn capture(mut self, cap: usize) -> Call {
        self.cap = Some(cap);
        self
    }

    /// For how long it may run. The time in which it stands still for others does not count.
    pub fn timeout(mut self, timeout: Duration) -> Call {
        self.timeout = Some(timeout);
        self
    }
}

/// Runs commands as calls that share memory, and watches them with one thread, which sleeps while there is none.
/// Dropped, it watches no more: what stands still goes on, within the joint limit that the kernel holds.
#[derive(Debug)]
pub struct ToolCalls {
    shared: Arc<Shared>,
    monitor: Option<JoinHandle<()>>,
}

impl ToolCalls {
    /// In a [`Scope`] of its own; without one where the caller may make no control groups. Then
    /// [`ToolCalls::limits`] says of each limit that it is not held: calls are bounded process by process, and their
    /// joint limit of memory is kept by the watching thread alone, which counts resident sets.
    ///
    /// # Errors
    /// [`Step::Cgroup`] when the kernel does not take a limit, [`Step::Prepare`] when there is no thread to be had.
    pub fn new(options: CallOptions) -> Result<ToolCalls, SpawnError> {
        let scope = match Scope::new(&joint(&options)) {
            Ok(scope) => Some(scope),
            Err(error) if error.errno == libc::ENOTSUP => None,
            Err(error) => return Err(error),
        };
        ToolCalls::start_watching(scope, options)
    }

    /// In a scope inside this one, as of one tenant among several.
    ///
    /// # Errors
    /// As [`ToolCalls::new`].
    pub fn inside(scope: &Scope, options: CallOptions) -> Result<ToolCalls, SpawnError> {
        ToolCalls::start_watching(Some(scope.child(&joint(&options))?), options)
    }

    fn start_watching(scope: Option<Scope>, options: CallOptions) -> Result<ToolCalls, SpawnError> {
        let shared = Arc::new(Shared::new(scope, options));
        let watched = Arc::clone(&shared);
        let start = std::thread::Builder::new().name("tool-calls".to_owned());
        let failed = |e: io::Error| {
            SpawnError::new(Step::Prepare, e.raw_os_error().unwrap_or(libc::EAGAIN), "a thread")
        };
        let monitor = start.spawn(move || monitor::watch(&watched)).map_err(failed)?;
        Ok(ToolCalls { shared, monitor: Some(monitor) })
    }

    /// How the joint limits are held.
    pub fn limits(&self) -> Vec<(Limit, Enforced)> {
        match &self.shared.scope {
            Some(scope) => scope.limits().to_vec(),
            None => {
                joint(&self.shared.options).set().into_iter().map(|limit| (limit, Enforced::Not)).collect()
            }
        }
    }

    /// Starts a call.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn start(&self, call: Call) -> Result<RunningCall, SpawnError> {
        let Call { command, priority, hint, timeout, cap } = call;
        let (hint, hint_error) = match hint.map(Ok).or_else(|| MemoryHint::in_environment(&command.env)) {
            Some(Ok(hint)) => (Some(hint), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let argv = command.argv.clone();
        let (memory, limit_from) = self.shared.memory_for(&command, hint);
        let mut limits = Limits { memory_max: Some(memory), ..command.limits.clone() };
        let protects = self.shared.scope.as_ref().is_some_and(Scope::protects_memory);
        if priority == Priority::High && protects {
            limits.memory_low = limits.memory_low.or(Some(memory));
        }
        let command = match &self.shared.scope {
            Some(scope) => command.within(scope),
            None => command,
        };
        let (taps, command) = match cap {
            Some(cap) => Taps::of(command, cap).map(|(taps, command)| (Some(taps), command))?,
            None => (None, command),
        };
        let group = command.limits(limits.clone()).spawn()?;
        let mut entry = Entry::new(group, argv, priority, limits, (hint, hint_error), limit_from);
        if priority != Priority::Normal {
            entry.ease();
        }
        RunningCall::begin(&self.shared, entry, timeout, taps)
    }

    /// What commands took so far, those that were known before included.
    pub fn history(&self) -> History {
        self.shared.table().history.clone()
    }
}

impl Drop for ToolCalls {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(monitor) = self.monitor.take() {
            // It fails only if the thread panicked: then there is nobody to stop.
            drop(monitor.join());
        }
    }
}

/// What bounds all calls together.
fn joint(options: &CallOptions) -> Limits {
    Limits { memory_max: Some(options.memory), ..options.limits.clone() }
}
