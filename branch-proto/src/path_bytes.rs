//! `PathBytes` in JSON: a string where the bytes are UTF-8, an array of bytes where not. Both directions
//! are total over paths, and a given path has one form only.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// First allocation for a path that comes as an array: PATH_MAX of Linux.
const CAPACITY_FIRST: usize = 4096;

/// A path as the bytes the kernel knows; in JSON a string where it is UTF-8 and a byte array where not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathBytes(pub Vec<u8>);

impl PathBytes {
    /// The path, borrowed.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl From<&Path> for PathBytes {
    fn from(path: &Path) -> PathBytes {
        PathBytes(path.as_os_str().as_bytes().to_vec())
    }
}

impl From<PathBytes> for PathBuf {
    fn from(path: PathBytes) -> PathBuf {
        PathBuf::from(OsString::from_vec(path.0))
    }
}

impl fmt::Display for PathBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_path().display().fmt(f)
    }
}

impl Serialize for PathBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for PathBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PathBytes, D::Error> {
        // Self-describing formats only, which is what the frames are.
        deserializer.deserialize_any(PathVisitor)
    }
}

struct PathVisitor;

impl<'de> Visitor<'de> for PathVisitor {
    type Value = PathBytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path: a string, or an array of bytes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PathBytes, E> {
        Ok(PathBytes(text.as_bytes().to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<PathBytes, A::Error> {
        // The hint is the peer's claim: never allocate on its word.
        let mut path = Vec::with_capacity(bytes.size_hint().unwrap_or(0).min(CAPACITY_FIRST));
        while let Some(byte) = bytes.next_element::<u8>()? {
            path.push(byte);
        }
        Ok(PathBytes(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(bytes: &[u8]) -> String {
        serde_json::to_string(&PathBytes(bytes.to_vec())).expect("paths always serialize")
    }

    #[test]
    fn utf8_paths_are_strings_and_others_are_arrays() {
        assert_eq!(json(b"src/a\nb"), "\"src/a\\nb\"");
        assert_eq!(json(b""), "\"\"");
        assert_eq!(json(&[b'a', 0xff]), "[97,255]");
    }

    #[test]
    fn any_bytes_come_back_unchanged() {
        let all: Vec<u8> = (1..=255).collect();
        for path in [&b"plain"[..], b"", &[0xff], &all] {
            let back: PathBytes = serde_json::from_str(&json(path)).expect("own output parses");
            assert_eq!(back.0, path);
        }
    }

    #[test]
    fn what_is_not_a_path_is_refused() {
        for text in ["7", "null", "{}", "[256]", "[-1]", "[\"a\"]"] {
            assert!(serde_json::from_str::<PathBytes>(text).is_err(), "{text}");
        }
    }
}
