//! Lines added and removed between two texts: counted, or as hunks with their context.

use std::io::{self, Write};
use std::ops::Range;

use imara_diff::{Algorithm, Diff, Hunk, InternedInput};

/// Unchanged lines shown around a change.
const CONTEXT: u32 = 3;

/// Lines added and removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) added: u64,
    pub(crate) removed: u64,
}

/// Whether content is no text: git looks at the first bytes only, but a NUL further on would upset readers as much.
pub(super) fn is_binary(content: &[u8]) -> bool {
    content.contains(&0)
}

/// Lines added and removed; `None` for what is no text.
pub(crate) fn count(old: &[u8], new: &[u8]) -> Option<Lines> {
    if is_binary(old) || is_binary(new) {
        return None;
    }
    let edits = Edits::between(old, new);
    Some(Lines { added: edits.diff.count_additions().into(), removed: edits.diff.count_removals().into() })
}

/// How to come from one text to the other.
pub(super) struct Edits<'a> {
    old: Vec<&'a [u8]>,
    new: Vec<&'a [u8]>,
    diff: Diff,
}

impl<'a> Edits<'a> {
    pub(super) fn between(old: &'a [u8], new: &'a [u8]) -> Edits<'a> {
        let lines = |text: &'a [u8]| text.split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>();
        let (old, new) = (lines(old), lines(new));
        let mut input: InternedInput<&[u8]> = InternedInput::default();
        input.update_before(old.iter().copied());
        input.update_after(new.iter().copied());
        let mut diff = Diff::compute(Algorithm::Myers, &input);
        diff.postprocess_lines(&input);
        Edits { old, new, diff }
    }

    /// How alike the texts are, in percent of bytes: what git calls similarity.
    pub(super) fn similarity(&self) -> u64 {
        let size = |lines: &[&[u8]]| lines.iter().map(|line| line.len() as u64).sum::<u64>();
        let kept = |(at, line): (usize, &&[u8])| {
            if self.diff.is_removed(at as u32) { 0 } else { line.len() as u64 }
        };
        let kept: u64 = self.old.iter().enumerate().map(kept).sum();
        // Only the very same is 100.
        (kept * 100 / size(&self.old).max(size(&self.new)).max(1)).min(99)
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut changes = self.diff.hunks().peekable();
        while let Some(first) = changes.next() {
            let mut group = vec![first];
            while let Some(next) = changes.next_if(|next| {
                let end = group.last().map_or(0, |last| last.before.end);
                next.before.start - end <= 2 * CONTEXT
            }) {
                group.push(next);
            }
            self.hunk(out, &group)?;
        }
        Ok(())
    }

    fn hunk(&self, out: &mut dyn Write, group: &[Hunk]) -> io::Result<()> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
        let lead = first.before.start.min(CONTEXT);
        let trail = (self.old.len() as u32 - last.before.end).min(CONTEXT);
        let old = first.before.start - lead..last.before.end + trail;
        let new = first.after.start - lead..last.after.end + trail;
        writeln!(out, "@@ -{} +{} @@", span(&old), span(&new))?;
        let mut at = old.start;
        for change in group {
            lines(out, b' ', &self.old[range(at..change.before.start)])?;
            lines(out, b'-', &self.old[range(change.before.clone())])?;
            lines(out, b'+', &self.new[range(change.after.clone())])?;
            at = change.before.end;
        }
        lines(out, b' ', &self.old[range(at..old.end)])
    }
}

/// `FIRST,COUNT`, the count left out if it is one; of no lines, the line before.
fn span(lines: &Range<u32>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        count => format!("{},{count}", lines.start + 1),
    }
}

fn range(lines: Range<u32>) -> Range<usize> {
    lines.start as usize..lines.end as usize
}

fn lines(out: &mut dyn Write, mark: u8, lines: &[&[u8]]) -> io::Result<()> {
    for line in lines {
        out.write_all(&[mark])?;
        out.write_all(line)?;
        if !line.ends_with(b"\n") {
            out.write_all(b"\n\\ No newline at end of file\n")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(old: &str, new: &str, added: u64, removed: u64) {
        assert_eq!(count(old.as_bytes(), new.as_bytes()), Some(Lines { added, removed }), "{old:?} {new:?}");
        let back = Lines { added: removed, removed: added };
        assert_eq!(count(new.as_bytes(), old.as_bytes()), Some(back), "{new:?} {old:?}");
    }

    #[test]
    fn counts_are_those_of_the_shortest_edit() {
        check("", "", 0, 0);
        check("a\n", "a\n", 0, 0);
        check("", "a\nb\n", 2, 0);
        check("a\nb\nc\n", "a\nx\nc\n", 1, 1);
        check("a\nb\nc\n", "c\n", 0, 2);
        check("a\nb\nc\na\nb\nb\na\n", "c\nb\na\nb\na\nc\n", 2, 3);
        check("a\nb", "a\nb\n", 1, 1);
        check("x\na\ny\n", "a\nz\n", 1, 2);
    }

    #[test]
    fn binary_content_has_no_counts() {
        assert_eq!(count(b"a\0b", b"a"), None);
        let late = [&b"x".repeat(20_000)[..], b"\0"].concat();
        assert_eq!(count(&late, b"a"), None);
    }

    fn hunks(old: &str, new: &str) -> String {
        let mut out = Vec::new();
        Edits::between(old.as_bytes(), new.as_bytes()).write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_missing_newline_is_said_on_the_side_that_lacks_it() {
        let expected = "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n";
        assert_eq!(hunks("a", "a\n"), expected);
        assert_eq!(hunks("a\nb", "b"), "@@ -1,2 +1 @@\n-a\n b\n\\ No newline at end of file\n");
    }

    #[test]
    fn changes_close_to_each_other_share_a_hunk() {
        let text = |changed: &[u32]| -> String {
            (1..=20)
                .map(|n| if changed.contains(&n) { format!("{n}!\n") } else { format!("{n}\n") })
                .collect()
        };
        let near = hunks(&text(&[]), &text(&[5, 12]));
        assert_eq!(near.matches("@@ -").count(), 1, "{near}");
        assert!(near.starts_with("@@ -2,14 +2,14 @@\n"), "{near}");
        let far = hunks(&text(&[]), &text(&[5, 13]));
        assert!(far.starts_with("@@ -2,7 +2,7 @@\n") && far.contains("@@ -10,7 +10,7 @@\n"), "{far}");
    }

    #[test]
    fn what_is_new_or_gone_altogether_starts_at_line_0() {
        assert_eq!(hunks("", "a\nb\n"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(hunks("a\n", ""), "@@ -1 +0,0 @@\n-a\n");
    }
}
