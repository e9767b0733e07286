//! The files of the base that content files borrow from: found and held open again after a restart, and copied when
//! somebody removed or replaced them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustix::io::Errno;

use crate::branch::Shared;
use crate::content::Edit;
use crate::error::Result;
use crate::ids::{LayerId, NodeId};
use crate::node::Lender;
use crate::store::files;
use crate::store::report::Report;

/// Opens what each content file borrows from, where the base still has it.
pub(super) fn find_all(shared: &Shared) -> Result<()> {
    let down = files::rebooted(&shared.dir_path);
    for (layer, id, loan) in shared.contents.loans() {
        let source = match find(shared, loan.lender()) {
            // Its directory is gone, or it may not be read any more.
            Err(e) if matches!(e.errno(), Errno::STALE | Errno::NOENT | Errno::ACCESS | Errno::PERM) => None,
            found => found?,
        };
        shared.contents.find_lender((layer, id), source, down)?;
    }
    Ok(())
}

fn find(shared: &Shared, lender: &Lender) -> Result<Option<std::fs::File>> {
    let found = shared.base.resolve(&lender.slot, lender.epoch)?;
    let Some(found) = found.filter(|found| found.print.same_object(&lender.print)) else { return Ok(None) };
    shared.base.open_file(&found).map(Some)
}

/// Copies what has no name any more and is there only as long as we hold it open.
///
/// # Errors
/// The host's; a repeated call goes on.
pub(super) fn rescue(shared: &Shared) -> Result<()> {
    for (layer, id, loan) in shared.contents.loans() {
        if loan.is_nameless()? {
            shared.contents.complete(layer, id)?;
        }
    }
    Ok(())
}

/// Names the files of which the base has changed or lost bytes that they borrow.
pub(super) fn report_edited(shared: &Arc<Shared>, report: &mut Report) -> Result<()> {
    let mut edited: BTreeMap<(LayerId, NodeId), &str> = BTreeMap::new();
    for (layer, id, loan) in shared.contents.loans() {
        match loan.edit()? {
            Edit::None => {}
            Edit::Gone => _ = edited.insert((layer, id), "removed or replaced: reading them is an error"),
            Edit::InPlace => _ = edited.insert((layer, id), "edited, which shows in them"),
        }
    }
    let mut lines = BTreeSet::new();
    for branch in shared.registry.read().all().into_iter().filter(|_| !edited.is_empty()) {
        branch.data.read().own_files(|tree, id, layer| {
            if let Some(what) = edited.get(&(layer, id)) {
                let path = crate::commit::path_of(tree, id).unwrap_or_default();
                let (name, path) = (branch.name(), String::from_utf8_lossy(&path).into_owned());
                lines.insert(format!(
                    "{name}:{path} has bytes that the branch has not written; the base's file, which they are \
                     read from, was {what}"
                ));
            }
        });
    }
    report.lines.extend(lines);
    Ok(())
}
