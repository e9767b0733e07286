//! Opening a store: lock, read, replay, finish what was decided, sweep what was not. Nothing else yields a
//! `Store`.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::base::Base;
use crate::branch::{AtFork, Birth, Branch, Counters, Data, Marks, Registry, Shared};
use crate::commit::{applied, decide, partial};
use crate::content::Contents;
use crate::disk::{Disk, Locked};
use crate::error::{Error, Result};
use crate::ids::{BranchId, CommitId, LayerId, MAIN, Quota};
use crate::journal::record::{Decide, Origin};
use crate::journal::{Journal, Unsynced, WorkspaceId};
use crate::native;
use crate::node::Time;
use crate::store::Store;
use crate::store::files::{self, journal_name};
use crate::store::lenders;
use crate::store::read::{Located, Read, read_all};
use crate::store::replay::Replay;
use crate::store::report::Report;
use crate::store::sweep::{Settled, sweep};
use crate::tree::Tree;

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
    lock: Locked,
    workspace: WorkspaceId,
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
        let down = files::rebooted(&self.options.store);
        let unsynced = if down { Unsynced::MayBeGone } else { Unsynced::Kept };
        let read = read_all(&self.dir, &self.workspace, unsynced)?;
        let shared = build(self, &read, &mut report)?;
        // From here on the registry and what it shares refer to each other: a store, even one that fails to
        // recover, takes them apart when dropped.
        let store = Store { shared };
        replay_and_finish(&store.shared, read.records, &mut report)?;
        Ok((store, report))
    }
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
        report.lines.push(match read.undone {
            0 => format!("cut an unfinished record off {name} at byte {at}"),
            n => format!("the power failed: the last {n} operations, which nobody had fsynced, are undone"),
        });
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
    let keep = files::read_keep(&options.store)?;
    let shared = Arc::new(Shared {
        base_path: options.base,
        dir_path: options.store,
        park_fd: rustix::io::fcntl_dupfd_cloexec(&park, 0)?,
        workspace,
        base: Base::new(base, park)?,
        contents: Contents::new(disk.clone(), &dir)?,
        journal: Journal::new(disk.clone(), file, length, next, read.last_copy()),
        disk,
        dir_fd: dir,
        _lock: lock,
        counters: Counters::default(),
        registry: RwLock::new(Registry::default()),
        log: Mutex::default(),
        writeback: Mutex::default(),
        decide: Mutex::default(),
        gate: RwLock::default(),
        settling: Mutex::default(),
        keep: Mutex::new(keep),
        leases: Arc::default(),
        park_bytes: Mutex::default(),
        journal_number: AtomicU64::new(number),
    });
    shared.contents.note_published(read.copied.iter().copied());
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
        at_fork: AtFork::default(),
        epoch: CommitId(0),
        layer: MAIN_LAYER,
        layers: Vec::new(),
        marks: Marks::default(),
        restored: None,
        quota: Quota::Unlimited,
    };
    let main = Branch::new(shared.clone(), birth, data);
    shared.registry.write().insert(main);
    Ok(shared)
}

/// Nothing is ever written in it: main is read-only.
const MAIN_LAYER: LayerId = LayerId(0);

fn replay_and_finish(shared: &Arc<Shared>, records: Vec<Located>, report: &mut Report) -> Result<()> {
    let mut replay = Replay { shared, pending: None, parted: None };
    for (file, offset, record) in records {
        replay.apply(record).map_err(|cause| Error::Corrupt { file: file.to_string(), offset, cause })?;
    }
    let (pending, parted) = (replay.pending, replay.parted);
    // What follows relies on the records that were read: those that a dead process wrote may not be durable yet.
    let settled = match shared.make_durable() {
        // No room to say so; a sync that failed is another matter.
        Err(e)
            if pending.is_none()
                && matches!(e.errno(), Errno::NOSPC | Errno::DQUOT)
                && shared.journal.check().is_ok() =>
        {
            report.lines.push(format!("nothing is cleared away: {e}"));
            Settled::No
        }
        other => other.map(|()| Settled::Yes)?,
    };
    if let Some(decided) = pending {
        finish(shared, &decided, report)?;
    }
    if let Some(decided) = parted {
        go_on(shared, &decided, report);
    }
    lenders::find_all(shared)?;
    if settled == Settled::Yes {
        native::recover(shared, &mut report.lines)?;
    }
    sweep(shared, settled, report)?;
    lenders::report_edited(shared, report)?;
    // The end of the last commit may not have reached the disk; by now nothing of it is left to do.
    let open = shared.log.lock().last().filter(|line| line.closed.is_none()).map(|line| line.commit);
    match open.map(|commit| decide::close(shared, commit)) {
        // A full disk must not keep the store from being opened: the next recovery tries again.
        Some(Err(e)) if !matches!(e.errno(), Errno::NOSPC | Errno::DQUOT) => Err(e),
        _ => Ok(()),
    }
}

/// A partial commit whose branch has not gone on with the rest.
fn go_on(shared: &Arc<Shared>, decided: &Decide, report: &mut Report) {
    let (Origin::Branch(id), Some(of)) = (decided.origin, &decided.part) else { return };
    let Some(branch) = shared.registry.read().get(id) else { return };
    let before = branch.data.read().tree.clone();
    let went = applied(&before, &of.changes)
        .map_err(|cause| Error::Corrupt { file: "journal".to_owned(), offset: 0, cause: cause.to_owned() })
        .and_then(|tree| partial::go_on(shared, &branch, &tree, &of.part, decided.commit));
    report.lines.push(match went {
        Ok(_) => format!("branch '{}' goes on with what it did not commit", decided.name),
        // Nothing is lost: it has all as its own, and a conflict will say so.
        Err(e) => format!("branch '{}' still shows what it committed as its own: {e}", decided.name),
    });
}

/// A decided commit without `Done`: the plan is run again, whole.
fn finish(shared: &Arc<Shared>, decided: &Arc<Decide>, report: &mut Report) -> Result<()> {
    let written = decide::finish(shared, decided, &[], &())?;
    report
        .lines
        .push(format!("finished commit {} of branch '{}' into the base", decided.commit.0, decided.name));
    report.lines.extend(written.warnings);
    Ok(())
}
