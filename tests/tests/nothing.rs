//! Commits and patches without a change, as people meet them.

use std::fs;
use std::process::Stdio;

use branchfs_tests::Workspace;

#[test]
fn a_commit_of_nothing_says_so_and_is_not_in_the_log() {
    let Some(workspace) = Workspace::over(|base| fs::write(base.join("a"), "a").expect("a file")) else {
        return;
    };
    workspace.ok(&["create", "idle", "rival"]);
    assert_eq!(
        workspace.ok(&["commit", "idle", "--dry-run"]),
        "idle has nothing to commit into main: it would end\n"
    );
    assert_eq!(
        workspace.ok(&["commit", "idle"]),
        "nothing to commit from idle into main; the branch has ended\nstale now: rival\n"
    );
    let log: serde_json::Value = serde_json::from_str(&workspace.ok(&["--json", "log"])).expect("json");
    assert_eq!(log["commits"], serde_json::json!([]));
    workspace.ok(&["create", "again"]);
    let told = workspace.ok(&["--json", "commit", "again", "-m", "why"]);
    let told: serde_json::Value = serde_json::from_str(&told).expect("json");
    assert_eq!(
        (&told["commit"]["changed"], &told["commit"]["commit"]),
        (&0.into(), &serde_json::Value::Null)
    );
    let warning = told["commit"]["warnings"][0].as_str().expect("a warning");
    assert!(warning.contains("the message is not kept"), "{warning}");
    let undo = workspace.cli(&["undo"]);
    assert_eq!(undo.status.code(), Some(1), "{undo:?}");
    let ran = workspace.cli(&["run", "--", "cat", "a"]);
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success() && said.starts_with("branchfs: nothing to commit from "), "{said}");
}

/// Story: in a fresh workspace `log` printed nothing, and refusals pointed to it, or to the help.
#[test]
fn a_workspace_without_commits_says_so() {
    let Some(workspace) = Workspace::over(|base| fs::write(base.join("a"), "a").expect("a file")) else {
        return;
    };
    assert_eq!(workspace.ok(&["log"]), "no commits yet\n");
    assert_eq!(workspace.ok(&["log", "-n", "0"]), "");
    workspace.ok(&["create", "idle"]);
    assert_eq!(workspace.ok(&["diff", "idle", "--stat"]), "");
    let show = workspace.cli(&["show", "1"]);
    let said = String::from_utf8_lossy(&show.stderr).into_owned();
    assert_eq!(show.status.code(), Some(1), "{said}");
    assert!(said.contains("there is no commit 1: nothing was committed into the base yet"), "{said}");
    assert!(said.contains("run 'branchfs log'"), "{said}");
}

/// Story: who had set the time of a directory, or made and removed a file in it, was told of a commit of "0 paths".
#[test]
fn a_commit_that_changes_directories_only_says_so() {
    let fill = |base: &std::path::Path| fs::create_dir(base.join("d")).expect("a directory");
    let Some(workspace) = Workspace::over(fill) else { return };
    let (past, dir) = (std::time::SystemTime::UNIX_EPOCH, workspace.branch("touched").join("d"));
    fs::File::open(&dir).expect("it is there").set_modified(past).expect("a time");
    let planned = workspace.ok(&["commit", "touched", "--dry-run"]);
    assert!(planned.starts_with("touched would be committed into main: directories only\n"), "{planned}");
    let said = workspace.ok(&["commit", "touched"]);
    assert_eq!(said, "committed touched into main as commit 1: directories only\n");
    let time = fs::metadata(workspace.base().join("d")).and_then(|found| found.modified()).expect("a time");
    assert_eq!(time, past, "what was set on purpose is there");
    workspace.branch("parent");
    workspace.ok(&["create", "child", "-p", "parent"]);
    let file = workspace.view("child").join("d/file");
    fs::write(&file, "").expect("made");
    fs::remove_file(&file).expect("removed");
    assert_eq!(workspace.ok(&["commit", "child"]), "committed child into parent: directories at most\n");
    assert_eq!(
        workspace.ok(&["commit", "parent"]),
        "committed parent into main as commit 2: directories only\n"
    );
    let log = workspace.ok(&["log"]);
    assert!(log.lines().count() == 2 && log.lines().all(|line| line.contains("directories only")), "{log}");
    let undone = workspace.ok(&["undo"]);
    assert_eq!(undone, "undid commit 2 (parent) as commit 3: directories only\n");
}

#[test]
fn globs_without_a_change_are_named_and_nothing_has_happened() {
    let Some(workspace) = Workspace::over(|base| fs::write(base.join("a"), "a").expect("a file")) else {
        return;
    };
    let view = workspace.branch("fix");
    fs::write(view.join("a"), "b").expect("written");
    for extra in [&[][..], &["--dry-run"]] {
        let refused = workspace.cli(&[&["commit", "fix", "--only", "src/*", "--only", "b"], extra].concat());
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("no change of 'fix' matches 'src/*' or 'b'"), "{said}");
    }
    assert_eq!(workspace.ok(&["diff", "fix", "--name-status"]), "M\ta\n");
}

#[test]
fn an_empty_patch_changes_nothing_and_is_no_error() {
    let Some(workspace) = Workspace::over(|base| fs::write(base.join("a"), "a").expect("a file")) else {
        return;
    };
    workspace.ok(&["create", "one", "two", "--independent"]);
    let empty = workspace.outside().join("empty.patch");
    fs::write(&empty, workspace.ok(&["diff", "one"])).expect("written");
    let empty = empty.to_str().expect("text");
    for into in ["two", "main"] {
        let wanted = format!("nothing to apply to {into}: the patch changes nothing\n");
        assert_eq!(workspace.ok(&["apply", into, empty]), wanted);
        let piped = workspace.command(&["apply", into]).stdin(Stdio::null()).output().expect("it runs");
        assert_eq!(String::from_utf8_lossy(&piped.stdout), wanted);
    }
    let told = workspace.ok(&["--json", "apply", "main", empty]);
    assert!(told.contains("\"changed\":0"), "{told}");
    let log = workspace.ok(&["--json", "log"]);
    assert!(log.contains("\"commits\":[]"), "{log}");
    let nobody = workspace.cli(&["apply", "nobody", empty]);
    assert_eq!(nobody.status.code(), Some(4), "{nobody:?}");
    // Words that are no patch are still a mistake.
    fs::write(empty, "no patch\n").expect("written");
    let refused = workspace.cli(&["apply", "two", empty]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("git does not apply the patch"), "{said}");
}
