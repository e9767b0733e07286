use std::io::{self, Write};

use branch_core::WorkspaceStatus;
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;
use super::text;

/// Show the workspace and its daemon
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

#[derive(Serialize)]
struct Shown {
    status: WorkspaceStatus,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        context.emit(&Shown { status: context.workspace()?.status()? })?;
        Ok(Code::OK)
    }
}

impl Show for Shown {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let status = &self.status;
        writeln!(out, "base      {}", text::path(&status.base))?;
        writeln!(out, "store     {}", text::path(&status.store))?;
        writeln!(out, "mounted   {}", text::path(&status.mountpoint))?;
        writeln!(out, "daemon    pid {}, {}", status.pid, status.mode)?;
        writeln!(out, "branches  {}", status.branches)?;
        writeln!(out, "commits   {}", status.commits)?;
        let (content, journal) = (text::size(status.content_bytes), text::size(status.journal_bytes));
        writeln!(out, "stored    {content} of content, {journal} of journal")?;
        status.recovery.iter().try_for_each(|step| writeln!(out, "recovery  {step}"))
    }
}
