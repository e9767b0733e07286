//! Content in older layers of a branch that no tree speaks of any more: what only a removed mark needed. Which that is
//! is found in the background, from a picture of all trees: nothing that none of them refers to can ever be referred to
//! again, as trees come from trees, and a branch makes new files in its current layer only.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::branch::{Branch, Data, Shared};
use crate::content::Doomed;
use crate::error::Result;
use crate::ids::{LayerId, NodeId};
use crate::journal::record::Record;

/// Dooms what removed marks left.
pub(super) fn clear(shared: &Shared) -> Result<()> {
    let all = shared.registry.read().all();
    let littered = |branch: &Arc<Branch>| branch.littered.swap(false, Ordering::AcqRel);
    let littered: Vec<_> = all.into_iter().filter(littered).collect();
    if littered.is_empty() {
        return Ok(());
    }
    let done = clear_in(shared, &littered);
    if done.is_err() {
        littered.iter().for_each(|branch| branch.littered.store(true, Ordering::Release));
    }
    done
}

fn clear_in(shared: &Shared, littered: &[Arc<Branch>]) -> Result<()> {
    for (branch, litter) in littered.iter().zip(find(shared, littered)?) {
        litter.files.into_iter().for_each(|(layer, id)| shared.doom(Doomed::File(layer, id)));
        discard(shared, branch, &litter.layers)?;
    }
    Ok(())
}

/// What nothing refers to in the older layers of one branch.
struct Litter {
    layers: Vec<LayerId>,
    files: Vec<(LayerId, NodeId)>,
}

fn find(shared: &Shared, branches: &[Arc<Branch>]) -> Result<Vec<Litter>> {
    let (known, pictures) = picture(shared, branches);
    let mut all = Vec::new();
    for data in pictures {
        let mut found = Litter { layers: Vec::new(), files: Vec::new() };
        for layer in data.layers.iter().copied().filter(|layer| *layer != data.layer) {
            let (needed, litter): (Vec<NodeId>, Vec<NodeId>) =
                shared.contents.files(layer)?.into_iter().partition(|id| known.contains(&(layer, *id)));
            if needed.is_empty() {
                found.layers.push(layer);
            } else {
                found.files.extend(litter.into_iter().map(|id| (layer, id)));
            }
        }
        all.push(found);
    }
    Ok(all)
}

/// Bytes that [`clear`] would free if it looked at all branches, and how many whole layers.
pub(super) fn measure(shared: &Shared) -> Result<(u64, u64)> {
    let branches = shared.registry.read().all();
    let (mut bytes, mut layers) = (0, 0);
    for litter in find(shared, &branches)? {
        bytes += shared.contents.held(&litter.layers)?;
        layers += litter.layers.len() as u64;
        for (layer, id) in litter.files {
            bytes += shared.contents.held_by(layer, id)?;
        }
    }
    Ok((bytes, layers))
}

/// Has [`clear`] look at all branches: what was written before a fork or checkpoint and removed or replaced since is
/// not noted anywhere.
pub(super) fn suspect_all(shared: &Shared) {
    shared.registry.read().all().iter().for_each(|branch| branch.littered.store(true, Ordering::Release));
}

/// All trees of one instant: who forks, merges, marks or restores holds `decide`.
fn picture(shared: &Shared, littered: &[Arc<Branch>]) -> (HashSet<(LayerId, NodeId)>, Vec<Data>) {
    let (pictures, all) = {
        let _decide = shared.decide.lock();
        let all: Vec<Data> = shared.registry.read().all().iter().map(|b| b.data.read().clone()).collect();
        (littered.iter().map(|branch| branch.data.read().clone()).collect(), all)
    };
    let mut known = HashSet::new();
    for data in all {
        data.own_files(|_, id, layer| {
            known.insert((layer, id));
        });
    }
    (known, pictures)
}

fn discard(shared: &Shared, branch: &Branch, layers: &[LayerId]) -> Result<()> {
    if layers.is_empty() {
        return Ok(());
    }
    {
        let _gate = shared.gate.read();
        let mut data = branch.data.write();
        if !branch.is_live() {
            // Its layers went with it, or to its parent.
            return Ok(());
        }
        shared.journal.append(&Record::Discard { branch: branch.id(), layers: layers.to_vec() })?;
        apply(&mut data, layers);
    }
    shared.discard_layers(layers);
    Ok(())
}

/// The effect of the record, live and in recovery.
pub(super) fn apply(data: &mut Data, layers: &[LayerId]) {
    let gone: HashSet<LayerId> = layers.iter().copied().collect();
    data.layers.retain(|layer| !gone.contains(layer));
}
