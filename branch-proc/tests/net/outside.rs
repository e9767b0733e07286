//! What is outside of a group: servers on this machine's loopback, and names that lead to them.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use branch_proc::{Command, Net, Resolve};

use crate::inside::{Noise, patient};

/// The threads of the servers that serve a connection.
pub(crate) const SERVING: &str = "outside-serving";

/// A server that answers, one that nobody may reach, and one for tunnels.
pub(crate) struct Outside {
    /// The port of the allowed web server, on 127.0.0.1.
    pub(crate) web: u16,
    /// The port of the allowed server for tunnels, on 127.0.0.1.
    pub(crate) raw: u16,
    /// The port, on every address of this machine, of the server that nobody may reach.
    pub(crate) trap: u16,
    heads: Arc<Mutex<Vec<String>>>,
    trapped: Arc<AtomicUsize>,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl Outside {
    pub(crate) fn new() -> Outside {
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let trapped: Arc<AtomicUsize> = Arc::default();
        let (noted, counted) = (Arc::clone(&heads), Arc::clone(&trapped));
        let web = serve("127.0.0.1:0", move |stream| answer(stream, &noted));
        let raw = serve("127.0.0.1:0", tunnelled);
        let trap = serve("0.0.0.0:0", move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
        Outside { web, raw, trap, heads, trapped, asked: Arc::default() }
    }

    /// With an allow list of what there is: `allowed.example` and `raw.example`, and names that lead elsewhere.
    pub(crate) fn allowing(&self, more: &str) -> impl FnOnce(Command) -> Command + use<> {
        let (web, raw, trap) = (self.web, self.raw, self.trap);
        let rules = format!(
            "allow=allowed.example:{web},*.below.example:{web},127.0.0.1:{web},raw.example:{raw},127.0.0.1:{raw},\
             private.example:{trap},metadata.example,rebinding.example:{web},panic.example{more}"
        );
        let net: Net = rules.parse().unwrap();
        let asked = Arc::clone(&self.asked);
        move |command| command.net(net).resolver(Names(asked))
    }

    /// The heads of the requests that came to the web server since this was last asked.
    pub(crate) fn heads(&self) -> Vec<String> {
        std::mem::take(&mut self.heads.lock().unwrap())
    }

    pub(crate) fn trapped(&self) -> usize {
        self.trapped.load(Ordering::SeqCst)
    }
}

struct Names(Arc<Mutex<HashMap<String, usize>>>);

impl Resolve for Names {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let mut asked = self.0.lock().unwrap();
        let times = asked.entry(name.to_owned()).or_default();
        *times += 1;
        let addresses: &[&str] = match name {
            "allowed.example" | "raw.example" | "tls.example" | "x.below.example" => &["127.0.0.1"],
            "private.example" => &["10.0.0.1", "127.0.0.1", "::1", "169.254.169.254"],
            "metadata.example" => &["169.254.169.254", "fd00:ec2::254"],
            // Allowed when it is checked, and not when anybody asks again.
            "rebinding.example" if *times == 1 => &["127.0.0.1"],
            "rebinding.example" => &["127.0.0.2"],
            "panic.example" => {
                drop(asked);
                panic!("the resolver of a test");
            }
            _ => return Err(io::Error::other("no such name in this test")),
        };
        Ok(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }
}

/// A server that lives as long as this process; its port.
pub(crate) fn serve(at: &str, life: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind(at).unwrap();
    let port = listener.local_addr().unwrap().port();
    let life = Arc::new(life);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let life = Arc::clone(&life);
            // What a client does to its connection is its own affair.
            let builder = thread::Builder::new().name(SERVING.to_owned());
            builder.spawn(move || life(stream).is_ok()).unwrap();
        }
    });
    port
}

/// One request for each connection, as the proxy makes them.
fn answer(mut stream: TcpStream, heads: &Mutex<Vec<String>>) -> io::Result<()> {
    patient(&stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    heads.lock().unwrap().push(head.clone());
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    if path == "/cross" {
        return cross(stream, &head);
    }
    let body = read_body(&mut stream, &head)?;
    let answer = match path.split_once('?') {
        Some(("/redirect", to)) => format!("302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"),
        _ if path == "/chunked" => {
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nSum: 1\r\n\r\n"
                .to_owned()
        }
        _ if path == "/to-the-end" => "200 OK\r\n\r\nto the end".to_owned(),
        _ if path == "/short" => "200 OK\r\nContent-Length: 100\r\n\r\nshort".to_owned(),
        _ if path == "/two-lengths" => {
            "200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_owned()
        }
        _ if path == "/silent" => return Ok(()),
        _ => format!("200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
    };
    if head.to_ascii_lowercase().contains("\r\nexpect: 100-continue\r\n") {
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n")?;
    }
    stream.write_all(format!("HTTP/1.1 {answer}").as_bytes())
}

/// Answers with the body while it comes.
fn cross(mut stream: TcpStream, head: &str) -> io::Result<()> {
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes())?;
    io::copy(&mut stream.try_clone()?.take(length.parse().unwrap()), &mut stream).map(drop)
}

/// The body as it came, or a greeting.
fn read_body(stream: &mut TcpStream, head: &str) -> io::Result<String> {
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    let mut body = Vec::new();
    if let Some(length) = field("Content-Length: ") {
        body.resize(length.parse().unwrap(), 0);
        stream.read_exact(&mut body)?;
    } else if field("Transfer-Encoding: ").is_some() {
        if head.contains("100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        while !body.ends_with(b"0\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            body.push(byte[0]);
        }
    } else {
        body = b"hello".to_vec();
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// The first byte says what the client wants to see.
fn tunnelled(mut stream: TcpStream) -> io::Result<()> {
    patient(&stream);
    let mut what = [0];
    stream.read_exact(&mut what)?;
    match what[0] {
        b'E' => {
            let mut all = String::new();
            stream.read_to_string(&mut all)?;
            stream.write_all(format!("{all}, and then the end").as_bytes())
        }
        b'R' => {
            stream.write_all(&[0; 1000])?;
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
            Ok(())
        }
        b'U' => {
            let same = Noise::default().reads_same_from(&mut stream.try_clone()?, size(&mut stream)?)?;
            let rest = stream.read(&mut [0])?;
            stream.write_all(format!("same: {same}, then {rest} more").as_bytes())
        }
        b'D' => {
            let size = size(&mut stream)?;
            Noise::default().write_to(&mut stream, size)
        }
        // Whatever else: keeps it.
        _ => stream.read_to_end(&mut Vec::new()).map(drop),
    }
}

fn size(stream: &mut TcpStream) -> io::Result<u64> {
    let mut digits = [0; 16];
    stream.read_exact(&mut digits)?;
    Ok(String::from_utf8_lossy(&digits).parse().unwrap())
}
