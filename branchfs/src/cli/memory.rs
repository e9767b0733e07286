//! The limit of memory of a command: `--memory`, else the hint in the environment; and what to try when it was not enough.

use std::env;
use std::ffi::OsString;

use branch_proc::{HINT_VARIABLE, HintError, HintSizes, MemoryHint, Outcome, memory_advice};

/// How much memory a command may use, all its processes together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MemoryLimit {
    /// As much as there is.
    None,
    /// So many bytes, from the command line.
    Option(u64),
    /// What a hint means.
    Hint(MemoryHint),
    /// The hint was not understood: no limit.
    NoHint(HintError),
}

impl MemoryLimit {
    /// What is set on the command line, else in our environment.
    pub(super) fn of(option: Option<u64>) -> MemoryLimit {
        let hint = env::var_os(HINT_VARIABLE);
        MemoryLimit::chosen(option, hint.as_ref().map(|hint| hint.to_string_lossy()).as_deref())
    }

    fn chosen(option: Option<u64>, hint: Option<&str>) -> MemoryLimit {
        match (option, hint.map(str::parse)) {
            (Some(bytes), _) => MemoryLimit::Option(bytes),
            (None, Some(Ok(hint))) => MemoryLimit::Hint(hint),
            (None, Some(Err(error))) => MemoryLimit::NoHint(error),
            (None, None) => MemoryLimit::None,
        }
    }

    pub(super) fn bytes(&self) -> Option<u64> {
        match self {
            MemoryLimit::Option(bytes) => Some(*bytes),
            MemoryLimit::Hint(hint) => Some(hint.bytes(&HintSizes::default())),
            MemoryLimit::None | MemoryLimit::NoHint(_) => None,
        }
    }

    /// What to say of a command that has ended, in one line; None where there is nothing to say.
    pub(super) fn advice(&self, command: &[OsString], outcome: &Outcome) -> Option<String> {
        let more = |hint: MemoryHint| match self {
            MemoryLimit::Option(_) => {
                format!("--memory {}M", hint.bytes(&HintSizes::default()).div_ceil(1 << 20))
            }
            _ => format!("{HINT_VARIABLE}={hint}"),
        };
        let memory = memory_advice(command, outcome, self.bytes(), more);
        let hint = match self {
            MemoryLimit::NoHint(error) => Some(format!("its hint was not followed: {error}")),
            _ => None,
        };
        let said: Vec<String> = memory.into_iter().chain(hint).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_goes_before_the_hint() {
        let bytes = |option, hint| MemoryLimit::chosen(option, hint).bytes();
        assert_eq!(bytes(Some(5), Some("memory:low")), Some(5));
        assert_eq!(bytes(None, Some("memory:low")), Some(512 << 20));
        assert_eq!(bytes(None, Some("memory:1500M")), Some(1500 << 20));
        assert_eq!((bytes(None, Some("lots")), bytes(None, None)), (None, None));
    }
}
