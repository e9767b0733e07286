//! Three-way merge of lines, for `commit --merge`. What only one side changed is taken, what both changed alike, too;
//! what both changed and is not apart by a common line is a conflict: the rules of `git merge-file`. Pure.
//!
//! The comparison of two texts is a crate's. (One that merges as well took a minute for a megabyte in which every line
//! differs, and this runs under the locks of a commit: here the comparison gives up looking for the best in time.)

use std::ops::Range;

use branch_store::{MergedText, Texts};
use imara_diff::{Algorithm, Diff, Hunk, InternedInput};

/// Conflicts named in the reason for a refusal.
const NAMED_MAX: usize = 3;

/// Both changes together, if nowhere both changed the same lines.
///
/// # Errors
/// In words: why there is no such text.
pub fn clean(texts: &Texts<'_>) -> Result<MergedText, String> {
    let merged = merge(texts)?;
    if merged.conflicts.is_empty() {
        return Ok(MergedText { bytes: merged.bytes, markers: 0 });
    }
    if texts.base.is_none() {
        return Err("both made it, differently".to_owned());
    }
    let all = merged.conflicts.iter().map(lines_in_words).take(NAMED_MAX).collect::<Vec<_>>();
    let more = match merged.conflicts.len() - all.len() {
        0 => String::new(),
        n => format!(" and in {n} more places"),
    };
    Err(format!("both changed {}{more}", all.join(", ")))
}

/// The same, with the versions of both, and of what they started from, between markers where they conflict.
///
/// # Errors
/// In words: why there is no such text.
pub fn marked(texts: &Texts<'_>) -> Result<MergedText, String> {
    let merged = merge(texts)?;
    Ok(MergedText { bytes: merged.bytes, markers: merged.conflicts.len() })
}

/// A text with conflicts between markers, and the lines of the base that they are about.
struct Merged {
    bytes: Vec<u8>,
    conflicts: Vec<Range<usize>>,
}

fn merge(texts: &Texts<'_>) -> Result<Merged, String> {
    let versions = [Some(texts.ours), Some(texts.theirs), texts.base];
    if versions.into_iter().flatten().any(|text| text.contains(&0)) {
        return Err("binary".to_owned());
    }
    let (ours, theirs) = (lines(texts.ours), lines(texts.theirs));
    let mut out = Out { texts, bytes: Vec::new(), conflicts: Vec::new() };
    match texts.base {
        Some(base) => out.three_way(&lines(base), &ours, &theirs),
        None => out.two_way(&ours, &theirs),
    }
    Ok(Merged { bytes: out.bytes, conflicts: out.conflicts })
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

fn changes(old: &[&[u8]], new: &[&[u8]]) -> Vec<Hunk> {
    let mut input: InternedInput<&[u8]> = InternedInput::default();
    input.update_before(old.iter().copied());
    input.update_after(new.iter().copied());
    let mut diff = Diff::compute(Algorithm::Myers, &input);
    diff.postprocess_no_heuristic(&input);
    diff.hunks().collect()
}

fn range(of: &Range<u32>) -> Range<usize> {
    of.start as usize..of.end as usize
}

/// One side on its way through the base.
struct Side<'a> {
    lines: &'a [&'a [u8]],
    changes: std::iter::Peekable<std::vec::IntoIter<Hunk>>,
    /// The first of its lines that is not written yet, while base and side are level.
    at: usize,
}

impl<'a> Side<'a> {
    fn new(base: &[&[u8]], lines: &'a [&'a [u8]]) -> Side<'a> {
        Side { lines, changes: changes(base, lines).into_iter().peekable(), at: 0 }
    }

    fn next_start(&mut self) -> Option<usize> {
        self.changes.peek().map(|hunk| hunk.before.start as usize)
    }

    /// Takes the changes that touch the lines of the base up to `end`; returns how far they reach, and the lines that
    /// they add less those they remove.
    fn absorb(&mut self, mut end: usize, grown: &mut isize) -> Option<usize> {
        let mut any = false;
        while let Some(hunk) = self.changes.next_if(|hunk| hunk.before.start as usize <= end) {
            any = true;
            end = end.max(hunk.before.end as usize);
            *grown += hunk.after.len() as isize - hunk.before.len() as isize;
        }
        any.then_some(end)
    }
}

struct Out<'a> {
    texts: &'a Texts<'a>,
    bytes: Vec<u8>,
    conflicts: Vec<Range<usize>>,
}

impl Out<'_> {
    fn three_way(&mut self, base: &[&[u8]], ours: &[&[u8]], theirs: &[&[u8]]) {
        let mut sides = [Side::new(base, ours), Side::new(base, theirs)];
        let mut at = 0;
        loop {
            let [a, b] = &mut sides;
            let Some(start) = a.next_start().into_iter().chain(b.next_start()).min() else { break };
            self.write(&base[at..start]);
            sides.iter_mut().for_each(|side| side.at += start - at);
            at = self.group(base, &mut sides, start);
        }
        self.write(&base[at..]);
    }

    /// Changes of both sides that no common line keeps apart. Returns the end of them in the base.
    fn group(&mut self, base: &[&[u8]], sides: &mut [Side<'_>; 2], start: usize) -> usize {
        let (mut end, mut grown, mut changed) = (start, [0, 0], [false, false]);
        loop {
            let before = (end, changed);
            for (n, side) in sides.iter_mut().enumerate() {
                if let Some(reached) = side.absorb(end, &mut grown[n]) {
                    (end, changed[n]) = (reached, true);
                }
            }
            if before == (end, changed) {
                break;
            }
        }
        let mut texts: [&[&[u8]]; 2] = [&[], &[]];
        for (n, side) in sides.iter_mut().enumerate() {
            let from = side.at;
            side.at = (from + end - start).saturating_add_signed(grown[n]);
            texts[n] = &side.lines[from..side.at];
        }
        let [ours, theirs] = texts;
        match changed {
            [_, false] => self.write(ours),
            [false, true] => self.write(theirs),
            [true, true] if ours == theirs => self.write(ours),
            [true, true] => {
                self.conflicts.push(start..end);
                self.conflict(Some(&base[start..end]), ours, theirs);
            }
        }
        end
    }

    /// Where there is nothing to start from, what differs is a conflict.
    fn two_way(&mut self, ours: &[&[u8]], theirs: &[&[u8]]) {
        let mut at = 0;
        for hunk in changes(ours, theirs) {
            let our = range(&hunk.before);
            self.write(&ours[at..our.start]);
            at = our.end;
            self.conflicts.push(our.clone());
            self.conflict(None, &ours[our], &theirs[range(&hunk.after)]);
        }
        self.write(&ours[at..]);
    }

    fn write(&mut self, lines: &[&[u8]]) {
        lines.iter().for_each(|line| self.bytes.extend_from_slice(line));
    }

    fn conflict(&mut self, base: Option<&[&[u8]]>, ours: &[&[u8]], theirs: &[&[u8]]) {
        // Markers end as the lines around them do.
        let lines = [ours, theirs, base.unwrap_or_default()].concat();
        let eol: &[u8] =
            if lines.first().is_some_and(|line| line.ends_with(b"\r\n")) { b"\r\n" } else { b"\n" };
        let (our_name, their_name) = (self.texts.our_name, self.texts.their_name);
        self.marker(&format!("<<<<<<< {our_name}"), eol);
        self.write(ours);
        if let Some(base) = base {
            self.marker("|||||||", eol);
            self.write(base);
        }
        self.marker("=======", eol);
        self.write(theirs);
        self.marker(&format!(">>>>>>> {their_name}"), eol);
    }

    fn marker(&mut self, text: &str, eol: &[u8]) {
        if self.bytes.last().is_some_and(|last| *last != b'\n') {
            self.bytes.extend_from_slice(eol);
        }
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.extend_from_slice(eol);
    }
}

/// Lines as people count them, of what both started from.
fn lines_in_words(lines: &Range<usize>) -> String {
    match lines.len() {
        0 => format!("what follows line {}", lines.start),
        1 => format!("line {}", lines.end),
        _ => format!("lines {}-{}", lines.start + 1, lines.end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<'a>(base: Option<&'a str>, ours: &'a str, theirs: &'a str) -> Texts<'a> {
        let base = base.map(str::as_bytes);
        Texts { base, ours: ours.as_bytes(), theirs: theirs.as_bytes(), our_name: "b", their_name: "main" }
    }

    fn cleanly(base: &str, ours: &str, theirs: &str) -> Result<String, String> {
        let merged = clean(&texts(Some(base), ours, theirs))?;
        assert_eq!(merged.markers, 0);
        Ok(String::from_utf8(merged.bytes).expect("text"))
    }

    fn with_markers(base: Option<&str>, ours: &str, theirs: &str) -> (String, usize) {
        let merged = marked(&texts(base, ours, theirs)).expect("text");
        (String::from_utf8(merged.bytes).expect("text"), merged.markers)
    }

    #[test]
    fn what_one_side_changed_is_taken_and_what_both_did_alike_once() {
        let base = "1\n2\n3\n4\n5\n6\n7\n";
        let merged = |ours, theirs| cleanly(base, ours, theirs);
        assert_eq!(
            merged("one\n2\n3\n4\n5\n6\n7\n", "1\n2\n3\n4\n5\n6\nseven\n").unwrap(),
            "one\n2\n3\n4\n5\n6\nseven\n"
        );
        assert_eq!(
            merged("0\n1\n2\n3\n4\n5\n6\n7\n", "1\n2\n4\n5\n6\n7\n").unwrap(),
            "0\n1\n2\n4\n5\n6\n7\n"
        );
        assert_eq!(
            merged("1\n2\n3\nX\n5\n6\n7\n", "1\n2\n3\nX\n5\n6\n7\n8\n").unwrap(),
            "1\n2\n3\nX\n5\n6\n7\n8\n"
        );
        assert_eq!(merged(base, "").unwrap(), "");
        assert_eq!(cleanly("", "new\n", "").unwrap(), "new\n");
        assert_eq!(cleanly("a\nb\nc\nd", "A\nb\nc\nd", "a\nb\nc\nd\ne").unwrap(), "A\nb\nc\nd\ne");
        assert_eq!(
            cleanly("a\r\nb\r\nc\r\n", "A\r\nb\r\nc\r\n", "a\r\nb\r\nC\r\n").unwrap(),
            "A\r\nb\r\nC\r\n"
        );
    }

    #[test]
    fn where_both_changed_the_lines_are_named() {
        let base = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        assert_eq!(cleanly("1\n", "2\n", "3\n").unwrap_err(), "both changed line 1");
        assert_eq!(
            cleanly(base, "1\n2\nx\ny\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nz\n6\n7\n8\n9\n").unwrap_err(),
            "both changed lines 3-5"
        );
        assert_eq!(cleanly("1\n", "1\n2\n", "1\n3\n").unwrap_err(), "both changed what follows line 1");
        let every =
            |with: &str| base.lines().step_by(2).map(|n| format!("{with}\n{n}\n")).collect::<String>();
        let odd = base.lines().step_by(2).map(|n| format!("{n}\n")).collect::<String>();
        assert_eq!(
            cleanly(&odd, &every("a"), &every("b")).unwrap_err(),
            "both changed what follows line 0, what follows line 1, what follows line 2 and in 2 more places"
        );
        assert_eq!(clean(&texts(None, "a", "b")).unwrap_err(), "both made it, differently");
        assert_eq!(cleanly("a\n", "a\0\n", "b\n").unwrap_err(), "binary");
        assert_eq!(marked(&texts(Some("\0"), "a", "b")).unwrap_err(), "binary");
    }

    #[test]
    fn markers_say_whose_the_versions_are_and_stand_on_lines_of_their_own() {
        let (text, conflicts) = with_markers(Some("1\n2\n3"), "1\n2\nours", "0\n1\n2\ntheirs");
        assert_eq!(conflicts, 1);
        assert_eq!(text, "0\n1\n2\n<<<<<<< b\nours\n|||||||\n3\n=======\ntheirs\n>>>>>>> main\n");
        let (text, _) = with_markers(Some("1\r\n"), "2\r\n", "3\r\n");
        assert_eq!(text, "<<<<<<< b\r\n2\r\n|||||||\r\n1\r\n=======\r\n3\r\n>>>>>>> main\r\n");
        let (text, conflicts) = with_markers(None, "same\nours\n", "same\n");
        assert_eq!((&text[..], conflicts), ("same\n<<<<<<< b\nours\n=======\n>>>>>>> main\n", 1));
    }

    /// It runs under the locks of a commit.
    #[test]
    fn texts_of_which_every_line_differs_do_not_take_for_ever() {
        let text = |who: &str| (0..50_000).map(|n| format!("{who} {n}\n")).collect::<String>();
        let (base, ours, theirs) = (text("base"), text("ours"), text("theirs"));
        let start = std::time::Instant::now();
        assert_eq!(cleanly(&base, &ours, &theirs).unwrap_err(), "both changed lines 1-50000");
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
    }
}
