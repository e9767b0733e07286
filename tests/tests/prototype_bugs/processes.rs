//! What BranchContext, the prototype's library, did not do for the processes of branches.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use branchfs_tests::{Workspace, is_dead, wait_until_readable};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// Who has the other end of a pipe in the filesystem open: processes in any namespace.
struct Witness {
    path: PathBuf,
    end: File,
}

impl Witness {
    fn new(workspace: &Workspace, name: &str) -> Witness {
        let path = workspace.outside().join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        let end = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        Witness { path, end }
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what was written; then whoever wrote must have gone, and everybody it started.
    fn assert_nobody_is_left(&mut self, wrote: &str) {
        let mut heard = vec![0; wrote.len()];
        self.end.read_exact(&mut heard).unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), wrote);
        assert!(is_dead(&self.end), "somebody still has it open");
        assert_eq!(self.end.read(&mut heard).unwrap(), 0);
    }
}

fn workspace() -> Option<Workspace> {
    Workspace::over(|base| std::fs::write(base.join("file"), "base\n").unwrap())
}

/// A shell line that shows itself at the witness, sleeps, and leaves a descendant in a session of its own.
fn sleeper(witness: &Witness, ready: &Path) -> String {
    format!(
        "exec 3>'{}'; setsid sh -c 'trap \"\" TERM HUP INT; echo here >&3; echo go >\"$0\"; sleep 1000; :' '{}' & \
         trap '' TERM; sleep 1000; :",
        witness.path().display(),
        ready.display()
    )
}

/// Losers ran on and on; a descendant that had called setsid outlived even the end of the whole exploration.
#[test]
fn the_losers_of_an_explore_and_their_descendants_are_dead_when_it_returns() {
    let Some(workspace) = workspace() else { return };
    let mut witness = Witness::new(&workspace, "witness");
    let ready = workspace.outside().join("ready");
    mknodat(CWD, &ready, FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let loser = sleeper(&witness, &ready);
    // The winner wins once the loser's descendant stands.
    let winner = format!("read go <'{}' && echo won >file", ready.display());
    let json = workspace.ok(&["--json", "explore", "--cmd", &loser, "--cmd", &winner]);
    witness.assert_nobody_is_left("here\n");
    assert!(json.contains(r#""winner""#), "{json}");
    assert_eq!(std::fs::read_to_string(workspace.base().join("file")).unwrap(), "won\n");
    assert_eq!(workspace.names(), ["main"]);
}

#[test]
fn a_commit_from_elsewhere_kills_what_runs_in_the_losers() {
    let Some(workspace) = workspace() else { return };
    workspace.ok(&["create", "winner", "loser"]);
    let mut witness = Witness::new(&workspace, "witness");
    let line = format!("exec 3>'{}'; echo here >&3; sleep 1000; :", witness.path().display());
    let mut run = workspace.command(&["run", "--branch", "loser", "--", "sh", "-c", &line]);
    let mut run = run.stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until_readable(&witness.end);
    workspace.ok(&["commit", "winner"]);
    witness.assert_nobody_is_left("here\n");
    assert!(!run.wait().unwrap().success());
}

#[test]
fn a_descendant_with_a_session_of_its_own_does_not_survive_its_run() {
    let Some(workspace) = workspace() else { return };
    let mut witness = Witness::new(&workspace, "witness");
    let ready = workspace.outside().join("ready");
    mknodat(CWD, &ready, FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let (witness_path, ready) = (witness.path().display(), ready.display());
    let line = format!(
        "setsid sh -c 'trap \"\" HUP TERM; exec 3>\"{witness_path}\"; echo here >&3; echo >\"{ready}\"; sleep 1000; :' & \
         read go <'{ready}'"
    );
    workspace.ok(&["run", "--", "sh", "-c", &line]);
    witness.assert_nobody_is_left("here\n");
}

/// Results travelled through a pipe nobody read before the end: beyond 64 KiB both sides waited for ever.
#[test]
fn a_large_output_does_not_deadlock() {
    let Some(workspace) = workspace() else { return };
    let output =
        workspace.cli(&["run", "--", "sh", "-c", "head -c 3000000 /dev/zero; head -c 200000 /dev/zero >&2"]);
    assert!(output.status.success(), "{:?}", output.status);
    assert_eq!(output.stdout.iter().filter(|byte| **byte == 0).count(), 3_000_000);
    assert_eq!(output.stderr.iter().filter(|byte| **byte == 0).count(), 200_000);
    let line = "head -c 3000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero | tr '\\0' y >&2";
    workspace.ok(&["--json", "explore", "--cmd", &format!("{line}; false"), "--cmd", line]);
}

#[test]
fn a_run_ends_at_its_timeout_with_nobody_left() {
    let Some(workspace) = workspace() else { return };
    let mut witness = Witness::new(&workspace, "witness");
    let line =
        format!("exec 3>'{}'; echo here >&3; echo late >file; sleep 1000; :", witness.path().display());
    let output = workspace.cli(&["run", "--timeout", "2s", "--", "sh", "-c", &line]);
    assert_eq!(output.status.code(), Some(124), "{output:?}");
    witness.assert_nobody_is_left("here\n");
    assert_eq!(workspace.names(), ["main"]);
    assert_eq!(std::fs::read_to_string(workspace.base().join("file")).unwrap(), "base\n");
}

#[test]
fn an_explore_ends_at_its_timeout_with_nobody_left() {
    let Some(workspace) = workspace() else { return };
    let mut witness = Witness::new(&workspace, "witness");
    let line = format!("exec 3>'{}'; echo here >&3; trap '' TERM; sleep 1000; :", witness.path().display());
    let output = workspace.cli(&["explore", "--timeout", "2s", "--cmd", &line, "--cmd", "exit 3"]);
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    witness.assert_nobody_is_left("here\n");
    assert_eq!(workspace.names(), ["main"]);
}

/// Somebody who reads the standard input of the user's terminal or pipe gets it.
#[test]
fn a_run_reads_the_standard_input_of_its_caller() {
    let Some(workspace) = workspace() else { return };
    let mut command = workspace.command(&["run", "--", "sh", "-c", "cat >file"]);
    let mut run =
        command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    run.stdin.take().unwrap().write_all(b"from the caller\n").unwrap();
    assert!(run.wait().unwrap().success());
    assert_eq!(std::fs::read_to_string(workspace.base().join("file")).unwrap(), "from the caller\n");
}
