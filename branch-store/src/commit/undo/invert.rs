//! A plan turned round. Reads the base, changes nothing.
//!
//! What the commit put into the base leaves it, deepest first, under the paths of today; what it took away comes
//! back from its preimage directory, parents first, under the paths of before; then bytes that were rewritten in
//! place, and attributes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::edited::Closed;
use super::met::met;
use super::paths::{Exchanges, Paths, depth, split};
use crate::base::history::{Displaced, ObjectWas, Was};
use crate::base::{Base, Found};
use crate::branch::Shared;
use crate::commit::planner::{Drawn, Stage};
use crate::conflict::{Conflict, ConflictKind};
use crate::error::{Error, Result};
use crate::ids::{CommitId, Name, NodeId};
use crate::journal::record::{Decide, Origin};
use crate::node::{HostKey, Kind, Meta, Slot};
use crate::plan::{Park, Plan, RelPath, Step};

/// An object of the base at a path of today.
pub(super) struct At {
    pub(super) slot: Slot,
    pub(super) found: Found,
    /// The directory it is in.
    pub(super) parent: Arc<Found>,
}

pub(super) struct Inverter<'a> {
    pub(super) base: &'a Base,
    pub(super) forward: &'a Decide,
    pub(super) head: CommitId,
    pub(super) paths: Paths,
    pub(super) was: HashMap<HostKey, &'a ObjectWas>,
    /// What attributes the commit gave to objects that were there before.
    pub(super) set: HashMap<HostKey, &'a Meta>,
    /// Preimages: what the commit took a name from without giving it another.
    pub(super) taken: HashMap<HostKey, Park>,
    /// Names that will be free, or somebody else's.
    pub(super) leaving: HashSet<Slot>,
    /// Where what the commit moved waits.
    parks: HashMap<Park, Park>,
    next_park: u64,
    pub(super) closed: Closed,
    leaves: Vec<Step>,
    comes: Vec<Step>,
    rewrites: Vec<Step>,
    /// Objects that `rewrites` gives back whole.
    pub(super) rewritten: HashSet<HostKey>,
    pub(super) metas: Vec<Step>,
    pub(super) conflicts: Vec<Conflict>,
    /// Directories of the base by their paths of today, and preimage directories, as far as they were looked at.
    pub(super) dirs: HashMap<RelPath, (NodeId, Arc<Found>)>,
    pub(super) park_ids: HashMap<CommitId, NodeId>,
    pub(super) before: Vec<(RelPath, HostKey)>,
    pub(super) displaced: Vec<Displaced>,
    stages: Vec<Stage>,
    kept: HashMap<HostKey, Park>,
    pub(super) touched: Vec<NodeId>,
}

/// The plan that takes `forward` back as `commit`, and the objects that views of main must forget.
///
/// # Errors
/// `Conflicts`, `NotAllowed` if a preimage is gone, and the host's.
pub(super) fn invert(shared: &Shared, forward: &Decide, commit: CommitId) -> Result<(Drawn, Vec<NodeId>)> {
    let was = forward.displaced.iter().filter_map(|displaced| match displaced {
        Displaced::Object { key, was } => Some((*key, was)),
        Displaced::Entry { .. } | Displaced::Dir { .. } => None,
    });
    let exchanges = match forward.origin {
        Origin::Branch(_) => Exchanges::UnderNewPaths,
        Origin::Undo(_) | Origin::Redo(_) => Exchanges::UnderOldPaths,
    };
    let paths = Paths::of(&forward.plan, exchanges);
    let root = shared.base.root_print().key();
    let mut inverter = Inverter {
        base: &shared.base,
        forward,
        head: CommitId(commit.0 - 1),
        set: set(&forward.plan, root),
        taken: taken(&forward.plan, &paths),
        paths,
        was: was.collect(),
        leaving: HashSet::new(),
        parks: HashMap::new(),
        next_park: 0,
        closed: Closed::new(&shared.log.lock(), forward.commit),
        leaves: Vec::new(),
        comes: Vec::new(),
        rewrites: Vec::new(),
        rewritten: HashSet::new(),
        metas: Vec::new(),
        conflicts: Vec::new(),
        dirs: HashMap::new(),
        park_ids: HashMap::new(),
        before: Vec::new(),
        displaced: Vec::new(),
        stages: Vec::new(),
        kept: HashMap::new(),
        touched: Vec::new(),
    };
    inverter.run()?;
    inverter.finish()
}

impl Inverter<'_> {
    fn run(&mut self) -> Result<()> {
        let forward = self.forward;
        for step in &forward.plan.steps {
            match step {
                Step::Attach { park, path, object, .. } => self.leave(*park, path, *object)?,
                Step::Exchange { park, path, new, old_dir, .. } => self.swap(*park, path, *new, *old_dir)?,
                Step::AddLink { existing, path, .. } => self.unlink(existing, path)?,
                Step::Detach { .. } | Step::Rewrite { .. } | Step::SetMeta { .. } => {}
            }
        }
        for step in &forward.plan.steps {
            match step {
                Step::Detach { path, park, object, dir, .. } => self.come(path, *park, *object, *dir)?,
                Step::Rewrite { park, path, object, .. } => self.rewrite(path, *object, park.is_some())?,
                _ => {}
            }
        }
        self.attributes()?;
        self.names()
    }

    fn finish(mut self) -> Result<(Drawn, Vec<NodeId>)> {
        if !self.conflicts.is_empty() {
            self.conflicts.sort_by(|a, b| a.path.cmp(&b.path));
            self.conflicts.dedup();
            return Err(Error::Conflicts(self.conflicts));
        }
        let deep = |step: &Step| depth(path_of(step));
        self.leaves.sort_by_key(|step| std::cmp::Reverse(deep(step)));
        self.comes.sort_by_key(deep);
        self.metas.sort_by_key(|step| std::cmp::Reverse(deep(step)));
        let steps = match self.forward.origin {
            Origin::Branch(_) | Origin::Redo(_) => [self.leaves, self.comes, self.rewrites, self.metas],
            Origin::Undo(_) => [self.rewrites, self.leaves, self.comes, self.metas],
        };
        let Plan { along, back, .. } = &self.forward.plan;
        let plan = Plan {
            steps: steps.into_iter().flatten().collect(),
            along: back.clone(),
            back: along.clone(),
            before: self.before,
        };
        let drawn = Drawn {
            plan,
            stages: self.stages,
            displaced: self.displaced,
            kept: self.kept,
            later: HashSet::new(),
        };
        Ok((drawn, self.touched))
    }

    /// What the commit made, or moved here, goes to the preimages of this one.
    fn leave(&mut self, park: Park, path: &[u8], object: HostKey) -> Result<()> {
        let Some(at) = self.expect(path, object)? else { return Ok(()) };
        if !self.paths.passed(park) {
            self.check_untouched(&at.found, path)?;
        }
        let to = self.new_park();
        self.parks.insert(park, to);
        self.detach(at, path, to)
    }

    fn unlink(&mut self, existing: &[u8], path: &[u8]) -> Result<()> {
        let first = self.at(existing)?.map(|at| at.found.print.key());
        let Some(object) = first else {
            self.gone(existing);
            return Ok(());
        };
        let Some(at) = self.expect(path, object)? else { return Ok(()) };
        let to = self.new_park();
        self.detach(at, path, to)
    }

    fn detach(&mut self, at: At, path: &[u8], park: Park) -> Result<()> {
        let object = at.found.print.key();
        let dir = self.dir_id(&at.found.print)?;
        let from = at.parent.print.key();
        self.leaves.push(Step::Detach { path: path.to_vec(), from, park, object, dir });
        // One that the commit made loses a name before it goes.
        self.displace(&at.parent, Some(split(path).0))?;
        self.displace(&at.found, Some(path))?;
        self.displace_name(at)
    }

    /// What was replaced comes back in the step in which its replacement goes.
    fn swap(&mut self, park: Park, path: &[u8], new: HostKey, old_dir: Option<NodeId>) -> Result<()> {
        // A branch's commit exchanges under the paths of after it, an undoing under those of before.
        let path = match self.forward.origin {
            Origin::Branch(_) => Some(path.to_vec()),
            Origin::Undo(_) | Origin::Redo(_) => self.paths.name_after(path),
        };
        let Some(path) = path else { return Ok(()) };
        let path = &path[..];
        let Some(at) = self.expect(path, new)? else { return Ok(()) };
        self.check_untouched(&at.found, path)?;
        let preimage = self.preimage(park)?;
        self.count_again(&preimage)?;
        self.leaves.push(Step::Exchange {
            park,
            path: path.to_vec(),
            new: preimage.print.key(),
            old: new,
            new_dir: old_dir,
            old_dir: self.dir_id(&at.found.print)?,
        });
        self.displace(&at.found, Some(path))?;
        self.displace_name(at)
    }

    fn come(&mut self, path: &[u8], park: Park, object: HostKey, dir: Option<NodeId>) -> Result<()> {
        let from = match self.parks.get(&park) {
            Some(moved) => *moved,
            // It could not be found where the commit moved it.
            None if self.paths.passed(park) => return Ok(()),
            None => park,
        };
        let object = if from == park {
            let preimage = self.preimage(park)?;
            self.count_again(&preimage)?;
            preimage.print.key()
        } else {
            object
        };
        self.check_free(path)?;
        self.comes.push(Step::Attach { park: from, path: path.to_vec(), object, dir });
        Ok(())
    }

    /// A file with other names in the base gets one link more, which snapshots of today do not count.
    fn count_again(&mut self, preimage: &Found) -> Result<()> {
        let linked = preimage.print.kind != Kind::Dir && preimage.statx.stx_nlink > 1;
        if linked { self.displace(preimage, None) } else { Ok(()) }
    }

    /// The name must be free once everything has left, and its directory must be there.
    fn check_free(&mut self, path: &[u8]) -> Result<()> {
        let (above, name) = split(path);
        // One that the commit removed comes back as well, with nothing in the way.
        let Some(above) = self.paths.after(above) else { return Ok(()) };
        let dir = if above.is_empty() { Some(NodeId::ROOT) } else { self.dir_at(&above)? };
        let Some(dir) = dir else {
            self.gone(path);
            return Ok(());
        };
        let slot = Slot { dir, name: Name::trusted(name) };
        if !self.leaving.contains(&slot)
            && let Some(found) = self.base.resolve(&slot, self.head)?
        {
            self.conflicts.push(met(self.base, path, ConflictKind::DeleteModify, Some(&found))?);
        }
        Ok(())
    }

    /// A file with further links, changed in place: its old bytes are in the preimage directory, and those of today
    /// go into that of this commit. A branch's commit changes it under the name it has before anything moves, which
    /// undoing does last, and redoing first again.
    fn rewrite(&mut self, path: &[u8], object: HostKey, bytes: bool) -> Result<()> {
        let Some(was) = self.was.get(&object).copied() else { return Ok(()) };
        self.rewritten.insert(object);
        let now = match self.forward.origin {
            Origin::Branch(_) | Origin::Redo(_) => self.paths.after(path),
            Origin::Undo(_) => Some(path.to_vec()),
        };
        let at = match &now {
            Some(now) => self.at(now)?.map(|at| (at.slot, at.found)),
            None => self.parked_name(object)?,
        };
        let Some((slot, found)) = at.filter(|(_, found)| found.print.key() == object) else {
            self.gone(path);
            return Ok(());
        };
        self.check_untouched(&found, path)?;
        let park = if bytes { Some(self.exchange_bytes(object, slot, was)?) } else { None };
        self.displace(&found, now.as_deref())?;
        let meta = Box::new(was.meta.clone());
        self.rewrites.push(Step::Rewrite { park, path: path.to_vec(), object, meta });
        Ok(())
    }

    /// Where the old bytes are, once it is seen to that those of today are kept.
    fn exchange_bytes(&mut self, object: HostKey, slot: Slot, was: &ObjectWas) -> Result<Park> {
        let gone = Error::NotAllowed("a preimage of that commit is gone: it cannot be taken back");
        let number = was.content.as_ref().and_then(|slot| number_of(&slot.name)).ok_or(gone)?;
        let keep = self.new_park();
        self.stages.push(Stage::Keep(keep, slot));
        self.kept.insert(object, keep);
        Ok(Park { commit: self.forward.commit, number })
    }

    /// Older snapshots, and who takes this back, must find the object as it is now.
    pub(super) fn displace(&mut self, found: &Found, path: Option<&[u8]>) -> Result<()> {
        let meta = self.meta(found)?;
        let was = ObjectWas { birth: found.print.birth, meta, size: found.statx.stx_size, content: None };
        self.displaced.push(Displaced::Object { key: found.print.key(), was });
        self.touched.push(self.id(&found.print)?);
        self.before.extend(path.map(|path| (path.to_vec(), found.print.key())));
        Ok(())
    }

    /// The name goes on meaning the object to snapshots of today.
    fn displace_name(&mut self, at: At) -> Result<()> {
        let was = Was::Object(at.found.print.key());
        self.displaced.push(Displaced::Entry { slot: at.slot.clone(), was });
        if let Some(id) = self.dir_id(&at.found.print)? {
            self.displaced.push(Displaced::Dir { id, slot: at.slot.clone() });
        }
        self.leaving.insert(at.slot);
        Ok(())
    }

    fn new_park(&mut self) -> Park {
        self.next_park += 1;
        Park { commit: CommitId(self.head.0 + 1), number: self.next_park }
    }
}

fn set(plan: &Plan, root: HostKey) -> HashMap<HostKey, &Meta> {
    let set = plan.steps.iter().filter_map(|step| match step {
        Step::SetMeta { path, object, meta } => {
            let key = object.or(path.is_empty().then_some(root))?;
            Some((key, &**meta))
        }
        _ => None,
    });
    set.collect()
}

fn taken(plan: &Plan, paths: &Paths) -> HashMap<HostKey, Park> {
    let taken = plan.steps.iter().filter_map(|step| match step {
        Step::Detach { park, object, .. } | Step::Exchange { park, old: object, .. } => {
            (!paths.passed(*park)).then_some((*object, *park))
        }
        _ => None,
    });
    taken.collect()
}

fn path_of(step: &Step) -> &[u8] {
    match step {
        Step::Detach { path, .. }
        | Step::Attach { path, .. }
        | Step::Exchange { path, .. }
        | Step::AddLink { path, .. }
        | Step::Rewrite { path, .. }
        | Step::SetMeta { path, .. } => path,
    }
}

fn number_of(name: &Name) -> Option<u64> {
    std::str::from_utf8(name.as_bytes()).ok()?.parse().ok()
}
