//! The documented cases of `branch()` as C programs, over a real daemon and its views. After each nothing is left: no
//! branch, no process.
#![allow(clippy::unwrap_used)] // also in helpers

use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;

use branch_proto::{Children, Event, GroupKind};
use branchfs_tests::{Ordinary, Workspace, binary, cannot};
use rustix::process::{Pid, Signal, kill_process};

/// Rounds of the test whose daemon is killed.
const KILLS: u32 = 5;

/// Where libbranch.so of this build is. As for the `branchfs` program, cargo is asked for it: for a test it only builds
/// what is linked.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let profile = binary().parent().unwrap();
        if let Some(cargo) = std::env::var_os("CARGO") {
            let mut build = Command::new(cargo);
            build.args(["build", "--quiet", "-p", "libbranch"]).current_dir(env!("CARGO_MANIFEST_DIR"));
            if profile.ends_with("release") {
                build.arg("--release");
            }
            assert!(build.arg("--target-dir").arg(profile.parent().unwrap()).status().unwrap().success());
        }
        assert!(profile.join("libbranch.so").exists());
        profile.to_owned()
    })
}

/// Compiles a program of ours into `to`; None where there is no C compiler.
fn compile(source: &str, to: &Path) -> Option<()> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror", "-o"]).arg(to);
    cc.arg("-I").arg(ours.join("include")).arg(ours.join(source)).arg("-L").arg(library());
    // The one beside it first: this build may lie where an ordinary user cannot look.
    cc.arg("-lbranch").arg(format!("-Wl,-rpath,$ORIGIN:{}", library().display()));
    match cc.output() {
        Err(error) => {
            cannot(&format!("no C compiler: {error}"));
            None
        }
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(())
        }
    }
}

/// Runs a program of ours in a workspace, from the base.
fn run(workspace: &Workspace, program: &Path, args: &[&str]) -> Output {
    command(workspace, program, args).output().unwrap()
}

fn command(workspace: &Workspace, program: &Path, args: &[&str]) -> Command {
    let mut path = binary().parent().unwrap().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    command.args(args).current_dir(workspace.base()).env("PATH", path);
    command
}

/// The program that makes children which wait for their end, and its standard output.
fn hold(workspace: &Workspace, program: &Path) -> (Child, ChildStdout) {
    let mut holding = command(workspace, program, &["hold"]).stdout(Stdio::piped()).spawn().unwrap();
    let out = holding.stdout.take().unwrap();
    (holding, out)
}

/// Compiles and runs a case; nothing is left of it but what it has committed.
fn case(args: &[&str]) {
    let Some(workspace) = Workspace::new() else { return };
    let program = workspace.outside().join("cases");
    let Some(()) = compile("tests/c/cases.c", &program) else { return };
    let output = run(&workspace, &program, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {}: {said}", output.status);
    assert_eq!(workspace.names(), ["main"]);
}

#[test]
fn the_parent_gets_0_and_child_i_gets_i() {
    case(&["numbers"]);
}

#[test]
fn a_commit_lands_in_the_base() {
    case(&["commits"]);
}

#[test]
fn an_abort_and_an_end_without_a_commit_leave_nothing() {
    case(&["aborts"]);
}

#[test]
fn the_parents_memory_is_unchanged() {
    case(&["memory"]);
}

#[test]
fn the_second_committer_is_stale_or_dead() {
    case(&["stale"]);
}

#[test]
fn closed_descriptors_are_bad_and_the_child_can_commit() {
    case(&["closed"]);
}

#[test]
fn what_makes_no_sense_is_refused_with_its_error() {
    case(&["invalid"]);
}

#[test]
fn a_child_makes_children_whose_winner_it_commits() {
    case(&["nested"]);
}

#[test]
fn sixty_four_children_have_files_of_their_own() {
    case(&["sixty_four"]);
}

#[test]
fn of_children_that_all_commit_one_wins_in_each_of_100_rounds() {
    case(&["race", "100"]);
}

/// The daemon is killed when it has made the branches: before it has answered, or while their groups are attached one
/// after the other. The caller hears of it; neither branch nor process is left, whoever saw to that: the caller, who
/// has another daemon started, or that one by itself.
#[test]
fn of_a_create_whose_daemon_is_killed_in_the_middle_nothing_is_left() {
    let Some(workspace) = Workspace::new() else { return };
    let program = workspace.outside().join("cases");
    let Some(()) = compile("tests/c/cases.c", &program) else { return };
    let mut failed = 0;
    for _ in 0..KILLS {
        let mut events = workspace.subscribe();
        let daemon = workspace.daemon();
        let output = std::thread::scope(|scope| {
            let running = scope.spawn(|| run(&workspace, &program, &["killed"]));
            while !matches!(Workspace::next(&mut events), Event::Forked { .. }) {}
            let watched = branchfs_tests::pidfd(daemon);
            kill_process(Pid::from_raw(daemon).unwrap(), Signal::KILL).unwrap();
            branchfs_tests::wait_dead(watched);
            running.join().unwrap()
        });
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(0 | 3)), "{}: {said}", output.status);
        failed += u32::from(output.status.code() == Some(3));
        assert_eq!(workspace.names(), ["main"]);
    }
    assert!(failed > 0, "every kill came too late");
}

/// The groups were the killed daemon's to end, and with them the branches: the next one does it, also where all of the
/// groups have ended before it starts.
#[test]
fn what_a_killed_daemon_was_to_end_the_next_one_ends() {
    let Some(workspace) = Workspace::new() else { return };
    let program = workspace.outside().join("cases");
    let Some(()) = compile("tests/c/cases.c", &program) else { return };
    for caller_lives in [true, false] {
        let (mut holding, mut out) = hold(&workspace, &program);
        let mut made = [0; 5];
        out.read_exact(&mut made).unwrap();
        assert_eq!(workspace.names().len(), 65);
        workspace.kill_daemon();
        if !caller_lives {
            holding.kill().unwrap();
            // Its end is that of the last process that writes there.
            out.read_to_end(&mut Vec::new()).unwrap();
        }
        assert_eq!(workspace.names(), ["main"], "caller lives: {caller_lives}");
        assert_eq!(holding.wait().unwrap().success(), caller_lives, "its children were killed");
    }
}

/// The caller is killed when its branches are made: before it hears of them, while it makes the processes, or while it
/// attaches them.
#[test]
fn of_a_caller_that_is_killed_in_the_middle_of_a_create_nothing_is_left() {
    let Some(workspace) = Workspace::new() else { return };
    let program = workspace.outside().join("cases");
    let Some(()) = compile("tests/c/cases.c", &program) else { return };
    let mut in_time = 0;
    for _ in 0..KILLS {
        let mut events = workspace.subscribe();
        let (mut holding, mut out) = hold(&workspace, &program);
        let mut left = loop {
            if let Event::Forked { branches, .. } = Workspace::next(&mut events) {
                break branches;
            }
        };
        holding.kill().unwrap();
        let mut said = Vec::new();
        out.read_to_end(&mut said).unwrap();
        in_time += u32::from(said.is_empty());
        while !left.is_empty() {
            if let Event::Ended { branch, .. } = Workspace::next(&mut events) {
                left.retain(|name| *name != branch);
            }
        }
        assert_eq!(workspace.names(), ["main"]);
        holding.wait().unwrap();
    }
    assert!(in_time > 0, "every kill came too late");
}

/// What the daemon does of it, without chance.
#[test]
fn a_branch_ends_with_its_maker_until_a_group_is_attached() {
    let Some(workspace) = Workspace::new() else { return };
    let sleeper = || Command::new("sleep").arg("1000").spawn().unwrap();
    let end = |mut process: Child| {
        process.kill().unwrap();
        process.wait().unwrap()
    };
    let mut client = workspace.client();
    for daemon_lives in [true, false] {
        let (maker, group) = (sleeper(), sleeper());
        let (pid, maker_pid) = (i32::try_from(group.id()).unwrap(), i32::try_from(maker.id()).unwrap());
        let (held, watched) = (branchfs_tests::pidfd(pid), branchfs_tests::pidfd(maker_pid));
        let names = ["attached".to_owned(), "alone".to_owned()];
        client.create_for(&names, "main", GroupKind::Independent, watched.as_fd()).unwrap();
        client.attach("attached", pid, held.as_fd()).unwrap();
        let alone = client.inspect("alone").unwrap();
        assert_eq!(alone.groups, 0, "who makes a branch is not in it");
        if !daemon_lives {
            // With the maker alive: what it would attach now had a view of the dead daemon.
            workspace.kill_daemon();
            client = workspace.client();
            assert_eq!(workspace.names(), ["main", "attached"]);
        }
        end(maker);
        assert_eq!(workspace.names(), ["main", "attached"]);
        end(group);
        client.abort("attached", Children::Refuse).unwrap();
    }
    let late = sleeper();
    let gone = branchfs_tests::pidfd(i32::try_from(late.id()).unwrap());
    end(late);
    let refused = client.create_for(&["late".to_owned()], "main", GroupKind::Independent, gone.as_fd());
    assert!(refused.unwrap_err().to_string().contains("has ended"));
    assert_eq!(workspace.names(), ["main"]);
}

/// In a user namespace of their own, with views that only the user's processes can see.
#[test]
fn an_ordinary_user_gets_the_same_children() {
    // Building may take its time: before others have to wait for the device.
    library();
    let Some(user) = Ordinary::new() else { return };
    let program = user.bin().join("cases");
    let Some(()) = compile("tests/c/cases.c", &program) else { return };
    std::fs::copy(library().join("libbranch.so"), user.bin().join("libbranch.so")).unwrap();
    let cases =
        ["numbers", "commits", "aborts", "memory", "stale", "closed", "invalid", "nested", "sixty_four"];
    for case in cases.into_iter().chain(["race 20"]) {
        // Nothing of the last one, which would be found in the base.
        user.ok(&format!("rm -f made kept outer inner mine winner; cases {case}"));
        let left = user.ok("branchfs --json list | grep -c '\"parent\":\"' || true");
        assert_eq!(left, "0\n", "branches after {case}");
    }
}

#[test]
fn the_example_explores() {
    let Some(workspace) = Workspace::new() else { return };
    let program = workspace.outside().join("first_wins");
    let Some(()) = compile("example/first_wins.c", &program) else { return };
    let output = run(&workspace, &program, &[]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("has committed"), "{output:?}");
    let answer = std::fs::read_to_string(workspace.base().join("answer")).unwrap();
    assert!(said.contains(&format!("child {} has committed", answer.trim())), "{said}");
    assert_eq!(workspace.names(), ["main"]);
}
