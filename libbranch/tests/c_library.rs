//! The documented cases of `branch()` as C programs, over a real daemon and its views. After each nothing is left: no
//! branch, no process.
#![allow(clippy::unwrap_used)] // also in helpers

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use branch_proto::Event;
use branchfs_tests::{Workspace, binary, cannot};
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
    cc.arg("-lbranch").arg(format!("-Wl,-rpath,{}", library().display()));
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
    let mut path = binary().parent().unwrap().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    Command::new(program).args(args).current_dir(workspace.base()).env("PATH", path).output().unwrap()
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
