//! One attempt, on a thread of its own.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use branch_proc::{Command, Denial};
use branch_proto::CommitReport;

use super::Explore;
use super::report::{AttemptReport, Progress, Verdict};
use crate::error::Error;
use crate::follow::{End, Seen, follow};
use crate::program::Program;
use crate::stop::Reason;
use crate::tail::Tail;
use crate::workspace::Branch;

/// What the thread brings home.
pub(super) struct Outcome {
    pub(super) report: AttemptReport,
    pub(super) commit: Option<CommitReport>,
}

/// What a step of an attempt needs.
struct Attempt<'a> {
    explore: &'a Explore,
    index: usize,
    /// The branches of all attempts: they end together.
    together: &'a [String],
    progress: &'a Sender<Progress>,
    deadline: Option<Instant>,
    output: Tail,
    check: Option<Duration>,
    last: Option<Box<branch_proc::Outcome>>,
    /// What its command and its check were denied, and how many more.
    denied: (Vec<Denial>, u64),
    /// What its command worked on.
    seen: Seen,
}

/// Runs attempt `index` in `branch` to its verdict. Nothing of it is left but what the verdict says.
pub(super) fn attempt(
    explore: &Explore,
    index: usize,
    branch: Branch,
    together: &[String],
    progress: &Sender<Progress>,
) -> Outcome {
    let begun = Instant::now();
    let mut attempt = Attempt {
        explore,
        index,
        together,
        progress,
        deadline: explore.timeout.and_then(|timeout| begun.checked_add(timeout)),
        output: Tail::new(explore.output_max),
        check: None,
        last: None,
        denied: Default::default(),
        seen: Seen::default(),
    };
    let name = branch.name().to_owned();
    let (verdict, commit) = attempt.judge(branch);
    if verdict == Verdict::Won {
        explore.stopper.end(Reason::Won);
    }
    let duration = begun.elapsed();
    attempt.tell(Progress::Finished { attempt: index, verdict: verdict.clone(), duration });
    let Attempt { output, check, last: outcome, denied, seen: Seen { view, because }, .. } = attempt;
    let (denied, denied_dropped) = denied;
    let report = AttemptReport {
        branch: name,
        verdict,
        duration,
        check,
        outcome,
        denied,
        denied_dropped,
        view,
        because,
        output,
    };
    Outcome { report, commit }
}

impl Attempt<'_> {
    /// Command, check, commit. Consumes the branch: unless committed or released, it is aborted.
    fn judge(&mut self, branch: Branch) -> (Verdict, Option<CommitReport>) {
        if let Err(verdict) = self.succeed(&branch) {
            return (verdict, None);
        }
        self.tell(Progress::Committing { attempt: self.index });
        match branch.commit() {
            Ok(report) => (Verdict::Won, Some(report)),
            Err(failed) if failed.error.is_gone() => (Verdict::Lost, None),
            Err(failed) => {
                // The work succeeded: it is not ours to throw away.
                failed.branch.keep();
                let reason = failed.error.to_string();
                let conflicts = failed.error.into_conflicts();
                (Verdict::NotCommitted { reason, conflicts }, None)
            }
        }
    }

    fn succeed(&mut self, branch: &Branch) -> Result<(), Verdict> {
        let explore = self.explore;
        self.tell(Progress::Started { attempt: self.index });
        let (exit_code, seen) = self.run(branch, &explore.attempts[self.index])?;
        self.seen = seen;
        match exit_code {
            0 => {}
            exit_code => return Err(Verdict::Failed { exit_code }),
        }
        let Some(check) = &explore.check else {
            return Ok(());
        };
        self.tell(Progress::Checking { attempt: self.index });
        let begun = Instant::now();
        let checked = self.run(branch, check);
        self.check = Some(begun.elapsed());
        match checked?.0 {
            0 => Ok(()),
            exit_code => Err(Verdict::CheckFailed { exit_code }),
        }
    }

    /// The exit code, if the program came to its end by itself, and what it worked on.
    fn run(&mut self, branch: &Branch, program: &Program) -> Result<(i32, Seen), Verdict> {
        let number = (self.index + 1).to_string();
        let numbered =
            |command: Command| command.env("BRANCH_ATTEMPT", &number).env("BRANCHING_ATTEMPT", &number);
        let stopper = &self.explore.stopper;
        let followed =
            follow(branch, (program, self.together), &numbered, self.deadline, stopper, &mut self.output);
        if let Ok((End::Ended(outcome), _)) = &followed {
            self.denied.0.extend(outcome.denials.iter().cloned());
            self.denied.1 += outcome.denials_dropped;
            self.last = Some(outcome.clone());
        }
        match followed {
            Ok((End::Stopped, _)) => Err(self.stopped()),
            Ok((End::Ended(outcome), _)) if outcome.timed_out => Err(Verdict::TimedOut),
            Ok((End::Ended(outcome), seen)) if outcome.success() => Ok((0, seen)),
            // The view of a branch that ended fails every call, and the daemon kills what runs in it: the exit
            // code of a loser says nothing.
            Ok((End::Ended(outcome), seen)) if !self.has_ended(branch) => Ok((outcome.shell_code(), seen)),
            Ok((End::Ended(_), _)) => Err(self.stopped()),
            Err(_) if self.explore.stopper.reason().is_some() => Err(self.stopped()),
            // Nor does it say anything that its program could not be started: there is no view any more.
            Err(error) if error.is_gone() || self.has_ended(branch) => Err(self.stopped()),
            Err(error) => Err(Verdict::Error { reason: error.to_string() }),
        }
    }

    fn has_ended(&self, branch: &Branch) -> bool {
        let inspected = self.explore.workspace.backend().inspect(branch.name());
        inspected.is_err_and(|error: Error| error.is_gone())
    }

    fn stopped(&self) -> Verdict {
        match self.explore.stopper.reason() {
            Some(Reason::Stopped) => Verdict::Stopped,
            Some(Reason::Won) | None => Verdict::Lost,
        }
    }

    fn tell(&self, progress: Progress) {
        // The receiver outlives the threads; were it gone, nobody would be left to be told.
        drop(self.progress.send(progress));
    }
}
