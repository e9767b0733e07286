//! Policies against a real program that tries what it may not do. The program is this test binary again,
//! which makes the system calls and tells their answers.
#![allow(clippy::unwrap_used)] // also in helpers

mod attempts;
mod calls;
#[path = "../common/mod.rs"]
mod common;
mod explained;
mod files;
mod foretold;
mod ground;
mod table;

use std::path::Path;

use branch_proc::{BranchAccess, Command, Enforcement, PathPattern, Policy, Preset, SpawnError, Step};

use common::{run, sh, stdout_of};
use ground::{Ground, OUTSIDE};
use table::{check, expectations};

#[test]
fn everything_here_holds_for_an_ordinary_user_too() {
    if let Some(outside) = ground::outside() {
        let _guard = ground::hand_over(outside.path());
        common::again_as_an_ordinary_user_with(
            "everything_here_holds_for_an_ordinary_user_too",
            &[(OUTSIDE, outside.path())],
        );
    }
}

/// Not a test of its own: what the groups of the others run.
#[test]
fn the_attempts_themselves() {
    attempts::make_those_asked_for();
    attempts::make_scripted();
}

#[test]
fn without_a_policy_the_attempts_are_not_denied() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: an ordinary user may not do most of it anyway");
        return;
    }
    let Some(ground) = Ground::new() else { return };
    let (answers, _) = attempts::tell_all(ground.command());
    for attempt in expectations() {
        let answer = answers[attempt.name];
        // The view is a mount of its own also without a policy: nothing is moved across it.
        assert!(
            answer == libc::EXDEV || !attempt.denied_by(answer),
            "{}: {answer} without a policy: it shows nothing",
            attempt.name
        );
    }
}

#[test]
fn analyze_allows_and_denies_exactly_what_it_says() {
    check(Preset::Analyze);
}

#[test]
fn edit_allows_and_denies_exactly_what_it_says() {
    check(Preset::Edit);
}

#[test]
fn build_allows_and_denies_exactly_what_it_says() {
    check(Preset::Build);
}

#[test]
fn deploy_allows_and_denies_exactly_what_it_says() {
    check(Preset::Deploy);
}

fn preset(preset: Preset) -> Policy {
    Policy::preset(preset, None).unwrap()
}

#[test]
fn the_terminal_or_file_that_a_program_writes_to_may_be_opened_again() {
    let Some(ground) = Ground::new() else { return };
    let out = std::fs::File::create(ground.outside("out")).unwrap();
    let command = sh("echo one; echo two >> /dev/stdout").policy(preset(Preset::Analyze));
    let mut group = command.stdout(std::os::fd::OwnedFd::from(out)).spawn().unwrap();
    assert!(group.wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(ground.outside("out")).unwrap(), "one\ntwo\n");
}

#[test]
fn a_program_that_the_policy_does_not_let_run_is_an_error_of_the_exec_step() {
    let error = sh("").policy(Policy::new("nothing")).spawn().unwrap_err();
    assert_eq!((error.step, error.errno), (Step::Exec, libc::EACCES));
    assert!(error.hint().contains("fs_exec"), "{error}");
}

#[test]
fn only_programs_of_the_spawn_list_are_executed() {
    let mut policy = preset(Preset::Build);
    policy.spawn = Some(vec!["sh".to_owned(), "cat".to_owned()]);
    let answer = stdout_of(sh("cat /dev/null && echo cat; ls / 2>/dev/null || echo no ls").policy(policy));
    assert_eq!(answer, "cat\nno ls\n");
}

#[test]
fn of_the_callers_environment_only_what_the_policy_names_is_handed_on() {
    let mut policy = preset(Preset::Edit);
    policy.env = vec![branch_proc::NamePattern::new("PATH").unwrap()];
    let names = stdout_of(Command::new(["/usr/bin/env"]).env("GIVEN", "1").policy(policy));
    let mut names: Vec<&str> = names.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["GIVEN", "PATH"]);
}

#[test]
fn a_program_of_root_keeps_the_capabilities_that_the_policy_names_and_no_others() {
    let effective = |preset_: Preset| {
        stdout_of(sh("grep -E '^Cap(Eff|Bnd|Amb)|^NoNewPrivs' /proc/self/status").policy(preset(preset_)))
    };
    let root = rustix::process::geteuid().is_root();
    for (preset, kept) in [(Preset::Analyze, 0b10), (Preset::Edit, 0b1_1011), (Preset::Build, 0b1_1011)] {
        let set = if root { kept } else { 0 };
        assert_eq!(
            effective(preset),
            format!("CapEff:\t{set:016x}\nCapBnd:\t{kept:016x}\nCapAmb:\t{:016x}\nNoNewPrivs:\t1\n", 0),
        );
    }
}

#[test]
fn several_writable_directories_within_each_other_are_no_obstacle() {
    let Some(ground) = Ground::new() else { return };
    std::fs::create_dir_all(ground.outside("a/b/c")).unwrap();
    let pattern = |name: &str| PathPattern::new(ground.outside(name)).unwrap();
    let policy = preset(Preset::Analyze).write(pattern("a/b")).write(pattern("a/b/c")).write(pattern("none"));
    let script = "cd $O/a/b && echo x > c/d && mv c/d e && rm e && ! touch ../f 2>/dev/null && ! mkdir ../../none 2>/dev/null";
    let captured = run(sh(script).env("O", ground.outside("")).policy(policy));
    assert!(captured.outcome.success(), "{}", String::from_utf8_lossy(&captured.stderr.bytes));
}

#[test]
fn this_kernel_says_what_it_enforces_and_a_policy_may_insist() {
    let enforcement = Enforcement::of_this_kernel();
    assert_eq!(branch_proc::host::Report::probe().policies.is_available(), enforcement.is_full());
    let result: Result<_, SpawnError> = sh("").policy(preset(Preset::Build).require_full()).spawn();
    match result {
        Ok(_) => assert!(enforcement.is_full()),
        Err(error) => {
            assert!(!enforcement.is_full());
            assert_eq!((error.step, error.errno), (Step::Landlock, libc::EOPNOTSUPP));
        }
    }
}

#[test]
fn git_make_python_npm_and_cargo_work_under_build() {
    let Some(ground) = Ground::new() else { return };
    let script = r#"
        set -e
        tool() { command -v "$1" >/dev/null 2>&1 && "$1" --version >/dev/null 2>&1; }
        git init -q . && echo x > x && git add x
        git -c user.name=a -c user.email=a@example.org commit -qm x && git log --oneline | grep -q x && echo git
        printf 'all:\n\tcp x y && ./t\n' > Makefile && printf '#!/bin/sh\necho made\n' > t && chmod +x t
        if tool make; then make -s; else echo made; fi
        if tool python3; then python3 -c 'import tempfile,subprocess; tempfile.TemporaryFile(); subprocess.run(["git","status"],check=True,capture_output=True); print("python")'; else echo python; fi
        if tool npm; then printf '{"name":"a","version":"1.0.0","scripts":{"t":"echo npm"}}' > package.json; npm run -s t; else echo npm; fi
    "#;
    let cargo = r#"
        if tool cargo; then cargo -q init --offline --vcs none --name made made && cd made && cargo -q run --offline | grep -q Hello && echo cargo; else echo cargo; fi
    "#;
    let script = format!("{script}{cargo}");
    let home = std::env::var_os("HOME");
    let policy = Policy::preset(Preset::Build, home.as_deref().map(Path::new)).unwrap();
    assert_eq!(policy.branch, BranchAccess::WriteAndExecute);
    let command = ground.bound(sh(&script)).policy(policy).env("HOME", home.unwrap_or_default());
    assert_eq!(stdout_of(command), "git\nmade\npython\nnpm\ncargo\n");
}
