//! The control groups (`cgroups(7)`) of a process group: a directory in every hierarchy that helps. In cgroup v2
//! the init is in the directory and the program in one below it, so that the group can be frozen without the
//! init, which has to see its spawner's death.

mod files;
mod hierarchy;
mod home;
mod user_scope;
mod v1;
mod v2;

use std::fs;
use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use self::hierarchy::Controller;
pub use self::home::allow_systemd_scope;
pub(crate) use self::home::{Home, systemd_scope};
use crate::error::{SpawnError, Step};
use crate::limits::{Enforced, Limit, Limits};
use crate::usage::{Pressure, Usage};

/// How the directories are called: this, the maker's pid, a number.
const PREFIX: &str = "branchfs.";
/// The directory below, for the program and all it starts.
const INNER: &str = "run";

/// The directories of one group, whoever made them.
#[derive(Debug, Default)]
pub(crate) struct Cgroup {
    unified: Option<PathBuf>,
    v1: Vec<(Controller, PathBuf)>,
}

/// The directories of a group that this process made. Dropping removes them; they are empty by then.
#[derive(Debug)]
pub(crate) struct OwnCgroup(Cgroup);

/// A group's directories could not be made or used.
#[derive(Debug)]
pub(crate) struct Error {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

impl From<Error> for SpawnError {
    fn from(error: Error) -> SpawnError {
        let errno = error.source.raw_os_error().unwrap_or(libc::EIO);
        SpawnError::new(Step::Cgroup, errno, error.path.display().to_string())
    }
}

/// In which hierarchies a group gets directories. In cgroup v2 the init is made there; those of cgroup v1 it enters by
/// itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// In cgroup v2.
    Unified,
    /// In all there are.
    Everywhere,
}

impl OwnCgroup {
    /// Makes the directories of a group below `home`.
    pub(crate) fn make(home: &Home, extent: Extent) -> Result<OwnCgroup, Error> {
        let (mut made, name) = (OwnCgroup(Cgroup::default()), name());
        if let Some(unified) = &home.unified {
            let directory = made.0.unified.insert(unified.join(&name));
            create(directory)?;
            create(&v2::inner(directory))?;
        }
        if extent == Extent::Everywhere {
            made.make_v1(home, &name)?;
        }
        Ok(made)
    }

    /// Makes directories in which groups can be made that share limits.
    pub(crate) fn make_parent(home: &Home) -> Result<OwnCgroup, Error> {
        let (mut made, name) = (OwnCgroup(Cgroup::default()), name());
        if let Some(unified) = &home.unified {
            let directory = made.0.unified.insert(unified.join(&name));
            create(directory)?;
            v2::delegate(directory);
        }
        made.make_v1(home, &name)?;
        Ok(made)
    }

    /// Several controllers may share one directory.
    fn make_v1(&mut self, home: &Home, name: &str) -> Result<(), Error> {
        for (controller, directory) in &home.v1 {
            let directory = directory.join(name);
            if !self.0.v1.iter().any(|(_, made)| *made == directory) {
                create(&directory)?;
            }
            self.0.v1.push((*controller, directory));
        }
        Ok(())
    }
}

impl Deref for OwnCgroup {
    type Target = Cgroup;

    fn deref(&self) -> &Cgroup {
        &self.0
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        if let Some(directory) = &self.0.unified {
            remove(&v2::inner(directory));
        }
        for directory in self.0.unified.iter().chain(self.0.v1.iter().map(|(_, directory)| directory)) {
            remove(directory);
        }
    }
}

impl Cgroup {
    /// The directories made for the group of this init; None if it has none.
    pub(crate) fn of_init(pid: i32) -> Option<Cgroup> {
        let read = |file: String| fs::read_to_string(file).ok();
        let own =
            hierarchy::own(&read("/proc/self/mountinfo".into())?, &read(format!("/proc/{pid}/cgroup"))?);
        let ours = |directory: &PathBuf| {
            directory.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
        };
        let unified = own.unified.map(|(_, directory)| directory).filter(ours);
        let v1: Vec<_> = own.v1.into_iter().filter(|(_, directory)| ours(directory)).collect();
        (unified.is_some() || !v1.is_empty()).then_some(Cgroup { unified, v1 })
    }

    /// Where groups can be made that share this one's limits.
    pub(crate) fn as_home(&self) -> Home {
        Home { unified: self.unified.clone(), v1: self.v1.clone() }
    }

    /// The directory for the init, for `clone3(2)`; None without cgroup v2.
    pub(crate) fn open(&self) -> Result<Option<OwnedFd>, Error> {
        self.unified.as_deref().map(open).transpose()
    }

    /// The directory for the program, for `clone3(2)`; None without cgroup v2.
    pub(crate) fn open_inner(&self) -> Result<Option<OwnedFd>, Error> {
        self.unified.as_deref().map(|directory| open(&v2::inner(directory))).transpose()
    }

    /// What the init enters by itself, in this order: see [`enter`].
    pub(crate) fn open_entrances(&self) -> Result<Vec<OwnedFd>, Error> {
        let open = |path: PathBuf| {
            rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| Error { path, source: e.into() })
        };
        self.entrances().map(open).collect()
    }

    /// The name of one of them, for a message.
    pub(crate) fn entrance(&self, index: u32) -> String {
        self.entrances().nth(index as usize).map_or_else(String::new, |path| path.display().to_string())
    }

    /// Several controllers may share one directory.
    fn entrances(&self) -> impl Iterator<Item = PathBuf> {
        let shares = |&(index, (_, directory)): &(usize, &(Controller, PathBuf))| {
            self.v1[..index].iter().all(|(_, before)| before != directory)
        };
        self.v1.iter().enumerate().filter(move |one| shares(one)).map(|(_, (_, of))| of.join(v1::ENTRANCE))
    }

    /// Sets the limits that are set in `limits`; how each of them is held.
    pub(crate) fn limit(&self, limits: &Limits) -> Result<Vec<(Limit, Enforced)>, Error> {
        let mut held: Vec<(Limit, Enforced)> = Vec::new();
        if let Some(directory) = &self.unified {
            apply(v2::settings(limits).into_iter().map(|setting| (directory.as_path(), setting)), &mut held)?;
        }
        let of = |controller| {
            self.v1.iter().find(|(has, _)| *has == controller).map(|(_, directory)| directory.as_path())
        };
        let v1 = v1::settings(limits).into_iter();
        apply(v1.filter_map(|(controller, setting)| Some((of(controller)?, setting))), &mut held)?;
        Ok(held)
    }

    /// What the group uses.
    pub(crate) fn usage(&self) -> Usage {
        let v1 = v1::usage(&self.v1);
        let Some(v2) = self.unified.as_deref().map(v2::usage) else { return v1 };
        Usage {
            user: v2.user.or(v1.user),
            sys: v2.sys.or(v1.sys),
            memory: v2.memory.or(v1.memory),
            memory_peak: v2.memory_peak.or(v1.memory_peak),
            pids: v2.pids.or(v1.pids),
            pids_peak: v2.pids_peak.or(v1.pids_peak),
            io_read: v2.io_read.or(v1.io_read),
            io_written: v2.io_written.or(v1.io_written),
            oom_kills: v2.oom_kills.or(v1.oom_kills),
        }
    }

    /// Bytes of memory without the cache of files, which is looked at from `rough` bytes on.
    pub(crate) fn memory_in_use(&self, rough: u64) -> Option<u64> {
        let v2 = self.unified.as_deref().and_then(|directory| v2::memory_in_use(directory, rough));
        v2.or_else(|| {
            let (_, directory) = self.v1.iter().find(|(controller, _)| *controller == Controller::Memory)?;
            v1::memory_in_use(directory, rough)
        })
    }

    /// How much the group waits for memory.
    pub(crate) fn pressure(&self) -> Option<Pressure> {
        v2::pressure(self.unified.as_deref()?)
    }

    /// Whether the whole group can be frozen at once.
    pub(crate) fn freezes(&self) -> bool {
        self.unified.is_some()
    }

    /// Whether the program and all it has started stand still.
    pub(crate) fn is_frozen(&self) -> bool {
        self.unified.as_deref().is_some_and(|directory| v2::is_frozen(&v2::inner(directory)))
    }

    /// Freezes or thaws the program and all it has started; returns when it is so.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<(), Error> {
        let Some(directory) = &self.unified else { return Ok(()) };
        let path = v2::inner(directory);
        v2::freeze(&path, frozen).map_err(|source| Error { path, source })
    }
}

/// Moves the calling thread, the only one of its process, into the directory of a `tasks` file. Async-signal-safe.
///
/// For every other move the kernel takes the lock that all forks and exits of the host go through, and waits for an RCU
/// grace period if nobody has taken it for a while; a thread that moves itself alone needs none
/// (`cgroup_procs_write_start` in `kernel/cgroup/cgroup.c`). It is the opener who has to have the right.
pub(crate) fn enter(entrance: &OwnedFd) -> Result<(), Errno> {
    rustix::io::write(entrance, b"0").map(drop)
}

/// Writes each setting that its directory knows. A file that is not there means a controller that is not.
fn apply<'a>(
    settings: impl Iterator<Item = (&'a Path, files::Setting)>,
    held: &mut Vec<(Limit, Enforced)>,
) -> Result<(), Error> {
    for (directory, setting) in settings {
        if held.contains(&(setting.limit, Enforced::Fully)) && setting.limit != Limit::IoMax {
            continue;
        }
        let path = directory.join(&setting.file);
        match files::write(&path, &setting.value) {
            Ok(()) => held.push((setting.limit, Enforced::Fully)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error { path, source }),
        }
    }
    held.dedup();
    Ok(())
}

/// Removes a group's directory and those below. One that is still in use is left to a later process's
/// [`Home`]; nothing else depends on it.
fn remove(directory: &Path) {
    // Mostly there is nothing below, and listing it would cost as much as removing it.
    let Err(error) = fs::remove_dir(directory) else { return };
    if error.kind() == io::ErrorKind::NotFound {
        return;
    }
    if let Ok(entries) = fs::read_dir(directory) {
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove(&entry.path());
        }
    }
    // Busy or gone: see above.
    drop(fs::remove_dir(directory));
}

fn create(directory: &Path) -> Result<(), Error> {
    fs::create_dir(directory).map_err(|source| Error { path: directory.to_owned(), source })
}

fn open(directory: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error { path: directory.to_owned(), source: e.into() })
}

/// A name that nobody else has: other processes have other pids.
fn name() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("{PREFIX}{}.{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed))
}
