//! How many lines were added and removed between two texts.

use std::hash::{BuildHasher, RandomState};

/// Most edits looked for; a file that differs in more gets no counts. Time grows with its square.
const EDITS_MAX: usize = 4096;
/// Where git looks for a NUL to tell binary from text.
const BINARY_PREFIX: usize = 8000;

/// Lines added and removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) added: u64,
    pub(super) removed: u64,
}

/// Counts as the shortest edit script does; `None` for binary content and for texts too different.
pub(super) fn count(old: &[u8], new: &[u8]) -> Option<Lines> {
    if is_binary(old) || is_binary(new) {
        return None;
    }
    let hasher = RandomState::new();
    let hash = |text: &[u8]| -> Vec<u64> {
        text.split_inclusive(|byte| *byte == b'\n').map(|line| hasher.hash_one(line)).collect()
    };
    let (old, new) = (hash(old), hash(new));
    let (old, new) = without_common_ends(&old, &new);
    // edits = added + removed, and added - removed is known from the lengths.
    let edits = shortest_edit(old, new)?;
    let removed = (edits + old.len() - new.len()) / 2;
    Some(Lines { added: (edits - removed) as u64, removed: removed as u64 })
}

fn is_binary(text: &[u8]) -> bool {
    text[..text.len().min(BINARY_PREFIX)].contains(&0)
}

fn without_common_ends<'a>(old: &'a [u64], new: &'a [u64]) -> (&'a [u64], &'a [u64]) {
    let front = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[front..], &new[front..]);
    let back = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    (&old[..old.len() - back], &new[..new.len() - back])
}

/// Length of the shortest edit script: Myers, "An O(ND) Difference Algorithm and Its Variations", 1986,
/// the greedy algorithm. `reach[offset + k]` is the furthest `x` on diagonal `k = x - y`.
fn shortest_edit(old: &[u64], new: &[u64]) -> Option<usize> {
    if old.is_empty() || new.is_empty() {
        return Some(old.len() + new.len());
    }
    let most = (old.len() + new.len()).min(EDITS_MAX);
    let offset = most + 1;
    let mut reach = vec![0usize; 2 * most + 3];
    for edits in 0..=most {
        for at in (offset - edits..=offset + edits).step_by(2) {
            let down = at == offset - edits || (at != offset + edits && reach[at - 1] < reach[at + 1]);
            let mut x = if down { reach[at + 1] } else { reach[at - 1] + 1 };
            // Above the grid (y < 0) there is nothing to match.
            let Some(mut y) = (x + offset).checked_sub(at) else { continue };
            while x < old.len() && y < new.len() && old[x] == new[y] {
                (x, y) = (x + 1, y + 1);
            }
            reach[at] = x;
            if x >= old.len() && y >= new.len() {
                return Some(edits);
            }
        }
    }
    None
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
    fn binary_content_and_very_different_texts_have_no_counts() {
        assert_eq!(count(b"a\0b", b"a"), None);
        let lines = |prefix: &str| (0..5000).map(|n| format!("{prefix}{n}\n")).collect::<String>();
        assert_eq!(count(lines("a").as_bytes(), lines("b").as_bytes()), None);
        assert_eq!(count(b"", lines("b").as_bytes()), Some(Lines { added: 5000, removed: 0 }));
    }
}
