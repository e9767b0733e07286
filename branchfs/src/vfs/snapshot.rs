//! A directory listing frozen for one reader: offsets stay valid whatever is created or removed meanwhile.

/// The entries of a directory; `.` and `..` come before them.
pub(crate) struct Snapshot<E> {
    entries: Vec<E>,
}

/// One step of a walk through a listing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a, E> {
    /// `.`
    Own,
    /// `..`
    Parent,
    /// An entry.
    Entry(&'a E),
}

const DOTS: u64 = 2;

impl<E> Snapshot<E> {
    pub(crate) fn new(entries: Vec<E>) -> Snapshot<E> {
        Snapshot { entries }
    }

    /// The steps from `offset` on, each with the offset that follows it. An offset never given out is the end.
    pub(crate) fn walk(&self, offset: u64) -> impl Iterator<Item = (u64, Step<'_, E>)> {
        let end = DOTS + self.entries.len() as u64;
        (offset..end).map(|at| (at + 1, self.step(at)))
    }

    fn step(&self, at: u64) -> Step<'_, E> {
        match at {
            0 => Step::Own,
            1 => Step::Parent,
            _ => Step::Entry(&self.entries[(at - DOTS) as usize]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_resumes_at_any_offset_it_gave_out() {
        let snapshot = Snapshot::new(vec!["a", "b"]);
        let all: Vec<_> = snapshot.walk(0).collect();
        assert_eq!(all.len(), 4);
        for (n, (next, _)) in all.iter().enumerate() {
            let rest: Vec<_> = snapshot.walk(*next).collect();
            assert_eq!(rest[..], all[n + 1..]);
        }
        assert_eq!(all[2], (3, Step::Entry(&"a")));
    }

    #[test]
    fn an_empty_directory_still_has_its_dots() {
        let empty: Snapshot<()> = Snapshot::new(Vec::new());
        let steps: Vec<_> = empty.walk(0).map(|(_, step)| step).collect();
        assert_eq!(steps, [Step::Own, Step::Parent]);
    }

    #[test]
    fn an_offset_from_nowhere_is_the_end() {
        let snapshot = Snapshot::new(vec!["a"]);
        assert_eq!(snapshot.walk(3).count(), 0);
        assert_eq!(snapshot.walk(u64::MAX).count(), 0);
    }
}
