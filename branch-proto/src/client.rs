//! The caller's side: one connection, one request at a time, blocking.

use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::frame::{FrameError, encode, read_frame, write_frame};
use crate::socket::with_short_path;
use crate::wire::{
    Answer, BranchInfo, Children, Choices, CommitOptions, CommitPlan, CommitReport, Compared, DiffDetail,
    Event, Failure, FileChange, GcMode, GcReport, GroupAction, GroupInfo, GroupKind, Hello, KeepChange,
    LogEntry, Mounter, NativeView, Omitted, OnEnd, PROTOCOL_VERSION, Quota, RebaseReport, Reply, Request,
    RestoreReport, Verb, Welcome, WorkspaceStatus,
};

/// A connection to the daemon, past the handshake. After an error other than [`ClientError::Failed`] the
/// connection is out of step: drop it.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    welcome: Welcome,
    next_id: u64,
}

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket, or we may not connect.
    #[error("cannot reach the daemon at {}: {source}", .socket.display())]
    Connect {
        /// The socket's path.
        socket: PathBuf,
        /// The system's reason; `NotFound` and `ConnectionRefused` mean that no daemon runs.
        source: io::Error,
    },
    /// The two sides speak different protocol versions.
    #[error("the daemon speaks protocol {daemon}, this program {client}")]
    Version {
        /// The daemon's version.
        daemon: u32,
        /// Ours.
        client: u32,
    },
    /// The daemon answered: no.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The daemon closed the connection without an answer.
    #[error("the daemon closed the connection before it answered")]
    Closed,
    /// The daemon went away before it took the request, which has therefore not been carried out.
    #[error("the daemon went away before it took the request")]
    NotTaken,
    /// The connection broke, or what came is no frame of ours.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The daemon answered something that does not belong to the question.
    #[error("the daemon's answer does not belong to the request '{verb}'")]
    Mismatch {
        /// The verb asked.
        verb: &'static str,
    },
}

impl Client {
    /// Connects to the daemon's socket and shakes hands.
    pub fn connect(socket: &Path) -> Result<Client, ClientError> {
        let stream = with_short_path(socket, |path| UnixStream::connect(path))
            .map_err(|source| ClientError::Connect { socket: socket.to_owned(), source })?;
        Client::over(stream)
    }

    /// Shakes hands over a connection that stands already.
    pub fn over(stream: UnixStream) -> Result<Client, ClientError> {
        let welcome = match greet(&stream).map_err(not_taken)? {
            None => return Err(ClientError::Closed),
            Some(Err(Failure::Version { daemon, client })) => {
                return Err(ClientError::Version { daemon, client });
            }
            Some(Err(failure)) => return Err(ClientError::Failed(failure)),
            Some(Ok(welcome)) => welcome,
        };
        if welcome.protocol != PROTOCOL_VERSION {
            return Err(ClientError::Version { daemon: welcome.protocol, client: PROTOCOL_VERSION });
        }
        Ok(Client { stream, welcome, next_id: 1 })
    }

    /// What the daemon said of itself.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Sends one request and waits for its answer.
    pub fn call(&mut self, verb: Verb) -> Result<Answer, ClientError> {
        let name = verb.name();
        let id = self.take_id();
        write_frame(&self.stream, &Request { id, verb }).map_err(not_taken)?;
        self.receive(id, name)
    }

    /// Forks `names` off `parent`, all or none.
    pub fn create(
        &mut self,
        names: &[String],
        parent: &str,
        group: GroupKind,
    ) -> Result<Vec<BranchInfo>, ClientError> {
        self.create_limited(names, parent, group, None)
    }

    /// Forks branches that may hold so much each; `None`: as much as the parent may.
    pub fn create_limited(
        &mut self,
        names: &[String],
        parent: &str,
        group: GroupKind,
        quota: Option<Quota>,
    ) -> Result<Vec<BranchInfo>, ClientError> {
        let (names, parent) = (names.to_vec(), parent.to_owned());
        match self.call(Verb::Create { names, parent, group, quota })? {
            Answer::Branches { branches } => Ok(branches),
            _ => Err(ClientError::Mismatch { verb: "create" }),
        }
    }

    /// The same as [`Client::create`], for a process that is going to attach a group to each branch: a branch without
    /// one is aborted when that process ends.
    pub fn create_for(
        &mut self,
        names: &[String],
        parent: &str,
        group: GroupKind,
        maker: BorrowedFd<'_>,
    ) -> Result<Vec<BranchInfo>, ClientError> {
        let (names, parent) = (names.to_vec(), parent.to_owned());
        match self.call_with(Verb::Create { names, parent, group, quota: None }, maker)? {
            Answer::Branches { branches } => Ok(branches),
            _ => Err(ClientError::Mismatch { verb: "create" }),
        }
    }

    /// Changes how much a branch may hold of its own; the branch.
    pub fn set_quota(&mut self, branch: &str, quota: Quota) -> Result<BranchInfo, ClientError> {
        match self.call(Verb::SetQuota { branch: branch.to_owned(), quota })? {
            Answer::Branch { branch } => Ok(branch),
            _ => Err(ClientError::Mismatch { verb: "set-quota" }),
        }
    }

    /// All live branches, parents before children.
    pub fn list(&mut self) -> Result<Vec<BranchInfo>, ClientError> {
        match self.call(Verb::List)? {
            Answer::Branches { branches } => Ok(branches),
            _ => Err(ClientError::Mismatch { verb: "list" }),
        }
    }

    /// One branch.
    pub fn inspect(&mut self, branch: &str) -> Result<BranchInfo, ClientError> {
        match self.call(Verb::Inspect { branch: branch.to_owned() })? {
            Answer::Branch { branch } => Ok(branch),
            _ => Err(ClientError::Mismatch { verb: "inspect" }),
        }
    }

    /// The workspace and its daemon.
    pub fn status(&mut self) -> Result<WorkspaceStatus, ClientError> {
        match self.call(Verb::Status)? {
            Answer::Status { status } => Ok(status),
            _ => Err(ClientError::Mismatch { verb: "status" }),
        }
    }

    /// What differs between two sides, sorted by path.
    pub fn diff(&mut self, compared: &Compared, detail: DiffDetail) -> Result<Vec<FileChange>, ClientError> {
        match self.call(Verb::Diff { compared: compared.clone(), detail })? {
            Answer::Diff { changes } => Ok(changes),
            _ => Err(ClientError::Mismatch { verb: "diff" }),
        }
    }

    /// Has the daemon write what differs as a patch into a pipe that somebody else reads meanwhile. It makes the
    /// pipe's writing end non-blocking. Says what is not in the patch.
    pub fn patch(&mut self, compared: &Compared, to: BorrowedFd<'_>) -> Result<Vec<Omitted>, ClientError> {
        match self.call_with(Verb::Patch { compared: compared.clone() }, to)? {
            Answer::Patched { omitted } => Ok(omitted),
            _ => Err(ClientError::Mismatch { verb: "patch" }),
        }
    }

    /// Commits a leaf branch into its parent; refused where it meets what others did.
    pub fn commit(&mut self, branch: &str) -> Result<CommitReport, ClientError> {
        self.commit_with(branch, &CommitOptions::default())
    }

    /// Commits a leaf branch, or part of it, into its parent, with choices where it meets what others did.
    pub fn commit_with(
        &mut self,
        branch: &str,
        options: &CommitOptions,
    ) -> Result<CommitReport, ClientError> {
        match self.call(Verb::Commit { branch: branch.to_owned(), options: options.clone() })? {
            Answer::Committed { report } => Ok(report),
            _ => Err(ClientError::Mismatch { verb: "commit" }),
        }
    }

    /// Moves a leaf branch onto its parent's present state.
    pub fn rebase(&mut self, branch: &str, choices: &Choices) -> Result<RebaseReport, ClientError> {
        match self.call(Verb::Rebase { branch: branch.to_owned(), choices: choices.clone() })? {
            Answer::Rebased { report } => Ok(report),
            _ => Err(ClientError::Mismatch { verb: "rebase" }),
        }
    }

    /// Takes the last commit into the base back that still stands.
    pub fn undo(&mut self) -> Result<CommitReport, ClientError> {
        match self.call(Verb::Undo)? {
            Answer::Committed { report } => Ok(report),
            _ => Err(ClientError::Mismatch { verb: "undo" }),
        }
    }

    /// Takes the last [`Client::undo`] back.
    pub fn redo(&mut self) -> Result<CommitReport, ClientError> {
        match self.call(Verb::Redo)? {
            Answer::Committed { report } => Ok(report),
            _ => Err(ClientError::Mismatch { verb: "redo" }),
        }
    }

    /// What a commit would do now.
    pub fn plan_commit(&mut self, branch: &str, options: &CommitOptions) -> Result<CommitPlan, ClientError> {
        match self.call(Verb::PlanCommit { branch: branch.to_owned(), options: options.clone() })? {
            Answer::CommitPlan { plan } => Ok(plan),
            _ => Err(ClientError::Mismatch { verb: "plan-commit" }),
        }
    }

    /// Notes the present state of a branch under a name, or the next number; the name.
    pub fn checkpoint(&mut self, branch: &str, name: Option<&str>) -> Result<String, ClientError> {
        match self.call(Verb::Checkpoint { branch: branch.to_owned(), name: name.map(str::to_owned) })? {
            Answer::Checkpoint { name } => Ok(name),
            _ => Err(ClientError::Mismatch { verb: "checkpoint" }),
        }
    }

    /// Forgets a checkpoint.
    pub fn delete_checkpoint(&mut self, branch: &str, name: &str) -> Result<(), ClientError> {
        let verb = Verb::DeleteCheckpoint { branch: branch.to_owned(), name: name.to_owned() };
        expect_done(self.call(verb)?, "delete-checkpoint")
    }

    /// Makes a branch what it was at a checkpoint.
    pub fn restore(&mut self, branch: &str, name: &str) -> Result<RestoreReport, ClientError> {
        match self.call(Verb::Restore { branch: branch.to_owned(), name: name.to_owned() })? {
            Answer::Restored { report } => Ok(report),
            _ => Err(ClientError::Mismatch { verb: "restore" }),
        }
    }

    /// Calls off the commit of a branch into the base, or with `main` the undoing or redoing, that another connection
    /// waits for; refused if there is none or it is decided.
    pub fn cancel(&mut self, branch: &str) -> Result<(), ClientError> {
        let answer = self.call(Verb::Cancel { branch: branch.to_owned() })?;
        expect_done(answer, "cancel")
    }

    /// The process groups of a branch, or of all, in the order of their attachment.
    pub fn groups(&mut self, branch: Option<&str>) -> Result<Vec<GroupInfo>, ClientError> {
        match self.call(Verb::Groups { branch: branch.map(str::to_owned) })? {
            Answer::Groups { groups } => Ok(groups),
            _ => Err(ClientError::Mismatch { verb: "groups" }),
        }
    }

    /// Does something with every process group of a branch; how many they were.
    pub fn control_groups(&mut self, branch: &str, action: GroupAction) -> Result<u32, ClientError> {
        match self.call(Verb::ControlGroups { branch: branch.to_owned(), action })? {
            Answer::Controlled { groups } => Ok(groups),
            _ => Err(ClientError::Mismatch { verb: "control-groups" }),
        }
    }

    /// Discards a branch; the names of those that ended, leaves first.
    pub fn abort(&mut self, branch: &str, children: Children) -> Result<Vec<String>, ClientError> {
        match self.call(Verb::Abort { branch: branch.to_owned(), children })? {
            Answer::Aborted { branches } => Ok(branches),
            _ => Err(ClientError::Mismatch { verb: "abort" }),
        }
    }

    /// Frees what nobody needs any more, or says what that is.
    pub fn gc(&mut self, keep: KeepChange, mode: GcMode) -> Result<GcReport, ClientError> {
        match self.call(Verb::Gc { keep, mode })? {
            Answer::Collected { report } => Ok(report),
            _ => Err(ClientError::Mismatch { verb: "gc" }),
        }
    }

    /// The newest commits into the base, newest first.
    pub fn log(&mut self, limit: u32) -> Result<Vec<LogEntry>, ClientError> {
        match self.call(Verb::Log { limit })? {
            Answer::Log { commits } => Ok(commits),
            _ => Err(ClientError::Mismatch { verb: "log" }),
        }
    }

    /// One commit into the base, and whether the base before and after it can still be seen.
    pub fn show(&mut self, commit: u64) -> Result<(LogEntry, bool), ClientError> {
        match self.call(Verb::Show { commit })? {
            Answer::Shown { entry, kept } => Ok((entry, kept)),
            _ => Err(ClientError::Mismatch { verb: "show" }),
        }
    }

    /// Hands the daemon a process group of `branch`, to be killed when the branch ends.
    pub fn attach(&mut self, branch: &str, pid: i32, pidfd: BorrowedFd<'_>) -> Result<(), ClientError> {
        self.attach_until(branch, pid, pidfd, OnEnd::Keep)
    }

    /// The same, saying what the end of the group means for the branch.
    pub fn attach_until(
        &mut self,
        branch: &str,
        pid: i32,
        pidfd: BorrowedFd<'_>,
        on_end: OnEnd,
    ) -> Result<(), ClientError> {
        let answer = self.call_with(Verb::Attach { branch: branch.to_owned(), pid, on_end }, pidfd)?;
        expect_done(answer, "attach")
    }

    /// Makes the directories for a native view of `branch`; the group that mounts it is attached with [`OnEnd::TakeIn`].
    pub fn native_view(&mut self, branch: &str, mounter: Mounter) -> Result<NativeView, ClientError> {
        match self.call(Verb::NativeView { branch: branch.to_owned(), mounter })? {
            Answer::NativeView { view } => Ok(view),
            _ => Err(ClientError::Mismatch { verb: "native-view" }),
        }
    }

    /// Takes into `branch` what was done in its native view; without processes in it, for good.
    pub fn take_in(&mut self, branch: &str) -> Result<(), ClientError> {
        let answer = self.call(Verb::TakeIn { branch: branch.to_owned() })?;
        expect_done(answer, "take-in")
    }

    /// Asks the daemon to unmount, checkpoint and exit. Branches stay. To see it gone, wait for the end of
    /// the connection with [`Client::wait_closed`].
    pub fn shutdown(&mut self) -> Result<(), ClientError> {
        let answer = self.call(Verb::Shutdown)?;
        expect_done(answer, "shutdown")
    }

    /// Blocks until the daemon closes the connection: its exit closes it in any case.
    pub fn wait_closed(self) -> Result<(), ClientError> {
        match read_frame::<serde_json::Value>(&self.stream) {
            Ok(None) => Ok(()),
            Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Ok(Some(_)) => Err(ClientError::Mismatch { verb: "shutdown" }),
            Err(error) => Err(ClientError::Frame(error)),
        }
    }

    /// Turns the connection into a stream of events. Returns once the daemon has confirmed it.
    pub fn subscribe(mut self) -> Result<Events, ClientError> {
        let answer = self.call(Verb::Subscribe)?;
        expect_done(answer, "subscribe")?;
        Ok(Events { stream: self.stream })
    }

    fn call_with(&mut self, verb: Verb, descriptor: BorrowedFd<'_>) -> Result<Answer, ClientError> {
        let name = verb.name();
        let id = self.take_id();
        send_with_descriptor(&self.stream, &encode(&Request { id, verb })?, descriptor)
            .map_err(|error| not_taken(FrameError::Io(error)))?;
        self.receive(id, name)
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn receive(&self, id: u64, verb: &'static str) -> Result<Answer, ClientError> {
        let reply: Reply = read_frame(&self.stream)?.ok_or(ClientError::Closed)?;
        match reply.outcome {
            // What the daemon could not parse it answers with id 0.
            Err(failure @ Failure::Malformed { .. }) => Err(ClientError::Failed(failure)),
            _ if reply.id != id => Err(ClientError::Mismatch { verb }),
            Err(failure) => Err(ClientError::Failed(failure)),
            Ok(answer) => Ok(answer),
        }
    }
}

/// What happens in the workspace, from [`Client::subscribe`] on. Ends when the daemon closes the connection.
#[derive(Debug)]
pub struct Events {
    stream: UnixStream,
}

impl Iterator for Events {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        read_frame(&self.stream).map_err(ClientError::Frame).transpose()
    }
}

impl AsFd for Events {
    /// Readable when an event can be read; nothing is buffered on this side.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn greet(stream: &UnixStream) -> Result<Option<Result<Welcome, Failure>>, FrameError> {
    write_frame(stream, &Hello { protocol: PROTOCOL_VERSION })?;
    read_frame(stream)
}

/// A daemon that is going down hangs up (a broken pipe for who writes) or ends with what we sent unread (a reset,
/// unix(7)). It never has more than one request of ours to read, so that one has not been carried out.
fn not_taken(error: FrameError) -> ClientError {
    let gone = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    match error {
        FrameError::Io(error) if gone.contains(&error.kind()) => ClientError::NotTaken,
        error => ClientError::Frame(error),
    }
}

fn expect_done(answer: Answer, verb: &'static str) -> Result<(), ClientError> {
    match answer {
        Answer::Done => Ok(()),
        _ => Err(ClientError::Mismatch { verb }),
    }
}

/// The descriptor travels with the first byte sent, so that the receiver meets it with the header.
fn send_with_descriptor(mut stream: &UnixStream, frame: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for the descriptor in the ancillary buffer"));
    }
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(stream, &[IoSlice::new(frame)], &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    stream.write_all(&frame[sent..])
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::thread;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use crate::server;

    /// A daemon that welcomes and then does what `serve` says.
    fn with_daemon<T>(serve: impl FnOnce(&UnixStream) + Send + 'static, ask: impl FnOnce(Client) -> T) -> T {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let daemon = thread::spawn(move || {
            let welcome = Welcome { protocol: PROTOCOL_VERSION, pid: 42, version: "9".into() };
            server::handshake(&theirs, &welcome).expect("handshake").expect("a hello").expect("our version");
            serve(&theirs);
        });
        let asked = ask(Client::over(ours).expect("handshake"));
        daemon.join().expect("daemon");
        asked
    }

    fn answer(stream: &UnixStream, outcome: Result<Answer, Failure>) -> Request {
        let (request, _) = server::recv_request(stream).expect("whole").expect("a request");
        server::send_reply(stream, &Reply { id: request.id, outcome }).expect("sent");
        request
    }

    #[test]
    fn a_descriptor_arrives_with_attach_and_is_the_same_file() {
        let (mut reader, writer) = std::io::pipe().expect("pipe");
        let serve = |stream: &UnixStream| {
            let (request, descriptor) = server::recv_request(stream).expect("whole").expect("a request");
            assert_eq!(request.verb, Verb::Attach { branch: "b".into(), pid: 7, on_end: OnEnd::Keep });
            let descriptor = descriptor.expect("the descriptor came along");
            let flags = rustix::io::fcntl_getfd(&descriptor).expect("flags");
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            std::fs::File::from(descriptor).write_all(b"through").expect("written");
            server::send_reply(stream, &Reply { id: request.id, outcome: Ok(Answer::Done) }).expect("sent");
            // The next request carries none.
            let (_, none) = server::recv_request(stream).expect("whole").expect("a request");
            assert!(none.is_none());
        };
        with_daemon(serve, |mut client| {
            client.attach("b", 7, writer.as_fd()).expect("attached");
            drop(writer);
            let mut heard = String::new();
            reader.read_to_string(&mut heard).expect("read");
            assert_eq!(heard, "through");
            assert!(matches!(client.list(), Err(ClientError::Closed)));
        });
    }

    #[test]
    fn a_failure_is_typed_and_the_connection_goes_on() {
        let serve = |stream: &UnixStream| {
            answer(stream, Err(Failure::Stale { name: "b".into() }));
            answer(stream, Ok(Answer::Log { commits: vec![] }));
        };
        with_daemon(serve, |mut client| {
            let error = client.commit("b").expect_err("stale");
            assert!(matches!(error, ClientError::Failed(Failure::Stale { ref name }) if name == "b"));
            assert_eq!(client.log(5).expect("in step"), vec![]);
        });
    }

    #[test]
    fn an_answer_to_another_question_is_an_error() {
        let serve = |stream: &UnixStream| {
            answer(stream, Ok(Answer::Done));
            let (request, _) = server::recv_request(stream).expect("whole").expect("a request");
            server::send_reply(stream, &Reply { id: request.id + 1, outcome: Ok(Answer::Done) })
                .expect("sent");
        };
        with_daemon(serve, |mut client| {
            assert!(matches!(client.status(), Err(ClientError::Mismatch { verb: "status" })));
            assert!(matches!(client.shutdown(), Err(ClientError::Mismatch { verb: "shutdown" })));
        });
    }

    #[test]
    fn a_daemon_of_another_version_is_a_typed_error() {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let daemon = thread::spawn(move || {
            let hello: Option<Hello> = read_frame(&theirs).expect("whole");
            assert_eq!(hello, Some(Hello { protocol: PROTOCOL_VERSION }));
            write_frame(&theirs, &Err::<Welcome, _>(Failure::Version { daemon: 2, client: 1 }))
                .expect("sent");
        });
        let error = Client::over(ours).expect_err("refused");
        assert!(matches!(error, ClientError::Version { daemon: 2, client: 1 }), "{error}");
        daemon.join().expect("daemon");
    }

    /// Commands that came while a daemon was stopping failed with "connection reset", every second time.
    #[test]
    fn a_daemon_that_ends_with_the_greeting_unread_has_not_taken_it() {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let daemon = thread::spawn(move || {
            let mut there = [PollFd::new(&theirs, PollFlags::IN)];
            poll(&mut there, None).expect("the greeting");
        });
        let error = Client::over(ours).expect_err("nobody answers");
        assert!(matches!(error, ClientError::NotTaken), "{error}");
        daemon.join().expect("daemon");
    }

    #[test]
    fn events_follow_the_confirmation_and_end_with_the_connection() {
        let serve = |stream: &UnixStream| {
            answer(stream, Ok(Answer::Done));
            write_frame(stream, &Event::Subscribed).expect("sent");
            write_frame(stream, &Event::Shutdown).expect("sent");
        };
        let events = with_daemon(serve, |client| {
            let events = client.subscribe().expect("subscribed");
            events.collect::<Result<Vec<_>, _>>().expect("whole frames")
        });
        assert_eq!(events, vec![Event::Subscribed, Event::Shutdown]);
    }

    #[test]
    fn no_socket_is_a_connect_error_with_its_path() {
        let error = Client::connect(Path::new("/nonexistent/daemon.sock")).expect_err("nothing there");
        assert!(
            matches!(error, ClientError::Connect { ref source, .. } if source.kind() == io::ErrorKind::NotFound)
        );
        assert!(error.to_string().contains("/nonexistent/daemon.sock"));
    }
}
