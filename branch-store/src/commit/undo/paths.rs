//! Paths before a commit and after it: what it moved has two.

use std::collections::{HashMap, HashSet};

use crate::node::HostKey;
use crate::plan::{Park, Plan, RelPath, Step, join};

/// Which paths the exchanges of a plan speak of: it is a branch's, or takes another back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exchanges {
    UnderNewPaths,
    UnderOldPaths,
}

pub(super) struct Paths {
    /// Old path of each moved object to the new one, and back.
    to: HashMap<RelPath, RelPath>,
    from: HashMap<RelPath, RelPath>,
    /// Places through which something only passes on its way.
    passed: HashSet<Park>,
    /// Names the commit gave.
    given: HashSet<RelPath>,
    /// Names the commit took, and what had them.
    taken: HashMap<RelPath, HostKey>,
    /// Names, under their old paths, whose objects it replaced in one step.
    swapped: HashSet<RelPath>,
}

impl Paths {
    pub(super) fn of(plan: &Plan, exchanges: Exchanges) -> Paths {
        let left: HashMap<Park, &RelPath> = plan.steps.iter().filter_map(detached).collect();
        let mut paths = Paths {
            to: HashMap::new(),
            from: HashMap::new(),
            passed: HashSet::new(),
            given: HashSet::new(),
            taken: HashMap::new(),
            swapped: HashSet::new(),
        };
        for step in &plan.steps {
            match step {
                Step::Attach { park, path, .. } => {
                    paths.given.insert(path.clone());
                    if let Some(old) = left.get(park) {
                        paths.to.insert((*old).clone(), path.clone());
                        paths.from.insert(path.clone(), (*old).clone());
                        paths.passed.insert(*park);
                    }
                }
                Step::AddLink { path, .. } => _ = paths.given.insert(path.clone()),
                Step::Detach { path, object, .. } => _ = paths.taken.insert(path.clone(), *object),
                Step::Exchange { .. } | Step::Rewrite { .. } | Step::SetMeta { .. } => {}
            }
        }
        let swapped = plan.steps.iter().filter_map(|step| match (step, exchanges) {
            (Step::Exchange { path, .. }, Exchanges::UnderOldPaths) => Some(path.clone()),
            (Step::Exchange { path, .. }, Exchanges::UnderNewPaths) => Some(paths.before(path)),
            _ => None,
        });
        paths.swapped = swapped.collect();
        paths
    }

    /// Whether what is at the place was moved: it is no preimage.
    pub(super) fn passed(&self, park: Park) -> bool {
        self.passed.contains(&park)
    }

    /// Whether the commit gave this name by itself, and not as part of a directory.
    pub(super) fn is_given(&self, path: &[u8]) -> bool {
        self.given.contains(path)
    }

    /// Where an object is that was at a path before; `None`: the commit removed or replaced it, or a directory above.
    pub(super) fn after(&self, old: &[u8]) -> Option<RelPath> {
        prefixes(old)
            .find_map(|(prefix, rest)| match self.to.get(prefix) {
                Some(new) => Some(Some(append(new, rest))),
                None if self.taken.contains_key(prefix) || self.swapped.contains(prefix) => Some(None),
                None => None,
            })
            .unwrap_or_else(|| Some(old.to_vec()))
    }

    /// Where a name is that was at a path before, whatever it means now.
    pub(super) fn name_after(&self, old: &[u8]) -> Option<RelPath> {
        let (above, name) = split(old);
        Some(join(&self.after(above)?, name))
    }

    /// Where an object was that is at a path now.
    pub(super) fn before(&self, new: &[u8]) -> RelPath {
        let moved = prefixes(new).find_map(|(prefix, rest)| Some(append(self.from.get(prefix)?, rest)));
        moved.unwrap_or_else(|| new.to_vec())
    }
}

fn detached(step: &Step) -> Option<(Park, &RelPath)> {
    match step {
        Step::Detach { park, path, .. } => Some((*park, path)),
        _ => None,
    }
}

/// A path and the directories above it, longest first, each with what is below.
fn prefixes(path: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let slashes = (0..path.len()).rev().filter(|at| path[*at] == b'/');
    std::iter::once((path, &b""[..])).chain(slashes.map(|at| (&path[..at], &path[at + 1..])))
}

fn append(path: &[u8], rest: &[u8]) -> RelPath {
    if rest.is_empty() { path.to_vec() } else { join(path, rest) }
}

/// The directory and the name in it.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], path),
    }
}

pub(super) fn depth(path: &[u8]) -> usize {
    path.iter().filter(|byte| **byte == b'/').count() + usize::from(!path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CommitId;

    #[test]
    fn what_lies_below_a_moved_directory_moves_with_it() {
        let park = |number| Park { commit: CommitId(1), number };
        let object = HostKey { dev: 1, ino: 1 };
        let detach = |path: &[u8], n| Step::Detach {
            path: path.to_vec(),
            from: object,
            park: park(n),
            object,
            dir: None,
        };
        let attach = |path: &[u8], n| Step::Attach { park: park(n), path: path.to_vec(), object, dir: None };
        let steps = vec![detach(b"a", 1), detach(b"gone", 2), attach(b"x/b", 1), attach(b"new", 3)];
        let paths = Paths::of(&Plan { steps, ..Plan::default() }, Exchanges::UnderNewPaths);
        assert_eq!(paths.after(b"a/f").as_deref(), Some(&b"x/b/f"[..]));
        assert_eq!(paths.after(b"a").as_deref(), Some(&b"x/b"[..]));
        assert_eq!(paths.after(b"gone/f"), None);
        assert_eq!(paths.after(b"ab").as_deref(), Some(&b"ab"[..]));
        assert_eq!(paths.before(b"x/b/f"), b"a/f");
        assert_eq!(paths.before(b"x/bb"), b"x/bb");
        assert!(paths.passed(park(1)) && !paths.passed(park(2)) && paths.is_given(b"new"));
    }
}
