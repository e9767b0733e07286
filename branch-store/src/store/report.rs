//! What recovery did, for people.

/// What recovery did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// In words; empty after a clean shutdown.
    pub lines: Vec<String>,
}
