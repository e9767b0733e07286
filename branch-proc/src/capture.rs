//! Running a program to its end with its output kept, up to a cap.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::command::{Command, Stdio};
use crate::error::{CaptureError, GroupError, SpawnError, Step};
use crate::group::{Group, Signal};
use crate::observe::Tried;
use crate::outcome::Outcome;
use crate::pidfd::time_left;

/// How many bytes of each stream are kept unless told otherwise.
pub const OUTPUT_CAP_DEFAULT: usize = 1 << 20;
/// How long a program that has run out of time has between SIGTERM and SIGKILL.
pub const STOP_GRACE: Duration = Duration::from_secs(2);
/// The size of one read.
const CHUNK: usize = 64 << 10;

/// Bounds on a captured run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureOptions {
    /// Bytes kept of each of stdout and stderr; the rest is read, counted and thrown away.
    pub cap: usize,
    /// Time after which the group is stopped, [`STOP_GRACE`] before it is killed. None: no limit.
    pub timeout: Option<Duration>,
}

impl Default for CaptureOptions {
    fn default() -> CaptureOptions {
        CaptureOptions { cap: OUTPUT_CAP_DEFAULT, timeout: None }
    }
}

/// One of the program's output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What was written to one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// The first bytes, up to the cap.
    pub bytes: Vec<u8>,
    /// How many bytes were written in all.
    pub total: u64,
}

impl Output {
    /// Whether something is missing from `bytes`.
    pub fn truncated(&self) -> bool {
        self.total > self.bytes.len() as u64
    }

    fn keep(&mut self, piece: &[u8], cap: usize) {
        let room = cap.saturating_sub(self.bytes.len()).min(piece.len());
        self.bytes.extend_from_slice(&piece[..room]);
        self.total += piece.len() as u64;
    }
}

/// A finished run and its output.
#[derive(Debug, Clone)]
pub struct Captured {
    /// How it ended, and what was denied to it.
    pub outcome: Outcome,
    /// What it wrote to standard output.
    pub stdout: Output,
    /// What it wrote to standard error.
    pub stderr: Output,
    /// What it tried, if it was looked at with [`crate::Observe::Everything`].
    pub tried: Tried,
}

impl Command {
    /// Runs it to its end, keeping its output; see [`CaptureOptions`]. Replaces stdout and stderr.
    ///
    /// # Errors
    /// As [`Command::spawn`], and when the group cannot be watched.
    pub fn capture(self, options: CaptureOptions) -> Result<Captured, CaptureError> {
        self.capture_with(options, |_, _| {})
    }

    /// As [`Command::capture`], and hands every piece of output to `each` as it comes, also what is beyond
    /// the cap.
    ///
    /// # Errors
    /// As [`Command::spawn`], and when the group cannot be watched.
    pub fn capture_with(
        self,
        options: CaptureOptions,
        each: impl FnMut(Stream, &[u8]),
    ) -> Result<Captured, CaptureError> {
        capture_with(self, options, each)
    }
}

fn capture_with(
    command: Command,
    options: CaptureOptions,
    mut each: impl FnMut(Stream, &[u8]),
) -> Result<Captured, CaptureError> {
    let (taps, command) = Taps::of(command, options.cap)?;
    let mut run = Run {
        group: command.spawn()?,
        taps,
        deadline: options.timeout.and_then(|time| Instant::now().checked_add(time)),
        stopping: Stopping::No,
    };
    let outcome = run.follow(&mut each)?;
    let tried = run.group.take_tried();
    let [stdout, stderr] = run.taps.outputs();
    Ok(Captured { outcome, stdout, stderr, tried })
}

/// How far the stopping of a run that is out of time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    Asked,
    Killed,
}

/// The reading end of one stream.
struct Tap {
    stream: Stream,
    /// None after the end of file.
    pipe: Option<OwnedFd>,
    output: Output,
}

/// The reading ends of both streams.
pub(crate) struct Taps {
    taps: [Tap; 2],
    cap: usize,
    buffer: Vec<u8>,
}

impl Taps {
    /// Replaces the command's stdout and stderr; `cap` bytes of each are kept.
    pub(crate) fn of(command: Command, cap: usize) -> Result<(Taps, Command), SpawnError> {
        let (stdout, stdout_end) = pipe()?;
        let (stderr, stderr_end) = pipe()?;
        let taps = [Tap::new(Stream::Stdout, stdout), Tap::new(Stream::Stderr, stderr)];
        let command = command.stdout(Stdio::Fd(stdout_end)).stderr(Stdio::Fd(stderr_end));
        Ok((Taps { taps, cap, buffer: vec![0; CHUNK] }, command))
    }

    /// Reads until nothing of the group behind the pidfd is left; what both streams brought.
    pub(crate) fn read_all(mut self, pidfd: BorrowedFd<'_>) -> Result<[Output; 2], Errno> {
        while !self.wait(pidfd, None)? {
            self.read(&mut |_, _| {});
        }
        self.drain(&mut |_, _| {});
        Ok(self.outputs())
    }

    /// Returns when there is output, the time is up, or (true) nothing of the group is left.
    fn wait(&self, pidfd: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<bool, Errno> {
        let mut watched = vec![PollFd::new(&pidfd, PollFlags::IN)];
        let pipes = self.taps.iter().filter_map(|tap| tap.pipe.as_ref());
        watched.extend(pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match rustix::event::poll(&mut watched, time_left(deadline).as_ref()) {
            Ok(_) => Ok(!watched[0].revents().is_empty()),
            Err(Errno::INTR) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn read(&mut self, each: &mut dyn FnMut(Stream, &[u8])) {
        for tap in &mut self.taps {
            tap.read(self.cap, &mut self.buffer, each);
        }
    }

    fn drain(&mut self, each: &mut dyn FnMut(Stream, &[u8])) {
        for tap in &mut self.taps {
            tap.drain(self.cap, &mut self.buffer, each);
        }
    }

    fn outputs(self) -> [Output; 2] {
        self.taps.map(|tap| tap.output)
    }
}

struct Run {
    group: Group,
    taps: Taps,
    deadline: Option<Instant>,
    stopping: Stopping,
}

impl Run {
    /// Reads both streams, whichever has something, until the group has ended: a full pipe never blocks the
    /// program for good, and a copy of the pipe held outside the group never blocks us.
    fn follow(&mut self, each: &mut dyn FnMut(Stream, &[u8])) -> Result<Outcome, GroupError> {
        let failed = |pid, e: Errno| GroupError { doing: "watch", pid, source: e.into() };
        loop {
            let gone = self.taps.wait(self.group.pidfd(), self.deadline);
            if gone.map_err(|e| failed(self.group.pid(), e))? {
                self.taps.drain(each);
                return self.group.wait();
            }
            self.taps.read(each);
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.escalate()?;
            }
        }
    }

    fn escalate(&mut self) -> Result<(), GroupError> {
        match self.stopping {
            Stopping::No => {
                self.group.is_out_of_time();
                self.group.signal(Signal::Term)?;
                self.stopping = Stopping::Asked;
                self.deadline = Instant::now().checked_add(STOP_GRACE);
            }
            Stopping::Asked | Stopping::Killed => {
                self.group.signal_kill()?;
                self.stopping = Stopping::Killed;
                self.deadline = None;
            }
        }
        Ok(())
    }
}

impl Tap {
    fn new(stream: Stream, pipe: OwnedFd) -> Tap {
        Tap { stream, pipe: Some(pipe), output: Output::default() }
    }

    /// One read, without blocking; how many bytes it brought.
    fn read(&mut self, cap: usize, buffer: &mut [u8], each: &mut dyn FnMut(Stream, &[u8])) -> usize {
        let Some(pipe) = &self.pipe else { return 0 };
        match rustix::io::read(pipe.as_fd(), &mut *buffer) {
            Ok(0) => self.pipe = None,
            Ok(count) => {
                self.output.keep(&buffer[..count], cap);
                each(self.stream, &buffer[..count]);
                return count;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A pipe gives no other error; were there one, it would not go away by reading again.
            Err(_) => self.pipe = None,
        }
        0
    }

    /// Reads what the pipe still holds after all its writers in the group have gone: at most its size, in
    /// case somebody outside keeps writing.
    fn drain(&mut self, cap: usize, buffer: &mut [u8], each: &mut dyn FnMut(Stream, &[u8])) {
        let Some(pipe) = &self.pipe else { return };
        let mut left = rustix::pipe::fcntl_getpipe_size(pipe).unwrap_or(CHUNK);
        while left > 0 {
            match self.read(cap, buffer, each) {
                0 => return,
                count => left = left.saturating_sub(count),
            }
        }
    }
}

/// A pipe whose reading end does not block; the program's end does, as programs expect.
fn pipe() -> Result<(OwnedFd, OwnedFd), SpawnError> {
    let failed = |e: Errno| SpawnError::new(Step::Prepare, e.raw_os_error(), "pipes for the output");
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    rustix::io::ioctl_fionbio(&read, true).map_err(failed)?;
    Ok((read, write))
}
