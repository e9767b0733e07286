//! The daemon's process. With `--launched` it is a child of the launcher, whose contract it keeps; without,
//! it runs in the foreground, for service managers and debugging.

use std::env;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread;

use clap::ValueEnum;

use super::allocator::give_memory_back;
use super::context::Context;
use super::data::Data;
use super::error::CliError;
use super::exit_code::Code;
use crate::vfs::Prefetch;
use crate::watch::{How, Wish};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(long)]
    base: PathBuf,
    #[arg(long)]
    store: PathBuf,
    #[arg(long)]
    mountpoint: PathBuf,
    /// Started by another branchfs: lock on standard input, ready pipe on standard output
    #[arg(long)]
    launched: bool,
    /// How to watch the base; without it as the environment variable BRANCHFS_WATCH says
    #[arg(long)]
    watch: Option<Watch>,
    /// Whether to list directories ahead; without it as the environment variable BRANCHFS_PREFETCH says
    #[arg(long)]
    prefetch: Option<Names>,
    /// How to serve file data; without it as the environment variable BRANCHFS_DATA says
    #[arg(long)]
    data: Option<Data>,
}

/// How the base is watched for changes behind our back.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Watch {
    /// By the best there is
    Best,
    Fanotify,
    Inotify,
    /// Not at all
    Off,
}

/// Whether directories are listed before somebody asks for their names.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Names {
    /// Where a program probably will
    On,
    /// Never
    Off,
}

const PREFETCH: &str = "BRANCHFS_PREFETCH";

impl Names {
    fn from_environment() -> Names {
        let Some(text) = env::var_os(PREFETCH) else { return Names::On };
        text.to_str().and_then(|text| Names::from_str(text, false).ok()).unwrap_or_else(|| {
            tracing::warn!("{PREFETCH}={} is neither on nor off", text.display());
            Names::On
        })
    }

    fn wish(self) -> Prefetch {
        match self {
            Names::On => Prefetch::On,
            Names::Off => Prefetch::Off,
        }
    }
}

const WATCH: &str = "BRANCHFS_WATCH";

impl Watch {
    fn from_environment() -> Watch {
        let Some(text) = env::var_os(WATCH) else { return Watch::Best };
        text.to_str().and_then(|text| Watch::from_str(text, false).ok()).unwrap_or_else(|| {
            tracing::warn!("{WATCH}={} is none of best, fanotify, inotify, off", text.display());
            Watch::Best
        })
    }

    fn wish(self) -> Wish {
        match self {
            Watch::Best => Wish::Best,
            Watch::Fanotify => Wish::Only(How::Fanotify),
            Watch::Inotify => Wish::Only(How::Inotify),
            Watch::Off => Wish::Only(How::Not),
        }
    }
}

impl Args {
    pub(super) fn execute(self, _context: &Context) -> Result<Code, CliError> {
        log_to_stderr();
        give_memory_back();
        die_with_a_worker();
        let Args { base, store, mountpoint, launched, watch, prefetch, data } = self;
        let watch = watch.unwrap_or_else(Watch::from_environment).wish();
        let prefetch = prefetch.unwrap_or_else(Names::from_environment).wish();
        let data = data.or_else(Data::from_environment).map(Data::wish).unwrap_or_default();
        let options =
            |ready| crate::daemon::Options { base, store, mountpoint, watch, prefetch, data, ready };
        if !launched {
            crate::daemon::serve(options(None)).map_err(stopped)?;
            return Ok(Code::OK);
        }
        let (ready, forwarder) = detach().map_err(stopped)?;
        let served = crate::daemon::serve(options(Some(ready)));
        // Its last words may still be on their way to the launcher; the process's end would cut them off.
        if forwarder.join().is_err() {
            tracing::error!("the thread that reports readiness panicked");
        }
        served.map_err(stopped)?;
        Ok(Code::OK)
    }
}

/// A worker of the mount that panics takes the process with it. The request it held would never be answered, and
/// who made it would wait for ever; this way it fails, and the next verb finds everything that was acknowledged.
fn die_with_a_worker() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if thread::current().name().is_some_and(|name| name.starts_with(crate::fuse::WORKER)) {
            std::process::abort();
        }
    }));
}

fn stopped(error: impl std::fmt::Display) -> CliError {
    CliError::Daemon { reason: error.to_string() }
}

/// Leaves the launcher's session, directory and streams; the descriptor to report readiness on.
fn detach() -> io::Result<(OwnedFd, thread::JoinHandle<()>)> {
    rustix::process::setsid()?;
    let lock = io::stdin().as_fd().try_clone_to_owned()?;
    let launcher = io::stdout().as_fd().try_clone_to_owned()?;
    // From here on descriptors 0 and 1 hold neither lock nor pipe.
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    std::env::set_current_dir("/")?;
    let (from_daemon, ready) = io::pipe()?;
    let forwarder = thread::Builder::new().name("ready".into()).spawn(move || {
        forward(from_daemon, std::fs::File::from(launcher));
        drop(lock);
    })?;
    Ok((ready.into(), forwarder))
}

/// Passes the daemon's message on. Dropping both ends, and the lock with them, ends the launch.
fn forward(mut from_daemon: io::PipeReader, mut launcher: std::fs::File) {
    if let Err(error) = io::copy(&mut from_daemon, &mut launcher) {
        tracing::warn!(%error, "the launcher has gone");
    }
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BRANCHFS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // A log on a full disk cannot be written to. The subscriber would complain with eprintln!, which panics
    // because that cannot be written either.
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    log.with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    const IS_THE_CHILD: &str = "BRANCHFS_TEST_WORKER_PANICS";

    /// One request that panicked in its worker left its caller waiting for ever, and a few of them everybody.
    #[test]
    fn a_worker_that_panics_ends_the_process() {
        if std::env::var_os(IS_THE_CHILD).is_some() {
            die_with_a_worker();
            let worker = thread::Builder::new().name(format!("{}0", crate::fuse::WORKER));
            worker.spawn(|| panic!("as a worker may")).unwrap().join().unwrap_err();
            return;
        }
        let this = "cli::daemon::tests::a_worker_that_panics_ends_the_process";
        let mut child = Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", this]).env(IS_THE_CHILD, "1").output().unwrap();
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    }
}
