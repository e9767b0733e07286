//! What must hold of any store that opened: it can be read, forked, changed, marked, merged, committed whole or in part,
//! undone and aborted without a panic, and its checkpoint is read again or refused by name. What a store shows whose journal was forged with
//! checksums that are right is not promised: it can give one object two identities. That an honest one shows the same
//! after a restart is the `operations` target's business, and the model's.

use std::sync::Arc;

use branch_store::{
    Access, AttrChange, Branch, Children, Choice, GroupKind, Kind, MergedText, Merger, New, NewKind, Object,
    Options, Quota, RenameMode, Store, Unrecovered,
};

/// Objects looked at in one branch: a damaged tree may be a circle.
const OBJECTS_MAX: usize = 100;
const DEPTH_MAX: usize = 8;
const BRANCHES_MAX: usize = 12;
/// Bytes read of one file.
const READ_MAX: usize = 4096;
/// A merge that always works out.
const JOIN: Merger =
    Merger(|texts| Ok(MergedText { bytes: [texts.ours, texts.theirs].concat(), markers: 0 }));

/// Opens the store if it can be, and does everything with it, twice: what was forged may come to light at the second
/// opening only, and a named error is all that is promised then.
pub fn open_and_use(options: &Options) {
    for turn in 0..2 {
        let Ok(store) = open(options) else { return };
        look(&store);
        work(&store, turn);
        if store.checkpoint().is_err() {
            return;
        }
        look(&store);
    }
}

fn open(options: &Options) -> branch_store::Result<Store> {
    Ok(Unrecovered::open(options.clone())?.recover()?.0)
}

/// Reads everything the branches show.
fn look(store: &Store) {
    for branch in store.branches().iter().take(BRANCHES_MAX) {
        walk(branch, &branch.root(), 0, &mut 0);
    }
}

fn walk(branch: &Arc<Branch>, dir: &Object, depth: usize, seen: &mut usize) {
    for entry in branch.read_dir(dir).into_iter().flatten() {
        *seen += 1;
        if *seen > OBJECTS_MAX || depth > DEPTH_MAX {
            return;
        }
        if let Ok((object, stat)) = branch.lookup(dir, entry.name.as_bytes()) {
            read(branch, &object, stat.kind);
        }
        if entry.kind == Kind::Dir {
            walk(branch, &entry.object, depth + 1, seen);
        }
    }
}

fn read(branch: &Arc<Branch>, object: &Object, kind: Kind) {
    branch.xattrs(object).ok();
    match kind {
        Kind::Symlink => _ = branch.read_link(object),
        Kind::File => {
            _ = branch.open(object, Access::Read).and_then(|file| file.read_at(&mut [0; READ_MAX], 0))
        }
        Kind::Dir | Kind::Fifo | Kind::Socket | Kind::Char | Kind::Block => {}
    }
}

/// Verbs and file operations. Errors are answers; a panic is not.
fn work(store: &Store, turn: u32) {
    for branch in store.branches().into_iter().take(BRANCHES_MAX) {
        let names = [format!("fuzz-a{}", branch.id().0), format!("fuzz-b{}", branch.id().0)];
        let Ok(children) = store.fork(&branch, &names, GroupKind::Exclusive) else { continue };
        for child in &children {
            change(child);
            store.diff(child).ok();
        }
        marks(store, &branch);
        // One way or the other: into the parent, whole or in part, or nowhere.
        let only = |path: &[u8]| path.starts_with(b"fuzz");
        let committed = match (branch.id().0 + turn) % 3 {
            0 => store.commit_with(&children[0], &|_| Choice::Ours).is_ok(),
            1 => store
                .commit_part(&children[0], &|_| Choice::Theirs, &only)
                .is_ok_and(|done| done.stays.is_none()),
            _ => false,
        };
        if !committed {
            for child in &children {
                store.abort(child, Children::Cascade).ok();
            }
        }
        store.diff(&branch).ok();
        branch.holdings().ok();
    }
    for branch in store.branches().into_iter().take(BRANCHES_MAX) {
        store.rebase(&branch, &|_| Choice::Merge(JOIN)).ok();
    }
    for turn in [Store::undo, Store::redo, Store::undo] {
        turn(store).ok();
    }
    store.reclaim().ok();
    store.sync().ok();
}

/// Back to every mark that is there, and to one made now.
fn marks(store: &Store, branch: &Arc<Branch>) {
    let mut names: Vec<String> = branch.marks().into_iter().map(|mark| mark.name).collect();
    names.extend(store.mark(branch, None));
    for name in names {
        change(branch);
        store.restore(branch, &name, &|_| false).ok();
        store.unmark(branch, &name).ok();
    }
    store.set_quota(branch, Quota::Bytes(0)).ok();
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
