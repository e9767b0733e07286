//! A test body as an ordinary user: the test's own program, started again as one.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Who has nothing.
pub const NOBODY: u32 = 65534;
/// Whose files nobody else's are.
pub const SOMEBODY: u32 = 65533;

/// Where the second run finds its base.
const BASE: &str = "BRANCH_STORE_TEST_BASE";

/// Runs `act` as an ordinary user over a base of theirs that root has prepared, then looks at the result as root.
/// `name` is the test's own.
pub fn as_nobody(name: &str, prepare: fn(&Path), act: fn(&Path), check: fn(&Path)) {
    if let Some(base) = std::env::var_os(BASE) {
        return act(Path::new(&base));
    }
    if super::skip_unless_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let base = dir.path().join("base");
    std::fs::create_dir(&base).unwrap();
    chown(&base, Some(NOBODY), Some(NOBODY)).unwrap();
    prepare(&base);
    // The build may lie where nobody can look.
    let program = dir.path().join("test");
    let mut command = Command::new(&program);
    command.args(["--exact", name, "--nocapture"]).env(BASE, &base).uid(NOBODY).gid(NOBODY);
    command.current_dir(dir.path());
    // Not by this process: children that other tests fork meanwhile would have it open for writing (ETXTBSY).
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    let output = command.output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
    check(&base);
}

/// A file of somebody's.
pub fn file_of(owner: u32, path: &Path, mode: u32, text: &str) {
    std::fs::write(path, text).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// A directory of somebody's.
pub fn dir_of(owner: u32, path: &Path, mode: u32) {
    std::fs::create_dir(path).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}
