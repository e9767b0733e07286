use std::env;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, OnceLock};

use branch_core::{Branch, CommitReport, Error, GroupKind, Names};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::interrupt::{Act, Interrupts};
use super::output::Show;
use super::text;

/// Apply a patch to a branch, all or none
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The branch, or main
    branch: String,
    /// The patch; - or nothing is standard input
    patch: Option<PathBuf>,
}

#[derive(Serialize)]
struct Applied {
    applied: CommitReport,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let patch = whole(self.input(context.directory())?)?;
        let workspace = context.workspace()?;
        let mut forked = workspace.fork_from(&self.branch, Names::Count(1), GroupKind::Independent)?;
        let missing = || CliError::Daemon { reason: "it forked no branch and gave no error".into() };
        // Dropped on the way, it is aborted: nothing has happened then.
        let branch = forked.pop().ok_or_else(missing)?;
        let Some(patch) = patch else {
            let applied = branch.commit().map_err(Error::from)?;
            context.emit(&Applied { applied })?;
            return Ok(Code::OK);
        };
        let (ended, interrupted) = supervise(git_apply(&branch, patch))?;
        if interrupted {
            return Ok(Code::INTERRUPTED);
        }
        if !ended.status.success() {
            return Err(refused(&ended));
        }
        let applied = branch.commit().map_err(Error::from)?;
        context.emit(&Applied { applied })?;
        Ok(Code::OK)
    }

    fn input(&self, directory: &Path) -> Result<(Box<dyn Read>, PathBuf), CliError> {
        match self.patch.as_deref().filter(|path| path.as_os_str() != "-") {
            None => Ok((Box::new(io::stdin()), "standard input".into())),
            Some(path) => {
                let path = directory.join(path);
                let file = File::open(&path).map_err(CliError::at("read", &path))?;
                Ok((Box::new(file), path))
            }
        }
    }
}

/// The patch in memory, where git has it, too: before anything is made for it. `None` if there is not one byte, as
/// of a diff without a difference; git takes that for a mistake.
fn whole((mut input, path): (Box<dyn Read>, PathBuf)) -> Result<Option<Stdio>, CliError> {
    let memory =
        |source: Errno| CliError::System { doing: "take memory for the patch", source: source.into() };
    let mut patch = File::from(memfd_create("patch", MemfdFlags::CLOEXEC).map_err(memory)?);
    let length = io::copy(&mut input, &mut patch).map_err(CliError::at("read", path))?;
    patch.rewind().map_err(|source| CliError::System { doing: "go back in the patch", source })?;
    Ok((length > 0).then(|| Stdio::from(patch)))
}

/// Git in the branch's view, with nothing to turn its head: no repository, so no attributes and filters that would
/// change line ends or content, and nobody's settings.
fn git_apply(branch: &Branch, patch: Stdio) -> Command {
    let mut git = Command::new("git");
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"GIT_")) {
        git.env_remove(name);
    }
    git.env("GIT_DIR", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    git.args(["apply", "--whitespace=nowarn"]);
    git.current_dir(branch.path()).stdin(patch).stdout(Stdio::null()).stderr(Stdio::piped());
    git
}

/// Runs git to its end, which a signal to us brings about early; whether one did.
fn supervise(mut git: Command) -> Result<(Output, bool), CliError> {
    let target: Arc<OnceLock<OwnedFd>> = Arc::default();
    let doomed = target.clone();
    let stop = move || {
        if let Some(git) = doomed.get() {
            end(git);
        }
    };
    // Ctrl-C on a terminal reaches git by itself, and counts all the same.
    let interrupts = Interrupts::catch(|_| Act::Stop, stop)?;
    let child = git.spawn().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => CliError::Other {
            reason: "git applies patches, and there is none here".into(),
            hint: "install git, or change the files in 'branchfs path BRANCH' by hand".into(),
        },
        _ => CliError::System { doing: "start git", source },
    })?;
    let watched = |source| CliError::System { doing: "watch git", source };
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).map_err(|e| watched(e.into()))?;
    let pidfd = target.get_or_init(|| pidfd);
    if interrupts.stopped() {
        end(pidfd);
    }
    let ended = child.wait_with_output().map_err(watched)?;
    Ok((ended, interrupts.stopped()))
}

fn end(git: &OwnedFd) {
    // It may have ended by itself.
    if let Err(error) = pidfd_send_signal(git, Signal::TERM) {
        tracing::debug!(%error, "git was not signalled");
    }
}

fn refused(git: &Output) -> CliError {
    let said = String::from_utf8_lossy(&git.stderr);
    let lines: Vec<_> = said.lines().map(|line| format!("  {line}")).collect();
    CliError::Other {
        reason: format!("git does not apply the patch\n{}", lines.join("\n")),
        hint: "nothing has changed; is it meant for another branch, or applied already?".into(),
    }
}

impl Show for Applied {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let report = &self.applied;
        if report.changed == 0 && report.commit.is_none() {
            return writeln!(out, "nothing to apply to {}: the patch changes nothing", report.into);
        }
        let number = report.commit.map(|n| format!(" as commit {n}")).unwrap_or_default();
        writeln!(out, "applied to {}{number}: {}", report.into, text::count(report.changed, "path"))?;
        report.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
    }
}
