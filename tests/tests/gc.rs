//! `gc` as a user types it.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use branchfs_tests::Workspace;

fn commit(workspace: &Workspace, n: u8) {
    let view = workspace.branch(&format!("b{n}"));
    fs::write(view.join("file"), vec![n; 100_000]).expect("written");
    workspace.commit(&format!("b{n}"));
}

#[test]
fn gc_says_what_it_frees_keeps_what_it_is_told_and_remembers_what_is_saved() {
    let Some(workspace) =
        Workspace::over(|base| fs::write(base.join("file"), vec![9; 100_000]).expect("written"))
    else {
        return;
    };
    (0..5).for_each(|n| commit(&workspace, n));
    let said = workspace.ok(&["gc"]);
    assert!(said.contains("kept: 16 commits for undo, at most 30d old, any size"), "{said}");
    let dry = workspace.ok(&["gc", "--dry-run", "--keep-commits", "2", "--keep-age", "none"]);
    assert!(
        dry.starts_with("would free ") && dry.contains("by 3 commits, 1 to 3: no longer to be undone"),
        "{dry}"
    );
    assert!(dry.contains("kept: 2 commits for undo, any age, any size"), "{dry}");
    let doctor = workspace.ok(&["doctor"]);
    assert!(doctor.contains("for undo; 'branchfs gc' frees"), "{doctor}");
    let json = workspace.ok(&["prune", "--keep-commits", "2", "--save", "--json"]);
    assert!(
        json.contains(r#""commits":[1,2,3]"#) && json.contains(r#""keep":{"commits":2,"age":2592000}"#),
        "{json}"
    );
    workspace.kill_daemon();
    // The daemon keeps to it by itself: one commit more, and one less can be undone.
    commit(&workspace, 5);
    workspace.ok(&["undo"]);
    workspace.ok(&["undo"]);
    let refused = workspace.cli(&["undo"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert_eq!(fs::read(workspace.base().join("file")).expect("read"), vec![3; 100_000]);
    for args in [["gc", "--keep-age", "30"], ["gc", "--keep-size", "1X"], ["gc", "--keep-commits", "-1"]] {
        assert_eq!(workspace.cli(&args).status.code(), Some(2), "{args:?}");
    }
}

/// Story: the daemon forgot what a patch was being made of; the patch ended in the middle.
#[test]
fn a_diff_held_in_the_middle_goes_on_after_a_collection_and_is_right() {
    // More than the pipes between daemon and reader hold.
    let files: Vec<String> = (0..20).map(|n| format!("f{n:02}")).collect();
    let fill = |dir: &std::path::Path, line: &str| {
        files.iter().for_each(|file| fs::write(dir.join(file), line.repeat(5_000)).expect("written"));
    };
    let Some(workspace) = Workspace::over(|base| fill(base, "before\n")) else { return };
    fill(&workspace.branch("change"), "after\n");
    workspace.commit("change");
    let everything = workspace.ok(&["diff", "@0", "@1"]);
    assert!(everything.len() > 1_000_000);
    let mut diff = workspace.command(&["diff", "@0", "@1"]).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut pipe = diff.stdout.take().expect("a pipe");
    let mut told = vec![0];
    pipe.read_exact(&mut told).expect("it has begun");
    let nothing = ["gc", "--keep-commits", "0", "--keep-age", "none", "--json"];
    assert!(workspace.ok(&nothing).contains(r#""commits":[]"#));
    pipe.read_to_end(&mut told).expect("the rest");
    assert!(diff.wait().expect("it ends").success());
    assert_eq!(String::from_utf8_lossy(&told), everything);
    assert!(workspace.ok(&nothing).contains(r#""commits":[1]"#));
}
