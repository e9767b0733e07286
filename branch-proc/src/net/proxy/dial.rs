//! From a host that is asked for to a connection with an address that was checked.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::net::address::plain;
use crate::net::proxy::limits::{ADDRESSES_MAX, CONNECT_TIME, LOOKUP_STACK, LOOKUP_TIME, LOOKUPS_MAX};
use crate::net::proxy::wait::{Event, Interrupted};
use crate::net::rule::{Host, HostRule};
use crate::net::verdict::{NetRefusal, listed, reachable};

/// Finds the addresses of a name.
pub trait Resolve: Send + Sync {
    /// The addresses of `name`, in the order in which to try them.
    ///
    /// # Errors
    /// That there are none.
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's own resolver (`getaddrinfo(3)`).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
    }
}

/// The resolver of a proxy, shared by its threads.
#[derive(Clone)]
pub(crate) struct Resolver {
    resolve: Arc<dyn Resolve>,
    running: Arc<AtomicUsize>,
}

impl Resolver {
    pub(crate) fn new(resolve: Arc<dyn Resolve>) -> Resolver {
        Resolver { resolve, running: Arc::new(AtomicUsize::new(0)) }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum NoWay {
    Refused(NetRefusal),
    /// It is allowed, and does not work.
    Failed(String),
    TimedOut(String),
    Stopped,
}

/// Connects to exactly an address that was checked: a second lookup could have another answer.
pub(crate) fn dial(
    host: &Host,
    port: u16,
    rules: &[HostRule],
    resolver: &Resolver,
    stop: &Event,
) -> Result<TcpStream, NoWay> {
    listed(rules, host, port).map_err(NoWay::Refused)?;
    let addresses = match host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => resolver.look_up(name, stop)?,
    };
    let (mut refused, mut failed) = (None, None);
    for address in addresses.into_iter().take(ADDRESSES_MAX).map(plain) {
        let to = SocketAddr::new(address, port);
        match reachable(rules, host, address, port, is_own(to)) {
            Err(refusal) => refused = refused.or(Some(refusal)),
            Ok(()) => match connect(to, stop) {
                Ok(stream) => return Ok(stream),
                Err(NoWay::Stopped) => return Err(NoWay::Stopped),
                Err(other) => failed = Some(other),
            },
        }
    }
    let nothing = || NoWay::Failed(format!("{host} has no address"));
    Err(refused.map(NoWay::Refused).filter(|_| failed.is_none()).or(failed).unwrap_or_else(nothing))
}

impl Resolver {
    /// On a thread of its own, which holds nothing but the name: a lookup takes as long as it takes.
    fn look_up(&self, name: &str, stop: &Event) -> Result<Vec<IpAddr>, NoWay> {
        let Some(place) = Place::take(&self.running) else {
            return Err(NoWay::Failed(format!("{LOOKUPS_MAX} names are being looked up already")));
        };
        let cannot = |e: io::Error| NoWay::Failed(format!("cannot look up {name}: {e}"));
        let done = Event::new().map_err(|e| cannot(e.into()))?;
        let (sender, answer) = mpsc::sync_channel(1);
        let (resolve, own_name, guard) = (Arc::clone(&self.resolve), name.to_owned(), Raised(done.clone()));
        let look = move || {
            let found = resolve.resolve(&own_name);
            // Nobody may be waiting for it any more.
            drop(sender.send(found));
            drop((guard, place));
        };
        let builder = thread::Builder::new().name("branch-lookup".to_owned()).stack_size(LOOKUP_STACK);
        builder.spawn(look).map_err(cannot)?;
        match stop.wait_for(done.fd(), PollFlags::IN, LOOKUP_TIME) {
            Ok(()) => {}
            Err(Interrupted::Stopped) => return Err(NoWay::Stopped),
            Err(Interrupted::TimedOut) => {
                return Err(NoWay::TimedOut(format!("looking up {name} takes too long")));
            }
            Err(Interrupted::Failed(e)) => return Err(cannot(e)),
        }
        match answer.try_recv() {
            Ok(found) => found.map_err(|e| NoWay::Failed(format!("cannot find the address of {name}: {e}"))),
            Err(_) => Err(NoWay::Failed(format!("looking up {name} has failed"))),
        }
    }
}

/// Raises its event when dropped, also by a panic.
struct Raised(Event);

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.raise();
    }
}

/// One of the lookups that may run at a time.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(running: &Arc<AtomicUsize>) -> Option<Place> {
        let more = |count| (count < LOOKUPS_MAX).then_some(count + 1);
        running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(Arc::clone(running)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether an address belongs to this machine: then a packet to it would come from itself. Connecting a
/// datagram socket sends nothing (`udp(7)`).
fn is_own(to: SocketAddr) -> bool {
    let unspecified: SocketAddr = match to {
        SocketAddr::V4(_) => ([0u8; 4], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let probe = UdpSocket::bind(unspecified).and_then(|socket| {
        socket.connect(to)?;
        socket.local_addr()
    });
    // Where there is no way to an address, connecting to it will say so.
    probe.is_ok_and(|from| from.ip() == to.ip())
}

fn connect(to: SocketAddr, stop: &Event) -> Result<TcpStream, NoWay> {
    let failed = |e: io::Error| NoWay::Failed(format!("cannot connect to {to}: {e}"));
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
        .map_err(|e| failed(e.into()))?;
    match rustix::net::connect(&socket, &to) {
        Ok(()) => {}
        Err(Errno::INPROGRESS | Errno::INTR) => match stop.wait_for(&socket, PollFlags::OUT, CONNECT_TIME) {
            Ok(()) => {}
            Err(Interrupted::Stopped) => return Err(NoWay::Stopped),
            Err(Interrupted::TimedOut) => {
                return Err(NoWay::TimedOut(format!("connecting to {to} takes too long")));
            }
            Err(Interrupted::Failed(e)) => return Err(failed(e)),
        },
        Err(e) => return Err(failed(e.into())),
    }
    match sockopt::socket_error(&socket) {
        Ok(Ok(())) => Ok(TcpStream::from(socket)),
        Ok(Err(e)) | Err(e) => Err(failed(e.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::Mutex;

    /// Answers first one address, then another.
    struct Rebinding(Mutex<Vec<Vec<IpAddr>>>);

    impl Resolve for Rebinding {
        fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            Ok(self.0.lock().unwrap().remove(0))
        }
    }

    fn rules(text: &str) -> Vec<HostRule> {
        text.split(',').map(|rule| rule.parse().unwrap()).collect()
    }

    #[test]
    fn a_name_is_looked_up_once_and_connected_to_at_what_was_checked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        let two: IpAddr = "127.0.0.2".parse().unwrap();
        // The first answer is allowed; the second, which nobody is to ask for, is not.
        let resolver = Resolver::new(Arc::new(Rebinding(Mutex::new(vec![vec![loopback], vec![two]]))));
        let rules = rules(&format!("a.example:{port},127.0.0.1:{port}"));
        let host = Host::Name("a.example".to_owned());
        let stop = Event::new().unwrap();
        let stream = dial(&host, port, &rules, &resolver, &stop).unwrap();
        assert_eq!(stream.peer_addr().unwrap().ip(), loopback);
        match dial(&host, port, &rules, &resolver, &stop) {
            Err(NoWay::Refused(NetRefusal::NotPublic { address, .. })) => assert_eq!(address, two),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn of_several_addresses_the_forbidden_ones_are_passed_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let addresses = ["169.254.169.254", "10.0.0.1", "::1", "127.0.0.1"].map(|a| a.parse().unwrap());
        let resolver = Resolver::new(Arc::new(Rebinding(Mutex::new(vec![addresses.to_vec()]))));
        let rules = rules(&format!("a.example:{port},127.0.0.1:{port}"));
        let host = Host::Name("a.example".to_owned());
        let stream = dial(&host, port, &rules, &resolver, &Event::new().unwrap()).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), SocketAddr::new("127.0.0.1".parse().unwrap(), port));
    }

    #[test]
    fn a_name_that_is_not_listed_is_not_even_looked_up() {
        struct Never;
        impl Resolve for Never {
            fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
                panic!("{name} was looked up")
            }
        }
        let host = Host::Name("secret.evil.example".to_owned());
        let resolver = Resolver::new(Arc::new(Never));
        let result = dial(&host, 443, &rules("a.example"), &resolver, &Event::new().unwrap());
        assert!(matches!(result, Err(NoWay::Refused(NetRefusal::NotListed { .. }))), "{result:?}");
    }

    #[test]
    fn an_address_of_this_machine_is_known_as_such() {
        assert!(is_own("127.0.0.1:80".parse().unwrap()));
        assert!(!is_own("192.0.2.1:80".parse().unwrap()));
    }
}
