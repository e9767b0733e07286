//! What the egress proxy costs: the same client in a group with an allow list, through the proxy, and in one
//! with the caller's network, directly. Prints a table; `cargo bench -p branchfs-benches --bench proxy`.
#![allow(clippy::unwrap_used)] // also in helpers

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use branch_proc::{CaptureOptions, Command, Net, PROXY_PORT, Stdio};

/// Says to the copy of this program that runs in a group where the server is.
const SERVER: &str = "BRANCHFS_BENCH_SERVER";
const BYTES: usize = 1 << 30;
const PIECE: usize = 1 << 16;
const TURNS: u32 = 20_000;
const CONNECTIONS: u32 = 2_000;

fn main() {
    match std::env::var(SERVER) {
        Ok(server) => client(server.parse().unwrap()),
        Err(_) => compare(),
    }
}

fn compare() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    println!("| | 1 GiB from outside | a turn of one byte | a connection and a turn |\n|---|---|---|---|");
    println!("| directly | {}", measured(Net::Open, address));
    println!("| through the proxy | {}", measured(format!("allow={address}").parse().unwrap(), address));
}

/// The client's line, from a group with this network.
fn measured(net: Net, server: SocketAddr) -> String {
    let exe = std::env::current_exe().unwrap();
    let command = Command::new([exe]).env(SERVER, server.to_string()).net(net).stdin(Stdio::Null);
    let done = command.stderr(Stdio::Inherit).capture(CaptureOptions::default()).unwrap();
    let errors = String::from_utf8_lossy(&done.stderr.bytes).into_owned();
    assert!(done.outcome.success(), "{errors}");
    String::from_utf8(done.stdout.bytes).unwrap().trim().to_owned()
}

fn client(server: SocketAddr) {
    let through = std::env::var_os("http_proxy")
        .is_some_and(|proxy| proxy.to_string_lossy() == format!("http://127.0.0.1:{PROXY_PORT}"));
    let connect = || if through { tunnel(server) } else { TcpStream::connect(server) }.unwrap();
    let rate = BYTES as f64 / (1 << 20) as f64 / timed(|| download(connect())).as_secs_f64();
    let ready = || {
        let mut stream = connect();
        stream.set_nodelay(true).unwrap();
        stream.write_all(b"T").unwrap();
        turn(&mut stream).unwrap();
        stream
    };
    let mut stream = ready();
    let turn = timed(|| (0..TURNS).for_each(|_| turn(&mut stream).unwrap())) / TURNS;
    // With a turn, as the kernel lets a client connect to a server that is not there yet.
    let connection = timed(|| (0..CONNECTIONS).for_each(|_| drop(ready()))) / CONNECTIONS;
    println!("{rate:.0} MiB/s | {:.1} µs | {:.1} µs |", micros(turn), micros(connection));
}

fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn tunnel(server: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", PROXY_PORT))?;
    stream.write_all(format!("CONNECT {server} HTTP/1.1\r\n\r\n").as_bytes())?;
    let mut head = [0; 256];
    let mut length = 0;
    while !head[..length].ends_with(b"\r\n\r\n") {
        length += stream.read(&mut head[length..])?;
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
    Ok(stream)
}

fn download(mut stream: TcpStream) {
    stream.write_all(b"D").unwrap();
    let mut piece = vec![0; PIECE];
    let mut left = BYTES;
    while left > 0 {
        left -= stream.read(&mut piece).unwrap();
    }
}

fn turn(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut what = [0];
    stream.read_exact(&mut what)?;
    if what == *b"D" {
        let piece = vec![7; PIECE];
        return (0..BYTES / PIECE).try_for_each(|_| stream.write_all(&piece));
    }
    loop {
        stream.read_exact(&mut what)?;
        stream.write_all(&what)?;
    }
}
