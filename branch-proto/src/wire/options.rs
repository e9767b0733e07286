//! How to commit.

use serde::{Deserialize, Serialize};

use super::Choices;

/// How to commit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommitOptions {
    /// Who wins conflicts.
    #[serde(default)]
    pub choices: Choices,
    /// Which of the branch's changes.
    #[serde(default, skip_serializing_if = "Part::is_all")]
    pub part: Part,
    /// What it is for, kept in the log of commits into the base; at most 4096 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A part of a branch's changes, by globs of their paths, as in [`Choices`]. What belongs together cannot be torn apart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Part {
    /// These; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// But not these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

impl Part {
    /// Whether it is everything.
    pub fn is_all(&self) -> bool {
        self.only.is_empty() && self.except.is_empty()
    }
}
