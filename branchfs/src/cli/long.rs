//! A commit that takes long: a line on the terminal says how far it is, and Ctrl-C calls it off while that is possible.

use std::io::{self, IsTerminal, PipeReader, PipeWriter, Write};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use branch_core::{CommitPhase, CommitProgress, Event, Workspace};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::context::Context;
use super::error::CliError;
use super::interrupt::{Act, Interrupts};
use super::output::Format;
use super::text;

/// What is over by then is not spoken of.
const PATIENCE: Duration = Duration::from_secs(1);
/// A line that wraps cannot be overwritten.
const COLUMNS_MAX: usize = 79;
/// To the first column, and clear the line.
const CLEAR: &str = "\r\x1b[K";

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

impl Options {
    /// Does what commits `branch`, or with `main` undoes or redoes.
    pub(super) fn watch<T>(
        &self,
        context: &Context,
        workspace: &Workspace,
        branch: &str,
        act: impl FnOnce() -> T,
    ) -> Result<T, CliError> {
        let shown = !self.quiet && context.format() == Format::Text && io::stderr().is_terminal();
        let line = if shown { Some(Line::start(workspace, branch)?) } else { None };
        let over = if shown { CLEAR } else { "" };
        let interrupts =
            Interrupts::catch(|_| Act::Stop, call_off(workspace.clone(), branch.to_owned(), over))?;
        let done = act();
        drop(interrupts);
        drop(line);
        Ok(done)
    }
}

/// Who waits for the commit hears that it was called off; a refusal is told at once, in the place of the line.
fn call_off(workspace: Workspace, branch: String, over: &'static str) -> impl FnMut() + Send {
    move || {
        if let Err(refused) = workspace.backend().cancel(&branch) {
            let said = writeln!(io::stderr(), "{over}branchfs: {refused}");
            // With the terminal gone nobody waits for the word.
            drop(said);
        }
    }
}

/// The line, drawn by a thread until this is dropped.
struct Line {
    held: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Line {
    fn start(workspace: &Workspace, branch: &str) -> Result<Line, CliError> {
        let failed = |source| CliError::System { doing: "watch the commit", source };
        let (ended, held) = io::pipe().map_err(failed)?;
        let (workspace, branch) = (workspace.clone(), branch.to_owned());
        let body = move || {
            if let Err(error) = follow(&workspace, &branch, &ended, &mut io::stderr()) {
                tracing::debug!("the progress of the commit cannot be shown: {error}");
            }
        };
        let thread = thread::Builder::new().name("progress".into()).spawn(body).map_err(failed)?;
        Ok(Line { held: Some(held), thread: Some(thread) })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        drop(self.held.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the thread that shows the progress panicked");
        }
    }
}

fn follow(workspace: &Workspace, branch: &str, ended: &PipeReader, out: &mut dyn Write) -> io::Result<()> {
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as _, tv_nsec: 0 };
    if wait(&mut [PollFd::new(ended, PollFlags::IN)], Some(&patience))? {
        return Ok(());
    }
    let mut events = workspace.backend().events().map_err(io::Error::other)?;
    loop {
        let mut both =
            [PollFd::from_borrowed_fd(events.as_fd(), PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
        wait(&mut both, None)?;
        if !both[1].revents().is_empty() {
            return write!(out, "{CLEAR}").and_then(|()| out.flush());
        }
        match events.next() {
            Some(Ok(Event::Progress { progress })) if progress.branch == branch => {
                write!(out, "{CLEAR}{}", said(&progress)).and_then(|()| out.flush())?;
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(io::Error::other(error)),
            None => return Ok(()),
        }
    }
}

fn wait(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> io::Result<bool> {
    Ok(rustix::io::retry_on_intr(|| poll(fds, timeout))? > 0)
}

fn said(progress: &CommitProgress) -> String {
    let CommitProgress { branch, phase, done, of, bytes } = progress;
    let what = match phase {
        CommitPhase::Planning => format!("planning, {of} objects"),
        CommitPhase::Staging if *bytes > 0 => {
            format!("preparing, {done} of {of}, {} copied", text::size(*bytes))
        }
        CommitPhase::Staging => format!("preparing, {done} of {of}"),
        CommitPhase::Syncing => "making it durable".to_owned(),
        CommitPhase::Deciding => "decided".to_owned(),
        CommitPhase::WritingBack => format!("writing into the base, {done} of {of}"),
        CommitPhase::Finishing => "making the base durable".to_owned(),
        CommitPhase::Done => "done".to_owned(),
    };
    // Names are ASCII.
    let room = COLUMNS_MAX.saturating_sub(what.len() + 2);
    format!("{}: {what}", &branch[..branch.len().min(room)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_phase_and_numbers_and_never_wraps() {
        let progress = |branch: &str, phase, done, of| CommitProgress {
            branch: branch.into(),
            phase,
            done,
            of,
            bytes: 0,
        };
        let line = said(&progress("idea", CommitPhase::WritingBack, 1024, 100_000));
        assert_eq!(line, "idea: writing into the base, 1024 of 100000");
        let copied = CommitProgress { bytes: 3 << 29, ..progress("idea", CommitPhase::Staging, 0, 1) };
        assert_eq!(said(&copied), "idea: preparing, 0 of 1, 1.5 GiB copied");
        let long = "b".repeat(255);
        let line = said(&progress(&long, CommitPhase::Staging, u64::MAX, u64::MAX));
        assert!(line.len() <= COLUMNS_MAX && line.ends_with(&u64::MAX.to_string()), "{line}");
    }
}
