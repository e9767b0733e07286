//! The merge of texts against `git merge-file`, on random ones.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use branch_store::Texts;
use branchfs::text_merge::{clean, marked};
use branchfs_tests::{Rng, rounds, seed};

/// What git makes of it, and in how many places both changed the same.
fn git(dir: &Path, [base, ours, theirs]: [&str; 3]) -> (Vec<u8>, i32) {
    for (name, text) in [("base", base), ("ours", ours), ("theirs", theirs)] {
        std::fs::write(dir.join(name), text).expect("a file");
    }
    let labels = ["-L", "b", "-L", "", "-L", "main"];
    let out = Command::new("git")
        .args(["merge-file", "-p", "--diff3"])
        .args(labels)
        .args(["ours", "base", "theirs"])
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .expect("git runs");
    (out.stdout, out.status.code().expect("no signal"))
}

/// A text of lines that are all different, or of few that come again and again.
fn text(rng: &mut Rng, alike: bool) -> Vec<String> {
    let lines = rng.below(30);
    (0..lines)
        .map(|n| match alike {
            true => format!("{}\n", rng.pick(&["{", "}", "", "x", "return"])),
            false => format!("line {n}\n"),
        })
        .collect()
}

fn edited(rng: &mut Rng, text: &[String], alike: bool) -> Vec<String> {
    let mut text = text.to_vec();
    for _ in 0..rng.below(4) {
        let at = rng.below(text.len() as u64 + 1) as usize;
        let new = match alike {
            true => format!("{}\n", rng.pick(&["{", "}", "", "x", "return"])),
            // Both sides do the same now and then.
            false => format!("new {}\n", rng.below(4)),
        };
        match rng.below(3) {
            0 => text.insert(at, new),
            1 if at < text.len() => text[at] = new,
            2 if at < text.len() => drop(text.drain(at..(at + 1 + rng.below(3) as usize).min(text.len()))),
            _ => {}
        }
    }
    if rng.below(10) == 0
        && let Some(last) = text.last_mut()
        && last.len() > 1
    {
        last.pop();
    }
    text
}

struct Seen {
    clean: u64,
    conflicts: u64,
    /// Where git and we take other lines of several equal ones for those that were kept.
    other: u64,
}

fn compare(rng: &mut Rng, dir: &Path, alike: bool, rounds: u64) -> Seen {
    let mut seen = Seen { clean: 0, conflicts: 0, other: 0 };
    for round in 0..rounds {
        let base = text(rng, alike);
        let versions =
            [base.clone(), edited(rng, &base, alike), edited(rng, &base, alike)].map(|t| t.concat());
        let [base, ours, theirs] = [&versions[0], &versions[1], &versions[2]].map(String::as_str);
        let texts = Texts {
            base: Some(base.as_bytes()),
            ours: ours.as_bytes(),
            theirs: theirs.as_bytes(),
            our_name: "b",
            their_name: "main",
        };
        let (merged, conflicts) = git(dir, [base, ours, theirs]);
        // git writes a label after the marker of the base also where that is empty.
        let merged = String::from_utf8(merged).expect("text").replace("||||||| \n", "|||||||\n");
        let got = marked(&texts).expect("text");
        let text = String::from_utf8(got.bytes).expect("text");
        assert_eq!(clean(&texts).is_ok(), got.markers == 0);
        let same = (got.markers == 0) == (conflicts == 0) && (text == merged || conflicts != 0 && alike);
        match (same, conflicts) {
            (true, 0) => seen.clean += 1,
            (true, _) => seen.conflicts += 1,
            (false, _) if alike => seen.other += 1,
            (false, _) => {
                let mut said = format!("round {round}, git: {conflicts} conflicts, we: {}\n", got.markers);
                for (name, text) in
                    [("base", base), ("ours", ours), ("theirs", theirs), ("git", &merged), ("we", &text)]
                {
                    write!(said, "--- {name}\n{text}").expect("a string takes everything");
                }
                panic!("{said}");
            }
        }
    }
    seen
}

/// Where every line is told from every other, both find the same: what is clean, to the byte, and what is a conflict,
/// with the same lines between the markers.
#[test]
fn texts_of_lines_that_are_told_apart_merge_as_git_merges_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let rounds = rounds(400);
    let seen = compare(&mut Rng::new(seed(), 0), dir.path(), false, rounds);
    eprintln!("{} clean, {} conflicts", seen.clean, seen.conflicts);
    assert!(seen.clean > rounds / 8 && seen.conflicts > rounds / 8, "both are looked at");
}

/// Which of several equal lines were kept is a matter of opinion: two comparisons that are as short can differ, and then
/// what touches what does. That is rare.
#[test]
fn texts_of_lines_that_are_alike_mostly_merge_as_git_merges_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let rounds = rounds(400);
    let seen = compare(&mut Rng::new(seed(), 1), dir.path(), true, rounds);
    eprintln!("{} clean, {} conflicts, {} otherwise", seen.clean, seen.conflicts, seen.other);
    assert!(seen.other * 10 < rounds, "{} of {rounds} otherwise", seen.other);
}
