use std::io::{self, Write};

use branch_core::{Choice, Choices, CommitAction, CommitPlan, CommitReport, Failure, PlannedStep, Resolved};
use serde::Serialize;

use super::conflicts;
use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;
use super::text;

/// Move a branch's changes into its parent, all or none
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    branch: String,
    /// In a conflict the branch wins: on paths that match GLOB, or wherever nothing else is said
    #[arg(long, value_name = "GLOB", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    ours: Vec<String>,
    /// In a conflict the parent wins: the branch's change of that path is dropped
    #[arg(long, value_name = "GLOB", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    theirs: Vec<String>,
    /// The branch wins every conflict that it can win; the same as --ours
    #[arg(long)]
    force: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
pub(super) struct Committed {
    pub(super) commit: CommitReport,
}

#[derive(Serialize)]
struct Planned {
    plan: CommitPlan,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let choices = choices(self.ours, self.theirs, self.force)?;
        let workspace = context.workspace()?;
        if self.dry_run {
            let plan = workspace.backend().plan_commit(&self.branch, &choices)?;
            let code = if plan.conflicts.is_empty() { Code::OK } else { Code::CONFLICTS };
            context.emit(&Planned { plan })?;
            return Ok(code);
        }
        let asked = choices != Choices::default();
        let commit = workspace.backend().commit_with(&self.branch, &choices);
        let commit = commit.map_err(|error| match error.failure() {
            Some(Failure::Conflicts { .. }) if asked => CliError::Undecided(error),
            _ => error.into(),
        })?;
        context.emit(&Committed { commit })?;
        Ok(Code::OK)
    }
}

/// An option without a glob is for the rest.
fn choices(ours: Vec<String>, theirs: Vec<String>, force: bool) -> Result<Choices, CliError> {
    let bare = |globs: &[String]| globs.iter().any(String::is_empty);
    let rest = match (force || bare(&ours), bare(&theirs)) {
        (true, true) => {
            return Err(CliError::Usage {
                reason: "on the paths that no glob names, only one side can win".into(),
                hint: "give --ours or --theirs a glob, as in --theirs='*.lock'".into(),
            });
        }
        (true, false) => Some(Choice::Ours),
        (false, true) => Some(Choice::Theirs),
        (false, false) => None,
    };
    let globs = |globs: Vec<String>| globs.into_iter().filter(|glob| !glob.is_empty()).collect();
    Ok(Choices { ours: globs(ours), theirs: globs(theirs), rest })
}

impl Show for Committed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        describe(out, &self.commit)
    }
}

impl Show for Planned {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let CommitPlan { branch, into, steps, changes, conflicts, resolved } = &self.plan;
        if !conflicts.is_empty() {
            let found = text::count(conflicts.len() as u64, "conflicting path");
            writeln!(out, "{branch} cannot be committed into {into}: {found}")?;
            return conflicts::describe(out, conflicts);
        }
        let changed = text::count(changes.len() as u64, "path");
        writeln!(out, "{branch} would be committed into {into}: {changed}")?;
        decided(out, resolved)?;
        steps.iter().try_for_each(|step| planned(out, step))?;
        if steps.is_empty() {
            return changes.iter().try_for_each(|change| super::diff::name_status(out, change));
        }
        Ok(())
    }
}

fn planned(out: &mut dyn Write, step: &PlannedStep) -> io::Result<()> {
    let path = if step.path.0.is_empty() { ".".to_owned() } else { text::path(&step.path) };
    write!(out, "  {:<10}  {path}", step.action.word())?;
    if let Some(from) = &step.from {
        write!(out, " (from {})", text::path(from))?;
    }
    writeln!(out)
}

fn decided(out: &mut dyn Write, resolved: &[Resolved]) -> io::Result<()> {
    for Resolved { path, choice, .. } in resolved {
        let who = match choice {
            Choice::Ours => "ours",
            Choice::Theirs => "theirs",
        };
        writeln!(out, "  {who} wins: {}", text::path(path))?;
    }
    Ok(())
}

/// What a commit did, in a line and its warnings.
pub(super) fn describe(out: &mut dyn Write, report: &CommitReport) -> io::Result<()> {
    let number = report.commit.map(|n| format!(" as commit {n}")).unwrap_or_default();
    let changed = text::count(report.changed, "path");
    match report.action {
        CommitAction::Commit => {
            writeln!(out, "committed {} into {}{number}: {changed}", report.branch, report.into)?;
        }
        CommitAction::Undo { of } => {
            writeln!(out, "undid commit {of} ({}){number}: {changed}", report.branch)?;
        }
        CommitAction::Redo { of } => {
            writeln!(out, "redid what commit {of} undid ({}){number}: {changed}", report.branch)?;
        }
    }
    decided(out, &report.resolved)?;
    if !report.stale.is_empty() {
        writeln!(out, "stale now: {}", report.stale.join(", "))?;
    }
    report.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
}
