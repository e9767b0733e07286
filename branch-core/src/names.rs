//! Names for branches nobody named.

use std::hash::{BuildHasher, Hasher, RandomState};

/// What to call the branches of a fork.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// These.
    Given(Vec<String>),
    /// So many, with names of our making.
    Count(usize),
}

impl Names {
    /// The names; made ones share a random stem, so that a group is recognisable and unlikely to exist.
    pub(crate) fn resolve(self, stem: &str) -> Vec<String> {
        match self {
            Names::Given(names) => names,
            Names::Count(count) => {
                // The standard library's hash seeds are the system's randomness; 32 bits will do.
                let tag = RandomState::new().build_hasher().finish() as u32;
                (1..=count).map(|i| format!("{stem}-{tag:08x}-{i}")).collect()
            }
        }
    }
}

impl From<usize> for Names {
    fn from(count: usize) -> Names {
        Names::Count(count)
    }
}

impl From<&str> for Names {
    fn from(name: &str) -> Names {
        Names::Given(vec![name.to_owned()])
    }
}

impl<S: Into<String>, const N: usize> From<[S; N]> for Names {
    fn from(names: [S; N]) -> Names {
        Names::Given(names.into_iter().map(Into::into).collect())
    }
}

impl From<Vec<String>> for Names {
    fn from(names: Vec<String>) -> Names {
        Names::Given(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_names_differ_within_a_fork_and_between_forks() {
        let first = Names::from(3).resolve("try");
        let second = Names::from(3).resolve("try");
        assert_eq!(first.len(), 3);
        assert!(first.iter().all(|name| name.starts_with("try-") && !second.contains(name)));
        assert_ne!(first[0], first[1]);
    }
}
