//! Branches that are not as the base is: what lies between the base and the upper directory is what they show.

use std::fs;
use std::path::Path;

use branchfs_tests::{Rng, Workspace, rounds, seed};

use crate::both::{
    Before, Halfway, as_root, fill, left_in, on_both, random_program, refused, same_after, sh,
};
use Before::{Above, Here};

/// All that a program can see, but for what belongs to the moment, or to a mount: times of this run, numbers of inodes,
/// links of directories.
const LOOK: &str = "exec 2>&1 >&2
    find . -not -type d -printf '%p %M %U %G %s %T+ %n %l\\n' | LC_ALL=C sort | sed 's/ 20[2-9][1-9]-[^ ]*/ now/'
    find . -type d -printf '%p %M %U %G %T+\\n' | LC_ALL=C sort | sed 's/ 20[2-9][1-9]-[^ ]*/ now/'
    find . -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum
    getfattr -R -d -h -m - . | LC_ALL=C sort
    ";

/// One of everything that a branch can have and the base has not.
const ALL_KINDS: &str = "echo more >>keep; chmod 640 src/f1.c; chown 7:8 src/f2.c; touch -d 2001-02-03 src/f3.c
    setfattr -n user.n -v 1 src/f4.c; setfacl -m u:9:r src/f5.c; rm opened; rm -r full; mkdir full; echo n >full/new
    mkdir -p new/deep; echo x >new/deep/x; ln new/deep/x new/y; ln -s nowhere new/sym; mkfifo new/fifo
    mknod new/null c 1 3; chmod 2755 new; printf x >new/$(printf 'odd\\377\\n'); truncate -s 1M new/sparse
    setfattr -n trusted.t -v 2 new/y; setfattr -n user.overlay.whiteout -v y new/sparse; chmod 711 .; mkdir empty/e";

fn without_links(base: &Path) {
    fill(base);
    sh(base, "rm lib/b; touch -d 2020-02-02T02:02:02.5 lib .");
}

#[test]
fn a_nested_branch_is_seen_as_on_the_other_view() {
    same_after(without_links, &[Above(ALL_KINDS)], &format!("{LOOK} touch seen"));
}

#[test]
fn a_branch_with_changes_is_seen_as_on_the_other_view() {
    same_after(without_links, &[Above("rm doc/gone"), Here(ALL_KINDS)], &format!("{LOOK} touch seen"));
}

#[test]
fn moved_directories_are_seen_and_moved_on() {
    let moves =
        "mv lib/deep moved; mkdir top; mv doc top/doc; mv full/of/things full/things; mv lib l; mkdir lib
        mv src t; mv full src; mv t full; echo x >moved/er/new; mv moved/x src/x";
    let on = "mv moved top/again; mv top bottom; echo y >>bottom/again/er/y; mv bottom/doc doc; rm -r src/of
        mkdir -p l/deep; touch l/deep/fresh; mv full/f1.c lib/; ls -R";
    same_after(without_links, &[Above(moves)], &format!("{LOOK}{on}"));
    same_after(
        without_links,
        &[Above(moves), Above("mv l k; mv k/a a"), Here("rm a; mv k l")],
        &format!("{LOOK}{on}"),
    );
}

#[test]
fn what_the_branch_had_already_is_changed_moved_linked_and_removed() {
    let work = "echo again >>keep; chmod 600 src/f1.c; echo more >>src/f2.c; mv src/f3.c f3; mv src/f4.c src/f5.c
        rm full/new; rmdir full; mkdir full; echo other >opened; echo both >>new/y; cat new/deep/x; mv new/y y; rm new/deep/x
        mv new/deep deep; rm new/fifo; ln -sf elsewhere new/sym; truncate -s 10 new/sparse; chmod 755 .; mv new newer
        true <>keep; setfattr -x trusted.t y; rm -r empty; ln y y2";
    same_after(without_links, &[Above(ALL_KINDS)], work);
    same_after(without_links, &[Above("echo a >a"), Here(ALL_KINDS)], &format!("{work}; {LOOK}"));
}

#[test]
fn git_goes_on_in_a_nested_branch() {
    let begin =
        "git init -q .; git add -A; git commit -qm base; git mv src/f1.c src/renamed.c; git rm -q keep";
    same_after(
        without_links,
        &[Above(begin), Above("git commit -qm work; echo x >>big")],
        "git status --short; git commit -qam more; git checkout -q HEAD~2; ls; git gc -q; git fsck; git log --oneline --all",
    );
}

#[test]
fn random_programs_do_the_same_in_nested_branches() {
    let seed = seed();
    for round in 0..rounds(6) {
        let mut rng = Rng::new(seed, 1000 + round);
        let programs: Vec<String> = (0..3).map(|_| random_program(&mut rng, 25)).collect();
        let before = match round % 3 {
            0 => vec![Above(&programs[0])],
            1 => vec![Above(&programs[0]), Above(&programs[1])],
            _ => vec![Above(&programs[0]), Here(&programs[1])],
        };
        let Some([fuse, native]) = on_both(without_links, &before, &programs[2]) else { return };
        assert_eq!(fuse, native, "round {round} of BRANCHFS_SEED={seed}:\n{programs:#?}");
    }
}

#[test]
fn at_any_depth_it_is_the_same() {
    for depth in [2, 10, 60] {
        let scripts: Vec<String> = (0..depth)
            .map(|n| {
                format!(
                    "echo {n} >>log; mkdir -p d{}; echo {n} >d{}/n; rm -f d{}/n",
                    n % 7,
                    n % 7,
                    (n + 3) % 7
                )
            })
            .collect();
        let before: Vec<Before<'_>> = scripts.iter().map(|script| Above(script)).collect();
        same_after(without_links, &before, &format!("{LOOK} echo last >>log; rm -r d1; mv d0 e; cat log"));
    }
}

#[test]
fn a_file_of_several_names_that_was_changed_by_one_is_refused_and_auto_goes_on_without() {
    let Some(workspace) = as_root(fill) else { return };
    workspace.ok(&["run", "-b", "a", "--keep", "--", "sh", "-c", "echo more >>lib/a"]);
    let refused = refused(&workspace, &["run", "--view", "native", "-b", "a", "--", "true"]);
    assert!(refused.contains("several names"), "{refused}");
    assert!(
        workspace
            .ok(&["--json", "run", "--view", "auto", "-b", "a", "--", "cat", "lib/b"])
            .contains("\"view\":\"fuse\"")
    );
    assert_eq!(fs::read_to_string(workspace.base().join("lib/b")).unwrap(), "one\nmore\n");
}

/// A workspace whose branch `above` has changes.
fn with_changes() -> Option<Workspace> {
    let workspace = as_root(without_links)?;
    workspace.ok(&["run", "-b", "above", "--keep", "--", "sh", "-ec", ALL_KINDS]);
    Some(workspace)
}

#[test]
fn an_explore_on_a_branch_with_changes_has_native_views_and_leaves_nothing() {
    let Some(workspace) = with_changes() else { return };
    let script =
        "test -e new/deep/x; echo $BRANCH_ATTEMPT >won; rm -r new; test $BRANCH_ATTEMPT = 2 || sleep 1000";
    let mut args = vec!["--json", "explore", "--view", "auto", "-p", "above", "-n", "3"];
    args.extend(["--check", "test -e won && test ! -e new", "--", "sh", "-ec", script]);
    let report = workspace.ok(&args);
    assert!(report.contains("\"view\":\"native\"") && !report.contains("because"), "{report}");
    assert_eq!(fs::read_to_string(workspace.view("above").join("won")).unwrap(), "2\n");
    assert_eq!(workspace.names(), ["main", "above"]);
    workspace.ok(&["gc"]);
    assert!(left_in(&workspace, "native").is_empty());
    workspace.commit("above");
    assert!(!workspace.base().join("new").exists() && workspace.base().join("won").exists());
}

#[test]
fn a_killed_daemon_takes_in_what_was_done_on_changes_of_the_branch() {
    let Some(workspace) = with_changes() else { return };
    workspace.ok(&[
        "run",
        "-b",
        "w",
        "-p",
        "above",
        "--keep",
        "--",
        "sh",
        "-ec",
        "echo mine >mine; mv src s",
    ]);
    let mut halfway =
        Halfway::new(&workspace, "echo more >>mine; mv new newer; rm newer/fifo; mv s again", "true");
    workspace.kill_daemon();
    let diff = workspace.ok(&["diff", "w", "--name-status"]);
    for line in ["A\tmine\n", "R\tnew\tnewer\n", "R\tsrc\tagain\n"] {
        assert!(diff.contains(line), "{line}: {diff}");
    }
    assert!(!halfway.child.wait().unwrap().success(), "its program was killed");
    assert!(workspace.ok(&["status"]).contains("native view"), "recovery says so");
    assert!(left_in(&workspace, "native").is_empty());
    workspace.commit("w");
    workspace.commit("above");
    assert_eq!(fs::read_to_string(workspace.base().join("mine")).unwrap(), "mine\nmore\n");
    assert!(workspace.base().join("newer/deep/x").exists() && workspace.base().join("again/main.c").exists());
}

#[test]
fn an_abort_of_a_branch_with_changes_ends_its_native_view_and_leaves_nothing() {
    let Some(workspace) = with_changes() else { return };
    workspace.ok(&["run", "-b", "w", "-p", "above", "--keep", "--", "sh", "-ec", "echo mine >mine"]);
    let mut halfway = Halfway::new(&workspace, "rm mine", "true");
    workspace.ok(&["abort", "w"]);
    assert!(!halfway.child.wait().unwrap().success());
    workspace.ok(&["gc"]);
    assert!(left_in(&workspace, "native").is_empty() && left_in(&workspace, "trash").is_empty());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts
            .lines()
            .any(|line| line.contains(" overlay ") && line.contains(&*workspace.store().to_string_lossy()))
    );
    // The one above is as it was.
    workspace.ok(&["run", "--view", "native", "-b", "above", "--keep", "--", "test", "-e", "new/deep/x"]);
}
