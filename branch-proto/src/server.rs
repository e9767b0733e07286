//! The daemon's side of a connection: who asks, the handshake, a request with the descriptor that came
//! along, a reply.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg, sockopt::socket_peercred,
};

use crate::frame::{FrameError, HEADER_LEN, read_after_header, read_frame, read_up_to, write_frame};
use crate::socket::with_short_path;
use crate::wire::{Failure, Hello, PROTOCOL_VERSION, Reply, Request, Welcome};

/// Listens on `socket` with mode 0600, however long its path. The file must not exist. Until the mode is
/// set others may connect, so check [`peer_uid`] as well.
pub fn bind(socket: &Path) -> io::Result<UnixListener> {
    with_short_path(socket, |path| {
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    })
}

/// User id of the process that connected (SO_PEERCRED, unix(7)).
pub fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    Ok(socket_peercred(stream)?.uid.as_raw())
}

/// Answers the client's [`Hello`]: with `welcome`, or with [`Failure::Version`], which is returned too.
/// `None` when the client went away without a word.
pub fn handshake(stream: &UnixStream, welcome: &Welcome) -> Result<Option<Result<(), Failure>>, FrameError> {
    let Some(hello) = read_frame::<Hello>(stream)? else {
        return Ok(None);
    };
    if hello.protocol == PROTOCOL_VERSION {
        write_frame(stream, &Ok::<_, Failure>(welcome))?;
        return Ok(Some(Ok(())));
    }
    let failure = Failure::Version { daemon: PROTOCOL_VERSION, client: hello.protocol };
    write_frame(stream, &Err::<Welcome, _>(&failure))?;
    Ok(Some(Err(failure)))
}

/// The next request, with the descriptor that came with its first byte; `None` at the end of the stream.
///
/// After [`FrameError::Malformed`] the stream is in step and can be answered (id 0) and read on; after any
/// other error it must be closed. Descriptors beyond the first are closed.
pub fn recv_request(stream: &UnixStream) -> Result<Option<(Request, Option<OwnedFd>)>, FrameError> {
    let mut header = [0; HEADER_LEN];
    let (mut got, descriptor) = recv_with_descriptor(stream, &mut header)?;
    if got > 0 {
        got += read_up_to(&mut &*stream, &mut header[got..])?;
    }
    let request = read_after_header(stream, header, got)?;
    Ok(request.map(|request| (request, descriptor)))
}

/// Sends a reply; one too long for a frame goes out as [`Failure::Limit`] instead.
pub fn send_reply(stream: &UnixStream, reply: &Reply) -> Result<(), FrameError> {
    match write_frame(stream, reply) {
        Err(error @ FrameError::TooLong { .. }) => {
            let failure = Failure::Limit { reason: format!("the answer does not fit: {error}") };
            write_frame(stream, &Reply { id: reply.id, outcome: Err(failure) })
        }
        sent => sent,
    }
}

/// One recvmsg(2). Descriptors are received close-on-exec, so that no child started meanwhile inherits them.
fn recv_with_descriptor(
    stream: &UnixStream,
    buffer: &mut [u8],
) -> Result<(usize, Option<OwnedFd>), FrameError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })
    .map_err(io::Error::from)?;
    let mut descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = descriptors.next().and_then(|mut several| several.next());
    if received.flags.contains(ReturnFlags::CTRUNC) && descriptor.is_none() {
        // The peer sent one and the kernel could not install it: our descriptor table is full.
        return Err(FrameError::Io(io::Error::from(rustix::io::Errno::MFILE)));
    }
    Ok((received.bytes, descriptor))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::wire::{Answer, BranchInfo, Verb};

    fn welcome() -> Welcome {
        Welcome { protocol: PROTOCOL_VERSION, pid: 1, version: "0.0.0".into() }
    }

    #[test]
    fn another_protocol_version_is_refused_by_name() {
        let (client, daemon) = UnixStream::pair().expect("pair");
        write_frame(&client, &Hello { protocol: 99 }).expect("sent");
        let refused = handshake(&daemon, &welcome()).expect("whole frame");
        assert_eq!(refused, Some(Err(Failure::Version { daemon: PROTOCOL_VERSION, client: 99 })));
        let heard: Option<Result<Welcome, Failure>> = read_frame(&client).expect("an answer");
        assert_eq!(heard, Some(Err(Failure::Version { daemon: PROTOCOL_VERSION, client: 99 })));
    }

    #[test]
    fn a_request_in_single_bytes_arrives_whole() {
        let (client, daemon) = UnixStream::pair().expect("pair");
        let request = Request { id: 3, verb: Verb::Inspect { branch: "b".into() } };
        let bytes = crate::frame::encode(&request).expect("fits");
        let sender = std::thread::spawn(move || {
            for byte in bytes {
                (&client).write_all(&[byte]).expect("sent");
            }
        });
        let (received, descriptor) = recv_request(&daemon).expect("whole").expect("a request");
        assert_eq!(received, request);
        assert!(descriptor.is_none());
        assert!(recv_request(&daemon).expect("clean end").is_none());
        sender.join().expect("sender");
    }

    #[test]
    fn a_malformed_request_can_be_answered_and_the_next_one_read() {
        let (client, daemon) = UnixStream::pair().expect("pair");
        write_frame(&client, &serde_json::json!({"id": 1, "verb": "explode"})).expect("sent");
        write_frame(&client, &Request { id: 2, verb: Verb::List }).expect("sent");
        assert!(matches!(recv_request(&daemon), Err(FrameError::Malformed(_))));
        let (request, _) = recv_request(&daemon).expect("in step").expect("a request");
        assert_eq!(request.id, 2);
    }

    #[test]
    fn an_answer_too_long_for_a_frame_becomes_a_limit() {
        let (client, daemon) = UnixStream::pair().expect("pair");
        let branch = BranchInfo {
            name: "x".repeat(crate::FRAME_MAX),
            index: 1,
            parent: None,
            group: None,
            created: 0,
            changed: 0,
            bytes: 0,
            content: 0,
            limit: None,
            view: crate::wire::ViewKind::Fuse,
            groups: 0,
            children: vec![],
            checkpoints: vec![],
            path: crate::PathBytes(vec![]),
        };
        send_reply(&daemon, &Reply { id: 5, outcome: Ok(Answer::Branch { branch }) }).expect("sent");
        let reply: Reply = read_frame(&client).expect("whole").expect("a reply");
        assert_eq!(reply.id, 5);
        assert!(matches!(reply.outcome, Err(Failure::Limit { .. })));
    }

    #[test]
    fn a_socket_path_longer_than_sun_path_can_be_bound_and_reached() {
        let directory = std::env::temp_dir().join(format!("branch-proto-{}", std::process::id()));
        let deep = directory.join("d".repeat(120));
        std::fs::create_dir_all(&deep).expect("directory");
        let socket = deep.join("daemon.sock");
        let listener = bind(&socket).expect("bound");
        assert_eq!(std::fs::metadata(&socket).expect("there").permissions().mode() & 0o777, 0o600);
        let daemon = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("accepted");
            handshake(&stream, &welcome()).expect("whole").expect("a hello").expect("our version");
        });
        let client = crate::Client::connect(&socket).expect("connected");
        assert_eq!(client.welcome(), &welcome());
        daemon.join().expect("daemon");
        std::fs::remove_dir_all(&directory).expect("removed");
    }

    #[test]
    fn the_peer_is_this_user() {
        let (_client, daemon) = UnixStream::pair().expect("pair");
        assert_eq!(peer_uid(&daemon).expect("credentials"), rustix::process::geteuid().as_raw());
    }
}
