//! Which paths and which variables a rule means: no more than what the kernel can enforce.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A path a rule is about: that object and, if it is a directory, everything beneath it.
///
/// Written as an absolute path, with or without a trailing `/**`, which means the same. Landlock
/// (`landlock(7)`) binds rights to directories and files, not to names, so nothing finer can be enforced: a
/// pattern like `*.env` is an error and not a promise. A rule for a path that is not there when the program
/// starts grants nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern(PathBuf);

/// Why text is no [`PathPattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Neither absolute nor anything else that means one place.
    #[error("{0:?} is not absolute: write the whole path (~ and variables are not expanded)")]
    Relative(String),
    /// `*`, `?` or `[` other than in a trailing `/**`.
    #[error(
        "{0:?} cannot be enforced: Landlock's rules are directories (with all beneath them) and single files, so \
         only a trailing /** may stand for several names"
    )]
    Glob(String),
    /// `.` or `..`, which mean another place after a symbolic link.
    #[error("{0:?} contains . or ..: write the path it comes to")]
    Dots(String),
    /// A NUL byte.
    #[error("{0:?} contains a NUL byte")]
    Nul(String),
    /// Nothing is left of a name pattern, or it contains `=`.
    #[error("{0:?} is no pattern for a variable's name")]
    Name(String),
}

impl PathPattern {
    /// Checks a path.
    ///
    /// # Errors
    /// [`PatternError`], for what the kernel could not enforce.
    pub fn new(path: impl AsRef<Path>) -> Result<PathPattern, PatternError> {
        let path = path.as_ref();
        let shown = || path.to_string_lossy().into_owned();
        let bytes = path.as_os_str().as_bytes();
        let plain = match bytes {
            b"/**" => b"/",
            _ => bytes.strip_suffix(b"/**").unwrap_or(bytes),
        };
        if !plain.starts_with(b"/") {
            return Err(PatternError::Relative(shown()));
        }
        if plain.iter().any(|byte| b"*?[".contains(byte)) {
            return Err(PatternError::Glob(shown()));
        }
        if plain.contains(&0) {
            return Err(PatternError::Nul(shown()));
        }
        if plain.split(|&byte| byte == b'/').any(|name| name == b"." || name == b"..") {
            return Err(PatternError::Dots(shown()));
        }
        let normal: PathBuf = Path::new(OsStr::from_bytes(plain)).components().collect();
        Ok(PathPattern(normal))
    }

    /// The directory or file.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether the rule is about this (absolute, symbolic links followed) path.
    pub fn covers(&self, path: &Path) -> bool {
        path.starts_with(&self.0)
    }
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<PathPattern, PatternError> {
        PathPattern::new(text)
    }
}

impl TryFrom<String> for PathPattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<PathPattern, PatternError> {
        PathPattern::new(text)
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> String {
        pattern.to_string()
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// An absolute path without `.` and `..`, by its text alone.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// Which variables of the caller's environment a program gets: a name, with `*` for any run of characters.
/// With `!` in front it takes away what others let through, wherever it stands in the list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern(String);

impl NamePattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// [`PatternError::Name`] if no variable can have such a name.
    pub fn new(text: impl Into<String>) -> Result<NamePattern, PatternError> {
        let text = text.into();
        if text.trim_start_matches('!').is_empty() || text.contains(['=', '\0']) {
            return Err(PatternError::Name(text));
        }
        Ok(NamePattern(text))
    }

    fn matches(&self, name: &[u8]) -> bool {
        glob(self.0.trim_start_matches('!').as_bytes(), name)
    }

    fn takes_away(&self) -> bool {
        self.0.starts_with('!')
    }
}

impl TryFrom<String> for NamePattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<NamePattern, PatternError> {
        NamePattern::new(text)
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> String {
        pattern.0
    }
}

/// Whether a list of patterns lets a variable through.
pub(crate) fn lets_through(patterns: &[NamePattern], name: &OsStr) -> bool {
    let matching = || patterns.iter().filter(|pattern| pattern.matches(name.as_bytes()));
    matching().next().is_some() && !matching().any(NamePattern::takes_away)
}

/// `*` is any run of bytes; everything else is itself. Linear but for the last star's retries.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut pos) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while pos < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, pos));
            at += 1;
        } else if pattern.get(at) == Some(&text[pos]) {
            at += 1;
            pos += 1;
        } else if let Some((star_at, star_pos)) = star {
            star = Some((star_at, star_pos + 1));
            at = star_at + 1;
            pos = star_pos + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_and_its_subtree_are_the_same_pattern() {
        for text in ["/usr", "/usr/", "/usr/**", "//usr"] {
            assert_eq!(text.parse::<PathPattern>().unwrap().path(), Path::new("/usr"), "{text}");
        }
        assert_eq!("/**".parse::<PathPattern>().unwrap(), "/".parse().unwrap());
        let usr = PathPattern::new("/usr").unwrap();
        assert!(usr.covers(Path::new("/usr")) && usr.covers(Path::new("/usr/bin/sh")));
        assert!(!usr.covers(Path::new("/usr2")) && !usr.covers(Path::new("/")));
    }

    #[test]
    fn what_landlock_cannot_express_is_an_error() {
        let error = |text: &str| text.parse::<PathPattern>().unwrap_err();
        for text in ["/home/*.env", "/**/secret", "/a/*", "/a/?", "/a/[b]", "/a**"] {
            assert_eq!(error(text), PatternError::Glob(text.to_owned()));
        }
        for text in ["", "usr", "~/.ssh", "$HOME", "./a", "**"] {
            assert_eq!(error(text), PatternError::Relative(text.to_owned()), "{text}");
        }
        for text in ["/a/../b", "/a/.", "/.."] {
            assert_eq!(error(text), PatternError::Dots(text.to_owned()), "{text}");
        }
        assert_eq!(error("/a\0"), PatternError::Nul("/a\0".to_owned()));
    }

    #[test]
    fn paths_are_made_normal_by_their_text() {
        assert_eq!(normal(Path::new("/a/./b/../c//d/")), Path::new("/a/c/d"));
        assert_eq!(normal(Path::new("/../../a")), Path::new("/a"));
    }

    #[test]
    fn variables_pass_by_pattern_and_exclusions_win() {
        let list = |texts: &[&str]| -> Vec<NamePattern> {
            texts.iter().map(|text| NamePattern::new(*text).unwrap()).collect()
        };
        let patterns = list(&["!*TOKEN*", "PATH", "LC_*", "CARGO_*"]);
        for (name, passes) in [
            ("PATH", true),
            ("PATHS", false),
            ("LC_ALL", true),
            ("LC_", true),
            ("CARGO_HOME", true),
            ("CARGO_REGISTRY_TOKEN", false),
            ("HOME", false),
        ] {
            assert_eq!(lets_through(&patterns, OsStr::new(name)), passes, "{name}");
        }
        assert!(lets_through(&list(&["*"]), OsStr::new("ANY")));
        assert!(!lets_through(&[], OsStr::new("ANY")));
        assert!(lets_through(&list(&["*A*B"]), OsStr::new("xAxBxB")));
        assert!(!lets_through(&list(&["*A*B"]), OsStr::new("xAxBx")));
        for wrong in ["", "!", "A=B"] {
            assert!(NamePattern::new(wrong).is_err());
        }
    }
}
