//! Paths as git writes them: plain, or in double quotes with C's escapes.

use std::io::{self, Write};

/// The path as it is, or quoted if it holds control characters, quotes, backslashes, or bytes that are no UTF-8.
pub(crate) fn quoted(path: &[u8]) -> String {
    with_prefix("", path)
}

/// The same, with `a/` or `b/` before it, inside the quotes.
pub(super) fn with_prefix(prefix: &str, path: &[u8]) -> String {
    match std::str::from_utf8(path) {
        Ok(text) if !text.chars().any(|c| c.is_control() || c == '"' || c == '\\') => {
            format!("{prefix}{text}")
        }
        _ => {
            let escaped: String = path.iter().map(|byte| escape(*byte)).collect();
            format!("\"{prefix}{escaped}\"")
        }
    }
}

fn escape(byte: u8) -> String {
    match byte {
        0x07 => "\\a".into(),
        0x08 => "\\b".into(),
        b'\t' => "\\t".into(),
        b'\n' => "\\n".into(),
        0x0b => "\\v".into(),
        0x0c => "\\f".into(),
        b'\r' => "\\r".into(),
        b'"' => "\\\"".into(),
        b'\\' => "\\\\".into(),
        0x20..=0x7e => char::from(byte).into(),
        _ => format!("\\{byte:03o}"),
    }
}

/// `--- NAME` or `+++ NAME`. A name with blanks ends in a tab, or patch(1) would cut it at the first of them.
pub(super) fn label(out: &mut dyn Write, mark: &str, name: &str) -> io::Result<()> {
    let end = if name.contains(' ') && !name.starts_with('"') { "\t" } else { "" };
    writeln!(out, "{mark} {name}{end}")
}

/// Whether git refuses to touch such a path, whatever a patch says: its own directory under any of the names that a
/// filesystem somewhere takes for it, and links that could stand in for its own files.
pub(super) fn is_reserved(path: &[u8], is_link: bool) -> bool {
    path.split(|byte| matches!(byte, b'/' | b'\\')).any(|name| {
        let name = name.to_ascii_lowercase();
        let short = [&b".git"[..], b"git~1"].into_iter().find_map(|own| name.strip_prefix(own));
        let own = short.is_some_and(|rest| {
            let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'.')).count();
            matches!(rest.get(blanks), None | Some(b':'))
        });
        let modules = [&b".gitmodules"[..], b"gitmod~", b"gi7eba~"];
        own || is_link && modules.into_iter().any(|start| name.starts_with(start))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_bytes_are_escaped_as_git_escapes_them() {
        assert_eq!(quoted("src/ünï.rs".as_bytes()), "src/ünï.rs");
        assert_eq!(quoted(b"a b"), "a b");
        assert_eq!(quoted(b"\x07\x08\t\n\x0b\x0c\r\"\\\x01\x7f\xff"), r#""\a\b\t\n\v\f\r\"\\\001\177\377""#);
        assert_eq!(with_prefix("a/", b"x\ny"), r#""a/x\ny""#);
        assert_eq!(with_prefix("b/", b"x y"), "b/x y");
    }

    #[test]
    fn what_git_takes_for_its_own_directory_is_reserved() {
        for path in
            [".git", ".GIT/config", "sub/.git/HEAD", "git~1/x", ".git. /x", ".git::$INDEX", "a\\.git\\b"]
        {
            assert!(is_reserved(path.as_bytes(), false), "{path}");
        }
        for path in [".gitignore", "x.git", ".github/x", "git", ".gitmodules", "git~10"] {
            assert!(!is_reserved(path.as_bytes(), false), "{path}");
        }
        assert!(is_reserved(b"x/.gitmodules", true));
    }
}
