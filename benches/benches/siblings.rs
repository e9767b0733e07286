//! How long stat(2) in a mounted sibling takes while 20,000 changed files are committed into the base, against the
//! same while nothing happens. The daemon is a process of its own: this program started again.
//!
//!     cargo bench -p branchfs-benches --bench siblings

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops where it fails")]

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use branch_proto::{Client, GroupKind};
use branchfs::daemon;
use rustix::fs::{AtFlags, StatxFlags, statx};

const FILES: usize = 20_000;
const FILES_PER_DIR: usize = 100;
const ROUNDS: usize = 5;
const IDLE: Duration = Duration::from_secs(1);
const SERVE: &str = "serve";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[1..] {
        [verb, top] if verb == SERVE => serve(Path::new(top)),
        _ => compare(),
    }
}

fn serve(top: &Path) {
    let ready = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
    let base = top.join("base");
    daemon::serve(daemon::Options {
        store: base.join(".branchfs"),
        base,
        mountpoint: top.join("mnt"),
        prefetch: branchfs::vfs::Prefetch::On,
        watch: branchfs::watch::Wish::Best,
        data: branchfs::fuse::Data::default(),
        ready: Some(ready),
    })
    .unwrap();
}

struct Daemon {
    process: Child,
    client: Client,
}

impl Daemon {
    fn start(top: &Path) -> Daemon {
        let me = std::env::current_exe().unwrap();
        let process = Command::new(me).arg(SERVE).arg(top).stdout(Stdio::piped()).spawn();
        let mut process = process.unwrap();
        let mut ready = [0];
        process.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        assert_eq!(ready, daemon::READY);
        let socket = top.join("base/.branchfs").join(daemon::SOCKET_NAME);
        Daemon { process, client: Client::connect(&socket).unwrap() }
    }

    fn stop(mut self) {
        self.client.shutdown().unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

fn compare() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    for i in 0..FILES {
        let file = base.join(path(i));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "as it was").unwrap();
    }
    branch_store::init(&base, &base.join(".branchfs")).unwrap();
    let mut daemon = Daemon::start(dir.path());
    daemon.client.create(&["sibling".to_owned()], "main", GroupKind::Independent).unwrap();
    println!("stat of {FILES} files in turn, in microseconds: half / 99 % / all are as quick as");
    println!("{:<14} {:>22} {:>28} {:>7} {:>10}", "", "idle", "during the commit", "p99 x", "commit");
    let mut ratios = [const { Vec::new() }; 2];
    for round in 0..ROUNDS {
        for (kind, ratios) in [Kind::Cached, Kind::Asked].into_iter().zip(&mut ratios) {
            ratios.push(measure(&mut daemon.client, dir.path(), kind, &format!("{kind:?}-{round}")));
        }
    }
    for (kind, mut ratios) in [Kind::Cached, Kind::Asked].into_iter().zip(ratios) {
        ratios.sort_by(f64::total_cmp);
        println!("{kind:?}: p99 during the commit is {:.2} x idle (median)", ratios[ratios.len() / 2]);
    }
    daemon.stop();
}

/// Who answers.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The kernel, if it still may.
    Cached,
    /// Always the daemon.
    Asked,
}

fn measure(client: &mut Client, top: &Path, kind: Kind, name: &str) -> f64 {
    client.create(&[name.to_owned()], "main", GroupKind::Independent).unwrap();
    for i in 0..FILES {
        fs::write(top.join("mnt").join(name).join(path(i)), name).unwrap();
    }
    let sibling = top.join("mnt/sibling");
    // Everything once, so that both times find what can be known.
    stats(&sibling, kind, |done| done == FILES);
    let start = Instant::now();
    let mut idle = stats(&sibling, kind, |_| start.elapsed() > IDLE);
    let done = AtomicBool::new(false);
    let (mut busy, took) = std::thread::scope(|scope| {
        let committed = scope.spawn(|| {
            let start = Instant::now();
            let report = client.commit(name);
            done.store(true, Ordering::Release);
            report.unwrap();
            start.elapsed()
        });
        let busy = stats(&sibling, kind, |_| done.load(Ordering::Acquire));
        (busy, committed.join().unwrap())
    });
    idle.sort();
    busy.sort();
    let ratio = part(&busy, 99) / part(&idle, 99);
    println!(
        "{:<14} {:>22} {:>28} {ratio:>7.2} {took:>10.1?}",
        format!("{kind:?}"),
        shown(&idle),
        shown(&busy)
    );
    ratio
}

/// Times of stats, until it is over.
fn stats(top: &Path, kind: Kind, over: impl Fn(usize) -> bool) -> Vec<Duration> {
    let top = File::open(top).unwrap();
    let flags = match kind {
        Kind::Cached => AtFlags::empty(),
        Kind::Asked => AtFlags::STATX_FORCE_SYNC,
    };
    let mut times = Vec::new();
    let paths: Vec<PathBuf> = (0..FILES).map(path).collect();
    for path in paths.iter().cycle() {
        let start = Instant::now();
        statx(&top, path, flags, StatxFlags::BASIC_STATS).unwrap();
        times.push(start.elapsed());
        if over(times.len()) {
            break;
        }
    }
    times
}

fn path(i: usize) -> PathBuf {
    // Far apart: neighbours would be in one directory.
    let at = (i * 7919) % FILES;
    PathBuf::from(format!("d{}/f{at}", at / FILES_PER_DIR))
}

/// In microseconds.
fn part(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len() - 1);
    sorted[at].as_secs_f64() * 1e6
}

fn shown(sorted: &[Duration]) -> String {
    format!("{:.1} / {:.1} / {:.0}", part(sorted, 50), part(sorted, 99), part(sorted, 100))
}
