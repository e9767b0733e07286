//! The commit into the base: plan, stage, decide, write back, done. `docs/on-disk-format.md` has the case
//! analysis of every crash point.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::history::Displaced;
use crate::branch::{Branch, Data, Shared, State};
use crate::commit::choose::base::OverBase;
use crate::commit::choose::texts::Fresh;
use crate::commit::choose::{self, Chosen, Resolved, Resolver};
use crate::commit::nothing;
use crate::commit::part::Selector;
use crate::commit::partial::{Stays, go_on, narrowed};
use crate::commit::planner::{Drawn, draw};
use crate::commit::stage::{Bytes, Staging};
use crate::commit::writeback::{self, Written};
use crate::commit::{Committed, Invalid, Invalidate, Sealed, invalid};
use crate::crew;
use crate::error::{Error, Result};
use crate::ids::{CommitId, LayerId, MAIN, Name, NodeId};
use crate::journal::record::{Decide, LogLine, Moved, Origin, Part, PartOf, Record};
use crate::node::{Slot, Time};
use crate::note::Note;
use crate::progress::{Phase, Watch, ask, tell};
use crate::tree::{Tree, changed};

/// Lines of the commit log kept.
const LOG_MAX: usize = 10_000;

pub(super) fn commit_into_base(
    shared: &Arc<Shared>,
    branch: &Branch,
    main: &Arc<Branch>,
    resolver: Resolver<'_>,
    selector: Option<Selector<'_>>,
    note: &Note,
    watch: &dyn Watch,
) -> Result<Committed> {
    let _one_at_a_time = shared.writeback.lock();
    let sealed = Sealed::new(branch)?;
    shared.refuse_children(branch)?;
    shared.refuse_attached(&shared.losers(branch))?;
    let ours = branch.data.read().clone();
    let commit = CommitId(shared.counters.commit.load(Ordering::Acquire) + 1);
    let head = CommitId(commit.0 - 1);
    ask(watch, Phase::Planning, 0, ours.tree.len() as u64)?;
    let whole = planned(shared, branch, &ours, head, resolver)?;
    let all = whole.tree.clone();
    let (planned, part) = match selector {
        None => (whole, None),
        Some(selector) => {
            let (planned, part) = narrowed((&shared.base, branch, &ours, head), whole, selector)?;
            // What stays in the branch is not staged.
            planned.fresh.make_durable()?;
            (planned, Some(PartOf { changes: ours.tree.diff(&all), part }))
        }
    };
    let Planned { mut drawn, tree, resolved, mut fresh } = planned;
    if drawn.plan.steps.is_empty() {
        return match part {
            Some(_) => Err(Error::NothingSelected),
            None => nothing::end(shared, (branch, main), &sealed, &ours, resolved, (note, watch)),
        };
    }
    let (count, mut forget) = {
        let changes = Tree::default().diff(&tree);
        (changed(&changes), invalid(main.id(), &changes))
    };
    let bytes = if part.is_some() { Bytes::Copied } else { Bytes::Given };
    let mut staging = Staging::new(shared, &tree, commit, bytes, watch)?;
    staging.fill(&mut drawn)?;
    let counted = Counted { commit, changed: count, note };
    ask(watch, Phase::Deciding, 0, 0)?;
    let prepared = (&mut staging, &mut fresh);
    let (decided, stale, merged) =
        decide(shared, branch, &sealed, prepared, counted, (drawn, tree.clone(), part))?;
    let (mut warnings, linked) = staging.finish();
    let written = finish(shared, &decided, &linked, watch)?;
    let known: HashSet<String> = warnings.iter().cloned().collect();
    // A read-only directory gets its attributes twice.
    warnings.extend(written.warnings.into_iter().filter(|new| !known.contains(new)));
    // The commit stands: only an undo after the next opening misses this, and says so.
    warnings.extend(
        close(shared, commit).err().map(|e| format!("the end of the commit could not be noted: {e}")),
    );
    forget.extend(moved_in_main(main, &written.moved));
    let stays = match &decided.part {
        Some(of) => Some(rest_of(shared, branch, (&all, &of.part, commit), &mut warnings)?),
        None => None,
    };
    forget.extend(stays.iter().flat_map(|stays| stays.invalid.iter().cloned()));
    if stays.is_none() {
        shared.discard_layers(&ours.layers);
    }
    let taken = branch.data.read().layers.clone();
    shared.discard_layers(&merged.into_iter().filter(|layer| !taken.contains(layer)).collect::<Vec<_>>());
    tell(watch, Phase::Done, 0, 0);
    Ok(Committed {
        action: decided.origin.into(),
        branch: decided.name.clone(),
        into: main.clone(),
        commit: Some(commit),
        changed: decided.changed,
        stale,
        invalid: forget,
        orphans: Vec::new(),
        warnings,
        resolved,
        stays,
    })
}

/// The branch goes on with the rest. Until it does, what was committed is its own still: a disk that will not have that
/// noted poisons the store, so that nothing builds on it, and opening it again makes the rest.
fn rest_of(
    shared: &Arc<Shared>,
    branch: &Branch,
    (all, part, commit): (&Tree, &Part, CommitId),
    warnings: &mut Vec<String>,
) -> Result<Stays> {
    match go_on(shared, branch, all, part, commit) {
        Err(cause @ Error::Host { .. }) => {
            shared.journal.poison();
            Err(Error::Unfinished { commit: commit.0, cause: Box::new(cause) })
        }
        // The base was changed from outside meanwhile. The commit stands, and a conflict will say so.
        Err(e) => {
            warnings.push(format!("the branch still shows what was committed as its own: {e}"));
            Ok(Stays::default())
        }
        went => went,
    }
}

/// A plan, and the tree that it brings into the base.
pub(super) struct Planned<'a> {
    pub(super) drawn: Drawn,
    pub(super) tree: Tree,
    pub(super) resolved: Vec<Resolved>,
    /// What was merged.
    pub(super) fresh: Fresh<'a>,
}

/// Draws the plan, with choices where there are conflicts.
pub(super) fn planned<'a>(
    shared: &'a Shared,
    branch: &'a Branch,
    ours: &Data,
    head: CommitId,
    resolver: Resolver<'a>,
) -> Result<Planned<'a>> {
    let base = &shared.base;
    let mut drawn = draw(base, &ours.tree, head)?;
    let mut chosen = Chosen::new(shared, resolver, [branch.name(), MAIN]);
    let mut over: Option<OverBase<'_>> = None;
    loop {
        let clashes = match drawn {
            Err(clashes) => clashes,
            Ok(drawn) => {
                let tree = over.map_or_else(|| ours.tree.clone(), |over| over.tree().clone());
                chosen.check(&tree)?;
                return Ok(Planned { drawn, tree, resolved: chosen.resolved, fresh: chosen.fresh });
            }
        };
        let over = over.get_or_insert_with(|| OverBase::new(base, head, ours));
        let taken = chosen.next(&over.sides(branch), &clashes)?;
        choose::refuse(over.choose(taken)?)?;
        drawn = draw(base, over.tree(), head)?;
    }
}

/// What a decision is about, for the log.
struct Counted<'a> {
    commit: CommitId,
    changed: u64,
    note: &'a Note,
}

/// What was decided, who became stale by it, and layers of merged files.
type Decided = (Arc<Decide>, Vec<Arc<Branch>>, Vec<LayerId>);

/// The one instant at which the commit happens: the decision record is durable.
fn decide(
    shared: &Arc<Shared>,
    branch: &Branch,
    sealed: &Sealed<'_>,
    (staging, fresh): (&mut Staging<'_>, &mut Fresh<'_>),
    Counted { commit, changed, note }: Counted<'_>,
    (mut drawn, tree, part): (Drawn, Tree, Option<PartOf>),
) -> Result<Decided> {
    let _decide = shared.decide.lock();
    let _gate = shared.gate.read();
    sealed.check()?;
    shared.refuse_children(branch)?;
    let losers = shared.losers(branch);
    let park_id = shared.base.allocate_id()?;
    let decided = Arc::new(Decide {
        commit,
        origin: Origin::Branch(branch.id()),
        name: branch.name().to_owned(),
        time: Time::now(),
        stale: losers.iter().map(|b| b.id()).collect(),
        park: (park_id, staging.print()?),
        displaced: displaced(&mut drawn, park_id),
        changed,
        bytes: staging.bytes(),
        note: note.clone(),
        plan: drawn.plan,
        part,
    });
    let held = shared.hold(&losers);
    shared.journal.append(&Record::Decide(decided.clone()))?;
    staging.disarm();
    let merged = fresh.keep();
    shared.make_decision_durable()?;
    apply_decide(shared, &decided);
    match decided.part {
        None => take_over(shared, branch, (tree, &merged), &losers),
        Some(_) => take_part(shared, tree, &losers),
    }
    drop(held);
    shared.discard_layers_of(&losers);
    Ok((decided, losers, merged))
}

/// What older snapshots need, with kept bytes where they will be.
pub(super) fn displaced(drawn: &mut Drawn, park_id: NodeId) -> Vec<Displaced> {
    let mut all = std::mem::take(&mut drawn.displaced);
    for displaced in &mut all {
        if let Displaced::Object { key, was } = displaced
            && let Some(park) = drawn.kept.get(key)
        {
            was.content = Some(Slot { dir: park_id, name: Name::trusted(&park.name()) });
        }
    }
    all
}

/// The effect of a decision, live and in recovery: older snapshots, and main until the write-back is done, see the
/// base as it was.
pub(crate) fn apply_decide(shared: &Shared, decided: &Decide) {
    let base = &shared.base;
    base.note_allocated(decided.park.0);
    base.places.note_park(decided.park.0, decided.commit, decided.park.1);
    {
        let mut history = base.history.write();
        for displaced in &decided.displaced {
            history.record(decided.commit, displaced);
        }
    }
    shared.counters.commit.fetch_max(decided.commit.0, Ordering::AcqRel);
    let mut log = shared.log.lock();
    log.push(LogLine {
        commit: decided.commit,
        origin: decided.origin,
        branch: decided.name.clone(),
        closed: None,
        time: decided.time,
        changed: decided.changed,
        bytes: decided.bytes,
        note: decided.note.clone(),
    });
    let excess = log.len().saturating_sub(LOG_MAX);
    log.drain(..excess);
}

/// The effect of a branch's decision on branches: main shows the tree that is to come over the base as it was, until
/// the write-back is done. (In recovery, where nobody looks before that, the branch's own.)
pub(crate) fn take_over(
    shared: &Arc<Shared>,
    branch: &Branch,
    (tree, merged): (Tree, &[LayerId]),
    losers: &[Arc<Branch>],
) {
    let ours: Data = branch.data.read().clone();
    {
        let main = shared.main();
        let mut data = main.data.write();
        data.tree = tree;
        data.layers = [&ours.layers[..], merged].concat();
    }
    branch.end(State::Committed);
    shared.bury(branch);
    shared.end_all(losers, State::Stale);
}

/// The same for part of a branch, which goes on.
pub(crate) fn take_part(shared: &Arc<Shared>, tree: Tree, losers: &[Arc<Branch>]) {
    shared.main().data.write().tree = tree;
    shared.end_all(losers, State::Stale);
}

/// Write-back and the `Done` record. Also what recovery does with a decision that has none. `linked`: content files that
/// became the base's; they lose their names in the store.
pub(crate) fn finish(
    shared: &Arc<Shared>,
    decided: &Arc<Decide>,
    linked: &[(LayerId, NodeId)],
    watch: &dyn Watch,
) -> Result<Written> {
    // A failure here leaves the decision standing and the base half-way: nothing may go on as if it were
    // whole. Reopening the store runs the plan again.
    finish_or_fail(shared, decided, linked, watch).map_err(|cause| {
        shared.journal.poison();
        Error::Unfinished { commit: decided.commit.0, cause: Box::new(cause) }
    })
}

fn finish_or_fail(
    shared: &Arc<Shared>,
    decided: &Arc<Decide>,
    linked: &[(LayerId, NodeId)],
    watch: &dyn Watch,
) -> Result<Written> {
    let carried_out = writeback::run(shared, decided, watch)?;
    // Before their second links go: until now main was read through them.
    apply_done(shared, decided.commit);
    let drop_links = || Ok(drop_links(shared, linked));
    let (mut written, stay) = crew::meanwhile(linked.len(), drop_links, || carried_out.make_durable())?;
    written.warnings.extend(stay);
    let _gate = shared.gate.read();
    let done = Record::Done { commit: decided.commit, moved: std::mem::take(&mut written.moved) };
    shared.journal.append(&done)?;
    if let Record::Done { moved, .. } = done {
        written.moved = moved;
    }
    shared.make_durable()?;
    Ok(written)
}

/// Drops the second links of what was committed: the plan needs them no more, as it finds everything in the base or in
/// the preimage directory. Before anybody can fork from the new base: this changes ctime, which fingerprints hold.
/// Returns warnings: the commit stands whatever comes of this.
fn drop_links(shared: &Shared, linked: &[(LayerId, NodeId)]) -> Vec<String> {
    let stays = |(layer, id): &(LayerId, NodeId)| {
        let error = shared.contents.remove(*layer, *id).err()?;
        Some(format!("a second link of a committed file stays in the store: {error}"))
    };
    linked.iter().filter_map(stays).collect()
}

/// After the last thing that a commit does to objects of the base: says from when on changes are others'.
pub(crate) fn close(shared: &Shared, commit: CommitId) -> Result<()> {
    let time = Time::later();
    let _gate = shared.gate.read();
    // Until the store is opened again this holds whether it could be noted or not.
    apply_closed(shared, commit, time);
    shared.journal.append(&Record::Closed { commit, time })
}

pub(crate) fn apply_closed(shared: &Shared, commit: CommitId, time: Time) {
    if let Some(line) = shared.log.lock().iter_mut().rev().find(|line| line.commit == commit) {
        line.closed = Some(time);
    }
}

/// From here on main shows the base itself.
pub(crate) fn apply_done(shared: &Shared, commit: CommitId) -> Vec<LayerId> {
    let main = shared.main();
    let mut data = main.data.write();
    data.tree = Tree::default();
    data.epoch = commit;
    std::mem::take(&mut data.layers)
}

/// Views of main forget what the branch changed; directories that moved keep their ids and are looked up.
fn moved_in_main(main: &Branch, moved: &Moved) -> impl Iterator<Item = Invalid> {
    let id = main.id();
    moved.dirs.iter().map(move |place| {
        let what = Invalidate::Entry { dir: place.slot.dir, name: place.slot.name.clone() };
        Invalid { branch: id, what }
    })
}
