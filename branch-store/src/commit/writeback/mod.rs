//! Carrying out a decided plan. Every step recognises its own result, so recovery simply runs the whole
//! plan again.

mod reach;

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::base::stat_at;
use crate::branch::Shared;
use crate::commit::apply_meta::set_meta;
use crate::commit::kept;
use crate::commit::lend;
use crate::commit::stage::rewrite;
use crate::crew;
use crate::disk::open_dir_readable;
use crate::error::{Error, Result};
use crate::ids::{CommitId, Name, NodeId};
use crate::journal::record::{Decide, DirPlace, Moved};
use crate::node::{DisplacedTo, HostKey, Kind, Meta, Slot};
use crate::plan::{Park, Plan, RelPath, Step};
use crate::progress::{PROGRESS_EVERY, Phase, Watch, tell};

/// More touched directories than this are made durable by one syncfs.
const FSYNC_MAX: usize = 64;

/// What a write-back did.
pub(crate) struct Written {
    pub(crate) moved: Moved,
    pub(crate) warnings: Vec<String>,
}

/// A name in an open directory of the base: descriptor, id, name.
type InDir<'p> = (Arc<OwnedFd>, NodeId, &'p [u8]);

struct Writer<'a> {
    shared: &'a Shared,
    plan: &'a Plan,
    commit: CommitId,
    /// The preimage directories that the plan speaks of, the commit's own among them.
    parks: HashMap<CommitId, (Arc<OwnedFd>, NodeId)>,
    dirs: HashMap<RelPath, (Arc<OwnedFd>, NodeId)>,
    touched: Vec<(Option<HostKey>, Arc<OwnedFd>)>,
    many: bool,
    out: Written,
}

/// Every step is carried out: the base is as decided, but not durably yet.
#[must_use = "the base is not durable yet"]
pub(crate) struct CarriedOut<'a>(Writer<'a>);

impl CarriedOut<'_> {
    /// Makes the base durable.
    ///
    /// # Errors
    /// As [`run`].
    pub(crate) fn make_durable(mut self) -> Result<Written> {
        self.0.sync()?;
        Ok(self.0.out)
    }
}

/// Runs every step.
///
/// # Errors
/// The host's. The decision stands: the caller poisons the store, and the next recovery goes on.
pub(crate) fn run<'a>(
    shared: &'a Shared,
    decided: &'a Arc<Decide>,
    watch: &dyn Watch,
) -> Result<CarriedOut<'a>> {
    let (commit, plan) = (decided.commit, &decided.plan);
    let out = Written { moved: Moved::default(), warnings: Vec::new() };
    let mut writer = Writer {
        shared,
        plan,
        commit,
        parks: reach::open_parks(shared, (commit, decided.park.0), plan)?,
        dirs: HashMap::new(),
        touched: Vec::new(),
        many: false,
        out,
    };
    // No step speaks of the name of what is kept, and only who undoes the commit reads it, once that is done: it may
    // as well be written before the steps, or while they are carried out.
    let park = writer.own_park()?.clone();
    let keep = || kept::write(shared, &park, decided);
    let ((), decision) = crew::meanwhile(plan.steps.len(), keep, || writer.steps(watch))?;
    for (key, slot) in &plan.along {
        writer.note(*key, None, slot.clone(), None)?;
    }
    for (key, slot) in &plan.back {
        writer.note(*key, None, slot.clone(), Some(slot.clone()))?;
    }
    writer.touch(Arc::new(decision.into()));
    tell(watch, Phase::Finishing, 0, 0);
    Ok(CarriedOut(writer))
}

fn moves_dir(step: &Step) -> bool {
    match step {
        Step::Detach { dir, .. } | Step::Attach { dir, .. } => dir.is_some(),
        Step::Exchange { new_dir, old_dir, .. } => new_dir.is_some() || old_dir.is_some(),
        Step::AddLink { .. } | Step::Rewrite { .. } | Step::SetMeta { .. } => false,
    }
}

impl Writer<'_> {
    fn steps(&mut self, watch: &dyn Watch) -> Result<()> {
        let plan = self.plan;
        let steps = plan.steps.len() as u64;
        for (done, step) in (0..).zip(&plan.steps) {
            if done % PROGRESS_EVERY == 0 {
                tell(watch, Phase::WritingBack, done, steps);
            }
            self.step(step)?;
            if moves_dir(step) {
                // Paths lead elsewhere from here on.
                self.dirs.clear();
            }
        }
        tell(watch, Phase::WritingBack, steps, steps);
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Detach { path, from, park, object, dir } => self.detach(path, *from, *park, *object, *dir),
            Step::Attach { park, path, object, dir } => self.attach(*park, path, *object, *dir),
            Step::Exchange { park, path, new, old, new_dir, old_dir } => {
                self.exchange(*park, path, (*new, *new_dir), (*old, *old_dir))
            }
            Step::AddLink { existing, path, .. } => self.add_link(existing, path),
            Step::Rewrite { park, path, object, meta } => self.rewrite(*park, path, *object, meta),
            Step::SetMeta { path, object, meta } => self.set_meta(path, *object, meta),
        }
    }

    fn detach(
        &mut self,
        path: &[u8],
        from: HostKey,
        park: Park,
        object: HostKey,
        dir: Option<NodeId>,
    ) -> Result<()> {
        if self.parked(park)? != Some(object) {
            // Not at its old place and not parked: a later step of this plan has attached it already.
            let Some((parent, name)) = self.leaves_from(path, from)? else { return Ok(()) };
            if self.key_at(&parent, name)? != Some(object) {
                return Ok(());
            }
            let to = (self.park_of(park)?, &park.name()[..]);
            self.rename((&parent, name), to, RenameFlags::NOREPLACE, path)?;
            self.touch(parent);
        }
        self.note(object, dir, self.slot(park)?, None)
    }

    fn attach(&mut self, park: Park, path: &[u8], object: HostKey, dir: Option<NodeId>) -> Result<()> {
        let Some((parent, parent_id, name)) = self.parent(path)? else {
            self.warn_homeless(path, park);
            return Ok(());
        };
        match self.key_at(&parent, name)? {
            Some(found) if found == object => {}
            _ if self.parked(park)?.is_none() => {
                self.warn(path, "was removed or replaced from outside during the commit");
                return Ok(());
            }
            found => {
                // Somebody put something here after the plan was checked: it is kept, not lost.
                let flags = if found.is_some() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
                if found.is_some() {
                    self.warn_kept(path, park);
                }
                self.rename((self.park_of(park)?, &park.name()), (&parent, name), flags, path)?;
                self.touch(parent);
            }
        }
        let left = Some(self.slot(park)?);
        self.note(object, dir, Slot { dir: parent_id, name: Name::trusted(name) }, left)
    }

    fn exchange(
        &mut self,
        park: Park,
        path: &[u8],
        (new, new_dir): (HostKey, Option<NodeId>),
        (old, old_dir): (HostKey, Option<NodeId>),
    ) -> Result<()> {
        let Some(((parent, parent_id, name), found)) = self.meets_at(path, [new, old])? else {
            self.warn_homeless(path, park);
            return Ok(());
        };
        if found != Some(new) {
            if found.is_some_and(|found| found != old) {
                self.warn_kept(path, park);
            }
            match found {
                Some(_) => self.swap(park, &parent, name, path)?,
                None => {
                    let from = (self.park_of(park)?, &park.name()[..]);
                    self.rename(from, (&parent, name), RenameFlags::NOREPLACE, path)?
                }
            }
            self.touch(parent);
        }
        let parked = self.slot(park)?;
        if park.commit != self.commit {
            let home = Slot { dir: parent_id, name: Name::trusted(name) };
            self.note(new, new_dir, home, Some(parked.clone()))?;
        }
        self.note(old, old_dir, parked, None)
    }

    fn add_link(&mut self, existing: &[u8], path: &[u8]) -> Result<()> {
        let Some((from, _, from_name)) = self.parent(existing)? else {
            self.warn(path, "was not linked: its other name has gone since");
            return Ok(());
        };
        let Some((parent, _, name)) = self.parent(path)? else {
            self.warn(path, "was not linked: its directory has gone since");
            return Ok(());
        };
        let Some(wanted) = self.key_at(&from, from_name)? else {
            self.warn(path, "was not linked: its other name has gone since");
            return Ok(());
        };
        if self.key_at(&parent, name)? == Some(wanted) {
            return Ok(());
        }
        if self.key_at(&parent, name)?.is_some() {
            let kept = format!("intruder.{}", self.out.warnings.len());
            let to = (&**self.own_park()?, kept.as_bytes());
            self.rename((&parent, name), to, RenameFlags::NOREPLACE, path)?;
            self.warn(
                path,
                &format!("was edited during the commit; the edited version is kept as preimage {kept}"),
            );
        }
        match self.link_lending((&from, from_name), (&parent, name)) {
            Ok(()) => self.touch(parent),
            // Trying again would never help.
            Err(Errno::MLINK) => self.warn(path, "was not linked: the host allows one file no more names"),
            Err(e) => return Err(Error::host("link", path, e)),
        }
        Ok(())
    }

    /// Under a name that a later step may have taken away: not finding the object there means that this step
    /// was carried out before a crash, or that somebody replaced it, and then it is not ours to write to.
    fn rewrite(&mut self, park: Option<Park>, path: &[u8], object: HostKey, meta: &Meta) -> Result<()> {
        let Some((parent, _, name)) = self.parent(path)? else { return Ok(()) };
        let now = stat_at(&*parent, name).ok().and_then(|st| self.shared.base.home.print(&st));
        let Some(kind) = now.filter(|now| now.key() == object).map(|now| now.kind) else { return Ok(()) };
        let mut written = None;
        if let Some(park) = park {
            let failed = |e| Error::host("open", path, e);
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let staged = rustix::fs::openat(self.park_of(park)?, &park.name()[..], flags, Mode::empty());
            let from = File::from(staged.map_err(failed)?);
            let to = lend::open_for_writing(&self.shared.disk, &*parent, name).map_err(failed)?;
            rewrite(&self.shared.disk, &from, &to)?;
            written = Some(to);
        }
        let found = stat_at(&*parent, name)?;
        let refused = set_meta(&self.shared.disk, (&*parent, name), &found, kind, meta)?;
        self.out.warnings.extend(refused.iter().map(|refused| refused.of(path)));
        if let Some(file) = written {
            // Bytes and attributes, before a later step may take the name away for good.
            self.shared.disk.fsync(&file).map_err(|e| Error::host("fsync", path, e))?;
        }
        self.touch_object(&parent, name, kind);
        Ok(())
    }

    fn set_meta(&mut self, path: &[u8], object: Option<HostKey>, meta: &Meta) -> Result<()> {
        let (parent, _, name) = if path.is_empty() {
            (self.shared.base.places.open(NodeId::ROOT)?, NodeId::ROOT, &b"."[..])
        } else {
            match self.parent(path)? {
                Some(found) => found,
                None => {
                    self.warn(path, "has gone since; its attributes could not be set");
                    return Ok(());
                }
            }
        };
        let found = stat_at(&*parent, name).ok();
        let Some((found, print)) = found.and_then(|st| Some((st, self.shared.base.home.print(&st)?))) else {
            self.warn(path, "has gone since; its attributes could not be set");
            return Ok(());
        };
        if object.is_some_and(|object| object != print.key()) {
            self.warn(path, "was replaced from outside; its attributes were left alone");
            return Ok(());
        }
        let refused = set_meta(&self.shared.disk, (&*parent, name), &found, print.kind, meta)?;
        let shown = if path.is_empty() { b"." } else { path };
        self.out.warnings.extend(refused.iter().map(|refused| refused.of(shown)));
        if self.many {
            // Reaches the disk with everything else.
        } else if print.kind == Kind::Dir
            && let Ok(dir) = open_dir_readable(&*parent, name)
        {
            self.touch(Arc::new(dir));
        } else {
            self.touch_object(&parent, name, print.kind);
        }
        Ok(())
    }

    /// Remembers where a moved object is, for older snapshots and for the journal.
    fn note(&mut self, key: HostKey, dir: Option<NodeId>, slot: Slot, left: Option<Slot>) -> Result<()> {
        let places = &self.shared.base.places;
        let moved = DisplacedTo { key, to: slot.clone(), left };
        places.note_displaced(&moved);
        self.out.moved.objects.push(moved);
        if let Some(id) = dir {
            let parent = places.open(slot.dir)?;
            let print =
                stat_at(&*parent, slot.name.as_bytes()).ok().and_then(|st| self.shared.base.home.print(&st));
            let print = print.ok_or_else(|| Error::host("stat", slot.name.as_bytes(), Errno::NOENT))?;
            places.note_dir(id, &slot, print);
            self.out.moved.dirs.push(DirPlace { id, slot, object: print });
        }
        Ok(())
    }

    fn warn(&mut self, path: &[u8], what: &str) {
        self.out.warnings.push(format!("{} {what}", String::from_utf8_lossy(path)));
    }

    /// As if the directory had been removed right after the commit, with all in it; but nothing is lost.
    fn warn_homeless(&mut self, path: &[u8], park: Park) {
        let kept = format!(
            "has no directory any more: it was removed from outside during the commit; the committed version is kept as preimage {park}"
        );
        self.warn(path, &kept);
    }

    fn warn_kept(&mut self, path: &[u8], park: Park) {
        let kept = format!("was edited during the commit; the edited version is kept as preimage {park}");
        self.warn(path, &kept);
    }
}
