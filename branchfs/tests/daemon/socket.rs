//! What may come over the socket.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use branch_proto::{
    Children, Client, ClientError, Failure, GroupKind, Hello, PROTOCOL_VERSION, Reply, Welcome, read_frame,
    write_frame,
};

use crate::harness::Workspace;

#[test]
fn only_the_owner_can_reach_the_socket() {
    let Some(workspace) = Workspace::served() else { return };
    let mode = std::fs::metadata(workspace.socket()).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn another_protocol_version_is_refused_with_both_numbers() {
    let Some(workspace) = Workspace::served() else { return };
    let stream = UnixStream::connect(workspace.socket()).expect("connected");
    write_frame(&stream, &Hello { protocol: 99 }).expect("sent");
    let refused: Option<Result<Welcome, Failure>> = read_frame(&stream).expect("an answer");
    assert_eq!(refused, Some(Err(Failure::Version { daemon: PROTOCOL_VERSION, client: 99 })));
    assert_eq!(read_frame::<Reply>(&stream).expect("closed"), None);
}

#[test]
fn a_frame_that_is_no_request_ends_its_connection_and_no_other() {
    let Some(workspace) = Workspace::served() else { return };
    let mut bystander = workspace.client();
    let stream = UnixStream::connect(workspace.socket()).expect("connected");
    write_frame(&stream, &Hello { protocol: PROTOCOL_VERSION }).expect("sent");
    read_frame::<Result<Welcome, Failure>>(&stream).expect("whole").expect("an answer").expect("welcome");
    write_frame(&stream, &"explode").expect("sent");
    let reply: Reply = read_frame(&stream).expect("whole").expect("an answer");
    assert!(matches!(reply, Reply { id: 0, outcome: Err(Failure::Malformed { .. }) }), "{reply:?}");
    assert_eq!(read_frame::<Reply>(&stream).expect("closed"), None);
    bystander.list().expect("not disturbed");
}

/// Not random for luck: a fixed generator (xorshift), so that a failure comes back.
#[test]
fn noise_on_the_socket_disturbs_nobody() {
    let Some(workspace) = Workspace::served() else { return };
    let mut bystander = workspace.client();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for len in 0..200 {
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .take(len)
        .collect();
        let mut stream = UnixStream::connect(workspace.socket()).expect("connected");
        // The daemon may hang up before it has read everything.
        if stream.write_all(&noise).is_ok() && stream.shutdown(std::net::Shutdown::Write).is_ok() {
            let mut answer = Vec::new();
            match stream.read_to_end(&mut answer) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
            }
        }
        bystander.list().expect("not disturbed");
    }
}

#[test]
fn twenty_clients_at_once_are_all_served() {
    let Some(workspace) = Workspace::served() else { return };
    let work = |number: usize| {
        let mut client = workspace.client();
        for round in 0..5 {
            let name = format!("c{number}-{round}");
            client.create(std::slice::from_ref(&name), "main", GroupKind::Independent).expect("created");
            let view = workspace.view(&name);
            std::fs::write(view.join("own"), &name).expect("written");
            assert_eq!(std::fs::read_to_string(view.join("own")).expect("read"), name);
            assert_eq!(
                client.inspect(&name).expect("there").changed,
                1,
                "the file, not the root that only holds it"
            );
            assert_eq!(client.abort(&name, Children::Refuse).expect("aborted"), [name]);
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..20).map(|number| scope.spawn(move || work(number))).collect();
        clients.into_iter().for_each(|client| client.join().expect("client"));
    });
    assert_eq!(workspace.names(), ["main"]);
}

#[test]
fn a_name_that_is_not_there_is_a_typed_failure_and_the_connection_goes_on() {
    let Some(workspace) = Workspace::served() else { return };
    let mut client: Client = workspace.client();
    let failure = client.commit("nobody").expect_err("no such branch");
    assert!(
        matches!(&failure, ClientError::Failed(Failure::NoSuchBranch { name }) if name == "nobody"),
        "{failure:?}"
    );
    let status = client.status().expect("status");
    assert_eq!(status.mountpoint.as_path(), workspace.mountpoint());
    assert_eq!((status.branches, status.commits), (0, 0));
}
