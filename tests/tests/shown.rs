//! What the log keeps of a commit, and what can be shown of it.

use std::fs;
use std::path::Path;

use branchfs_tests::Workspace;

fn project(base: &Path) {
    fs::write(base.join("kept"), "one\ntwo\n").expect("a file");
    fs::write(base.join("gone"), "gone\n").expect("a file");
}

/// The user and the time differ from run to run.
fn steady(shown: &str) -> String {
    let lines = shown.lines().map(|line| match line.split_once("  ") {
        Some(("user" | "time", _)) => line.split("  ").next().unwrap_or_default(),
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_commit_is_shown_with_who_when_what_for_and_the_patch() {
    let Some(workspace) = Workspace::over(project) else { return };
    let view = workspace.branch("idea");
    fs::write(view.join("kept"), "one\n2\n").expect("written");
    fs::remove_file(view.join("gone")).expect("removed");
    fs::write(view.join("new"), "x".repeat(3000)).expect("written");
    let message = "Count in figures\n\nFor those who \x1b[31mread\x1b[0m fast.";
    let said = workspace.ok(&["commit", "idea", "-m", message]);
    assert!(said.starts_with("committed idea into main as commit 1"), "{said}");

    let log = workspace.ok(&["log"]);
    assert!(log.trim_end().ends_with("Z  idea  3 paths, 2.9 KiB  Count in figures"), "{log}");
    let head = "commit  1\nbranch  idea\nuser\ntime\nsize    3 paths, 2.9 KiB\n\n    Count in figures\n    \n    \
                For those who \\u{1b}[31mread\\u{1b}[0m fast.\n\n";
    let shown = workspace.ok(&["show", "1"]);
    let patch = workspace.ok(&["diff", "@0", "@1"]);
    assert_eq!(steady(&shown), steady(&format!("{head}{patch}")), "as git show");
    assert!(patch.contains("-two\n+2\n"), "{patch}");
    assert_eq!(workspace.ok(&["show", "1", "--patch", "--no-pager"]), shown);
    let names = workspace.ok(&["show", "1", "--name-status"]);
    assert_eq!(steady(&names), format!("{head}D\tgone\nM\tkept\nA\tnew"));
    let stat = workspace.ok(&["show", "1", "--stat"]);
    assert!(stat.contains(" M kept | +1 -1\n") && stat.contains("3 paths changed, lines: +2 -2"), "{stat}");
    let uid = rustix::process::geteuid().as_raw();
    assert!(shown.contains(&format!("\nuser    {uid}\n")), "{shown}");

    let json: serde_json::Value =
        serde_json::from_str(&workspace.ok(&["show", "1", "--json"])).expect("JSON");
    let commit = &json["commit"];
    assert_eq!(
        (&commit["message"], &commit["bytes"], &commit["by"]),
        (&message.into(), &3006.into(), &uid.into())
    );
    assert_eq!((&json["kept"], json["changes"].as_array().map(Vec::len)), (&true.into(), Some(3)));
    let log: serde_json::Value = serde_json::from_str(&workspace.ok(&["log", "--json"])).expect("JSON");
    assert_eq!(log["commits"][0], *commit);
}

#[test]
fn undoing_is_shown_as_what_it_is_and_a_commit_that_is_not_there_is_refused() {
    let Some(workspace) = Workspace::over(project) else { return };
    fs::write(workspace.branch("idea").join("kept"), "").expect("written");
    workspace.ok(&["commit", "idea", "--message", "empty it"]);
    workspace.ok(&["undo"]);
    let shown = workspace.ok(&["show", "2"]);
    assert!(shown.starts_with("commit  2\nbranch  undo of 1: idea\nuser    "), "{shown}");
    assert!(shown.contains("+one\n+two\n") && !shown.contains("empty it"), "{shown}");
    for n in ["0", "3"] {
        let refused = workspace.cli(&["show", n]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("there is no commit {n} in the log; the newest is 2")), "{said}");
    }
}

#[test]
fn of_a_commit_whose_preimages_are_gone_the_log_knows_the_rest() {
    let Some(workspace) = Workspace::over(project) else { return };
    for n in 0..18 {
        let branch = format!("b{n}");
        fs::write(workspace.branch(&branch).join("kept"), format!("{n}\n")).expect("written");
        workspace.ok(&["commit", &branch, "-m", &format!("number {n}")]);
    }
    workspace.ok(&["stop"]);
    // A start of the daemon gives up what nobody needs; it answers when it serves, so ask until that is done.
    let gone = || workspace.store().join("preimage/1").exists();
    let mut tries = 0;
    while gone() && tries < 1000 {
        workspace.ok(&["status"]);
        tries += 1;
    }
    assert!(!gone(), "the preimages of the oldest commit are still there");
    let shown = workspace.ok(&["show", "1"]);
    assert!(shown.contains("changes no longer kept") && shown.contains("    number 0\n"), "{shown}");
    assert!(!shown.contains("diff --git"), "{shown}");
    let json: serde_json::Value =
        serde_json::from_str(&workspace.ok(&["show", "1", "--json"])).expect("JSON");
    assert_eq!((&json["kept"], json.get("changes")), (&false.into(), None));
    assert!(workspace.ok(&["show", "18"]).contains("-16\n+17\n"));
}

#[test]
fn a_message_has_a_limit_and_is_for_commits_into_the_base() {
    let Some(workspace) = Workspace::over(project) else { return };
    fs::write(workspace.branch("idea").join("kept"), "x").expect("written");
    let refused = workspace.cli(&["commit", "idea", "-m", &"x".repeat(4097)]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("bytes in the message of a commit (at most 4096)"), "{said}");
    workspace.ok(&["create", "below", "-p", "idea"]);
    fs::write(workspace.view("below").join("kept"), "y").expect("written");
    let said = workspace.ok(&["commit", "below", "-m", "why"]);
    assert!(
        said.contains("warning: the message is not kept: the log has commits into the base only"),
        "{said}"
    );
    workspace.ok(&["commit", "idea", "-m", &"x".repeat(4096)]);
    workspace.kill_daemon();
    let log: serde_json::Value = serde_json::from_str(&workspace.ok(&["log", "--json"])).expect("JSON");
    assert_eq!(log["commits"][0]["message"], "x".repeat(4096), "durable with the commit");
}
