//! The attributes that a commit changed, given back.

use std::collections::BTreeMap;

use super::invert::Inverter;
use crate::base::Found;
use crate::commit::attributes;
use crate::error::Result;
use crate::node::{HostKey, Kind, Meta};
use crate::plan::{RelPath, Step};

impl Inverter<'_> {
    pub(super) fn attributes(&mut self) -> Result<()> {
        let forward = self.forward;
        let mut names: BTreeMap<HostKey, Vec<&RelPath>> = BTreeMap::new();
        for (old, key) in forward.plan.before.iter().filter(|(_, key)| !self.rewritten.contains(key)) {
            names.entry(*key).or_default().push(old);
        }
        for (key, names) in names {
            let Some(was) = self.was.get(&key).copied() else { continue };
            let (old, now) = self.any_name(&names, key)?;
            let object = (!old.is_empty()).then_some(key);
            match now {
                Where::Here(path, found) => {
                    if let Some(meta) = self.given_back(&found, &path, &was.meta)? {
                        self.metas.push(Step::SetMeta { path: old, object, meta: Box::new(meta) });
                    }
                }
                // A directory that comes back, which lost a name before it went, has its times from then.
                Where::Parked => {
                    let meta = Box::new(was.meta.clone());
                    self.metas.push(Step::SetMeta { path: old, object, meta });
                }
                Where::Gone => self.gone(&old),
            }
        }
        Ok(())
    }

    /// The first name under which the object still is in the base; one among the preimages if there is none.
    fn any_name(&mut self, names: &[&RelPath], key: HostKey) -> Result<(RelPath, Where)> {
        let mut best = (RelPath::new(), Where::Gone);
        for old in names {
            match self.now(old, key)? {
                here @ Where::Here(..) => return Ok(((*old).clone(), here)),
                Where::Parked => best = ((*old).clone(), Where::Parked),
                Where::Gone if best.0.is_empty() => best = ((*old).clone(), Where::Gone),
                Where::Gone => {}
            }
        }
        Ok(best)
    }

    fn now(&mut self, old: &[u8], key: HostKey) -> Result<Where> {
        if old.is_empty() {
            return Ok(Where::Here(Vec::new(), Box::new(self.base.resolve_root(self.head)?)));
        }
        let Some(path) = self.paths.after(old) else { return Ok(Where::Parked) };
        match self.at(&path)? {
            Some(at) if at.found.print.key() == key => Ok(Where::Here(path, Box::new(at.found))),
            // What an exchange replaced waits among the preimages, too.
            _ if self.taken.contains_key(&key) => Ok(Where::Parked),
            _ => Ok(Where::Gone),
        }
    }

    /// `None`: the commit left its attributes alone. Of a directory each attribute for itself, as in a merge: who
    /// works in it changes its times.
    fn given_back(&mut self, found: &Found, path: &[u8], was: &Meta) -> Result<Option<Meta>> {
        let Some(set) = self.set.get(&found.print.key()).copied() else { return Ok(None) };
        let now = self.meta(found)?;
        let wanted = if found.print.kind == Kind::Dir {
            let merged = attributes::merge(&set.attributes(), &now.attributes(), &was.attributes());
            let Some(merged) = merged else {
                self.edited(path, found)?;
                return Ok(None);
            };
            let mut meta = was.clone();
            meta.set_attributes(merged);
            meta
        } else {
            self.check_untouched(found, path)?;
            was.clone()
        };
        self.displace(found, Some(path))?;
        Ok(Some(wanted))
    }
}

/// Where an object is that the commit changed.
enum Where {
    Here(RelPath, Box<Found>),
    /// Among the preimages, from where it comes back.
    Parked,
    Gone,
}
