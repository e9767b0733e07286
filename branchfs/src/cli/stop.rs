use std::io::{self, Write};

use branch_core::{Error, Location, no_daemon};
use branch_proto::Client;
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;

/// Stop the daemon; the branches stay
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

#[derive(Serialize)]
pub(super) struct Stopped {
    /// Absent when no daemon ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pid: Option<i32>,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        context.emit(&stop(&context.location()?)?)?;
        Ok(Code::OK)
    }
}

/// Stops the daemon if one runs, and returns when it has gone.
pub(super) fn stop(location: &Location) -> Result<Stopped, CliError> {
    let mut client = match Client::connect(&location.socket()) {
        Ok(client) => client,
        Err(error) if no_daemon(&error) => return Ok(Stopped { pid: None }),
        Err(error) => return Err(Error::from(error).into()),
    };
    let pid = client.welcome().pid;
    // Watched from before it is asked: the pid could be another's afterwards.
    let process = rustix::process::Pid::from_raw(pid)
        .map(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()));
    client.shutdown().map_err(Error::from)?;
    client.wait_closed().map_err(Error::from)?;
    if let Some(Ok(process)) = process {
        let mut watched = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut watched, None))
            .map_err(|error| CliError::Daemon { reason: format!("cannot wait for its end: {error}") })?;
    }
    Ok(Stopped { pid: Some(pid) })
}

impl Show for Stopped {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        match self.pid {
            Some(pid) => writeln!(out, "stopped the daemon, pid {pid}"),
            None => writeln!(out, "no daemon runs"),
        }
    }
}
