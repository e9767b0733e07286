//! How the daemon starts: a straight line of steps, each with its own error.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use branch_proto::server::bind;
use branch_store::{Children, Store, Unrecovered};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::control::FromView;
use super::error::Error;
use super::events::Events;
use super::groups::Groups;
use super::maintenance::{Mailbox, Maintenance};
use super::running::{Running, Threads, remove_if_there};
use super::state::Daemon;
use super::stop::{Signals, Stop};
use super::survivors::{Estate, Survivors};
use super::under_way::UnderWay;
use super::{Options, SOCKET_NAME};
use crate::fuse::{self, Access, DeadMount, MountOptions};
use crate::vfs::Vfs;

/// The steps, in order. The lock of the store is held from its opening on: what other daemons left is ours
/// to clear away. Listening comes last, so that whoever can connect is served.
pub(super) fn start(options: &Options) -> Result<(Running, UnixListener), Error> {
    raise_open_files();
    let signals = Signals::catch().map_err(Error::Signals)?;
    check_owner(&options.store)?;
    let unrecovered = open(options)?;
    // Before recovery: it takes in what they wrote to native views.
    let left = Survivors::new(&options.store).and_then(|left| left.kill()).map_err(Error::Survivors)?;
    let (store, report) = unrecovered.recover()?;
    let (daemon, mailbox) = assemble(Arc::new(store), report.lines, options)?;
    end_survivors(&daemon, left)?;
    clear_dead_mount(&options.mountpoint)?;
    make_mountpoint(&options.mountpoint)?;
    mount(&daemon, options)?;
    let threads = Threads::start(&daemon, mailbox).or_else(|error| daemon.unmount().and(Err(error)))?;
    let socket = options.store.join(SOCKET_NAME);
    let running = Running { daemon, signals, socket, threads };
    match listen(&running.socket) {
        Ok(listener) => Ok((running, listener)),
        Err(error) => running.take_down(None).and(Err(error)),
    }
}

/// The hard limit is the administrator's word; the soft one is for programs that use select(2).
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(errno) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%errno, "cannot raise the limit of open files");
    }
}

/// Whether the store is ours to serve: root could open any, and would lock the owner out with the first file it made.
///
/// # Errors
/// `NotOurs`.
pub(crate) fn check_owner(store: &Path) -> Result<(), Error> {
    // What is not there is told by who opens it.
    let Ok(found) = fs::metadata(store) else { return Ok(()) };
    let owner = found.uid();
    let user = rustix::process::geteuid().as_raw();
    if owner == user { Ok(()) } else { Err(Error::NotOurs { store: store.to_owned(), owner, user }) }
}

fn open(options: &Options) -> Result<Unrecovered, Error> {
    let paths = branch_store::Options { base: options.base.clone(), store: options.store.clone() };
    Ok(Unrecovered::open(paths)?)
}

fn assemble(
    store: Arc<Store>,
    recovery: Vec<String>,
    options: &Options,
) -> Result<(Arc<Daemon>, Mailbox), Error> {
    let (maintenance, mailbox) = Maintenance::new();
    let daemon = Daemon {
        mountpoint: options.mountpoint.clone(),
        mount: OnceLock::new(),
        groups: Groups::new(store.dir()).map_err(Error::SetUp)?,
        events: Events::default(),
        under_way: UnderWay::default(),
        maintenance,
        stop: Stop::new().map_err(Error::SetUp)?,
        owner: fs::metadata(store.dir()).map_err(Error::SetUp)?.uid(),
        recovery,
        store,
    };
    Ok((Arc::new(daemon), mailbox))
}

/// What ran in branches when an earlier daemon was killed runs in dead views: it is ended, and with it the branches that
/// were to end with it.
fn end_survivors(daemon: &Daemon, left: Estate) -> Result<(), Error> {
    let Estate { killed, branches } = left;
    if killed > 0 {
        tracing::warn!(killed, "ended processes an earlier daemon had left behind");
    }
    // One may be gone already: with its parent, or by its own end before the list was written anew.
    for branch in branches.into_iter().filter_map(|id| daemon.store.branch_by_id(id)) {
        tracing::warn!(
            branch = branch.name(),
            "aborting a branch whose processes have ended with an earlier daemon"
        );
        if let Err(error) = daemon.store.abort(&branch, Children::Cascade) {
            tracing::warn!(branch = branch.name(), %error, "it is still there");
        }
    }
    daemon.groups.survivors_settled().map_err(Error::Survivors)
}

fn clear_dead_mount(mountpoint: &Path) -> Result<(), Error> {
    let at = || mountpoint.to_owned();
    match fuse::clear_dead_mount(mountpoint) {
        Ok(DeadMount::NotMounted) => Ok(()),
        Ok(DeadMount::Cleared) => {
            tracing::warn!(mountpoint = %mountpoint.display(), "removed the mount of a killed daemon");
            Ok(())
        }
        Ok(DeadMount::Alive) => Err(Error::MountpointInUse { mountpoint: at() }),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::DeadMount { mountpoint: at(), source }),
    }
}

fn make_mountpoint(mountpoint: &Path) -> Result<(), Error> {
    fs::create_dir_all(mountpoint)
        .map_err(|source| Error::Mountpoint { mountpoint: mountpoint.to_owned(), source })
}

fn mount(daemon: &Arc<Daemon>, options: &Options) -> Result<(), Error> {
    let control = Box::new(FromView::new(Arc::downgrade(daemon)));
    let vfs = Arc::new(
        Vfs::new(daemon.store.clone(), control).watching(options.watch).prefetching(options.prefetch),
    );
    let mountpoint = &options.mountpoint;
    let mount = MountOptions { access: Access::permitted(), data: options.data };
    let mounted = vfs
        .reap_in_background()
        .and_then(|()| fuse::mount(vfs, mountpoint, &mount))
        .map_err(|source| Error::Mount { mountpoint: mountpoint.clone(), source })?;
    daemon.mount.get_or_init(|| mounted);
    Ok(())
}

/// A socket file that is there is a killed daemon's: we hold the store's lock.
fn listen(socket: &Path) -> Result<UnixListener, Error> {
    let failed = |source| Error::Bind { socket: socket.to_owned(), source };
    remove_if_there(socket).map_err(failed)?;
    bind(socket).map_err(failed)
}
