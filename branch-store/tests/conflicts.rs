//! Conflicts as data: what a commit that cannot proceed says of each path, into a branch and into the base, and what
//! comes of it when somebody decides (S14, S15).

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use branch_store::*;
use common::gate::Fuse;
use common::{Paths, Workspace, chmod, link};
use rustix::io::Errno;

const FILES: &[(&str, &str)] = &[("f", "base"), ("d/g", "base"), ("d/h", "h"), ("z", "z")];

type Act = fn(&Arc<Branch>) -> Result<()>;

/// `rm -r` of `d`.
fn remove_d(branch: &Arc<Branch>) -> Result<()> {
    branch.names("d")?.iter().try_for_each(|name| branch.remove(&format!("d/{name}")))?;
    branch.remove_dir("d")
}

/// What they do, what the branch does, and the conflict: path, kind, other paths, base/ours/theirs. Where a merge of
/// trees and a walk over the base meet different things first, there is a case for each.
struct Case {
    name: &'static str,
    targets: &'static [Target],
    theirs: Act,
    ours: Act,
    path: &'static str,
    kind: ConflictKind,
    others: &'static [&'static str],
    sides: [&'static str; 3],
}

const BRANCH: &[Target] = &[Target::Branch];
const BASE: &[Target] = &[Target::Base];
const BOTH: &[Target] = &[Target::Branch, Target::Base];

const CASES: &[Case] = &[
    Case {
        name: "both edit",
        targets: BOTH,
        theirs: |b| b.put("f", "their content"),
        ours: |b| b.put("f", "ours"),
        path: "f",
        kind: ConflictKind::Content,
        others: &[],
        sides: ["file 644 4", "file 644 4", "file 644 13"],
    },
    Case {
        name: "both replace",
        targets: BOTH,
        theirs: |b| b.put("new", "their content").and_then(|()| b.mv("new", "f")),
        ours: |b| b.put("new", "our one").and_then(|()| b.mv("new", "f")),
        path: "f",
        kind: ConflictKind::Content,
        others: &[],
        sides: ["file 644 4", "file 644 7", "file 644 13"],
    },
    Case {
        name: "both chmod",
        targets: BOTH,
        theirs: |b| chmod(b, "f", 0o600),
        ours: |b| chmod(b, "f", 0o640),
        path: "f",
        kind: ConflictKind::Attributes,
        others: &[],
        sides: ["file 644 4", "file 640 4", "file 600 4"],
    },
    Case {
        name: "they edit, we chmod",
        targets: BOTH,
        theirs: |b| b.put("f", "their content"),
        ours: |b| chmod(b, "f", 0o640),
        path: "f",
        kind: ConflictKind::Attributes,
        others: &[],
        sides: ["file 644 4", "file 640 4", "file 644 13"],
    },
    Case {
        name: "both chmod a directory",
        targets: BOTH,
        theirs: |b| chmod(b, "d", 0o700),
        ours: |b| chmod(b, "d", 0o750),
        path: "d",
        kind: ConflictKind::Attributes,
        others: &[],
        sides: ["dir 755", "dir 750", "dir 700"],
    },
    Case {
        name: "they remove, we edit",
        targets: BOTH,
        theirs: |b| b.remove("f"),
        ours: |b| b.put("f", "our content"),
        path: "f",
        kind: ConflictKind::ModifyDelete,
        others: &[],
        sides: ["file 644 4", "file 644 11", "-"],
    },
    Case {
        name: "they edit, we remove",
        targets: BOTH,
        theirs: |b| b.put("f", "their content"),
        ours: |b| b.remove("f"),
        path: "f",
        kind: ConflictKind::DeleteModify,
        others: &[],
        sides: ["file 644 4", "-", "file 644 13"],
    },
    Case {
        name: "both make a file",
        targets: BOTH,
        theirs: |b| b.put("n", "their content"),
        ours: |b| b.put("n", "ours"),
        path: "n",
        kind: ConflictKind::CreateCreate,
        others: &[],
        sides: ["-", "file 644 4", "file 644 13"],
    },
    Case {
        name: "they make a directory, we a file",
        targets: BOTH,
        theirs: |b| b.make_dir("n"),
        ours: |b| b.put("n", "ours"),
        path: "n",
        kind: ConflictKind::Type,
        others: &[],
        sides: ["-", "file 644 4", "dir 755"],
    },
    Case {
        name: "they make a link, we a file",
        targets: BOTH,
        theirs: |b| link(b, "n", "z"),
        ours: |b| b.put("n", "ours"),
        path: "n",
        kind: ConflictKind::Type,
        others: &[],
        sides: ["-", "file 644 4", "link z"],
    },
    Case {
        name: "both move a file",
        targets: BRANCH,
        theirs: |b| b.mv("f", "their"),
        ours: |b| b.mv("f", "our"),
        path: "our",
        kind: ConflictKind::RenameRename,
        others: &["f", "their"],
        sides: ["file 644 4", "file 644 4", "file 644 4"],
    },
    Case {
        name: "both move a file",
        targets: BASE,
        theirs: |b| b.mv("f", "their"),
        ours: |b| b.mv("f", "our"),
        path: "f",
        kind: ConflictKind::RenameRename,
        others: &["our", "their"],
        sides: ["file 644 4", "file 644 4", "file 644 4"],
    },
    Case {
        name: "they remove, we move",
        targets: BASE,
        theirs: |b| b.remove("f"),
        ours: |b| b.mv("f", "our"),
        path: "f",
        kind: ConflictKind::RenameDelete,
        others: &["our"],
        sides: ["file 644 4", "file 644 4", "-"],
    },
    Case {
        name: "they remove, we move",
        targets: BRANCH,
        theirs: |b| b.remove("f"),
        ours: |b| b.mv("f", "our"),
        path: "our",
        kind: ConflictKind::RenameDelete,
        others: &["f"],
        sides: ["file 644 4", "file 644 4", "-"],
    },
    Case {
        name: "they move, we remove",
        targets: BOTH,
        theirs: |b| b.mv("f", "their"),
        ours: |b| b.remove("f"),
        path: "f",
        kind: ConflictKind::DeleteRename,
        others: &["their"],
        sides: ["file 644 4", "-", "file 644 4"],
    },
    Case {
        name: "they make a file in a directory that we remove",
        targets: BASE,
        theirs: |b| b.put("d/n", "precious"),
        ours: remove_d,
        path: "d/n",
        kind: ConflictKind::CreatedInRemoved,
        others: &[],
        sides: ["-", "-", "file 644 8"],
    },
    Case {
        name: "they make a file in a directory that we remove",
        targets: BRANCH,
        theirs: |b| b.put("d/n", "precious"),
        ours: remove_d,
        path: "d",
        kind: ConflictKind::DeleteModify,
        others: &[],
        sides: ["dir 755", "-", "dir 755"],
    },
    Case {
        name: "they remove the directory that we make a file in",
        targets: BRANCH,
        theirs: remove_d,
        ours: |b| b.put("d/n", "precious"),
        path: "d/n",
        kind: ConflictKind::RemovedAround,
        others: &[],
        sides: ["-", "file 644 8", "-"],
    },
    Case {
        name: "they remove the directory that we make a file in",
        targets: BASE,
        theirs: remove_d,
        ours: |b| b.put("d/n", "precious"),
        path: "d",
        kind: ConflictKind::ModifyDelete,
        others: &[],
        sides: ["dir 755", "dir 755", "-"],
    },
];

fn facts(version: Option<&Version>) -> String {
    let Some(version) = version else { return "-".to_owned() };
    match (version.kind, &version.target) {
        (Kind::File, _) => format!("file {:o} {}", version.mode, version.size.unwrap()),
        (Kind::Dir, _) => format!("dir {:o}", version.mode),
        (Kind::Symlink, Some(target)) => format!("link {}", String::from_utf8_lossy(target)),
        (other, _) => format!("{other:?}"),
    }
}

fn conflicts(committed: Result<Committed>) -> Vec<Conflict> {
    let Err(Error::Conflicts(conflicts)) = committed else { panic!("{committed:?}") };
    assert!(conflicts.is_sorted_by_key(|conflict| conflict.path.clone()));
    conflicts
}

fn shown(conflict: &Conflict) -> String {
    let path = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
    let others: Vec<String> = conflict.others.iter().map(path).collect();
    let sides = [&conflict.base, &conflict.ours, &conflict.theirs].map(|side| facts(side.as_ref()));
    format!("{} {:?} {others:?} {sides:?}", path(&conflict.path), conflict.kind)
}

fn expected(case: &Case) -> String {
    format!("{} {:?} {:?} {:?}", case.path, case.kind, case.others, case.sides)
}

/// A sibling commits first, into a parent branch and into the base; the store is opened again or not.
#[test]
fn every_kind_of_conflict_is_told_with_what_both_sides_have() {
    let mut wrong = Vec::new();
    for case in CASES {
        let rounds = case.targets.iter().flat_map(|target| [(*target, false), (*target, true)]);
        for (target, restart) in rounds {
            let parent = if target == Target::Branch { "p" } else { "main" };
            let mut w = Workspace::new(FILES);
            w.fork("main", "p");
            let ab = w.fork_as(parent, &["a", "b"], GroupKind::Independent);
            (case.theirs)(&ab[0]).unwrap();
            (case.ours)(&ab[1]).unwrap();
            w.store().commit(&ab[0]).unwrap();
            drop(ab);
            if restart {
                w.reopen();
            }
            let before = (w.branch(parent).tree(), w.branch("b").tree(), w.base_tree());
            let found = conflicts(w.store().commit(&w.branch("b")));
            assert!(found.iter().all(|conflict| conflict.target == target));
            let all: Vec<String> = found.iter().map(shown).collect();
            if !all.contains(&expected(case)) {
                wrong.push(format!("{} into {parent}: {all:#?}, not {}", case.name, expected(case)));
            }
            assert_eq!(
                (w.branch(parent).tree(), w.branch("b").tree(), w.base_tree()),
                before,
                "{}",
                case.name
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Somebody edits the base behind the branch's back: the branch remembers what it saw first.
#[test]
fn an_edit_outside_is_told_with_what_the_branch_saw_first() {
    type Outside = fn(&Path) -> std::io::Result<()>;
    let cases: &[(&str, Outside, Act, &str)] = &[
        (
            "edit",
            |p| std::fs::write(p.join("f"), "outside"),
            |b| b.put("f", "ours"),
            r#"f Content [] ["file 644 4", "file 644 4", "file 644 7"]"#,
        ),
        (
            "edit that keeps size and modification time",
            |p| {
                let file = std::fs::File::options().write(true).open(p.join("f"))?;
                let before = file.metadata()?.modified()?;
                std::os::unix::fs::FileExt::write_all_at(&file, b"BASE", 0)?;
                file.set_modified(before)
            },
            |b| b.put("f", "ours"),
            r#"f Attributes [] ["file 644 4", "file 644 4", "file 644 4"]"#,
        ),
        (
            "another object",
            |p| {
                std::fs::write(p.join("x"), "outside")
                    .and_then(|()| std::fs::rename(p.join("x"), p.join("f")))
            },
            |b| b.put("f", "ours"),
            r#"f Content [] ["file 644 4", "file 644 4", "file 644 7"]"#,
        ),
        (
            "chmod of a file",
            |p| std::fs::set_permissions(p.join("f"), std::fs::Permissions::from_mode(0o600)),
            |b| b.put("f", "ours"),
            r#"f Attributes [] ["file 644 4", "file 644 4", "file 600 4"]"#,
        ),
        (
            "chmod of a directory",
            |p| std::fs::set_permissions(p.join("d"), std::fs::Permissions::from_mode(0o700)),
            |b| chmod(b, "d", 0o711),
            r#"d Attributes [] ["dir 755", "dir 711", "dir 700"]"#,
        ),
        (
            "removal",
            |p| std::fs::remove_file(p.join("f")),
            |b| b.put("f", "ours"),
            r#"f ModifyDelete [] ["file 644 4", "file 644 4", "-"]"#,
        ),
        (
            "a new file",
            |p| std::fs::write(p.join("n"), "outside"),
            |b| b.put("n", "ours"),
            r#"n CreateCreate [] ["-", "file 644 4", "file 644 7"]"#,
        ),
    ];
    for (name, outside, act, expected) in cases {
        let mut w = Workspace::new(FILES);
        let a = w.fork("main", "a");
        act(&a).unwrap();
        drop(a);
        outside(&w.base()).unwrap();
        w.reopen();
        let all: Vec<String> = conflicts(w.store().commit(&w.branch("a"))).iter().map(shown).collect();
        assert_eq!(all, [*expected], "{name}");
    }
}

#[test]
fn every_kind_has_words_of_its_own_that_name_the_target() {
    for target in [Target::Base, Target::Branch] {
        let words: std::collections::BTreeSet<String> =
            ConflictKind::ALL.iter().map(|kind| kind.reason(target)).collect();
        assert_eq!(words.len(), ConflictKind::ALL.len());
    }
    assert!(ConflictKind::Content.reason(Target::Base).contains("the base"));
    assert!(ConflictKind::Content.reason(Target::Branch).contains("the parent"));
}

/// A branch and a sibling that has committed, with a conflict between them and a file of each that is none.
fn met(case: &Case, target: Target) -> Workspace {
    let w = Workspace::new(FILES);
    w.fork("main", "p");
    let parent = if target == Target::Branch { "p" } else { "main" };
    let ab = w.fork_as(parent, &["a", "b"], GroupKind::Independent);
    (case.theirs)(&ab[0]).unwrap();
    (case.ours)(&ab[1]).unwrap();
    ab[0].put("theirs alone", "theirs").unwrap();
    ab[1].put("ours alone", "ours").unwrap();
    w.store().commit(&ab[0]).unwrap();
    w
}

/// Cases that a choice on the path cannot decide: what was moved has another path, or what the branch needs of the base
/// is no more there.
fn cannot(case: &Case, target: Target, choice: Choice) -> bool {
    match (case.kind, choice) {
        (ConflictKind::RenameDelete, Choice::Theirs) => target == Target::Base,
        (ConflictKind::DeleteRename, Choice::Theirs) => target == Target::Branch,
        (ConflictKind::RenameRename | ConflictKind::DeleteRename | ConflictKind::RenameDelete, _) => true,
        (_, Choice::Ours) if target == Target::Base => {
            ["they edit, we chmod", "they remove the directory that we make a file in"].contains(&case.name)
        }
        _ => false,
    }
}

#[test]
fn ours_and_theirs_decide_a_path_and_leave_the_others_alone() {
    let mut wrong = Vec::new();
    for case in CASES {
        for (target, choice, restart) in case.targets.iter().flat_map(|target| {
            [Choice::Ours, Choice::Theirs]
                .into_iter()
                .flat_map(|choice| [(*target, choice, false), (*target, choice, true)])
        }) {
            let mut w = met(case, target);
            let parent = if target == Target::Branch { "p" } else { "main" };
            let name = format!("{} into {parent}: {choice:?}", case.name);
            let (theirs, ours) = (w.branch(parent).tree(), w.branch("b").tree());
            let previewed = w.store().preview(&w.branch("b"), &|_| choice).unwrap();
            assert_eq!(
                (w.branch(parent).tree(), w.branch("b").tree()),
                (theirs.clone(), ours.clone()),
                "{name}"
            );
            let committed = w.store().commit_with(&w.branch("b"), &|_| choice);
            if cannot(case, target, choice) {
                if committed.is_ok() {
                    wrong.push(format!("{name}: it can"));
                    continue;
                }
                assert_eq!(previewed.conflicts, conflicts(committed), "{name}");
                assert_eq!((w.branch(parent).tree(), w.branch("b").tree()), (theirs, ours), "{name}");
                continue;
            }
            let Ok(committed) = committed else {
                wrong.push(format!("{name}: {committed:?}"));
                continue;
            };
            assert_eq!(previewed.resolved, committed.resolved, "{name}");
            assert!(
                committed.resolved.iter().any(|r| r.choice == choice && r.conflict.kind == case.kind),
                "{name}"
            );
            let (mut expected, other) = match choice {
                Choice::Ours => (ours, "theirs alone"),
                _ => (theirs, "ours alone"),
            };
            expected.insert(other.to_owned(), w.branch(parent).tree()[other].clone());
            drop((previewed, committed));
            if restart {
                w.reopen();
            }
            let mut got = w.branch(parent).tree();
            if target == Target::Base {
                assert_eq!(got, w.base_tree(), "{name}");
            }
            if got != expected {
                got.retain(|path, what| expected.get(path) != Some(what));
                wrong.push(format!("{name}: {got:?} in {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What was decided is a tree like any other: it goes on into the base, and the branch that lost nothing goes on, too.
#[test]
fn what_was_decided_in_a_branch_is_committed_into_the_base_as_seen() {
    for case in CASES.iter().filter(|case| case.targets.contains(&Target::Branch)) {
        for choice in [Choice::Ours, Choice::Theirs] {
            let w = met(case, Target::Branch);
            if w.store().commit_with(&w.branch("b"), &|_| choice).is_err() {
                assert!(cannot(case, Target::Branch, choice), "{}", case.name);
                continue;
            }
            let seen = w.branch("p").tree();
            w.store().commit(&w.branch("p")).unwrap();
            assert_eq!(w.base_tree(), seen, "{} {choice:?}", case.name);
        }
    }
}

#[test]
fn one_path_that_is_refused_refuses_the_whole_commit() {
    for target in [Target::Branch, Target::Base] {
        let both = Case {
            theirs: |b| b.put("f", "their content").and_then(|()| b.put("z", "their content")),
            ours: |b| b.put("f", "ours").and_then(|()| b.put("z", "ours")),
            ..CASES[0]
        };
        let w = met(&both, target);
        let only_f = |conflict: &Conflict| match &conflict.path[..] {
            b"f" => Choice::Ours,
            _ => Choice::Refuse,
        };
        let before = w.branch("b").tree();
        let left = conflicts(w.store().commit_with(&w.branch("b"), &only_f));
        assert_eq!(left.iter().map(|c| &c.path[..]).collect::<Vec<_>>(), [b"z"]);
        assert_eq!(w.branch("b").tree(), before);
        let each = |conflict: &Conflict| if conflict.path == b"f" { Choice::Ours } else { Choice::Theirs };
        w.store().commit_with(&w.branch("b"), &each).unwrap();
        let parent = w.branch(if target == Target::Branch { "p" } else { "main" });
        assert_eq!([parent.read_all("f").unwrap(), parent.read_all("z").unwrap()], ["ours", "their content"]);
    }
}

/// A whole directory removed against what they did in it, and files of the base below one that is brought back.
#[test]
fn a_removed_directory_is_removed_whole_or_kept_whole() {
    for choice in [Choice::Ours, Choice::Theirs] {
        for deep in ["d/n", "d/g"] {
            let mut w = Workspace::new(FILES);
            remove_d(&w.fork("main", "b")).unwrap();
            std::fs::write(w.base().join(deep), "precious").unwrap();
            w.reopen();
            let before = w.base_tree();
            w.store().commit_with(&w.branch("b"), &|_| choice).unwrap();
            let mut expected = before;
            if choice == Choice::Ours {
                expected.retain(|path, _| !path.starts_with("d"));
            }
            assert_eq!(w.base_tree(), expected, "{deep} {choice:?}");
        }
    }
}

/// The plan of a dry run is the plan of the commit, and nothing is staged for it.
#[test]
fn a_preview_names_every_step_and_changes_nothing() {
    let w = Workspace::new(FILES);
    let a = w.fork("main", "a");
    a.put("f", "changed").unwrap();
    a.put("new", "new").unwrap();
    a.remove("z").unwrap();
    a.mv("d/g", "g").unwrap();
    let before =
        (w.base_tree(), a.tree(), std::fs::read_dir(w.base().join(".branchfs/preimage")).unwrap().count());
    let preview = w.store().preview(&a, &|_| Choice::Refuse).unwrap();
    let step = |step: &PlannedStep| {
        let text = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
        format!(
            "{:?} {}{}",
            step.action,
            text(&step.path),
            step.from.as_ref().map_or(String::new(), |f| format!(" from {}", text(f)))
        )
    };
    let steps: Vec<String> = preview.steps.iter().map(step).collect();
    let attributes = ["Attributes d", "Attributes "].map(str::to_owned);
    for expected in ["Replace f", "Create new", "Remove z", "Detach d/g", "Move g from d/g"]
        .map(str::to_owned)
        .iter()
        .chain(&attributes)
    {
        assert!(steps.contains(expected), "{expected:?} in {steps:?}");
    }
    assert!(preview.conflicts.is_empty() && preview.into.is_main());
    let after =
        (w.base_tree(), a.tree(), std::fs::read_dir(w.base().join(".branchfs/preimage")).unwrap().count());
    assert_eq!(after, before);
    a.put("f", "the branch takes changes").unwrap();
}

/// The decided tree is one decision with the rest: a death at any call leaves all of it or nothing, and a branch that
/// was not committed has lost nothing to the choices.
#[test]
fn a_death_at_any_call_of_a_decided_commit_leaves_all_or_nothing() {
    let met_on_three = Case {
        theirs: |b| {
            b.put("f", "their content")?;
            b.put("z", "their content")?;
            b.remove("d/h")
        },
        ours: |b| {
            b.put("f", "ours")?;
            b.remove("z")?;
            b.put("d/h", "ours")
        },
        ..CASES[0]
    };
    let each = |conflict: &Conflict| if conflict.path == b"z" { Choice::Theirs } else { Choice::Ours };
    for (target, parent) in [(Target::Branch, "p"), (Target::Base, "main")] {
        let pictures = |w: &Workspace| (w.branch(parent).tree(), w.base_tree());
        let decide = |w: &Workspace| w.store().commit_with(&w.branch("b"), &each).map(drop);
        let mut w = met(&met_on_three, target);
        let (before, ours) = (pictures(&w), w.branch("b").tree());
        let fuse = Fuse::counting();
        w.reopen_on(Disk::guarded(fuse.clone())).unwrap();
        decide(&w).unwrap();
        let (after, calls) = (pictures(&w), fuse.calls());
        println!("{parent}: {calls} calls, each a crash point");
        assert!(calls > 1, "the scenario reaches the disk");
        assert!(after.0["z"].ends_with("their content") && after.0["d/h"].ends_with("ours"));
        for k in 0..calls {
            let mut w = met(&met_on_three, target);
            let opened = w.reopen_on(Disk::guarded(Fuse::new(k, Errno::IO, false)));
            let acknowledged = opened.is_ok() && decide(&w).is_ok();
            w.reopen();
            if pictures(&w) == after {
                assert!(w.store().branch("b").is_err(), "{parent}: died at call {k}: it is committed");
                continue;
            }
            assert!(!acknowledged, "{parent}: died at call {k} after it was acknowledged");
            assert_eq!(
                (pictures(&w), w.branch("b").tree()),
                (before.clone(), ours.clone()),
                "{parent}: call {k}"
            );
            decide(&w).unwrap();
            assert_eq!(pictures(&w), after, "{parent}: died at call {k}, and tried again");
        }
    }
}
