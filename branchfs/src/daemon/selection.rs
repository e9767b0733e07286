//! Which changes a partial commit takes: globs of a request as an answer for each path.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use branch_proto::{Failure, Part};
use branch_store::Error;
use globset::GlobSet;

use super::failure::of_store;
use super::globs::{check_number, set};

/// A part, ready to be asked.
pub(super) struct Selection {
    only: Option<GlobSet>,
    except: GlobSet,
}

impl Selection {
    /// `None` for everything.
    pub(super) fn new(part: &Part) -> Result<Option<Selection>, Failure> {
        check_number(&[&part.only, &part.except])?;
        if part.is_all() {
            return Ok(None);
        }
        let only = if part.only.is_empty() { None } else { Some(set(&part.only)?) };
        Ok(Some(Selection { only, except: set(&part.except)? }))
    }

    pub(super) fn selects(&self, path: &[u8]) -> bool {
        let path = OsStr::from_bytes(path);
        self.only.as_ref().is_none_or(|only| only.is_match(path)) && !self.except.is_match(path)
    }
}

/// What a client is told of a commit that came to nothing: a part without a change is its globs' fault.
pub(super) fn refused(error: Error, branch: &str, part: &Part) -> Failure {
    let Error::NothingSelected = error else { return of_store(error) };
    let reason = match (&part.only[..], &part.except[..]) {
        ([], except) => format!("'{branch}' has no change but what matches {}", listed(except)),
        (only, []) => format!("no change of '{branch}' matches {}", listed(only)),
        (only, except) => {
            format!("no change of '{branch}' matches {} and not {}", listed(only), listed(except))
        }
    };
    Failure::NotAllowed { reason }
}

fn listed(globs: &[String]) -> String {
    let quoted: Vec<String> = globs.iter().map(|glob| format!("'{glob}'")).collect();
    quoted.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(only: &[&str], except: &[&str]) -> Selection {
        let globs = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
        let part = Part { only: globs(only), except: globs(except) };
        Selection::new(&part).expect("globs").expect("a part")
    }

    #[test]
    fn a_part_is_what_one_list_names_without_what_the_other_does() {
        let part = selection(&["src", "*.toml"], &["src/gen", "**/*.log"]);
        for (path, selected) in [
            ("src", true),
            ("src/a/b", true),
            ("Cargo.toml", true),
            ("sub/Cargo.toml", false),
            ("src/gen/x", false),
            ("src/a.log", false),
            ("doc", false),
        ] {
            assert_eq!(part.selects(path.as_bytes()), selected, "{path}");
        }
        let rest = selection(&[], &["target"]);
        assert!(rest.selects(b"") && rest.selects(b"src") && !rest.selects(b"target/debug/x"));
    }

    #[test]
    fn a_part_without_a_change_is_told_with_its_globs() {
        let part = |only: &[&str], except: &[&str]| {
            let globs = |globs: &[&str]| globs.iter().map(|glob| (*glob).to_owned()).collect();
            let part = Part { only: globs(only), except: globs(except) };
            refused(Error::NothingSelected, "fix", &part).to_string()
        };
        assert_eq!(part(&["a", "b/*"], &[]), "no change of 'fix' matches 'a' or 'b/*'");
        assert_eq!(part(&[], &["**"]), "'fix' has no change but what matches '**'");
        assert_eq!(part(&["a"], &["a/b"]), "no change of 'fix' matches 'a' and not 'a/b'");
    }

    #[test]
    fn no_globs_are_everything_and_what_is_no_glob_is_named() {
        assert!(Selection::new(&Part::default()).expect("nothing wrong").is_none());
        let bad = Part { only: vec!["a[".to_owned()], except: vec![] };
        let failure = Selection::new(&bad).err().expect("no glob");
        assert!(failure.to_string().contains("'a['"), "{failure}");
    }
}
