//! One entry of a patch: git's headers, and the content as hunks or whole.

use std::fmt;
use std::io::{self, Write};

use sha1::{Digest, Sha1};

use super::binary;
use super::plan::{File, Mode};
use super::quote::{label, quoted, with_prefix};
use super::text::{Edits, is_binary};

/// A file, or a link with its target.
#[derive(PartialEq, Eq)]
pub(super) struct Blob<'a> {
    pub(super) file: File<'a>,
    pub(super) content: Vec<u8>,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Plain => "100644",
            Mode::Executable => "100755",
            Mode::Link => "120000",
        })
    }
}

pub(super) fn created(out: &mut dyn Write, new: &Blob<'_>) -> io::Result<()> {
    header(out, new.file.path, new.file.path)?;
    writeln!(out, "new file mode {}", new.file.mode)?;
    writeln!(out, "index {NOTHING}..{}", new.name())?;
    body(out, ("/dev/null", b""), (&with_prefix("b/", new.file.path), &new.content), None)
}

pub(super) fn deleted(out: &mut dyn Write, old: &Blob<'_>) -> io::Result<()> {
    header(out, old.file.path, old.file.path)?;
    writeln!(out, "deleted file mode {}", old.file.mode)?;
    writeln!(out, "index {}..{NOTHING}", old.name())?;
    body(out, (&with_prefix("a/", old.file.path), &old.content), ("/dev/null", b""), None)
}

pub(super) fn changed(out: &mut dyn Write, old: &Blob<'_>, new: &Blob<'_>) -> io::Result<()> {
    header(out, old.file.path, new.file.path)?;
    if old.file.mode != new.file.mode {
        writeln!(out, "old mode {}\nnew mode {}", old.file.mode, new.file.mode)?;
    }
    let same = old.content == new.content;
    let text = !same && !is_binary(&old.content) && !is_binary(&new.content);
    let edits = text.then(|| Edits::between(&old.content, &new.content));
    if old.file.path != new.file.path {
        // Of what is no text git would compare chunks; the number is for people only.
        let alike = edits.as_ref().map_or(if same { 100 } else { 0 }, Edits::similarity);
        writeln!(out, "similarity index {alike}%")?;
        writeln!(out, "rename from {}\nrename to {}", quoted(old.file.path), quoted(new.file.path))?;
    }
    if same {
        return Ok(());
    }
    let mode = if old.file.mode == new.file.mode { format!(" {}", new.file.mode) } else { String::new() };
    writeln!(out, "index {}..{}{mode}", old.name(), new.name())?;
    let (from, to) = (with_prefix("a/", old.file.path), with_prefix("b/", new.file.path));
    body(out, (&from, &old.content), (&to, &new.content), edits)
}

fn header(out: &mut dyn Write, old: &[u8], new: &[u8]) -> io::Result<()> {
    writeln!(out, "diff --git {} {}", with_prefix("a/", old), with_prefix("b/", new))
}

fn body(
    out: &mut dyn Write,
    (from, old): (&str, &[u8]),
    (to, new): (&str, &[u8]),
    edits: Option<Edits<'_>>,
) -> io::Result<()> {
    if old == new {
        // An empty file that came or went.
        return Ok(());
    }
    if is_binary(old) || is_binary(new) {
        return binary::write(out, old, new);
    }
    label(out, "---", from)?;
    label(out, "+++", to)?;
    edits.unwrap_or_else(|| Edits::between(old, new)).write(out)
}

/// The name of what is not there.
const NOTHING: &str = "0000000000000000000000000000000000000000";

impl Blob<'_> {
    /// Git's name for the content: git compares it before and after it applies binary content.
    fn name(&self) -> String {
        let mut hash = Sha1::new();
        hash.update(format!("blob {}\0", self.content.len()));
        hash.update(&self.content);
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
