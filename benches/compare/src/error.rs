//! What can go wrong, in words that name the thing.

use std::io;
use std::path::Path;
use std::process::{Command, Output};

use branch_proto::ClientError;

pub(crate) type Result<T> = std::result::Result<T, Failed>;

/// Why something was not measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("{what}: {source}")]
    System { what: String, source: io::Error },
    #[error("{0}")]
    Daemon(#[from] ClientError),
    #[error("{program} failed: {said}")]
    Program { program: String, said: String },
    #[error("the worker gave no figures within {seconds} s")]
    Late { seconds: u64 },
    #[error("{0}")]
    Other(String),
}

/// Says what was being done when the system said no.
pub(crate) trait While<T> {
    fn on(self, doing: &str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> While<T> for std::result::Result<T, E> {
    fn on(self, doing: &str, path: &Path) -> Result<T> {
        self.map_err(|error| Failed::System {
            what: format!("{doing} {}", path.display()),
            source: error.into(),
        })
    }
}

/// Runs a program that must succeed; what it printed.
pub(crate) fn succeed(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let Output { status, stdout, stderr } =
        command.output().map_err(|source| Failed::System { what: program.clone(), source })?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let said = format!("{status}: {}", gist(&String::from_utf8_lossy(&stderr)));
    Err(Failed::Program { program, said })
}

/// The line of what a program said that tells why, or the first.
pub(crate) fn gist(said: &str) -> &str {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let tells = |line: &&str| ["error", "Error", "fatal"].iter().any(|word| line.contains(word));
    lines.clone().find(tells).or_else(|| lines.next()).unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_program_said_the_line_that_tells_why_is_kept() {
        assert_eq!(gist("Compiling x\n  fatal: no disk\nStack backtrace:\n 0: main\n"), "fatal: no disk");
        assert_eq!(gist("\nno such thing\nmore\n"), "no such thing");
        assert_eq!(gist(""), "without a word");
    }
}
