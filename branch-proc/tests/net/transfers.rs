//! What goes through the proxy arrives as it was sent, in every shape it has.

use crate::inside::{hex, ordered, ordered_and};
use crate::outside::Outside;

const LARGE: u64 = 64 << 20;

fn proxied(bytes: impl AsRef<[u8]>) -> String {
    format!("proxy {}", hex(bytes.as_ref()))
}

#[test]
fn large_transfers_arrive_whole_in_both_directions() {
    let outside = Outside::new();
    let target = format!("raw.example:{}", outside.raw);
    let orders = [
        format!("upload {target} {LARGE}"),
        format!("download {target} {LARGE}"),
        format!("upload {target} 65537"),
        format!("download {target} 1"),
    ];
    let seen = ordered(&orders, outside.allowing(""));
    assert_eq!(seen, ["\"same: true, then 0 more\""; 4]);
}

#[test]
fn a_request_and_its_answer_pass_each_other() {
    let outside = Outside::new();
    let orders = [format!("cross http://allowed.example:{}/cross {}", outside.web, LARGE / 4)];
    assert_eq!(ordered(&orders, outside.allowing("")), ["true"]);
}

#[test]
fn a_tunnel_passes_on_the_end_of_each_direction_and_a_reset_is_no_end() {
    let outside = Outside::new();
    let target = format!("raw.example:{}", outside.raw);
    let orders = [format!("halves {target}"), format!("reset {target}")];
    let seen = ordered(&orders, outside.allowing(""));
    assert_eq!(seen, ["\"hello, and then the end\"", "ConnectionReset"]);
}

#[test]
fn many_connections_at_once_are_all_served() {
    let outside = Outside::new();
    let orders = [format!("many http://allowed.example:{}/ 100", outside.web)];
    assert_eq!(ordered(&orders, outside.allowing("")), ["100 of 100"]);
}

#[test]
fn each_request_of_a_connection_is_checked_by_itself() {
    let outside = Outside::new();
    let (web, trap) = (outside.web, outside.trap);
    let allowed = format!("GET http://allowed.example:{web}/ HTTP/1.1\r\n\r\n");
    let body = format!("POST http://x.below.example:{web}/ HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    let evil = format!("GET http://127.0.0.1:{trap}/ HTTP/1.1\r\n\r\n");
    let seen = ordered(&[proxied(format!("{allowed}{body}{evil}{allowed}"))], outside.allowing(""));
    let codes: Vec<&str> = seen[0].split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(codes, ["200", "200", "403"], "{}", seen[0]);
    assert!(seen[0].contains("helloHTTP/1.1") && seen[0].contains("abcHTTP/1.1"), "{}", seen[0]);
    assert_eq!((outside.heads().len(), outside.trapped()), (2, 0));
}

#[test]
fn answers_of_every_shape_come_through() {
    let outside = Outside::new();
    let get = |path: &str, version: &str| {
        let url = format!("http://allowed.example:{}/{path}", outside.web);
        proxied(format!("GET {url} HTTP/{version}\r\nConnection: close\r\n\r\n"))
    };
    let head = format!("HEAD http://allowed.example:{}/ HTTP/1.1\r\nConnection: close\r\n\r\n", outside.web);
    let orders = [
        get("chunked", "1.1"),
        get("to-the-end", "1.1"),
        get("", "1.0"),
        proxied(head),
        get("two-lengths", "1.1"),
        get("silent", "1.1"),
        get("chunked", "1.0"),
        get("short", "1.1"),
    ];
    let seen = ordered(&orders, outside.allowing(""));
    assert!(
        seen[0].ends_with("3;x=y\\r\\nabc\\r\\n2\\r\\nde\\r\\n0\\r\\nSum: 1\\r\\n\\r\\n\""),
        "{}",
        seen[0]
    );
    assert!(
        seen[1].ends_with("\\r\\n\\r\\nto the end\"") && seen[1].contains("Connection: close"),
        "{}",
        seen[1]
    );
    assert!(seen[2].starts_with("\"HTTP/1.0 200 ") && seen[2].ends_with("hello\""), "{}", seen[2]);
    assert!(seen[3].contains("Content-Length: 5") && seen[3].ends_with("\\r\\n\\r\\n\""), "{}", seen[3]);
    for refused in &seen[4..7] {
        assert!(refused.starts_with("\"HTTP/1.1 502 branchfs: "), "{refused}");
    }
    // What ends before its end is no answer, and must not look like one.
    assert_eq!(seen[7], "ConnectionReset");
}

#[test]
fn a_body_waits_for_the_server_to_want_it() {
    let outside = Outside::new();
    let request = format!(
        "POST http://allowed.example:{}/ HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\
         Connection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        outside.web
    );
    let seen = ordered(&[proxied(request)], outside.allowing(""));
    let codes: Vec<&str> = seen[0].split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(codes, ["100", "103", "200"], "{}", seen[0]);
}

#[test]
fn trouble_of_one_connection_is_nobody_elses() {
    let outside = Outside::new();
    let allowed =
        format!("GET http://allowed.example:{}/ HTTP/1.1\r\nConnection: close\r\n\r\n", outside.web);
    let panic = "GET http://panic.example/ HTTP/1.1\r\n\r\n";
    let seen = ordered(&[proxied(panic), proxied(allowed)], outside.allowing(""));
    assert!(seen[0].starts_with("\"HTTP/1.1 502 "), "{}", seen[0]);
    assert!(seen[1].starts_with("\"HTTP/1.1 200 "), "{}", seen[1]);
}

#[test]
fn a_tunnel_to_an_allowed_host_is_closed_when_tls_asks_for_another() {
    let outside = Outside::new();
    let target = format!("raw.example:{}", outside.raw);
    let hello = client_hello("evil.example");
    let at_once = [format!("CONNECT {target} HTTP/1.1\r\n\r\n").into_bytes(), hello.clone()].concat();
    let orders = [format!("tunnel {target} {}", hex(&hello)), proxied(at_once)];
    let mut denials = Vec::new();
    let seen =
        ordered_and(&orders, outside.allowing(""), |captured| denials = captured.outcome.denials.clone());
    // A fatal alert, "unrecognized_name": all that can be said once the tunnel stands.
    assert_eq!(seen[0], "[21, 3, 3, 0, 2, 2, 112]");
    assert!(seen[1].starts_with("\"HTTP/1.1 403 branchfs: evil.example:"), "{}", seen[1]);
    assert_eq!(denials.iter().map(|denial| denial.count).collect::<Vec<_>>(), [2]);
    assert!(denials[0].object.starts_with("evil.example:"), "{denials:?}");
}

/// The first message of TLS with a server's name in it.
fn client_hello(name: &str) -> Vec<u8> {
    let vector = |bytes: usize, content: Vec<u8>| {
        [&content.len().to_be_bytes()[8 - bytes..], content.as_slice()].concat()
    };
    let entry = [&[0][..], &vector(2, name.as_bytes().to_vec())].concat();
    let server_name = [&[0, 0][..], &vector(2, vector(2, entry))].concat();
    let mut body = [&[3, 3][..], &[7; 32]].concat();
    body.extend(vector(1, Vec::new()));
    body.extend(vector(2, vec![0x13, 1]));
    body.extend(vector(1, vec![0]));
    body.extend(vector(2, server_name));
    let message = [&[1][..], &vector(3, body)].concat();
    [&[22, 3, 1][..], &vector(2, message)].concat()
}
