//! Names of branches that became stale, so that a loser is told why its branch is gone (S12). The engine
//! knows live names only; after a restart the answer is that there is no such branch.

use std::collections::VecDeque;

use branch_proto::Failure;
use parking_lot::Mutex;

/// Most names remembered, the newest.
const REMEMBERED_MAX: usize = 4096;

/// The names; a leaf lock.
#[derive(Default)]
pub(super) struct Departed(Mutex<VecDeque<String>>);

impl Departed {
    /// A branch became stale.
    pub(super) fn stale(&self, name: &str) {
        let mut names = self.0.lock();
        names.push_back(name.to_owned());
        if names.len() > REMEMBERED_MAX {
            names.pop_front();
        }
    }

    /// "Stale" instead of "no such branch" where that is the reason.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        match failure {
            Failure::NoSuchBranch { name } if self.0.lock().contains(&name) => Failure::Stale { name },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loser_is_stale_and_a_stranger_is_not_there() {
        let departed = Departed::default();
        departed.stale("loser");
        let ask = |name: &str| departed.explain(Failure::NoSuchBranch { name: name.into() });
        assert_eq!(ask("loser"), Failure::Stale { name: "loser".into() });
        assert_eq!(ask("stranger"), Failure::NoSuchBranch { name: "stranger".into() });
    }

    #[test]
    fn only_so_many_names_are_remembered() {
        let departed = Departed::default();
        (0..=REMEMBERED_MAX).for_each(|n| departed.stale(&format!("b{n}")));
        assert_eq!(departed.0.lock().len(), REMEMBERED_MAX);
        let first = Failure::NoSuchBranch { name: "b0".into() };
        assert_eq!(departed.explain(first.clone()), first);
    }
}
