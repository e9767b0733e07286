//! Conflicts decided path by path before a commit: ours, theirs, a merge of both, or none of it.
//!
//! Nothing is forced past the rules. What was decided changes what is compared, and then merge and planner look again:
//! for "ours" the two sides start from what they have there, for "theirs" the branch has left it alone, and a merge is
//! an "ours" with another version of the branch's object. What the rules go on refusing stays a conflict.

mod alike;
pub(super) mod base;
pub(super) mod branch;
mod graft;
pub(super) mod texts;
mod versions;

use std::collections::{BTreeSet, HashMap};

use crate::branch::Shared;
use crate::commit::choose::graft::is_whole;
use crate::commit::choose::texts::{Fresh, Merger};
use crate::commit::choose::versions::Version;
use crate::commit::clash::{Clash, Sides, in_order};
use crate::conflict::Conflict;
use crate::error::{Error, Result};
use crate::tree::Tree;

/// Why what could be merged is no version of one path.
const ELSEWHERE: &str = "a part of it is elsewhere, too, or gone";

/// What a commit does on a path where it meets what others did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Nothing: the whole commit is refused.
    Refuse,
    /// The branch's version wins. What they had is among the preimages, if they are the base.
    Ours,
    /// The branch's change of this path is dropped.
    Theirs,
    /// The changes of both to a file, put together: bytes as the merger says, attributes one by one. Refused where that
    /// does not work out.
    Merge(Merger),
}

/// Decides each conflict. It is called under the locks of a commit: it must only look at what it is given.
pub type Resolver<'a> = &'a dyn Fn(&Conflict) -> Choice;

/// A conflict that a choice decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What it was.
    pub conflict: Conflict,
    /// What was chosen.
    pub choice: Choice,
    /// Conflicts of lines that are left in the merged text, between markers.
    pub markers: usize,
}

/// What becomes of a conflict.
#[derive(Debug, Clone)]
enum Decision {
    Ours,
    Theirs,
    /// Ours, which first becomes this.
    Version(Box<Version>),
}

/// A decided conflict, about to be carried out.
pub(super) struct Taken {
    pub(super) clash: Clash,
    pub(super) conflict: Conflict,
    decision: Decision,
    /// After all others: what is about a name that an object moved away from, once it is where it is.
    last: bool,
}

/// What has been decided so far.
pub(super) struct Chosen<'a> {
    resolver: Resolver<'a>,
    /// Names of the branch and of what it is committed into.
    names: [&'a str; 2],
    paths: BTreeSet<Vec<u8>>,
    /// Both sides did the same: nobody is asked, and nobody told.
    equal: Vec<Conflict>,
    /// All others, with what was chosen.
    pub(super) resolved: Vec<Resolved>,
    pub(super) fresh: Fresh<'a>,
}

/// How one conflict was decided, and how many conflicts of lines are left marked.
type Verdict = std::result::Result<(Decision, usize), Option<String>>;

impl<'a> Chosen<'a> {
    pub(super) fn new(shared: &'a Shared, resolver: Resolver<'a>, names: [&'a str; 2]) -> Chosen<'a> {
        let fresh = Fresh::new(shared);
        Chosen { resolver, names, paths: BTreeSet::new(), equal: Vec::new(), resolved: Vec::new(), fresh }
    }

    /// After the last choice: what came of them must be a tree.
    ///
    /// # Errors
    /// `Conflicts`: all that were decided, as if they had not been.
    pub(super) fn check(&self, tree: &Tree) -> Result<()> {
        if self.paths.is_empty() || is_whole(tree) {
            return Ok(());
        }
        let resolved = self.resolved.iter().map(|resolved| &resolved.conflict);
        refuse(resolved.chain(&self.equal).cloned().collect())
    }

    /// The next decisions, parents before what is in them; what cannot be decided is an error, all of it.
    ///
    /// # Errors
    /// `Conflicts`, and the host's.
    pub(super) fn next(&mut self, sides: &Sides<'_>, clashes: &[Clash]) -> Result<Vec<Taken>> {
        let mut refused = Vec::new();
        let mut taken = Vec::new();
        // A path with two clashes is merged once.
        let mut versions: HashMap<Vec<u8>, (Decision, usize)> = HashMap::new();
        for clash in clashes {
            let clash = &sides.at_name(clash);
            let mut conflict = sides.conflict(clash)?;
            // Decided once and still there: the rules do not allow it.
            if self.paths.contains(&clash.path) {
                refused.push(conflict);
                continue;
            }
            let moved = alike::is_moved_alike(sides, clash)?;
            let equal = if moved { Some(Decision::Theirs) } else { alike::decide(sides, clash, &conflict)? };
            if let Some(decision) = equal {
                self.equal.push(conflict.clone());
                taken.push(Taken { clash: clash.clone(), conflict, decision, last: moved });
                continue;
            }
            let choice = (self.resolver)(&conflict);
            let known = versions.get(&clash.path[..]).filter(|_| matches!(choice, Choice::Merge(_))).cloned();
            let verdict = match known {
                Some(known) => Ok(known),
                None => self.decide(sides, clash, &conflict, choice)?,
            };
            match verdict {
                Err(why) => {
                    conflict.unmerged = why;
                    refused.push(conflict);
                }
                Ok((decision, markers)) => {
                    if matches!(decision, Decision::Version(_)) {
                        versions.insert(clash.path.clone(), (decision.clone(), markers));
                    }
                    self.resolved.push(Resolved { conflict: conflict.clone(), choice, markers });
                    // Told only if the rules refuse it yet.
                    conflict.unmerged =
                        matches!(decision, Decision::Version(_)).then(|| ELSEWHERE.to_owned());
                    taken.push(Taken { clash: clash.clone(), conflict, decision, last: false });
                }
            }
        }
        if !refused.is_empty() {
            refuse(refused)?;
        }
        taken.sort_by(|a, b| (a.last, &a.clash.path).cmp(&(b.last, &b.clash.path)));
        self.paths.extend(taken.iter().map(|taken| taken.clash.path.clone()));
        Ok(taken)
    }

    fn decide(
        &mut self,
        sides: &Sides<'_>,
        clash: &Clash,
        conflict: &Conflict,
        choice: Choice,
    ) -> Result<Verdict> {
        Ok(match choice {
            Choice::Refuse => Err(None),
            Choice::Ours => Ok((Decision::Ours, 0)),
            Choice::Theirs => Ok((Decision::Theirs, 0)),
            Choice::Merge(merger) => {
                let merged = texts::merge(sides, clash, conflict, (merger, self.names), &mut self.fresh)?;
                merged.map(|(version, markers)| (Decision::Version(Box::new(version)), markers)).map_err(Some)
            }
        })
    }
}

/// What cannot be decided is refused, if there is any.
pub(super) fn refuse(conflicts: Vec<Conflict>) -> Result<()> {
    if conflicts.is_empty() { Ok(()) } else { Err(Error::Conflicts(in_order(conflicts))) }
}
