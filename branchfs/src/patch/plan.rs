//! From what differs to the steps git knows, and the order it needs them in.

use branch_store::{ChangeKind, Kind, PathChange, Stat};

use super::omitted::{Tally, Why};
use super::quote::is_reserved;

/// What git tells objects apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Plain,
    Executable,
    Link,
}

/// A path and what git has there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct File<'a> {
    pub(super) path: &'a [u8],
    pub(super) mode: Mode,
}

/// One entry of a patch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    Delete(File<'a>),
    Create(File<'a>),
    /// Content, mode, path, or some of them. `other_attributes`: more changed than these.
    Change {
        from: File<'a>,
        to: File<'a>,
        other_attributes: bool,
    },
}

/// The steps, by the path they end at; counts what git has no words for.
pub(super) fn plan<'a>(changes: &'a [PathChange], tally: &mut Tally) -> Vec<Step<'a>> {
    let mut steps: Vec<Step<'a>> = changes.iter().flat_map(|change| steps_of(change, tally)).collect();
    // Git sees a path as earlier steps left it: what goes from there goes before anything comes.
    steps.sort_by_key(|step| match step {
        Step::Delete(file) => (file.path, 0),
        Step::Create(file) | Step::Change { to: file, .. } => (file.path, 1),
    });
    steps
}

fn steps_of<'a>(change: &'a PathChange, tally: &mut Tally) -> Vec<Step<'a>> {
    let from = match &change.kind {
        ChangeKind::Renamed { from } => from,
        _ => &change.path,
    };
    let before = change.old.as_ref().map(|stat| file(from, stat));
    let after = change.new.as_ref().map(|stat| file(&change.path, stat));
    if let Some(why) = unsaid(&change.kind, before, after) {
        tally.add(why, &change.path);
    }
    if change.kind == ChangeKind::Attributes && before == after || before == Some(Err(Why::Special)) {
        // Git would find a special file in its way.
        return Vec::new();
    }
    match (before.and_then(Result::ok), after.and_then(Result::ok)) {
        (Some(from), Some(to)) if is_one(from, to) => {
            let other_attributes = attributes(&change.old) != attributes(&change.new);
            vec![Step::Change { from, to, other_attributes }]
        }
        (before, after) => before.map(Step::Delete).into_iter().chain(after.map(Step::Create)).collect(),
    }
}

type Sayable<'a> = Result<File<'a>, Why>;

/// An object as git has it, or why it cannot.
fn file<'a>(path: &'a [u8], stat: &Stat) -> Sayable<'a> {
    let mode = match stat.kind {
        Kind::Symlink => Mode::Link,
        Kind::File if stat.mode & 0o100 != 0 => Mode::Executable,
        Kind::File => Mode::Plain,
        Kind::Dir => return Err(Why::EmptyDirectory),
        Kind::Fifo | Kind::Socket | Kind::Char | Kind::Block => return Err(Why::Special),
    };
    if is_reserved(path, mode == Mode::Link) { Err(Why::Reserved) } else { Ok(File { path, mode }) }
}

/// What of a change, looked at without its content, git has no words for.
fn unsaid(kind: &ChangeKind, before: Option<Sayable<'_>>, after: Option<Sayable<'_>>) -> Option<Why> {
    match (kind, before, after) {
        (ChangeKind::Attributes, _, Some(Ok(_) | Err(Why::EmptyDirectory))) => {
            (before == after).then_some(Why::Attributes)
        }
        (_, _, Some(Err(why))) => Some(why),
        // Git removes an empty directory where a file is to be.
        (_, Some(Err(Why::EmptyDirectory)), Some(Ok(_))) => None,
        (_, Some(Err(why)), _) => Some(why),
        (_, None | Some(Ok(_)), None | Some(Ok(_))) => None,
    }
}

/// Whether git can have the one as a change of the other. Not a link that moved: git learns of no mode from a pure
/// rename, and would not know that the old path can be a directory now.
fn is_one(from: File<'_>, to: File<'_>) -> bool {
    match (from.mode, to.mode) {
        (Mode::Link, Mode::Link) => from.path == to.path,
        (from, to) => from != Mode::Link && to != Mode::Link,
    }
}

/// Attributes beside the executable bit.
fn attributes(stat: &Option<Stat>) -> Option<(u32, u32, u32)> {
    stat.as_ref().map(|stat| (stat.mode & !0o111, stat.uid, stat.gid))
}
