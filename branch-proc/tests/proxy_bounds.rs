//! What a proxy costs the process it runs in: no more than its bounds while its group lives, and nothing after.
#![allow(clippy::unwrap_used)] // also in helpers

#[path = "common/mod.rs"]
mod common;
#[allow(dead_code)] // shared with the tests in net/, each of which uses its own part
#[path = "net/inside.rs"]
mod inside;
#[allow(dead_code)]
#[path = "net/outside.rs"]
mod outside;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use branch_proc::{Command, Exit, PROXY_PORT, Resolve, Stdio, kill_pidfd};
use common::{PATIENCE, Seen, Witness, alone};
use inside::ordered;
use outside::{Outside, SERVING};

/// As the proxy says, which is not part of its interface.
const CONNECTIONS_MAX: usize = 128;

/// Threads of this process whose name begins so.
fn threads(name: &str) -> usize {
    let of = |entry: io::Result<fs::DirEntry>| fs::read_to_string(entry.ok()?.path().join("comm")).ok();
    fs::read_dir("/proc/self/task").unwrap().filter_map(of).filter(|comm| comm.starts_with(name)).count()
}

/// The descriptors of this process, by what they lead to.
fn descriptors() -> Vec<String> {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let mut all: Vec<String> = entries
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|to| to.to_string_lossy().into_owned())
        .collect();
    all.sort();
    all
}

fn until(what: &str, happens: impl Fn() -> bool) {
    let begin = Instant::now();
    while !happens() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        thread::yield_now();
    }
}

/// A shell that holds connections to the proxy open, in tunnels that stand, and says so.
fn holding(outside: &Outside, write: std::os::fd::OwnedFd) -> Command {
    let script = format!(
        "import os,socket,sys,time\n\
         held=[]\n\
         for i in range(5):\n \
           s=socket.create_connection(('127.0.0.1',{PROXY_PORT}))\n \
           s.sendall(b'CONNECT raw.example:{raw} HTTP/1.1\\r\\n\\r\\nX')\n \
           assert b' 200 ' in s.recv(100)\n \
           held.append(s)\n\
         held.append(socket.create_connection(('127.0.0.1',{PROXY_PORT})))\n\
         os.write(9,b'!')\n\
         time.sleep(600)\n",
        raw = outside.raw
    );
    let python = Command::new(["/usr/bin/python3", "-c", script.as_str()]);
    outside.allowing("")(python.stdin(Stdio::Null).fd(write, 9))
}

fn has_python() -> bool {
    let found = fs::exists("/usr/bin/python3").unwrap();
    if !found {
        println!("skipped: no /usr/bin/python3 to hold connections with");
    }
    found
}

#[test]
fn nothing_is_left_of_a_proxy_when_its_group_has_been_dropped() {
    let _alone = alone();
    if !has_python() {
        return;
    }
    let outside = Outside::new();
    let before = descriptors();
    for _ in 0..5 {
        let (mut witness, write) = Witness::new();
        let group = holding(&outside, write).spawn().unwrap();
        witness.wait_for(1);
        assert!(threads("branch-proxy") >= 6);
        drop(group);
        // They have been joined, which can be a moment before the kernel takes them off the list.
        until("the proxy's threads are gone", || threads("branch-") == 0);
        assert_eq!(witness.look(Duration::ZERO), Seen::AllGone);
    }
    // What the servers keep of a connection goes when they notice its end.
    until("the servers' connections end", || threads(SERVING) == 0);
    assert_eq!(descriptors(), before);
}

#[test]
fn a_proxy_ends_by_itself_when_another_kills_its_group() {
    let _alone = alone();
    if !has_python() {
        return;
    }
    let outside = Outside::new();
    let (mut witness, write) = Witness::new();
    let mut group = holding(&outside, write).spawn().unwrap();
    witness.wait_for(1);
    kill_pidfd(group.pidfd().as_fd(), PATIENCE).unwrap();
    until("all threads of the proxy end", || threads("branch-") == 0);
    assert_eq!(group.wait().unwrap().exit, Exit::Signal(9));
    assert!(group.denials().is_empty());
}

#[test]
fn a_crowd_is_served_in_turns() {
    let _alone = alone();
    let outside = Outside::new();
    let order = format!("crowd {CONNECTIONS_MAX} http://allowed.example:{}/", outside.web);
    let seen = ordered(&[order], outside.allowing(""));
    assert_eq!(seen, ["\"Err(WouldBlock), then Ok(())\""]);
}

#[test]
fn a_head_that_does_not_end_is_not_waited_for() {
    let _alone = alone();
    let outside = Outside::new();
    let begin = Instant::now();
    let seen = ordered(&["drip".to_owned()], outside.allowing(""));
    assert!(seen[0].starts_with("\"HTTP/1.1 408 branchfs: "), "{}", seen[0]);
    assert!(begin.elapsed() < 3 * PATIENCE, "{:?}", begin.elapsed());
}

/// Says that it has been asked, and answers when it is let go.
struct Hanging(Mutex<Sender<()>>, Mutex<Receiver<()>>);

impl Resolve for Hanging {
    fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        self.0.lock().unwrap().send(()).unwrap();
        let let_go = self.1.lock().unwrap().recv();
        Err(io::Error::other(format!("too late: {let_go:?}")))
    }
}

#[test]
fn a_lookup_that_hangs_does_not_hold_up_the_end() {
    let _alone = alone();
    let (asked, is_asked) = mpsc::channel();
    let (let_go, waits) = mpsc::channel();
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{PROXY_PORT}; printf 'CONNECT a.example:443 HTTP/1.1\\r\\n\\r\\n' >&3; cat <&3"
    );
    let group = Command::new(["/bin/bash", "-c", script.as_str()])
        .stdin(Stdio::Null)
        .net("allow=a.example".parse().unwrap())
        .resolver(Hanging(Mutex::new(asked), Mutex::new(waits)))
        .spawn()
        .unwrap();
    is_asked.recv_timeout(PATIENCE).unwrap();
    let begin = Instant::now();
    drop(group);
    // The lookup would go on for ever.
    assert!(begin.elapsed() < PATIENCE / 2, "{:?}", begin.elapsed());
    until("only the lookup is left", || threads("branch-proxy") == 0);
    assert_eq!(threads("branch-lookup"), 1);
    drop(let_go);
    until("the lookup ends", || threads("branch-lookup") == 0);
}

#[test]
fn a_held_group_that_is_dropped_has_started_no_proxy() {
    let _alone = alone();
    let held = common::sh("exit 0").net("allow=a.example".parse().unwrap()).hold().unwrap();
    drop(held);
    assert_eq!(threads("branch-proxy"), 0);
    let outside = Outside::new();
    let mut group = outside.allowing("")(common::sh("exit 3")).hold().unwrap().release().unwrap();
    assert_eq!(group.wait().unwrap().exit, Exit::Code(3));
}
