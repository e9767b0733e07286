//! Each kind of change, in the words git has for it.

use std::fs;
use std::os::unix::fs::symlink;

use branch_store::{CommitId, RenameMode};
use branchfs::patch::{Omitted, Why};

use crate::ground::{Editor, Ground, Way, git_apply, picture_of, write};

/// The patch must hold these words, and lead from the base to the branch and back.
#[track_caller]
fn check(build: &[(&str, &[u8])], edit: impl FnOnce(&Editor), words: &[&str]) {
    let ground = Ground::new(|base| {
        for (path, content) in build {
            write(base, path.as_bytes(), content, 0o644);
        }
    });
    let branch = ground.fork("b");
    edit(&branch);
    let (patch, omitted) = ground.patch(&branch.0);
    let text = String::from_utf8_lossy(&patch);
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text}");
    }
    assert_eq!(omitted, [], "{text}");
    let copy = ground.copy();
    git_apply(&copy, &patch, Way::Forth);
    assert_eq!(picture_of(&copy), branch.picture(), "{text}");
    git_apply(&copy, &patch, Way::Back);
    assert_eq!(picture_of(&copy), picture_of(&ground.base()), "{text}");
}

#[test]
fn text_is_changed_by_hunks() {
    let long: String = (0..100).map(|n| format!("line {n}\n")).collect();
    let changed = long.replace("line 10\n", "").replace("line 50\n", "line 50\nmore\n");
    let words = ["--- a/f\n+++ b/f\n@@ -8,7 +8,6 @@\n", "\n+more\n", " 100644\n"];
    check(&[("f", long.as_bytes())], |b| b.put(b"f", changed.as_bytes()).unwrap(), &words);
}

#[test]
fn files_come_and_go_empty_or_not() {
    let words = [
        "new file mode 100644\nindex 0000000000000000000000000000000000000000..",
        "deleted file mode 100644",
    ];
    let edit = |b: &Editor| {
        b.put(b"new", b"1\n2\n").unwrap();
        b.put(b"empty", b"").unwrap();
        b.mkdir(b"deep").unwrap();
        b.mkdir(b"deep/er").unwrap();
        b.put(b"deep/er/x", b"x").unwrap();
        b.remove(b"old").unwrap();
        b.remove(b"was empty").unwrap();
    };
    check(&[("old", b"1\n"), ("was empty", b""), ("filled", b"")], edit, &words);
    check(&[("f", b"")], |b| b.put(b"f", b"now\n").unwrap(), &["@@ -0,0 +1 @@\n+now\n"]);
    check(&[("f", b"was\n")], |b| b.put(b"f", b"").unwrap(), &["@@ -1 +0,0 @@\n-was\n"]);
}

#[test]
fn line_ends_are_kept_as_they_are() {
    let words = ["\\ No newline at end of file\n", "+c\r\n"];
    let edit = |b: &Editor| {
        b.put(b"crlf", b"a\r\nc\r\n").unwrap();
        b.put(b"cr", b"a\rb\rd").unwrap();
        b.put(b"cut", b"a\nb").unwrap();
        b.put(b"ended", b"a\nb\n").unwrap();
    };
    let base: [(&str, &[u8]); 4] =
        [("crlf", b"a\r\nb\r\n"), ("cr", b"a\rb\rc"), ("cut", b"a\nb\n"), ("ended", b"a\nb")];
    check(&base, edit, &words);
}

#[test]
fn what_is_no_text_goes_as_a_whole() {
    let bytes: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let edit = |b: &Editor| {
        b.put(b"was text", &bytes).unwrap();
        b.put(b"was bytes", b"text\n").unwrap();
        b.put(b"new", &[0, 1, 2]).unwrap();
        b.put(b"late nul", &[&b"text\n".repeat(4000)[..], b"\0!"].concat()).unwrap();
        b.remove(b"gone").unwrap();
    };
    let late = [&b"text\n".repeat(4000)[..], b"\0"].concat();
    let base: [(&str, &[u8]); 4] =
        [("was text", b"text\n"), ("was bytes", &bytes), ("gone", b"\0"), ("late nul", &late)];
    check(&base, edit, &["GIT binary patch\nliteral 100000\n", "literal 0\nH"]);
    // No NUL, no UTF-8 either: still lines.
    check(&[("f", b"\xff\n\xfe\n")], |b| b.put(b"f", b"\xff\n\xfd\n").unwrap(), &["--- a/f\n"]);
}

#[test]
fn the_executable_bit_is_a_mode() {
    let edit = |b: &Editor| {
        b.chmod(b"f", 0o755).unwrap();
        b.put(b"g", b"changed\n").unwrap();
        b.chmod(b"g", 0o755).unwrap();
        b.put(b"new", b"#!/bin/sh\n").unwrap();
        b.chmod(b"new", 0o755).unwrap();
    };
    let words = ["diff --git a/f b/f\nold mode 100644\nnew mode 100755\n", "new file mode 100755"];
    check(&[("f", b"f\n"), ("g", b"g\n")], edit, &words);
}

#[test]
fn links_are_their_targets() {
    let ground = Ground::new(|base| {
        for (name, target) in [("a", "old"), ("b", "x"), ("gone", "nowhere")] {
            symlink(target, base.join(name)).unwrap();
        }
        write(base, b"file", b"content\n", 0o644);
    });
    let branch = ground.fork("b");
    for name in [&b"a"[..], b"b", b"gone", b"file"] {
        branch.remove(name).unwrap();
    }
    branch.link(b"a", b"new").unwrap();
    branch.put(b"b", b"a file now\n").unwrap();
    branch.link(b"file", b"a\nlink now").unwrap();
    branch.link(b"made", b"../far/away").unwrap();
    let (patch, omitted) = ground.patch(&branch.0);
    let text = String::from_utf8(patch.clone()).unwrap();
    // Another kind is one that goes and one that comes, as git has it.
    assert!(text.contains("diff --git a/b b/b\ndeleted file mode 120000\n"), "{text}");
    assert!(text.contains("diff --git a/b b/b\nnew file mode 100644\n"), "{text}");
    assert_eq!(omitted, []);
    let copy = ground.copy();
    git_apply(&copy, &patch, Way::Forth);
    assert_eq!(picture_of(&copy), branch.picture());
}

#[test]
fn renames_say_where_from_and_how_alike() {
    let long: String = (0..100).map(|n| format!("line {n}\n")).collect();
    let base: [(&str, &[u8]); 5] = [
        ("same", b"1\n"),
        ("edited", long.as_bytes()),
        ("dir/x", b"x\n"),
        ("dir/sub/y", b"y\n"),
        ("bytes", b"\0\x01"),
    ];
    let edit = |b: &Editor| {
        b.rename(b"same", b"moved", RenameMode::Replace).unwrap();
        b.rename(b"edited", b"dir/edited", RenameMode::Replace).unwrap();
        b.put(b"dir/edited", long.replace("line 7\n", "").as_bytes()).unwrap();
        b.rename(b"bytes", b"other", RenameMode::Replace).unwrap();
        b.put(b"other", b"\0\x02").unwrap();
        b.chmod(b"dir/sub/y", 0o755).unwrap();
        b.rename(b"dir", b"new name", RenameMode::Replace).unwrap();
    };
    let words = [
        "similarity index 100%\nrename from same\nrename to moved\n",
        "similarity index 99%\nrename from edited\nrename to new name/edited\n",
        "rename from dir/x\nrename to new name/x\n",
        "old mode 100644\nnew mode 100755\nsimilarity index 100%\nrename from dir/sub/y\n",
        "similarity index 0%\nrename from bytes\nrename to other\nindex ",
    ];
    check(&base, edit, &words);
}

#[test]
fn names_can_go_round_in_a_circle() {
    let base: [(&str, &[u8]); 5] =
        [("a", b"a\n"), ("b", b"b\n"), ("c", b"c\n"), ("d/x", b"d\n"), ("e/x", b"e\n")];
    let edit = |b: &Editor| {
        b.rename(b"a", b"b", RenameMode::Exchange).unwrap();
        b.rename(b"b", b"c", RenameMode::Exchange).unwrap();
        b.rename(b"d", b"e", RenameMode::Exchange).unwrap();
        b.put(b"a", b"and edited\n").unwrap();
    };
    check(&base, edit, &["rename from d/x\nrename to e/x\n"]);
}

#[test]
fn a_directory_and_a_file_change_places() {
    let edit = |b: &Editor| {
        b.remove(b"dir").unwrap();
        b.put(b"dir", b"a file\n").unwrap();
        b.remove(b"file").unwrap();
        b.mkdir(b"file").unwrap();
        b.put(b"file/in", b"in\n").unwrap();
        b.rename(b"moved", b"moved.old", RenameMode::Replace).unwrap();
        b.mkdir(b"moved").unwrap();
        b.rename(b"moved.old", b"moved/inside", RenameMode::Replace).unwrap();
    };
    check(&[("dir/x", b"x\n"), ("dir/y/z", b"z\n"), ("file", b"f\n"), ("moved", b"m\n")], edit, &[]);
}

#[test]
fn odd_names_are_quoted() {
    let names =
        [" lead", "trail ", "a b", "tab\there", "new\nline", "q\"uote", "back\\slash", "ünï", "-x", "\u{7f}"];
    let base: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, &b"x\n"[..])).collect();
    let edit = |b: &Editor| {
        for name in names {
            b.put(name.as_bytes(), b"y\n").unwrap();
            b.chmod(name.as_bytes(), 0o755).unwrap();
            b.put(format!("empty {name}").as_bytes(), b"").unwrap();
            b.put(format!("bin {name}").as_bytes(), b"\0").unwrap();
        }
        b.put(b"\xff\x01 raw", b"z\n").unwrap();
    };
    check(
        &base,
        edit,
        &["diff --git \"a/new\\nline\" \"b/new\\nline\"\n", "--- a/a b\t\n", "\"b/\\377\\001 raw\""],
    );
    let edit = |b: &Editor| {
        for name in names {
            b.rename(name.as_bytes(), format!("{name} to").as_bytes(), RenameMode::Replace).unwrap();
        }
    };
    check(&base, edit, &["rename from \"q\\\"uote\"\nrename to \"q\\\"uote to\"\n"]);
}

#[test]
fn what_git_has_no_words_for_is_left_out_and_counted() {
    let ground = Ground::new(|base| {
        write(base, b"f", b"f\n", 0o644);
        write(base, b"dir/x", b"x\n", 0o644);
        write(base, b".git/config", b"[core]\n", 0o644);
        fs::create_dir(base.join("empty")).unwrap();
    });
    let branch = ground.fork("b");
    branch.chmod(b"f", 0o600).unwrap();
    branch.chmod(b"dir", 0o700).unwrap();
    branch.mkdir(b"another empty").unwrap();
    branch.remove(b"empty").unwrap();
    branch.fifo(b"pipe").unwrap();
    branch.put(b".git/config", b"[core] # edited\n").unwrap();
    branch.put(b"said", b"\n").unwrap();
    let (patch, omitted) = ground.patch(&branch.0);
    let expected = [
        (Why::Attributes, 2, &b"dir"[..]),
        (Why::EmptyDirectory, 2, b"another empty"),
        (Why::Special, 1, b"pipe"),
        (Why::Reserved, 1, b".git/config"),
    ];
    let expected = expected.map(|(why, paths, first)| Omitted { why, paths, first: first.to_vec() });
    assert_eq!(omitted, expected);
    let text = String::from_utf8(patch.clone()).unwrap();
    assert_eq!(text.matches("diff --git").count(), 1, "{text}");
    let copy = ground.copy();
    git_apply(&copy, &patch, Way::Forth);
    assert_eq!(fs::read(copy.join("said")).unwrap(), b"\n");
}

#[test]
fn the_same_content_in_another_object_is_no_difference() {
    let ground = Ground::new(|base| write(base, b"f", b"same\n", 0o644));
    let branch = ground.fork("b");
    branch.remove(b"f").unwrap();
    branch.put(b"f", b"same\n").unwrap();
    assert_eq!(ground.patch(&branch.0), (vec![], vec![]));
}

#[test]
fn the_old_side_is_the_fork_though_the_parent_went_on() {
    let ground = Ground::new(|base| write(base, b"f", b"base\n", 0o644));
    let parent = ground.fork("parent");
    parent.put(b"f", b"forked\n").unwrap();
    let child = ground.fork_off(&parent.0, "child");
    parent.put(b"f", b"went on\n").unwrap();
    child.put(b"f", b"child\n").unwrap();
    let (patch, _) = ground.patch(&child.0);
    let text = String::from_utf8(patch).unwrap();
    assert!(text.ends_with("@@ -1 +1 @@\n-forked\n+child\n"), "{text}");
}

#[test]
fn the_patch_between_two_commits_leads_from_one_base_to_the_other() {
    let ground = Ground::new(|base| {
        write(base, b"f", b"0\n", 0o644);
        write(base, b"dir/x", b"x\n", 0o644);
        fs::hard_link(base.join("f"), base.join("twin")).unwrap();
    });
    let copy = ground.copy();
    for round in 1..=3 {
        let branch = ground.fork(&format!("b{round}"));
        branch.put(b"f", format!("{round}\n").as_bytes()).unwrap();
        branch.put(format!("new{round}").as_bytes(), b"new\n").unwrap();
        let dir = format!("dir{}", if round == 1 { String::new() } else { format!(".{}", round - 1) });
        branch.rename(dir.as_bytes(), format!("dir.{round}").as_bytes(), RenameMode::Replace).unwrap();
        ground.store.commit(&branch.0).unwrap();
    }
    let after = |n| ground.store.base_after(CommitId(n)).unwrap();
    let (patch, _) = ground.patch_between(&after(0), &after(3));
    git_apply(&copy, &patch, Way::Forth);
    assert_eq!(picture_of(&copy), picture_of(&ground.base()));
    let (back, _) = ground.patch_between(&after(3), &after(1));
    git_apply(&copy, &back, Way::Forth);
    let (forth, _) = ground.patch_between(&after(1), &after(3));
    git_apply(&copy, &forth, Way::Forth);
    assert_eq!(picture_of(&copy), picture_of(&ground.base()));
}
