//! What a commit says of itself in the log: who, and what for.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Longest message of a commit, in bytes. The log is in memory.
pub const MESSAGE_MAX: usize = 4096;

/// What a commit is to say of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Note {
    /// User id of who asked for it, where that is known.
    pub by: Option<u32>,
    /// What it is for; at most [`MESSAGE_MAX`] bytes. Only commits into the base are in the log.
    pub message: String,
}

impl Note {
    pub(crate) fn check(&self) -> Result<()> {
        if self.message.len() > MESSAGE_MAX {
            return Err(Error::Limit { what: "bytes in the message of a commit", max: MESSAGE_MAX as u64 });
        }
        Ok(())
    }
}
