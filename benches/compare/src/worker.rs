//! The two ends of one run of one work: the child that does it in a view, in one process, and the driver's hold on it.
//!
//! The child prepares, says `ready`, waits for a line, works, and prints its figures. Between the two lines the driver
//! makes sure that nothing of anybody's is left to be written, and empties caches where the work is to begin cold.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::error::{Failed, Result, While, gist};
use crate::scale::{Scale, Size};
use crate::works::{self, Ground};

/// A run that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(600);
const READY: &str = "ready";

/// What the child does.
#[derive(Debug, Clone, Args)]
pub(crate) struct Task {
    /// The work's name.
    pub(crate) work: String,
    #[arg(long, value_enum)]
    pub(crate) scale: Size,
    /// What works bring along.
    #[arg(long)]
    pub(crate) materials: PathBuf,
}

/// What was measured of one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) row: String,
    pub(crate) operations: u64,
    pub(crate) nanoseconds: u64,
}

impl Measured {
    /// Operations per second.
    pub(crate) fn rate(&self) -> f64 {
        self.operations as f64 * 1e9 / self.nanoseconds.max(1) as f64
    }
}

/// The child's side.
pub(crate) fn work(task: &Task) -> Result<()> {
    let work =
        works::named(&task.work).ok_or_else(|| Failed::Other(format!("there is no work '{}'", task.work)))?;
    let here = std::env::current_dir().on("looking for", Path::new("."))?;
    let mut ground = Ground::new(here, task.materials.clone(), Scale::of(task.scale), wait_for_go);
    let works::Run::InView(run) = work.run else {
        return Err(Failed::Other(format!("'{}' is not done in a view", task.work)));
    };
    run(&mut ground)?;
    let figures =
        serde_json::to_string(ground.measured()).map_err(|error| Failed::Other(error.to_string()))?;
    println!("{figures}");
    Ok(())
}

fn wait_for_go() -> Result<()> {
    println!("{READY}");
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line).on("reading", Path::new("standard input"))?;
    if read == 0 { Err(Failed::Other("the driver has gone".to_owned())) } else { Ok(()) }
}

/// The driver's side: a child that may have to be told to go. Dropping it ends it.
pub(crate) struct Worker {
    child: Child,
    go: ChildStdin,
    lines: Receiver<String>,
    said: File,
}

impl Worker {
    /// Starts `command`, which runs this program, with the arguments that make it a worker; it is ready when this returns.
    pub(crate) fn start(mut command: Command, task: &Task) -> Result<Worker> {
        let said = tempfile::tempfile().on("making a file in", &std::env::temp_dir())?;
        let errors = said.try_clone().on("duplicating", Path::new("a descriptor"))?;
        let size = clap::ValueEnum::to_possible_value(&task.scale).map(|value| value.get_name().to_owned());
        command.args(["worker", &task.work, "--scale"]).arg(size.unwrap_or_default());
        command.arg("--materials").arg(&task.materials);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let program = PathBuf::from(command.get_program());
        let mut child = command.spawn().on("starting", &program)?;
        let (Some(go), Some(out)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failed::Other("a worker without pipes".to_owned()));
        };
        let (sender, lines) = channel();
        // Ends with the child's output, or when nobody listens any more.
        thread::spawn(move || {
            BufReader::new(out).lines().map_while(io::Result::ok).try_for_each(|l| sender.send(l))
        });
        let mut worker = Worker { child, go, lines, said };
        let line = worker.line()?;
        if line == READY { Ok(worker) } else { Err(Failed::Other(format!("the worker said: {line}"))) }
    }

    pub(crate) fn go(&mut self) -> Result<()> {
        self.go.write_all(b"go\n").on("telling", Path::new("the worker"))
    }

    /// What it measured.
    pub(crate) fn finish(mut self) -> Result<Vec<Measured>> {
        let line = self.line()?;
        // What it was started through may still have something to do.
        self.child.wait().on("waiting for", Path::new("the worker"))?;
        serde_json::from_str(&line)
            .map_err(|error| Failed::Other(format!("the worker said: {line}: {error}")))
    }

    fn line(&mut self) -> Result<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Ok(line),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                Err(Failed::Late { seconds: PATIENCE.as_secs() })
            }
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                self.child.wait().on("waiting for", Path::new("the worker"))?;
                Err(Failed::Other(why(&mut self.said)?))
            }
        }
    }
}

fn why(said: &mut File) -> Result<String> {
    use std::io::{Read, Seek};
    let mut text = String::new();
    said.rewind()
        .and_then(|()| said.read_to_string(&mut text))
        .on("reading", Path::new("what the worker said"))?;
    // What it was started through may have said something, too.
    let own = text.lines().find(|line| line.starts_with("compare: "));
    Ok(own.unwrap_or_else(|| gist(&text)).trim_start_matches("compare: ").to_owned())
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has ended by itself unless something failed; both calls then do nothing.
        if self.child.kill().and_then(|()| self.child.wait()).is_err() {
            eprintln!("compare: a worker does not end");
        }
    }
}
