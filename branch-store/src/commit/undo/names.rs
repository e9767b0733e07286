//! What snapshots made since the commit must go on seeing when it is taken back.

use std::collections::HashSet;

use super::invert::Inverter;
use crate::base::history::{Displaced, Was};
use crate::error::Result;

impl Inverter<'_> {
    /// The names that the commit took away appear again.
    pub(super) fn names(&mut self) -> Result<()> {
        let forward = self.forward;
        let mut known = HashSet::new();
        for displaced in &forward.displaced {
            let Displaced::Entry { slot, .. } = displaced else { continue };
            // In a directory that the commit removed: nobody has seen it since.
            let unseen = self.base.places.is_parked(slot.dir);
            if !unseen && !self.leaving.contains(slot) && known.insert(slot) {
                // Free, or in the way, which is a conflict.
                self.displaced.push(Displaced::Entry { slot: slot.clone(), was: Was::Absent });
            }
        }
        // Names that went or come with a directory count among an object's links, or no longer do.
        for (_, slot) in forward.plan.along.iter().chain(&forward.plan.back) {
            if let Some(found) = self.base.resolve_now(slot)? {
                self.displace(&found, None)?;
            }
        }
        Ok(())
    }
}
