//! A git repository with two tags that differ in a tenth of the files; packed, as a clone is. Beside it, among the
//! materials, a bare copy to clone from and an archive to unpack.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use crate::error::{Result, While, succeed};

/// The tag of the first commit.
pub(crate) const OLD: &str = "v1";
/// The tag of the second, which is checked out.
pub(crate) const NEW: &str = "v2";

const FILES_IN_DIRECTORY: usize = 20;

/// git without anybody's settings.
pub(crate) fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null");
    for role in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{role}_NAME"), "compare")
            .env(format!("GIT_{role}_EMAIL"), "compare@example.org");
        command.env(format!("GIT_{role}_DATE"), "2020-01-01T00:00:00Z");
    }
    command
}

pub(super) fn make(top: &Path, materials: &Path, files: usize) -> Result<()> {
    let run = |args: &[&str]| succeed(git(top).args(args));
    run(&["init", "-q", "-b", "trunk"])?;
    for number in 0..files {
        write(top, number, 1)?;
    }
    commit(top, OLD)?;
    for number in (0..files).step_by(10) {
        write(top, number, 2)?;
    }
    for number in (5..files).step_by(100) {
        let gone = top.join(path(number));
        fs::remove_file(&gone).on("removing", &gone)?;
    }
    for number in files..files + files / 100 {
        write(top, number, 1)?;
    }
    commit(top, NEW)?;
    run(&["gc", "-q"])?;
    let bare = materials.join("bare");
    succeed(Command::new("git").args(["clone", "-q", "--bare"]).arg(top).arg(&bare))?;
    let archive = materials.join("sources.tar");
    succeed(git(top).args(["archive", "--prefix=sources/", "-o"]).arg(&archive).arg(NEW))?;
    Ok(())
}

fn commit(top: &Path, tag: &str) -> Result<()> {
    for args in [&["add", "-A"][..], &["commit", "-q", "-m", tag], &["tag", tag]] {
        succeed(git(top).args(args))?;
    }
    Ok(())
}

fn path(number: usize) -> String {
    let directory = number / FILES_IN_DIRECTORY;
    format!("m{:02}/p{directory:04}/source{number:06}.c", directory % 16)
}

/// As much text as a source file has: 1 to 16 KiB.
fn write(top: &Path, number: usize, version: usize) -> Result<()> {
    let file = top.join(path(number));
    let parent = file.parent().unwrap_or(top);
    fs::create_dir_all(parent).on("making", parent)?;
    let lines = 20 + (number * 7919) % 380;
    let text: String = (0..lines)
        .map(|line| format!("int f{number}_{line}(void) {{ return {}; }}\n", line * version))
        .collect();
    fs::write(&file, text).on("writing", &file)?;
    // Older than any index: git reads again what is as young as that.
    let past = UNIX_EPOCH + Duration::from_secs(1_577_836_800 + version as u64);
    File::options().write(true).open(&file).and_then(|file| file.set_modified(past)).on("dating", &file)
}
