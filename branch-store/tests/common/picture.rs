//! A whole directory tree on the host, to the last attribute.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Path to a description.
pub type Picture = BTreeMap<String, String>;

/// Everything of every object but its change time, and the access time of directories, which looking changes.
pub fn picture(base: &Path) -> Picture {
    let mut out = Picture::new();
    out.insert(String::new(), describe(base));
    walk(base, base, &mut out);
    out
}

fn walk(base: &Path, dir: &Path, out: &mut Picture) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(base).unwrap().to_string_lossy().into_owned();
        if name == ".branchfs" {
            continue;
        }
        out.insert(name, describe(&path));
        if path.symlink_metadata().unwrap().is_dir() {
            walk(base, &path, out);
        }
    }
}

fn describe(path: &Path) -> String {
    let m = path.symlink_metadata().unwrap();
    let body = if m.is_file() {
        let file = std::fs::File::open(path).unwrap();
        let mut bytes = vec![0; m.len() as usize];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    } else if m.is_symlink() {
        std::fs::read_link(path).unwrap().to_string_lossy().into_owned()
    } else {
        String::new()
    };
    let mut names = vec![0; 4096];
    let n = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let xattrs: Vec<String> = names[..n]
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 4096];
            let n = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            format!("{}={:?}", String::from_utf8_lossy(name), &value[..n])
        })
        .collect();
    // The names of the store's own directory are no part of the root.
    let root = path.join(".branchfs").exists();
    let mtime = if root { (0, 0) } else { (m.mtime(), m.mtime_nsec()) };
    format!(
        "{:o} {}:{} ino {} {mtime:?} rdev {} {xattrs:?} {body}",
        m.mode(),
        m.uid(),
        m.gid(),
        m.ino(),
        m.rdev()
    )
}
