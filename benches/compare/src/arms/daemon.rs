//! The daemon that branches live in, however they are shown.

use std::cell::{Cell, RefCell, RefMut};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use branch_proto::{Children, Client, GroupKind};

use crate::arms::View;
use crate::error::{Failed, Result, While, succeed};
use crate::site::Site;

/// The daemon of the workspace, one for the branches of all depths, as one arm uses it.
#[derive(Clone)]
pub(crate) struct Daemon {
    inner: Rc<Inner>,
    /// How it is to serve file data for this arm; `None`: as it does by itself.
    data: Option<&'static str>,
}

/// The daemon, once somebody needed it, or why it does not start: it is tried once.
pub(crate) type Running = Option<std::result::Result<Daemon, String>>;

struct Inner {
    /// Goes after the daemon has stopped.
    _site: Rc<Site>,
    program: PathBuf,
    base: PathBuf,
    store: PathBuf,
    client: RefCell<Client>,
    /// How it serves file data now.
    data: Cell<Option<&'static str>>,
}

impl Daemon {
    /// The one that runs already, or else a new one over the site's base.
    pub(super) fn of(site: &Rc<Site>, program: Option<&Path>, running: &mut Running) -> Result<Daemon> {
        let start = || Daemon::start(site, program).map_err(|failed| failed.to_string());
        running.get_or_insert_with(start).clone().map_err(Failed::Other)
    }

    fn start(site: &Rc<Site>, program: Option<&Path>) -> Result<Daemon> {
        let program = match program {
            Some(program) => program.to_owned(),
            None => {
                std::env::current_exe().on("looking for", Path::new("branchfs"))?.with_file_name("branchfs")
            }
        };
        if !program.exists() {
            let hint = "build it, or name one with --branchfs";
            return Err(Failed::Other(format!("there is no {}: {hint}", program.display())));
        }
        let (base, store) = (site.base().to_owned(), site.path().join("store"));
        let run = |args: &[&str]| succeed(Command::new(&program).arg("-C").arg(&base).args(args));
        succeed(Command::new(&program).arg("-C").arg(&base).args(["init", "--store"]).arg(&store))?;
        run(&["mount"])?;
        let client = RefCell::new(Client::connect(&store.join("daemon.sock"))?);
        let inner = Inner { _site: site.clone(), program, base, store, client, data: Cell::new(None) };
        Ok(Daemon { inner: Rc::new(inner), data: None })
    }

    /// The same daemon, started anew with file data served so whenever this arm's turn comes.
    pub(super) fn serving(self, data: &'static str) -> Result<Daemon> {
        let daemon = Daemon { data: Some(data), ..self };
        daemon.serve()?;
        if daemon.client().status()?.data != data {
            return Err(Failed::Other(format!("this branchfs does not serve data {data}")));
        }
        Ok(daemon)
    }

    /// Has it serve file data as this arm wants it.
    fn serve(&self) -> Result<()> {
        let inner = &self.inner;
        if inner.data.get() == self.data {
            return Ok(());
        }
        inner.run(&["stop"])?;
        match self.data {
            None => inner.run(&["mount"])?,
            Some(data) => inner.run(&["mount", "--data", data])?,
        };
        *self.client() = Client::connect(&inner.store.join("daemon.sock"))?;
        inner.data.set(self.data);
        Ok(())
    }

    /// Bytes that it has in memory now.
    pub(crate) fn resident(&self) -> Result<u64> {
        let path = PathBuf::from(format!("/proc/{}/status", self.client().welcome().pid));
        let status = fs::read_to_string(&path).on("reading", &path)?;
        let kilobytes =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let kilobytes: Option<u64> = kilobytes.and_then(|number| number.parse().ok());
        kilobytes
            .map(|number| number << 10)
            .ok_or_else(|| Failed::Other("a daemon without memory".to_owned()))
    }

    /// The program that the daemon is.
    pub(super) fn program(&self) -> &Path {
        &self.inner.program
    }

    fn client(&self) -> RefMut<'_, Client> {
        self.inner.client.borrow_mut()
    }

    /// Forks a branch; where the mount shows it.
    pub(super) fn fork(&self, name: &str, parent: &str) -> Result<PathBuf> {
        self.serve()?;
        self.client().create(&[name.to_owned()], parent, GroupKind::Independent)?;
        Ok(self.inner.store.join("mnt").join(name))
    }

    /// Ends a view's branch, unless what it wrote is to stay until the end of all.
    pub(super) fn close(&self, view: &View) -> Result<()> {
        if view.purpose.changes.goes_at_once() {
            self.client().abort(&view.name, Children::Refuse)?;
        }
        Ok(())
    }

    /// Commits a view's branch.
    pub(super) fn commit(&self, view: &View) -> Result<()> {
        self.client().commit(&view.name)?;
        Ok(())
    }
}

impl Inner {
    fn run(&self, args: &[&str]) -> Result<String> {
        succeed(Command::new(&self.program).arg("-C").arg(&self.base).args(args))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Also after a failure: nothing may stay mounted.
        if let Err(failed) = self.run(&["stop"]) {
            eprintln!("compare: the daemon does not stop: {failed}");
        }
    }
}
