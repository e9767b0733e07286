//! Long output: through a pager where somebody looks at it, coloured where that is wanted. A reader that leaves early
//! ends it without a word.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::error::CliError;

/// How long output is shown.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Colour the output: on a terminal, always, or never
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: When,
    /// Do not pipe the output into a pager
    #[arg(long)]
    no_pager: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

/// Where long output goes.
pub(super) enum Screen {
    Plain(io::Stdout),
    Paged { pager: Child, command: String },
}

/// Whether all of it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Whole,
    /// The reader left: `| head`, or `q` in the pager.
    Left,
}

impl Options {
    /// Whether to colour. As <https://no-color.org> has it, any value of `NO_COLOR` but the empty one forbids it.
    pub(super) fn colours(&self) -> bool {
        match self.color {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
                io::stdout().is_terminal()
                    && !set("NO_COLOR")
                    && env::var_os("TERM").is_none_or(|t| t != "dumb")
            }
        }
    }

    /// The pager's standard input on a terminal, unless there is none wanted, else standard output.
    pub(super) fn open(&self) -> Result<Screen, CliError> {
        let plain = Screen::Plain(io::stdout());
        if self.no_pager || !io::stdout().is_terminal() {
            return Ok(plain);
        }
        let chosen = ["BRANCHFS_PAGER", "PAGER"].into_iter().find_map(env::var_os);
        let Some(mut command) = pager(chosen.clone()) else { return Ok(plain) };
        match command.stdin(Stdio::piped()).spawn() {
            Ok(pager) => {
                // Ctrl-C is for the pager; when that ends, so does our output.
                signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::default())
                    .map_err(|source| CliError::System { doing: "listen for Ctrl-C", source })?;
                let command =
                    chosen.map_or_else(|| "less".into(), |name| name.to_string_lossy().into_owned());
                Ok(Screen::Paged { pager, command })
            }
            // No less on this machine.
            Err(error) if error.kind() == io::ErrorKind::NotFound && chosen.is_none() => Ok(plain),
            Err(source) => Err(CliError::System { doing: "start the pager", source }),
        }
    }
}

/// The pager's command, by the variable that names it; `None` if output is not to be paged.
fn pager(chosen: Option<OsString>) -> Option<Command> {
    let mut command = match chosen {
        None => {
            let mut less = Command::new("less");
            less.arg("-FRX");
            less
        }
        Some(name) if name.is_empty() || name == "cat" => return None,
        Some(line) => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(line);
            shell
        }
    };
    // What somebody set for less stays; otherwise colours get through, and a short text needs no key.
    if env::var_os("LESS").is_none() {
        command.env("LESS", "FRX");
    }
    Some(command)
}

impl Screen {
    /// Shows what `show` writes, and waits until it has been looked at.
    pub(super) fn show(
        mut self,
        show: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Taken, CliError> {
        let written = match &mut self {
            Screen::Plain(out) => {
                let mut out = io::BufWriter::new(out.lock());
                show(&mut out).and_then(|()| out.flush())
            }
            Screen::Paged { pager, .. } => match pager.stdin.take() {
                Some(input) => {
                    let mut out = io::BufWriter::new(input);
                    show(&mut out).and_then(|()| out.flush())
                }
                None => Ok(()),
            },
        };
        if let Screen::Paged { pager, command } = &mut self {
            let ended =
                pager.wait().map_err(|source| CliError::System { doing: "wait for the pager", source })?;
            // What sh(1) says of a command that is not there, or is none.
            if matches!(ended.code(), Some(126 | 127)) {
                let reason = format!("the pager '{command}' cannot be run");
                let hint = "set BRANCHFS_PAGER or PAGER to one that can, or use --no-pager".into();
                return Err(CliError::Other { reason, hint });
            }
        }
        match written {
            Ok(()) => Ok(Taken::Whole),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Taken::Left),
            Err(error) => Err(CliError::Output(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(chosen: Option<&str>) -> Option<Vec<String>> {
        let command = pager(chosen.map(OsString::from))?;
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        Some(words.map(|word| word.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn cat_or_nothing_means_no_pager_and_anything_else_is_a_line_for_the_shell() {
        assert_eq!(words(None).unwrap(), ["less", "-FRX"]);
        assert_eq!(words(Some("")), None);
        assert_eq!(words(Some("cat")), None);
        assert_eq!(words(Some("less -S | tee x")).unwrap(), ["sh", "-c", "less -S | tee x"]);
    }
}
