//! A view, served to the kernel: mounting, the requests, invalidation, unmounting.
//!
//! The only module that names `fuser`. It has no logic of its own: a request is decoded, one call is made into
//! [`crate::vfs`], and the result is sent.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use branch_store::{Branch, BranchId, Invalid, Invalidate, NodeId};
use fuser::{Config, Session, SessionACL};

use self::adapter::{Adapter, Kernel};
use self::attach::{Attachment, Detached};
use self::backing::Backing;
use self::ending::Ending;
use self::mapped::Mapped;
use crate::vfs::{CONTROL_NAME, Vfs, ino};
use crate::watch::{How, Listening};

mod adapter;
mod ahead;
mod attach;
mod backing;
mod convert;
mod data;
mod ending;
mod errno;
mod invalidator;
mod mapped;
mod orders;
mod outside;
mod replies;

pub use attach::{DeadMount, clear_dead_mount};
pub use data::Data;
pub use invalidator::{Invalidator, Pending};

/// Fewest workers: one commit's flush must never wait for the requests that are being handled.
const WORKERS_MIN: usize = 4;
/// How the names of the threads that answer requests begin.
pub const WORKER: &str = "fuser-";
/// For so long an unmount waits for the end of a listing that nobody asked for. It is answered at once, unless the host is slow; then it keeps
/// the mount in use.
const LISTING_MAX: Duration = Duration::from_secs(1);
const FUSE_CONF: &str = "/etc/fuse.conf";

/// Who may use the mount. Permissions of the files apply in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The user who mounts.
    Owner,
    /// Everybody: `allow_other`.
    All,
}

impl Access {
    /// The most this process may permit: `All` for root, or where `/etc/fuse.conf` has `user_allow_other`.
    pub fn permitted() -> Access {
        let root = rustix::process::geteuid().is_root();
        let conf = if root { None } else { std::fs::read_to_string(FUSE_CONF).ok() };
        if root || conf.is_some_and(|conf| allows_others(&conf)) { Access::All } else { Access::Owner }
    }
}

/// How to mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountOptions {
    /// Who may use the mount.
    pub access: Access,
    /// How file data are served.
    pub data: Data,
}

/// A mounted view. Dropping it unmounts, without waiting.
pub struct Mounted {
    vfs: Arc<Vfs>,
    attachment: Attachment,
    invalidator: Invalidator,
    options: MountOptions,
    backing: Option<Arc<Backing>>,
    workers: usize,
    ending: Arc<Ending>,
    _listening: Option<Listening>,
}

/// Mounts the view on an existing directory and serves it on threads of its own.
///
/// # Errors
/// The host's; what the mount helper says, where there is no permission to mount directly.
pub fn mount(vfs: Arc<Vfs>, mountpoint: &Path, options: &MountOptions) -> io::Result<Mounted> {
    let (device, attachment) = attach::attach(mountpoint, options.access)?;
    match serve(vfs, device, *options) {
        Ok(serving) => {
            attachment.read_ahead(adapter::REQUEST_MAX);
            let mounted = serving.on(attachment)?;
            close_once(mounted.mountpoint());
            Ok(mounted)
        }
        Err(error) => {
            attachment.detach()?;
            Err(error)
        }
    }
}

impl Mounted {
    /// Where it is mounted, resolved.
    pub fn mountpoint(&self) -> &Path {
        self.attachment.mountpoint()
    }

    /// How it is served, in words.
    pub fn mode(&self) -> String {
        let access = match self.options.access {
            Access::Owner => "its owner only",
            Access::All => "all users",
        };
        let told = self.vfs.told();
        let watch = match told.how() {
            How::Fanotify => format!("fanotify on {} directories", told.watched()),
            How::Inotify => format!("inotify on {} directories", told.watched()),
            How::Not => "nothing: asked for again every second".to_owned(),
        };
        let data = match &self.backing {
            Some(backing) => format!("{} ({backing})", self.data().name()),
            None => self.data().name().to_owned(),
        };
        format!("fuse, data {data}, {} workers, for {access}; the base is watched by {watch}", self.workers)
    }

    /// How file data are served.
    pub fn data(&self) -> Data {
        self.options.data
    }

    /// The mailbox for invalidations.
    pub fn notifier(&self) -> Invalidator {
        self.invalidator.clone()
    }

    /// Has the kernel write out dirty mapped pages of the branch, and waits until it has. Before fork and
    /// commit: what a process stored to a map belongs to them. What it unlinked and has closed does not.
    ///
    /// # Errors
    /// What the kernel answered for the first file it could not do.
    pub fn flush_branch(&self, branch: BranchId) -> io::Result<()> {
        self.vfs.finish_reaping();
        let dirty = match self.data() {
            Data::Opened | Data::Passthrough => self.vfs.writable_inodes(branch),
            Data::Cached => self.mapped(|ino| ino::is_of(ino, branch)),
        };
        let flushed = self.invalidator.flush(dirty).wait();
        self.vfs.let_go(branch);
        flushed
    }

    /// Inodes whose pages may be dirty, as far as they are wanted.
    fn mapped(&self, want: impl Fn(u64) -> bool) -> Vec<u64> {
        match mapped::shared(self.attachment.connection(), self.options.access) {
            Mapped::Only(found) => found.into_iter().filter(|ino| want(*ino)).collect(),
            Mapped::Unknown => self.vfs.take_served(want),
        }
    }

    /// Closes files that are open here and were not used for a while, so that what was cut off or reserved becomes free.
    pub fn let_idle_go(&self) {
        self.vfs.let_idle_go();
    }

    /// Closes files of the branch that are open here because they were used a short while ago.
    pub fn let_go(&self, branch: BranchId) {
        self.vfs.let_go(branch);
    }

    /// Has the kernel forget which branches there are. To be waited for by [`Mounted::settle`].
    pub fn forget_list(&self) {
        self.invalidator.lookups(ino::MOUNT_ROOT);
        self.invalidator.inode(ino::MOUNT_ROOT);
    }

    /// Has the kernel forget branches that ended. Everything not cached answers ESTALE already.
    pub fn forget_branches(&self, ended: &[Arc<Branch>]) {
        if !ended.is_empty() {
            self.forget_list();
        }
        for branch in ended {
            self.invalidator.entry(ino::MOUNT_ROOT, branch.name().as_bytes());
            // Asked for only when the entry is gone: most inodes go with it.
            let (vfs, id) = (Arc::clone(&self.vfs), branch.id());
            vfs.let_go(id);
            self.invalidator.inodes(move || vfs.known_objects(id));
        }
    }

    /// Has the kernel forget what a commit changed in the parent. Of a directory the listing, too: it is kept apart
    /// from the names, and a name that nobody has looked up would not tell.
    ///
    /// An answer that is under way is not believed for long, or the kernel has applied it before it is told to forget
    /// the inode: `crate::watch` says why both are needed.
    pub fn forget(&self, invalid: &[Invalid]) {
        self.vfs.told().doubt();
        let mut inodes = BTreeSet::new();
        for Invalid { branch, what } in invalid {
            match what {
                Invalidate::Entry { dir, name } => {
                    let dir = ino::of_node(*branch, *dir);
                    self.invalidator.entry(dir, name.as_bytes());
                    inodes.insert(dir);
                }
                Invalidate::Inode(node) => _ = inodes.insert(ino::of_node(*branch, *node)),
            }
        }
        let above: BTreeSet<u64> = inodes.iter().filter_map(|ino| self.vfs.above(*ino)).collect();
        above.into_iter().for_each(|dir| self.invalidator.lookups(dir));
        let seconds: Vec<u64> = inodes.iter().filter_map(|ino| self.vfs.second_of(*ino)).collect();
        inodes.into_iter().chain(seconds).for_each(|ino| self.invalidator.inode(ino));
    }

    /// An object lost its last name by a commit: it goes when the kernel has forgotten it.
    pub fn orphaned(&self, branch: &Branch, id: NodeId) {
        self.vfs.orphaned(branch, Some(id));
    }

    /// Whether the kernel may have an object of the branch cached or open.
    pub fn knows(&self, branch: BranchId, id: NodeId) -> bool {
        self.vfs.knows(branch, id)
    }

    /// A directory that had been removed is back. To the kernel, which lets nobody into one that it removed, it is
    /// another one from here on: whoever is still inside stays in the removed one.
    pub fn revived(&self, branch: &Branch, id: NodeId) {
        self.vfs.revived(branch, id);
    }

    /// Waits until the kernel has forgotten everything it was told to so far.
    ///
    /// # Errors
    /// The invalidation thread is gone.
    pub fn settle(&self) -> io::Result<()> {
        self.invalidator.barrier().wait()
    }

    /// Whether the session is still being served.
    pub fn is_mounted(&self) -> bool {
        self.ending.is_serving()
    }

    /// Unmounts, also under processes that are still inside, which get ENOTCONN; under an ordinary user's mount
    /// they may get it only when this process ends. Does nothing if it is unmounted already.
    ///
    /// # Errors
    /// The host's.
    pub fn unmount(&self) -> io::Result<()> {
        if let Some(ahead) = self.vfs.ahead() {
            ahead.end(LISTING_MAX);
        }
        self.write_out();
        match self.attachment.detach()? {
            Detached::Over => {}
            Detached::InUse => self.ending.abandon(),
        }
        Ok(())
    }

    /// Dirty mapped pages would be lost with the connection.
    fn write_out(&self) {
        if !self.is_mounted() {
            return;
        }
        let dirty = match self.data() {
            Data::Opened | Data::Passthrough => self.vfs.all_writable_inodes(),
            Data::Cached => self.mapped(|_| true),
        };
        if let Err(error) = self.invalidator.flush(dirty).wait() {
            tracing::warn!("writing out before unmounting: {error}");
        }
    }

    /// Waits until the mount is gone, whoever unmounted it, and the last request is answered; not for processes
    /// that [`Mounted::unmount`] could not turn out. Any number of callers may wait.
    ///
    /// # Errors
    /// What ended the session, if it was not the unmount; told to one caller.
    pub fn join(&self) -> io::Result<()> {
        self.ending.wait()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            tracing::warn!("unmounting {}: {error}", self.mountpoint().display());
        }
    }
}

impl fmt::Debug for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mounted").field("at", &self.mountpoint()).field("mode", &self.mode()).finish()
    }
}

/// A session under way, before it knows its place.
struct Serving {
    vfs: Arc<Vfs>,
    invalidator: Invalidator,
    options: MountOptions,
    backing: Option<Arc<Backing>>,
    workers: usize,
    ending: Arc<Ending>,
}

impl Serving {
    /// From now on the kernel hears of changes of the base. What it was told before, which is nothing but by who was
    /// faster than us, is in the queue.
    fn on(self, attachment: Attachment) -> io::Result<Mounted> {
        let Serving { vfs, invalidator, options, backing, workers, ending } = self;
        let _listening = match outside::listen(&vfs, &invalidator, attachment.mountpoint()) {
            Ok(listening) => listening,
            Err(error) => return attachment.detach().and(Err(error)),
        };
        if let Some(wanted) = vfs.ahead()
            && let Err(error) =
                ahead::start(Arc::clone(wanted), attachment.mountpoint(), attachment.connection())
        {
            return attachment.detach().and(Err(error));
        }
        Ok(Mounted { vfs, attachment, invalidator, options, backing, workers, ending, _listening })
    }
}

fn serve(vfs: Arc<Vfs>, device: OwnedFd, options: MountOptions) -> io::Result<Serving> {
    let workers = thread::available_parallelism().map_or(WORKERS_MIN, |cpus| cpus.get().max(WORKERS_MIN));
    let acl = match options.access {
        Access::Owner => SessionACL::Owner,
        Access::All => SessionACL::All,
    };
    let mut config = Config::default();
    config.acl = acl;
    config.n_threads = Some(workers);
    config.clone_fd = true;
    let kernel = Arc::new(OnceLock::new());
    let backing = (options.data == Data::Passthrough).then(|| Arc::new(Backing::new()));
    let adapter = Adapter::new(Arc::clone(&vfs), options.data, Arc::clone(&kernel), backing.clone());
    let session = Session::from_fd(adapter, device, acl, config)?;
    let invalidator = Invalidator::start(session.notifier())?;
    kernel.get_or_init(|| Kernel { direct: session.notifier(), invalidator: invalidator.clone() });
    let ending = Arc::new(Ending::new());
    let watcher = Arc::clone(&ending);
    let run = move || watcher.watch(|| unmounted(session.run()));
    thread::Builder::new().name("branchfs-mount".into()).spawn(run)?;
    Ok(Serving { vfs, invalidator, options, backing, workers, ending })
}

/// Has the kernel learn now, not at some later close, that closing a file needs no answer from us. A process that
/// serves itself would otherwise wait for its own answer for ever when it is killed with a file open.
fn close_once(mountpoint: &Path) {
    let file = mountpoint.join(branch_store::MAIN).join(OsStr::from_bytes(CONTROL_NAME));
    if let Err(error) = OpenOptions::new().write(true).open(&file) {
        tracing::debug!("opening {}: {error}", file.display());
    }
}

/// A worker that was about to take a request when the connection ended says so; that is how a session ends.
fn unmounted(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ECONNABORTED | libc::ENODEV)) => Ok(()),
        other => other,
    }
}

fn allows_others(conf: &str) -> bool {
    conf.lines().any(|line| line.trim() == "user_allow_other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bare_line_allows_others() {
        assert!(allows_others("# comment\nuser_allow_other\nmount_max = 5\n"));
        assert!(!allows_others("#user_allow_other\n"));
        assert!(!allows_others(""));
    }
}
