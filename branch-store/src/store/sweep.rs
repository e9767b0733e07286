//! After replay: what no branch refers to goes, and what a power failure took is made good or named.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use crate::branch::{Branch, Shared};
use crate::content::PRIVATE;
use crate::error::Result;
use crate::ids::{LayerId, NodeId};
use crate::store::files;
use crate::store::maintain;
use crate::store::report::Report;

/// Whether what was replayed is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    Yes,
    /// A power failure may bring back what refers to anything: nothing is removed.
    No,
}

/// Removes what no branch refers to.
pub(super) fn sweep(shared: &Shared, settled: Settled, report: &mut Report) -> Result<()> {
    let branches = shared.registry.read().all();
    let mut alive: HashSet<LayerId> = HashSet::new();
    for branch in &branches {
        sweep_orphans(branch)?;
        alive.extend(&branch.data.read().layers);
    }
    if files::rebooted(&shared.dir_path) {
        for branch in &branches {
            restore_missing(shared, branch, report)?;
        }
        files::note_boot(&shared.dir_path)?;
    }
    if settled == Settled::Yes { clear(shared, &branches, &alive, report) } else { Ok(()) }
}

fn clear(
    shared: &Shared,
    branches: &[Arc<Branch>],
    alive: &HashSet<LayerId>,
    report: &mut Report,
) -> Result<()> {
    let known = known_contents(branches);
    shared.contents.sweep_loans(&known);
    for layer in shared.contents.layers()? {
        if alive.contains(&layer) {
            shared.contents.sweep_layer(layer, &known)?;
        } else {
            shared.contents.discard_layer(layer)?;
        }
    }
    let head = shared.counters.commit.load(Ordering::Acquire);
    for commit in maintain::parks(shared)?.into_iter().filter(|commit| commit.0 > head) {
        report
            .lines
            .push(format!("removed what was staged for commit {}, which was never decided", commit.0));
        shared.contents.trash_preimage(&shared.park_fd, commit.0.to_string().as_bytes())?;
    }
    // Files of the base, and files that go on to be committed, lose their second links before anybody looks
    // at them: dropping one changes ctime, which fingerprints hold.
    if let Err(e) = shared.contents.empty_trash() {
        // Costs space; the store is whole without it.
        report.lines.push(format!("the trash could not be emptied: {e}"));
    }
    Ok(())
}

/// Content files that some tree speaks of.
fn known_contents(branches: &[Arc<Branch>]) -> HashSet<(LayerId, NodeId)> {
    let mut known = HashSet::new();
    for branch in branches {
        branch.data.read().own_files(|_, id, layer| {
            known.insert((layer, id));
        });
    }
    known
}

/// Files unlinked while open: whoever had them open is gone.
fn sweep_orphans(branch: &Branch) -> Result<()> {
    let tree = branch.data.read().tree.clone();
    let orphans = tree.nodes().filter(|(_, node)| node.inode.meta.nlink == 0).map(|(id, _)| id);
    for id in orphans.collect::<Vec<_>>() {
        // A full disk must not keep the store from being opened: the next recovery tries again.
        match branch.reap(id) {
            Err(e) if matches!(e.errno(), Errno::NOSPC | Errno::DQUOT) => {}
            other => other?,
        }
    }
    Ok(())
}

/// The journal may have reached the disk before a content file that nobody fsynced: such a file is empty, as
/// after a crash on any Linux filesystem.
fn restore_missing(shared: &Shared, branch: &Branch, report: &mut Report) -> Result<()> {
    let data = branch.data.read().clone();
    let mut missing = BTreeMap::new();
    data.own_files(|tree, id, layer| {
        if shared.contents.stat(layer, id).is_err_and(|e| e.errno() == Errno::NOENT) {
            let path = crate::commit::path_of(tree, id).unwrap_or_default();
            missing.insert((layer, id), String::from_utf8_lossy(&path).into_owned());
        }
    });
    for ((layer, id), path) in missing {
        shared.contents.create(layer, id, PRIVATE)?;
        let name = branch.name();
        report.lines.push(format!("{name}:{path} was never fsynced before the power failed; it is empty"));
    }
    Ok(())
}
