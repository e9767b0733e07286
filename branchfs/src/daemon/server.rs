//! The socket: accept, shake hands, serve. One thread per client, as many as there are.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use branch_proto::{
    Answer, Failure, FrameError, PROTOCOL_VERSION, Reply, Verb, Welcome, server, write_frame,
};
use parking_lot::{Condvar, Mutex};

use super::peer::Peer;
use super::state::Daemon;
use super::stop::{Cause, Signals};
use super::verbs;
use super::wake::{Wake, wait_any};

/// A client that does not read its answer for so long loses its connection, and a stop of the daemon does
/// not wait for it.
/// Stack of a thread that carries out verbs: commit walks directories by recursion, and they can be thousands
/// deep. Only what is used takes memory.
const VERB_STACK: usize = 64 << 20;
const WRITE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Wait before another try to accept when there is no room.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// Connections being served. `open` is a leaf lock.
#[derive(Default)]
struct Clients {
    open: Mutex<HashMap<u64, UnixStream>>,
    closed: Condvar,
}

/// One connection being served; dropped last of all its thread has.
struct Ticket {
    number: u64,
    clients: Arc<Clients>,
    acceptor: Arc<Wake>,
}

/// Serves clients until somebody stops the daemon. Then nobody new is accepted, subscribers hear of it,
/// requests being carried out are finished and answered.
pub(super) fn run(daemon: &Arc<Daemon>, listener: &UnixListener, signals: &Signals) -> io::Result<Cause> {
    let clients = Arc::new(Clients::default());
    let cause = accept_until_stopped(daemon, listener, signals, &clients);
    daemon.publish(branch_proto::Event::Shutdown);
    clients.hang_up();
    clients.wait_until_none();
    cause
}

fn accept_until_stopped(
    daemon: &Arc<Daemon>,
    listener: &UnixListener,
    signals: &Signals,
    clients: &Arc<Clients>,
) -> io::Result<Cause> {
    // Several things can wake us at once, and a client may be gone before we accept it.
    listener.set_nonblocking(true)?;
    let mut number = 0;
    loop {
        let fds = [signals.as_fd(), daemon.stop.wake().as_fd(), listener.as_fd()];
        let [signal, wake, _] = wait_any(fds, None)?;
        if !signal.is_empty() {
            daemon.stop.request(Cause::Signal);
        }
        if !wake.is_empty() {
            daemon.stop.wake().clear();
        }
        if let Some(cause) = daemon.stop.cause() {
            return Ok(cause);
        }
        match listener.accept() {
            Ok((stream, _)) => {
                number += 1;
                if let Err(error) = welcome_client(daemon, clients, stream, number) {
                    tracing::warn!(%error, "a client was turned away");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if is_full(&error) => wait_for_room(daemon, signals, &error)?,
            Err(error) => tracing::debug!(%error, "accept"),
        }
    }
}

/// No descriptor or no memory for one more client: the others are served, this one waits in the backlog
/// until a client leaves, or for a while: open files take descriptors, too.
fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

fn wait_for_room(daemon: &Daemon, signals: &Signals, error: &io::Error) -> io::Result<()> {
    tracing::warn!(%error, "no room for another client");
    wait_any([signals.as_fd(), daemon.stop.wake().as_fd()], Some(ROOM_WAIT)).map(|_| ())
}

fn welcome_client(
    daemon: &Arc<Daemon>,
    clients: &Arc<Clients>,
    stream: UnixStream,
    number: u64,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(WRITE_WAIT_MAX))?;
    clients.open.lock().insert(number, stream.try_clone()?);
    let ticket = Ticket { number, clients: clients.clone(), acceptor: daemon.stop.wake().clone() };
    let daemon = daemon.clone();
    thread::Builder::new().name(format!("client-{number}")).stack_size(VERB_STACK).spawn(move || {
        // A local, so that it is dropped before the ticket also when a verb panics.
        let daemon = daemon;
        if let Err(error) = converse(&daemon, stream) {
            tracing::debug!(%error, client = number, "connection ended");
        }
        drop(daemon);
        drop(ticket);
    })?;
    Ok(())
}

/// A whole connection. Whatever goes wrong in it ends this connection and nothing else.
fn converse(daemon: &Daemon, stream: UnixStream) -> Result<(), FrameError> {
    let peer = Peer::of(&stream)?;
    if !peer.may_talk(daemon.owner) {
        tracing::warn!(uid = peer.uid, "a stranger was refused");
        let reason = "only the owner of the store may talk to its daemon".to_owned();
        return write_frame(&stream, &Err::<Welcome, _>(Failure::NotAllowed { reason }));
    }
    if !shake_hands(&stream)? {
        return Ok(());
    }
    loop {
        let (request, descriptor) = match server::recv_request(&stream) {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(()),
            Err(error) => return refuse(&stream, error),
        };
        let id = request.id;
        match request.verb {
            Verb::Subscribe => {
                server::send_reply(&stream, &Reply { id, outcome: Ok(Answer::Done) })?;
                return daemon.events.serve(stream);
            }
            Verb::Shutdown => {
                daemon.stop.request_by(stream, id);
                return Ok(());
            }
            verb => {
                let done = verbs::carry_out(daemon, peer, stream.as_fd(), verb, descriptor);
                if let Err(failure @ (Failure::Io { .. } | Failure::Poisoned { .. })) = &done.outcome {
                    tracing::error!("{failure}");
                }
                let sent = server::send_reply(&stream, &Reply { id, outcome: done.outcome });
                done.farewell.kill();
                sent?;
            }
        }
    }
}

/// Whether both sides speak the same protocol. What is not even a greeting is answered in kind.
fn shake_hands(stream: &UnixStream) -> Result<bool, FrameError> {
    let welcome = Welcome {
        protocol: PROTOCOL_VERSION,
        pid: rustix::process::getpid().as_raw_nonzero().get(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    match server::handshake(stream, &welcome) {
        Ok(greeted) => Ok(matches!(greeted, Some(Ok(())))),
        Err(error) => {
            if let Some(failure) = malformed(&error) {
                write_frame(stream, &Err::<Welcome, _>(failure))?;
            }
            Err(error)
        }
    }
}

fn refuse(stream: &UnixStream, error: FrameError) -> Result<(), FrameError> {
    if let Some(failure) = malformed(&error) {
        server::send_reply(stream, &Reply { id: 0, outcome: Err(failure) })?;
    }
    Err(error)
}

/// What the client did wrong; `None` if the connection is simply gone.
fn malformed(error: &FrameError) -> Option<Failure> {
    match error {
        FrameError::Malformed(_) | FrameError::TooLong { .. } | FrameError::Truncated { .. } => {
            Some(Failure::Malformed { reason: error.to_string() })
        }
        FrameError::Io(_) => None,
    }
}

impl Clients {
    /// Wakes those who wait for a request; answers can still be written.
    fn hang_up(&self) {
        for stream in self.open.lock().values() {
            if let Err(error) = stream.shutdown(Shutdown::Read) {
                tracing::debug!(%error, "shutdown of a client's connection");
            }
        }
    }

    fn wait_until_none(&self) {
        let mut open = self.open.lock();
        while !open.is_empty() {
            self.closed.wait(&mut open);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.clients.open.lock().remove(&self.number);
        self.clients.closed.notify_all();
        // There may be room for a client in the backlog now.
        self.acceptor.notify();
    }
}
