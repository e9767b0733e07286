//! Files that both sides changed: equal changes are no conflict, others become one file where somebody asks for it
//! (S14). How lines are merged is the asker's business: here a line is what it is.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use branch_store::*;
use common::gate::Fuse;
use common::{Paths, Workspace, chmod, link};
use rustix::io::Errno;

const FILES: &[(&str, &str)] = &[("f", "1\n2\n3\n"), ("g", "1\n2\n3\n"), ("d/h", "1\n2\n3\n"), ("z", "z")];

type Act = fn(&Arc<Branch>) -> Result<()>;

/// Line by line, of texts of as many lines: enough to see which version went where.
fn by_line(texts: &Texts<'_>) -> std::result::Result<MergedText, String> {
    let base = texts.base.ok_or("both made it")?;
    let lines = |text: &[u8]| text.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let [base, ours, theirs] = [base, texts.ours, texts.theirs].map(lines);
    if base.len() != ours.len() || base.len() != theirs.len() {
        return Err("other lines".to_owned());
    }
    let mut bytes = Vec::new();
    for (n, base) in base.iter().enumerate() {
        let (our, their) = (&ours[n], &theirs[n]);
        match (our == base, their == base) {
            (_, true) => bytes.extend(our),
            (true, false) => bytes.extend(their),
            (false, false) => return Err(format!("both changed line {}", n + 1)),
        }
    }
    Ok(MergedText { bytes, markers: 0 })
}

/// Both names, and all three versions.
fn all_of_it(texts: &Texts<'_>) -> std::result::Result<MergedText, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let base = texts.base.map_or("-".to_owned(), text);
    let (ours, theirs) = (text(texts.ours), text(texts.theirs));
    let bytes = format!("{}:{ours} {}:{theirs} {base}", texts.our_name, texts.their_name).into_bytes();
    Ok(MergedText { bytes, markers: 2 })
}

const MERGE: Choice = Choice::Merge(Merger(by_line));

fn replace(branch: &Arc<Branch>, path: &str, content: &str) -> Result<()> {
    branch.put("new", content)?;
    branch.mv("new", path)
}

/// `p` below main, `a` and `b` below the parent; `a` has committed what they do, `b` has done what we do.
fn met(parent: &str, theirs: Act, ours: Act) -> Workspace {
    let w = Workspace::new(FILES);
    w.fork("main", "p");
    let ab = w.fork_as(parent, &["a", "b"], GroupKind::Independent);
    theirs(&ab[0]).unwrap();
    ours(&ab[1]).unwrap();
    w.store().commit(&ab[0]).unwrap();
    w
}

fn refused(committed: Result<Committed>) -> Vec<String> {
    let Err(Error::Conflicts(conflicts)) = committed else { panic!("{committed:?}") };
    let one = |conflict: &Conflict| {
        let path = String::from_utf8_lossy(&conflict.path).into_owned();
        format!("{path} {:?} {}", conflict.kind, conflict.unmerged.as_deref().unwrap_or("-"))
    };
    conflicts.iter().map(one).collect()
}

/// What becomes of the file: `Ok` with what a view shows of it, or why it is not merged.
struct Case {
    name: &'static str,
    theirs: Act,
    ours: Act,
    path: &'static str,
    becomes: std::result::Result<&'static str, &'static str>,
}

const CASES: &[Case] = &[
    Case {
        name: "both edit other lines",
        theirs: |b| b.put("f", "one\n2\n3\n"),
        ours: |b| b.put("f", "1\n2\nthree\n"),
        path: "f",
        becomes: Ok("File 644 x1 one\n2\nthree\n"),
    },
    Case {
        name: "both replace it",
        theirs: |b| replace(b, "d/h", "one\n2\n3\n"),
        ours: |b| replace(b, "d/h", "1\n2\nthree\n"),
        path: "d/h",
        becomes: Ok("File 644 x1 one\n2\nthree\n"),
    },
    Case {
        name: "they replace it, we edit it",
        theirs: |b| replace(b, "f", "one\n2\n3\n"),
        ours: |b| b.put("f", "1\n2\nthree\n"),
        path: "f",
        becomes: Ok("File 644 x1 one\n2\nthree\n"),
    },
    Case {
        name: "they edit it, we replace it",
        theirs: |b| b.put("f", "one\n2\n3\n"),
        ours: |b| replace(b, "f", "1\n2\nthree\n"),
        path: "f",
        becomes: Ok("File 644 x1 one\n2\nthree\n"),
    },
    Case {
        name: "they edit, we change the mode",
        theirs: |b| b.put("f", "\0"),
        ours: |b| chmod(b, "f", 0o755),
        path: "f",
        becomes: Ok("File 755 x1 \0"),
    },
    Case {
        name: "they change the mode, we edit",
        theirs: |b| chmod(b, "f", 0o755),
        ours: |b| b.put("f", "\0"),
        path: "f",
        becomes: Ok("File 755 x1 \0"),
    },
    Case {
        name: "both edit, and we change the mode",
        theirs: |b| b.put("f", "one\n2\n3\n"),
        ours: |b| b.put("f", "1\n2\nthree\n").and_then(|()| chmod(b, "f", 0o755)),
        path: "f",
        becomes: Ok("File 755 x1 one\n2\nthree\n"),
    },
    Case {
        name: "both change the mode",
        theirs: |b| b.put("f", "one\n2\n3\n").and_then(|()| chmod(b, "f", 0o700)),
        ours: |b| b.put("f", "1\n2\nthree\n").and_then(|()| chmod(b, "f", 0o755)),
        path: "f",
        becomes: Err("f Content both changed the same attribute, differently"),
    },
    Case {
        name: "both edit one line",
        theirs: |b| b.put("f", "1\ntwo\n3\n"),
        ours: |b| b.put("f", "1\nzwei\n3\n"),
        path: "f",
        becomes: Err("f Content both changed line 2"),
    },
    Case {
        name: "both make a file",
        theirs: |b| b.put("n", "one"),
        ours: |b| b.put("n", "eins"),
        path: "n",
        becomes: Err("n CreateCreate both made it"),
    },
    Case {
        name: "they remove it",
        theirs: |b| b.remove("f"),
        ours: |b| b.put("f", "1\n2\nthree\n"),
        path: "f",
        becomes: Err("f ModifyDelete not a regular file on both sides"),
    },
    Case {
        name: "both make a link",
        theirs: |b| link(b, "n", "f"),
        ours: |b| link(b, "n", "g"),
        path: "n",
        becomes: Err("n CreateCreate not a regular file on both sides"),
    },
    Case {
        name: "it had another name, too, and one side replaces this one",
        theirs: |b| replace(b, "f", "one\n2\n3\n"),
        ours: |b| b.ln("f", "l").and_then(|()| b.put("f", "1\n2\nthree\n")),
        path: "f",
        becomes: Err("f Content it has several names"),
    },
];

#[test]
fn changes_of_both_become_one_file_where_somebody_asks_for_it() {
    for case in CASES {
        for (parent, restart) in [("p", false), ("p", true), ("main", false), ("main", true)] {
            let mut w = met(parent, case.theirs, case.ours);
            let name = format!("{} into {parent}", case.name);
            let (theirs, ours) = (w.branch(parent).tree(), w.branch("b").tree());
            let layers = layers(&w);
            let previewed = w.store().preview(&w.branch("b"), &|_| MERGE).unwrap();
            let committed = w.store().commit_with(&w.branch("b"), &|_| MERGE);
            match case.becomes {
                Ok(becomes) => {
                    let committed = committed.unwrap_or_else(|e| panic!("{name}: {e:?}"));
                    assert_eq!(committed.resolved, previewed.resolved, "{name}");
                    assert!(committed.resolved.iter().all(|r| r.choice == MERGE && r.markers == 0), "{name}");
                    assert!(!committed.resolved.is_empty(), "{name}");
                    drop((committed, previewed));
                    if restart {
                        w.reopen();
                    }
                    let mut expected = theirs;
                    expected.insert(case.path.to_owned(), becomes.to_owned());
                    assert_eq!(w.branch(parent).tree(), expected, "{name}");
                    if parent == "p" {
                        w.store().commit(&w.branch("p")).unwrap();
                    }
                    assert_eq!(w.base_tree(), expected, "{name}");
                    // Nothing of it stays in the store: the parent took it along, and the base has it.
                    w.reopen();
                    assert!(self::layers(&w).is_empty(), "{name}: {:?}", self::layers(&w));
                }
                Err(why) => {
                    let found = refused(committed);
                    assert!(found.contains(&why.to_owned()), "{name}: {found:?}");
                    assert_eq!(refused(Err(Error::Conflicts(previewed.conflicts))), found, "{name}");
                    assert_eq!((w.branch(parent).tree(), w.branch("b").tree()), (theirs, ours), "{name}");
                    assert_eq!(self::layers(&w), layers, "{name}: nothing is left behind");
                }
            }
        }
    }
}

/// Directories of content files.
fn layers(w: &Workspace) -> Vec<String> {
    let names = std::fs::read_dir(w.base().join(".branchfs/content")).unwrap();
    let mut names: Vec<String> = names.map(|n| n.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_merger_is_given_the_names_and_what_it_left_marked_is_told() {
    for (parent, expected) in [("p", "b:ours p:theirs 1\n2\n3\n"), ("main", "b:ours main:theirs 1\n2\n3\n")] {
        let w = met(parent, |b| b.put("f", "theirs"), |b| b.put("f", "ours"));
        let merge = Choice::Merge(Merger(all_of_it));
        let committed = w.store().commit_with(&w.branch("b"), &|_| merge).unwrap();
        assert_eq!((committed.resolved.len(), committed.resolved[0].markers), (1, 2));
        assert_eq!(w.branch(parent).read_all("f").unwrap(), expected);
        let w = met(parent, |b| b.put("n", "theirs"), |b| b.put("n", "ours"));
        w.store().commit_with(&w.branch("b"), &|_| merge).unwrap();
        assert_eq!(w.branch(parent).read_all("n").unwrap(), format!("b:ours {parent}:theirs -"));
    }
}

/// A renamed file is the same file: its lines merge, and it is where it was moved to.
#[test]
fn a_file_that_they_moved_and_both_edited_is_merged_where_it_is_now() {
    let w = met(
        "p",
        |b| b.put("f", "one\n2\n3\n").and_then(|()| b.mv("f", "moved")),
        |b| b.put("f", "1\n2\nthree\n"),
    );
    w.store().commit_with(&w.branch("b"), &|_| MERGE).unwrap();
    let p = w.branch("p");
    assert_eq!(p.read_all("moved").unwrap(), "one\n2\nthree\n");
    assert!(p.at("f").is_err());
}

#[test]
fn a_file_of_more_bytes_than_the_limit_is_merged_only_if_one_side_left_them_alone() {
    fn long(b: &Arc<Branch>, first: &str) -> Result<()> {
        b.put("f", first)?;
        let (object, _) = b.at("f")?;
        b.set_attr(&object, &AttrChange { size: Some(MERGE_MAX + 1), ..AttrChange::default() }).map(drop)
    }
    for parent in ["p", "main"] {
        let w = met(parent, |b| long(b, "a"), |b| b.put("f", "1\n"));
        assert_eq!(
            refused(w.store().commit_with(&w.branch("b"), &|_| MERGE)),
            ["f Content larger than 4 MiB"]
        );
        let w = met(parent, |b| long(b, "a"), |b| chmod(b, "f", 0o600));
        w.store().commit_with(&w.branch("b"), &|_| MERGE).unwrap();
        let (_, stat) = w.branch(parent).at("f").unwrap();
        assert_eq!((stat.size, stat.mode), (MERGE_MAX + 1, 0o600));
    }
}

/// Both did the same: nobody is asked. What is there stays, with its times.
#[test]
fn equal_changes_never_conflict() {
    let cases: &[(&str, Act, Act, &str)] = &[
        ("the same bytes", |b| b.put("f", "same"), |b| b.put("f", "same"), "f"),
        ("no bytes", |b| b.put("f", ""), |b| replace(b, "f", ""), "f"),
        ("the same new file", |b| replace(b, "f", "same"), |b| b.put("f", "same"), "f"),
        ("both made it", |b| b.put("n", "same"), |b| b.put("n", "same"), "n"),
        ("the same mode", |b| chmod(b, "f", 0o600), |b| chmod(b, "f", 0o600), "f"),
        ("the same link", |b| link(b, "n", "f"), |b| link(b, "n", "f"), "n"),
        (
            "another link",
            |b| b.remove("z").and_then(|()| link(b, "z", "f")),
            |b| b.remove("z").and_then(|()| link(b, "z", "f")),
            "z",
        ),
        ("the same move", |b| b.mv("f", "m"), |b| b.mv("f", "m"), "m"),
        ("the same move, the other way in the alphabet", |b| b.mv("f", "b"), |b| b.mv("f", "b"), "b"),
        ("the same move over another", |b| b.mv("f", "z"), |b| b.mv("f", "z"), "z"),
        (
            "the same move and the same bytes",
            |b| b.mv("f", "m").and_then(|()| b.put("m", "same")),
            |b| b.put("f", "same").and_then(|()| b.mv("f", "m")),
            "m",
        ),
        (
            "the same directory",
            |b| b.make_dir("n").and_then(|()| b.make_dir("n/e")).and_then(|()| b.put("n/e/x", "same")),
            |b| b.make_dir("n").and_then(|()| b.make_dir("n/e")).and_then(|()| b.put("n/e/x", "same")),
            "n/e/x",
        ),
    ];
    for (name, theirs, ours, path) in cases {
        for parent in ["p", "main"] {
            let mut w = met(parent, *theirs, *ours);
            w.branch("b").put("alone", "ours alone").unwrap();
            let (mut before, (_, stat)) = (w.branch(parent).tree(), w.branch(parent).at(path).unwrap());
            let committed =
                w.store().commit(&w.branch("b")).unwrap_or_else(|e| panic!("{name} {parent}: {e:?}"));
            assert!(committed.resolved.is_empty(), "{name}: nobody is told");
            drop(committed);
            w.reopen();
            before.insert("alone".to_owned(), "File 644 x1 ours alone".to_owned());
            assert_eq!(w.branch(parent).tree(), before, "{name} into {parent}");
            let (_, now) = w.branch(parent).at(path).unwrap();
            assert_eq!((now.mtime, now.mode), (stat.mtime, stat.mode), "{name} into {parent}");
        }
    }
}

#[test]
fn nearly_equal_changes_conflict() {
    let cases: &[(&str, Act, Act)] = &[
        ("other bytes of one length", |b| b.put("f", "same"), |b| b.put("f", "some")),
        ("another mode", |b| b.put("n", "same"), |b| b.put("n", "same").and_then(|()| chmod(b, "n", 0o600))),
        (
            "something else in it",
            |b| b.make_dir("n").and_then(|()| b.put("n/x", "same")),
            |b| b.make_dir("n").and_then(|()| b.put("n/x", "some")),
        ),
        (
            "something more in it",
            |b| b.make_dir("n"),
            |b| b.make_dir("n").and_then(|()| b.put("n/x", "some")),
        ),
        ("another target", |b| link(b, "n", "f"), |b| link(b, "n", "g")),
        ("another place", |b| b.mv("f", "m"), |b| b.mv("f", "n")),
        ("another file in one place", |b| b.mv("f", "m"), |b| b.mv("z", "m")),
        (
            "the same move and other bytes",
            |b| b.mv("f", "m"),
            |b| b.mv("f", "m").and_then(|()| b.put("m", "s")),
        ),
        (
            "the same move and another name",
            |b| b.mv("f", "m"),
            |b| b.mv("f", "m").and_then(|()| b.ln("m", "n")),
        ),
    ];
    for (name, theirs, ours) in cases {
        for parent in ["p", "main"] {
            let w = met(parent, *theirs, *ours);
            let committed = w.store().commit(&w.branch("b"));
            assert!(matches!(committed, Err(Error::Conflicts(_))), "{name} into {parent}: {committed:?}");
        }
    }
}

/// Attribute by attribute: one changed the mode, the other the owner, both wrote the same.
#[test]
fn equal_bytes_with_attributes_that_merge_are_no_conflict() {
    if common::skip_unless_root() {
        return;
    }
    fn chown(b: &Arc<Branch>) -> Result<()> {
        let change = AttrChange { uid: Some(1234), ..AttrChange::default() };
        b.set_attr(&b.at("f")?.0, &change).map(drop)
    }
    for parent in ["p", "main"] {
        let w = met(
            parent,
            |b| b.put("f", "same").and_then(|()| chown(b)),
            |b| b.put("f", "same").and_then(|()| chmod(b, "f", 0o600)),
        );
        w.store().commit(&w.branch("b")).unwrap();
        let (_, stat) = w.branch(parent).at("f").unwrap();
        assert_eq!((stat.uid, stat.mode), (1234, 0o600), "into {parent}");
        assert_eq!(w.branch(parent).read_all("f").unwrap(), "same");
    }
}

/// What the branch started from is gone where somebody else than a branch changed it, unless all came to the same.
#[test]
fn an_edit_outside_is_no_version_to_merge_with() {
    type Outside = fn(&Path) -> std::io::Result<()>;
    let gone = "the version that the branch started from was edited from outside and is gone";
    let cases: &[(&str, Outside, Act, Option<String>)] = &[
        (
            "edit",
            |f| std::fs::write(f, "one\n2\n3\n"),
            |b| b.put("f", "1\n2\nthree\n"),
            Some(format!("f Content {gone}")),
        ),
        (
            "touch",
            |f| std::fs::File::options().write(true).open(f)?.set_modified(std::time::UNIX_EPOCH),
            |b| b.put("f", "1\n2\nthree\n"),
            Some(format!("f Content {gone}")),
        ),
        (
            "mode",
            |f| std::fs::set_permissions(f, std::fs::Permissions::from_mode(0o600)),
            |b| b.put("f", "1\n2\nthree\n"),
            Some(format!("f Attributes {gone}")),
        ),
        ("the same edit", |f| std::fs::write(f, "same"), |b| b.put("f", "same"), None),
        ("the same file", |f| std::fs::write(f.with_file_name("n"), "same"), |b| b.put("n", "same"), None),
    ];
    for (name, outside, ours, why) in cases {
        let mut w = Workspace::new(FILES);
        ours(&w.fork("main", "b")).unwrap();
        outside(&w.base().join("f")).unwrap();
        w.reopen();
        let before = w.base_tree();
        let committed = w.store().commit_with(&w.branch("b"), &|_| MERGE);
        match why {
            Some(why) => assert_eq!(refused(committed), [why.as_str()], "{name}"),
            None => assert!(committed.unwrap().resolved.is_empty(), "{name}"),
        }
        assert_eq!(w.base_tree(), before, "{name}");
    }
}

#[test]
fn a_merge_into_the_base_is_undone_and_redone_like_any_commit() {
    let w = met("main", |b| b.put("f", "one\n2\n3\n"), |b| b.put("f", "1\n2\nthree\n"));
    let before = w.base_tree();
    w.store().commit_with(&w.branch("b"), &|_| MERGE).unwrap();
    let after = w.base_tree();
    w.store().undo().unwrap();
    assert_eq!(w.base_tree(), before);
    w.store().redo().unwrap();
    assert_eq!(w.base_tree(), after);
}

/// The parent writes to what was merged, a branch below it goes on seeing it, and a checkpoint keeps it.
#[test]
fn a_merged_file_is_a_file_of_the_parent_like_any_other() {
    let mut w = met("p", |b| b.put("f", "one\n2\n3\n"), |b| b.put("f", "1\n2\nthree\n"));
    w.store().commit_with(&w.branch("b"), &|_| MERGE).unwrap();
    w.fork("p", "below");
    w.branch("p").overwrite("f", "ONE").unwrap();
    w.store().checkpoint().unwrap();
    w.reopen();
    assert_eq!(w.branch("p").read_all("f").unwrap(), "ONE\n2\nthree\n");
    assert_eq!(w.branch("below").read_all("f").unwrap(), "one\n2\nthree\n");
}

/// A rebase merges as a commit does: the branch goes on with what both changed.
#[test]
fn a_rebase_merges_files_into_the_branch_and_leaves_nothing_behind_if_it_is_refused() {
    for parent in ["p", "main"] {
        let mut w = met(parent, |b| b.put("f", "one\n2\n3\n"), |b| b.put("f", "1\n2\nthree\n"));
        w.branch("b").put("g", "ours").unwrap();
        w.store().rebase(&w.branch("b"), &|_| MERGE).unwrap();
        w.reopen();
        let b = w.branch("b");
        assert_eq!(b.read_all("f").unwrap(), "one\n2\nthree\n");
        assert!(b.holdings().unwrap().exclusive > 0);
        b.overwrite("f", "ONE").unwrap();
        assert_eq!(w.branch(parent).read_all("f").unwrap(), "one\n2\n3\n");
        w.store().commit(&b).unwrap();
        drop(b);
        assert_eq!(w.branch(parent).read_all("f").unwrap(), "ONE\n2\nthree\n");
        if parent == "p" {
            w.store().commit(&w.branch("p")).unwrap();
        }
        w.reopen();
        assert!(layers(&w).is_empty(), "{parent}: {:?}", layers(&w));

        let both: Act = |b| b.put("f", "1\n2\nours\n").and_then(|()| b.put("g", "ours\n2\n3\n"));
        let w = met(parent, |b| b.put("f", "one\n2\n3\n").and_then(|()| b.put("g", "theirs\n2\n3\n")), both);
        let (before, ours) = (layers(&w), w.branch("b").tree());
        assert!(w.store().rebase(&w.branch("b"), &|_| MERGE).is_err());
        assert_eq!((layers(&w), w.branch("b").tree()), (before, ours));
    }
}

/// Story: a rebase that put files together wrote them into a branch that had no room for them.
#[test]
fn a_rebase_whose_merged_files_do_not_fit_in_the_limit_is_refused_and_changes_nothing() {
    for parent in ["p", "main"] {
        let w = met(parent, |b| b.put("f", "one\n2\n3\n"), |b| b.put("f", "1\n2\nthree\n"));
        let b = w.branch("b");
        let holds = b.holdings().unwrap().exclusive;
        w.store().set_quota(&b, Quota::Bytes(holds)).unwrap();
        let (before, tree) = (layers(&w), b.tree());
        let refused = w.store().rebase(&b, &|_| MERGE).unwrap_err();
        assert_eq!(refused.errno(), Errno::DQUOT, "{parent}: {refused}");
        assert_eq!((layers(&w), b.tree(), b.holdings().unwrap().exclusive), (before, tree, holds));
        w.store().set_quota(&b, Quota::Bytes(2 * holds)).unwrap();
        w.store().rebase(&b, &|_| MERGE).unwrap();
        assert_eq!(b.read_all("f").unwrap(), "one\n2\nthree\n");
        assert!(b.holdings().unwrap().exclusive <= 2 * holds);
    }
}

/// What was merged and is not committed yet stays in the branch as merged; a death at any call loses none of it.
#[test]
fn a_partial_commit_merges_files_and_those_that_stay_are_the_branch_s() {
    let theirs: Act = |b| b.put("f", "one\n2\n3\n").and_then(|()| b.put("g", "one\n2\n3\n"));
    let ours: Act = |b| b.put("f", "1\n2\nthree\n").and_then(|()| b.put("g", "1\n2\nthree\n"));
    let merged = "one\n2\nthree\n";
    for parent in ["p", "main"] {
        let part = |w: &Workspace| {
            let only_f = |path: &[u8]| path == b"f";
            w.store().commit_part(&w.branch("b"), &|_| MERGE, &only_f).map(drop)
        };
        let read =
            |w: &Workspace, branch: &str| ["f", "g"].map(|path| w.branch(branch).read_all(path).unwrap());
        let fuse = Fuse::counting();
        let mut w = met(parent, theirs, ours);
        w.reopen_on(Disk::guarded(fuse.clone())).unwrap();
        part(&w).unwrap();
        let calls = fuse.calls();
        for k in 0..=calls {
            let mut w = met(parent, theirs, ours);
            let opened = w.reopen_on(Disk::guarded(Fuse::new(k, Errno::IO, false)));
            let acknowledged = opened.is_ok() && part(&w).is_ok();
            w.reopen();
            let theirs = "one\n2\n3\n".to_owned();
            if read(&w, parent) == [theirs.clone(), theirs.clone()] {
                assert!(!acknowledged, "{parent}: {k}");
                assert_eq!(w.branch("b").read_all("g").unwrap(), "1\n2\nthree\n");
                part(&w).unwrap();
                w.reopen();
            }
            assert_eq!(read(&w, parent), [merged.to_owned(), theirs.clone()], "{parent}: {k}");
            assert_eq!(read(&w, "b"), [merged, merged], "{parent}: {k}");
            // Layers that came by merging are told from those made later.
            w.fork(parent, "later").put("g", "later").unwrap();
            w.reopen();
            w.store().commit(&w.branch("b")).unwrap();
            assert_eq!(read(&w, parent), [merged, merged], "{parent}: {k}");
        }
    }
}

/// Merged bytes are one decision with the rest: a death at any call leaves all of it or nothing, and no layer that
/// nobody owns.
#[test]
fn a_death_at_any_call_of_a_merging_commit_leaves_all_or_nothing() {
    let theirs: Act = |b| b.put("f", "one\n2\n3\n").and_then(|()| replace(b, "g", "one\n2\n3\n"));
    let ours: Act = |b| b.put("f", "1\n2\nthree\n").and_then(|()| b.put("g", "1\n2\nthree\n"));
    for parent in ["p", "main"] {
        let pictures = |w: &Workspace| (w.branch(parent).tree(), w.base_tree());
        let decide = |w: &Workspace| w.store().commit_with(&w.branch("b"), &|_| MERGE).map(drop);
        let mut w = met(parent, theirs, ours);
        let (before, unmerged) = (pictures(&w), w.branch("b").tree());
        let fuse = Fuse::counting();
        w.reopen_on(Disk::guarded(fuse.clone())).unwrap();
        decide(&w).unwrap();
        let (after, calls) = (pictures(&w), fuse.calls());
        assert!(after.0["f"].ends_with("one\n2\nthree\n") && after.0["g"].ends_with("one\n2\nthree\n"));
        w.reopen();
        let layers_after = layers(&w);
        let mut w = met(parent, theirs, ours);
        w.reopen();
        let layers_before = layers(&w);
        println!("{parent}: {calls} calls, each a crash point");
        for k in 0..calls {
            let mut w = met(parent, theirs, ours);
            let opened = w.reopen_on(Disk::guarded(Fuse::new(k, Errno::IO, false)));
            let acknowledged = opened.is_ok() && decide(&w).is_ok();
            w.reopen();
            if pictures(&w) == after {
                assert_eq!(layers(&w), layers_after, "{parent}: died at call {k}");
                continue;
            }
            assert!(!acknowledged, "{parent}: died at call {k} after it was acknowledged");
            assert_eq!(
                (pictures(&w), w.branch("b").tree()),
                (before.clone(), unmerged.clone()),
                "{parent}: {k}"
            );
            assert_eq!(layers(&w), layers_before, "{parent}: died at call {k}");
            decide(&w).unwrap();
            assert_eq!(pictures(&w), after, "{parent}: died at call {k}, and tried again");
        }
    }
}

#[test]
fn a_full_disk_refuses_a_merge_and_leaves_nothing_of_it() {
    for parent in ["p", "main"] {
        let mut w = met(parent, |b| b.put("f", "one\n2\n3\n"), |b| b.put("f", "1\n2\nthree\n"));
        let fuse = Fuse::counting();
        w.reopen_on(Disk::guarded(fuse.clone())).unwrap();
        let before = layers(&w);
        // The layer and the file are made, their bytes find no room.
        fuse.set(2);
        let full = w.store().commit_with(&w.branch("b"), &|_| MERGE);
        assert!(full.is_err());
        fuse.set(u64::MAX);
        w.reopen();
        assert_eq!(layers(&w), before);
        w.store().commit_with(&w.branch("b"), &|_| MERGE).unwrap();
        assert_eq!(w.branch(parent).read_all("f").unwrap(), "one\n2\nthree\n");
    }
}

/// Deciding them looked at every node for each: 4,000 took 25 times as long as 1,000.
#[test]
fn a_thousand_conflicts_are_merged_in_one_commit() {
    for parent in ["p", "main"] {
        let w = Workspace::new(&[]);
        std::fs::create_dir(w.base().join("d")).unwrap();
        for n in 0..1000 {
            std::fs::write(w.base().join(format!("d/{n}")), "1\n2\n").unwrap();
        }
        w.fork("main", "p");
        let ab = w.fork_as(parent, &["a", "b"], GroupKind::Independent);
        for (branch, text) in ab.iter().zip(["one\n2\n", "1\ntwo\n"]) {
            for n in 0..1000 {
                replace(branch, &format!("d/{n}"), text).unwrap();
            }
        }
        w.store().commit(&ab[0]).unwrap();
        let start = std::time::Instant::now();
        let committed = w.store().commit_with(&ab[1], &|_| MERGE).unwrap();
        println!("{parent}: {:?}", start.elapsed());
        assert_eq!(committed.resolved.len(), 1000);
        assert_eq!(w.branch(parent).read_all("d/999").unwrap(), "one\ntwo\n");
    }
}

/// Story: the parent had written to a file, and a merge made its bytes the base's, or the child's, again. The next write
/// copied them up to the same place, and a descriptor from before went on writing to what had been there.
#[test]
fn a_file_that_is_open_in_the_parent_is_written_to_as_a_merge_left_it() {
    let cases: [(&[u8], Act, Choice, &str); 2] = [
        (b"1", |b| chmod(b, "f", 0o600), Choice::Refuse, "X\n2\n3\n"),
        (b"one", |b| b.put("f", "ours"), Choice::Ours, "Xurs"),
    ];
    for (theirs, ours, choice, then) in cases {
        let w = Workspace::new(FILES);
        let p = w.fork("main", "p");
        let [writer, reader] = [Access::Write, Access::Read].map(|access| {
            let object = p.at("f").unwrap().0;
            p.open(&object, access).unwrap()
        });
        let b = w.fork("p", "b");
        writer.write_at(theirs, 0).unwrap();
        let mut bytes = [0; 32];
        let n = reader.read_at(&mut bytes, 0).unwrap();
        assert!(bytes[..n].starts_with(theirs));
        ours(&b).unwrap();
        w.store().commit_with(&b, &|_| choice).unwrap();
        writer.write_at(b"X", 0).unwrap();
        assert_eq!(p.read_all("f").unwrap(), then);
        let n = reader.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes[..n], then.as_bytes());
    }
}
