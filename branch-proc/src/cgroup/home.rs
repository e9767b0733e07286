//! Where this process may make control groups.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::Access;

use super::hierarchy::{self, Controller};
use super::user_scope::{self, UserScope};
use super::{PREFIX, v2};
use crate::ladder::SystemdScope;

/// Whether this process may be moved.
static SCOPE_ALLOWED: AtomicBool = AtomicBool::new(false);
/// What came of it: it is tried once in the life of a process.
static SCOPE: OnceLock<Result<(String, Home), String>> = OnceLock::new();

/// Lets the user's own systemd make the place for control groups where this process, an ordinary user's, has none: as in
/// a login session. It is then **moved**, with all its threads, to a transient scope of its own
/// (`branchfs-PID-….scope`) that it stays in; processes that it had started before stay where they are, and
/// later ones are in the scope. That happens once, when a limit for a group is asked for that nothing else would hold,
/// or a [`crate::Scope`]; it takes 40 to 80 milliseconds, five seconds if systemd does not answer.
/// [`crate::Level::systemd`] tells what came of it; where nothing did, groups are held as they are without.
///
/// Not allowed unless this is called: which control group a program is in is a matter of whoever started it.
///
/// Source: `org.freedesktop.systemd1(5)`, `systemd.scope(5)`.
pub fn allow_systemd_scope() {
    SCOPE_ALLOWED.store(true, Ordering::Relaxed);
}

/// What came of it so far.
pub(crate) fn systemd_scope() -> SystemdScope {
    match SCOPE.get() {
        None => SystemdScope::NotAsked,
        Some(Ok((unit, _))) => SystemdScope::Entered { unit: unit.clone() },
        Some(Err(why)) => SystemdScope::Refused { why: why.clone() },
    }
}

/// Directories in which groups can be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Home {
    /// In cgroup v2.
    pub(super) unified: Option<PathBuf>,
    /// In the hierarchies of cgroup v1.
    pub(super) v1: Vec<(Controller, PathBuf)>,
}

impl Home {
    /// This host's. Looked for once: a process that is moved to another group later goes on using what it has
    /// found, which stays usable. Moved to a scope of systemd's, it uses that.
    pub(crate) fn of_host() -> &'static Home {
        static HOME: OnceLock<Home> = OnceLock::new();
        match SCOPE.get() {
            Some(Ok((_, home))) => home,
            Some(Err(_)) | None => HOME.get_or_init(Home::find),
        }
    }

    /// This host's, for groups with limits: systemd may be asked for one that holds them.
    pub(crate) fn for_limits() -> &'static Home {
        let found = Home::of_host();
        let user = rustix::process::geteuid();
        // Root has all of them, where anybody has.
        let asks =
            !user.is_root() && user == rustix::process::getuid() && SCOPE_ALLOWED.load(Ordering::Relaxed);
        if !asks || !found.is_empty() {
            return found;
        }
        match SCOPE.get_or_init(Home::in_scope) {
            Ok((_, home)) => home,
            Err(_) => found,
        }
    }

    fn in_scope() -> Result<(String, Home), String> {
        let UserScope { unit, directory } = user_scope::enter()?;
        match offers_directories(&directory) {
            true => Ok((unit, Home { unified: Some(directory), v1: Vec::new() })),
            false => Err(format!("no groups can be made in {unit}, where this process is now")),
        }
    }

    /// Whether cgroup v2 has the memory controller here.
    pub(crate) fn is_delegated_v2(&self) -> bool {
        self.unified.as_deref().is_some_and(|home| has_memory(&subtree(home)))
    }

    /// Whether there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.unified.is_none() && self.v1.is_empty()
    }

    fn find() -> Home {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let own = hierarchy::own(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let unified = own.unified.and_then(|(point, directory)| find_unified(&point, &directory));
        // Processor time is counted in every directory of cgroup v2.
        let helps = |controller| unified.is_none() || controller != Controller::Cpuacct;
        let v1 = own.v1.into_iter().filter(|(controller, of)| helps(*controller) && offers_directories(of));
        let v1 = v1.collect();
        let home = Home { unified, v1 };
        home.remove_leftovers();
        home
    }

    /// Removes what processes left that were killed before they could: empty groups whose maker is gone.
    fn remove_leftovers(&self) {
        let directories = self.unified.iter().chain(self.v1.iter().map(|(_, directory)| directory));
        for entry in directories.filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten() {
            let name = entry.file_name();
            let maker =
                name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse().ok());
            let gone = maker.is_some_and(|pid: i32| !Path::new(&format!("/proc/{pid}")).exists());
            if gone {
                super::remove(&entry.path());
            }
        }
    }
}

/// The nearest directory from the caller's own upwards in which groups get controllers, else the nearest in
/// which groups can be made at all. Moving a process into a group takes the right to write to the common
/// ancestor's `cgroup.procs`, which that directory is.
fn find_unified(point: &Path, own: &Path) -> Option<PathBuf> {
    let candidates = own.ancestors().take_while(|directory| directory.starts_with(point));
    let usable: Vec<&Path> = candidates.filter(|directory| offers_directories(directory)).collect();
    for &directory in &usable {
        // Refused where processes are in it, unless it is the root: then it is as it is.
        if !has_memory(&subtree(directory)) {
            v2::delegate(directory);
        }
        if has_memory(&subtree(directory)) {
            return Some(directory.to_owned());
        }
    }
    usable.first().map(|&directory| directory.to_owned())
}

fn has_memory(controllers: &str) -> bool {
    controllers.split_whitespace().any(|controller| controller == "memory")
}

fn subtree(directory: &Path) -> String {
    fs::read_to_string(directory.join("cgroup.subtree_control")).unwrap_or_default()
}

/// Found out by doing it: permissions do not tell of read-only mounts and depth limits.
fn offers_directories(directory: &Path) -> bool {
    let trial = directory.join(format!("{PREFIX}{}.trial", std::process::id()));
    if fs::create_dir(&trial).is_err() {
        return false;
    }
    let writable = rustix::fs::access(directory.join("cgroup.procs"), Access::WRITE_OK).is_ok();
    super::remove(&trial);
    writable
}
