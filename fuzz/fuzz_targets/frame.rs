//! Frames as a daemon and a client get them from a peer that sends anything.
#![no_main]

use std::io::Write;
use std::os::unix::net::UnixStream;

use branch_proto::{
    Event, Failure, FrameError, Hello, PROTOCOL_VERSION, Reply, Request, Welcome, read_frame, server,
    write_frame,
};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What fits into a socket's buffer without anybody reading.
const SOCKET_MAX: usize = 64 << 10;

fuzz_target!(|bytes: &[u8]| {
    let Some((direction, bytes)) = bytes.split_first() else { return };
    match direction % 6 {
        0 => stream::<Hello>(bytes),
        1 => stream::<Request>(bytes),
        2 => stream::<Result<Welcome, Failure>>(bytes),
        3 => stream::<Reply>(bytes),
        4 => stream::<Event>(bytes),
        _ => connection(bytes),
    }
});

/// Reads frames until the stream ends or is out of step. What was understood must survive being sent on.
fn stream<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(mut bytes: &[u8]) {
    loop {
        match read_frame::<T>(&mut bytes) {
            Ok(Some(message)) => comes_back(&message),
            Err(FrameError::Malformed(_)) => {}
            Ok(None) | Err(FrameError::TooLong { .. } | FrameError::Truncated { .. }) => return,
            Err(error @ FrameError::Io(_)) => panic!("reading memory: {error}"),
        }
    }
}

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T) {
    let mut wire = Vec::new();
    write_frame(&mut wire, message).expect("what was read can be written");
    let again = read_frame::<T>(&wire[..]).expect("our own frame is whole");
    assert_eq!(again.as_ref(), Some(message));
}

/// The daemon's side of a connection: handshake, then requests, over a socket.
fn connection(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(SOCKET_MAX)];
    let (mut client, daemon) = UnixStream::pair().expect("a pair of sockets");
    client.write_all(bytes).expect("the buffer holds it");
    client.shutdown(std::net::Shutdown::Write).expect("shut down");
    let welcome = Welcome { protocol: PROTOCOL_VERSION, pid: 1, version: "0.0.0".into() };
    match server::handshake(&daemon, &welcome) {
        Ok(Some(Ok(()))) => {}
        Ok(None | Some(Err(_))) | Err(_) => return,
    }
    loop {
        match server::recv_request(&daemon) {
            Ok(Some((_, descriptor))) => assert!(descriptor.is_none(), "nobody sent one"),
            Err(FrameError::Malformed(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}
