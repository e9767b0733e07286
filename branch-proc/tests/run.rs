//! Running a program in a view: what it sees, and what its caller learns.
#![allow(clippy::unwrap_used)] // also in helpers

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use branch_proc::{
    CaptureError, CaptureOptions, Command, Exit, Outcome, ProcView, Signal, Stdio, Step, Stream,
    UserNamespace, host,
};
use rustix::event::{PollFd, PollFlags};

use common::{PATIENCE, Witness, run, sh, stdout_of};

/// A base and a view next to each other, each with a file that names it.
fn base_and_view(dir: &Path) -> (PathBuf, PathBuf) {
    let pair = (dir.join("base"), dir.join("view"));
    for (path, content) in [(&pair.0, "base"), (&pair.1, "view")] {
        fs::create_dir(path).unwrap();
        fs::write(path.join("file"), content).unwrap();
    }
    pair
}

#[test]
fn everything_here_holds_for_an_ordinary_user_too() {
    common::again_as_an_ordinary_user("everything_here_holds_for_an_ordinary_user_too");
}

#[test]
fn the_exit_code_is_passed_through() {
    for code in [0, 3, 255] {
        let mut group = sh(&format!("exit {code}")).spawn().unwrap();
        let outcome = group.wait().unwrap();
        assert_eq!((outcome.exit, outcome.shell_code()), (Exit::Code(code), code));
        assert_eq!(group.wait().unwrap(), outcome, "waiting again gives the same");
    }
}

#[test]
fn death_by_signal_is_passed_through() {
    for signal in [9, 15, 11] {
        let outcome = sh(&format!("kill -{signal} $$")).spawn().unwrap().wait().unwrap();
        assert_eq!((outcome.exit, outcome.shell_code()), (Exit::Signal(signal), 128 + signal));
    }
}

#[test]
fn the_view_is_seen_at_the_bases_own_path_and_the_base_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (base, view) = base_and_view(dir.path());
    let script = "pwd; cat file; cat $BASE/file; echo new > $BASE/made; echo changed > file";
    let seen = stdout_of(sh(script).bind(&view, &base).current_dir(&base).env("BASE", &base));
    assert_eq!(seen, format!("{}\nviewview", base.display()));
    assert_eq!(fs::read_to_string(base.join("file")).unwrap(), "base");
    assert!(!base.join("made").exists());
    assert_eq!(fs::read_to_string(view.join("made")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(view.join("file")).unwrap(), "changed\n");
}

#[test]
fn a_program_that_exists_only_in_the_view_is_found_through_path() {
    let dir = tempfile::tempdir().unwrap();
    let (base, view) = base_and_view(dir.path());
    fs::write(view.join("tool"), "#!/bin/sh\necho from the view\n").unwrap();
    fs::set_permissions(view.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("/nowhere:{}:/usr/bin:/bin", base.display());
    assert_eq!(stdout_of(Command::new(["tool"]).bind(&view, &base).env("PATH", path)), "from the view\n");
}

#[test]
fn the_program_keeps_its_user_and_sees_only_its_own_processes() {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    assert_eq!(stdout_of(sh("id -u; id -g")), format!("{uid}\n{gid}\n"));

    let mut group = sh("exit 0").spawn().unwrap();
    let level = group.level().clone();
    group.wait().unwrap();
    assert_eq!(level.user == UserNamespace::Callers, rustix::process::geteuid().is_root());
    if level.proc == ProcView::Inherited {
        println!("skipped in part: the kernel refuses a fresh /proc here");
        return;
    }
    assert_eq!(stdout_of(sh("echo $$; echo /proc/[0-9]*")), "2\n/proc/1 /proc/2\n");
}

#[test]
fn the_memory_of_the_caller_cannot_be_read_through_the_init() {
    if rustix::process::geteuid().is_root() {
        println!("skipped: root may read any memory; covered by the run as an ordinary user");
        return;
    }
    for file in ["mem", "environ", "maps"] {
        let captured = run(sh(&format!("cat /proc/1/{file}")));
        assert!(!captured.outcome.success(), "/proc/1/{file} can be read");
        assert_eq!(captured.stdout.total, 0);
    }
}

#[test]
fn signals_start_out_unblocked_and_unignored() {
    // Rust's runtime ignores SIGPIPE in this process; the program must not inherit that.
    let status = stdout_of(sh("grep -E '^Sig(Blk|Ign)' /proc/self/status"));
    assert_eq!(status, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

#[test]
fn no_descriptor_is_inherited_but_those_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("f")).unwrap();
    let leaky = rustix::io::fcntl_dupfd_cloexec(&file, 77).unwrap();
    rustix::io::fcntl_setfd(&leaky, rustix::io::FdFlags::empty()).unwrap();
    // 3 is the directory that ls itself reads.
    assert_eq!(stdout_of(Command::new(["ls", "/proc/self/fd"])), "0\n1\n2\n3\n");
    let passed = OwnedFd::from(file.try_clone().unwrap());
    assert_eq!(stdout_of(Command::new(["ls", "/proc/self/fd"]).fd(passed, 9)), "0\n1\n2\n3\n9\n");
    // Passed on without close-on-exec at a number of its own: only the number asked for arrives.
    assert_eq!(stdout_of(Command::new(["ls", "/proc/self/fd"]).fd(leaky, 5)), "0\n1\n2\n3\n5\n");
}

#[test]
fn passed_descriptors_arrive_under_their_numbers_even_when_these_are_taken() {
    let (mut from_a, a) = pipe();
    let (mut from_b, b) = pipe();
    let (mut from_c, c) = pipe();
    let command = sh("echo a >&3; echo b >&4; echo c >/proc/self/fd/200").stdin(Stdio::Null);
    let mut group = command.fd(a, 3).fd(b, 4).fd(c, 200).spawn().unwrap();
    assert!(group.wait().unwrap().success());
    for (pipe, expected) in [(&mut from_a, "a\n"), (&mut from_b, "b\n"), (&mut from_c, "c\n")] {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        assert_eq!(text, expected);
    }
    let error = sh("").fd(pipe().1, 2).spawn().unwrap_err();
    assert_eq!((error.step, error.errno), (Step::Prepare, libc::EINVAL));
}

fn pipe() -> (File, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (read.into(), write)
}

#[test]
fn the_environment_is_what_was_asked_for() {
    let command = Command::new(["/usr/bin/env"]).env("GONE", "1").env_clear();
    assert_eq!(stdout_of(command.env("A", "1").envs([("B", "2"), ("A", "3")])), "A=3\nB=2\n");
    assert_eq!(stdout_of(sh("echo $PATH")).trim_end(), std::env::var("PATH").unwrap());
}

#[test]
fn a_group_has_its_own_session_unless_it_stays_in_the_foreground() {
    // Field 6 of stat is the session; one outside the pid namespace shows as 0.
    let session = || Command::new(["cut", "-d ", "-f6", "/proc/self/stat"]);
    if sh("").spawn().unwrap().level().proc == ProcView::Inherited {
        println!("skipped: the kernel refuses a fresh /proc here");
        return;
    }
    assert_eq!(stdout_of(session()), "2\n");
    assert_eq!(stdout_of(session().foreground()), "0\n");
}

#[test]
fn a_missing_program_is_an_error_of_the_exec_step() {
    let error = Command::new(["no-such-program-anywhere"]).spawn().unwrap_err();
    assert_eq!((error.step, error.errno), (Step::Exec, libc::ENOENT));
    assert!(
        error.to_string().starts_with("cannot execute no-such-program-anywhere: No such file"),
        "{error}"
    );
    let error = Command::new(["/etc/passwd"]).spawn().unwrap_err();
    assert_eq!((error.step, error.errno), (Step::Exec, libc::EACCES));
}

#[test]
fn a_missing_directory_is_named_with_its_step() {
    let error = sh("").current_dir("/no/such/dir").spawn().unwrap_err();
    assert_eq!((error.step, error.errno, error.thing.as_str()), (Step::Chdir, libc::ENOENT, "/no/such/dir"));

    let dir = tempfile::tempdir().unwrap();
    let error = sh("").bind(dir.path(), dir.path()).bind("/no/view", dir.path()).spawn().unwrap_err();
    assert_eq!((error.step, error.errno), (Step::Bind, libc::ENOENT));
    assert_eq!(error.thing, format!("/no/view over {}", dir.path().display()));
}

#[test]
fn an_empty_command_is_refused() {
    let error = Command::new(Vec::<String>::new()).spawn().unwrap_err();
    assert_eq!((error.step, error.errno), (Step::Prepare, libc::EINVAL));
    assert!(matches!(Command::new([""]).capture(CaptureOptions::default()), Err(CaptureError::Spawn(_))));
}

#[test]
fn ten_megabytes_on_both_streams_are_counted_and_capped_without_deadlock() {
    let size = 10 << 20;
    let script = format!("head -c {size} /dev/zero; head -c {size} /dev/zero >&2; echo end");
    let mut streamed = [0, 0];
    let captured = sh(&script)
        .capture_with(CaptureOptions { cap: 1000, timeout: None }, |stream, piece| {
            streamed[usize::from(stream == Stream::Stderr)] += piece.len();
        })
        .unwrap();
    assert!(captured.outcome.success());
    assert_eq!((captured.stdout.total, captured.stdout.bytes.len()), (size + 4, 1000));
    assert_eq!((captured.stderr.total, captured.stderr.bytes.len()), (size, 1000));
    assert!(captured.stdout.truncated() && captured.stderr.truncated());
    assert_eq!(streamed, [size as usize + 4, size as usize]);
}

#[test]
fn output_up_to_the_cap_is_kept_whole() {
    let captured = sh("printf 12345").capture(CaptureOptions { cap: 5, timeout: None }).unwrap();
    assert_eq!(captured.stdout.bytes, b"12345");
    assert!(!captured.stdout.truncated());
    let captured = sh("printf 12345").capture(CaptureOptions { cap: 4, timeout: None }).unwrap();
    assert_eq!(captured.stdout.bytes, b"1234");
    assert!(captured.stdout.truncated());
}

#[test]
fn a_run_that_is_out_of_time_is_stopped_and_keeps_its_output() {
    let options = CaptureOptions { timeout: Some(Duration::from_millis(300)), ..Default::default() };
    let captured = sh("echo before; sleep 1000").capture(options).unwrap();
    assert!(captured.outcome.timed_out);
    assert_eq!(captured.outcome.exit, Exit::Signal(libc::SIGTERM));
    assert_eq!(captured.stdout.bytes, b"before\n");
}

#[test]
fn one_outcome_says_how_a_group_ended_and_whether_in_time() {
    let mut slow = sh("exec sleep 1000").spawn().unwrap();
    let outcome = slow.time_out(Duration::ZERO).unwrap();
    assert!(outcome.timed_out && outcome.signal() == Some(libc::SIGKILL), "{outcome:?}");
    assert!(!outcome.out_of_memory() && outcome.denials.is_empty());
    let text = serde_json::to_string(&outcome).unwrap();
    assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);

    let mut killed = sh("exec sleep 1000").spawn().unwrap();
    assert!(!killed.kill().unwrap().timed_out, "killed, but not for its time");

    let mut quick = sh("exit 3").spawn().unwrap();
    rustix::event::poll(&mut [PollFd::new(&quick.pidfd(), PollFlags::IN)], None).unwrap();
    let outcome = quick.time_out(PATIENCE).unwrap();
    assert_eq!((outcome.timed_out, outcome.exit, outcome.signal()), (false, Exit::Code(3), None));
}

#[test]
fn signals_reach_the_program_through_the_init() {
    let (mut witness, write) = Witness::new();
    let script = "trap 'exit 42' USR1; echo >&9; sleep 1000 & wait";
    let mut group = sh(script).fd(write, 9).spawn().unwrap();
    witness.wait_for(1);
    assert_eq!(group.wait_timeout(Duration::ZERO).unwrap(), None);
    group.signal(Signal::Usr1).unwrap();
    let outcome = group.wait_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(outcome.exit, Exit::Code(42));
    group.signal(Signal::Term).unwrap();
}

#[test]
fn stop_lets_a_program_end_by_itself_and_kills_one_that_does_not() {
    let stopped = |script: &str, grace| {
        let (mut witness, write) = Witness::new();
        let mut group = sh(script).fd(write, 9).spawn().unwrap();
        witness.wait_for(1);
        group.stop(grace).unwrap().exit
    };
    assert_eq!(stopped("trap 'exit 5' TERM; echo >&9; sleep 1000 & wait", PATIENCE), Exit::Code(5));
    assert_eq!(stopped("echo >&9; sleep 1000", PATIENCE), Exit::Signal(libc::SIGTERM));
    let stubborn = "trap '' TERM; echo >&9; sleep 1000";
    assert_eq!(stopped(stubborn, Duration::from_millis(50)), Exit::Signal(libc::SIGKILL));
}

#[test]
fn usage_is_measured() {
    let (mut to_stdin, from_test) = {
        let (read, write) = pipe();
        (File::from(write), OwnedFd::from(read))
    };
    let mut group =
        sh("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; read x").stdin(from_test).spawn().unwrap();
    assert_eq!(group.wait_timeout(Duration::from_millis(20)).unwrap(), None);
    to_stdin.write_all(b"go\n").unwrap();
    let outcome = group.wait().unwrap();
    assert!(outcome.wall >= Duration::from_millis(20) && outcome.wall < PATIENCE, "{outcome:?}");
    assert!(outcome.user > Duration::ZERO && outcome.user <= outcome.wall * 4, "{outcome:?}");
    assert!(outcome.max_rss > 100 << 10, "{outcome:?}");
}

#[test]
fn many_threads_can_spawn_at_once() {
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for round in 0..10 {
                    let code = thread * 10 + round;
                    let outcome = sh(&format!("exit {code}")).spawn().unwrap().wait().unwrap();
                    assert_eq!(outcome.exit, Exit::Code(code));
                }
            });
        }
    });
}

#[test]
fn a_group_can_have_groups() {
    let exe = std::env::current_exe().unwrap();
    let inner =
        Command::new([exe.as_os_str(), "--exact".as_ref(), "the_exit_code_is_passed_through".as_ref()]);
    assert!(stdout_of(inner).contains("1 passed"));
}

#[test]
fn the_host_report_agrees_with_what_a_spawn_does() {
    let report = host::Report::probe();
    let mut group = sh("").spawn().unwrap();
    assert!(report.groups.is_available());
    assert_eq!(report.user, group.level().user);
    assert_eq!(report.fresh_proc.is_available(), group.level().proc == ProcView::Fresh);
    group.wait().unwrap();
}

#[test]
fn a_private_tmp_is_empty_but_for_the_bound_view_and_nothing_of_it_comes_out() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let (base, view) = base_and_view(dir.path());
    let secret = dir.path().join("secret");
    fs::write(&secret, "theirs").unwrap();
    let script =
        "cat file; test ! -e $SECRET && echo mine > /tmp/made && echo in > $BASE/made; stat -c %a /tmp";
    let command = sh(script).bind(&view, &base).current_dir(&base).env("BASE", &base).env("SECRET", &secret);
    assert_eq!(stdout_of(command.private_tmp()), "view1777\n");
    assert_eq!(fs::read_to_string(view.join("made")).unwrap(), "in\n");
    assert!(!base.join("made").exists() && !Path::new("/tmp/made").exists());
    // The fresh /proc is in its place again.
    assert_eq!(stdout_of(sh("cat /proc/1/comm").current_dir("/").private_tmp()), "branch-init\n");
}
