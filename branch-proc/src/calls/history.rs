//! What the same command needed before.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Commands remembered; of more, those not run for longest are forgotten.
pub const HISTORY_COMMANDS_MAX: usize = 512;
/// Peaks remembered of each command.
pub const HISTORY_PEAKS_MAX: usize = 8;
/// Characters of a command's name that count.
const NAME_MAX: usize = 200;
/// No call is given less for what it was seen to need, in bytes: the same command may start with a cold cache.
const EXPECTED_MIN: u64 = 64 << 20;

const _: () = assert!(HISTORY_COMMANDS_MAX > 0 && HISTORY_PEAKS_MAX > 0);

/// Peaks of memory by command: data that the caller keeps from one session to the next. What was edited to be
/// too long is cut when it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History {
    /// The one that ran last is the last.
    commands: VecDeque<Peaks>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Peaks {
    command: String,
    /// In bytes, the last one last.
    peaks: VecDeque<u64>,
}

impl History {
    /// How much memory to expect, in bytes: twice the most of the last
    /// [`HISTORY_PEAKS_MAX`] times, for the same command does more another time.
    pub fn expected(&self, argv: &[OsString]) -> Option<u64> {
        let name = name_of(argv);
        let known = self.commands.iter().rfind(|known| known.command == name)?;
        let most = *known.peaks.iter().rev().take(HISTORY_PEAKS_MAX).max()?;
        Some(most.saturating_mul(2).max(EXPECTED_MIN))
    }

    /// Remembers what a command took at most. One that was stopped at its limit would have taken more: that counts
    /// twice.
    pub fn note(&mut self, argv: &[OsString], peak: u64, was_stopped: bool) {
        let command = name_of(argv);
        let at = self.commands.iter().rposition(|known| known.command == command);
        let known = at.and_then(|at| self.commands.remove(at));
        let mut known = known.unwrap_or(Peaks { command, peaks: VecDeque::new() });
        known.peaks.push_back(if was_stopped { peak.saturating_mul(2) } else { peak });
        keep_last(&mut known.peaks, HISTORY_PEAKS_MAX);
        self.commands.push_back(known);
        keep_last(&mut self.commands, HISTORY_COMMANDS_MAX);
    }

    /// How many commands are remembered.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }
}

fn keep_last<T>(items: &mut VecDeque<T>, most: usize) {
    items.drain(..items.len().saturating_sub(most));
}

/// The program and its first argument; of what a shell is to run, the first two words of that.
fn name_of(argv: &[OsString]) -> String {
    let word = |at: usize| argv.get(at).map(|word| word.to_string_lossy());
    let shell = argv.first().is_some_and(|program| {
        let name = Path::new(program).file_name().unwrap_or(program);
        ["sh", "bash", "dash", "zsh"].iter().any(|shell| name == *shell)
    });
    let runs_text = shell && word(1).is_some_and(|flags| flags.starts_with('-') && flags.ends_with('c'));
    let name = match word(2).filter(|_| runs_text) {
        Some(text) => text.split_whitespace().take(2).collect::<Vec<_>>().join(" "),
        None => [word(0), word(1)].into_iter().flatten().collect::<Vec<_>>().join(" "),
    };
    name.chars().take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(line: &str) -> Vec<OsString> {
        line.split('|').map(OsString::from).collect()
    }

    #[test]
    fn twice_the_most_of_the_last_times_is_expected() {
        let mut history = History::default();
        let build = argv("cargo|build|--release");
        assert_eq!(history.expected(&build), None);
        history.note(&build, 800 << 20, false);
        for _ in 1..HISTORY_PEAKS_MAX {
            history.note(&argv("cargo|build|-v"), 400 << 20, false);
        }
        assert_eq!(history.expected(&build), Some(1600 << 20));
        history.note(&build, 400 << 20, false);
        assert_eq!(history.expected(&build), Some(800 << 20), "the first time is forgotten");
        history.note(&build, 400 << 20, true);
        assert_eq!(history.expected(&build), Some(1600 << 20), "it would have taken more");
        assert_eq!(history.expected(&argv("cargo|test")), None);
        history.note(&argv("true"), 1, false);
        assert_eq!(history.expected(&argv("true")), Some(EXPECTED_MIN));
    }

    #[test]
    fn commands_not_run_for_longest_are_forgotten_first() {
        let mut history = History::default();
        for number in 0..HISTORY_COMMANDS_MAX {
            history.note(&argv(&format!("tool|{number}")), 1, false);
        }
        history.note(&argv("tool|0"), 1, false);
        history.note(&argv("another"), 1, false);
        assert_eq!(history.len(), HISTORY_COMMANDS_MAX);
        assert!(history.expected(&argv("tool|0")).is_some());
        assert_eq!(history.expected(&argv("tool|1")), None);
    }

    #[test]
    fn what_a_shell_runs_is_the_command() {
        for same in ["sh|-c|make test -j4", "/bin/bash|-lc|make test", "make|test|x"] {
            assert_eq!(name_of(&argv(same)), "make test");
        }
        assert_eq!(name_of(&argv("sh|script")), "sh script");
        assert_eq!(name_of(&[]), "");
        assert_eq!(name_of(&argv(&"é".repeat(999))).chars().count(), NAME_MAX);
    }

    #[test]
    fn a_history_is_data() {
        let mut history = History::default();
        history.note(&argv("make|all"), u64::MAX, true);
        let text = serde_json::to_string(&history).unwrap();
        let back: History = serde_json::from_str(&text).unwrap();
        assert_eq!(back, history);
        assert_eq!(back.expected(&argv("make|all")), Some(u64::MAX));
    }
}
