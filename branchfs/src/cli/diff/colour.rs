//! A patch in git's colours. What a line is depends on where it stands: a removed line can look like a header.

use std::io::{self, BufRead, Write};

const BOLD: &[u8] = b"\x1b[1m";
const RED: &[u8] = b"\x1b[31m";
const GREEN: &[u8] = b"\x1b[32m";
const CYAN: &[u8] = b"\x1b[36m";
const PLAIN: &[u8] = b"\x1b[m";

/// Where in a patch we are.
#[derive(Clone, Copy)]
enum At {
    Header,
    /// So many old and new lines of the hunk are to come.
    Hunk(u64, u64),
    Binary,
}

/// Copies a patch, coloured.
pub(super) fn copy(from: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<()> {
    let mut at = At::Header;
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let colour;
        (at, colour) = next(at, text);
        match colour {
            Some(colour) => {
                for part in [colour, text, PLAIN, b"\n"] {
                    out.write_all(part)?;
                }
            }
            None => out.write_all(&line)?,
        }
        line.clear();
    }
    Ok(())
}

fn next(at: At, line: &[u8]) -> (At, Option<&'static [u8]>) {
    match (at, line.first()) {
        (_, Some(b'\\')) => (at, None),
        (At::Hunk(old, new), Some(b' ')) if old > 0 && new > 0 => (At::Hunk(old - 1, new - 1), None),
        (At::Hunk(old, new), Some(b'-')) if old > 0 => (At::Hunk(old - 1, new), Some(RED)),
        (At::Hunk(old, new), Some(b'+')) if new > 0 => (At::Hunk(old, new - 1), Some(GREEN)),
        _ if line.starts_with(b"diff --git ") => (At::Header, Some(BOLD)),
        (At::Binary, _) => (at, None),
        _ if line == b"GIT binary patch" => (At::Binary, None),
        _ => match hunk(line) {
            Some((old, new)) => (At::Hunk(old, new), Some(CYAN)),
            None => (At::Header, Some(BOLD)),
        },
    }
}

/// Numbers of lines in `@@ -1,2 +3,4 @@`.
fn hunk(line: &[u8]) -> Option<(u64, u64)> {
    let spans = std::str::from_utf8(line).ok()?.strip_prefix("@@ -")?.strip_suffix(" @@")?;
    let (old, new) = spans.split_once(" +")?;
    let count = |span: &str| span.split_once(',').map_or(Some(1), |(_, count)| count.parse().ok());
    Some((count(old)?, count(new)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_coloured_by_its_place_and_not_by_its_looks() {
        let patch = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1 @@\n--- a\n context\n\
                     diff --git a/y b/y\nGIT binary patch\nliteral 1\nIcmZ\n\n";
        let mut out = Vec::new();
        copy(&mut patch.as_bytes(), &mut out).unwrap();
        let shown = String::from_utf8(out).unwrap().replace("\x1b[m", "|");
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[0], "\x1b[1mdiff --git a/x b/x|");
        assert_eq!(lines[3], "\x1b[36m@@ -1,2 +1 @@|");
        assert_eq!(lines[4], "\x1b[31m--- a|");
        assert_eq!(lines[5], " context");
        assert_eq!(lines[6], "\x1b[1mdiff --git a/y b/y|");
        assert_eq!(lines[7..], ["GIT binary patch", "literal 1", "IcmZ", ""]);
    }
}
