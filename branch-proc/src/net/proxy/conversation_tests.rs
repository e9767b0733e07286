//! Conversations with a client and a server that say anything, in any pieces: each comes to an end, and nobody
//! is connected to but the allowed server.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::net::proxy::{Proxy, SystemResolver, hello};

const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy, the server it may connect to, and one it may not.
struct Scene {
    proxy: SocketAddr,
    allowed: u16,
    forbidden: u16,
    says: Arc<Mutex<Vec<u8>>>,
    reached: Arc<AtomicUsize>,
    _running: Proxy,
}

impl Scene {
    fn new() -> Scene {
        let (says, reached): (Arc<Mutex<Vec<u8>>>, Arc<AtomicUsize>) = Default::default();
        let (line, count) = (Arc::clone(&says), Arc::clone(&reached));
        let allowed = server(move |stream| {
            let line = line.lock().unwrap_or_else(PoisonError::into_inner).clone();
            talk(&stream, &line);
        });
        let forbidden = server(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = listener.local_addr().unwrap();
        let rules = vec![format!("127.0.0.1:{allowed}").parse().unwrap()];
        let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let running = Proxy::start(listener.into(), own, rules, Arc::new(SystemResolver)).unwrap();
        Scene { proxy, allowed, forbidden, says, reached, _running: running }
    }

    /// What the client hears until the proxy ends the connection.
    fn play(&self, client: &[u8], server: Vec<u8>) -> Vec<u8> {
        *self.says.lock().unwrap() = server;
        talk(&TcpStream::connect(self.proxy).unwrap(), client)
    }
}

fn server(life: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let life = Arc::new(life);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let life = Arc::clone(&life);
            thread::spawn(move || life(stream));
        }
    });
    port
}

/// Says its line, and listens to the end; a peer that breaks off ends it, too, and one that does not is an
/// error.
fn talk(mut stream: &TcpStream, line: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let said = stream.write_all(line).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Ok(_) => {}
        Err(e) => assert!(e.kind() == ErrorKind::ConnectionReset, "{e} after {heard:?}, {said:?}"),
    }
    heard
}

#[derive(Debug, Clone)]
enum Piece {
    Text(&'static str),
    Allowed,
    Forbidden,
    Hello,
    Bytes(Vec<u8>),
}

const TEXTS: [&str; 24] = [
    "GET ",
    "POST ",
    "HEAD ",
    "CONNECT ",
    "http://",
    "/",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "\r\n",
    "\r\n\r\n",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Expect: 100-continue\r\n",
    "hello",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "@",
    "X: y\r\n",
];

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let piece = prop_oneof![
        12 => proptest::sample::select(TEXTS.to_vec()).prop_map(Piece::Text),
        3 => Just(Piece::Allowed),
        1 => Just(Piece::Forbidden),
        1 => Just(Piece::Hello),
        1 => proptest::collection::vec(any::<u8>(), 0..2000).prop_map(Piece::Bytes),
    ];
    proptest::collection::vec(piece, 0..16)
}

/// Whole requests and answers are what random pieces seldom are.
fn request() -> impl Strategy<Value = Vec<Piece>> {
    use Piece::{Allowed, Forbidden, Text};
    prop_oneof![
        Just(vec![Text("GET "), Text("http://"), Allowed, Text("/"), Text(" HTTP/1.1\r\n"), Text("\r\n")]),
        Just(vec![Text("GET "), Text("http://"), Forbidden, Text("/"), Text(" HTTP/1.1\r\n"), Text("\r\n")]),
        Just(vec![Text("CONNECT "), Allowed, Text(" HTTP/1.1\r\n"), Text("\r\n")]),
        Just(vec![
            Text("POST "),
            Text("http://"),
            Allowed,
            Text(" HTTP/1.1\r\n"),
            Text("Transfer-Encoding: chunked\r\n"),
            Text("\r\n"),
        ]),
        Just(Vec::new()),
    ]
}

fn bytes(pieces: &[Piece], scene: &Scene) -> Vec<u8> {
    let bytes = |piece: &Piece| match piece {
        Piece::Text(text) => text.as_bytes().to_vec(),
        Piece::Allowed => format!("127.0.0.1:{}", scene.allowed).into_bytes(),
        Piece::Forbidden => format!("127.0.0.1:{}", scene.forbidden).into_bytes(),
        Piece::Hello => hello::sample("evil.example", 100),
        Piece::Bytes(bytes) => bytes.clone(),
    };
    pieces.iter().flat_map(bytes).collect()
}

#[test]
fn every_conversation_ends_and_nobody_else_is_reached() {
    let scene = Scene::new();
    let strategy = (request(), pieces(), request(), pieces(), pieces());
    let mut runner = proptest::test_runner::TestRunner::default();
    let (established, denied) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let played = runner.run(&strategy, |(first, then, second, last, server)| {
        let client = bytes(&[first, then, second, last].concat(), &scene);
        let heard = scene.play(&client, bytes(&server, &scene));
        // Whatever was asked for, what comes back begins as HTTP or as nothing.
        prop_assert!(heard.is_empty() || heard.starts_with(b"HTTP/1."), "{heard:?}");
        for (count, begin) in [(&established, "HTTP/1.1 200 "), (&denied, "HTTP/1.1 403 ")] {
            count.fetch_add(usize::from(heard.starts_with(begin.as_bytes())), Ordering::Relaxed);
        }
        prop_assert_eq!(scene.reached.load(Ordering::SeqCst), 0);
        Ok(())
    });
    played.unwrap();
    let (established, denied) = (established.into_inner(), denied.into_inner());
    assert!(established > 10 && denied > 10, "only {established} went through, {denied} were denied");
}
