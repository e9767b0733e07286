//! What must hold of any store that opened: it can be read, forked and aborted without a panic, and what it
//! shows is the same after a checkpoint and a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use branch_store::{
    Access, AttrChange, Branch, Children, GroupKind, Kind, New, NewKind, Object, Options, RenameMode, Store,
    Unrecovered,
};

/// Objects looked at in one branch: a damaged tree may be a circle.
const OBJECTS_MAX: usize = 100;
const DEPTH_MAX: usize = 8;
const BRANCHES_MAX: usize = 12;
/// Bytes read of one file.
const READ_MAX: usize = 4096;

/// How an entry shows that names what is not there: EIO.
const DAMAGED: &str = "Input/output error (os error 5)";

/// What a store shows: branch and path → what is there.
pub type Picture = BTreeMap<(String, Vec<u8>), String>;

/// Opens the store if it can be, and does everything with it.
///
/// # Panics
/// If what it shows changes by a checkpoint and a restart.
pub fn open_and_use(options: &Options) {
    let Ok(store) = open(options) else { return };
    picture(&store);
    work(&store);
    if store.checkpoint().is_err() {
        return;
    }
    let before = picture(&store);
    drop(store);
    // A tree that names what it does not have says so where it is read; what becomes of it is not promised.
    let damaged = before.values().any(|shown| shown == DAMAGED);
    match open(options) {
        Ok(_) if damaged => {}
        Ok(store) => assert_eq!(picture(&store), before, "a checkpoint and a restart change nothing"),
        // What was forged may come to light at the second opening only; a named error is all that is promised.
        Err(_) => {}
    }
}

fn open(options: &Options) -> branch_store::Result<Store> {
    Ok(Unrecovered::open(options.clone())?.recover()?.0)
}

/// Everything the branches show.
pub fn picture(store: &Store) -> Picture {
    let mut out = Picture::new();
    for branch in store.branches().iter().take(BRANCHES_MAX) {
        walk(branch, &branch.root(), b"", 0, &mut out);
    }
    out
}

fn walk(branch: &Arc<Branch>, dir: &Object, path: &[u8], depth: usize, out: &mut Picture) {
    let entries = match branch.read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            out.insert((branch.name().to_owned(), path.to_vec()), error.errno().to_string());
            return;
        }
    };
    for entry in entries {
        if out.len() > OBJECTS_MAX || depth > DEPTH_MAX {
            return;
        }
        let path = [path, b"/", entry.name.as_bytes()].concat();
        let shown = match branch.lookup(dir, entry.name.as_bytes()) {
            // It has a name and says that it has none: recovery takes it for an orphan.
            Ok((_, stat)) if stat.nlink == 0 => DAMAGED.to_owned(),
            Ok((object, stat)) => {
                let body = body(branch, &object, stat.kind);
                format!("{:?} {:o} {} {} {}", stat.kind, stat.mode, stat.uid, stat.size, body)
            }
            Err(error) => error.errno().to_string(),
        };
        out.insert((branch.name().to_owned(), path.clone()), shown);
        if entry.kind == Kind::Dir {
            walk(branch, &entry.object, &path, depth + 1, out);
        }
    }
}

fn body(branch: &Arc<Branch>, object: &Object, kind: Kind) -> String {
    let attributes = branch.xattrs(object).map(|names| names.len()).unwrap_or_default();
    let bytes = match kind {
        Kind::Symlink => branch.read_link(object),
        Kind::File => branch.open(object, Access::Read).and_then(|file| {
            let mut bytes = vec![0; READ_MAX];
            let got = file.read_at(&mut bytes, 0)?;
            bytes.truncate(got);
            Ok(bytes)
        }),
        Kind::Dir | Kind::Fifo | Kind::Socket | Kind::Char | Kind::Block => Ok(Vec::new()),
    };
    format!("{attributes} {:?}", bytes.map_err(|error| error.errno()))
}

/// Verbs and file operations. Errors are answers; a panic is not.
fn work(store: &Store) {
    for branch in store.branches().into_iter().take(BRANCHES_MAX) {
        let names = [format!("fuzz-a{}", branch.id().0), format!("fuzz-b{}", branch.id().0)];
        let Ok(children) = store.fork(&branch, &names, GroupKind::Exclusive) else { continue };
        for child in &children {
            change(child);
            store.diff(child).ok();
        }
        // One way or the other: into the parent, or nowhere.
        if branch.id().0 % 2 == 0 || store.commit(&children[0]).is_err() {
            for child in &children {
                store.abort(child, Children::Cascade).ok();
            }
        }
        store.diff(&branch).ok();
        branch.content_bytes();
    }
    for turn in [Store::undo, Store::redo, Store::undo] {
        turn(store).ok();
    }
    store.reclaim().ok();
    store.sync().ok();
}

fn change(branch: &Arc<Branch>) {
    let root = branch.root();
    let new = |kind| New { kind, mode: 0o644, uid: 0, gid: 0, xattrs: Default::default() };
    if let Ok((object, _)) = branch.create(&root, b"fuzz-file", new(NewKind::File)) {
        if let Ok(file) = branch.open(&object, Access::Write) {
            file.write_at(b"bytes", 3).ok();
        }
        branch.link(&object, &root, b"fuzz-link").ok();
    }
    branch.create(&root, b"fuzz-dir", new(NewKind::Dir)).ok();
    for entry in branch.read_dir(&root).into_iter().flatten().take(6) {
        let change = AttrChange { mode: Some(0o600), size: Some(1), ..AttrChange::default() };
        branch.set_attr(&entry.object, &change).ok();
        let moved = branch.rename(&root, entry.name.as_bytes(), &root, b"fuzz-moved", RenameMode::Replace);
        if let Some(orphan) = moved.ok().and_then(|removed| removed.orphan) {
            branch.reap(orphan).ok();
        }
    }
}
