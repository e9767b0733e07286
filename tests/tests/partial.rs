//! A partial commit under the eyes of those who work in the branch.

use std::fs;
use std::io::Write;
use std::path::Path;

use branchfs_tests::Workspace;

fn project(base: &Path) {
    fs::create_dir_all(base.join("src")).expect("a directory");
    for name in ["src/one", "src/two", "readme"] {
        fs::write(base.join(name), "before\n").expect("a file");
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn part_of_a_branch_is_committed_under_a_running_program_and_the_rest_goes_on() {
    let Some(workspace) = Workspace::over(project) else { return };
    workspace.ok(&["create", "mine"]);
    let (mine, base) = (workspace.view("mine"), workspace.base());
    fs::write(mine.join("src/one"), "after\n").expect("a file");
    fs::write(mine.join("src/two"), "after\n").expect("a file");
    fs::create_dir_all(mine.join("new/deep")).expect("directories");
    fs::write(mine.join("new/deep/wanted"), "wanted\n").expect("a file");
    fs::write(mine.join("new/deep/unwanted"), "unwanted\n").expect("a file");
    fs::rename(mine.join("readme"), mine.join("README")).expect("moved");
    let mut log = fs::OpenOptions::new().append(true).create(true).open(mine.join("log")).expect("open");
    writeln!(log, "1").expect("written");

    let plan = workspace.ok(&["commit", "mine", "--only", "src/one", "--only", "**/wanted", "--dry-run"]);
    assert!(plan.contains("src/one") && !plan.contains("README"), "{plan}");
    let said = workspace.ok(&["commit", "mine", "--only", "src/one", "--only", "**/wanted"]);
    assert!(said.starts_with("committed mine into main as commit 1: "), "{said}");
    assert!(said.contains("mine goes on: "), "{said}");
    assert_eq!(read(&base.join("src/one")), "after\n");
    assert_eq!(read(&base.join("src/two")), "before\n");
    assert_eq!(read(&base.join("new/deep/wanted")), "wanted\n");
    assert!(!base.join("new/deep/unwanted").exists() && base.join("readme").exists());
    // The view is what it was, and goes on.
    for (name, bytes) in [
        ("src/one", "after\n"),
        ("src/two", "after\n"),
        ("new/deep/wanted", "wanted\n"),
        ("new/deep/unwanted", "unwanted\n"),
        ("README", "before\n"),
    ] {
        assert_eq!(read(&mine.join(name)), bytes, "{name}");
    }
    writeln!(log, "2").expect("written");
    assert_eq!(read(&mine.join("log")), "1\n2\n");
    let status = workspace.ok(&["diff", "--name-status", "mine"]);
    assert_eq!(status, "R\treadme\tREADME\nA\tlog\nA\tnew/deep/unwanted\nM\tsrc/two\n");

    let refused = workspace.cli(&["commit", "mine", "--only", "README"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("'README' goes together with 'readme'"), "{said}");
    let refused = workspace.cli(&["commit", "mine", "--only", "nothing"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("no change of 'mine' matches 'nothing'"), "{said}");

    workspace.ok(&["stop"]);
    let json = workspace.ok(&["--json", "commit", "mine", "--except", "**/unwanted"]);
    assert!(json.contains("\"stays\"") && json.contains('1'), "{json}");
    assert_eq!(read(&base.join("log")), "1\n2\n");
    assert_eq!(workspace.ok(&["diff", "--name-status", "mine"]), "A\tnew/deep/unwanted\n");
    workspace.ok(&["commit", "mine"]);
    assert_eq!(read(&base.join("new/deep/unwanted")), "unwanted\n");
}
