mod live;
mod summary;

use std::ffi::OsString;
use std::io::{self, Write};
use std::time::Duration;

use branch_core::{ATTEMPTS_MAX, Explore, ExploreReport, MAIN, Program, Quota, Workspace};
use serde::Serialize;

use super::confine;
use super::context::Context;
use super::denials;
use super::duration;
use super::error::CliError;
use super::exit_code::Code;
use super::interrupt::{Act, Interrupts};
use super::output::Show;
use super::run::directory_in_base;
use super::view::View;
use super::{size, text};
pub(super) use live::{Live, describe};

/// Run attempts in parallel branches; the first that succeeds commits, the others leave no trace
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Run COMMAND in N branches; its number is in $BRANCH_ATTEMPT
    #[arg(short, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=ATTEMPTS_MAX as i64))]
    n: Option<u8>,
    /// One attempt: a line for the shell; give several
    #[arg(long = "cmd", value_name = "LINE", conflicts_with_all = ["command", "n"])]
    lines: Vec<OsString>,
    /// An attempt succeeds only if this line for the shell does too, in its branch
    #[arg(long, value_name = "LINE")]
    check: Option<OsString>,
    /// Kill an attempt, with its check, after this time, such as 90s or 5m
    #[arg(long, value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Let each attempt hold at most SIZE of its own, such as 500M or 2GiB
    #[arg(long, value_name = "SIZE", value_parser = size::limit)]
    max_size: Option<Quota>,
    /// Fork off PARENT and commit into it
    #[arg(short, long, default_value = MAIN)]
    parent: String,
    /// What the attempts work on
    #[arg(long, value_enum, default_value = "fuse")]
    view: View,
    #[command(flatten)]
    confine: confine::Options,
    /// The command of every attempt
    #[arg(last = true, required_unless_present = "lines", value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Serialize)]
struct Explored {
    explore: ExploreReport,
    /// What to try, where memory was not enough.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    advice: Vec<Advice>,
}

/// Words for an attempt.
#[derive(Serialize)]
struct Advice {
    /// Its index.
    attempt: usize,
    words: String,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let workspace = context.workspace()?;
        let (command, limit) = (self.command.clone(), self.confine.memory_limit());
        let explore = self.explore(context, &workspace)?;
        let mut live = Live::new(context.format());
        let report = run(explore, &mut |progress| live.show(&progress))?;
        let code = match (report.winner, report.stopped) {
            (Some(_), _) => Code::OK,
            (None, true) => Code::INTERRUPTED,
            (None, false) => Code::NO_WINNER,
        };
        let said = report.attempts.iter().enumerate().filter_map(|(attempt, ended)| {
            let words = limit.advice(&command, ended.outcome.as_deref()?)?;
            Some(Advice { attempt, words })
        });
        let advice = said.collect();
        context.emit(&Explored { explore: report, advice })?;
        Ok(code)
    }

    fn explore(self, context: &Context, workspace: &Workspace) -> Result<Explore, CliError> {
        let directory = directory_in_base(context, workspace)?;
        let confinement = self.confine.confinement()?;
        let at = |program: Program| program.current_dir(&directory).confine(confinement.clone());
        let seen = |program: Program| at(program).view(self.view.into());
        let attempts = if self.lines.is_empty() {
            vec![seen(Program::new(self.command)); self.n.unwrap_or(1).into()]
        } else {
            self.lines.into_iter().map(|line| seen(Program::shell(line))).collect()
        };
        let mut explore = Explore::new(workspace, attempts)?.parent(self.parent);
        if let Some(check) = self.check {
            explore = explore.check(at(Program::shell(check)));
        }
        if let Some(quota) = self.max_size {
            explore = explore.quota(quota);
        }
        if let Some(timeout) = self.timeout {
            explore = explore.timeout(timeout);
        }
        Ok(explore)
    }
}

/// Runs it; Ctrl-C stops it in order.
pub(super) fn run(
    explore: Explore,
    progress: &mut dyn FnMut(branch_core::Progress),
) -> Result<ExploreReport, CliError> {
    let stopper = explore.stopper();
    let interrupts = Interrupts::catch(|_| Act::Stop, move || stopper.stop())?;
    let report = explore.run(progress)?;
    drop(interrupts);
    Ok(report)
}

impl Show for Explored {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        summary::write(out, &self.explore)?;
        for (i, attempt) in self.explore.attempts.iter().enumerate() {
            let whose = format!("attempt {}", i + 1);
            denials::write(out, &whose, &attempt.denied, attempt.denied_dropped)?;
        }
        for Advice { attempt, words } in &self.advice {
            writeln!(out, "attempt {}: {}", attempt + 1, text::plain(words))?;
        }
        Ok(())
    }
}
