//! Globs of a request: matched with whole paths; one that matches a directory stands for all that is in it.

use branch_proto::Failure;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Most globs in one request.
const GLOBS_MAX: usize = 1000;

/// Refuses more globs than one request may have.
pub(super) fn check_number(lists: &[&[String]]) -> Result<(), Failure> {
    if lists.iter().map(|globs| globs.len()).sum::<usize>() > GLOBS_MAX {
        return Err(Failure::Limit { reason: format!("at most {GLOBS_MAX} globs in one request") });
    }
    Ok(())
}

/// Globs, ready to be asked.
pub(super) fn set(globs: &[String]) -> Result<GlobSet, Failure> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        for pattern in [glob.clone(), format!("{}/**", glob.trim_end_matches('/'))] {
            let built = GlobBuilder::new(&pattern).literal_separator(true).backslash_escape(true).build();
            set.add(built.map_err(|error| bad(glob, &error))?);
        }
    }
    set.build().map_err(|error| bad(&globs.join(" "), &error))
}

fn bad(glob: &str, error: &globset::Error) -> Failure {
    Failure::NotAllowed { reason: format!("'{glob}' is no glob: {}", error.kind()) }
}
