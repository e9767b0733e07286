//! The program that runs in a group: does what it is told on standard input, line by line, and says what
//! came of it.

use std::fmt::Debug;
use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use branch_proc::{CaptureOptions, Captured, Command, PROXY_PORT, Stdio};

/// Far longer than anything here takes, large transfers on a busy machine included.
const PATIENCE: Duration = Duration::from_secs(120);

/// Set for the copy of this binary that is the program inside.
const INSIDE: &str = "BRANCH_PROC_TEST_INSIDE";
const MARK: &str = "=> ";

/// Runs these orders in a group; what came of each.
pub(crate) fn ordered(orders: &[String], with: impl FnOnce(Command) -> Command) -> Vec<String> {
    ordered_and(orders, with, |_| {})
}

/// As [`ordered`], with a look at the run.
pub(crate) fn ordered_and(
    orders: &[String],
    with: impl FnOnce(Command) -> Command,
    look: impl FnOnce(&Captured),
) -> Vec<String> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let text = orders.join("\n");
    let writer = std::thread::spawn(move || std::fs::File::from(write).write_all(text.as_bytes()));
    let exe = std::env::current_exe().unwrap();
    let args = ["--exact", "inside::the_program_inside", "--nocapture", "--test-threads=1"];
    let command = Command::new([exe.into_os_string()].into_iter().chain(args.map(Into::into)));
    let command = with(command.env(INSIDE, "1").stdin(Stdio::Fd(read)));
    let options = CaptureOptions { timeout: Some(5 * PATIENCE), ..CaptureOptions::default() };
    let captured = command.capture(options).unwrap();
    writer.join().unwrap().unwrap();
    look(&captured);
    let text = String::from_utf8(captured.stdout.bytes).unwrap();
    let errors = String::from_utf8_lossy(&captured.stderr.bytes).into_owned();
    assert!(captured.outcome.success(), "{:?}\n{text}\n{errors}", captured.outcome);
    let answers: Vec<String> =
        text.lines().filter_map(|line| line.split_once(MARK)).map(|(_, answer)| answer.to_owned()).collect();
    assert_eq!(answers.len(), orders.len(), "{text}\n{errors}");
    answers
}

#[test]
fn the_program_inside() {
    if std::env::var_os(INSIDE).is_none() {
        println!("skipped: this is the program that the other tests run in groups");
        return;
    }
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        println!("{MARK}{}", obey(verb, rest));
    }
}

fn obey(verb: &str, rest: &str) -> String {
    match verb {
        "proxy" => told(ask(&unhex(rest))),
        "follow" => told(follow(rest)),
        "tcp" => told(TcpStream::connect(rest).map(|_| "connected")),
        "udp" => told(UdpSocket::bind("0.0.0.0:0").and_then(|s| s.send_to(b"x", rest)).map(|_| "sent")),
        "udp6" => told(UdpSocket::bind("[::]:0").and_then(|s| s.send_to(b"x", rest)).map(|_| "sent")),
        "abstract" => told(abstract_socket(rest)),
        "unix" => told(UnixStream::connect(rest).map(|_| "connected")),
        "loopback" => told(own_loopback()),
        "hypervisor" => told(hypervisor_socket()),
        "io_uring" => told(io_uring()),
        "setns" => told(enter(rest.parse().unwrap())),
        "upload" => told(upload(rest)),
        "download" => told(download(rest)),
        "halves" => told(halves(rest)),
        "tunnel" => told(through(rest)),
        "reset" => told(cut_off(rest)),
        "crowd" => told(crowd(rest)),
        "cross" => told(cross(rest)),
        "drip" => told(drip()),
        "many" => many(rest),
        other => panic!("no such order: {other}"),
    }
}

fn told<T: Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(e) => format!("{:?}", e.kind()),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn proxy() -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", PROXY_PORT))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends these bytes to the proxy; all that comes back, as text.
fn ask(bytes: &[u8]) -> io::Result<String> {
    let mut stream = proxy()?;
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// GET, and where that leads to.
fn follow(url: &str) -> io::Result<String> {
    let mut url = url.to_owned();
    for _ in 0..5 {
        let request = format!("GET {url} HTTP/1.1\r\nConnection: close\r\n\r\n");
        let answer = ask(request.as_bytes())?;
        match answer.lines().find_map(|line| line.strip_prefix("Location: ")) {
            Some(next) => url = next.to_owned(),
            None => return Ok(answer),
        }
    }
    Ok("too many redirects".to_owned())
}

fn abstract_socket(name: &str) -> io::Result<&'static str> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?).map(|_| "connected")
}

fn hypervisor_socket() -> io::Result<&'static str> {
    // SAFETY: plain numbers. The descriptor is left to the end of the program.
    match unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok("made"),
    }
}

fn io_uring() -> io::Result<&'static str> {
    // SAFETY: without parameters the kernel makes nothing, and says so if it gets that far.
    match unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok("made"),
    }
}

fn own_loopback() -> io::Result<&'static str> {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address)?;
        TcpStream::connect(listener.local_addr()?)?;
    }
    Ok("reached")
}

/// Whether this process can enter a network namespace it was given.
fn enter(fd: i32) -> io::Result<&'static str> {
    // SAFETY: a plain system call on a number.
    match unsafe { libc::setns(fd, libc::CLONE_NEWNET) } {
        0 => Ok("entered"),
        _ => Err(io::Error::last_os_error()),
    }
}

fn tunnel(target: &str) -> io::Result<TcpStream> {
    let mut stream = proxy()?;
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\n\r\n").as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if head.starts_with(b"HTTP/1.1 200 ") {
        Ok(stream)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&head).into_owned()))
    }
}

/// Sends what [`Noise`] makes of a seed; the server says what it thinks of it.
fn upload(rest: &str) -> io::Result<String> {
    let (target, size) = rest.split_once(' ').unwrap();
    let mut stream = tunnel(target)?;
    let size: u64 = size.parse().unwrap();
    stream.write_all(format!("U{size:016}").as_bytes())?;
    Noise::default().write_to(&mut stream, size)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn download(rest: &str) -> io::Result<String> {
    let (target, size) = rest.split_once(' ').unwrap();
    let mut stream = tunnel(target)?;
    let size: u64 = size.parse().unwrap();
    stream.write_all(format!("D{size:016}").as_bytes())?;
    let same = Noise::default().reads_same_from(&mut stream, size)?;
    let rest = stream.read(&mut [0])?;
    Ok(format!("same: {same}, then {rest} more"))
}

/// Says all it has to say, and then hears all there is to hear.
fn halves(target: &str) -> io::Result<String> {
    let mut stream = tunnel(target)?;
    stream.write_all(b"Ehello")?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Sends these bytes through a tunnel; what comes back, once it stands.
fn through(rest: &str) -> io::Result<Vec<u8>> {
    let (target, bytes) = rest.split_once(' ').unwrap();
    let mut stream = tunnel(target)?;
    stream.write_all(&unhex(bytes))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Is reset in the middle, and must not take it for the end.
fn cut_off(target: &str) -> io::Result<usize> {
    let mut stream = tunnel(target)?;
    stream.write_all(b"R")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)
}

/// Many at once, all of which are to be answered.
fn many(rest: &str) -> String {
    let (url, count) = rest.split_once(' ').unwrap();
    let get = || {
        let request = format!("GET {url} HTTP/1.1\r\nConnection: close\r\n\r\n");
        ask(request.as_bytes()).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
    };
    let count: usize = count.parse().unwrap();
    let good = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(get)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|good| *good).count()
    });
    format!("{good} of {count}")
}

/// Uses and keeps as many connections as there may be, and then one more, until the others are given up.
fn crowd(rest: &str) -> io::Result<String> {
    let (most, url) = rest.split_once(' ').unwrap();
    let request = format!("GET {url} HTTP/1.1\r\n\r\n");
    let ask = |mut stream: &TcpStream| {
        let count = stream.read(&mut [0; 1000])?;
        if count > 0 { Ok(()) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) }
    };
    let mut held = Vec::new();
    for _ in 0..most.parse().unwrap() {
        let mut stream = proxy()?;
        stream.write_all(request.as_bytes())?;
        ask(&stream)?;
        held.push(stream);
    }
    let mut last = proxy()?;
    last.write_all(request.as_bytes())?;
    last.set_read_timeout(Some(Duration::from_millis(300)))?;
    let at_first = ask(&last).map_err(|e| e.kind());
    drop(held);
    last.set_read_timeout(Some(PATIENCE))?;
    Ok(format!("{at_first:?}, then {:?}", ask(&last).map_err(|e| e.kind())))
}

/// Sends a large body while its answer comes back, which is as large: neither waits for the end of the other.
fn cross(rest: &str) -> io::Result<bool> {
    let (url, size) = rest.split_once(' ').unwrap();
    let size: u64 = size.parse().unwrap();
    let mut stream = proxy()?;
    stream.write_all(format!("POST {url} HTTP/1.1\r\nContent-Length: {size}\r\n\r\n").as_bytes())?;
    let mut writing = stream.try_clone()?;
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || Noise::default().write_to(&mut writing, size));
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let same = Noise::default().reads_same_from(&mut stream, size)?;
        writer.join().unwrap().map(|()| same)
    })
}

/// A head that comes byte by byte and never ends, until the proxy says something.
fn drip() -> io::Result<String> {
    let mut stream = proxy()?;
    stream.write_all(b"GET http://allowed.example/ HTTP/1.1\r\n")?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut answer = [0; 1000];
    loop {
        match stream.read(&mut answer) {
            Ok(count) => return Ok(String::from_utf8_lossy(&answer[..count]).into_owned()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => stream.write_all(b"X")?,
            Err(e) => return Err(e),
        }
    }
}

/// Bytes that both sides can make and that no mistake in copying leaves the same.
pub(crate) struct Noise(u64);

impl Default for Noise {
    fn default() -> Noise {
        Noise(0x9e37_79b9_7f4a_7c15)
    }
}

const PIECE: usize = 1 << 16;

impl Noise {
    fn piece(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend(self.0.to_ne_bytes());
        }
        bytes.truncate(size);
        bytes
    }

    fn sizes(size: u64) -> impl Iterator<Item = usize> {
        let last = (size % PIECE as u64) as usize;
        (0..size / PIECE as u64).map(|_| PIECE).chain((last > 0).then_some(last))
    }

    pub(crate) fn write_to(mut self, to: &mut impl Write, size: u64) -> io::Result<()> {
        Noise::sizes(size).try_for_each(|size| to.write_all(&self.piece(size)))
    }

    pub(crate) fn reads_same_from(mut self, from: &mut impl Read, size: u64) -> io::Result<bool> {
        let mut same = true;
        for size in Noise::sizes(size) {
            let mut read = vec![0; size];
            from.read_exact(&mut read)?;
            same &= read == self.piece(size);
        }
        Ok(same)
    }
}

/// For servers of the tests, which wait as long.
pub(crate) fn patient(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE + Duration::from_secs(1))).unwrap();
}
