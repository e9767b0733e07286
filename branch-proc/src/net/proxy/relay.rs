//! Bytes between two sockets, both ways at once, in bounded memory.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::PollFlags;

use crate::net::proxy::limits::{BUFFER, IDLE_TIME};
use crate::net::proxy::refusal::Refusal;
use crate::net::proxy::wait::{Event, Interrupted};

/// What has been read from a socket: bytes that may be sent on, then bytes nobody has looked at.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    passed: usize,
    end: usize,
}

impl Buffer {
    pub(crate) fn new() -> Buffer {
        Buffer { bytes: vec![0; BUFFER].into_boxed_slice(), start: 0, passed: 0, end: 0 }
    }

    /// What nobody has looked at.
    pub(crate) fn fresh(&self) -> &[u8] {
        &self.bytes[self.passed..self.end]
    }

    /// Takes fresh bytes away.
    pub(crate) fn take(&mut self, count: usize) {
        debug_assert!(self.start == self.passed, "nothing is waiting to be sent before them");
        self.passed = (self.passed + count).min(self.end);
        self.start = self.passed;
    }

    fn is_full(&self) -> bool {
        self.end - self.start == self.bytes.len()
    }

    /// One read; 0 at the end.
    pub(crate) fn fill(&mut self, mut from: &TcpStream) -> io::Result<usize> {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.passed, self.end) = (self.passed - self.start, self.end - self.start);
            self.start = 0;
        }
        let count = from.read(&mut self.bytes[self.end..])?;
        self.end += count;
        Ok(count)
    }
}

/// What a lane does with the bytes at its front.
pub(crate) enum Verdict {
    /// So many may be sent on as they are.
    Pass(usize),
    /// So many are replaced by others.
    Replace(usize, Vec<u8>),
    /// This is how it ends.
    Refuse(Refusal),
}

/// Says what passes through a lane.
pub(crate) trait Gate {
    /// Looks at what has come. Called again with what it has not passed, and more.
    fn look(&mut self, fresh: &[u8]) -> Verdict;

    /// Whether nothing more is to pass.
    fn is_complete(&self) -> bool;

    /// Whether the sender may stop here.
    fn may_end(&self) -> bool;

    /// The sender has stopped, and no more will come.
    fn at_end(&mut self) {}

    /// Whether the receiver is told that the sender has stopped (`shutdown(2)`).
    fn tells_the_end(&self) -> bool;
}

/// One direction.
pub(crate) struct Lane<'a> {
    buffer: &'a mut Buffer,
    /// Sent before what has passed.
    first: Vec<u8>,
    gate: &'a mut dyn Gate,
    ended: bool,
    shut: bool,
    /// The receiver takes no more, and may have answered before it had all.
    given_up: bool,
    /// Bytes sent.
    sent: u64,
}

/// How a relay ends that does not come to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    Interrupted(Interrupted),
    /// Reading from the server, or its closing early.
    Server(io::Error),
    /// The client is gone.
    Client,
    /// A gate refuses.
    Refused(Refusal),
}

/// Whose end a lane reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Client,
    Server,
}

impl<'a> Lane<'a> {
    /// Of bytes read into `buffer`, which may hold some already; `first` is sent before them.
    pub(crate) fn new(buffer: &'a mut Buffer, first: Vec<u8>, gate: &'a mut dyn Gate) -> Lane<'a> {
        Lane { buffer, first, gate, ended: false, shut: false, given_up: false, sent: 0 }
    }

    pub(crate) fn has_sent(&self) -> bool {
        self.sent > 0
    }

    /// Whether all has been sent that is to be sent.
    pub(crate) fn is_done(&self) -> bool {
        let over = self.gate.is_complete() || self.ended;
        over && !self.given_up && !self.has_something() && (self.shut || !self.gate.tells_the_end())
    }

    fn has_something(&self) -> bool {
        !self.given_up && (!self.first.is_empty() || self.buffer.start < self.buffer.passed)
    }

    fn wants_to_read(&self) -> bool {
        // What replaces a head has to be gone first: a server could send nothing but interim answers.
        let room = self.first.is_empty() && !self.buffer.is_full();
        room && !self.ended && !self.given_up && !self.gate.is_complete()
    }

    /// Does what can be done without waiting; whether that was anything.
    fn advance(&mut self, who: From, from: &TcpStream, to: &TcpStream) -> Result<bool, Broken> {
        let mut moved = false;
        if self.wants_to_read() {
            match self.buffer.fill(from) {
                Ok(0) => {
                    self.ended = true;
                    self.gate.at_end();
                    moved = true;
                }
                Ok(_) => moved = true,
                Err(e) if is_for_later(&e) => {}
                Err(e) => return Err(broken(who, e)),
            }
        }
        self.judge()?;
        if self.ended && !self.gate.may_end() {
            return Err(broken(who, ErrorKind::UnexpectedEof.into()));
        }
        match self.send(to) {
            Ok(sent) => moved |= sent,
            Err(_) if who == From::Client && !self.gate.tells_the_end() => {
                self.given_up = true;
                moved = true;
            }
            Err(e) => return Err(broken(who.other(), e)),
        }
        if self.ended && !self.has_something() && self.gate.tells_the_end() && !self.shut {
            // It fails where the receiver has gone, which the other direction notices.
            drop(to.shutdown(Shutdown::Write));
            self.shut = true;
            moved = true;
        }
        Ok(moved)
    }

    fn judge(&mut self) -> Result<(), Broken> {
        loop {
            match self.gate.look(self.buffer.fresh()) {
                Verdict::Pass(0) => return Ok(()),
                Verdict::Pass(count) => {
                    self.buffer.passed += count;
                    return Ok(());
                }
                Verdict::Replace(count, bytes) => {
                    self.buffer.take(count);
                    self.first.extend(bytes);
                }
                Verdict::Refuse(refused) => return Err(Broken::Refused(refused)),
            }
        }
    }

    fn send(&mut self, mut to: &TcpStream) -> io::Result<bool> {
        let mut moved = false;
        while self.has_something() {
            let passed = &self.buffer.bytes[self.buffer.start..self.buffer.passed];
            let piece = if self.first.is_empty() { passed } else { &self.first };
            match to.write(piece) {
                Ok(count) => {
                    self.has_gone(count);
                    moved = true;
                }
                Err(e) if is_for_later(&e) => break,
                Err(e) => return Err(e),
            }
        }
        Ok(moved)
    }

    fn has_gone(&mut self, count: usize) {
        self.sent += count as u64;
        if self.first.is_empty() {
            self.buffer.start += count;
        } else {
            self.first.drain(..count);
        }
    }
}

impl From {
    fn other(self) -> From {
        match self {
            From::Client => From::Server,
            From::Server => From::Client,
        }
    }
}

fn broken(who: From, error: io::Error) -> Broken {
    match who {
        From::Client => Broken::Client,
        From::Server => Broken::Server(error),
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Runs both lanes until the way back is done, and the way there too where its end is told.
pub(crate) fn relay(
    client: &TcpStream,
    server: &TcpStream,
    there: &mut Lane,
    back: &mut Lane,
    stop: &Event,
) -> Result<(), Broken> {
    let mut deadline = Instant::now().checked_add(IDLE_TIME);
    loop {
        let mut moved = there.advance(From::Client, client, server)?;
        moved |= back.advance(From::Server, server, client)?;
        if back.is_done() && (there.is_done() || !there.gate.tells_the_end()) {
            return Ok(());
        }
        if moved {
            deadline = Instant::now().checked_add(IDLE_TIME);
            continue;
        }
        let of_client = interest(there, back);
        let of_server = interest(back, there);
        // A socket of which nothing is wanted is still watched for its breaking; where our side of it is
        // shut, hanging up is its ordinary end and would be seen over and over.
        let client_fd = (!of_client.is_empty() || !back.shut).then(|| (client.as_fd(), of_client));
        let server_fd = (!of_server.is_empty() || !there.shut).then(|| (server.as_fd(), of_server));
        let [at_client, at_server] =
            stop.wait([client_fd, server_fd], deadline).map_err(Broken::Interrupted)?;
        let gone = PollFlags::HUP | PollFlags::ERR;
        if of_client.is_empty() && at_client.intersects(gone) {
            return Err(Broken::Client);
        }
        if of_server.is_empty() && at_server.intersects(gone) {
            return Err(Broken::Server(ErrorKind::ConnectionReset.into()));
        }
    }
}

/// What a socket is watched for: `reading` reads from it, `writing` writes to it.
fn interest(reading: &Lane, writing: &Lane) -> PollFlags {
    let mut interest = PollFlags::empty();
    interest.set(PollFlags::IN, reading.wants_to_read());
    interest.set(PollFlags::OUT, writing.has_something());
    interest
}
