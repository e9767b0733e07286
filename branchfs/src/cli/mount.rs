use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use branch_core::{Backend, Daemon, PathBytes};
use serde::Serialize;

use super::context::Context;
use super::data::Data;
use super::error::CliError;
use super::exit_code::Code;
use super::launcher;
use super::output::Show;
use super::text;

/// Start the daemon and mount the views (other verbs do so by themselves)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Mount at DIR instead of the store's mnt directory
    #[arg(value_name = "DIR")]
    mountpoint: Option<PathBuf>,
    /// How to serve file data; without it as the environment variable BRANCHFS_DATA says
    #[arg(long)]
    data: Option<Data>,
}

#[derive(Serialize)]
struct Mounted {
    mountpoint: PathBytes,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let location = context.location()?;
        let wanted = match &self.mountpoint {
            None => None,
            Some(directory) => {
                let directory = context.directory().join(directory);
                Some(std::fs::canonicalize(&directory).map_err(CliError::at("mount at", directory))?)
            }
        };
        let target = wanted.clone().unwrap_or_else(|| location.mountpoint());
        let wish = self.data;
        let start = move |location: &_| launcher::launch_at(location, &target, wish);
        let status = Daemon::connect_or_launch(&location, Arc::new(start))?.status()?;
        let mountpoint = status.mountpoint;
        if let Some(wish) = self.data
            && wish.wish().name() != status.data
        {
            let reason = format!("it is mounted already, with data {}", status.data);
            return Err(CliError::Other { reason, hint: "run 'branchfs umount' first".into() });
        }
        if wanted.is_some_and(|wanted| wanted != mountpoint.as_path()) {
            let reason = format!("it is mounted at {} already", text::path(&mountpoint));
            return Err(CliError::Other { reason, hint: "run 'branchfs umount' first".into() });
        }
        context.emit(&Mounted { mountpoint })?;
        Ok(Code::OK)
    }
}

impl Show for Mounted {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "mounted at {}", text::path(&self.mountpoint))
    }
}
