//! The product and the model, side by side.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path as HostPath, PathBuf};

use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use crate::answer::Answer;
use crate::call::{Call, Place};
use crate::compare::Numbers;
use crate::driver::Driver;
use crate::host;
use crate::model::{MAIN, Model};
use crate::when::{Time, When};

/// How much is compared after each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thoroughness {
    /// The branch touched; everything when branches come or go, and every so many steps.
    Every(u64),
    /// Everything.
    Always,
}

/// Where product and model part, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference(pub String);

/// A product and a model of it that go through the same calls.
pub struct World {
    driver: Option<Box<dyn Driver>>,
    model: Model,
    thoroughness: Thoroughness,
    steps: u64,
    base: PathBuf,
    _dir: TempDir,
}

/// Makes a driver for a base whose store was just made.
pub type MakeDriver<'a> = &'a dyn Fn(&HostPath) -> Box<dyn Driver>;

impl World {
    /// A fresh base of some kind, its store, a driver and a model of both.
    ///
    /// # Panics
    /// Where the host refuses.
    pub fn new(make: MakeDriver<'_>, variant: u64, thoroughness: Thoroughness) -> World {
        let dir =
            tempfile::Builder::new().prefix("branchfs-model-").tempdir_in(place()).expect("a directory");
        let base = dir.path().join("base");
        std::fs::create_dir(&base).expect("a base");
        host::furnish(&base, variant).expect("a furnished base");
        branch_store::init(&base, &base.join(branch_store::STORE_DIR)).expect("a store");
        let driver = make(&base);
        let picture = host::look(&base).expect("a picture of the base");
        let model = Model::new(driver.level(), host::probe(dir.path()).expect("a probe"), &picture);
        World { driver: Some(driver), model, thoroughness, steps: 0, base, _dir: dir }
    }

    /// The model as it is now.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// One call, on both; `None` if it speaks of what is not there.
    ///
    /// # Errors
    /// Where the two part. A panic of the product is a difference.
    pub fn step(&mut self, call: &Call) -> Result<Option<Answer>, Difference> {
        if !self.model.accepts(call) {
            return Ok(None);
        }
        self.steps += 1;
        match catch_unwind(AssertUnwindSafe(|| self.both(call))) {
            Ok(outcome) => outcome.map(Some).map_err(|what| Difference(format!("{call:?}: {what}"))),
            Err(cause) => {
                let text = cause.downcast_ref::<String>().cloned();
                let text = text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                Err(Difference(format!("{call:?}: panic: {}", text.unwrap_or_default())))
            }
        }
    }

    /// Compares everything there is.
    ///
    /// # Errors
    /// Where the two part.
    pub fn compare_all(&mut self) -> Result<(), Difference> {
        self.all().map_err(Difference)
    }

    fn driver(&mut self) -> &mut dyn Driver {
        &mut **self.driver.as_mut().expect("there until the end")
    }

    fn both(&mut self, call: &Call) -> Result<Answer, String> {
        let touched = self.touched(call);
        let parent = match call {
            Call::Commit { branch } => {
                self.model.branches[branch].parent.map(|parent| (parent, self.model.clone()))
            }
            Call::Undo | Call::Redo => Some((MAIN, self.model.clone())),
            _ => None,
        };
        let before = time(ClockId::RealtimeCoarse);
        let answer = self.driver().call(call);
        let now = When::Between(before, time(ClockId::Realtime));
        let wanted = self.model.step(call, &answer, now);
        wanted.map_err(|wanted| format!("answered {}, not {wanted}", answer.brief()))?;
        if let Some((parent, before)) = parent.filter(|_| matches!(answer, Answer::Done | Answer::Nothing)) {
            self.close_lost(parent, &before)?;
            if parent == MAIN {
                self.compare_base()?;
            }
        }
        let all = match self.thoroughness {
            Thoroughness::Always => true,
            Thoroughness::Every(n) => call.is_structural() || self.steps.is_multiple_of(n),
        };
        if all {
            self.all()?;
        } else if let Some(branch) = touched.filter(|branch| self.is_live(*branch)) {
            self.compare_branch(branch)?;
        }
        Ok(answer)
    }

    /// What a branch has open and a commit into it took away.
    fn close_lost(&mut self, parent: u32, before: &Model) -> Result<(), String> {
        for slot in self.model.lost_slots(parent, before) {
            let close = Call::Close { slot };
            let answer = self.driver().call(&close);
            self.model.step(&close, &answer, When::sometime())?;
        }
        Ok(())
    }

    fn touched(&self, call: &Call) -> Option<u32> {
        let of = |place: &Place| Some(self.model.branch_of(place));
        let at = |slot: &u8| self.model.slots.get(slot).map(|handle| handle.branch);
        match call {
            Call::Link { from: place, .. }
            | Call::Rename { from: place, .. }
            | Call::Make { place, .. }
            | Call::Unlink { place }
            | Call::Rmdir { place }
            | Call::ReadLink { place }
            | Call::Open { place, .. }
            | Call::Truncate { place, .. }
            | Call::Chmod { place, .. }
            | Call::Chown { place, .. }
            | Call::Times { place, .. }
            | Call::SetXattr { place, .. }
            | Call::RemoveXattr { place, .. } => of(place),
            Call::Close { slot }
            | Call::Read { slot, .. }
            | Call::Write { slot, .. }
            | Call::Append { slot, .. }
            | Call::Allocate { slot, .. }
            | Call::Copy { to: slot, .. }
            | Call::Seek { slot, .. }
            | Call::Sync { slot, .. }
            | Call::List { slot } => at(slot),
            Call::Fork { .. }
            | Call::Commit { .. }
            | Call::Undo
            | Call::Redo
            | Call::Abort { .. }
            | Call::Mark { .. }
            | Call::Unmark { .. }
            | Call::Restore { .. }
            | Call::Checkpoint
            | Call::Reclaim
            | Call::Forget
            | Call::Crash => None,
        }
    }

    fn is_live(&self, branch: u32) -> bool {
        self.model.branches.get(&branch).is_some_and(|branch| branch.is_live())
    }

    fn all(&mut self) -> Result<(), String> {
        for branch in self.model.live() {
            self.compare_branch(branch)?;
        }
        Ok(())
    }

    fn compare_branch(&mut self, branch: u32) -> Result<(), String> {
        let in_branch = |what: String| format!("branch {branch}: {what}");
        let picture = self.driver().look(branch).map_err(|answer| in_branch(answer.brief()))?;
        self.model.compare(branch, &picture, Numbers::Own).map_err(in_branch)?;
        let open: Vec<u8> = self
            .model
            .slots
            .iter()
            .filter(|(_, handle)| handle.branch == branch)
            .map(|(slot, _)| *slot)
            .collect();
        for slot in open {
            let in_slot = |what: String| format!("branch {branch}, slot {slot}: {what}");
            let seen = self.driver().look_at_slot(slot).map_err(|answer| in_slot(answer.brief()))?;
            self.model.compare_slot(slot, &seen).map_err(in_slot)?;
        }
        Ok(())
    }

    fn compare_base(&mut self) -> Result<(), String> {
        let in_base = |what: String| format!("the base: {what}");
        let picture = host::look(&self.base).map_err(|error| in_base(error.to_string()))?;
        self.model.compare(MAIN, &picture, Numbers::Foreign).map_err(in_base)?;
        self.model.loosen_base_access_times();
        Ok(())
    }
}

impl Drop for World {
    /// The driver first: it may have the base mounted or open.
    fn drop(&mut self) {
        let driver = self.driver.take();
        // A driver of a product that panicked may panic again; what failed is known already.
        if catch_unwind(AssertUnwindSafe(|| drop(driver))).is_err() {
            eprintln!("the driver panicked while it was dropped");
        }
    }
}

/// Memory where there is some: fsync costs nothing there.
fn place() -> PathBuf {
    match std::env::var_os("BRANCHFS_MODEL_DIR") {
        Some(dir) => dir.into(),
        None if HostPath::new("/dev/shm").is_dir() => "/dev/shm".into(),
        None => std::env::temp_dir(),
    }
}

fn time(clock: ClockId) -> Time {
    let now = clock_gettime(clock);
    (now.tv_sec, now.tv_nsec as u32)
}
