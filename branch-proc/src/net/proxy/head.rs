//! The heads of requests and answers: read to the letter, written anew.

use std::str;

use httparse::{EMPTY_HEADER, Header, Status};

use crate::net::proxy::body::{Body, Extras};
use crate::net::proxy::limits::{HEAD_MAX, HEADERS_MAX};
use crate::net::rule::{Host, decimal};

/// What ends a head.
const END: &[u8] = b"\r\n\r\n";
/// Fields that are between two neighbours only (RFC 9110, 7.6.1), and those written anew.
const NOT_PASSED_ON: [&str; 11] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-authorization",
    "proxy-authenticate",
    "content-length",
    "host",
];
const SCHEME: &str = "http://";
const PORT_HTTP: u16 = 80;

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// `CONNECT host:port`: bytes to and fro.
    Tunnel { host: Host, port: u16 },
    /// A request to be made for it.
    Forward(Forward),
}

/// A request in plain HTTP.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// As it goes to the server.
    pub(crate) head: Vec<u8>,
    pub(crate) body: Body,
    /// What the client can take.
    pub(crate) client: Client,
}

/// What has to be known of a request to pass on its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// Whether it asked for the head alone.
    pub(crate) method: Method,
    /// 0 or 1, of HTTP/1.x.
    pub(crate) minor: u8,
    pub(crate) after: After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Head,
    Other,
}

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    KeepAlive,
    Close,
}

/// An answer's head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// As it goes to the client.
    pub(crate) head: Vec<u8>,
    /// None for an interim one (1xx), after which another comes.
    pub(crate) body: Option<Body>,
    pub(crate) after: After,
}

/// Where the head at the front of these bytes ends. The first `seen` of them have been looked at before: a
/// head that comes byte by byte is not searched again for each.
///
/// # Errors
/// When there is none within [`HEAD_MAX`].
pub(crate) fn end(bytes: &[u8], seen: usize) -> Result<Option<usize>, &'static str> {
    let within = &bytes[..bytes.len().min(HEAD_MAX)];
    let from = seen.saturating_sub(END.len() - 1).min(within.len());
    match within[from..].windows(END.len()).position(|four| four == END) {
        Some(at) => Ok(Some(from + at + END.len())),
        None if bytes.len() >= HEAD_MAX => Err("its head is too long"),
        None => Ok(None),
    }
}

/// Reads a request's whole head.
///
/// # Errors
/// Why it is not taken.
pub(crate) fn request(head: &[u8]) -> Result<Ask, &'static str> {
    sound_lines(head)?;
    if head.starts_with(b"\r\n") {
        return Err("an empty line is before it");
    }
    let mut fields = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    whole(request.parse(head), head, "its head is not HTTP/1")?;
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err("its head is not HTTP/1");
    };
    if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("its target has characters that a URL cannot have");
    }
    if method == "CONNECT" {
        let (host, port) = authority(target)?;
        let port = port.ok_or("CONNECT needs a port")?;
        return match request_body(request.headers, minor)? {
            Body::Length(0) => Ok(Ask::Tunnel { host, port }),
            _ => Err("CONNECT has no body"),
        };
    }
    forward(method, target, minor, request.headers).map(Ask::Forward)
}

fn forward(method: &str, target: &str, minor: u8, fields: &[Header]) -> Result<Forward, &'static str> {
    let (host, port, path) = absolute(target)?;
    if all(fields, "host").count() > 1 {
        return Err("it has more than one Host");
    }
    if all(fields, "upgrade").any(|value| has_token(value, "websocket")) {
        return Err("a WebSocket goes through CONNECT");
    }
    let body = request_body(fields, minor)?;
    let suffix = if port == PORT_HTTP { String::new() } else { format!(":{port}") };
    let mut head = pass_on(format!("{method} {path} HTTP/1.{minor}\r\nHost: {host}{suffix}\r\n"), fields);
    head.extend(b"Connection: close\r\n");
    match body {
        Body::Chunked(_) => head.extend(b"Transfer-Encoding: chunked\r\n"),
        // Said also where it is 0, as a POST without a body needs it.
        Body::Length(length) if all(fields, "content-length").next().is_some() => {
            head.extend(format!("Content-Length: {length}\r\n").bytes());
        }
        Body::Length(_) | Body::ToTheEnd => {}
    }
    head.extend(b"\r\n");
    let method = if method == "HEAD" { Method::Head } else { Method::Other };
    let client = Client { method, minor, after: after(fields, minor) };
    Ok(Forward { host, port, head, body, client })
}

/// Reads an answer's whole head.
///
/// # Errors
/// Why it is not passed on.
pub(crate) fn answer(head: &[u8], client: Client) -> Result<Answer, &'static str> {
    sound_lines(head)?;
    let mut fields = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    whole(response.parse(head), head, "its head is not HTTP/1")?;
    let (Some(code), Some(minor)) = (response.code, response.version) else {
        return Err("its head is not HTTP/1");
    };
    if code == 101 {
        return Err("it changes the protocol, which nobody asked for");
    }
    let reason = response.reason.unwrap_or("");
    let start = pass_on(format!("HTTP/1.{} {code} {reason}\r\n", client.minor), response.headers);
    if code < 200 {
        return Ok(Answer { head: [&start, b"\r\n".as_slice()].concat(), body: None, after: client.after });
    }
    let bodiless = client.method == Method::Head || code == 204 || code == 304;
    let (body, field) = answer_body(response.headers, minor.min(client.minor))?;
    let (body, client_after) = if bodiless { (Body::Length(0), client.after) } else { (body, client.after) };
    let after = if body == Body::ToTheEnd { After::Close } else { client_after };
    let connection = match after {
        After::KeepAlive => "Connection: keep-alive\r\n\r\n",
        After::Close => "Connection: close\r\n\r\n",
    };
    Ok(Answer { head: [&start, field.as_bytes(), connection.as_bytes()].concat(), body: Some(body), after })
}

/// Every line ends in CR LF, and nothing else does: readers differ in what else they take for an end.
fn sound_lines(head: &[u8]) -> Result<(), &'static str> {
    let pairs = head.iter().zip(head.iter().skip(1));
    let lone = pairs.filter(|&(&a, &b)| (a == b'\r') != (b == b'\n')).count();
    if lone > 0 || head.first() == Some(&b'\n') {
        Err("a line of its head does not end in CR LF")
    } else {
        Ok(())
    }
}

fn whole(parsed: httparse::Result<usize>, head: &[u8], otherwise: &'static str) -> Result<(), &'static str> {
    match parsed {
        Ok(Status::Complete(length)) if length == head.len() => Ok(()),
        Err(httparse::Error::TooManyHeaders) => Err("its head has too many lines"),
        _ => Err(otherwise),
    }
}

/// `http://host[:port]/path`.
fn absolute(target: &str) -> Result<(Host, u16, String), &'static str> {
    let split = target.split_at_checked(SCHEME.len());
    let Some((_, rest)) = split.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME)) else {
        return Err("this is a proxy: it takes CONNECT host:port, and http:// with a host");
    };
    let split = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(split);
    if path.contains('#') {
        return Err("a fragment is not sent");
    }
    let (host, port) = authority(host)?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((host, port.unwrap_or(PORT_HTTP), path))
}

/// `host[:port]`, without a user: readers differ in which part of `a@b` is the host.
fn authority(text: &str) -> Result<(Host, Option<u16>), &'static str> {
    if text.contains('@') {
        return Err("a user before the host is not taken");
    }
    let host_end = match text.strip_prefix('[') {
        Some(_) => text.find(']').map_or(text.len(), |at| at + 1),
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(host_end);
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return Err("after a host comes a port"),
        Some(digits) => Some(port_number(digits).ok_or("a port is a number, 1 to 65535")?),
    };
    Ok((Host::parse(host)?, port))
}

fn port_number(digits: &str) -> Option<u16> {
    decimal(digits).and_then(|number| u16::try_from(number).ok()).filter(|&number| number > 0)
}

fn request_body(fields: &[Header], minor: u8) -> Result<Body, &'static str> {
    let mut codings = all(fields, "transfer-encoding");
    let coding = codings.next();
    if codings.next().is_some() {
        return Err("it has more than one Transfer-Encoding");
    }
    let length = length(fields)?;
    match (coding, length) {
        (None, length) => Ok(Body::Length(length.unwrap_or(0))),
        (Some(_), Some(_)) => Err("it has both Transfer-Encoding and Content-Length"),
        (Some(_), None) if minor == 0 => Err("HTTP/1.0 has no Transfer-Encoding"),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Body::chunked(Extras::Refuse)),
        (Some(_), None) => Err("its Transfer-Encoding is not \"chunked\""),
    }
}

/// How an answer's body ends (RFC 9112, 6.3), and the field that says so.
fn answer_body(fields: &[Header], minor: u8) -> Result<(Body, String), &'static str> {
    let codings: Vec<&[u8]> = all(fields, "transfer-encoding").collect();
    match codings[..] {
        [] => Ok(match length(fields)? {
            Some(length) => (Body::Length(length), format!("Content-Length: {length}\r\n")),
            None => (Body::ToTheEnd, String::new()),
        }),
        [coding] if minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => {
            Ok((Body::chunked(Extras::Pass), "Transfer-Encoding: chunked\r\n".to_owned()))
        }
        _ => Err("its Transfer-Encoding is not \"chunked\""),
    }
}

fn length(fields: &[Header]) -> Result<Option<u64>, &'static str> {
    let mut lengths = all(fields, "content-length");
    let Some(first) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err("it has more than one Content-Length");
    }
    let digits = str::from_utf8(first).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).map(Some).ok_or("its Content-Length is no number")
}

/// Whether the client wants to go on with its connection.
fn after(fields: &[Header], minor: u8) -> After {
    let said = |word| {
        let mut values = all(fields, "connection").chain(all(fields, "proxy-connection"));
        values.any(|value| has_token(value, word))
    };
    if minor == 1 && !said("close") { After::KeepAlive } else { After::Close }
}

fn all<'a>(fields: &'a [Header], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

fn has_token(value: &[u8], token: &str) -> bool {
    value.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// A start line and the fields that are passed on.
fn pass_on(start: String, fields: &[Header]) -> Vec<u8> {
    let mut head = start.into_bytes();
    let stays = |name: &str| NOT_PASSED_ON.iter().any(|own| name.eq_ignore_ascii_case(own));
    let named: Vec<&[u8]> = all(fields, "connection").collect();
    let for_us = |name: &str| named.iter().any(|value| has_token(value, name));
    for field in fields.iter().filter(|field| !stays(field.name) && !for_us(field.name)) {
        head.extend(field.name.bytes());
        head.extend(b": ");
        head.extend(field.value);
        head.extend(b"\r\n");
    }
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn forwarded(head: &str) -> Forward {
        match request(head.as_bytes()).unwrap() {
            Ask::Forward(forward) => forward,
            other => panic!("{other:?}"),
        }
    }

    fn text(bytes: &[u8]) -> &str {
        str::from_utf8(bytes).unwrap()
    }

    const CLIENT: Client = Client { method: Method::Other, minor: 1, after: After::KeepAlive };

    #[test]
    fn the_url_decides_where_a_request_goes_and_the_host_field_is_written_anew() {
        let got = forwarded(
            "GET http://A.Example:8080/x?y HTTP/1.1\r\nhost: evil.example\r\nA: b\r\nConnection: a, x\r\n\
             Proxy-Authorization: secret\r\nX: y\r\nC: d\r\n\r\n",
        );
        assert_eq!((got.host.to_string(), got.port), ("a.example".to_owned(), 8080));
        let sent = "GET /x?y HTTP/1.1\r\nHost: a.example:8080\r\nC: d\r\nConnection: close\r\n\r\n";
        assert_eq!(text(&got.head), sent);
        let no_path = forwarded("GET HTTP://[::1]?q HTTP/1.0\r\n\r\n");
        assert_eq!(text(&no_path.head), "GET /?q HTTP/1.0\r\nHost: [::1]\r\nConnection: close\r\n\r\n");
        assert_eq!((no_path.port, no_path.client.after), (80, After::Close));
    }

    #[test]
    fn a_tunnel_is_asked_for_with_host_and_port() {
        let ask = request(b"CONNECT a.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n").unwrap();
        assert_eq!(ask, Ask::Tunnel { host: Host::Name("a.example".to_owned()), port: 443 });
        for target in
            ["a.example", "a.example:", "a.example:0", "a@b.example:443", "/", "http://a.example/", "[::1"]
        {
            let head = format!("CONNECT {target} HTTP/1.1\r\n\r\n");
            assert!(request(head.as_bytes()).is_err(), "{target}");
        }
        assert!(request(b"CONNECT a.example:443 HTTP/1.1\r\nContent-Length: 1\r\n\r\n").is_err());
    }

    #[test]
    fn bodies_are_framed_in_one_way_only() {
        let with =
            |fields: &str| request(format!("POST http://a.example/ HTTP/1.1\r\n{fields}\r\n").as_bytes());
        for (fields, sent) in [
            ("Content-Length: 7\r\n", "Content-Length: 7\r\n"),
            ("Content-Length: 0\r\n", "Content-Length: 0\r\n"),
            ("Transfer-Encoding: Chunked\r\n", "Transfer-Encoding: chunked\r\n"),
            ("Connection: content-length\r\nContent-Length: 7\r\n", "Content-Length: 7\r\n"),
        ] {
            let Ok(Ask::Forward(forward)) = with(fields) else { panic!("{fields:?}") };
            assert!(text(&forward.head).ends_with(&format!("Connection: close\r\n{sent}\r\n")), "{fields:?}");
        }
        for fields in [
            "Content-Length: 7\r\nContent-Length: 7\r\n",
            "Content-Length: 7, 7\r\n",
            "Content-Length: +7\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 0x7\r\n",
            "Content-Length:\r\n",
            "Content-Length: 7 7\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Transfer-Encoding\r\n: chunked\r\n",
            " Content-Length: 7\r\n",
            "A: b\r\n Content-Length: 7\r\n",
            "A: b\nContent-Length: 7\r\n",
            "A: b\rContent-Length: 7\r\n",
            "A: b\0\r\n",
            "Host: a.example\r\nHost: a.example\r\n",
            "Upgrade: websocket\r\n",
            ": a\r\n",
        ] {
            assert!(with(fields).is_err(), "{fields:?} was taken");
        }
        assert!(request(b"POST http://a/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn targets_that_readers_take_differently_are_refused() {
        for target in [
            "/",
            "*",
            "a.example:80",
            "https://a.example/",
            "ftp://a.example/",
            "http:/a.example/",
            "http:a.example",
            "http:///a.example/",
            "http://",
            "http://allowed.example@evil.example/",
            "http://a:b@evil.example/",
            "http://evil.example\\@allowed.example/",
            "http://allowed.example%40evil.example/",
            "http://a.example:80:80/",
            "http://a.example:/",
            "http://a.example:+80/",
            "http://a.example:080x/",
            "http://a.example/#f",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://[::1/",
            "http://[::1]x/",
            "http://[fe80::1%25lo]/",
            "http://a.example/\u{e9}",
            "http://\u{e9}/",
        ] {
            let head = format!("GET {target} HTTP/1.1\r\n\r\n");
            assert!(request(head.as_bytes()).is_err(), "{target} was taken");
        }
        assert!(request(b"\r\nGET http://a/ HTTP/1.1\r\n\r\n").is_err());
        assert!(
            request(b"GET http://a/ HTTP/2.0\r\n\r\n").is_err() && request(b"GET http://a/\r\n\r\n").is_err()
        );
    }

    #[test]
    fn a_head_ends_at_the_first_empty_line_and_has_a_size() {
        assert_eq!(end(b"GET / HTTP/1.1\r\n\r\nrest", 0), Ok(Some(18)));
        assert_eq!(end(b"GET / HTTP/1.1\r\n", 0), Ok(None));
        for seen in 0..18 {
            assert_eq!(end(b"GET / HTTP/1.1\r\n\r\nrest", seen), Ok(Some(18)), "{seen}");
        }
        assert!(end(&[b'a'; HEAD_MAX], 0).is_err());
        let many = format!("GET http://a/ HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(request(many.as_bytes()), Err("its head has too many lines"));
    }

    #[test]
    fn an_answer_is_written_anew_and_says_what_becomes_of_the_connection() {
        let read = |head: &str, client| answer(head.as_bytes(), client).unwrap();
        let got = read("HTTP/1.1 200 OK\r\nConnection: close\r\nA: b\r\nContent-Length: 3\r\n\r\n", CLIENT);
        let sent = "HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!((text(&got.head), got.body), (sent, Some(Body::Length(3))));

        let got = read("HTTP/1.0 200 OK\r\n\r\n", CLIENT);
        assert_eq!((got.body, got.after), (Some(Body::ToTheEnd), After::Close));
        let got = read("HTTP/1.1 100 Continue\r\n\r\n", CLIENT);
        assert_eq!((text(&got.head), got.body), ("HTTP/1.1 100 Continue\r\n\r\n", None));
        let got = read("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", CLIENT);
        assert_eq!((got.body, got.after), (Some(Body::Length(0)), After::KeepAlive));
        let head = Client { method: Method::Head, ..CLIENT };
        let got = read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", head);
        assert_eq!(got.body, Some(Body::Length(0)));
    }

    #[test]
    fn an_answer_whose_end_is_not_certain_is_refused() {
        for fields in [
            "Content-Length: 3\r\nContent-Length: 4\r\n",
            "Content-Length: x\r\n",
            "Transfer-Encoding: gzip\r\n",
            "A: b\n\r\n",
            "A: b\r\n folded\r\n",
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            assert!(answer(head.as_bytes(), CLIENT).is_err(), "{fields:?} was taken");
        }
        assert!(answer(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n", CLIENT).is_err());
        let old = Client { minor: 0, ..CLIENT };
        assert!(answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", old).is_err());
    }

    /// Pieces of which heads, and what attacks look like, are made.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let words: Vec<&'static [u8]> = vec![
            b"GET",
            b"POST",
            b"CONNECT",
            b" ",
            b"http://",
            b"a.example",
            b"evil.example",
            b":80",
            b"@",
            b"/",
            b"#",
            b" HTTP/1.1",
            b" HTTP/1.0",
            b"\r\n",
            b"\r\n\r\n",
            b"\n",
            b"\r",
            b"\t",
            b"\0",
            b"Host: ",
            b"Content-Length: ",
            b"Transfer-Encoding: ",
            b"chunked",
            b"Connection: ",
            b"close",
            b"7",
            b",",
            b";",
            b"[::1]",
            b"127.0.0.1",
            b"2130706433",
            b"%0d%0a",
            b"\xff",
            b"HTTP/1.1 200 OK",
            b"X: ",
        ];
        prop_oneof![
            4 => proptest::sample::select(words).prop_map(<[u8]>::to_vec),
            1 => proptest::collection::vec(any::<u8>(), 0..4),
        ]
    }

    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(piece(), 0..24).prop_map(|pieces| pieces.concat())
    }

    fn likely() -> impl Strategy<Value = Vec<u8>> {
        pieces()
            .prop_map(|rest| [b"POST http://a.example/ HTTP/1.1\r\n", rest.as_slice(), b"\r\n\r\n"].concat())
    }

    proptest! {
        #[test]
        fn whatever_is_sent_on_is_one_head_for_the_host_that_was_checked(
            bytes in prop_oneof![pieces(), likely()]
        ) {
            crate::net::proxy::fuzz::head(&bytes);
        }
    }
}
