//! The program under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `branchfs` executable of this build: beside the directory of the running test. Built once per test
/// process, which is a look at time stamps where it is fresh: cargo builds no other package's programs for
/// a test. Without cargo (tests carried to another machine) the one that is there must do.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("own path");
        let profile = test.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>");
        let program = profile.join("branchfs");
        if let Some(cargo) = std::env::var_os("CARGO") {
            build(Path::new(&cargo), profile);
        }
        assert!(program.exists(), "there is no {}: run 'cargo build -p branchfs'", program.display());
        program
    })
}

fn build(cargo: &Path, profile: &Path) {
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "-p", "branchfs"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    command.arg("--target-dir").arg(profile.parent().expect("target"));
    let status = command.status().expect("cargo runs");
    assert!(status.success(), "branchfs does not build: {status}");
}
