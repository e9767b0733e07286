//! Progress on standard error: one line per attempt, redrawn in place on a terminal, and one line per step
//! where there is none.

use std::io::{self, IsTerminal, Write};

use branch_core::{Progress, Verdict};

use super::super::output::Format;
use super::super::text;

/// What the user sees while an explore runs.
pub(in super::super) struct Live {
    mode: Mode,
    attempts: Vec<Attempt>,
    /// Lines on the screen that are ours.
    drawn: usize,
}

struct Attempt {
    branch: String,
    state: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Silent,
    Plain,
    /// Redrawn, on a screen with so many rows and columns.
    Screen {
        rows: usize,
        columns: usize,
    },
}

impl Live {
    pub(in super::super) fn new(format: Format) -> Live {
        let mode = match (format, screen()) {
            (Format::Json, _) => Mode::Silent,
            (Format::Text, None) => Mode::Plain,
            (Format::Text, Some((rows, columns))) => Mode::Screen { rows, columns },
        };
        Live { mode, attempts: Vec::new(), drawn: 0 }
    }

    /// Shows a step. A screen that has gone is no reason to stop the explore.
    pub(in super::super) fn show(&mut self, progress: &Progress) {
        let changed = self.apply(progress);
        let shown = match self.mode {
            Mode::Silent => Ok(()),
            Mode::Screen { rows, columns } if self.attempts.len() < rows => self.redraw(columns),
            Mode::Screen { .. } | Mode::Plain => changed.map_or(Ok(()), |attempt| self.line(attempt)),
        };
        if shown.is_err() {
            self.mode = Mode::Silent;
        }
    }

    /// Something else has been written below: the next redraw starts there.
    pub(in super::super) fn start_afresh(&mut self) {
        self.drawn = 0;
    }

    /// The attempt whose state has changed, if one alone.
    fn apply(&mut self, progress: &Progress) -> Option<usize> {
        let (attempt, state) = match progress {
            Progress::Forked { branches } => {
                let attempt = |branch: &String| Attempt { branch: branch.clone(), state: "forked".into() };
                self.attempts = branches.iter().map(attempt).collect();
                return None;
            }
            Progress::Started { attempt } => (*attempt, "running".to_owned()),
            Progress::Checking { attempt } => (*attempt, "checking".to_owned()),
            Progress::Committing { attempt } => (*attempt, "committing".to_owned()),
            Progress::Finished { attempt, verdict, duration } => {
                (*attempt, format!("{} after {}", describe(verdict), text::span(*duration)))
            }
        };
        self.attempts.get_mut(attempt)?.state = state;
        Some(attempt)
    }

    fn line(&self, attempt: usize) -> io::Result<()> {
        writeln!(io::stderr().lock(), "{}", self.describe(attempt))
    }

    fn redraw(&mut self, columns: usize) -> io::Result<()> {
        let mut out = io::stderr().lock();
        if self.drawn > 0 {
            // Up to our first line (ECMA-48 CPL).
            write!(out, "\x1b[{}F", self.drawn)?;
        }
        for attempt in 0..self.attempts.len() {
            // A line that wraps would put the next redraw in the wrong place.
            let line: String = self.describe(attempt).chars().take(columns.saturating_sub(1)).collect();
            writeln!(out, "\x1b[2K{line}")?;
        }
        self.drawn = self.attempts.len();
        out.flush()
    }

    fn describe(&self, attempt: usize) -> String {
        let Attempt { branch, state } = &self.attempts[attempt];
        format!("[{}/{}] {branch}: {state}", attempt + 1, self.attempts.len())
    }
}

/// A verdict in a few words.
pub(in super::super) fn describe(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Won => "won".into(),
        Verdict::Failed { exit_code } => format!("failed (exit code {exit_code})"),
        Verdict::CheckFailed { exit_code } => format!("check failed (exit code {exit_code})"),
        Verdict::TimedOut => "out of time, killed".into(),
        Verdict::Lost => "lost, killed".into(),
        Verdict::Stopped => "stopped, killed".into(),
        Verdict::NotCommitted { reason, .. } => format!("succeeded, but did not commit: {reason}"),
        Verdict::Error { reason } => format!("could not run: {reason}"),
    }
}

fn screen() -> Option<(usize, usize)> {
    let stderr = io::stderr();
    if !stderr.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stderr).ok()?;
    (size.ws_row > 1 && size.ws_col > 1).then_some((size.ws_row.into(), size.ws_col.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_step_changes_the_line_of_its_attempt() {
        let mut live = Live { mode: Mode::Silent, attempts: vec![], drawn: 0 };
        live.show(&Progress::Forked { branches: vec!["a".into(), "b".into()] });
        live.show(&Progress::Started { attempt: 1 });
        assert_eq!(live.describe(0), "[1/2] a: forked");
        assert_eq!(live.describe(1), "[2/2] b: running");
        let (verdict, duration) = (Verdict::Failed { exit_code: 3 }, Duration::from_millis(20));
        live.show(&Progress::Finished { attempt: 0, verdict, duration });
        assert_eq!(live.describe(0), "[1/2] a: failed (exit code 3) after 20 ms");
    }
}
