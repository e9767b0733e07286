//! Whether views can be mounted here. Where not, tests say so and pass, unless `BRANCHFS_REQUIRE_FUSE=1`.

use std::fs::File;
use std::path::Path;

/// Whether tests that mount can run. Prints the reason if not; fails if the environment demands them.
pub fn can_mount() -> bool {
    let Some(reason) = cannot_mount() else { return true };
    cannot(&reason);
    false
}

/// Skips, or fails where `BRANCHFS_REQUIRE_FUSE=1` says that nothing may be skipped.
pub fn cannot(reason: &str) {
    let required = std::env::var_os("BRANCHFS_REQUIRE_FUSE").is_some_and(|value| value == "1");
    assert!(!required, "BRANCHFS_REQUIRE_FUSE=1, but: {reason}");
    skip(reason);
}

/// Says that a test is skipped, and why.
pub fn skip(reason: &str) {
    eprintln!("SKIPPED: {reason}");
}

fn cannot_mount() -> Option<String> {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    let helper = ["/bin/fusermount3", "/usr/bin/fusermount3"].iter().any(|path| Path::new(path).exists());
    match device {
        Err(error) => Some(format!("/dev/fuse: {error}")),
        Ok(_) if !rustix::process::geteuid().is_root() && !helper => Some("no fusermount3".to_owned()),
        Ok(_) => None,
    }
}
