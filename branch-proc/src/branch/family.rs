//! The parent's side: forks the messengers, hears what became of the inits, and opens the gate for all children or
//! for none.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::child::{self, Birth};
use super::{BranchError, Child, Descriptors, Isolation, Myself, Request, Worlds, refused};
use crate::confine::{Confinement, Namespaces, SharedMemory};
use crate::error::{SpawnError, Step};
use crate::net::inside::Namespace;
use crate::plan::{bare_confinement, id_maps, shared_memory};
use crate::sys::{self, Side};
use crate::wire::{Fail, REPORT_BYTES, Report};

/// All children of one call, before they go on.
pub(super) struct Family {
    request: Request,
    namespaces: Namespaces,
    base: Option<CString>,
    cwd: Option<CString>,
    keeps: Vec<RawFd>,
    /// None in a messenger.
    ends: Option<Ends>,
    sprouts: Vec<Sprout>,
}

/// The parent's descriptors.
struct Ends {
    /// One byte for each child; its end of file means that none of them goes on.
    gate: OwnedFd,
    opener: OwnedFd,
    /// A pidfd of this process.
    spawner: OwnedFd,
    views: Option<OwnedFd>,
}

/// A child that is being made.
struct Sprout {
    messenger: i32,
    /// Known when the messenger has told it.
    init: Option<i32>,
    errors: OwnedFd,
    heard: Heard,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    NotYet,
    ItsEnd,
}

impl Family {
    pub(super) fn new(request: Request, worlds: Option<&dyn Worlds>) -> Result<Family, BranchError> {
        let failed = |e: Errno| BranchError::spawn(Step::Prepare, e.raw_os_error());
        let (gate, opener) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let spawner = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).map_err(failed)?;
        let namespaces = match (request.isolation, worlds) {
            (Isolation::Full, _) => Namespaces::Own,
            (Isolation::None, Some(_)) => Namespaces::Mounts,
            (Isolation::None, None) => Namespaces::Callers,
        };
        let mut ends = Ends { gate, opener, spawner, views: None };
        let (base, cwd, keeps, sprouts) = (None, None, Vec::new(), Vec::new());
        let mut family = Family { request, namespaces, base, cwd, keeps, ends: None, sprouts };
        if let Some(worlds) = worlds {
            ends.views = Some(worlds.views().map_err(|source| refused("open the views", source))?);
            family.base = Some(c_string(worlds.base())?);
            family.keeps = worlds.keeps();
            // By its path: an inherited directory would still be the one below the view.
            let here = std::env::current_dir().map_err(|source| refused("name this directory", source))?;
            family.cwd = Some(c_string(&here)?);
        }
        family.ends = Some(ends);
        Ok(family)
    }

    /// Forks all of them; returns in the caller with None, and in each child that may go on.
    ///
    /// # Safety
    /// As [`super::create`].
    pub(super) unsafe fn make(&mut self, names: &[String]) -> Result<Option<Myself>, SpawnError> {
        for number in 1..=self.request.count {
            let name = names.get(number as usize - 1);
            // SAFETY: passed on to the caller.
            if let Some(myself) = unsafe { self.sprout(number, name.cloned()) }? {
                return Ok(Some(myself));
            }
        }
        for sprout in &mut self.sprouts {
            sprout.listen()?;
        }
        Ok(None)
    }

    /// # Safety
    /// As [`super::create`].
    unsafe fn sprout(&mut self, number: u32, name: Option<String>) -> Result<Option<Myself>, SpawnError> {
        let failed = |step, e: Errno| SpawnError::new(step, e.raw_os_error(), "a child");
        let prepared = |e| failed(Step::Prepare, e);
        let (errors, errors_end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(prepared)?;
        let Some(ends) = &self.ends else { return Err(prepared(Errno::BADF)) };
        let copy = |fd: &OwnedFd| fd.try_clone().map_err(|_| prepared(Errno::MFILE));
        let birth = Birth {
            number,
            confinement: self.confinement(name.as_deref())?,
            name,
            errors: errors_end,
            gate: copy(&ends.gate)?,
            spawner: copy(&ends.spawner)?,
            views: ends.views.as_ref().map(copy).transpose()?,
            keeps: match self.request.descriptors {
                Descriptors::Inherited => None,
                Descriptors::Closed => Some(self.keeps.clone()),
            },
        };
        // SAFETY: the C library makes itself ready in the messenger; of other libraries the caller has promised it.
        match unsafe { sys::fork_with_libc() }.map_err(|e| failed(Step::Fork, e))? {
            Side::Parent(messenger) => {
                self.sprouts.push(Sprout { messenger, init: None, errors, heard: Heard::NotYet });
                Ok(None)
            }
            Side::Child => {
                // The parent's: with a copy of the opener left, the gate would have no end of file.
                self.sprouts.clear();
                self.ends = None;
                drop(errors);
                // SAFETY: this is a fresh fork, with one thread.
                Ok(Some(unsafe { child::live(birth) }))
            }
        }
    }

    fn confinement(&self, name: Option<&str>) -> Result<Confinement, SpawnError> {
        let mut binds = Vec::new();
        if let (Some(name), Some(base)) = (name, &self.base) {
            // Looked up in the directory of the views.
            binds.push((c_string(Path::new(name))?, base.clone()));
        }
        let maps = match self.namespaces {
            Namespaces::Own | Namespaces::Mounts => id_maps(),
            Namespaces::Callers => None,
        };
        let namespaces = self.namespaces;
        let cwd = self.cwd.clone();
        let shared_memory = match namespaces {
            Namespaces::Own => shared_memory(&binds, cwd.as_deref(), OsStr::new("")),
            Namespaces::Mounts | Namespaces::Callers => SharedMemory::Callers,
        };
        let rest = bare_confinement(maps, Namespace::Callers);
        Ok(Confinement { namespaces, binds, shared_memory, cwd, ..rest })
    }

    /// Tells the branches' keeper of all groups and lets all children go on.
    pub(super) fn release(
        &mut self,
        names: &[String],
        worlds: Option<&mut (dyn Worlds + '_)>,
    ) -> Result<Vec<Child>, BranchError> {
        let failed = |e: Errno| BranchError::spawn(Step::Clone, e.raw_os_error());
        let inits: Vec<i32> = self.sprouts.iter().filter_map(|sprout| sprout.init).collect();
        if let Some(worlds) = worlds {
            for (init, name) in inits.iter().zip(names) {
                let pid = Pid::from_raw(*init).ok_or_else(|| failed(Errno::SRCH))?;
                let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
                worlds
                    .attach(name, *init, pidfd.as_fd())
                    .map_err(|source| refused("attach a group to its branch", source))?;
            }
        }
        let go = vec![0; inits.len()];
        // At most 64 bytes into an empty pipe: all or nothing.
        let ends = self.ends.as_ref().ok_or_else(|| failed(Errno::BADF))?;
        rustix::io::retry_on_intr(|| rustix::io::write(&ends.opener, &go)).map_err(failed)?;
        let names = names.iter().cloned().map(Some).chain(std::iter::repeat(None));
        Ok(inits.into_iter().zip(names).map(|(pid, name)| Child { pid, name }).collect())
    }

    /// Ends what has been made and waits until nothing of it is left.
    pub(super) fn end(mut self) {
        // Whoever waits at the gate sees its end.
        self.ends = None;
        let signal = match self.namespaces {
            Namespaces::Own => libc::SIGKILL,
            // It has to end the child first.
            Namespaces::Mounts | Namespaces::Callers => sys::SIGNAL_END,
        };
        for sprout in &mut self.sprouts {
            // What it fails with is not the first failure.
            drop(sprout.listen());
            if let Some(init) = sprout.init {
                // One that has ended by itself is reaped all the same.
                sys::signal_process(init, signal);
            }
        }
        for init in self.sprouts.iter().filter_map(|sprout| sprout.init) {
            sys::reap(init);
        }
    }
}

impl Sprout {
    /// Until the child waits at the gate, or will not come.
    fn listen(&mut self) -> Result<(), SpawnError> {
        if self.heard == Heard::ItsEnd {
            return Ok(());
        }
        self.heard = Heard::ItsEnd;
        let outcome = self.read_reports();
        sys::reap(self.messenger);
        outcome.map_err(|fail| SpawnError::new(fail.step, fail.errno, "a child"))
    }

    /// The messenger's report of the init and the init's own come in any order. After a failure there is an end.
    fn read_reports(&mut self) -> Result<(), Fail> {
        let (mut bytes, mut ready, mut failed) = ([0; REPORT_BYTES], false, None);
        while !(ready && self.init.is_some()) {
            match rustix::io::read(&self.errors, &mut bytes) {
                Ok(REPORT_BYTES) => match Report::decode(bytes) {
                    Some(Report::Init(pid)) => self.init = Some(pid),
                    Some(Report::ProcInherited) => {}
                    Some(Report::Ready) => ready = true,
                    Some(Report::Failed(fail)) => failed = failed.or(Some(fail)),
                    None => failed = failed.or(Some(Fail::new(Step::Clone, Errno::PROTO))),
                },
                // Without a word: somebody has killed it.
                Ok(_) => return Err(failed.unwrap_or(Fail::new(Step::Clone, Errno::CHILD))),
                Err(Errno::INTR) => {}
                Err(e) => return Err(Fail::new(Step::Clone, e)),
            }
        }
        Ok(())
    }
}

fn c_string(path: &Path) -> Result<CString, SpawnError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| SpawnError::new(Step::Prepare, libc::EINVAL, path.display().to_string()))
}
