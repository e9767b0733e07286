//! A workspace watched in a certain way, what its views show, and what they should.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use branch_proto::GroupKind;
use branchfs_tests::{Workspace, run_ok};

/// Far longer than news take, far shorter than anything that could have been heard of is believed without.
const PATIENCE: Duration = Duration::from_secs(30);

/// A workspace with a branch `one` and, three forks deep, `three`.
pub(crate) fn watched(how: &str, fill: impl FnOnce(&Path)) -> Option<Workspace> {
    let workspace = Workspace::over(fill)?;
    run_ok(workspace.command(&["status"]).env("BRANCHFS_WATCH", how));
    for (name, parent) in [("one", "main"), ("below", "main"), ("two", "below"), ("three", "two")] {
        workspace.fork(&[name], parent, GroupKind::Independent);
    }
    Some(workspace)
}

/// What can be seen of everything in a tree, by path.
pub(crate) fn seen(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut paths = BTreeSet::new();
    list(root, Path::new(""), &mut paths);
    seen_at(root, &paths)
}

/// The same of these paths. No directory is listed: a listing would bring the kernel news of what is in it.
fn seen_at(root: &Path, paths: &BTreeSet<PathBuf>) -> BTreeMap<PathBuf, String> {
    paths.iter().filter_map(|path| Some((path.clone(), about(&root.join(path))?))).collect()
}

fn list(root: &Path, path: &Path, paths: &mut BTreeSet<PathBuf>) {
    paths.insert(path.to_owned());
    // What is no directory, or no more, has nothing in it.
    for entry in fs::read_dir(root.join(path)).into_iter().flatten().flatten() {
        if entry.file_name() != ".branchfs" {
            list(root, &path.join(entry.file_name()), paths);
        }
    }
}

/// `None`: nothing is there.
fn about(path: &Path) -> Option<String> {
    let meta = fs::symlink_metadata(path).ok()?;
    let (mode, owner) = (meta.mode(), (meta.uid(), meta.gid()));
    let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
    let about = format!("{mode:o} {owner:?} {times:?}");
    if meta.is_dir() {
        return Some(about);
    }
    let bytes = if meta.is_symlink() {
        fs::read_link(path).map(|to| to.display().to_string())
    } else {
        fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    let mut value = [0; 64];
    let xattr = rustix::fs::lgetxattr(path, "user.note", &mut value).map(|len| value[..len].to_vec());
    Some(format!("{about} {} {} {bytes:?} {xattr:?}", meta.nlink(), meta.len()))
}

/// Looks at the views until they show what the base has, at these paths and at all that it has; then they also list it.
pub(crate) fn wait_until_shown<'a>(
    workspace: &Workspace,
    branches: &[&str],
    before: impl IntoIterator<Item = &'a PathBuf>,
    what: &str,
) {
    let mut paths: BTreeSet<PathBuf> = before.into_iter().cloned().collect();
    list(&workspace.base(), Path::new(""), &mut paths);
    let wanted = seen_at(&workspace.base(), &paths);
    for branch in branches {
        let view = workspace.view(branch);
        let begin = Instant::now();
        loop {
            let found = seen_at(&view, &paths);
            if found == wanted {
                break;
            }
            if begin.elapsed() > PATIENCE {
                let wrong = paths.iter().filter(|path| found.get(*path) != wanted.get(*path));
                let wrong: Vec<_> = wrong.map(|path| (path, found.get(path), wanted.get(path))).collect();
                panic!("{what}: {branch} shows (path, this, not that): {wrong:#?}");
            }
        }
        wait_until(
            || seen(&view) == wanted,
            || format!("{what}: {branch} lists {:#?}, not {wanted:#?}", seen(&view)),
        );
    }
}

pub(crate) fn wait_until(shown: impl Fn() -> bool, otherwise: impl FnOnce() -> String) {
    let begin = Instant::now();
    while !shown() {
        assert!(begin.elapsed() < PATIENCE, "{}", otherwise());
    }
}
