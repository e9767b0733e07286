//! Opening a store: lock, read, replay, finish what was decided, sweep what was not. Nothing else yields a
//! `Store`.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rustix::fs::{Mode, OFlags};

use crate::base::Base;
use crate::branch::{Birth, Branch, Counters, Data, Registry, Shared, State};
use crate::commit::{apply_merge, decide};
use crate::content::Contents;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::ids::{BranchId, CommitId, GroupKind, LayerId, MAIN};
use crate::journal::record::{self, Decide, Record, Snapshot};
use crate::journal::{Journal, Tail, WorkspaceId, scan};
use crate::node::{Body, Content, DisplacedTo, Time};
use crate::store::files::{self, BOOT_FILE, checkpoint_name, journal_name, numbered};
use crate::store::{Store, fork, maintain};
use crate::tree::{Change, Tree};

/// Which store over which base.
#[derive(Debug, Clone)]
pub struct Options {
    /// The base directory.
    pub base: PathBuf,
    /// The store directory.
    pub store: PathBuf,
}

/// A locked store that has not been recovered: it can do nothing else.
pub struct Unrecovered {
    options: Options,
    disk: Disk,
    dir: OwnedFd,
    lock: OwnedFd,
    workspace: WorkspaceId,
}

/// What recovery did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// In words; empty after a clean shutdown.
    pub lines: Vec<String>,
}

impl Unrecovered {
    /// Locks a store.
    ///
    /// # Errors
    /// `NoStore`, `Locked`, `Newer`, `Corrupt`, and the host's.
    pub fn open(options: Options) -> Result<Unrecovered> {
        Unrecovered::open_on(options, Disk::default())
    }

    /// The same, with every namespace and durability call passing the given disk.
    ///
    /// # Errors
    /// As [`Unrecovered::open`].
    pub fn open_on(options: Options, disk: Disk) -> Result<Unrecovered> {
        let workspace = files::read_format(&options.store)?;
        let dir = files::open(&options.store)?;
        let lock = files::lock(&options.store, &dir)?;
        Ok(Unrecovered { options, disk, dir, lock, workspace })
    }

    /// Brings the store to the state of its last acknowledged operation and the base to all or nothing of
    /// every commit.
    ///
    /// # Errors
    /// `Corrupt` naming file, offset and cause; the host's. The store is left as it was found, except for
    /// what earlier steps of a successful recovery would do again.
    pub fn recover(self) -> Result<(Store, Report)> {
        let mut report = Report::default();
        let read = read_all(&self.dir, &self.workspace)?;
        let shared = build(self, &read, &mut report)?;
        let mut replay = Replay { shared: &shared, pending: None };
        for (file, offset, record) in read.records {
            replay.apply(record).map_err(|cause| Error::Corrupt { file: file.to_string(), offset, cause })?;
        }
        let pending = replay.pending;
        if let Some(decided) = pending {
            finish(&shared, &decided, &mut report)?;
        }
        sweep(&shared, &mut report)?;
        Ok((Store { shared }, report))
    }
}

/// What the files say.
struct Read {
    records: Vec<(Arc<str>, u64, Record)>,
    /// The journal to go on with: number, length of its good part, next sequence number.
    journal: (u64, u64, u64),
    torn: Option<(String, u64)>,
}

/// Reads the newest checkpoint and the journals from there on.
fn read_all(dir: &OwnedFd, workspace: &WorkspaceId) -> Result<Read> {
    let checkpoint = numbered(dir, "checkpoint")?.pop();
    let first = checkpoint.unwrap_or(1);
    let journals: Vec<u64> = numbered(dir, "journal")?.into_iter().filter(|n| *n >= first).collect();
    let mut read = Read { records: Vec::new(), journal: (0, 0, 0), torn: None };
    if let Some(number) = checkpoint {
        read_checkpoint(dir, workspace, number, &mut read)?;
    }
    if journals.first() != Some(&first) || journals.windows(2).any(|w| w[0] + 1 != w[1]) {
        let cause = format!("journal {first} or a later one is missing");
        return Err(Error::Corrupt { file: journal_name(first), offset: 0, cause });
    }
    let mut expected = None;
    for number in &journals {
        let last = journals.last() == Some(number);
        read_journal(dir, workspace, *number, last, &mut expected, &mut read)?;
    }
    Ok(read)
}

fn read_checkpoint(dir: &OwnedFd, workspace: &WorkspaceId, number: u64, read: &mut Read) -> Result<()> {
    let name = checkpoint_name(number);
    let bytes = read_file(dir, &name)?;
    let file: Arc<str> = name.as_str().into();
    let (_, _, tail) = scan(&bytes, &name, workspace, |offset, record| {
        read.records.push((file.clone(), offset, record));
        Ok(())
    })?;
    // It was durable before it got its name: anything missing is damage, not a torn write.
    let whole = tail == Tail::Clean && matches!(read.records.last(), Some((_, _, Record::End)));
    if whole {
        return Ok(());
    }
    let offset = if let Tail::Torn(at) = tail { at } else { bytes.len() as u64 };
    Err(Error::Corrupt { file: name, offset, cause: "the checkpoint ends early".to_owned() })
}

fn read_journal(
    dir: &OwnedFd,
    workspace: &WorkspaceId,
    number: u64,
    last: bool,
    expected: &mut Option<u64>,
    read: &mut Read,
) -> Result<()> {
    let name = journal_name(number);
    let bytes = read_file(dir, &name)?;
    let file: Arc<str> = name.as_str().into();
    let (header, next, tail) = scan(&bytes, &name, workspace, |offset, record| {
        read.records.push((file.clone(), offset, record));
        Ok(())
    })?;
    let corrupt = |offset, cause: String| Error::Corrupt { file: name.clone(), offset, cause };
    if expected.is_some_and(|expected| expected != header.first) {
        return Err(corrupt(
            28,
            format!("starts with record {}, not where the one before ended", header.first),
        ));
    }
    *expected = Some(next);
    let length = match tail {
        Tail::Clean => bytes.len() as u64,
        Tail::Torn(at) if last => {
            read.torn = Some((name.clone(), at));
            at
        }
        Tail::Torn(at) => {
            return Err(corrupt(at, "ends in the middle of a record, and a later journal exists".into()));
        }
    };
    read.journal = (number, length, next);
    Ok(())
}

fn read_file(dir: &OwnedFd, name: &str) -> Result<Vec<u8>> {
    let file = rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::host("open", name, e))?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut bytes).map_err(|e| {
        Error::host("read", name, rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO))
    })?;
    Ok(bytes)
}

/// The empty store around the journal that goes on.
fn build(store: Unrecovered, read: &Read, report: &mut Report) -> Result<Arc<Shared>> {
    let Unrecovered { options, disk, dir, lock, workspace } = store;
    let (number, length, next) = read.journal;
    let name = journal_name(number);
    let file = rustix::fs::openat(&dir, name.as_str(), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::host("open", &name, e))?;
    let file = std::fs::File::from(file);
    if let Some((name, at)) = &read.torn {
        disk.truncate(&file, *at).map_err(|e| Error::host("truncate", name, e))?;
        disk.fsync(&file).map_err(|e| Error::host("fsync", name, e))?;
        report.lines.push(format!("cut an unfinished record off {name} at byte {at}"));
    }
    let base = files::open(&options.base)?;
    let park = files::open(&files::park_dir(&options.base, &options.store))?;
    let park_stat = crate::base::stat_fd(&park)?;
    let base_stat = crate::base::stat_fd(&base)?;
    if (park_stat.stx_dev_major, park_stat.stx_dev_minor)
        != (base_stat.stx_dev_major, base_stat.stx_dev_minor)
    {
        return Err(Error::NotAllowed(
            "the preimage directory is not on the base's filesystem; use init --store",
        ));
    }
    let shared = Arc::new(Shared {
        base_path: options.base,
        dir_path: options.store,
        park_fd: rustix::io::fcntl_dupfd_cloexec(&park, 0)?,
        workspace,
        base: Base::new(base, park)?,
        contents: Contents::new(disk.clone(), &dir)?,
        journal: Journal::new(disk.clone(), file, length, next),
        disk,
        dir_fd: dir,
        _lock: lock,
        counters: Counters::default(),
        registry: RwLock::new(Registry::default()),
        log: Mutex::default(),
        writeback: Mutex::default(),
        decide: Mutex::default(),
        gate: RwLock::default(),
        journal_number: AtomicU64::new(number),
    });
    shared.counters.note_layer(MAIN_LAYER);
    shared.counters.branch.fetch_max(1, Ordering::Relaxed);
    let birth = Birth {
        id: BranchId::MAIN,
        name: MAIN.to_owned(),
        parent: None,
        group: None,
        created: Time::default(),
        depth: 0,
    };
    let data = Data {
        tree: Tree::default(),
        fork_tree: Tree::default(),
        epoch: CommitId(0),
        layer: MAIN_LAYER,
        layers: Vec::new(),
    };
    let main = Branch::new(shared.clone(), birth, data);
    shared.registry.write().insert(main);
    Ok(shared)
}

/// Nothing is ever written in it: main is read-only.
const MAIN_LAYER: LayerId = LayerId(0);

/// Applies records. Uses the same functions as live operation, so both agree.
struct Replay<'a> {
    shared: &'a Arc<Shared>,
    /// The decided commit whose `Done` has not been met.
    pending: Option<Decide>,
}

impl Replay<'_> {
    fn apply(&mut self, record: Record) -> std::result::Result<(), String> {
        match record {
            Record::Batch { branch, changes, dirs } => {
                self.note_dirs(&dirs);
                let branch = self.branch(branch)?;
                let mut data = branch.data.write();
                self.change(&mut data.tree, &changes)
            }
            Record::Fork(record) => {
                let parent = self.branch(record.parent)?;
                let mut data = parent.data.write();
                fork::apply(self.shared, &parent, &mut data, &record);
                Ok(())
            }
            Record::Merge { child, changes, stale } => self.merge(child, changes.as_deref(), &stale),
            Record::Decide(decided) => {
                let child = self.branch(decided.child)?;
                let losers = self.shared.live(&decided.stale);
                decide::apply_decide(self.shared, &decided, &child, &losers);
                self.pending = Some(decided);
                Ok(())
            }
            Record::Done { commit, moved } => {
                self.note_dirs(&moved.dirs);
                for object in &moved.objects {
                    self.shared.base.places.note_displaced(object);
                }
                decide::apply_done(self.shared, commit);
                self.pending = None;
                Ok(())
            }
            Record::Abort { branches } => {
                self.shared.end_all(&self.shared.live(&branches), State::Aborted);
                Ok(())
            }
            Record::Prune { park_upto, history_upto } => {
                maintain::apply_prune(self.shared, park_upto, history_upto);
                Ok(())
            }
            Record::Counters(counters) => {
                self.counters(counters);
                Ok(())
            }
            Record::Branch(snapshot) => self.snapshot(*snapshot),
            Record::End => Ok(()),
        }
    }

    fn branch(&self, id: BranchId) -> std::result::Result<Arc<Branch>, String> {
        self.shared
            .registry
            .read()
            .get(id)
            .ok_or_else(|| format!("speaks of branch {id}, which does not exist"))
    }

    fn change(&self, tree: &mut Tree, changes: &[Change]) -> std::result::Result<(), String> {
        for change in changes {
            if let Change::Put { id, inode } = change {
                self.shared.base.note_allocated(*id);
                if let Some(origin) = &inode.origin {
                    self.shared.base.note_alias(*id, &origin.print);
                }
            }
            tree.apply(change).map_err(str::to_owned)?;
        }
        Ok(())
    }

    fn note_dirs(&self, dirs: &[crate::journal::record::DirPlace]) {
        for place in dirs {
            self.shared.base.places.note_dir(place.id, &place.slot, place.object);
        }
    }

    fn merge(
        &self,
        child: BranchId,
        changes: Option<&[Change]>,
        stale: &[BranchId],
    ) -> std::result::Result<(), String> {
        let child = self.branch(child)?;
        let parent = self.branch(child.parent().ok_or("main cannot be merged")?)?;
        let ours = child.data.read().clone();
        let mut into = parent.data.write();
        apply_merge(self.shared, &child, &mut into, &ours, changes).map_err(|e| e.to_string())?;
        drop(into);
        self.shared.end_all(&self.shared.live(stale), State::Stale);
        Ok(())
    }

    fn counters(&self, from: record::Counters) {
        let counters = &self.shared.counters;
        counters.branch.fetch_max(from.next_branch, Ordering::Relaxed);
        counters.layer.fetch_max(from.next_layer, Ordering::Relaxed);
        counters.group.fetch_max(from.next_group, Ordering::Relaxed);
        counters.commit.fetch_max(from.commits, Ordering::Relaxed);
        let base = &self.shared.base;
        base.note_allocated(crate::ids::NodeId(from.next_node.saturating_sub(1)));
        self.note_dirs(&from.dirs);
        for (id, commit, object) in from.parks {
            base.places.note_park(id, commit, object);
        }
        for (key, slot) in from.parked {
            base.places.note_displaced(&DisplacedTo { key, to: slot, left: None });
        }
        for (key, slot) in from.elsewhere {
            base.places.note_elsewhere(key, slot);
        }
        let mut history = base.history.write();
        for (commit, displaced) in &from.history {
            history.record(*commit, displaced);
        }
        *self.shared.log.lock() = from.log;
        self.shared.main().data.write().epoch = CommitId(from.commits);
    }

    fn snapshot(&self, snapshot: Snapshot) -> std::result::Result<(), String> {
        let parent = self.branch(snapshot.parent)?;
        let mut fork_tree = parent.data.read().tree.clone();
        self.change(&mut fork_tree, &snapshot.fork_from_parent)?;
        let mut tree = fork_tree.clone();
        self.change(&mut tree, &snapshot.tree_from_fork)?;
        if snapshot.kind == GroupKind::Frozen {
            parent.frozen.fetch_add(1, Ordering::AcqRel);
        }
        let birth = Birth {
            id: snapshot.id,
            name: snapshot.name,
            parent: Some(snapshot.parent),
            group: Some((snapshot.group, snapshot.kind)),
            created: snapshot.created,
            depth: parent.birth.depth + 1,
        };
        let data =
            Data { tree, fork_tree, epoch: snapshot.epoch, layer: snapshot.layer, layers: snapshot.layers };
        self.shared.registry.write().insert(Branch::new(self.shared.clone(), birth, data));
        Ok(())
    }
}

/// A decided commit without `Done`: the plan is run again, whole.
fn finish(shared: &Arc<Shared>, decided: &Decide, report: &mut Report) -> Result<()> {
    let written = decide::finish(shared, decided)?;
    report
        .lines
        .push(format!("finished commit {} of branch '{}' into the base", decided.commit.0, decided.name));
    report.lines.extend(written.warnings);
    Ok(())
}

/// Removes what no branch refers to.
fn sweep(shared: &Shared, report: &mut Report) -> Result<()> {
    let branches = shared.registry.read().all();
    let mut alive: HashSet<LayerId> = HashSet::new();
    for branch in &branches {
        sweep_orphans(branch)?;
        alive.extend(&branch.data.read().layers);
    }
    if rebooted(shared)? {
        for branch in &branches {
            restore_missing(shared, branch, report)?;
        }
    }
    for layer in shared.contents.layers()? {
        if alive.contains(&layer) {
            shared.contents.remove_temporary(layer)?;
        } else {
            shared.contents.discard_layer(layer)?;
        }
    }
    let head = shared.counters.commit.load(Ordering::Acquire);
    // Files that a commit moved into the base lose their second link before anybody looks at them.
    shared.contents.empty_trash()?;
    for commit in maintain::parks(shared)?.into_iter().filter(|commit| commit.0 > head) {
        report
            .lines
            .push(format!("removed what was staged for commit {}, which was never decided", commit.0));
        shared.contents.trash_preimage(&shared.park_fd, commit.0.to_string().as_bytes())?;
    }
    Ok(())
}

/// Files unlinked while open: whoever had them open is gone.
fn sweep_orphans(branch: &Branch) -> Result<()> {
    let tree = branch.data.read().tree.clone();
    let orphans = tree.nodes().filter(|(_, node)| node.inode.meta.nlink == 0).map(|(id, _)| id);
    for id in orphans.collect::<Vec<_>>() {
        let frozen = branch.frozen.swap(0, Ordering::AcqRel);
        let reaped = branch.reap(id);
        branch.frozen.store(frozen, Ordering::Release);
        reaped?;
    }
    Ok(())
}

/// Whether the machine was restarted since the store was last open: then what was never fsynced may be gone.
fn rebooted(shared: &Shared) -> Result<bool> {
    let Ok(now) = std::fs::read("/proc/sys/kernel/random/boot_id") else { return Ok(true) };
    let path = shared.dir_path.join(BOOT_FILE);
    let same = std::fs::read(&path).is_ok_and(|then| then == now);
    if !same {
        std::fs::write(&path, &now).map_err(|e| {
            Error::host(
                "write",
                BOOT_FILE,
                rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO),
            )
        })?;
    }
    Ok(!same)
}

/// The journal may have reached the disk before a content file that nobody fsynced: such a file is empty, as
/// after a crash on any Linux filesystem.
fn restore_missing(shared: &Shared, branch: &Branch, report: &mut Report) -> Result<()> {
    let tree = branch.data.read().tree.clone();
    for (id, node) in tree.nodes() {
        let Body::File(Content::Own(layer)) = node.inode.body else { continue };
        if let Err(e) = shared.contents.stat(layer, id)
            && e.errno() == rustix::io::Errno::NOENT
        {
            shared.contents.create(layer, id)?;
            let path = crate::commit::path_of(&tree, id).unwrap_or_default();
            let path = String::from_utf8_lossy(&path).into_owned();
            report.lines.push(format!(
                "{}:{path} was never fsynced before the power failed; it is empty",
                branch.name()
            ));
        }
    }
    Ok(())
}
