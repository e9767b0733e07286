//! What must hold for any bytes, for the tests here and the fuzz target.

#![cfg_attr(not(fuzzing), allow(unreachable_pub))] // the fuzz targets see it

use httparse::EMPTY_HEADER;

use crate::net::proxy::body::{Body, Extras};
use crate::net::proxy::head::{self, After, Ask, Client, Forward, Method};
use crate::net::proxy::hello;
use crate::net::proxy::limits::HEADERS_MAX;

/// A head that is taken goes on as exactly one request, to the host that was read, framed in one way.
///
/// # Panics
/// If that does not hold.
pub fn head(bytes: &[u8]) {
    if let Ok(Ask::Forward(forward)) = head::request(bytes) {
        check_forwarded(&forward);
    }
    for method in [Method::Head, Method::Other] {
        let client = Client { method, minor: 1, after: After::KeepAlive };
        if let Ok(answer) = head::answer(bytes, client) {
            assert_eq!(head::end(&answer.head, 0), Ok(Some(answer.head.len())), "one head: {answer:?}");
        }
    }
}

/// A body in chunks ends at the same byte in whatever pieces it comes, and what is taken strictly is taken
/// leniently.
///
/// # Panics
/// If that does not hold.
pub fn chunks(bytes: &[u8]) {
    let at_once = |extras| {
        let mut body = Body::chunked(extras);
        body.pass(bytes).map(|count| (count, body.is_complete()))
    };
    for extras in [Extras::Pass, Extras::Refuse] {
        let mut body = Body::chunked(extras);
        let one_by_one = bytes.iter().try_fold(0, |sum, byte| body.pass(&[*byte]).map(|count| sum + count));
        assert_eq!(one_by_one.map(|count| (count, body.is_complete())), at_once(extras));
    }
    if let Ok(strict) = at_once(Extras::Refuse) {
        assert_eq!(at_once(Extras::Pass), Ok(strict));
    }
}

/// A hello is read, and what it says does not change with what follows.
///
/// # Panics
/// If that does not hold.
pub fn hello(bytes: &[u8]) {
    let whole = hello::read(bytes);
    let half = hello::read(&bytes[..bytes.len() / 2]);
    assert!(half == hello::Hello::Partial || half == whole, "{half:?}, then {whole:?}");
}

fn check_forwarded(forward: &Forward) {
    // The fields written anew make it a little longer than what was read, which has a limit of its own.
    let ends = forward.head.windows(4).position(|four| four == b"\r\n\r\n");
    assert_eq!(ends.map(|at| at + 4), Some(forward.head.len()), "one head: {forward:?}");
    let mut fields = [EMPTY_HEADER; HEADERS_MAX + 3];
    let mut read = httparse::Request::new(&mut fields);
    assert!(read.parse(&forward.head).is_ok_and(|status| status.is_complete()), "HTTP: {forward:?}");
    assert!(read.path.is_some_and(|path| path.starts_with('/')), "a path: {forward:?}");
    let all = |name: &str| read.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
    assert_eq!(all("host"), 1, "one host: {forward:?}");
    assert!(all("content-length") + all("transfer-encoding") <= 1, "one framing: {forward:?}");
    let host = read.headers.iter().find(|field| field.name == "Host").map(|field| field.value);
    let written = host.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
    assert!(written.starts_with(&forward.host.to_string()), "the host that was read: {forward:?}");
}
