//! How far a commit is, and calling it off while nothing is decided (S17).

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use branch_store::*;
use common::gate::hook;
use common::{Paths, Workspace, refuse};
use rustix::io::Errno;

/// More than two reports' worth.
const FILES: u64 = PROGRESS_EVERY * 2 + 7;

fn old(i: u64) -> String {
    format!("d/old{i}")
}

/// A base with as many files, a new directory with as many in the branch, and each old one changed.
fn sample() -> (Workspace, Arc<Branch>) {
    let names: Vec<String> = (0..FILES).map(old).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (&name[..], "old")).collect();
    let w = Workspace::new(&files);
    let branch = w.fork("main", "b");
    branch.make_dir("new").unwrap();
    for i in 0..FILES {
        branch.put(&old(i), "changed").unwrap();
        branch.put(&format!("new/{i}"), "new").unwrap();
    }
    (w, branch)
}

#[derive(Default)]
struct Heard {
    all: Mutex<Vec<Progress>>,
    /// Says no at the first report of this phase.
    no_at: Option<Phase>,
}

impl Watch for Heard {
    fn progress(&self, progress: Progress) -> ControlFlow<()> {
        self.all.lock().unwrap().push(progress);
        if Some(progress.phase) == self.no_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Heard {
    /// Counts of one phase.
    fn of(&self, phase: Phase) -> Vec<(u64, u64)> {
        let all = self.all.lock().unwrap();
        all.iter().filter(|progress| progress.phase == phase).map(|p| (p.done, p.of)).collect()
    }

    fn phases(&self) -> Vec<Phase> {
        let mut phases: Vec<Phase> = self.all.lock().unwrap().iter().map(|progress| progress.phase).collect();
        phases.dedup();
        phases
    }
}

/// 0, then every so many, then all.
fn counted(of: u64) -> Vec<(u64, u64)> {
    let mut counted: Vec<(u64, u64)> =
        (0..of).step_by(PROGRESS_EVERY as usize).map(|done| (done, of)).collect();
    counted.push((of, of));
    counted
}

/// Nothing was told between the beginning and the end of one file, and it could not be called off there.
#[test]
fn a_large_file_that_is_copied_is_told_of_in_bytes_and_called_off_in_the_middle() {
    let mut w = Workspace::new(&[("large", "old"), ("other", "old")]);
    // No filesystem clones here.
    let no_clones = hook(|call, _| if call == "clone" { Err(Errno::NOTSUP) } else { Ok(()) });
    no_clones.armed.store(true, Ordering::SeqCst);
    w.reopen_on(Disk::guarded(no_clones)).unwrap();
    let branch = w.fork("main", "b");
    let bytes = 5 * PROGRESS_BYTES / 2;
    branch.put("large", &"x".repeat(bytes as usize)).unwrap();
    branch.put("other", "new").unwrap();
    let part = |path: &[u8]| path == b"large";
    let commit =
        |watch: &dyn Watch| w.store().commit_watched(&branch, &refuse, Some(&part), &Note::default(), watch);
    let watch = |progress: Progress| {
        assert!(progress.phase <= Phase::Staging, "it went on: {progress:?}");
        if progress.bytes >= 2 * PROGRESS_BYTES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    assert!(matches!(commit(&watch), Err(Error::Cancelled)));
    assert_eq!(std::fs::read_to_string(w.base().join("large")).unwrap(), "old");
    let heard = Heard::default();
    commit(&heard).unwrap();
    assert_eq!(std::fs::metadata(w.base().join("large")).unwrap().len(), bytes);
    let all = heard.all.lock().unwrap();
    let told: Vec<u64> = all.iter().filter(|p| p.phase == Phase::Staging).map(|p| p.bytes).collect();
    assert_eq!(told, [0, PROGRESS_BYTES, 2 * PROGRESS_BYTES, bytes]);
}

const IN_ORDER: [Phase; 7] = [
    Phase::Planning,
    Phase::Staging,
    Phase::Syncing,
    Phase::Deciding,
    Phase::WritingBack,
    Phase::Finishing,
    Phase::Done,
];

#[test]
fn a_commit_tells_every_phase_in_order_with_what_it_counts() {
    let (w, branch) = sample();
    let heard = Heard::default();
    w.store().commit_watched(&branch, &refuse, None, &Note::default(), &heard).unwrap();
    assert_eq!(heard.phases(), IN_ORDER);
    // The files, both directories and the root.
    assert_eq!(heard.of(Phase::Planning), [(0, FILES * 2 + 3)]);
    // A new directory is staged with what is in it.
    assert_eq!(heard.of(Phase::Staging), counted(FILES * 2 + 1));
    // An exchange for each changed file, one attachment, attributes of the old directory and the root.
    assert_eq!(heard.of(Phase::WritingBack), counted(FILES + 3));
}

#[test]
fn undoing_and_redoing_tell_the_same() {
    let (w, branch) = sample();
    w.store().commit(&branch).unwrap();
    for turn in [Store::undo_watched, Store::redo_watched] {
        let heard = Heard::default();
        turn(w.store(), None, &heard).unwrap();
        assert_eq!(heard.phases(), IN_ORDER);
        // Nothing is rewritten in place: nothing has to be staged.
        assert_eq!(heard.of(Phase::Staging), [(0, 0), (0, 0)]);
        let steps = heard.of(Phase::WritingBack);
        assert_eq!(steps, counted(steps[0].1));
        assert!(steps[0].1 > FILES, "{steps:?}");
    }
}

#[test]
fn a_commit_of_one_file_tells_each_phase_once_or_twice() {
    let w = Workspace::new(&[("f", "old")]);
    let branch = w.fork("main", "b");
    branch.put("f", "new").unwrap();
    let heard = Heard::default();
    w.store().commit_watched(&branch, &refuse, None, &Note::default(), &heard).unwrap();
    assert_eq!(heard.all.lock().unwrap().len(), 9);
}

#[test]
fn a_commit_called_off_before_its_decision_has_not_happened() {
    for no_at in IN_ORDER.into_iter().filter(|phase| *phase <= Phase::Deciding) {
        let (w, branch) = sample();
        let before = w.base_tree();
        let heard = Heard { no_at: Some(no_at), ..Heard::default() };
        let error = w.store().commit_watched(&branch, &refuse, None, &Note::default(), &heard).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{no_at:?}: {error}");
        assert_eq!(heard.phases().last(), Some(&no_at), "nothing was done after the no");
        assert!(branch.is_live());
        assert_eq!(w.base_tree(), before, "{no_at:?}");
        assert!(
            std::fs::read_dir(w.base().join(".branchfs/preimage")).unwrap().next().is_none(),
            "{no_at:?}"
        );
        // It goes on, also in files that had been staged, and can be committed.
        branch.overwrite("new/0", "new again").unwrap();
        w.store().commit(&branch).unwrap();
        assert_eq!(std::fs::read_to_string(w.base().join("new/0")).unwrap(), "new again");
        assert_eq!(std::fs::read_to_string(w.base().join(old(0))).unwrap(), "changed");
    }
}

#[test]
fn staging_is_called_off_in_the_middle() {
    let (w, branch) = sample();
    let before = w.base_tree();
    let watch = |progress: Progress| match progress {
        Progress { phase: Phase::Staging, done: PROGRESS_EVERY.., .. } => ControlFlow::Break(()),
        Progress { phase, .. } if phase > Phase::Staging => panic!("went on with {phase:?}"),
        _ => ControlFlow::Continue(()),
    };
    assert!(matches!(
        w.store().commit_watched(&branch, &refuse, None, &Note::default(), &watch),
        Err(Error::Cancelled)
    ));
    assert_eq!(w.base_tree(), before);
    assert!(branch.is_live());
}

#[test]
fn a_no_after_the_decision_comes_too_late() {
    for no_at in IN_ORDER.into_iter().filter(|phase| *phase > Phase::Deciding) {
        let (w, branch) = sample();
        let heard = Heard { no_at: Some(no_at), ..Heard::default() };
        w.store().commit_watched(&branch, &refuse, None, &Note::default(), &heard).unwrap();
        assert_eq!(heard.phases(), IN_ORDER);
        assert_eq!(std::fs::read_to_string(w.base().join("new/0")).unwrap(), "new");
    }
}

#[test]
fn an_undoing_called_off_leaves_the_base_as_the_commit_left_it() {
    let (mut w, branch) = sample();
    w.store().commit(&branch).unwrap();
    let committed = w.base_tree();
    let heard = Heard { no_at: Some(Phase::Deciding), ..Heard::default() };
    assert!(matches!(w.store().undo_watched(None, &heard), Err(Error::Cancelled)));
    assert_eq!(w.base_tree(), committed);
    drop(branch);
    w.reopen();
    assert_eq!(w.base_tree(), committed);
    w.store().undo().unwrap();
    assert_eq!(std::fs::read_to_string(w.base().join(old(0))).unwrap(), "old");
}
