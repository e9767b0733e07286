//! Conflicts for people: a line for each path, and what the sides have where that differs.

use std::io::{self, Write};

use branch_core::{Conflict, Version};

use super::text;

/// One line for each path, in the order given, each with its versions below.
pub(super) fn describe(out: &mut dyn Write, conflicts: &[Conflict]) -> io::Result<()> {
    for conflict in conflicts {
        write!(out, "  {}: {}", text::path(&conflict.path), conflict.reason)?;
        if let Some(why) = &conflict.unmerged {
            write!(out, "; merge: {why}")?;
        }
        if !conflict.others.is_empty() {
            let others: Vec<String> = conflict.others.iter().map(text::path).collect();
            write!(out, " (also {})", others.join(", "))?;
        }
        writeln!(out)?;
        versions(out, conflict)?;
    }
    Ok(())
}

fn versions(out: &mut dyn Write, conflict: &Conflict) -> io::Result<()> {
    let sides = [("base", &conflict.base), ("ours", &conflict.ours), ("theirs", &conflict.theirs)];
    if sides.iter().all(|(_, side)| *side == sides[0].1) {
        return Ok(());
    }
    let known: Vec<&Version> = sides.iter().filter_map(|(_, side)| side.as_ref()).collect();
    for (who, side) in sides {
        let facts = side.as_ref().map_or_else(|| "nothing".to_owned(), |version| facts(version, &known));
        writeln!(out, "      {who:<6}  {facts}")?;
    }
    Ok(())
}

/// What it is, and of the rest what is not the same on all sides.
fn facts(version: &Version, all: &[&Version]) -> String {
    fn differs<T: PartialEq>(all: &[&Version], fact: impl Fn(&Version) -> T) -> bool {
        all.iter().any(|version| fact(version) != fact(all[0]))
    }
    let mut facts = vec![version.kind.words().to_owned()];
    if differs(all, |version| version.mode) {
        facts.push(format!("mode {:04o}", version.mode));
    }
    if differs(all, |version| (version.uid, version.gid)) {
        facts.push(format!("owner {}:{}", version.uid, version.gid));
    }
    facts.extend(version.size.map(|size| text::count(size, "byte")));
    if let Some(target) = &version.target {
        facts.push(format!("to {}", text::path(target)));
    }
    if differs(all, |version| version.mtime) {
        facts.extend(version.mtime.map(text::moment));
    }
    facts.join(", ")
}

#[cfg(test)]
mod tests {
    use branch_core::{ConflictKind, FileKind, PathBytes};

    use super::*;

    fn file(size: u64, mode: u32) -> Option<Version> {
        let (kind, size, mtime) = (FileKind::File, Some(size), Some(0));
        Some(Version { kind, mode, uid: 0, gid: 0, size, mtime, target: None })
    }

    fn text(conflict: Conflict) -> String {
        let mut out = Vec::new();
        describe(&mut out, &[conflict]).expect("a vector takes everything");
        String::from_utf8(out).expect("text")
    }

    fn conflict(base: Option<Version>, ours: Option<Version>, theirs: Option<Version>) -> Conflict {
        let (path, others) = (PathBytes(b"d/new\nline".to_vec()), vec![]);
        let (kind, reason, unmerged) = (ConflictKind::Content, "both".into(), None);
        Conflict { path, kind, reason, unmerged, others, base, ours, theirs }
    }

    #[test]
    fn the_sides_are_told_where_they_differ_and_only_in_what_differs() {
        assert_eq!(
            text(conflict(file(4, 0o644), file(1, 0o644), None)),
            "  \"d/new\\nline\": both\n      base    file, 4 bytes\n      ours    file, 1 byte\n      theirs  nothing\n"
        );
        assert_eq!(
            text(conflict(file(4, 0o644), file(4, 0o644), file(4, 0o644))),
            "  \"d/new\\nline\": both\n"
        );
        let modes = text(conflict(file(4, 0o644), file(4, 0o600), file(4, 0o644)));
        assert!(modes.contains("ours    file, mode 0600, 4 bytes\n"), "{modes}");
    }

    #[test]
    fn why_it_was_not_merged_is_told() {
        let unmerged = Conflict { unmerged: Some("binary".into()), ..conflict(None, None, None) };
        assert_eq!(text(unmerged), "  \"d/new\\nline\": both; merge: binary\n");
    }

    #[test]
    fn the_other_paths_of_a_moved_object_are_named() {
        let moved = Conflict { others: vec![PathBytes(b"x".to_vec())], ..conflict(None, None, None) };
        assert_eq!(text(moved), "  \"d/new\\nline\": both (also x)\n");
    }
}
