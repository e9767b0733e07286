//! Finding what an explore might have left: processes by a mark in their environment, mounts by their path.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::super::error::CliError;
use super::project::Project;
use crate::procfs;

const VARIABLE: &str = "BRANCHFS_DEMO";

/// A mark that every process of the attempts inherits, whatever it forks, and no other process has.
pub(super) struct Remains {
    value: OsString,
}

impl Remains {
    pub(super) fn of(project: &Project) -> Remains {
        // The directory's random name tells two demos apart.
        Remains { value: project.directory().as_os_str().to_owned() }
    }

    /// The variable to set for the attempts.
    pub(super) fn mark(&self) -> (&'static str, &OsString) {
        (VARIABLE, &self.value)
    }

    /// Pids of all processes that bear the mark (proc(5), environ).
    pub(super) fn processes(&self) -> Result<Vec<i32>, CliError> {
        let mark = [VARIABLE.as_bytes(), b"=", self.value.as_bytes()].concat();
        let entries = fs::read_dir("/proc").map_err(CliError::at("read", "/proc"))?;
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(CliError::at("read", "/proc"))?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A process that is gone by now, or another user's, is none of ours.
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|variable| variable == mark) {
                found.push(pid);
            }
        }
        Ok(found)
    }
}

/// Whether a process runs; one that only waits to be reaped does not (proc_pid_stat(5)).
pub(super) fn runs(pid: i32) -> bool {
    let stat = procfs::text(pid, "stat").unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// Mount points in `directory` (proc_pid_mountinfo(5)).
pub(super) fn mounts_below(directory: &Path) -> Result<Vec<PathBuf>, CliError> {
    let table = fs::read("/proc/self/mountinfo").map_err(CliError::at("read", "/proc/self/mountinfo"))?;
    let points =
        table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    Ok(points.map(unescape).filter(|point| point.starts_with(directory)).collect())
}

/// Blanks and the like are written in octal there.
fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                bytes.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = tail;
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_mount_points_are_read_back() {
        assert_eq!(unescape(b"/a\\040b\\134c"), Path::new("/a b\\c"));
        assert_eq!(unescape(b"/end\\"), Path::new("/end\\"));
        assert_eq!(unescape(b"/x\\9"), Path::new("/x\\9"));
    }

    #[test]
    fn this_process_runs_and_one_that_has_ended_does_not() {
        assert!(runs(std::process::id() as i32));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(!runs(child.id() as i32));
    }

    #[test]
    fn the_root_is_mounted() {
        assert!(mounts_below(Path::new("/")).unwrap().iter().any(|mount| mount == Path::new("/")));
    }
}
