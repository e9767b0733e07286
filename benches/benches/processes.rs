//! What a group costs: starting it on each rung of the ladder beside a plain child and beside bubblewrap, with
//! limits, ending it with 1, 64 and 1,000 processes, freezing it, ending 64 groups at once.
//!
//!     cargo bench -p branchfs-benches --bench processes
//!     BRANCHFS_BENCH_ROUNDS=20 cargo bench -p branchfs-benches --bench processes

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops where it fails")]

use std::fs::File;
use std::io::Read;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use branch_proc::{Command, Group, Limits, Policy, Preset, Rung, Scope, Stdio, kill_all};
use rustix::pipe::{PipeFlags, pipe_with};

const ROUNDS: usize = 300;
/// Rounds of what takes long.
const FEW: usize = 5;
/// Without a move between control groups for so long, the next one waits for a grace period of RCU.
const QUIET: Duration = Duration::from_millis(500);
const MANY_GROUPS: usize = 64;
const RUNGS: [Rung; 3] = [Rung::CgroupV2, Rung::PidNamespace, Rung::Subreaper];

/// What is done, and doing it.
type Row = (String, Box<dyn FnMut()>);

fn main() {
    let rounds = std::env::var("BRANCHFS_BENCH_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    println!("load {}", std::fs::read_to_string("/proc/loadavg").unwrap().trim());
    println!("\n| spawn and wait of true | median | p99 | x a plain child |\n|---|---|---|---|");
    starting(rounds);
    println!("\n| | median | p99 |\n|---|---|---|");
    ending(rounds);
    println!("load {}", std::fs::read_to_string("/proc/loadavg").unwrap().trim());
}

fn starting(rounds: usize) {
    let mut rows: Vec<Row> = vec![("std::process::Command".into(), Box::new(plain))];
    if process::Command::new("bwrap").arg("--version").output().is_ok() {
        rows.push(("bubblewrap, the same namespaces".into(), Box::new(bubblewrap)));
    } else {
        println!("(bubblewrap is not installed)");
    }
    for rung in RUNGS {
        let got = true_().at_most(rung).spawn().unwrap().level().rung;
        if got == rung || rung == Rung::CgroupV2 {
            rows.push((format!("a group, {}", got.name()), Box::new(move || finish(true_().at_most(rung)))));
        }
    }
    rows.push(("a group with limits".into(), Box::new(|| finish(true_().limits(limits())))));
    let scope = Scope::new(&limits());
    if let Ok(scope) = scope {
        rows.push((
            "a group with limits in a scope: a tool call".into(),
            Box::new(move || finish(true_().limits(limits()).within(&scope))),
        ));
    }
    let policy = Policy::preset(Preset::Build, None).unwrap();
    rows.push((
        "a group with a policy (build)".into(),
        Box::new(move || finish(true_().policy(policy.clone()))),
    ));
    // In turn, so that a busy moment of the machine is everybody's.
    let mut times = vec![Vec::new(); rows.len()];
    for _ in 0..rounds {
        for ((_, run), times) in rows.iter_mut().zip(&mut times) {
            times.push(timed(run));
        }
    }
    let base = part(&mut times[0], 50);
    for ((name, _), times) in rows.iter().zip(&mut times) {
        let (median, late) = (part(times, 50), part(times, 99));
        println!(
            "| {name} | {} | {} | {:.1} |",
            shown(median),
            shown(late),
            median.as_secs_f64() / base.as_secs_f64()
        );
    }
    after_quiet(rounds, base);
}

fn after_quiet(rounds: usize, base: Duration) {
    let scope = Scope::new(&limits());
    for (name, kind) in [("a group", 0), ("a group with limits", 1), ("a tool call", 2)] {
        let mut times: Vec<Duration> = (0..rounds.min(40))
            .map(|_| {
                let command = match (kind, &scope) {
                    (0, _) => true_(),
                    (2, Ok(scope)) => true_().limits(limits()).within(scope),
                    _ => true_().limits(limits()),
                };
                thread::sleep(QUIET);
                timed(|| finish(command))
            })
            .collect();
        let (median, late) = (part(&mut times, 50), part(&mut times, 99));
        let ratio = median.as_secs_f64() / base.as_secs_f64();
        println!("| {name}, after {QUIET:?} of quiet | {} | {} | {ratio:.1} |", shown(median), shown(late));
    }
}

fn ending(rounds: usize) {
    for (count, rounds) in [(1, rounds), (64, rounds / 4), (1000, FEW)] {
        for rung in RUNGS {
            let mut times: Vec<Duration> = (0..rounds.max(FEW)).map(|_| killed(count, rung)).collect();
            row(&format!("kill {count} processes, at most {}", rung.name()), &mut times);
        }
    }
    for rung in RUNGS {
        let group = crowd(64, rung);
        let mut freeze: Vec<Duration> = Vec::new();
        let mut thaw: Vec<Duration> = Vec::new();
        for _ in 0..rounds {
            freeze.push(timed(|| group.freeze().unwrap()));
            thaw.push(timed(|| group.thaw().unwrap()));
        }
        row(&format!("freeze 64 processes, at most {}", rung.name()), &mut freeze);
        row(&format!("thaw 64 processes, at most {}", rung.name()), &mut thaw);
    }
    let mut times: Vec<Duration> = (0..rounds.div_ceil(15).max(FEW))
        .map(|_| {
            let mut groups: Vec<Group> = (0..MANY_GROUPS).map(|_| crowd(1, Rung::CgroupV2)).collect();
            timed(|| {
                kill_all(&mut groups).unwrap();
                drop(groups);
            })
        })
        .collect();
    row(&format!("kill and reap {MANY_GROUPS} groups, control groups removed"), &mut times);
}

fn true_() -> Command {
    Command::new(["/bin/true"]).stdin(Stdio::Null)
}

fn limits() -> Limits {
    Limits { memory_max: Some(1 << 30), pids_max: Some(2000), ..Limits::default() }
}

fn finish(command: Command) {
    assert!(command.spawn().unwrap().wait().unwrap().success());
}

fn plain() {
    let status = process::Command::new("/bin/true").stdin(process::Stdio::null()).status();
    assert!(status.unwrap().success());
}

fn bubblewrap() {
    let namespaces = ["--unshare-pid", "--unshare-ipc", "--die-with-parent", "--dev-bind", "/", "/"];
    let rest = ["--proc", "/proc", "--tmpfs", "/dev/shm", "/bin/true"];
    let status =
        process::Command::new("bwrap").args(namespaces).args(rest).stdin(process::Stdio::null()).status();
    assert!(status.unwrap().success());
}

/// A group with so many processes that sleep.
fn crowd(count: usize, rung: Rung) -> Group {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    // The program is one of them.
    let script = "i=1; while [ $i -lt $N ]; do sleep 600 & i=$((i+1)); done; echo; exec sleep 600";
    let command = Command::new(["/bin/sh", "-c", script]).env("N", count.to_string()).stdin(Stdio::Null);
    let group = command.stdout(write).at_most(rung).spawn().unwrap();
    assert_eq!(File::from(read).read(&mut [0]).unwrap(), 1);
    group
}

fn killed(count: usize, rung: Rung) -> Duration {
    let mut group = crowd(count, rung);
    timed(|| assert!(!group.kill().unwrap().success()))
}

fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

fn row(name: &str, times: &mut [Duration]) {
    println!("| {name} | {} | {} |", shown(part(times, 50)), shown(part(times, 99)));
}

fn part(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

fn shown(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
