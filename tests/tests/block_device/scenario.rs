//! What is done on the disk that will fail: every kind of change, fsync, commits into a branch and into the base,
//! undo and redo, an abort. After each step it is noted what base and branches are, and what the step has promised.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use branch_store::{
    Access, AttrChange, Branch, Children, Committed, GroupKind, Kind, NewKind, NodeId, Options,
    OverlayXattrs, Owner, Processes, RenameMode, Result, Store, SyncWhat, Unrecovered, XattrMode, init,
};

use crate::common::{Paths, new};
use crate::device::{Mounted, Recording};
use crate::world::World;

/// Where on the disk the native view is seen.
const VIEW: &str = "view";

/// A step of the scenario.
pub(crate) struct Step {
    /// In words.
    pub(crate) what: String,
    /// Base and branches after it.
    pub(crate) world: World,
    /// Where the log was when it began: before that, nothing of it can be on the disk.
    pub(crate) begun: u64,
    /// Where the log was when the step was answered, if the answer promised that it and all before is durable.
    pub(crate) promised: Option<u64>,
}

/// What an answer promises.
#[derive(Clone, Copy, PartialEq)]
enum Promise {
    /// To survive a power failure.
    Durable,
    /// To survive the process.
    Acknowledged,
}

/// Base and store of the scenario on a mounted disk.
pub(crate) fn options(disk: &Path) -> Options {
    let base = disk.join("base");
    Options { store: base.join(".branchfs"), base }
}

/// What is there before anybody hears of branches.
pub(crate) fn fill(base: &Path) {
    let files: [(&str, &[u8]); 11] = [
        ("README", b"hello\n"),
        ("src/main.rs", b"fn main() {}\n"),
        ("src/lib.rs", b"// lib\n"),
        ("docs/a/b/c.txt", b"deep\n"),
        ("linked", b"shared by two names\n"),
        ("old/1", b"1"),
        ("old/deep/2", b"2"),
        ("empty", b""),
        ("cut", b"to be cut\n"),
        ("log", b"one\n"),
        ("large", &[0x5a; 200_000]),
    ];
    for (path, bytes) in files {
        let path = base.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    fs::hard_link(base.join("linked"), base.join("docs/linked too")).unwrap();
    symlink("README", base.join("link")).unwrap();
    fs::set_permissions(base.join("cut"), Permissions::from_mode(0o600)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(base.join("README"), "user.kept", b"as it is", flags).unwrap();
}

/// Runs the scenario over the base on the mounted disk.
pub(crate) fn run(disk: &Path, recording: &Recording) -> Vec<Step> {
    let options = options(disk);
    let begun = recording.position();
    init(&options.base, &options.store).unwrap();
    let (store, _) = Unrecovered::open(options.clone()).unwrap().recover().unwrap();
    let mut scenario = Scenario {
        recording,
        disk: disk.to_owned(),
        store,
        fsynced: HashSet::new(),
        copied: HashSet::new(),
        steps: Vec::new(),
    };
    scenario.note("init", begun, Promise::Durable);
    first_commit(&mut scenario);
    siblings(&mut scenario);
    native(&mut scenario);
    scenario.steps
}

/// One of two exclusive siblings edits everything, a branch below it edits that and is committed, and it wins.
fn first_commit(s: &mut Scenario<'_>) {
    s.fork("main", &["a", "loser"], GroupKind::Exclusive);
    s.write("a", "new", "a new file");
    s.fsync("a", "new", SyncWhat::All);
    s.overwrite("a", "README", 0, "HELLO");
    s.overwrite("a", "linked", 0, "SHARED");
    s.change("mkdir", "a", |a| a.make_dir("dir"));
    s.change("symlink", "a", |a| {
        let target = NewKind::Symlink(b"../new".to_vec());
        a.create(&a.at("dir")?.0, b"symlink", new(target, 0o777)).map(drop)
    });
    s.change("fifo", "a", |a| {
        let fifo = NewKind::Special { kind: Kind::Fifo, rdev: 0 };
        a.create(&a.root(), b"fifo", new(fifo, 0o640)).map(drop)
    });
    s.fsync("a", "linked", SyncWhat::Data);
    s.bystander();
    s.write("a", "dir/x", &"x".repeat(70_000));
    s.change("link", "a", |a| a.ln("dir/x", "z"));
    s.change("unlink", "a", |a| a.remove("empty"));
    s.change("move a base directory", "a", |a| a.mv("src", "dir/source"));
    s.write("a", "dir/source/lib.rs", "// changed");
    s.fsync("a", "dir/x", SyncWhat::Data);
    s.change("move a file", "a", |a| a.mv("docs/a/b/c.txt", "c.txt"));
    s.change("rmdir", "a", |a| a.remove_dir("docs/a/b"));
    s.change("exchange", "a", |a| {
        let root = a.root();
        a.rename(&root, b"old", &root, b"docs", RenameMode::Exchange)
            .map(|gone| assert_eq!(gone.orphan, None))
    });
    s.change("chmod and truncate", "a", |a| {
        let change = AttrChange { size: Some(5), mode: Some(0o644), ..AttrChange::default() };
        a.set_attr(&a.at("cut")?.0, &change).map(drop)
    });
    s.change("setxattr", "a", |a| {
        a.set_xattr(&a.at("dir")?.0, b"user.colour", Some(b"green"), XattrMode::Create)
    });
    s.fork("a", &["b"], GroupKind::Independent);
    s.write("b", "new", "of the child");
    s.write("b", "cut", "as well");
    s.fsync("b", "new", SyncWhat::Data);
    s.change("unlink a name below", "b", |b| b.remove("z"));
    s.commit("b", "a");
    s.write("a", "last", "before the commit");
    s.bystander();
    s.write("a", "new", "once more, not fsynced");
    s.commit("a", "main");
}

/// Independent siblings: one commits under the other, one is aborted, the other merges.
fn siblings(s: &mut Scenario<'_>) {
    s.fork("main", &["c", "d", "e"], GroupKind::Independent);
    s.overwrite("c", "log", 4, "two\n");
    s.write("d", "of d", &"d".repeat(9000));
    s.fsync("d", "of d", SyncWhat::All);
    s.change("unlink", "c", |c| c.remove("docs/1"));
    s.change("unlink below", "c", |c| c.remove("docs/deep/2"));
    s.change("rmdir in it", "c", |c| c.remove_dir("docs/deep"));
    s.write("e", "of e", "never to be seen");
    s.write("c", "large", &"L".repeat(150_000));
    s.commit("c", "main");
    s.overwrite("d", "c.txt", 0, "DEEP");
    s.abort("e");
    s.sync("d");
    s.write("d", "dir/y", "merged");
    s.commit("d", "main");
    s.turn("undo", Store::undo);
    s.turn("undo one more", Store::undo);
    s.turn("redo", Store::redo);
    s.fork("main", &["end"], GroupKind::Exclusive);
    s.write("end", "unfinished", "business");
    s.sync("end");
}

/// A program works on the native view of a branch that has changes. Each thing that it does is one change of the upper
/// directory, and nobody else makes anything durable meanwhile.
fn native(s: &mut Scenario<'_>) {
    s.fork("main", &["n"], GroupKind::Exclusive);
    s.write("n", "own", "of the branch");
    s.overwrite("n", "README", 0, "Hello");
    s.change("mkdir", "n", |n| n.make_dir("made"));
    let view = s.attach("n");
    s.program("new file", |at| fs::write(at.join("native"), "n".repeat(5000)).unwrap());
    s.program_append("README");
    s.program("remove the branch's own", |at| fs::remove_file(at.join("own")).unwrap());
    s.program_fsync("native");
    s.program_append("log");
    s.program("mkdir", |at| fs::create_dir(at.join("made/below")).unwrap());
    s.program("chmod", |at| fs::set_permissions(at.join("native"), Permissions::from_mode(0o600)).unwrap());
    s.bystander();
    s.program("move a directory", |at| fs::rename(at.join("made"), at.join("moved")).unwrap());
    s.program("remove a file of the base", |at| fs::remove_file(at.join("large")).unwrap());
    s.program("one more file", |at| fs::write(at.join("late"), "late").unwrap());
    s.program_fsync("late");
    s.program("a file that is not fsynced", |at| fs::write(at.join("later"), "later").unwrap());
    drop(view);
    s.take_in("n");
    s.commit("n", "main");
}

struct Scenario<'a> {
    recording: &'a Recording,
    disk: PathBuf,
    store: Store,
    /// Files, by branch and node, whose bytes were made durable since they changed.
    fsynced: HashSet<(String, NodeId)>,
    /// Files whose bytes will be with the next promise, as the bytes they were copied from were.
    copied: HashSet<(String, NodeId)>,
    steps: Vec<Step>,
}

impl Scenario<'_> {
    fn note(&mut self, what: impl Into<String>, begun: u64, promise: Promise) {
        let promised = (promise == Promise::Durable).then(|| self.recording.position());
        if promised.is_some() {
            self.fsynced.extend(self.copied.drain());
        }
        let fsynced =
            |branch: &str, stat: &branch_store::Stat| self.fsynced.contains(&(branch.to_owned(), stat.id));
        let world = World::of(&self.store, fsynced);
        self.steps.push(Step { what: what.into(), world, begun, promised });
    }

    fn branch(&self, name: &str) -> Arc<Branch> {
        self.store.branch(name).unwrap()
    }

    fn node(&self, branch: &str, path: &str) -> (String, NodeId) {
        (branch.to_owned(), self.branch(branch).at(path).unwrap().1.id)
    }

    /// One change that can be seen, that is: one record.
    fn change(&mut self, what: &str, branch: &str, act: impl FnOnce(&Arc<Branch>) -> Result<()>) {
        let begun = self.recording.position();
        act(&self.branch(branch)).unwrap();
        self.note(format!("{branch}: {what}"), begun, Promise::Acknowledged);
    }

    /// Creates or truncates, then writes.
    fn write(&mut self, branch: &str, path: &str, text: &str) {
        let begun = self.recording.position();
        let view = self.branch(branch);
        view.put(path, text).unwrap();
        let node = self.node(branch, path);
        self.fsynced.remove(&node);
        self.note(format!("{branch}: write {path}"), begun, Promise::Acknowledged);
    }

    /// Copies a file of the base up, which is what has to be durable with the name, and changes some of it.
    fn overwrite(&mut self, branch: &str, path: &str, offset: u64, text: &str) {
        let begun = self.recording.position();
        let view = self.branch(branch);
        let (file, stat) = view.at(path).unwrap();
        assert_ne!(stat.owner, Owner::Branch, "it has bytes of its own already");
        view.open(&file, Access::Write).unwrap().write_at(text.as_bytes(), offset).unwrap();
        let node = self.node(branch, path);
        self.copied.insert(node);
        self.note(format!("{branch}: overwrite {path}"), begun, Promise::Acknowledged);
    }

    fn fsync(&mut self, branch: &str, path: &str, what: SyncWhat) {
        let begun = self.recording.position();
        let view = self.branch(branch);
        view.open(&view.at(path).unwrap().0, Access::Write).unwrap().sync(what).unwrap();
        let node = self.node(branch, path);
        self.fsynced.insert(node);
        self.note(format!("{branch}: fsync {path}"), begun, Promise::Durable);
    }

    /// fsync of a directory: names and attributes.
    fn sync(&mut self, branch: &str) {
        let begun = self.recording.position();
        self.branch(branch).sync().unwrap();
        self.note(format!("{branch}: fsyncdir"), begun, Promise::Durable);
    }

    /// Somebody else on the same filesystem calls syncfs(2): the disk sees what nobody asked us to make durable.
    fn bystander(&mut self) {
        let begun = self.recording.position();
        rustix::fs::syncfs(fs::File::open(&self.disk).unwrap()).unwrap();
        self.note("somebody's sync", begun, Promise::Acknowledged);
    }

    fn fork(&mut self, parent: &str, names: &[&str], kind: GroupKind) {
        let begun = self.recording.position();
        let owned: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.store.fork(&self.branch(parent), &owned, kind).unwrap();
        for name in names {
            self.inherit(parent, name);
        }
        self.note(format!("{parent}: fork {names:?}"), begun, Promise::Acknowledged);
    }

    /// A native view of a branch, which ends with what is returned.
    fn attach(&mut self, branch: &str) -> Mounted {
        let begun = self.recording.position();
        let paths = self.store.attach(&self.branch(branch), OverlayXattrs::Trusted).unwrap();
        let view = self.disk.join(VIEW);
        fs::create_dir(&view).unwrap();
        let mounted = Mounted::overlay(&paths, &view);
        self.note(format!("{branch}: attach"), begun, Promise::Durable);
        mounted
    }

    /// One thing that a program does on the native view of `n`; it is taken in for the test's eyes only.
    fn program(&mut self, what: &str, act: impl FnOnce(&Path)) {
        self.on_view(what, act, Promise::Acknowledged);
    }

    fn program_append(&mut self, path: &str) {
        let node = self.node("n", path);
        self.fsynced.remove(&node);
        let append = |at: &Path| {
            let file = fs::File::options().append(true).open(at.join(path));
            file.unwrap().write_all(b"more\n").unwrap();
        };
        self.on_view(&format!("append to {path}"), append, Promise::Acknowledged);
    }

    /// Of a file that is new since the last one: the host's journal has what was done before it, too.
    fn program_fsync(&mut self, path: &str) {
        let node = self.node("n", path);
        self.fsynced.insert(node);
        let fsync = |at: &Path| fs::File::open(at.join(path)).unwrap().sync_all().unwrap();
        self.on_view(&format!("fsync {path}"), fsync, Promise::Durable);
    }

    fn on_view(&mut self, what: &str, act: impl FnOnce(&Path), promise: Promise) {
        let begun = self.recording.position();
        act(&self.disk.join(VIEW));
        let promised = self.recording.position();
        self.store.take_in(&self.branch("n"), Processes::Run).unwrap();
        self.note(format!("on the native view: {what}"), begun, promise);
        if let Some(step) = self.steps.last_mut() {
            step.promised = step.promised.map(|_| promised);
        }
    }

    /// For good.
    fn take_in(&mut self, branch: &str) {
        let begun = self.recording.position();
        self.store.take_in(&self.branch(branch), Processes::Ended).unwrap();
        self.note(format!("{branch}: take in"), begun, Promise::Durable);
    }

    /// Into a branch, or the base.
    fn commit(&mut self, branch: &str, into: &str) {
        let begun = self.recording.position();
        let committed = self.store.commit(&self.branch(branch)).unwrap();
        assert_eq!((committed.into.name(), &committed.warnings[..]), (into, &[][..]));
        self.fsynced.retain(|(of, _)| of != into);
        self.inherit(branch, into);
        self.note(format!("{branch}: commit"), begun, Promise::Durable);
    }

    /// A commit is taken back, or that is.
    fn turn(&mut self, what: &str, turn: impl FnOnce(&Store) -> Result<Committed>) {
        let begun = self.recording.position();
        let turned = turn(&self.store).unwrap();
        assert_eq!(turned.warnings, Vec::<String>::new());
        self.note(what, begun, Promise::Durable);
    }

    fn abort(&mut self, branch: &str) {
        let begun = self.recording.position();
        self.store.abort(&self.branch(branch), Children::Refuse).unwrap();
        self.note(format!("{branch}: abort"), begun, Promise::Acknowledged);
    }

    /// The same files mean the same bytes.
    fn inherit(&mut self, from: &str, to: &str) {
        let files: Vec<NodeId> =
            self.fsynced.iter().filter(|(of, _)| of == from).map(|(_, node)| *node).collect();
        self.fsynced.extend(files.into_iter().map(|node| (to.to_owned(), node)));
    }
}
