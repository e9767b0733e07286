//! Several attempts in parallel branches; the first that succeeds commits, nothing is left of the others.

mod attempt;
mod report;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use branch_proto::{GroupKind, Quota};

pub use report::{AttemptReport, ExploreReport, Progress, Verdict};

use crate::error::Error;
use crate::names::Names;
use crate::program::Program;
use crate::stop::{Reason, Stopper};
use crate::workspace::Branch;
use crate::workspace::{MAIN, Workspace};

/// Most attempts in one explore: the most branches one fork can make.
pub const ATTEMPTS_MAX: usize = 64;
/// Bytes of output kept per attempt unless told otherwise.
const OUTPUT_MAX_DEFAULT: usize = 64 << 10;

/// An explore to be run: attempts, a check, bounds.
///
/// Each attempt runs in a branch of its own, shown at the base's own path, with `BRANCH_NAME`,
/// `BRANCH_ATTEMPT` and `BRANCHING_ATTEMPT` (its number, from 1) in its environment. If it exits with 0 and
/// the check does too, its branch commits. The first commit wins; the daemon decides which that is.
#[derive(Debug)]
#[must_use = "nothing happens until it is run"]
pub struct Explore {
    pub(crate) workspace: Workspace,
    parent: String,
    names: Option<Vec<String>>,
    quota: Option<Quota>,
    pub(crate) attempts: Vec<Program>,
    pub(crate) check: Option<Program>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) output_max: usize,
    pub(crate) stopper: Stopper,
}

impl Explore {
    /// An explore of these attempts, off the base, without check or limit of time.
    pub fn new(workspace: &Workspace, attempts: Vec<Program>) -> Result<Explore, Error> {
        if attempts.is_empty() || attempts.len() > ATTEMPTS_MAX {
            let reason = format!("an explore has 1 to {ATTEMPTS_MAX} attempts, not {}", attempts.len());
            return Err(Error::Invalid { reason });
        }
        let stopper = Stopper::new().map_err(|source| Error::System { doing: "make a pipe", source })?;
        Ok(Explore {
            workspace: workspace.clone(),
            parent: MAIN.into(),
            names: None,
            quota: None,
            attempts,
            check: None,
            timeout: None,
            output_max: OUTPUT_MAX_DEFAULT,
            stopper,
        })
    }

    /// Forks off this branch instead of the base, and commits into it.
    pub fn parent(mut self, branch: impl Into<String>) -> Explore {
        self.parent = branch.into();
        self
    }

    /// Names for the branches, one per attempt; random ones unless told otherwise.
    pub fn names(mut self, names: Vec<String>) -> Explore {
        self.names = Some(names);
        self
    }

    /// How much each attempt's branch may hold of its own; as much as the parent may unless told otherwise.
    pub fn quota(mut self, quota: Quota) -> Explore {
        self.quota = Some(quota);
        self
    }

    /// Runs in the branch of each attempt that has exited with 0; what it leaves behind is committed too.
    pub fn check(mut self, check: Program) -> Explore {
        self.check = Some(check);
        self
    }

    /// Bounds each attempt together with its check.
    pub fn timeout(mut self, timeout: Duration) -> Explore {
        self.timeout = Some(timeout);
        self
    }

    /// Keeps so many bytes of the end of each attempt's output.
    pub fn output_max(mut self, bytes: usize) -> Explore {
        self.output_max = bytes;
        self
    }

    /// To end it early from elsewhere.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Runs it to its end. `progress` is called on this thread. When it returns, no process of an attempt is
    /// left, and of the branches only those reported as [`Verdict::NotCommitted`].
    ///
    /// # Errors
    /// When the attempts could not be begun. What happens to a single attempt is in the report.
    pub fn run(self, progress: &mut dyn FnMut(Progress)) -> Result<ExploreReport, Error> {
        let begun = Instant::now();
        let branches = self.fork()?;
        let names: Vec<String> = branches.iter().map(|branch| branch.name().to_owned()).collect();
        progress(Progress::Forked { branches: names.clone() });
        let (sender, receiver) = mpsc::channel();
        let outcomes = thread::scope(|scope| {
            let mut handles = Vec::new();
            for (index, branch) in branches.into_iter().enumerate() {
                let (explore, together, sender) = (&self, &names[..], sender.clone());
                let body = move || attempt::attempt(explore, index, branch, together, &sender);
                match thread::Builder::new().name(format!("attempt-{}", index + 1)).spawn_scoped(scope, body)
                {
                    Ok(handle) => handles.push(handle),
                    Err(source) => {
                        self.stopper.end(Reason::Stopped);
                        return Err(Error::System { doing: "start a thread", source });
                    }
                }
            }
            drop(sender);
            receiver.iter().for_each(&mut *progress);
            Ok(handles.into_iter().map(|handle| handle.join()).collect::<Vec<_>>())
        })?;
        self.report(begun.elapsed(), outcomes)
    }

    fn fork(&self) -> Result<Vec<Branch>, Error> {
        let names = match &self.names {
            Some(names) if names.len() == self.attempts.len() => Names::Given(names.clone()),
            Some(names) => {
                let reason = format!("{} names for {} attempts", names.len(), self.attempts.len());
                return Err(Error::Invalid { reason });
            }
            None => Names::Count(self.attempts.len()),
        };
        self.workspace.fork_limited(&self.parent, names, GroupKind::Exclusive, self.quota)
    }

    fn report(
        &self,
        duration: Duration,
        outcomes: Vec<thread::Result<attempt::Outcome>>,
    ) -> Result<ExploreReport, Error> {
        let mut commit = None;
        let mut attempts = Vec::new();
        for outcome in outcomes {
            let Ok(outcome) = outcome else {
                return Err(Error::Invalid {
                    reason: "an attempt's thread panicked: a bug of branchfs".into(),
                });
            };
            debug_assert!(outcome.commit.is_none() || commit.is_none(), "two attempts of a group committed");
            commit = commit.or(outcome.commit);
            attempts.push(outcome.report);
        }
        let winner = attempts.iter().position(|attempt| attempt.verdict == Verdict::Won);
        debug_assert_eq!(winner.is_some(), commit.is_some());
        let stopped = self.stopper.reason() == Some(Reason::Stopped);
        Ok(ExploreReport { winner, commit, attempts, duration, stopped })
    }
}
