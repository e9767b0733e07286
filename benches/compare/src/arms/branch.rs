//! Branches through FUSE: each view is a fresh branch at the end of a chain, every link of which has changed some of
//! the base's files.

use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use branch_proto::{Children, Client, GroupKind};

use crate::arms::{Arm, Purpose, View};
use crate::error::{Failed, Result, While, succeed};
use crate::site::Site;
use crate::trees;

/// The daemon of the workspace, one for the branches of all depths.
#[derive(Clone)]
pub(crate) struct Daemon(Rc<Inner>);

struct Inner {
    /// Goes after the daemon has stopped.
    _site: Rc<Site>,
    program: PathBuf,
    base: PathBuf,
    store: PathBuf,
    client: RefCell<Client>,
}

impl Daemon {
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
        Ok(Daemon(Rc::new(Inner { _site: site.clone(), program, base, store, client })))
    }

    /// Bytes that it has in memory now.
    pub(crate) fn resident(&self) -> Result<u64> {
        let path = PathBuf::from(format!("/proc/{}/status", self.0.client.borrow().welcome().pid));
        let status = fs::read_to_string(&path).on("reading", &path)?;
        let kilobytes =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let kilobytes: Option<u64> = kilobytes.and_then(|number| number.parse().ok());
        kilobytes
            .map(|number| number << 10)
            .ok_or_else(|| Failed::Other("a daemon without memory".to_owned()))
    }

    fn fork(&self, name: &str, parent: &str) -> Result<PathBuf> {
        self.0.client.borrow_mut().create(&[name.to_owned()], parent, GroupKind::Independent)?;
        Ok(self.0.store.join("mnt").join(name))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Also after a failure: nothing may stay mounted.
        if let Err(failed) = succeed(Command::new(&self.program).arg("-C").arg(&self.base).arg("stop")) {
            eprintln!("compare: the daemon does not stop: {failed}");
        }
    }
}

pub(crate) struct Branches {
    daemon: Daemon,
    depth: usize,
    /// What the views are forked off.
    parent: String,
    opened: usize,
}

impl Branches {
    /// Of one depth; the daemon is started by the first.
    pub(crate) fn new(
        site: &Rc<Site>,
        program: Option<&Path>,
        depth: usize,
        daemon: &mut Option<Daemon>,
    ) -> Result<Branches> {
        let daemon = match daemon {
            Some(daemon) => daemon.clone(),
            None => daemon.insert(Daemon::start(site, program)?).clone(),
        };
        let mut parent = "main".to_owned();
        for level in 1..depth {
            let name = format!("level-{level}-of-{depth}");
            let top = daemon.fork(&name, &parent)?;
            change(&top, level)?;
            parent = name;
        }
        Ok(Branches { daemon, depth, parent, opened: 0 })
    }
}

/// Gives a link of the chain some files of its own, with the bytes that they had.
fn change(top: &Path, level: usize) -> Result<()> {
    for path in trees::changed_at(top, level) {
        let file = OpenOptions::new().read(true).write(true).open(&path).on("opening", &path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, 0).on("reading", &path)?;
        file.write_all_at(&byte, 0).on("writing", &path)?;
    }
    Ok(())
}

impl Arm for Branches {
    fn open(&mut self, purpose: Purpose) -> Result<View> {
        self.opened += 1;
        let name = format!("d{}-v{}", self.depth, self.opened);
        let top = self.daemon.fork(&name, &self.parent)?;
        Ok(View { name, top, purpose })
    }

    fn close(&mut self, view: View) -> Result<()> {
        if view.purpose.changes.goes_at_once() {
            self.daemon.0.client.borrow_mut().abort(&view.name, Children::Refuse)?;
        }
        Ok(())
    }

    fn commit(&mut self, view: View, _: &Path) -> Result<()> {
        self.daemon.0.client.borrow_mut().commit(&view.name)?;
        Ok(())
    }
}
