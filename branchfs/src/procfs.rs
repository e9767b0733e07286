//! Files of `/proc/<pid>` as text.

use std::fmt::Display;

/// A file of a process, if it is there. The name of the process is in it: bytes, cut off after the fifteenth, which need
/// not be text; nobody looks for anything in that.
pub(crate) fn text(pid: impl Display, file: &str) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/{file}")).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
