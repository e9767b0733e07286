//! The thread that answers the calls a group's seccomp program asks about. It ends with the group.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::Observe;
use super::judge::{Asked, judge};
use super::notify::{Listener, Notification, Reply};
use super::outside::Outside;
use super::process::Process;
use super::record::{Shared, Tried};
use super::wanted::wanted;
use crate::outcome::Denial;
use crate::pidfd::pid_of;
use crate::policy::{Decision, Fence, Rules, arrow};
use crate::sys::SignalsBlocked;

/// How long a group that has ended waits for its supervisor's last words.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// What a supervisor has to know.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) observe: Observe,
    pub(crate) rules: Rules,
    /// Whether the rules hold, or are only what might.
    pub(crate) enforced: bool,
    /// What of the scopes the kernel holds.
    pub(crate) scopes: Scopes,
}

/// What a group is kept from that lies outside of it (`landlock(7)`, "Scope flags").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scopes {
    pub(crate) signals: bool,
    pub(crate) abstract_sockets: bool,
}

/// A group's supervisor.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
}

impl Watch {
    /// `socket` is where the child will send its listener; `group` is the init's pidfd.
    pub(crate) fn start(task: Task, socket: OwnedFd, group: OwnedFd) -> std::io::Result<Watch> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        // The embedding program's signals are for its own threads.
        let blocked = SignalsBlocked::new();
        let started = thread::Builder::new().name("branch-observe".to_owned()).spawn(move || {
            supervise(&task, &socket, &group, &theirs);
            theirs.end();
        });
        drop(blocked);
        started.map(|_| Watch { shared })
    }

    /// The group has ended: waits for the last words.
    pub(crate) fn end(&self) {
        self.shared.wait(LAST_WORDS_MAX);
    }

    /// What was denied so far.
    pub(crate) fn denials(&self) -> Vec<Denial> {
        self.shared.denials()
    }

    /// How many more there were.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped()
    }

    /// What was tried.
    pub(crate) fn take_tried(&self) -> Tried {
        self.shared.take_tried()
    }
}

/// While a listener is open and nobody answers, its group hangs; once it is closed, calls that would be asked
/// about fail with ENOSYS. So this goes on until nothing of the group is left; if it cannot, the group goes.
fn supervise(task: &Task, socket: &OwnedFd, group: &OwnedFd, shared: &Shared) {
    if answer_all(task, socket, group, shared).is_err() {
        // Its one failure means that the group has gone by itself.
        rustix::process::pidfd_send_signal(group, rustix::process::Signal::KILL).unwrap_or_default();
    }
}

fn answer_all(task: &Task, socket: &OwnedFd, group: &OwnedFd, shared: &Shared) -> Result<(), Errno> {
    if !wait_for(socket.as_fd(), group)? {
        return Ok(());
    }
    let listener = Listener::receive(socket).ok_or(Errno::BADMSG)?;
    let fences: BTreeMap<i64, &Fence> =
        task.rules.fences().iter().map(|fence| (fence.number, fence)).collect();
    let init = pid_of(group.as_fd());
    let mut root = None;
    while wait_for(listener.as_fd(), group)? {
        let Some(call) = listener.next() else { continue };
        let mut process = Process::new(call.pid, init, root.take());
        let reply = look(task, &fences, &listener, &call, &mut process, shared);
        // Where the policy holds, nobody in the group can get another root or other mounts.
        root = process.into_root().filter(|_| task.enforced);
        listener.answer(call.id, reply)?;
    }
    Ok(())
}

/// Waits until there is something to read; false when the group, or everybody who could send, has gone.
fn wait_for(fd: BorrowedFd<'_>, group: &OwnedFd) -> Result<bool, Errno> {
    loop {
        let mut watched = [PollFd::new(&fd, PollFlags::IN), PollFd::new(group, PollFlags::IN)];
        match rustix::event::poll(&mut watched, None) {
            Ok(_) if watched[0].revents().contains(PollFlags::IN) => return Ok(true),
            Ok(_) if watched.iter().any(|one| !one.revents().is_empty()) => return Ok(false),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

fn look(
    task: &Task,
    fences: &BTreeMap<i64, &Fence>,
    listener: &Listener,
    call: &Notification,
    process: &mut Process,
    shared: &Shared,
) -> Reply {
    let number = i64::from(call.number);
    if let Some(fence) = fences.get(&number) {
        if task.observe == Observe::Everything {
            learn_call(fence, call, shared);
        }
        if !task.enforced {
            return Reply::Continue;
        }
        let decision = || fence.decision(task.rules.name());
        shared.lock().deny(fence.name, String::new(), || denial(fence.name, "", decision(), process));
        return Reply::Deny(libc::EPERM);
    }
    let Some(wanted) = wanted(number, call.args) else { return Reply::Continue };
    let asked = judge(process, wanted);
    // What was looked at may have been another process with the same number.
    if !asked.is_empty() && listener.is_valid(call.id) {
        if task.enforced {
            tell_denial(task, &asked, process, shared);
        }
        if task.observe == Observe::Everything {
            asked.into_iter().for_each(|asked| learn(asked, shared));
        }
    }
    Reply::Continue
}

/// The first denial a call would meet; what would come after it is not known.
fn tell_denial(task: &Task, asked: &[Asked], process: &Process, shared: &Shared) {
    let rules = &task.rules;
    let denied = asked.iter().find_map(|asked| match asked {
        Asked::Op(op, path) if rules.allows(*op, path) => None,
        Asked::Op(op, path) => {
            Some((op.name(), path.to_string_lossy().into_owned(), rules.explain(*op, path)))
        }
        Asked::Move(from, to, kind) => {
            let decision = rules.explain_move(from, to, *kind);
            (!decision.allowed).then(|| ("move", arrow(from, to), decision))
        }
        Asked::Network(to) => {
            Some(("connect", to.to_string(), rules.explain_connection(*to).filter(|said| !said.allowed)?))
        }
        Asked::Outside(outside) if !task.scopes.hold(outside) => None,
        Asked::Outside(outside) => {
            let (op, object, decision) = tell_outside(rules, outside);
            Some((op, object, decision))
        }
    });
    if let Some((op, object, decision)) = denied {
        shared.lock().deny(op, object.clone(), || denial(op, &object, decision, process));
    }
}

impl Scopes {
    /// Whether the kernel keeps a group from this.
    fn hold(self, outside: &Outside) -> bool {
        match outside {
            Outside::Signalled(_) => self.signals,
            Outside::Socket(_) => self.abstract_sockets,
            // By every version of Landlock, and by its own network.
            Outside::Traced(_) | Outside::LookedInto(_) | Outside::SocketElsewhere(_) => true,
        }
    }
}

/// The operation, its object, and what is said of it.
fn tell_outside(rules: &Rules, outside: &Outside) -> (&'static str, String, Decision) {
    match outside {
        Outside::Signalled(number) => {
            let object = format!("process {number}");
            let why = "it is outside of the group";
            let decision = rules.out_of_reach(&format!("signalling {object}"), "never", why);
            ("signal", object, decision)
        }
        Outside::Traced(number) => {
            let object = format!("process {number}");
            let why = "it is outside of the group";
            let doing = format!("tracing, or reading the memory of, {object}");
            ("trace", object, rules.out_of_reach(&doing, "never", why))
        }
        Outside::LookedInto(path) => {
            let object = path.to_string_lossy().into_owned();
            let why = "the process is outside of the group";
            ("look", object.clone(), rules.out_of_reach(&format!("looking into {object}"), "never", why))
        }
        Outside::Socket(name) => {
            let why = "who listens there is outside of the group; to allow it, set ipc to \"host\"";
            let doing = format!("connecting to the abstract socket {name}");
            ("connect", name.clone(), rules.out_of_reach(&doing, "ipc", why))
        }
        Outside::SocketElsewhere(name) => {
            let why = "who listens there is in the host's network, and the group is not; to allow it, set net to \
                       \"open\" and ipc to \"host\"";
            let doing = format!("connecting to the abstract socket {name}");
            ("connect", name.clone(), rules.out_of_reach(&doing, "net, ipc", why))
        }
    }
}

/// A call that policies may deny. Of sockets the kind matters: local ones are `ipc`, others `net`.
fn learn_call(fence: &Fence, call: &Notification, shared: &Shared) {
    let mut record = shared.lock();
    if fence.number == libc::SYS_socket && call.args[0] as i32 != libc::AF_UNIX {
        record.tried.own_network = true;
    } else {
        record.tried.calls.insert(fence.name.to_owned());
    }
}

fn learn(asked: Asked, shared: &Shared) {
    let mut record = shared.lock();
    match asked {
        Asked::Op(op, path) => record.tried(op, path),
        Asked::Move(from, to, kind) => {
            let (make, remove) = kind.operations();
            record.tried(make, to);
            if let Some(remove) = remove {
                record.tried(remove, from);
            }
        }
        Asked::Network(to) if to.ip().is_loopback() => record.tried.own_network = true,
        Asked::Network(to) => record.tried_address(format!("{} port {}", to.ip(), to.port())),
        // No policy lets it through.
        Asked::Outside(_) => {}
    }
}

fn denial(op: &str, object: &str, decision: Decision, process: &Process) -> Denial {
    let Decision { rule, words, .. } = decision;
    let by = Some((process.program(), process.pid()));
    Denial { op: op.to_owned(), object: object.to_owned(), rule, words, count: 1, by }
}
