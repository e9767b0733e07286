//! A group that runs an escaper, the ways to end it, and the two witnesses of that end: a pipe that everybody in it
//! holds, and a look at the environment of every process there is.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use branch_proc::{Command, Exit, Group, Limits, Rung, Stdio, kill_pidfd};
use tempfile::TempDir;

use crate::common::{PATIENCE, Seen, Witness, alone};
use crate::escapers::{ESCAPER, Escaper, MARKER};

const ROUNDS: usize = 4;
const ROUNDS_LONG: usize = 200;

/// How many rounds to go.
pub(crate) fn rounds() -> usize {
    let long = std::env::var_os("BRANCHFS_LONG").is_some_and(|value| value == "1");
    match std::env::var("BRANCHFS_ROUNDS") {
        Ok(text) => text.parse().unwrap(),
        Err(_) if long => ROUNDS_LONG,
        Err(_) => ROUNDS,
    }
}

/// How a group comes to its end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Kill,
    Drop,
    Pidfd,
    /// The program exits and leaves the others behind.
    Own,
}

impl End {
    pub(crate) const ALL: [End; 4] = [End::Kill, End::Drop, End::Pidfd, End::Own];
}

/// An escaper at large.
pub(crate) struct Running {
    pub(crate) group: Group,
    pub(crate) marker: String,
    escaper: Escaper,
    witness: Witness,
    /// Its end tells the program to exit.
    stdin: File,
    dir: TempDir,
}

impl Running {
    /// Returns when all of the escaper's processes have done what they had to do.
    pub(crate) fn start(escaper: Escaper, rung: Rung) -> Running {
        let dir = tempfile::tempdir().unwrap();
        for side in ["base", "view"] {
            fs::create_dir(dir.path().join(side)).unwrap();
            fs::write(dir.path().join(side).join("file"), side).unwrap();
        }
        let (base, view) = (dir.path().join("base"), dir.path().join("view"));
        let marker = marker();
        let alone = alone();
        let (mut witness, write) = Witness::new();
        let (read, stdin) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let command = program(escaper.name(), &marker).bind(view, &base).current_dir(&base).fd(write, 9);
        let command = command.stdin(read).limits(escaper.limits()).at_most(rung);
        let group = command.spawn().unwrap();
        drop(alone);
        witness.wait_for(escaper.processes());
        let said = String::from_utf8_lossy(&witness.text).into_owned();
        assert!(!said.contains('!'), "{escaper:?} on {rung:?} could not do it: {said:?}");
        let seen = survivors(&marker).len();
        assert!(seen >= escaper.processes(), "{escaper:?} on {rung:?}: {seen} seen: the look shows nothing");
        Running { group, marker, escaper, witness, stdin: File::from(stdin), dir }
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.dir.path().join("base")
    }

    pub(crate) fn view(&self) -> PathBuf {
        self.dir.path().join("view")
    }

    pub(crate) fn end(self, end: End) {
        self.end_and(end, || {});
    }

    /// Ends it and looks, without any waiting: whoever says that the group has ended says that nothing is left.
    pub(crate) fn end_and(self, end: End, look: impl FnOnce()) {
        let Running { mut group, marker, escaper, mut witness, stdin, dir } = self;
        let told = format!("{escaper:?}, {end:?}, {:?}", group.level());
        match end {
            End::Kill => assert_eq!(group.kill().unwrap().exit, Exit::Signal(libc::SIGKILL), "{told}"),
            End::Drop => drop(group),
            End::Pidfd => kill_pidfd(group.pidfd().as_fd(), PATIENCE).unwrap(),
            End::Own => {
                drop(stdin);
                assert_eq!(group.wait().unwrap().exit, Exit::Code(0), "{told}");
            }
        }
        assert_eq!(survivors(&marker), Vec::<i32>::new(), "{told}");
        // What was still in the pipe comes first.
        let mut seen = std::iter::repeat_with(|| witness.look(Duration::ZERO));
        let last = seen.find(|seen| !matches!(seen, Seen::Bytes(_)));
        assert_eq!(last, Some(Seen::AllGone), "{told}");
        look();
        drop(dir);
    }

    /// Of processes that are no longer in a group: their end can only be waited for.
    pub(crate) fn wait_until_gone(mut self) {
        while let Seen::Bytes(_) = self.witness.look(PATIENCE) {}
        assert_eq!(self.witness.look(Duration::ZERO), Seen::AllGone);
        assert_eq!(survivors(&self.marker), Vec::<i32>::new());
    }
}

impl Escaper {
    fn limits(self) -> Limits {
        let pids_max = (self == Escaper::Storm).then_some(20);
        Limits { pids_max, ..Limits::default() }
    }
}

/// This binary as an escaper, with nothing said on the way.
pub(crate) fn program(escaper: &str, marker: &str) -> Command {
    let exe = std::env::current_exe().unwrap();
    let arguments = ["--exact", "the_programs_themselves", "--nocapture"].map(Into::into);
    Command::new(std::iter::once(exe.into_os_string()).chain(arguments))
        .env(ESCAPER, escaper)
        .env(MARKER, marker)
        .stdout(Stdio::Null)
}

/// What nobody else has in the environment.
pub(crate) fn marker() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("{}.{}.", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed))
}

/// Everybody on this machine who has the marker in the environment.
pub(crate) fn survivors(marker: &str) -> Vec<i32> {
    let wanted = format!("{MARKER}={marker}");
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        // One that ends meanwhile has none.
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|&byte| byte == 0).any(|variable| variable == wanted.as_bytes())
    })
    .collect()
}

/// The roots of the control group hierarchies in which this user may put processes.
pub(crate) fn cgroup_roots() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let points = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let point = fields.next()?;
        fields.next()?.starts_with("cgroup").then(|| Path::new(point).join("cgroup.procs"))
    });
    points.filter(|procs| rustix::fs::access(procs, rustix::fs::Access::WRITE_OK).is_ok()).collect()
}
