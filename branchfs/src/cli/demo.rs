mod project;
mod remains;

use std::io::{self, Write};
use std::time::Duration;

use branch_core::{Explore, ExploreReport, Location, Program, Progress, Verdict, Workspace};
use serde::Serialize;

use self::project::Project;
use self::remains::Remains;
use super::branch_tree;
use super::commit;
use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::explore::{self, Live};
use super::init;
use super::launcher;
use super::output::{Format, Show};
use super::stop;
use super::text;

/// See it work: a real run in a temporary project, with proof that nothing is left
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// The attempts: name of the branch, story, and what it does. Each is what an agent might try.
const ATTEMPTS: [(&str, &str, &str); 4] = [
    ("hangs", "waits for an answer that never comes", "echo 'thinking...'; exec sleep 86400"),
    (
        "spawns-daemons",
        "starts daemons that leave its session and ignore SIGTERM",
        r#"for i in 1 2 3; do
    setsid sh -c 'trap "" TERM HUP INT; while :; do sleep 3600; done' >/dev/null 2>&1 &
done
sed 's/%s/[%s]/' greet.sh > greet.new && mv greet.new greet.sh
exec sleep 86400"#,
    ),
    ("breaks-things", "deletes the whole project", "rm -rf ./* ./.git; sleep 0.3"),
    (
        "right",
        "takes a second, then fixes the typing mistake",
        "sleep 1; sed 's/Helo/Hello/' greet.sh > greet.new && mv greet.new greet.sh",
    ),
];
/// Index of the attempt that deletes everything.
const BREAKS: usize = 2;
/// Index of the attempt that is right.
const RIGHT: usize = 3;
/// For a machine so slow that even this shows nothing but slowness.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The test of the project, which the attempts are to make pass.
const CHECK: &str = "sh test.sh";

/// Something the demo claims, and whether it is so.
#[derive(Debug, Serialize)]
struct Claim {
    claim: &'static str,
    holds: bool,
    detail: String,
}

#[derive(Serialize)]
struct Played {
    claims: Vec<Claim>,
    explore: ExploreReport,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let format = context.format();
        say(format, "A project in a temporary directory, with a test that fails:");
        let project = Project::make()?;
        say(format, &project.describe());
        let mut claims = vec![claim_test(&project, "the test fails at first", Expected::Failure)?];
        show_claim(format, &claims[0])?;
        let location = init::make(project.directory(), None)?;
        // Whatever happens in between, the daemon is stopped before the directory is removed.
        let played = play(&project, format);
        let stopped = stop::stop(&location);
        let (explore, in_between) = played?;
        let stopped = stopped?;
        claims.extend(in_between);
        claims.extend(after(&location, project, stopped.pid)?);
        for claim in &claims[1..] {
            show_claim(format, claim)?;
        }
        let holds = claims.iter().all(|claim| claim.holds);
        let interrupted = explore.stopped;
        if format == Format::Json {
            context.emit(&Played { claims, explore })?;
        }
        say(format, if holds { "\nAll of it was real." } else { "\nSomething is off: see 'NO' above." });
        Ok(match (interrupted, holds) {
            (true, _) => Code::INTERRUPTED,
            (false, true) => Code::OK,
            (false, false) => Code::FAILURE,
        })
    }
}

/// Explores, with what can be said while the daemon runs.
fn play(project: &Project, format: Format) -> Result<(ExploreReport, Vec<Claim>), CliError> {
    let workspace = Workspace::open(project.directory(), std::sync::Arc::new(launcher::launch))?;
    say(format, "\nFour attempts at a fix, each in a branch of its own; the test decides:");
    for (name, story, _) in ATTEMPTS {
        say(format, &format!("  {name:15} {story}"));
    }
    let remains = Remains::of(project);
    let mut seen = 0;
    let report = run(&workspace, &remains, format, &mut seen)?;
    say(format, &format!("\nAfter {}:", text::span(report.duration)));
    for attempt in &report.attempts {
        let (name, time) = (&attempt.branch, text::span(attempt.duration));
        say(format, &format!("  {name:15} {time:>8}  {}", explore::describe(&attempt.verdict)));
    }
    if let (Format::Text, Some(report)) = (format, &report.commit) {
        commit::describe(&mut io::stdout().lock(), report).map_err(CliError::Output)?;
    }
    let won = report.winner == Some(RIGHT);
    let lost = report.attempts.iter().filter(|attempt| attempt.verdict == Verdict::Lost).count();
    let left = remains.processes()?;
    let branches: Vec<String> = workspace
        .list()?
        .into_iter()
        .filter(|branch| branch.parent.is_some())
        .map(|branch| branch.name)
        .collect();
    let claims = vec![
        Claim { claim: "the right attempt won", holds: won, detail: project.changes() },
        claim_test(project, "the test passes now", Expected::Success)?,
        project.claim_only_the_fix(),
        Claim {
            claim: "no process of an attempt is left",
            holds: left.is_empty() && seen > 0,
            detail: format!("{seen} while they ran, {} now; {lost} attempts were killed", left.len()),
        },
        Claim { claim: "no branch is left", holds: branches.is_empty(), detail: branches.join(", ") },
    ];
    Ok((report, claims))
}

/// Runs the explore; when all attempts run, shows the tree of branches. `seen` is how many processes ran.
fn run(
    workspace: &Workspace,
    remains: &Remains,
    format: Format,
    seen: &mut usize,
) -> Result<ExploreReport, CliError> {
    let (variable, value) = remains.mark();
    let programs = ATTEMPTS.map(|(_, _, line)| Program::shell(line).env(variable, value));
    let explore = Explore::new(workspace, programs.to_vec())?
        .names(ATTEMPTS.map(|(name, _, _)| name.to_owned()).to_vec())
        .check(Program::shell(CHECK).env(variable, value))
        .timeout(TIMEOUT);
    let mut live = Live::new(format);
    let mut shown = Ok(());
    explore::run(explore, &mut |progress| {
        live.show(&progress);
        if let Progress::Checking { attempt: BREAKS } = progress {
            // It has done its worst by now, and the others are at work.
            shown = tree(workspace, remains, format, seen);
            live.start_afresh();
        }
    })
    .and_then(|report| shown.map(|()| report))
}

fn tree(workspace: &Workspace, remains: &Remains, format: Format, seen: &mut usize) -> Result<(), CliError> {
    let processes = remains.processes()?.len();
    *seen = processes.max(*seen);
    if format == Format::Text {
        let branches = workspace.list()?;
        let mut out = io::stdout().lock();
        let drawn = writeln!(out, "\nMeanwhile, with {} at work:", text::count(processes as u64, "process"))
            .and_then(|()| branch_tree::draw(&mut out, &branches))
            .and_then(|()| writeln!(out));
        drawn.map_err(CliError::Output)?;
    }
    Ok(())
}

/// What can be said once the daemon has gone.
fn after(location: &Location, project: Project, daemon: Option<i32>) -> Result<Vec<Claim>, CliError> {
    let directory = project.directory().to_owned();
    let mounts = remains::mounts_below(&directory)?;
    let gone = daemon.is_none_or(|pid| !remains::runs(pid));
    let log = std::fs::metadata(location.log()).map(|log| log.len()).unwrap_or(0);
    let mut claims = vec![
        Claim {
            claim: "no mount is left",
            holds: mounts.is_empty(),
            detail: mounts.iter().map(|mount| mount.display().to_string()).collect::<Vec<_>>().join(", "),
        },
        Claim {
            claim: "the daemon has gone",
            holds: gone,
            detail: format!("its log held {}", text::size(log)),
        },
    ];
    project.remove()?;
    claims.push(Claim {
        claim: "the temporary directory has gone",
        holds: !directory.exists(),
        detail: directory.display().to_string(),
    });
    Ok(claims)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Success,
    Failure,
}

fn claim_test(project: &Project, claim: &'static str, expected: Expected) -> Result<Claim, CliError> {
    let (success, output) = project.test()?;
    Ok(Claim { claim, holds: success == (expected == Expected::Success), detail: output })
}

fn say(format: Format, line: &str) {
    if format == Format::Text {
        // A reader that has left is noticed by the claims, which must be written.
        drop(writeln!(io::stdout().lock(), "{line}"));
    }
}

fn show_claim(format: Format, claim: &Claim) -> Result<(), CliError> {
    if format == Format::Json {
        return Ok(());
    }
    claim.text(&mut io::stdout().lock()).map_err(CliError::Output)
}

impl Show for Claim {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mark = if self.holds { "yes" } else { "NO " };
        writeln!(out, "{mark}  {}", self.claim)?;
        self.detail.lines().try_for_each(|line| writeln!(out, "       {line}"))
    }
}

impl Show for Played {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.claims.iter().try_for_each(|claim| claim.text(out))
    }
}
