//! Writes the seeds: real stores after real work, some of them stopped half-way. Run it again when the format
//! changes: `cargo run --manifest-path fuzz/Cargo.toml --example make_seeds`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use branch_store::{
    Access, AttrChange, Branch, Children, Choice, Disk, Gatekeeper, GroupKind, New, NewKind, Object, Quota,
    RenameMode, Store, Unrecovered, XattrMode,
};
use branchfs_fuzz::archive;
use branchfs_fuzz::workspace::Workspace;
use rustix::io::Errno;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Calls after which a commit is stopped: while staging, after the decision, in the middle of the steps.
const STOPS: [usize; 4] = [20, 45, 55, 70];

fn main() -> Outcome {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let stories: [(&str, Story); 9] = [
        ("files", files),
        ("nested", nested),
        ("ended", ended),
        ("checkpointed", checkpointed),
        ("committed", committed),
        ("history", history),
        ("marked", marked),
        ("moved", moved),
        ("parted", parted),
    ];
    for (name, story) in stories {
        write(&seeds, name, story, None)?;
    }
    for stop in STOPS {
        write(&seeds, &format!("stopped-{stop}"), committed, Some(stop))?;
        write(&seeds, &format!("stopped-part-{stop}"), parted, Some(stop))?;
    }
    values(&seeds)
}

/// What the targets without a store begin with.
fn values(seeds: &Path) -> Outcome {
    let acl = |entries: &[(u16, u16, u32)]| {
        let entry = |(tag, permissions, id): &(u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        [&2u32.to_le_bytes()[..], &entries.iter().flat_map(entry).collect::<Vec<u8>>()].concat()
    };
    let (user, named, group, mask, other, nobody) = (1, 2, 4, 16, 32, u32::MAX);
    let plain = acl(&[(user, 6, nobody), (group, 4, nobody), (other, 4, nobody)]);
    let extended =
        acl(&[(user, 7, nobody), (named, 6, 12), (group, 5, nobody), (mask, 7, nobody), (other, 1, nobody)]);
    let frame = |direction: u8, bodies: &[&str]| {
        let framed = |body: &&str| [&(body.len() as u32).to_le_bytes()[..], body.as_bytes()].concat();
        [vec![direction], bodies.iter().flat_map(framed).collect()].concat()
    };
    let hello = r#"{"protocol":1}"#;
    let create = r#"{"id":1,"verb":"create","names":["a","b"],"parent":"main","group":"exclusive"}"#;
    let list = r#"{"id":2,"verb":"list"}"#;
    let seeds_of: [(&str, &str, Vec<u8>); 11] = [
        ("acl", "plain", [&[0][..], &plain].concat()),
        ("acl", "extended", [&[0][..], &extended].concat()),
        ("acl", "default", [&[1][..], &extended].concat()),
        ("control", "commit", b"\0commit\n".to_vec()),
        ("control", "abort", b"\0 abort".to_vec()),
        ("control", "fork", [&[1][..], &0x8080_6200u32.to_le_bytes()].concat()),
        ("frame", "hello", frame(0, &[hello])),
        ("frame", "requests", frame(1, &[create, list])),
        ("frame", "welcome", frame(2, &[r#"{"Ok":{"protocol":1,"pid":7,"version":"0.1.0"}}"#])),
        ("frame", "reply", frame(3, &[r#"{"id":1,"outcome":{"Ok":{"answer":"aborted","branches":["a"]}}}"#])),
        ("frame", "connection", frame(5, &[hello, list, create])),
    ];
    for (target, name, bytes) in seeds_of {
        fs::create_dir_all(seeds.join(target))?;
        fs::write(seeds.join(target).join(name), bytes)?;
    }
    Ok(())
}

type Story = fn(&Store) -> Outcome;

fn write(seeds: &Path, name: &str, story: Story, stop: Option<usize>) -> Outcome {
    // Not in memory: there inode numbers are so small that they are found in every record.
    let workspace = Workspace::new(Path::new("/tmp"));
    let options = workspace.options();
    base(workspace.base())?;
    branch_store::init(&options.base, &options.store)?;
    let calls = Calls { so_far: AtomicUsize::new(0), stop: stop.unwrap_or(usize::MAX) };
    let (store, _) = Unrecovered::open_on(options.clone(), Disk::guarded(Arc::new(calls)))?.recover()?;
    match story(&store) {
        Err(error) if stop.is_none() => return Err(error),
        _ => {}
    }
    drop(store);
    let entries = workspace.pack()?;
    // What cannot be opened teaches the fuzzer nothing.
    Unrecovered::open(Workspace::unpack(&entries).options())?;
    let write = |target: &str, name: &str, bytes: &[u8]| {
        fs::create_dir_all(seeds.join(target))?;
        fs::write(seeds.join(target).join(name), bytes)
    };
    write("recover", name, &archive::encode(&entries))?;
    for entry in entries.iter().filter(|entry| entry.log().is_some_and(|log| !log.frames.is_empty())) {
        let checkpoint = entry.path.starts_with(b".branchfs/checkpoint");
        write(if checkpoint { "checkpoint" } else { "journal" }, name, &entry.body)?;
    }
    Ok(())
}

/// Answers EIO from a call on, as a disk that died would.
struct Calls {
    so_far: AtomicUsize,
    stop: usize,
}

impl Gatekeeper for Calls {
    fn before(&self, _: &'static str) -> Result<(), Errno> {
        if self.so_far.fetch_add(1, Ordering::Relaxed) < self.stop { Ok(()) } else { Err(Errno::IO) }
    }
}

fn base(base: &Path) -> std::io::Result<()> {
    fs::create_dir_all(base.join("dir/sub"))?;
    fs::write(base.join("dir/a"), "a\n")?;
    fs::write(base.join("dir/sub/deep"), "deep\n")?;
    fs::write(base.join("f"), "bytes\n")?;
    fs::write(base.join("two"), "names\n")?;
    fs::hard_link(base.join("two"), base.join("dir/names"))?;
    std::os::unix::fs::symlink("f", base.join("to-f"))?;
    fs::set_permissions(base.join("dir/a"), fs::Permissions::from_mode(0o640))
}

fn fork(
    store: &Store,
    parent: &str,
    names: &[&str],
    kind: GroupKind,
) -> branch_store::Result<Vec<Arc<Branch>>> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    store.fork(&*store.branch(parent)?, &names, kind)
}

fn at(branch: &Branch, path: &str) -> branch_store::Result<Object> {
    let mut object = branch.root();
    for name in path.split('/') {
        object = branch.lookup(&object, name.as_bytes())?.0;
    }
    Ok(object)
}

fn new(kind: NewKind) -> New {
    New { kind, mode: 0o755, uid: 0, gid: 0, xattrs: Default::default() }
}

/// One of every kind of change.
fn every_change(branch: &Arc<Branch>) -> Outcome {
    let (root, dir) = (branch.root(), at(branch, "dir")?);
    let (made, _) = branch.create(&root, b"made", new(NewKind::File))?;
    branch.open(&made, Access::Write)?.write_at(b"own bytes", 0)?;
    branch.link(&made, &dir, b"made-too")?;
    let (own, _) = branch.create(&root, b"own", new(NewKind::Dir))?;
    branch.create(&own, b"pipe", new(NewKind::Special { kind: branch_store::Kind::Fifo, rdev: 0 }))?;
    branch.create(&own, b"link", new(NewKind::Symlink(b"../f".to_vec())))?;
    branch.open(&at(branch, "f")?, Access::Write)?.write_at(b"B", 0)?;
    branch.open(&at(branch, "two")?, Access::Write)?.write_at(b"N", 0)?;
    let moved = branch.rename(&dir, b"sub", &own, b"sub", RenameMode::Replace)?;
    assert!(moved.orphan.is_none(), "nothing was replaced");
    let removed = branch.unlink(&dir, b"a")?;
    if let Some(orphan) = removed.orphan {
        branch.reap(orphan)?;
    }
    branch.set_xattr(&made, b"user.k", Some(b"v"), XattrMode::Any)?;
    branch.set_attr(&dir, &AttrChange { mode: Some(0o700), ..AttrChange::default() })?;
    Ok(())
}

fn files(store: &Store) -> Outcome {
    every_change(&fork(store, "main", &["b"], GroupKind::Exclusive)?[0])
}

fn nested(store: &Store) -> Outcome {
    every_change(&fork(store, "main", &["b"], GroupKind::Independent)?[0])?;
    let children = fork(store, "b", &["c", "d"], GroupKind::Frozen)?;
    children[0].create(&children[0].root(), b"in-c", new(NewKind::File))?;
    fork(store, "c", &["e"], GroupKind::Exclusive)?;
    Ok(())
}

fn ended(store: &Store) -> Outcome {
    nested(store)?;
    store.abort(&*store.branch("e")?, Children::Refuse)?;
    store.commit(&*store.branch("c")?)?;
    let children = fork(store, "b", &["g", "h"], GroupKind::Independent)?;
    for (child, name) in children.iter().zip([b"in-g", b"in-h"]) {
        child.create(&child.root(), name, new(NewKind::Dir))?;
        store.commit(child)?;
    }
    Ok(())
}

fn checkpointed(store: &Store) -> Outcome {
    history(store)?;
    let older = store.branch("older")?;
    store.mark(&older, None)?;
    older.create(&older.root(), b"after-the-mark", new(NewKind::File))?;
    store.set_quota(&older, Quota::Bytes(1 << 20))?;
    nested_below(store, "older")?;
    store.checkpoint()?;
    nested_below(store, "x")
}

fn nested_below(store: &Store, parent: &str) -> Outcome {
    let name = if parent == "x" { "y" } else { "x" };
    let child = &fork(store, parent, &[name], GroupKind::Exclusive)?[0];
    child.create(&child.root(), name.as_bytes(), new(NewKind::Dir))?;
    Ok(())
}

fn committed(store: &Store) -> Outcome {
    let branches = fork(store, "main", &["b", "loser"], GroupKind::Exclusive)?;
    every_change(&branches[0])?;
    store.commit(&branches[0])?;
    Ok(())
}

/// A commit that an older snapshot must not see.
fn history(store: &Store) -> Outcome {
    let older = &fork(store, "main", &["older"], GroupKind::Independent)?[0];
    older.create(&older.root(), b"in-older", new(NewKind::File))?;
    committed(store)
}

/// Marks that are there, gone and gone back to; a branch with a limit.
fn marked(store: &Store) -> Outcome {
    let branch = &fork(store, "main", &["b"], GroupKind::Exclusive)?[0];
    store.mark(branch, Some("fork"))?;
    every_change(branch)?;
    store.mark(branch, None)?;
    let (file, _) = branch.create(&branch.root(), b"later", new(NewKind::File))?;
    store.restore(branch, "fork", &|id| id == file.id)?;
    store.unmark(branch, "1")?;
    store.reclaim()?;
    store.set_quota(branch, Quota::Bytes(1 << 20))?;
    Ok(())
}

/// Branches that moved onto their parents' present state.
fn moved(store: &Store) -> Outcome {
    let branches = fork(store, "main", &["b", "other"], GroupKind::Independent)?;
    let children = fork(store, "b", &["c", "d"], GroupKind::Independent)?;
    every_change(&children[0])?;
    children[1].open(&at(&children[1], "f")?, Access::Write)?.write_at(b"D", 0)?;
    store.commit(&children[1])?;
    store.rebase(&children[0], &|_| Choice::Ours)?;
    store.commit(&children[0])?;
    branches[1].open(&at(&branches[1], "f")?, Access::Write)?.write_at(b"other", 0)?;
    store.commit(&branches[1])?;
    store.rebase(&branches[0], &|_| Choice::Ours)?;
    Ok(())
}

/// Parts of branches that were committed, into a branch and into the base, and what is left of them.
fn parted(store: &Store) -> Outcome {
    let b = &fork(store, "main", &["b"], GroupKind::Independent)?[0];
    let child = &fork(store, "b", &["child"], GroupKind::Independent)?[0];
    every_change(child)?;
    store.commit_part(child, &|_| Choice::Refuse, &|path| path != b"f")?;
    store.abort(child, Children::Refuse)?;
    b.create(&b.root(), b"stays", new(NewKind::File))?;
    store.commit_part(b, &|_| Choice::Refuse, &|path| path != b"stays")?;
    Ok(())
}
