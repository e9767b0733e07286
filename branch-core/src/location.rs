//! Where a workspace is. A base directory holds a directory `.branchfs`; that is the store itself if it
//! contains the file `format`, and otherwise points to a store elsewhere by the file `store`, which holds
//! the absolute path of it, as bytes, without a newline.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Name of the marker in the base.
const MARKER: &str = ".branchfs";
/// In a store: its format version. Written by the store, only looked for here.
const FORMAT: &str = "format";
/// In a marker that is not the store: the store's path.
const POINTER: &str = "store";

/// A base and its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    base: PathBuf,
    store: PathBuf,
}

impl Location {
    /// The workspace that `start` is in, looking upward.
    pub fn find(start: &Path) -> Result<Location, Error> {
        let absolute =
            fs::canonicalize(start).map_err(|source| Error::Location { path: start.to_owned(), source })?;
        for base in absolute.ancestors() {
            if let Some(store) = store_of(base)? {
                return Ok(Location { base: base.to_owned(), store });
            }
        }
        Err(Error::NoWorkspace { start: absolute })
    }

    /// The workspace of exactly this base directory, if it is one.
    pub fn at(base: &Path) -> Result<Option<Location>, Error> {
        let base =
            fs::canonicalize(base).map_err(|source| Error::Location { path: base.to_owned(), source })?;
        Ok(store_of(&base)?.map(|store| Location { base, store }))
    }

    /// A workspace known to be there, with its store by any path that leads to it now.
    pub fn through(base: PathBuf, store: PathBuf) -> Location {
        Location { base, store }
    }

    /// Where the store of `base` lives unless told otherwise.
    pub fn default_store(base: &Path) -> PathBuf {
        base.join(MARKER)
    }

    /// The base directory, absolute.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The store directory, absolute.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        self.store.join("daemon.sock")
    }

    /// Where the views are mounted unless told otherwise.
    pub fn mountpoint(&self) -> PathBuf {
        self.store.join("mnt")
    }

    /// The daemon's log file.
    pub fn log(&self) -> PathBuf {
        self.store.join("daemon.log")
    }
}

fn store_of(base: &Path) -> Result<Option<PathBuf>, Error> {
    let marker = base.join(MARKER);
    if exists(&marker.join(FORMAT))? {
        return Ok(Some(marker));
    }
    let pointer = marker.join(POINTER);
    match fs::read(&pointer) {
        Ok(bytes) => pointed_store(pointer, bytes).map(Some),
        Err(error) if is_absence(&error) => Ok(None),
        Err(source) => Err(Error::Location { path: pointer, source }),
    }
}

fn pointed_store(pointer: PathBuf, bytes: Vec<u8>) -> Result<PathBuf, Error> {
    let store = PathBuf::from(OsString::from_vec(bytes));
    if store.is_absolute() {
        return Ok(store);
    }
    let source = io::Error::new(io::ErrorKind::InvalidData, "it must hold the absolute path of a store");
    Err(Error::Location { path: pointer, source })
}

fn exists(path: &Path) -> Result<bool, Error> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if is_absence(&error) => Ok(false),
        Err(source) => Err(Error::Location { path: path.to_owned(), source }),
    }
}

/// A directory we may not search is no workspace of ours; the search goes on above it.
fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, PathBuf) {
        let temp = tempfile::tempdir().expect("temp dir");
        let path = fs::canonicalize(temp.path()).expect("absolute");
        (temp, path)
    }

    #[test]
    fn a_store_in_the_base_is_found_from_any_depth() {
        let (_temp, base) = directory();
        fs::create_dir_all(base.join(".branchfs")).expect("made");
        fs::create_dir_all(base.join("src/deep")).expect("made");
        fs::write(base.join(".branchfs/format"), "1").expect("written");
        for start in [base.clone(), base.join("src/deep"), base.join(".branchfs")] {
            let found = Location::find(&start).expect("found");
            assert_eq!((found.base(), found.store()), (&*base, &*base.join(".branchfs")));
        }
    }

    fn write_pointer(base: &Path, store: &Path) {
        fs::create_dir(base.join(".branchfs")).expect("made");
        fs::write(base.join(".branchfs/store"), store.as_os_str().as_encoded_bytes()).expect("written");
    }

    #[test]
    fn a_pointer_leads_to_a_store_elsewhere() {
        let (_temp, base) = directory();
        let store = Path::new("/somewhere/else \u{fe}");
        write_pointer(&base, store);
        let found = Location::find(&base).expect("found");
        assert_eq!(found.store(), store);
        assert_eq!(found.socket(), store.join("daemon.sock"));
    }

    #[test]
    fn a_pointer_that_is_not_absolute_is_an_error_that_names_the_file() {
        let (_temp, base) = directory();
        write_pointer(&base, Path::new("relative"));
        let error = Location::find(&base).expect_err("nonsense");
        assert!(error.to_string().contains(".branchfs/store"), "{error}");
    }

    #[test]
    fn no_workspace_names_where_the_search_began() {
        let (_temp, base) = directory();
        // A directory of that name which is neither store nor pointer does not count.
        fs::create_dir(base.join(".branchfs")).expect("made");
        assert!(matches!(Location::at(&base), Ok(None)));
        match Location::find(&base) {
            Err(Error::NoWorkspace { start }) => assert_eq!(start, base),
            other => panic!("{other:?}"),
        }
    }
}
