//! Tool calls: limits by hint and history, standing still for what matters more, and words for those that were stopped.
#![allow(clippy::unwrap_used)] // also in helpers

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use branch_proc::{
    Call, CallOptions, CallRecord, Command, Enforced, Exit, HINT_VARIABLE, HintSizes, Limit, LimitFrom,
    Limits, MemoryHint, Priority, RunningCall, Stdio, ToolCalls, Verdict,
};
use common::{PATIENCE, Seen, Witness, sh};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PipeFlags;

/// As long as the watching thread waits between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// They measure memory and time, and count what is left: one after the other.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn mib(count: u64) -> u64 {
    count << 20
}

fn calls(joint_mib: u64) -> ToolCalls {
    ToolCalls::new(CallOptions::new(mib(joint_mib))).unwrap()
}

/// Whether the kernel holds limits for groups of this user; says so if not.
fn kernel_holds_limits(calls: &ToolCalls) -> bool {
    let held = calls.limits() == [(Limit::MemoryMax, Enforced::Fully)];
    if !held {
        println!("SKIPPED: no memory controller for this user");
    }
    held
}

fn ends(calls: &ToolCalls, call: Call) -> CallRecord {
    calls.start(call).unwrap().wait().unwrap()
}

/// A command that takes this much memory at once.
fn takes(mebibytes: u64) -> Command {
    let bytes = mib(mebibytes);
    sh(&format!("head -c {bytes} /dev/zero | tail -c {bytes}")).stdin(Stdio::Null).stdout(Stdio::Null)
}

/// A call that holds memory and takes more each time it is told to.
struct Taker {
    call: RunningCall,
    witness: Witness,
    told: File,
}

impl Taker {
    /// Takes `steps` one by one, in mebibytes, the first at once, and ends after the last.
    fn start(calls: &ToolCalls, priority: Priority, steps: &[u64]) -> Taker {
        let (witness, write) = Witness::new();
        let (read, told) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
        let step = |mebibytes: &u64| format!("head -c {} /dev/zero; echo >&9; read go <&8;", mib(*mebibytes));
        let steps: String = steps.iter().map(step).collect();
        // It keeps what it is given until the end of its input.
        let command = sh(&format!("{{ {steps} }} | tail -c 100G >/dev/null"));
        let command = command.stdin(Stdio::Null).fd(write, 9).fd(read, 8);
        let call = calls.start(Call::new(command).priority(priority)).unwrap();
        let mut taker = Taker { call, witness, told: File::from(told) };
        taker.witness.wait_for(1);
        taker
    }

    fn tell(&mut self) {
        self.told.write_all(b"go\n").unwrap();
    }

    /// Returns when it has taken its next step.
    fn step(&mut self) {
        self.tell();
        self.witness.wait_for(1);
    }

    /// Lets it end after its last step.
    fn end(mut self) -> CallRecord {
        self.tell();
        self.call.wait().unwrap()
    }

    /// Whether nothing of it is left after `time`.
    fn is_gone(&self, time: Duration) -> bool {
        let pidfd = self.call.pidfd();
        let mut watched = [PollFd::new(&pidfd, PollFlags::IN)];
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
        rustix::event::poll(&mut watched, Some(&timeout)).unwrap() > 0
    }

    /// Until it has stood still for some time. Nothing tells when it begins to.
    fn wait_until_frozen(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.call.frozen().is_zero() {
            assert!(!self.is_gone(LOOK) && Instant::now() < deadline, "it was not frozen");
        }
    }
}

#[test]
fn everything_here_holds_for_an_ordinary_user_too() {
    common::again_as_an_ordinary_user("everything_here_holds_for_an_ordinary_user_too");
}

#[test]
fn a_call_gets_what_its_hint_says_and_a_bad_hint_is_told_and_not_followed() {
    let _one = one_at_a_time();
    let sizes = HintSizes { low: mib(32), ..HintSizes::default() };
    let default_memory = Some(mib(48));
    let calls = ToolCalls::new(CallOptions { sizes, default_memory, ..CallOptions::new(mib(256)) }).unwrap();
    let hinted = |hint: &str| ends(&calls, Call::new(sh("exit 3").env(HINT_VARIABLE, hint)));
    let record = hinted("memory:low");
    assert_eq!((record.limits.memory_max, record.limit_from), (Some(mib(32)), LimitFrom::Hint));
    assert_eq!((record.outcome.exit, record.verdict, record.advice), (Exit::Code(3), Verdict::Ended, None));
    let record = hinted("memory:high");
    assert_eq!(record.limits.memory_max, Some(mib(256)), "no more than all together");
    let record =
        ends(&calls, Call::new(sh("").env(HINT_VARIABLE, "memory:low")).hint(MemoryHint::Bytes(mib(64))));
    assert_eq!(record.limits.memory_max, Some(mib(64)), "the caller's own word goes first");
    let record = ends(&calls, Call::new(Command::new(["true"]).env(HINT_VARIABLE, "plenty")));
    assert_eq!((record.limits.memory_max, record.limit_from), (Some(mib(48)), LimitFrom::Default));
    assert_eq!(record.hint_error.unwrap().hint, "plenty");
    assert!(record.advice.unwrap().contains("\"plenty\" is no resource hint: use memory:low"));
    let limits = Limits { memory_max: Some(mib(40)), ..Limits::default() };
    let record = ends(&calls, Call::new(sh("").limits(limits)).hint(MemoryHint::Low));
    assert_eq!((record.limits.memory_max, record.limit_from), (Some(mib(40)), LimitFrom::Command));
}

#[test]
fn a_call_over_its_limit_gets_words_and_more_the_next_time() {
    let _one = one_at_a_time();
    let calls = calls(400);
    if !kernel_holds_limits(&calls) {
        return;
    }
    let record = ends(&calls, Call::new(takes(100)).hint(MemoryHint::Bytes(mib(32))));
    assert_eq!(
        (record.outcome.exit, record.verdict),
        (Exit::Code(128 + 9), Verdict::OverLimit),
        "{record:?}"
    );
    let advice = record.advice.unwrap();
    let expected =
        "this call was stopped after using 32 MiB, its limit; rerun with AGENT_RESOURCE_HINT=memory:64M";
    assert!(advice.starts_with(expected), "{advice}");
    let record = ends(&calls, Call::new(takes(50)));
    assert_eq!((record.limit_from, record.verdict), (LimitFrom::History, Verdict::Ended), "{record:?}");
    assert!(record.limits.memory_max.is_some_and(|max| max > mib(120) && max <= mib(128)), "{record:?}");
    let known = calls.history();
    drop(calls);
    let calls = ToolCalls::new(CallOptions { history: known, ..CallOptions::new(mib(400)) }).unwrap();
    assert_eq!(ends(&calls, Call::new(takes(1))).limit_from, LimitFrom::History);
}

#[test]
fn what_matters_less_stands_still_while_memory_is_short_and_then_goes_on_to_its_end() {
    let _one = one_at_a_time();
    let calls = calls(240);
    let low = Taker::start(&calls, Priority::Low, &[70]);
    let mut high = Taker::start(&calls, Priority::High, &[60, 75]);
    high.step();
    low.wait_until_frozen();
    let high = high.end();
    assert_eq!(
        (high.verdict, high.outcome.exit, high.frozen),
        (Verdict::Ended, Exit::Code(0), Duration::ZERO),
        "{high:?}"
    );
    let low = low.end();
    assert_eq!(
        (low.verdict, low.outcome.exit, &low.trouble),
        (Verdict::Ended, Exit::Code(0), &None),
        "{low:?}"
    );
    assert!(low.frozen > Duration::ZERO && low.frozen <= low.outcome.wall, "{low:?}");
    assert!(low.peak.is_some_and(|peak| peak >= mib(60)), "{low:?}");
}

#[test]
fn the_lowest_is_killed_last_of_all_and_nobody_else() {
    let _one = one_at_a_time();
    let calls = calls(240);
    if !kernel_holds_limits(&calls) {
        return;
    }
    let mut beside = sh("exec sleep 60").spawn().unwrap();
    let first = Taker::start(&calls, Priority::Low, &[50]);
    let second = Taker::start(&calls, Priority::Low, &[50]);
    let steps: Vec<u64> = std::iter::once(50).chain([5; 17]).collect();
    let mut high = Taker::start(&calls, Priority::High, &steps);
    for _ in 1..steps.len() {
        high.step();
        // Each step is seen by itself.
        if second.is_gone(8 * LOOK) {
            break;
        }
    }
    assert!(second.is_gone(Duration::ZERO) && !first.is_gone(Duration::ZERO));
    let record = second.call.wait().unwrap();
    assert_eq!((record.verdict, record.outcome.exit), (Verdict::GaveWay, Exit::Signal(9)), "{record:?}");
    assert!(record.frozen > Duration::ZERO, "it was not frozen first: {record:?}");
    assert!(record.advice.is_some_and(|words| words.contains("to make room for calls that matter more")));
    assert!(!high.is_gone(Duration::ZERO));
    drop(high);
    let record = first.end();
    assert_eq!((record.verdict, record.outcome.exit), (Verdict::Ended, Exit::Code(0)), "{record:?}");
    assert_eq!(beside.wait_timeout(Duration::ZERO).unwrap(), None);
}

#[test]
fn a_call_is_stopped_when_its_time_is_up() {
    let _one = one_at_a_time();
    let calls = calls(100);
    let call = Call::new(sh("exec sleep 60")).timeout(Duration::from_millis(50));
    let record = ends(&calls, call);
    assert_eq!(
        (record.verdict, record.outcome.exit),
        (Verdict::TimedOut, Exit::Signal(libc::SIGTERM)),
        "{record:?}"
    );
    assert!(record.advice.is_some_and(|words| words.contains("its time limit")));
    let record = ends(&calls, Call::new(sh("exit 4")).timeout(PATIENCE));
    assert_eq!((record.verdict, record.outcome.exit), (Verdict::Ended, Exit::Code(4)), "{record:?}");
}

#[test]
fn what_a_call_writes_is_kept_up_to_its_cap_and_never_waited_for() {
    let _one = one_at_a_time();
    let calls = calls(100);
    let script = "printf 12345; head -c 300000 /dev/zero >&2; exit 3";
    let call = calls.start(Call::new(sh(script)).capture(4)).unwrap();
    let (record, [stdout, stderr]) = call.wait_with_output().unwrap();
    assert_eq!(record.outcome.exit, Exit::Code(3));
    assert_eq!((stdout.bytes.as_slice(), stdout.total), (&b"1234"[..], 5));
    assert!(stderr.truncated() && stderr.total == 300_000, "{}", stderr.total);

    let call = Call::new(sh("echo before; exec sleep 60")).capture(100).timeout(Duration::from_millis(50));
    let (record, [stdout, _]) = calls.start(call).unwrap().wait_with_output().unwrap();
    assert!(record.outcome.timed_out && stdout.bytes == b"before\n", "{record:?}");

    let call = calls.start(Call::new(sh("exit 0"))).unwrap();
    assert_eq!(call.wait_with_output().unwrap().1.map(|output| output.total), [0, 0]);
}

#[test]
fn neither_a_thread_nor_a_process_nor_a_control_group_is_left() {
    let _one = one_at_a_time();
    let calls = calls(100);
    let (mut witness, write) = Witness::new();
    let command = sh("setsid sleep 60 & echo >&9; exec sleep 60").stdin(Stdio::Null).fd(write, 9);
    let running = calls.start(Call::new(command)).unwrap();
    witness.wait_for(1);
    assert_eq!(watchers(), 1);
    drop(running);
    assert_eq!(witness.look(PATIENCE), Seen::AllGone);
    drop(calls);
    assert_eq!(watchers(), 0);
    let name = format!("branchfs.{}.*", std::process::id());
    let left = std::process::Command::new("find").args(["/sys/fs/cgroup", "-name", &name]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

/// Threads of this process that watch calls.
fn watchers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    // A thread may end meanwhile.
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.map(name).filter(|name| name == "tool-calls\n").count()
}
