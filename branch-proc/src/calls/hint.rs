//! What a caller says beforehand of the memory that a call will need.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The variable of a command's own environment that carries its hint.
pub const HINT_VARIABLE: &str = "AGENT_RESOURCE_HINT";

/// How much memory a call will need: `memory:low`, `memory:medium`, `memory:high`, or a size as in `memory:1500M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryHint {
    /// [`HintSizes::low`]
    Low,
    /// [`HintSizes::medium`]
    Medium,
    /// [`HintSizes::high`]
    High,
    /// This many bytes.
    Bytes(u64),
}

/// What the words of a hint mean, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct HintSizes {
    /// Of `memory:low`.
    pub low: u64,
    /// Of `memory:medium`.
    pub medium: u64,
    /// Of `memory:high`.
    pub high: u64,
}

impl Default for HintSizes {
    fn default() -> HintSizes {
        HintSizes { low: 512 << 20, medium: 2 << 30, high: 8 << 30 }
    }
}

/// A hint that says nothing that is understood here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error(
    "{hint:?} is no resource hint: use memory:low, memory:medium, memory:high or a size such as memory:2G"
)]
pub struct HintError {
    /// As it was given.
    pub hint: String,
}

impl MemoryHint {
    /// In bytes.
    pub fn bytes(self, sizes: &HintSizes) -> u64 {
        match self {
            MemoryHint::Low => sizes.low,
            MemoryHint::Medium => sizes.medium,
            MemoryHint::High => sizes.high,
            MemoryHint::Bytes(bytes) => bytes,
        }
    }

    /// The smallest hint that means more than `bytes`, and no more than `most`; None if there is none.
    pub(super) fn above(bytes: u64, sizes: &HintSizes, most: u64) -> Option<MemoryHint> {
        let words = [MemoryHint::Low, MemoryHint::Medium, MemoryHint::High];
        let larger = words.into_iter().find(|word| word.bytes(sizes) > bytes && word.bytes(sizes) <= most);
        let double = || Some(MemoryHint::Bytes(bytes.saturating_mul(2).min(most))).filter(|_| most > bytes);
        larger.or_else(double)
    }

    /// What the last setting of the variable says; None if it is not set.
    pub(super) fn in_environment(env: &[(OsString, OsString)]) -> Option<Result<MemoryHint, HintError>> {
        let (_, value) = env.iter().rev().find(|(key, _)| key == OsStr::new(HINT_VARIABLE))?;
        Some(value.to_string_lossy().parse())
    }
}

impl FromStr for MemoryHint {
    type Err = HintError;

    fn from_str(text: &str) -> Result<MemoryHint, HintError> {
        let hint = match text.trim().strip_prefix("memory:") {
            Some("low") => Some(MemoryHint::Low),
            Some("medium") => Some(MemoryHint::Medium),
            Some("high") => Some(MemoryHint::High),
            Some(size) => bytes_in(size).map(MemoryHint::Bytes),
            None => None,
        };
        hint.ok_or_else(|| HintError { hint: shortened(text) })
    }
}

impl fmt::Display for MemoryHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemoryHint::Low => f.write_str("memory:low"),
            MemoryHint::Medium => f.write_str("memory:medium"),
            MemoryHint::High => f.write_str("memory:high"),
            MemoryHint::Bytes(bytes) => write!(f, "memory:{}M", bytes.div_ceil(1 << 20)),
        }
    }
}

/// A number with K, M, G or T (or KiB …), in powers of 1024; None for anything else, 0 and what is too large.
fn bytes_in(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let shift = match unit.to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" if unit.len() <= 1 => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}

/// Enough to see what was meant.
fn shortened(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    text.chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_words_or_sizes() {
        let cases = [
            ("memory:low", MemoryHint::Low),
            (" memory:medium\n", MemoryHint::Medium),
            ("memory:high", MemoryHint::High),
            ("memory:4096", MemoryHint::Bytes(4096)),
            ("memory:12k", MemoryHint::Bytes(12 << 10)),
            ("memory:300MB", MemoryHint::Bytes(300 << 20)),
            ("memory:2GiB", MemoryHint::Bytes(2 << 30)),
            ("memory:1T", MemoryHint::Bytes(1 << 40)),
        ];
        for (text, hint) in cases {
            assert_eq!(text.parse(), Ok(hint), "{text}");
        }
    }

    #[test]
    fn what_is_no_hint_is_told_with_what_would_be_one() {
        let cases = [
            "",
            "memory",
            "memory:",
            "memory:much",
            "cpu:high",
            "memory:0",
            "memory:-1",
            "memory:2X",
            "memory:I",
        ];
        for text in cases.into_iter().chain(["memory:99999999999G", "memory:1.5G", "memory:G"]) {
            let error = text.parse::<MemoryHint>().unwrap_err();
            assert_eq!(error.hint, text);
            assert!(error.to_string().contains("memory:2G"), "{error}");
        }
        assert_eq!("é".repeat(1000).parse::<MemoryHint>().unwrap_err().hint.chars().count(), 80);
    }

    #[test]
    fn the_last_setting_counts() {
        let env = |pairs: &[(&str, &str)]| -> Vec<(OsString, OsString)> {
            pairs.iter().map(|(key, value)| (key.into(), value.into())).collect()
        };
        assert_eq!(MemoryHint::in_environment(&env(&[("PATH", "memory:low")])), None);
        let twice = env(&[(HINT_VARIABLE, "memory:low"), (HINT_VARIABLE, "memory:high")]);
        assert_eq!(MemoryHint::in_environment(&twice), Some(Ok(MemoryHint::High)));
        assert!(MemoryHint::in_environment(&env(&[(HINT_VARIABLE, "?")])).unwrap().is_err());
    }

    #[test]
    fn the_next_hint_is_larger_and_within_what_there_is() {
        let (sizes, gib) = (HintSizes::default(), 1 << 30);
        assert_eq!(MemoryHint::above(gib, &sizes, 100 * gib), Some(MemoryHint::Medium));
        assert_eq!(MemoryHint::above(2 * gib, &sizes, 100 * gib), Some(MemoryHint::High));
        assert_eq!(MemoryHint::above(8 * gib, &sizes, 100 * gib), Some(MemoryHint::Bytes(16 * gib)));
        assert_eq!(MemoryHint::above(2 * gib, &sizes, 3 * gib), Some(MemoryHint::Bytes(3 * gib)));
        assert_eq!(MemoryHint::above(3 * gib, &sizes, 3 * gib), None);
        assert_eq!(MemoryHint::Bytes(3 * gib).to_string().parse(), Ok(MemoryHint::Bytes(3 * gib)));
    }
}
