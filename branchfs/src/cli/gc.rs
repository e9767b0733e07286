use std::io::{self, Write};

use branch_core::{Bound, GcMode, GcReport, KeepChange, Quota};
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;
use super::{duration, size, text};

/// Free what nobody needs any more, and what is too old to be undone
#[derive(Debug, clap::Args)]
#[command(visible_alias = "prune")]
pub(super) struct Args {
    /// Say what would be freed, and free nothing
    #[arg(long, conflicts_with = "save")]
    dry_run: bool,
    /// Keep the newest N commits into the base for undo
    #[arg(long, value_name = "N")]
    keep_commits: Option<u32>,
    /// Keep none that is older, such as 12h or 30d; none: however old
    #[arg(long, value_name = "AGE", value_parser = duration::age)]
    keep_age: Option<Bound>,
    /// Keep at most SIZE of what commits replaced, such as 5G; none: however much
    #[arg(long, value_name = "SIZE", value_parser = size::limit)]
    keep_size: Option<Quota>,
    /// Keep so much from now on, not only this time
    #[arg(long)]
    save: bool,
}

#[derive(Serialize)]
struct Collected {
    gc: GcReport,
    #[serde(skip)]
    mode: GcMode,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let mode = match (self.dry_run, self.save) {
            (true, _) => GcMode::Preview,
            (_, true) => GcMode::Save,
            _ => GcMode::Once,
        };
        let bytes = self.keep_size.map(|quota| match quota {
            Quota::Unlimited => Bound::Unlimited,
            Quota::Bytes(bytes) => Bound::AtMost(bytes),
        });
        let keep = KeepChange { commits: self.keep_commits, age: self.keep_age, bytes };
        let gc = context.workspace()?.backend().gc(keep, mode)?;
        context.emit(&Collected { gc, mode })?;
        Ok(Code::OK)
    }
}

impl Show for Collected {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let report = &self.gc;
        let freed = if self.mode == GcMode::Preview { "would free" } else { "freed" };
        writeln!(out, "{freed} {}", text::size(report.preimage_bytes + report.remains_bytes))?;
        if let (Some(first), Some(last)) = (report.commits.first(), report.commits.last()) {
            let commits = text::count(report.commits.len() as u64, "commit");
            let size = text::size(report.preimage_bytes);
            writeln!(out, "  {size} replaced by {commits}, {first} to {last}: no longer to be undone")?;
        }
        if report.remains_bytes > 0 || report.layers > 0 {
            let layers = text::count(report.layers, "layer");
            let size = text::size(report.remains_bytes);
            writeln!(out, "  {size} left by ended branches and removed files, {layers}")?;
        }
        let keep = report.keep;
        let age = keep
            .age
            .map_or_else(|| "any age".to_owned(), |age| format!("at most {} old", duration::shown(age)));
        let size = keep
            .bytes
            .map_or_else(|| "any size".to_owned(), |bytes| format!("at most {}", text::size(bytes)));
        let commits = text::count(keep.commits.into(), "commit");
        writeln!(out, "kept: {commits} for undo, {age}, {size}; {} now", text::size(report.kept_bytes))
    }
}
