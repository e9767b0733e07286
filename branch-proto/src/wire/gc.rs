//! How much of the past is kept, and what is freed.

use serde::{Deserialize, Serialize};

/// A bound that can be lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// There is none.
    Unlimited,
    /// So much.
    AtMost(u64),
}

/// What a request wants kept other than the workspace says; absent: as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeepChange {
    /// So many commits into the base can be undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commits: Option<u32>,
    /// None that is older, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<Bound>,
    /// What they replaced takes at most so many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bound>,
}

/// What becomes of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GcMode {
    /// Say what would be freed, and change nothing.
    Preview,
    /// Free it.
    Once,
    /// Free it, and have the workspace keep so much from now on.
    Save,
}

/// How much of the past is kept: whichever bound is met first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// So many commits into the base can be undone.
    pub commits: u32,
    /// None that is older, in seconds, but for the newest one; absent without a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<u64>,
    /// What they replaced takes at most so many bytes; absent without a bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// What was freed, or would be. Bytes are as the host allocates them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// Commits into the base that can no longer be undone or redone.
    pub commits: Vec<u64>,
    /// Bytes of what they replaced.
    pub preimage_bytes: u64,
    /// Bytes of what the other commits replaced, which stays.
    pub kept_bytes: u64,
    /// Bytes of what ended branches and removed files left.
    pub remains_bytes: u64,
    /// How many whole layers are among that.
    pub layers: u64,
    /// What was kept to.
    pub keep: Keep,
}
