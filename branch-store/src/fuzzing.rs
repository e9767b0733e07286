//! Doors for the fuzzer to decoders that no caller reaches with bytes of its own. Only in fuzzing builds.

use crate::error::Result;
use crate::journal::{self, Tail, Unsynced, WorkspaceId};

/// What [`scan`] found.
#[derive(Debug)]
pub struct Scanned {
    /// Each good record, encoded again.
    pub payloads: Vec<Vec<u8>>,
    /// Where bytes begin that are no record.
    pub torn: Option<u64>,
}

/// Reads the bytes of a journal, after the mere death of its writer or of the whole machine.
///
/// # Errors
/// `Corrupt`, `Newer`.
pub fn scan(bytes: &[u8], workspace: &WorkspaceId, rebooted: bool) -> Result<Scanned> {
    let unsynced = if rebooted { Unsynced::MayBeGone } else { Unsynced::Kept };
    let mut payloads = Vec::new();
    let (_, _, tail) = journal::scan(bytes, "journal", workspace, unsynced, |_, record| {
        payloads.push(record.encode());
        Ok(())
    })?;
    let torn = match tail {
        Tail::Clean => None,
        Tail::Torn(at) => Some(at),
    };
    Ok(Scanned { payloads, torn })
}
