//! A workspace on a disk whose power fails, the steps that are carried out in it, and all that can be seen of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use branch_store::*;

use crate::common::{Paths, host_tree};
use crate::recorder::{Fault, Recorder};

/// Paths to descriptions.
pub type Tree = BTreeMap<String, String>;

/// Every branch by name, every mark of one as `branch@mark`, the base directory itself as `BASE`, and what branches may
/// hold as `LIMITS`.
pub type Seen = BTreeMap<String, Tree>;

/// Not a name that a branch can have.
pub const BASE: &str = "(base)";
const LIMITS: &str = "(limits)";

/// What is durable once a step has been acknowledged; names of before in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    Nothing,
    Names,
    /// Names, and the bytes of one file of a branch.
    File(&'static str, &'static str),
    /// Names, and all bytes in the base.
    Base,
    Everything,
}

/// One operation: at most one record in the journal that anybody can see.
#[derive(Clone, Copy)]
pub struct Step {
    pub what: &'static str,
    pub durable: Durable,
    /// Whether a sync that fails poisons the store. (A checkpoint is only given up.)
    pub poisons: bool,
    pub act: fn(&World) -> Result<()>,
}

/// A run of a workspace.
pub struct Scenario {
    pub name: &'static str,
    pub files: &'static [(&'static str, &'static str)],
    pub prepare: fn(&Path),
    /// Branches and their parents.
    pub parents: &'static [(&'static str, &'static str)],
    pub steps: Vec<Step>,
    /// The store is on another filesystem.
    pub apart: bool,
    pub append_max: usize,
}

pub struct World {
    _dir: tempfile::TempDir,
    base: PathBuf,
    dir: PathBuf,
    pub recorder: Arc<Recorder>,
    store: Option<Store>,
}

impl World {
    pub fn new(scenario: &Scenario) -> World {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let base = dir.path().join("base");
        std::fs::create_dir(&base).unwrap();
        for (path, content) in scenario.files {
            let path = base.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        (scenario.prepare)(&base);
        let store = if scenario.apart { dir.path().join("store") } else { base.join(".branchfs") };
        init(&base, &store).unwrap();
        let roots = [base.clone(), store.clone()];
        let attic = dir.path().join("attic");
        let recorder = Recorder::new(&attic, &roots, scenario.apart, scenario.append_max);
        World { _dir: dir, base, dir: store, recorder, store: None }
    }

    /// Opens the store; the fault strikes at a call from here on.
    pub fn open(&mut self, fault: Option<(u64, Fault)>) -> Result<Report> {
        self.close();
        self.recorder.arm(fault);
        let options = Options { base: self.base.clone(), store: self.dir.clone() };
        let disk = Disk::guarded(self.recorder.clone());
        let (store, report) = Unrecovered::open_on(options, disk)?.recover()?;
        self.store = Some(store);
        Ok(report)
    }

    pub fn close(&mut self) {
        self.store = None;
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub fn branch(&self, name: &str) -> Result<Arc<Branch>> {
        self.store().branch(name)
    }

    pub fn fork(&self, parent: &str, names: &[&str], kind: GroupKind) -> Result<()> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let parent = self.branch(parent)?;
        self.store().fork(&parent, &names, kind).map(drop)
    }

    pub fn commit(&self, name: &str) -> Result<()> {
        let branch = self.branch(name)?;
        self.store().commit(&branch).map(drop)
    }

    pub fn mark(&self, branch: &str, name: &str) -> Result<()> {
        self.store().mark(&*self.branch(branch)?, Some(name)).map(drop)
    }

    pub fn restore(&self, branch: &str, name: &str) -> Result<()> {
        self.store().restore(&self.branch(branch)?, name, &|_| false).map(drop)
    }

    pub fn create(&self, branch: &str, path: &str) -> Result<()> {
        let branch = self.branch(branch)?;
        let (parent, name) = branch.parent_of(path)?;
        branch.create(&parent, name.as_bytes(), crate::common::new(NewKind::File, 0o644)).map(drop)
    }

    /// Over what is there.
    pub fn write(&self, branch: &str, path: &str, bytes: &str) -> Result<()> {
        self.branch(branch)?.overwrite(path, bytes)
    }

    pub fn change(&self, branch: &str, path: &str, change: AttrChange) -> Result<()> {
        let branch = self.branch(branch)?;
        branch.set_attr(&branch.at(path)?.0, &change).map(drop)
    }

    pub fn cut(&self, branch: &str, path: &str, size: u64) -> Result<()> {
        self.change(branch, path, AttrChange { size: Some(size), ..AttrChange::default() })
    }

    pub fn fsync(&self, branch: &str, path: &str) -> Result<()> {
        let branch = self.branch(branch)?;
        branch.open(&branch.at(path)?.0, Access::Read)?.sync(SyncWhat::All)
    }

    pub fn exchange(&self, branch: &str, one: &str, other: &str) -> Result<()> {
        let branch = self.branch(branch)?;
        let ((dir, name), (to, to_name)) = (branch.parent_of(one)?, branch.parent_of(other)?);
        branch.rename(&dir, name.as_bytes(), &to, to_name.as_bytes(), RenameMode::Exchange).map(drop)
    }

    /// Everything there is to see.
    pub fn seen(&self) -> Seen {
        let branches = self.store().branches();
        let mut seen: Seen = branches.iter().map(|b| (b.name().to_owned(), b.tree())).collect();
        for branch in &branches {
            for mark in branch.marks() {
                let side = self.store().marked(branch, &mark.name).unwrap();
                seen.insert(format!("{}@{}", branch.name(), mark.name), side_tree(&side));
            }
        }
        seen.insert(BASE.to_owned(), host_tree(&self.base));
        let limit = |branch: &Arc<Branch>| (branch.name().to_owned(), format!("{:?}", branch.quota()));
        seen.insert(LIMITS.to_owned(), branches.iter().map(limit).collect());
        seen
    }

    /// Carries out the steps from one on; returns how many are done when one fails, and its error.
    pub fn run(&self, steps: &[Step], from: usize) -> (usize, Option<Error>) {
        for (i, step) in steps.iter().enumerate().skip(from) {
            if let Err(e) = (step.act)(self) {
                return (i, Some(e));
            }
        }
        (steps.len(), None)
    }

    /// That the store goes on: a branch of its own, from fork to commit into the base.
    pub fn is_of_use(&self) {
        self.fork("main", &["probe"], GroupKind::Independent).unwrap();
        self.create("probe", "probe").unwrap();
        self.write("probe", "probe", "works").unwrap();
        self.commit("probe").unwrap();
        self.store().reclaim().unwrap();
        assert_eq!(std::fs::read_to_string(self.base.join("probe")).unwrap(), "works");
    }
}

/// The same shape as that of a branch.
fn side_tree(side: &Side) -> Tree {
    let mut out = Tree::new();
    let mut open = vec![(String::new(), side.resolve(b"").unwrap().unwrap().0)];
    while let Some((path, dir)) = open.pop() {
        for entry in side.read_dir(&dir).unwrap() {
            let name = entry.name.to_string();
            let path = if path.is_empty() { name } else { format!("{path}/{name}") };
            let (object, stat) = side.resolve(path.as_bytes()).unwrap().unwrap();
            let links = if stat.kind == Kind::Dir { 0 } else { stat.nlink };
            let body = match stat.kind {
                Kind::File => String::from_utf8(side.read(&object, 1 << 20).unwrap().unwrap()).unwrap(),
                _ => String::new(),
            };
            out.insert(path.clone(), format!("{:?} {:o} x{links} {body}", stat.kind, stat.mode));
            if stat.kind == Kind::Dir {
                open.push((path, object));
            }
        }
    }
    out
}

/// A scenario as it goes when nothing fails.
pub struct Reference {
    /// Before the first step and after each.
    pub worlds: Vec<Seen>,
    /// Calls that reach the disk, opening included.
    pub calls: u64,
}

impl Reference {
    pub fn of(scenario: &Scenario) -> Reference {
        let mut world = World::new(scenario);
        world.open(None).unwrap();
        let mut worlds = vec![world.seen()];
        for step in &scenario.steps {
            (step.act)(&world).unwrap_or_else(|e| panic!("{}: {}: {e}", scenario.name, step.what));
            worlds.push(world.seen());
        }
        let calls = world.recorder.calls();
        world.is_of_use();
        Reference { worlds, calls }
    }
}
