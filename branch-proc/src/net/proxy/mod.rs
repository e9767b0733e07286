//! The egress proxy of a group with an allow list: HTTP `CONNECT` and plain HTTP, on a socket that listens in
//! the group's network namespace. Its threads belong to the process that spawned the group, and connect from
//! there. It ends with the group.

mod body;
mod connection;
#[cfg(test)]
mod conversation_tests;
mod dial;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gates;
mod head;
mod hello;
mod limits;
mod refusal;
mod relay;
mod wait;

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::net::rule::HostRule;
use crate::outcome::Denial;
use crate::sys::SignalsBlocked;
use connection::{Site, serve};
use dial::Resolver;
pub use dial::{Resolve, SystemResolver};
use limits::{CONNECTIONS_MAX, STACK};
use refusal::Denials;
use wait::{Event, Interrupted};

/// How long no connection is accepted when there are no descriptors for one: nothing tells when there are.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// A running proxy. Dropping it ends all its threads and closes all its sockets.
#[derive(Debug)]
pub(crate) struct Proxy {
    stop: Event,
    denials: Denials,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Serves who connects to `listener`, until dropped or until `group` (a pidfd) is readable.
    pub(crate) fn start(
        listener: OwnedFd,
        group: OwnedFd,
        rules: Vec<HostRule>,
        resolve: Arc<dyn Resolve>,
    ) -> io::Result<Proxy> {
        let listener = TcpListener::from(listener);
        listener.set_nonblocking(true)?;
        let (stop, denials) = (Event::new()?, Denials::default());
        let resolver = Resolver::new(resolve);
        let site = Site { rules, resolver, stop: stop.clone(), denials: denials.clone() };
        let mut acceptor =
            Acceptor { listener, group, site: Arc::new(site), places: Places::new()?, running: Vec::new() };
        // The caller's signals are for the caller's own threads.
        let blocked = SignalsBlocked::new();
        let spawned = thread("branch-proxy").spawn(move || acceptor.run());
        drop(blocked);
        Ok(Proxy { stop, denials, acceptor: Some(spawned?) })
    }

    /// What was refused so far.
    pub(crate) fn denials(&self) -> Vec<Denial> {
        self.denials.all()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.raise();
        if let Some(acceptor) = self.acceptor.take() {
            // A panic of it has been told of where it happened.
            drop(acceptor.join());
        }
    }
}

struct Acceptor {
    listener: TcpListener,
    group: OwnedFd,
    site: Arc<Site>,
    places: Places,
    running: Vec<JoinHandle<()>>,
}

/// How many connections are served, and that one less is.
#[derive(Clone)]
struct Places {
    taken: Arc<AtomicUsize>,
    freed: Event,
}

/// One of them.
struct Place(Places);

impl Acceptor {
    fn run(&mut self) {
        while self.round().is_ok() {}
        self.site.stop.raise();
        for connection in self.running.drain(..) {
            drop(connection.join());
        }
    }

    /// Waits for something and does it; an error ends the proxy.
    fn round(&mut self) -> Result<(), Interrupted> {
        let full = self.places.taken.load(Ordering::Acquire) >= CONNECTIONS_MAX;
        let listener = (!full).then(|| (self.listener.as_fd(), PollFlags::IN));
        let watched = [
            listener,
            Some((self.group.as_fd(), PollFlags::IN)),
            Some((self.places.freed.fd(), PollFlags::IN)),
        ];
        let [asked, gone, freed] = self.site.stop.wait(watched, None)?;
        if !gone.is_empty() {
            return Err(Interrupted::Stopped);
        }
        if !freed.is_empty() {
            self.places.freed.clear();
            self.running.retain(|connection| !connection.is_finished());
        }
        if asked.is_empty() {
            return Ok(());
        }
        match self.listener.accept() {
            Ok((client, _)) => self.serve(client),
            Err(e) => self.after_failed_accept(e)?,
        }
        Ok(())
    }

    fn after_failed_accept(&self, error: io::Error) -> Result<(), Interrupted> {
        match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                let until = Instant::now() + EXHAUSTED_PAUSE;
                match self.site.stop.wait([Some((self.group.as_fd(), PollFlags::IN))], Some(until)) {
                    Ok(_) | Err(Interrupted::TimedOut) => Ok(()),
                    Err(other) => Err(other),
                }
            }
            Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP) => {
                Err(Interrupted::Failed(error))
            }
            // The client has gone again, or its network has had an error (accept(2)).
            _ => Ok(()),
        }
    }

    fn serve(&mut self, client: TcpStream) {
        if client.set_nonblocking(true).is_err() || client.set_nodelay(true).is_err() {
            return;
        }
        let (site, place) = (Arc::clone(&self.site), self.places.take());
        let life = move || {
            serve(&client, &site);
            drop((client, place));
        };
        // Without memory for a thread the client sees its connection closed.
        if let Ok(connection) = thread("branch-proxy-io").spawn(life) {
            self.running.push(connection);
        }
    }
}

impl Places {
    fn new() -> Result<Places, Errno> {
        Ok(Places { taken: Arc::new(AtomicUsize::new(0)), freed: Event::new()? })
    }

    fn take(&self) -> Place {
        self.taken.fetch_add(1, Ordering::AcqRel);
        Place(self.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.raise();
    }
}

fn thread(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK)
}
