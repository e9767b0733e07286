//! What a group was denied, for people.

use std::io::{self, Write};

use branch_proc::Denial;

use super::text;

/// Denials shown of one group.
const SHOWN: usize = 20;

/// One line for each of the first ones, beginning with `whose`, and one that counts the others.
pub(super) fn write(out: &mut dyn Write, whose: &str, denied: &[Denial], dropped: u64) -> io::Result<()> {
    for denial in denied.iter().take(SHOWN) {
        let by = denial.by.as_ref().map(|(program, _)| format!(" ({program})")).unwrap_or_default();
        writeln!(out, "{whose}: {}{}", text::plain(&denial.words), text::plain(&by))?;
    }
    let more = denied.len().saturating_sub(SHOWN) as u64 + dropped;
    if more > 0 {
        writeln!(out, "{whose}: and {more} more denials; --json has those that are kept")?;
    }
    Ok(())
}
