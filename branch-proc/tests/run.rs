//! Running a program in a view: what it sees, and what its caller learns.

#![allow(clippy::unwrap_used)] // test helpers

use std::fs;

use branch_proc::{CaptureOptions, Captured, Command, Exit};

fn sh(script: &str) -> Command {
    Command::new(["/bin/sh", "-c", script])
}

fn run(command: Command) -> Captured {
    command.stdin(branch_proc::Stdio::Null).capture(CaptureOptions::default()).unwrap()
}

fn text(captured: &Captured) -> String {
    assert!(!captured.stdout.truncated());
    String::from_utf8(captured.stdout.bytes.clone()).unwrap()
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
    let (base, view) = (dir.path().join("base"), dir.path().join("view"));
    for (path, content) in [(&base, "base"), (&view, "view")] {
        fs::create_dir(path).unwrap();
        fs::write(path.join("file"), content).unwrap();
    }
    let script = "pwd; cat file; cat $BASE/file; echo new > $BASE/made; echo changed > file";
    let captured = run(sh(script).bind(&view, &base).current_dir(&base).env("BASE", &base));
    assert_eq!(text(&captured), format!("{}\nviewview", base.display()));
    assert_eq!(fs::read_to_string(base.join("file")).unwrap(), "base");
    assert!(!base.join("made").exists());
    assert_eq!(fs::read_to_string(view.join("made")).unwrap(), "new\n");
    assert_eq!(fs::read_to_string(view.join("file")).unwrap(), "changed\n");
}
