//! Ways around an allow list, each tried from inside a group, with what must come of it.

use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::inside::{hex, ordered};
use crate::outside::Outside;

/// One attempt: what it is called, what the program does, and what its answer begins with.
struct Attempt {
    name: &'static str,
    order: String,
    expected: String,
}

fn attempt(name: &'static str, order: impl Into<String>, expected: impl Into<String>) -> Attempt {
    Attempt { name, order: order.into(), expected: expected.into() }
}

/// Bytes for the proxy, and the status with which they are answered.
fn raw(name: &'static str, bytes: impl AsRef<[u8]>, status: u16) -> Attempt {
    attempt(name, format!("proxy {}", hex(bytes.as_ref())), format!("\"HTTP/1.1 {status} "))
}

/// A request for a URL.
fn get(name: &'static str, url: impl AsRef<str>, status: u16) -> Attempt {
    raw(name, format!("GET {} HTTP/1.1\r\nConnection: close\r\n\r\n", url.as_ref()), status)
}

fn connect(name: &'static str, target: impl AsRef<str>, status: u16) -> Attempt {
    raw(name, format!("CONNECT {} HTTP/1.1\r\n\r\n", target.as_ref()), status)
}

/// A POST to the allowed server with these fields and body.
fn post(name: &'static str, web: u16, rest: &str, status: u16) -> Attempt {
    raw(name, format!("POST http://allowed.example:{web}/ HTTP/1.1\r\nConnection: close\r\n{rest}"), status)
}

fn addresses(o: &Outside) -> Vec<Attempt> {
    let t = o.trap;
    let numbers = [
        ("decimal IPv4", "2130706433"),
        ("hexadecimal IPv4", "0x7f000001"),
        ("octal IPv4", "017700000001"),
        ("short IPv4", "127.1"),
        ("IPv4 with octal parts", "0177.0.0.1"),
        ("IPv4 with hexadecimal parts", "0x7f.0.0.1"),
        ("IPv4 with a final dot", "127.0.0.1."),
        ("percent-encoded IPv4", "127%2e0.0.1"),
        ("full-width digits", "１２７.0.0.1"),
        ("zone of a link-local address", "[fe80::1%25eth0]"),
    ];
    let mut all: Vec<Attempt> =
        numbers.into_iter().map(|(name, host)| get(name, format!("http://{host}:{t}/"), 400)).collect();
    let literals = [
        ("loopback", "127.0.0.1"),
        ("other loopback address", "127.8.8.8"),
        ("unspecified address", "0.0.0.0"),
        ("IPv6 loopback", "[::1]"),
        ("IPv6 unspecified", "[::]"),
        ("IPv4-mapped loopback", "[::ffff:127.0.0.1]"),
        ("IPv4-mapped loopback in hexadecimal", "[::ffff:7f00:1]"),
        ("IPv4-compatible loopback", "[::127.0.0.1]"),
        ("NAT64 loopback", "[64:ff9b::7f00:1]"),
        ("6to4 loopback", "[2002:7f00:1::]"),
        ("private 10/8", "10.0.0.1"),
        ("private 172.16/12", "172.16.0.1"),
        ("private 192.168/16", "192.168.0.1"),
        ("carrier 100.64/10", "100.64.0.1"),
        ("broadcast", "255.255.255.255"),
        ("multicast", "224.0.0.1"),
        ("unique local IPv6", "[fd00:ec2::254]"),
        ("public address without a rule", "93.184.216.34"),
    ];
    all.extend(literals.map(|(name, host)| get(name, format!("http://{host}:{t}/"), 403)));
    all.push(get("another address on an allowed port", format!("http://127.0.0.2:{}/", o.web), 403));
    all.push(get("metadata service", "http://169.254.169.254/latest/meta-data/", 403));
    all.push(connect("metadata service through a tunnel", "169.254.169.254:80", 403));
    all.push(connect("IPv4-mapped metadata service", "[::ffff:169.254.169.254]:80", 403));
    all
}

fn names(o: &Outside) -> Vec<Attempt> {
    let (w, t) = (o.web, o.trap);
    vec![
        get("allowed name at the metadata service", "http://metadata.example/", 403),
        connect("the same through a tunnel", "metadata.example:443", 403),
        get("allowed name at private addresses", format!("http://private.example:{t}/"), 403),
        connect("localhost by name", format!("localhost:{t}"), 403),
        get("allowed name as a prefix", format!("http://allowed.example.evil.example:{w}/"), 403),
        get("allowed name as a suffix", format!("http://notallowed.example:{w}/"), 403),
        get("the domain itself where its subdomains are allowed", format!("http://below.example:{w}/"), 403),
        get("a suffix without a dot", format!("http://xbelow.example:{w}/"), 403),
        get("letters outside ASCII", format!("http://allowed.examp\u{13a}e:{w}/"), 400),
        get("an empty label", format!("http://.allowed.example:{w}/"), 400),
        get("allowed user, evil host", format!("http://allowed.example@evil.example:{t}/"), 400),
        get("allowed user and port, evil host", format!("http://allowed.example:{w}@127.0.0.1:{t}/"), 400),
        get("backslash before @", format!("http://127.0.0.1:{t}\\@allowed.example:{w}/"), 400),
        get("@ in percent-encoding", format!("http://allowed.example%40127.0.0.1:{t}/"), 400),
        get("host in the fragment", format!("http://127.0.0.1:{t}#@allowed.example:{w}/"), 400),
        get("host in the query", format!("http://127.0.0.1:{t}?@allowed.example:{w}/"), 403),
        get("allowed host on another port", format!("http://allowed.example:{t}/"), 403),
        connect("allowed host, ssh", "allowed.example:22", 403),
        get("a port that wraps around", format!("http://allowed.example:{}/", u32::from(w) + 65_536), 400),
        get("two ports", format!("http://allowed.example:{w}:{t}/"), 400),
        get("no port after the colon", "http://allowed.example:/", 400),
        connect("a tunnel without a port", "allowed.example", 400),
        get("https without a tunnel", format!("https://allowed.example:{w}/"), 400),
        get("ftp", "ftp://allowed.example/", 400),
        get("file", "file:///etc/passwd", 400),
        get("a request for the proxy itself", "/", 400),
        get("no host", "http:///", 400),
        attempt(
            "redirect to loopback",
            format!("follow http://allowed.example:{w}/redirect?http://127.0.0.1:{t}/"),
            "\"HTTP/1.1 403 ",
        ),
        attempt(
            "redirect to the metadata service",
            format!("follow http://allowed.example:{w}/redirect?http://169.254.169.254/"),
            "\"HTTP/1.1 403 ",
        ),
        attempt(
            "redirect to a number",
            format!("follow http://allowed.example:{w}/redirect?http://2130706433:{t}/"),
            "\"HTTP/1.1 400 ",
        ),
    ]
}

fn heads(o: &Outside) -> Vec<Attempt> {
    let (w, t) = (o.web, o.trap);
    let smuggled = format!("GET http://127.0.0.1:{t}/ HTTP/1.1\r\n\r\n");
    let size = smuggled.len();
    let evil = format!("GET http://127.0.0.1:{t}/ HTTP/1.1\r\nHost: allowed.example:{w}\r\n\r\n");
    let many = "A: b\r\n".repeat(200);
    vec![
        raw("Host says allowed, URL does not", evil, 403),
        post("both lengths", w, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        post("two lengths", w, "Content-Length: 0\r\nContent-Length: 9\r\n\r\n", 400),
        post("length with a sign", w, "Content-Length: +5\r\n\r\nhello", 400),
        post("length list", w, "Content-Length: 5, 5\r\n\r\nhello", 400),
        post("coding nobody knows", w, "Transfer-Encoding: xchunked\r\n\r\n", 400),
        post(
            "coding twice",
            w,
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        post("coding with a vertical tab", w, "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
        post("blank before the colon", w, "Content-Length : 5\r\n\r\nhello", 400),
        post("folded field", w, "X: a\r\n Content-Length: 5\r\n\r\nhello", 400),
        post("lone line feed", w, "X: a\nContent-Length: 5\r\n\r\nhello", 400),
        post("lone carriage return", w, "X: a\rContent-Length: 5\r\n\r\nhello", 400),
        post("NUL in a field", w, "X: a\0b\r\n\r\n", 400),
        post("two hosts", w, "Host: allowed.example\r\nHost: evil.example\r\n\r\n", 400),
        post("WebSocket", w, "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", 400),
        post("more fields than there may be", w, &format!("{many}\r\n"), 400),
        post("a head without end", w, &format!("X: {}\r\n\r\n", "a".repeat(40_000)), 431),
        raw(
            "a body of a tunnel",
            format!("CONNECT allowed.example:{w} HTTP/1.1\r\nContent-Length: 5\r\n\r\n"),
            400,
        ),
        raw(
            "blank in the URL",
            format!("GET http://allowed.example:{w}/ http://evil/ HTTP/1.1\r\n\r\n"),
            400,
        ),
        raw("HTTP/2 from the start", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        raw("no HTTP at all", "\x16\x03\x01\x02\r\n\r\n", 400),
        post(
            "chunk with a lone line feed",
            w,
            "Transfer-Encoding: chunked\r\n\r\n5;\nx\r\nhello\r\n0\r\n\r\n",
            400,
        ),
        post("chunk of odd size", w, "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 400),
        post(
            "chunk that is longer than it says",
            w,
            "Transfer-Encoding: chunked\r\n\r\n1\r\nhello\r\n0\r\n\r\n",
            400,
        ),
        post("trailer", w, "Transfer-Encoding: chunked\r\n\r\n0\r\nHost: evil.example\r\n\r\n", 400),
        post("a request in a body", w, &format!("Content-Length: {size}\r\n\r\n{smuggled}"), 200),
        post(
            "a request in a chunk",
            w,
            &format!("Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{smuggled}\r\n0\r\n\r\n"),
            200,
        ),
    ]
}

fn around(o: &Outside) -> Vec<Attempt> {
    let t = o.trap;
    vec![
        attempt("metadata service directly", "tcp 169.254.169.254:80", "NetworkUnreachable"),
        attempt("a public address directly", "tcp 93.184.216.34:443", "NetworkUnreachable"),
        attempt("a public IPv6 address directly", "tcp [2606:4700::1111]:443", "NetworkUnreachable"),
        attempt("the caller's loopback directly", format!("tcp 127.0.0.1:{t}"), "ConnectionRefused"),
        attempt("the caller's IPv6 loopback directly", format!("tcp [::1]:{t}"), "ConnectionRefused"),
        attempt("DNS over UDP", "udp 8.8.8.8:53", "NetworkUnreachable"),
        attempt("DNS over UDP and IPv6", "udp6 [2001:4860:4860::8888]:53", "NetworkUnreachable"),
        attempt("multicast", "udp 224.0.0.251:5353", "NetworkUnreachable"),
        attempt(
            "an abstract socket of the caller's",
            "abstract branch-proc-test-outside",
            "ConnectionRefused",
        ),
        attempt("the caller's network namespace, by descriptor", "setns 9", "PermissionDenied"),
    ]
}

#[test]
fn no_way_around_an_allow_list_works() {
    let outside = Outside::new();
    let (w, t) = (outside.web, outside.trap);
    let abstract_name = SocketAddr::from_abstract_name("branch-proc-test-outside");
    // Taken by the run of this test as another user, it is there all the same.
    let _listener = UnixListener::bind_addr(&abstract_name.unwrap());
    let mut attempts = vec![
        get("(the allowed server answers)", format!("http://allowed.example:{w}/"), 200),
        get("(in every spelling of its name)", format!("http://ALLOWED.example.:{w}/"), 200),
        get("(and below an allowed domain)", format!("http://x.below.example:{w}/"), 200),
        get("(a name that is rebound is allowed at first)", format!("http://rebinding.example:{w}/"), 200),
        get("a name that was rebound to another address", format!("http://rebinding.example:{w}/"), 403),
    ];
    attempts.extend(addresses(&outside));
    attempts.extend(names(&outside));
    attempts.extend(heads(&outside));
    attempts.extend(around(&outside));
    let orders: Vec<String> = attempts.iter().map(|attempt| attempt.order.clone()).collect();
    let namespace: OwnedFd = std::fs::File::open("/proc/self/ns/net").unwrap().into();
    let allowing = outside.allowing("");
    let answers = ordered(&orders, |command| allowing(command).fd(namespace, 9));

    let mut wrong = Vec::new();
    println!("| attempt | what comes of it |\n|---|---|");
    for (attempt, answer) in attempts.iter().zip(&answers) {
        let first_line = answer.split("\\r\\n").next().unwrap_or_default();
        println!("| {} | {} |", attempt.name, first_line.trim_start_matches('"'));
        if !answer.starts_with(&attempt.expected) {
            wrong.push(format!("{}: {} instead of {}", attempt.name, answer, attempt.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(attempts.len() >= 90, "only {} attempts", attempts.len());
    assert_eq!(outside.trapped(), 0, "somebody reached port {t}");
    for head in outside.heads() {
        let host = head.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap();
        assert!(host.ends_with(&format!(".example:{w}")), "{head}");
        assert!(!head.starts_with("GET http"), "{head}");
    }
}
