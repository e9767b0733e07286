//! What `branch()` costs: a create of 1 and of 4 children until the caller goes on, a child's commit of one file, and an
//! abort by all children until they are reaped, beside a plain fork. Through the C interface, over a mounted workspace
//! whose daemon is a process of its own: this program started again.
//!
//!     cargo bench -p branchfs-benches --bench branch_call
//!     BRANCHFS_BENCH_ROUNDS=20 cargo bench -p branchfs-benches --bench branch_call

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops where it fails")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use branch::branch;
use branch_proto::Client;
use branchfs::daemon;
use branchfs::vfs::Prefetch;
use branchfs::watch::Wish;
use rustix::pipe::{PipeFlags, pipe_with};

const ROUNDS: usize = 200;
const SERVE: &str = "serve";
/// As in `branch.h`.
const BR_CREATE: i32 = 1;
const BR_COMMIT: i32 = 2;
const BR_ABORT: i32 = 3;
const BR_FS_ISOLATE: u32 = 1 | 4;

/// `attr.create` of `branch.h`.
#[repr(C)]
struct Create {
    flags: u32,
    mount_fd: i32,
    n_branches: u32,
    pad: u32,
    child_pids: u64,
    branch_names: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[1..] {
        [verb, top] if verb == SERVE => serve(Path::new(top)),
        _ => measure(),
    }
}

fn serve(top: &Path) {
    let ready = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
    let base = top.join("base");
    let (store, mountpoint) = (base.join(".branchfs"), top.join("mnt"));
    let data = branchfs::fuse::Data::default();
    daemon::serve(daemon::Options {
        store,
        base,
        mountpoint,
        watch: Wish::Best,
        prefetch: Prefetch::On,
        data,
        ready: Some(ready),
    })
    .unwrap();
}

fn start(top: &Path) -> (Child, Client) {
    let me = std::env::current_exe().unwrap();
    let mut process = Command::new(me).arg(SERVE).arg(top).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0];
    process.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    assert_eq!(ready, daemon::READY);
    let socket = top.join("base/.branchfs").join(daemon::SOCKET_NAME);
    (process, Client::connect(&socket).unwrap())
}

fn measure() {
    let rounds = std::env::var("BRANCHFS_BENCH_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    fs::create_dir(&base).unwrap();
    fs::write(base.join("file"), "as it was").unwrap();
    branch_store::init(&base, &base.join(".branchfs")).unwrap();
    let (mut process, mut client) = start(dir.path());
    std::env::set_current_dir(&base).unwrap();
    println!("load {}", fs::read_to_string("/proc/loadavg").unwrap().trim());
    println!("\n| | median | p99 |\n|---|---|---|");
    let mut times = vec![Vec::new(); ROWS.len()];
    // In turn, so that a busy moment of the machine is everybody's.
    for _ in 0..rounds {
        times[0].push(plain_fork());
        for (count, row) in [(1, 1), (4, 4)] {
            let (create, commit) = committing(count);
            times[row].push(create);
            times[row + 1].push(commit);
            times[row + 2].push(aborting(count));
        }
    }
    for (name, times) in ROWS.iter().zip(&mut times) {
        times.sort_unstable();
        let part =
            |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
        println!("| {name} | {:.2} ms | {:.2} ms |", part(50), part(99));
    }
    println!("load {}", fs::read_to_string("/proc/loadavg").unwrap().trim());
    let left = client.list().unwrap();
    assert_eq!(left.len(), 1, "only main is left: {left:?}");
    client.shutdown().unwrap();
    assert!(process.wait().unwrap().success());
}

const ROWS: [&str; 7] = [
    "fork, _exit, waitpid",
    "create of 1 child",
    "its commit of one file",
    "abort by 1 child, until it is reaped",
    "create of 4 children",
    "commit of one file by one of 4, whose siblings die",
    "abort by 4 children, until all are reaped",
];

fn plain_fork() -> Duration {
    let begin = Instant::now();
    // SAFETY: this process has one thread, and the child only exits.
    match unsafe { libc::fork() } {
        0 => exit(0),
        pid => reap(pid),
    }
    begin.elapsed()
}

/// The create, and the commit as the child sees it.
fn committing(count: u32) -> (Duration, Duration) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (number, pids, created) = create(count);
    if number == 1 {
        fs::write("file", "changed").unwrap();
        let begin = Instant::now();
        // SAFETY: a commit takes no structure.
        assert_eq!(unsafe { branch(BR_COMMIT, std::ptr::null_mut(), 0) }, 0);
        let nanos = u64::try_from(begin.elapsed().as_nanos()).unwrap();
        File::from(write).write_all(&nanos.to_ne_bytes()).unwrap();
        exit(0)
    }
    if number > 1 {
        loop {
            // SAFETY: plain system call. It is killed here, when the first one commits.
            unsafe { libc::pause() };
        }
    }
    drop(write);
    let mut nanos = [0; 8];
    File::from(read).read_exact(&mut nanos).unwrap();
    pids.into_iter().for_each(reap);
    (created, Duration::from_nanos(u64::from_ne_bytes(nanos)))
}

/// From the word to the last one's end.
fn aborting(count: u32) -> Duration {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (number, pids, _) = create(count);
    if number > 0 {
        File::from(read).read_exact(&mut [0]).unwrap();
        // SAFETY: an abort takes no structure.
        unsafe { branch(BR_ABORT, std::ptr::null_mut(), 0) };
        exit(1)
    }
    let begin = Instant::now();
    File::from(write).write_all(&vec![0; pids.len()]).unwrap();
    pids.into_iter().for_each(reap);
    begin.elapsed()
}

/// 0 and the children's pids in the parent, which child it is in a child; how long it took.
fn create(count: u32) -> (i64, Vec<i32>, Duration) {
    let mut pids = vec![0; count as usize];
    let mut attr = Create {
        flags: BR_FS_ISOLATE,
        mount_fd: -1,
        n_branches: count,
        pad: 0,
        child_pids: pids.as_mut_ptr() as u64,
        branch_names: 0,
    };
    let begin = Instant::now();
    // SAFETY: the structure is that of the header, with room for all pids; this process has one thread.
    let number = unsafe { branch(BR_CREATE, (&raw mut attr).cast(), size_of::<Create>()) };
    assert!(number >= 0, "{}", std::io::Error::from_raw_os_error(-number as i32));
    (number, pids, begin.elapsed())
}

fn reap(pid: i32) {
    // SAFETY: nothing is stored.
    assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
}

fn exit(code: i32) -> ! {
    // SAFETY: nothing of this process is to be tidied up: it is a copy.
    unsafe { libc::_exit(code) }
}
