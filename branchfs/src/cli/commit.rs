use std::io::{self, Write};

use branch_core::{CommitAction, CommitOptions, CommitPlan, CommitReport, MAIN, Part, PlannedStep};
use serde::Serialize;

use super::conflicts;
use super::context::Context;
use super::decisions::{Decisions, decided, undecided};
use super::error::CliError;
use super::exit_code::Code;
use super::long;
use super::output::Show;
use super::text;

/// Move a branch's changes into its parent, all or none
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The branch
    branch: String,
    #[command(flatten)]
    decisions: Decisions,
    /// Commit only changes of paths that match GLOB (may be repeated); the branch goes on with the rest
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,
    /// Commit all changes but those of paths that match GLOB (may be repeated); they stay in the branch
    #[arg(long, value_name = "GLOB")]
    except: Vec<String>,
    /// What it is for: kept in the log of commits into the base, at most 4096 bytes
    #[arg(
        short,
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true,
        conflicts_with = "dry_run"
    )]
    message: String,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    long: long::Options,
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
        let part = Part { only: self.only, except: self.except };
        let options = CommitOptions { choices: self.decisions.choices()?, part, message: self.message };
        let workspace = context.workspace()?;
        if self.dry_run {
            let plan = workspace.backend().plan_commit(&self.branch, &options)?;
            let code = if plan.conflicts.is_empty() { Code::OK } else { Code::CONFLICTS };
            context.emit(&Planned { plan })?;
            return Ok(code);
        }
        let act = || workspace.backend().commit_with(&self.branch, &options);
        let commit = self.long.watch(context, &workspace, &self.branch, act)?;
        let commit = commit.map_err(|error| undecided(&options.choices, error))?;
        context.emit(&Committed { commit })?;
        Ok(Code::OK)
    }
}

impl Show for Committed {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        describe(out, &self.commit)
    }
}

impl Show for Planned {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let CommitPlan { branch, into, changed, steps, changes, conflicts, resolved } = &self.plan;
        if !conflicts.is_empty() {
            let found = text::count(conflicts.len() as u64, "conflicting path");
            writeln!(out, "{branch} cannot be committed into {into}: {found}")?;
            return conflicts::describe(out, conflicts);
        }
        if steps.is_empty() && into == MAIN {
            writeln!(out, "{branch} has nothing to commit into {into}: it would end")?;
            return decided(out, resolved);
        }
        let changed = text::changed(*changed, into == MAIN);
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

/// Whether it is no commit: a commit into the base has a number.
pub(super) fn is_nothing(report: &CommitReport) -> bool {
    report.into == MAIN && report.commit.is_none()
}

/// What a commit did, in a line and its warnings.
pub(super) fn describe(out: &mut dyn Write, report: &CommitReport) -> io::Result<()> {
    let number = report.commit.map(|n| format!(" as commit {n}")).unwrap_or_default();
    let changed = text::changed(report.changed, report.commit.is_some());
    match report.action {
        CommitAction::Commit if is_nothing(report) => {
            writeln!(
                out,
                "nothing to commit from {} into {}; the branch has ended",
                report.branch, report.into
            )?;
        }
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
    if let Some(stays) = report.stays {
        writeln!(out, "{} goes on: {}", report.branch, text::count(stays, "changed path"))?;
    }
    if !report.stale.is_empty() {
        writeln!(out, "stale now: {}", report.stale.join(", "))?;
    }
    report.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
}
