use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use branch_core::{
    Branch, CommitReport, Error, Failure, GroupKind, MAIN, Names, Program, Quota, Started, ViewKind,
    Workspace,
};
use branch_proc::{
    Command, Denial, Enforced, Level, Observe, Outcome, Rung, STOP_GRACE, SpawnError, Step, SystemdScope,
    Tried, Usage, kill_pidfd,
};
use serde::Serialize;
use signal_hook::consts::SIGINT;

use super::commit;
use super::confine;
use super::context::Context;
use super::denials;
use super::duration;
use super::error::CliError;
use super::exit_code::Code;
use super::interrupt::{Act, Interrupts};
use super::output::{Format, Show};
use super::view::View;
use super::{size, text};

/// A second Ctrl-C within this time kills a command that ignores it.
const SECOND_PRESS: Duration = Duration::from_secs(2);
/// How long a kill may take; longer only if a process hangs in the kernel.
const KILL_MAX: Duration = Duration::from_secs(10);

/// Run a command in a branch; commit if it succeeds, abort if not
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Use this branch, made if there is none of that name; a new one of its own if left out
    #[arg(short, long, value_name = "NAME")]
    branch: Option<String>,
    /// Fork a new branch off PARENT
    #[arg(short, long, default_value = MAIN)]
    parent: String,
    /// Let the branch hold at most SIZE of its own, such as 500M or 2GiB
    #[arg(long, value_name = "SIZE", value_parser = size::limit)]
    max_size: Option<Quota>,
    /// Leave the branch alive whatever happens
    #[arg(long)]
    keep: bool,
    /// Kill the command after this time, such as 90s or 5m
    #[arg(long, value_parser = duration::parse)]
    timeout: Option<Duration>,
    /// Confine nothing, and write a policy into FILE that allows just what the command did
    #[arg(long, value_name = "FILE", conflicts_with_all = ["policy", "no_watch"])]
    learn: Option<PathBuf>,
    /// What the command works on
    #[arg(long, value_enum, default_value = "fuse")]
    view: View,
    #[command(flatten)]
    confine: confine::Options,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What became of the branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Committed,
    Aborted,
    Kept,
}

#[derive(Serialize)]
struct Ran {
    branch: String,
    state: State,
    exit_code: u8,
    timed_out: bool,
    duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<CommitReport>,
    #[serde(flatten)]
    group: Facts,
}

/// What is told of the command's process group.
#[derive(Serialize)]
struct Facts {
    view: ViewKind,
    /// Why not native, if that was wished for.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
    level: Level,
    usage: Usage,
    denied: Vec<Denial>,
    /// Denials beyond those that are kept.
    denied_dropped: u64,
    /// What to try, where memory was not enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// How the command came to its end.
enum End {
    /// By itself, or by the clock.
    Ended(Box<Outcome>),
    Interrupted,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let workspace = context.workspace()?;
        let (branch, origin) = self.branch(&workspace)?;
        let begun = Instant::now();
        let (end, group) = match self.supervise(context, &branch) {
            Ok(ended) => ended,
            Err(error) => {
                // A typing mistake must not cost the work that is in the branch already.
                if origin == Origin::Existed || self.keep {
                    branch.keep();
                }
                return Err(error);
            }
        };
        let code = end.code();
        let mut ran = Ran {
            branch: branch.name().to_owned(),
            state: State::Kept,
            exit_code: code.0,
            timed_out: matches!(&end, End::Ended(outcome) if outcome.timed_out),
            duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            commit: None,
            group,
        };
        if self.keep {
            let kept = branch.keep();
            if ran.group.view == ViewKind::Native {
                workspace.backend().take_in(&kept.name)?;
            }
        } else if code == Code::OK {
            ran.commit = Some(commit_or_keep(branch)?);
            ran.state = State::Committed;
        } else {
            branch.abort()?;
            ran.state = State::Aborted;
        }
        context.emit_beside_command(&ran)?;
        Ok(code)
    }

    fn branch(&self, workspace: &Workspace) -> Result<(Branch, Origin), CliError> {
        if let Some(name) = &self.branch {
            match workspace.adopt(name) {
                Ok(branch) => {
                    let limited = self.max_size.map(|quota| workspace.backend().set_quota(name, quota));
                    if let Some(Err(error)) = limited {
                        branch.keep();
                        return Err(error.into());
                    }
                    return Ok((branch, Origin::Existed));
                }
                Err(Error::Failed(Failure::NoSuchBranch { .. } | Failure::Stale { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let names = self.branch.as_deref().map_or(Names::Count(1), Names::from);
        let mut forked =
            workspace.fork_limited(&self.parent, names, GroupKind::Independent, self.max_size)?;
        let missing = || CliError::Daemon { reason: "it forked no branch and gave no error".into() };
        forked.pop().map(|branch| (branch, Origin::Made)).ok_or_else(missing)
    }

    fn supervise(&self, context: &Context, branch: &Branch) -> Result<(End, Facts), CliError> {
        let directory = directory_in_base(context, branch.workspace())?;
        let mut confinement = self.confine.confinement()?;
        if self.learn.is_some() {
            confinement.policy = None;
            confinement.observe = Some(Observe::Everything);
        }
        let program = Program::new(self.command.iter().cloned()).current_dir(directory);
        let program = program.confine(confinement).view(self.view.into());
        let shape = |command: Command| {
            let command = command.foreground();
            if context.format() != Format::Json {
                return Ok(command);
            }
            // Standard output is for our one document.
            let stderr = io::stderr().as_fd().try_clone_to_owned();
            Ok(command.stdout(stderr.map_err(|source| Error::System { doing: "copy stderr", source })?))
        };
        // Listening starts before the command does: no Ctrl-C falls between the two.
        let target = Arc::new(OnceLock::new());
        let interrupts = Interrupts::catch(decide(target.clone()), kill(target.clone()))?;
        let started = branch.start(&program, &[], &shape).map_err(start_error)?;
        let Started { mut group, view, because } = started;
        let watched = |source| CliError::from(Error::Group { source });
        let pidfd = group.pidfd().try_clone_to_owned();
        let pidfd = pidfd.map_err(|source| CliError::System { doing: "copy a pidfd", source })?;
        target.get_or_init(|| pidfd);
        if interrupts.stopped() {
            group.kill().map_err(watched)?;
        }
        let outcome = match self.timeout {
            None => group.wait().map_err(watched)?,
            Some(timeout) => match group.wait_timeout(timeout).map_err(watched)? {
                Some(outcome) => outcome,
                None => group.time_out(STOP_GRACE).map_err(watched)?,
            },
        };
        if let Some(file) = &self.learn {
            learn(&group.take_tried(), branch.workspace().base(), file)?;
        }
        let facts = Facts {
            view,
            because,
            level: group.level().clone(),
            usage: outcome.usage,
            denied: outcome.denials.clone(),
            denied_dropped: outcome.denials_dropped,
            advice: self.confine.memory_limit().advice(&self.command, &outcome),
        };
        let interrupted = interrupts.stopped();
        let end = if interrupted { End::Interrupted } else { End::Ended(Box::new(outcome)) };
        Ok((end, facts))
    }
}

/// Writes the policy that allows what was tried.
fn learn(tried: &Tried, base: &Path, file: &Path) -> Result<(), CliError> {
    let name = file.file_stem().map_or("learned".into(), |stem| stem.to_string_lossy().into_owned());
    let unusable = |reason: String| CliError::Other {
        reason: format!("no policy can be written for this command: {reason}"),
        hint: "write one by hand: docs/process.md".into(),
    };
    let variables = std::env::vars_os().map(|(variable, _)| variable);
    let policy =
        tried.policy(&name, &[base.to_owned()], variables).map_err(|error| unusable(error.to_string()))?;
    let mut text = toml::to_string(&policy).map_err(|error| unusable(error.to_string()))?;
    let hosts: Vec<&str> = tried.addresses().collect();
    if !hosts.is_empty() {
        text.push_str(
            "# Connected to, so that net is open; name the hosts instead: net = { allow = [\"HOST\"] }\n",
        );
        text.extend(hosts.into_iter().map(|host| format!("#   {host}\n")));
    }
    if tried.dropped() > 0 {
        text.push_str(&format!("# {} more things were tried than could be kept.\n", tried.dropped()));
    }
    fs::write(file, text).map_err(CliError::at("write", file))
}

/// Whether the branch was there before us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Existed,
    Made,
}

impl End {
    fn code(&self) -> Code {
        match self {
            End::Ended(outcome) if outcome.timed_out => Code::TIMEOUT,
            End::Ended(outcome) => u8::try_from(outcome.shell_code()).map_or(Code::FAILURE, Code),
            End::Interrupted => Code::INTERRUPTED,
        }
    }
}

/// The user's directory if it is in the base, else the base: the command sees the same paths either way.
pub(super) fn directory_in_base(context: &Context, workspace: &Workspace) -> Result<PathBuf, CliError> {
    let here = fs::canonicalize(context.directory()).map_err(CliError::at("enter", context.directory()))?;
    let store = branch_core::Location::default_store(workspace.base());
    let inside = here.starts_with(workspace.base()) && !here.starts_with(store);
    Ok(if inside { here } else { workspace.base().to_owned() })
}

/// A commit that fails keeps the branch: the command succeeded, and its work is not ours to throw away.
fn commit_or_keep(branch: Branch) -> Result<CommitReport, CliError> {
    let failed = match branch.commit() {
        Ok(report) => return Ok(report),
        Err(failed) => failed,
    };
    if failed.error.is_gone() {
        return Err(failed.error.into());
    }
    let branch = failed.branch.keep().name;
    Err(CliError::Kept { reason: Box::new(failed.error.into()), branch })
}

/// The command's pidfd, once it runs.
type Target = Arc<OnceLock<OwnedFd>>;

/// On a terminal, Ctrl-C reaches the command as it reaches us, and what to do is its business (an editor
/// goes on); pressed twice, it kills. Any other way the signal was meant for us alone.
fn decide(target: Target) -> impl FnMut(i32) -> Act + Send + 'static {
    let mut last: Option<Instant> = None;
    move |signal| {
        let first_press = last.replace(Instant::now()).is_none_or(|last| last.elapsed() > SECOND_PRESS);
        let commands = signal == SIGINT && first_press && io::stdin().is_terminal() && target.get().is_some();
        if commands { Act::Ignore } else { Act::Stop }
    }
}

fn kill(target: Target) -> impl FnMut() + Send + 'static {
    move || {
        let killed = target.get().map(|pidfd| kill_pidfd(pidfd.as_fd(), KILL_MAX));
        if let Some(Err(error)) = killed {
            tracing::error!(%error, "the command could not be killed");
        }
    }
}

fn start_error(error: Error) -> CliError {
    let Error::Spawn { source } = error else {
        return error.into();
    };
    let (said, hint) = (source.to_string(), source.hint());
    // It brings its hint along; ours goes on a line of its own.
    let reason = said.strip_suffix(hint).map_or(&*said, |cause| cause.trim_end_matches("; ")).to_owned();
    let hint = if hint.is_empty() { "run 'branchfs doctor' to see what this machine lacks" } else { hint };
    CliError::Spawn { reason, hint: hint.into(), code: spawn_code(&source) }
}

/// As shells do.
fn spawn_code(error: &SpawnError) -> Code {
    match (error.step, error.errno) {
        (Step::Exec, libc::ENOENT) => Code::NOT_FOUND,
        (Step::Exec, _) => Code::CANNOT_EXECUTE,
        _ => Code::FAILURE,
    }
}

impl Show for Ran {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.group.describe(out)?;
        let branch = &self.branch;
        match (self.state, &self.commit) {
            (State::Committed, Some(report)) => {
                write!(out, "branchfs: ")?;
                commit::describe(out, report)
            }
            (State::Kept, _) => writeln!(out, "branchfs: kept {branch}, exit code {}", self.exit_code),
            _ => writeln!(out, "branchfs: aborted {branch}, exit code {}", self.exit_code),
        }
    }
}

impl Facts {
    /// What there is to say about how the command was held; nothing if all was as asked for.
    fn describe(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(reason) = &self.because {
            writeln!(out, "branchfs: on the FUSE view: {}", text::plain(reason))?;
        }
        if self.level.rung == Rung::Subreaper {
            writeln!(
                out,
                "branchfs: the command was held together by a subreaper only: it could have left its group"
            )?;
        }
        for (limit, enforced) in &self.level.limits {
            let how = match enforced {
                Enforced::Fully => continue,
                Enforced::EachProcess => "held for each process by itself only",
                Enforced::Not => "not held",
            };
            writeln!(out, "branchfs: {limit:?} was {how}: no control group may be used ('branchfs doctor')")?;
        }
        let wanting = self.level.limits.iter().any(|(_, enforced)| *enforced != Enforced::Fully);
        if let (SystemdScope::Refused { why }, true) = (&self.level.systemd, wanting) {
            writeln!(out, "branchfs: systemd gave no control group: {}", text::plain(why))?;
        }
        if let Some(advice) = &self.advice {
            writeln!(out, "branchfs: {}", text::plain(advice))?;
        }
        denials::write(out, "branchfs", &self.denied, self.denied_dropped)
    }
}
