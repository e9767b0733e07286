//! Native views: programs work on a kernel overlayfs, and what is left of it is what the ordinary view would have given.
#![allow(clippy::unwrap_used, reason = "helpers of a test")]

mod both;
mod nested;

use std::fs;
use std::path::Path;

use branchfs_tests::{Rng, Times, rounds, seed, tree};

use both::{Halfway, as_root, fill, on_both, random_program, refused, same_on_both, sh};

#[test]
fn git_and_make_do_the_same_on_a_native_view() {
    same_on_both(
        fill,
        "git init -q .; git add -A; git commit -qm base; make -s; git mv src/f1.c src/renamed.c
         sed -i 's/return 2/return 22/' src/f2.c; make -s; git status --short; git add -A; git commit -qm work
         git checkout -qb other HEAD~; git status --short; git gc -q; git log --oneline",
    );
}

#[test]
fn links_moves_removals_and_attributes_are_the_same_on_a_native_view() {
    same_on_both(
        fill,
        "echo more >>lib/a; cmp lib/a lib/b; mv lib/deep moved; mv moved/x moved/y; rm moved/er/y
         rm -r doc; mkdir doc; echo again >doc/gone; rm -r empty; mkdir empty; echo n >empty/new
         chmod 600 keep; chown 1000:1000 src/f3.c; touch -d 2001-02-03 src/f4.c moved; setfattr -n user.n -v 1 moved
         setfattr -x user.k moved/y; true <>opened; truncate -s 250000 big; ln linked linked2; rm linked
         mkdir t; mkfifo t/fifo; ln -s nowhere t/sym; printf x >t/$(printf 'odd\\377\\n'); mv full/of/things/1 t/1
         mv full t/full; rm -r t/full/of/things/2; mv t/full/of/things t/things; ln t/things/3 t/three; chmod 2755 t",
    );
}

#[test]
fn an_archive_unpacked_over_the_base_is_the_same_on_a_native_view() {
    let prepare = |base: &Path| {
        fill(base);
        sh(base, "cp -a lib copy; echo changed >copy/a; tar cf all.tar copy doc; rm -r copy");
    };
    same_on_both(
        prepare,
        "tar xpf all.tar; rm -rf lib; tar xpf all.tar copy; mv copy lib; cp -a lib lib2; rm all.tar",
    );
}

/// Overlayfs keeps the copy of such a file in its index, where alone it is when the name is gone that was written to.
#[test]
fn a_file_of_several_names_that_lost_the_one_it_was_changed_by_is_the_same_on_a_native_view() {
    same_on_both(fill, "echo more >>lib/b; rm lib/b; cat lib/a; chmod 640 lib/a");
    same_on_both(fill, "echo more >>lib/b; mv lib/b moved; rm moved; cat lib/a");
    same_on_both(fill, "echo more >>lib/b; rm -r lib; mkdir lib");
}

#[test]
fn swapped_and_replaced_directories_are_the_same_on_a_native_view() {
    same_on_both(
        fill,
        "mv lib x; mv doc lib; mv x doc; mv doc/deep/er er; mkdir doc/deep/er; touch doc/deep/er/new; mv er doc/deep/back
         mv src/f1.c x; mv src/f2.c src/f1.c; mv x src/f2.c; rm -r full/of; mkdir full/of; mv lib/gone full/of/; mv full f",
    );
}

#[test]
fn random_programs_do_the_same_on_a_native_view() {
    let seed = seed();
    for round in 0..rounds(8) {
        let mut rng = Rng::new(seed, round);
        let script = random_program(&mut rng, 60);
        let Some([fuse, native]) = on_both(fill, &[], &script) else { return };
        assert_eq!(fuse, native, "round {round} of BRANCHFS_SEED={seed}:\n{script}");
    }
}

#[test]
fn what_fails_on_a_native_view_leaves_nothing() {
    let Some(workspace) = as_root(fill) else { return };
    let before = tree(&workspace.base(), Times::Compare);
    let ran = workspace.cli(&["run", "--view", "native", "--", "sh", "-c", "rm -r lib; echo x >x; exit 3"]);
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    assert_eq!(tree(&workspace.base(), Times::Compare), before);
    assert_eq!(workspace.names(), ["main"]);
    let ran = workspace.cli(&["run", "--view", "native", "--", "no such program"]);
    assert_eq!(ran.status.code(), Some(127), "{ran:?}");
    assert_eq!(workspace.names(), ["main"]);
}

#[test]
fn a_native_view_is_looked_at_while_its_program_runs_and_nobody_comes_between() {
    let Some(workspace) = as_root(fill) else { return };
    let first = "echo one >new; rm keep; echo more >>lib/a";
    let halfway = Halfway::new(&workspace, first, "echo two >>new; rm -r doc; mv lib/deep deep");
    assert_eq!(workspace.ok(&["diff", "w", "--name-status"]), "D\tkeep\nM\tlib/a\nM\tlib/b\nA\tnew\n");
    assert_eq!(fs::read_to_string(workspace.view("w").join("new")).unwrap(), "one\n");
    let error = fs::write(workspace.view("w").join("new"), "x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
    assert!(workspace.ok(&["list"]).contains("native view"));
    assert!(workspace.ok(&["ps", "w"]).contains("native"));
    for verb in [&["commit", "w"][..], &["create", "-p", "w", "x"], &["checkpoint", "w"], &["rebase", "w"]] {
        assert!(refused(&workspace, verb).contains("native view"), "{verb:?}");
    }
    assert!(refused(&workspace, &["run", "-b", "w", "--", "true"]).contains("native view"));
    workspace.ok(&["create", "other"]);
    fs::write(workspace.view("other").join("other"), "x").unwrap();
    assert!(refused(&workspace, &["commit", "other"]).contains("native view"));
    assert!(!workspace.base().join("other").exists());
    halfway.finish(&workspace);
    assert_eq!(fs::read_to_string(workspace.view("w").join("new")).unwrap(), "one\ntwo\n");
    let diff = workspace.ok(&["diff", "w", "--name-status"]);
    assert!(diff.contains("R\tlib/deep\tdeep\n") && diff.contains("D\tdoc/gone\n"), "{diff}");
    workspace.commit("w");
    workspace.commit("other");
    assert_eq!(fs::read_to_string(workspace.base().join("deep/x")).unwrap(), "deep\n");
}

#[test]
fn a_killed_daemon_takes_in_at_its_next_start_what_a_native_view_held() {
    let Some(workspace) = as_root(fill) else { return };
    let mut halfway =
        Halfway::new(&workspace, "echo one >new; rm -r doc; mv lib/deep deep", "echo never >never");
    workspace.kill_daemon();
    let diff = workspace.ok(&["diff", "w", "--name-status"]);
    assert!(diff.contains("A\tnew\n") && diff.contains("R\tlib/deep\tdeep\n"), "{diff}");
    assert!(!halfway.child.wait().unwrap().success(), "its program was killed");
    assert!(workspace.ok(&["status"]).contains("native view"), "recovery says so");
    workspace.commit("w");
    assert_eq!(fs::read_to_string(workspace.base().join("deep/x")).unwrap(), "deep\n");
    assert!(!workspace.base().join("never").exists());
}

#[test]
fn a_stopped_daemon_has_taken_in_what_a_native_view_held() {
    let Some(workspace) = as_root(fill) else { return };
    let mut halfway = Halfway::new(&workspace, "echo one >new", "true");
    workspace.ok(&["stop"]);
    assert!(!halfway.child.wait().unwrap().success());
    assert_eq!(workspace.ok(&["diff", "w", "--name-status"]), "A\tnew\n");
}

#[test]
fn kill_ends_a_native_view_and_keeps_what_was_done() {
    let Some(workspace) = as_root(fill) else { return };
    let mut halfway = Halfway::new(&workspace, "echo one >new", "true");
    workspace.ok(&["kill", "w"]);
    halfway.child.wait().unwrap();
    workspace.commit("w");
    assert_eq!(fs::read_to_string(workspace.base().join("new")).unwrap(), "one\n");
}

#[test]
fn the_first_of_an_explore_on_native_views_wins_and_of_the_others_nothing_is_left() {
    let Some(workspace) = as_root(fill) else { return };
    let script = "echo $BRANCH_ATTEMPT >won; rm -r full; test $BRANCH_ATTEMPT = 2 || sleep 1000";
    let check = "test -e won && test ! -e full";
    let args =
        ["--json", "explore", "--view", "auto", "-n", "3", "--check", check, "--", "sh", "-ec", script];
    let report = workspace.ok(&args);
    assert!(report.contains("\"view\":\"native\"") && !report.contains("because"), "{report}");
    assert_eq!(fs::read_to_string(workspace.base().join("won")).unwrap(), "2\n");
    assert!(!workspace.base().join("full").exists());
    assert_eq!(workspace.names(), ["main"]);
    workspace.ok(&["gc"]);
    assert_eq!(fs::read_dir(workspace.store().join("native")).unwrap().count(), 0);
}

#[test]
fn where_a_native_view_would_be_noticed_auto_says_why_it_is_another() {
    let Some(workspace) = as_root(fill) else { return };
    workspace.ok(&["create", "other"]);
    let ran = workspace.cli(&["run", "--view", "auto", "--", "sh", "-c", "echo x >x"]);
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && said.contains("'other' could not commit meanwhile"), "{said}");
    assert!(workspace.base().join("x").exists());
    fs::write(workspace.view("other").join("y"), "y").unwrap();
    assert!(
        refused(&workspace, &["run", "--view", "native", "-b", "other", "--", "true"]).contains("rebase")
    );
    workspace.ok(&["abort", "other"]);
    assert!(
        workspace
            .ok(&["--json", "run", "--view", "auto", "--", "touch", "z"])
            .contains("\"view\":\"native\"")
    );
    workspace.ok(&[
        "run",
        "--view",
        "native",
        "--policy",
        "edit",
        "--",
        "sh",
        "-ec",
        "echo in >inside; ! echo out >/etc/branchfs-out",
    ]);
    assert_eq!(fs::read_to_string(workspace.base().join("inside")).unwrap(), "in\n");
}
