//! Running one command of an attempt: its output's tail is kept, and it ends by itself, by the clock, or by
//! the stopper.

use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use branch_proc::{Command, Group, Outcome, Stdio};
use branch_proto::ViewKind;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::Error;
use crate::program::Program;
use crate::stop::Stopper;
use crate::tail::Tail;
use crate::view::Started;
use crate::workspace::Branch;

/// How a followed command ended. Nothing of its group is left in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, or by the clock.
    Ended(Box<Outcome>),
    Stopped,
}

/// What it worked on, and why not on a native view, if that was wished for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) view: ViewKind,
    pub(crate) because: Option<String>,
}

/// What woke us.
enum Woken {
    Gone,
    Stopped,
    Output,
    Time,
}

/// Runs `program` in `branch` until its end, the deadline, or the stop. `together` are the branches that end with this one.
pub(crate) fn follow(
    branch: &Branch,
    (program, together): (&Program, &[String]),
    shape: &dyn Fn(Command) -> Command,
    deadline: Option<Instant>,
    stopper: &Stopper,
    tail: &mut Tail,
) -> Result<(End, Seen), Error> {
    let (mut output, ends) =
        output_pipe().map_err(|source| Error::System { doing: "make a pipe", source })?;
    let [stdout, stderr] = ends;
    let with_streams = |command: Command| {
        let copy = |end: &OwnedFd| {
            let copied = end.try_clone();
            copied.map(Stdio::Fd).map_err(|source| Error::System { doing: "copy a pipe", source })
        };
        Ok(shape(command).stdin(Stdio::Null).stdout(copy(&stdout)?).stderr(copy(&stderr)?))
    };
    let Started { mut group, view, because } = branch.start(program, together, &with_streams)?;
    drop((stdout, stderr));
    let failed = |source| Error::Group { source };
    let mut open = true;
    let end = loop {
        match wait(&group, open.then_some(&output), deadline, stopper)? {
            Woken::Output => open = read_once(&mut output, tail) != Flow::Ended,
            Woken::Gone => break End::Ended(Box::new(group.wait().map_err(failed)?)),
            Woken::Time => break End::Ended(Box::new(group.time_out(Duration::ZERO).map_err(failed)?)),
            Woken::Stopped => {
                group.kill().map_err(failed)?;
                break End::Stopped;
            }
        }
    };
    // The writers are dead: what the pipe holds is all there is.
    while open && read_once(&mut output, tail) == Flow::More {}
    Ok((end, Seen { view, because }))
}

/// One pipe for both streams, so that their order is kept. Our end does not block.
fn output_pipe() -> io::Result<(PipeReader, [OwnedFd; 2])> {
    let (ours, theirs) = io::pipe()?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    let second = theirs.try_clone()?;
    Ok((ours, [theirs.into(), second.into()]))
}

/// The stop is looked at first, then the end: a group that was killed because a sibling won should be known
/// as stopped.
fn wait(
    group: &Group,
    output: Option<&PipeReader>,
    deadline: Option<Instant>,
    stopper: &Stopper,
) -> Result<Woken, Error> {
    let (stopped, pidfd) = (stopper.watched(), group.pidfd());
    let mut watched = vec![PollFd::new(&stopped, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
    watched.extend(output.map(|output| PollFd::new(output, PollFlags::IN)));
    let left = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
    let ready = rustix::io::retry_on_intr(|| poll(&mut watched, left.as_ref()))
        .map_err(|error| Error::System { doing: "wait for a process", source: error.into() })?;
    Ok(match () {
        () if !watched[0].revents().is_empty() => Woken::Stopped,
        () if !watched[1].revents().is_empty() => Woken::Gone,
        // Before the output, or a command that never stops writing would never run out of time.
        () if ready == 0 || deadline.is_some_and(|deadline| Instant::now() >= deadline) => Woken::Time,
        () => Woken::Output,
    })
}

fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(span.subsec_nanos()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    More,
    Empty,
    Ended,
}

fn read_once(output: &mut PipeReader, tail: &mut Tail) -> Flow {
    let mut buffer = [0; 16 << 10];
    match output.read(&mut buffer) {
        Ok(0) => Flow::Ended,
        Ok(n) => {
            tail.push(&buffer[..n]);
            Flow::More
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Flow::More,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Flow::Empty,
        // A pipe gives no other error; were there one, reading again would not mend it.
        Err(_) => Flow::Ended,
    }
}
