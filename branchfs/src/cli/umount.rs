use std::io::{self, Write};

use branch_core::PathBytes;
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;
use super::stop::{self, Stopped};
use super::text;
use crate::fuse::{DeadMount, clear_dead_mount};

/// Unmount the views and stop the daemon; clears a dead mount too
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

#[derive(Serialize)]
struct Unmounted {
    #[serde(flatten)]
    stopped: Stopped,
    #[serde(skip_serializing_if = "Option::is_none")]
    cleared: Option<PathBytes>,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let location = context.location()?;
        let stopped = stop::stop(&location)?;
        let mountpoint = location.mountpoint();
        let cleared = match clear_dead_mount(&mountpoint) {
            Ok(DeadMount::Cleared) => Some(PathBytes::from(mountpoint.as_path())),
            Ok(DeadMount::NotMounted | DeadMount::Alive) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(CliError::at("unmount", mountpoint)(error)),
        };
        context.emit(&Unmounted { stopped, cleared })?;
        Ok(Code::OK)
    }
}

impl Show for Unmounted {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.stopped.text(out)?;
        match &self.cleared {
            Some(mountpoint) => writeln!(out, "cleared the dead mount at {}", text::path(mountpoint)),
            None => Ok(()),
        }
    }
}
