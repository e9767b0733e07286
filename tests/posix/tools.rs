//! The foreign programs: found, installed where that is possible, and in whose absence nothing passes unseen.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use branchfs_tests::skip;
pub(crate) use branchfs_tests::{cannot, long};

/// Whether all of these programs are there, if need be installed. Where not: prints why, and fails if the
/// environment demands that nothing is skipped.
pub(crate) fn have(programs: &[&str]) -> bool {
    let missing = |program: &&&str| find(program).is_none();
    if programs.iter().any(|program| missing(&program)) {
        install();
    }
    let Some(program) = programs.iter().find(missing) else { return true };
    cannot(&format!("no {program}; tests/posix/install {} says why", directory().display()));
    false
}

/// Whether we are root; prints that the suite needs it otherwise.
pub(crate) fn are_root(suite: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip(&format!("{suite} becomes other users and mounts: only root can"));
    }
    root
}

/// `PATH` with the installed suites first.
pub(crate) fn path() -> OsString {
    let mut path = directory().join("bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

/// What `program --version` says, in one line.
pub(crate) fn version(program: &str) -> String {
    let output = Command::new(program).env("PATH", path()).arg("--version").output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned()
}

fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&path()).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Beside the build, so that a second run finds what the first installed.
fn directory() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    profile.parent().unwrap().join("posix-tools")
}

/// Once per test process, whichever test comes first.
fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("posix/install");
        let output = Command::new(script).arg(directory()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        eprintln!("tests/posix/install: {}\n{out}{err}", output.status);
    });
}
