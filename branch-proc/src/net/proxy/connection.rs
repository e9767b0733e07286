//! The life of one client's connection: a tunnel, or one request after the other, each checked by itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::net::sockopt;

use crate::net::proxy::dial::{NoWay, Resolver, dial};
use crate::net::proxy::gates::{Answers, Open, RequestBody, Tunnel};
use crate::net::proxy::head::{self, After, Ask, Forward};
use crate::net::proxy::hello::UNRECOGNIZED_NAME;
use crate::net::proxy::limits::{BETWEEN_REQUESTS_TIME, HEAD_TIME, PARTING_BYTES_MAX, PARTING_TIME};
use crate::net::proxy::refusal::{Denials, Refusal, repeated};
use crate::net::proxy::relay::{Broken, Buffer, Lane, relay};
use crate::net::proxy::wait::{Event, Interrupted};
use crate::net::rule::{Host, HostRule};
use crate::net::verdict::NetRefusal;

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// What a proxy's connections share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) rules: Vec<HostRule>,
    pub(crate) resolver: Resolver,
    pub(crate) stop: Event,
    pub(crate) denials: Denials,
}

/// How a connection ends, if it does.
enum Next {
    Request,
    /// In good order: what was sent is still to be read.
    Part,
    /// In the middle of something, which the client has to notice.
    Reset,
    /// With nothing to say.
    Close,
}

/// Serves a client, whose socket does not block, until either side ends it.
pub(crate) fn serve(client: &TcpStream, site: &Site) {
    let mut buffer = Buffer::new();
    loop {
        match request(client, &mut buffer, site) {
            Next::Request => {}
            Next::Part => return part(client, &site.stop),
            Next::Reset => return reset(client),
            Next::Close => return,
        }
    }
}

fn request(client: &TcpStream, buffer: &mut Buffer, site: &Site) -> Next {
    let head = match read_head(client, buffer, &site.stop) {
        Ok(Some(length)) => buffer.fresh()[..length].to_vec(),
        Ok(None) => return Next::Close,
        Err(refusal) => return refuse(client, refusal, site),
    };
    buffer.take(head.len());
    match head::request(&head) {
        Ok(Ask::Tunnel { host, port }) => tunnel(client, buffer, &host, port, site),
        Ok(Ask::Forward(forward)) => exchange(client, buffer, forward, site),
        Err(why) => refuse(client, Refusal::malformed(400, &first_line(&head), why), site),
    }
}

/// Reads until there is a whole head; None when the client is gone or has nothing to ask.
fn read_head(client: &TcpStream, buffer: &mut Buffer, stop: &Event) -> Result<Option<usize>, Refusal> {
    let mut began = (!buffer.fresh().is_empty()).then(Instant::now);
    let waiting_since = Instant::now();
    let mut seen = 0;
    loop {
        let too_long = |why| Refusal::malformed(431, &first_line(buffer.fresh()), why);
        if let Some(length) = head::end(buffer.fresh(), seen).map_err(too_long)? {
            return Ok(Some(length));
        }
        seen = buffer.fresh().len();
        let deadline = began.map_or(waiting_since + BETWEEN_REQUESTS_TIME, |began| began + HEAD_TIME);
        match stop.wait([Some((client.as_fd(), PollFlags::IN))], Some(deadline)) {
            Ok(_) => {}
            Err(Interrupted::TimedOut) if began.is_some() => {
                return Err(Refusal::failed(408, "a request's head takes too long to come".to_owned()));
            }
            Err(_) => return Ok(None),
        }
        match buffer.fill(client) {
            Ok(0) => return Ok(None),
            Ok(_) => began = began.or_else(|| Some(Instant::now())),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return Ok(None),
        }
    }
}

fn first_line(head: &[u8]) -> String {
    repeated(head.split(|&byte| byte == b'\r' || byte == b'\n').next().unwrap_or_default())
}

fn tunnel(client: &TcpStream, buffer: &mut Buffer, host: &Host, port: u16, site: &Site) -> Next {
    let server = match connect(host, port, site) {
        Ok(server) => server,
        Err(refused) => return refused.map_or(Next::Close, |refusal| refuse(client, refusal, site)),
    };
    let mut there_gate = Tunnel { rules: &site.rules, port, checked: false };
    let (mut back_gate, mut back_buffer) = (Open, Buffer::new());
    let mut there = Lane::new(buffer, Vec::new(), &mut there_gate);
    let mut back = Lane::new(&mut back_buffer, ESTABLISHED.to_vec(), &mut back_gate);
    match relay(client, &server, &mut there, &mut back, &site.stop) {
        Ok(()) => Next::Close,
        Err(Broken::Refused(refusal)) if !back.has_sent() => {
            reset(&server);
            refuse(client, refusal, site)
        }
        Err(Broken::Refused(refusal)) => {
            note(&refusal, site);
            reset(&server);
            say(client, &UNRECOGNIZED_NAME, &site.stop);
            Next::Part
        }
        Err(_) => {
            reset(&server);
            Next::Reset
        }
    }
}

fn exchange(client: &TcpStream, buffer: &mut Buffer, forward: Forward, site: &Site) -> Next {
    let server = match connect(&forward.host, forward.port, site) {
        Ok(server) => server,
        Err(refused) => return refused.map_or(Next::Close, |refusal| refuse(client, refusal, site)),
    };
    let (mut body, mut answers) = (RequestBody(forward.body), Answers::to(forward.client));
    let mut back_buffer = Buffer::new();
    let mut there = Lane::new(buffer, forward.head, &mut body);
    let mut back = Lane::new(&mut back_buffer, Vec::new(), &mut answers);
    let end = relay(client, &server, &mut there, &mut back, &site.stop);
    let (asked_all, answered) = (there.is_done(), back.has_sent());
    let target = format!("{}:{}", forward.host, forward.port);
    match end {
        Ok(()) if asked_all && answers.after() == After::KeepAlive => Next::Request,
        Ok(()) => Next::Part,
        Err(broken) => {
            reset(&server);
            match excuse(broken, &target) {
                Some(refusal) if !answered => refuse(client, refusal, site),
                Some(refusal) => {
                    note(&refusal, site);
                    Next::Reset
                }
                None => Next::Reset,
            }
        }
    }
}

/// What to say of an exchange that broke, while it can still be said.
fn excuse(broken: Broken, target: &str) -> Option<Refusal> {
    match broken {
        Broken::Refused(refusal) => Some(refusal),
        Broken::Server(e) => Some(Refusal::failed(502, format!("{target} ended without an answer: {e}"))),
        Broken::Interrupted(Interrupted::TimedOut) => {
            Some(Refusal::failed(504, format!("{target} takes too long to answer")))
        }
        Broken::Interrupted(_) | Broken::Client => None,
    }
}

/// A connection to where a client may go; None when the proxy ends.
fn connect(host: &Host, port: u16, site: &Site) -> Result<TcpStream, Option<Refusal>> {
    let refused = |refusal: NetRefusal| Refusal::denied(format!("{host}:{port}"), refusal.to_string());
    let server =
        dial(host, port, &site.rules, &site.resolver, &site.stop).map_err(|no_way| match no_way {
            NoWay::Refused(refusal) => Some(refused(refusal)),
            NoWay::Failed(words) => Some(Refusal::failed(502, words)),
            NoWay::TimedOut(words) => Some(Refusal::failed(504, words)),
            NoWay::Stopped => None,
        })?;
    // It makes small messages quicker, and nothing depends on it.
    drop(server.set_nodelay(true));
    Ok(server)
}

fn refuse(client: &TcpStream, refusal: Refusal, site: &Site) -> Next {
    note(&refusal, site);
    say(client, &refusal.answer(), &site.stop);
    Next::Part
}

fn note(refusal: &Refusal, site: &Site) {
    if let Some(target) = &refusal.denied {
        site.denials.note(target, &refusal.words);
    }
}

/// Sends a last word to a client, which may be gone.
fn say(mut client: &TcpStream, mut bytes: &[u8], stop: &Event) {
    while !bytes.is_empty() {
        match client.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                if stop.wait_for(client, PollFlags::OUT, PARTING_TIME).is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Closes so that what was sent arrives: closing a socket with bytes unread throws away what was sent.
fn part(mut client: &TcpStream, stop: &Event) {
    if client.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let (deadline, mut left) = (Instant::now() + PARTING_TIME, PARTING_BYTES_MAX);
    let mut thrown_away = [0; 4096];
    while left > 0 && stop.wait([Some((client.as_fd(), PollFlags::IN))], Some(deadline)).is_ok() {
        match client.read(&mut thrown_away) {
            Ok(0) => return,
            Ok(count) => left = left.saturating_sub(count),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
    }
}

/// Lets the other side see that this is no orderly end.
fn reset(stream: &TcpStream) {
    let set = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    debug_assert!(set.is_ok(), "every TCP socket takes it");
}
