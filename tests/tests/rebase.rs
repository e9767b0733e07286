//! A rebase under the eyes of those who work in the branch: what others committed since shows at once.

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use branchfs_tests::Workspace;

fn project(base: &Path) {
    for n in 0..20 {
        let dir = base.join(format!("src/d{}", n % 4));
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join(format!("f{n}")), format!("{n}\n")).expect("a file");
    }
    fs::write(base.join("readme"), "before\n").expect("a file");
    fs::write(base.join("linked"), "before\n").expect("a file");
    fs::hard_link(base.join("linked"), base.join("second-name")).expect("a link");
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn what_was_committed_since_shows_at_once_and_the_branch_s_own_work_and_open_files_stay() {
    let Some(workspace) = Workspace::over(project) else { return };
    workspace.ok(&["create", "--independent", "theirs", "mine"]);
    let (theirs, mine) = (workspace.view("theirs"), workspace.view("mine"));
    fs::write(mine.join("own"), "mine\n").expect("a file");
    fs::write(mine.join("src/d1/f1"), "mine\n").expect("a file");
    // Everything that is about to change is known to the kernel, absence too.
    assert_eq!(read(&mine.join("readme")), "before\n");
    assert_eq!(read(&mine.join("second-name")), "before\n");
    assert_eq!(read(&mine.join("src/d2/f2")), "2\n");
    assert!(!mine.join("new").exists());
    assert_eq!(fs::read_dir(mine.join("src")).expect("a directory").count(), 4);
    let mut open = fs::OpenOptions::new().read(true).append(true).open(mine.join("own")).expect("open");
    let mut replaced = fs::File::open(mine.join("readme")).expect("open");
    let number = fs::metadata(mine.join("own")).expect("it is there").ino();

    fs::write(theirs.join("readme"), "after\n").expect("a file");
    fs::write(theirs.join("linked"), "after!\n").expect("a file");
    fs::create_dir(theirs.join("new")).expect("a directory");
    fs::write(theirs.join("new/file"), "new\n").expect("a file");
    fs::remove_dir_all(theirs.join("src/d2")).expect("gone");
    fs::rename(theirs.join("src/d3"), theirs.join("d3")).expect("moved");
    workspace.ok(&["commit", "theirs"]);
    assert_eq!(read(&mine.join("readme")), "before\n", "isolated until asked");

    let said = workspace.ok(&["rebase", "mine"]);
    assert_eq!(said, "rebased mine onto the present state of main: 2 changed paths\n");
    assert_eq!(read(&mine.join("readme")), "after\n");
    assert_eq!(read(&mine.join("second-name")), "after!\n");
    assert_eq!(read(&mine.join("new/file")), "new\n");
    assert!(!mine.join("src/d2").exists() && !mine.join("src/d3").exists());
    assert_eq!(read(&mine.join("d3/f3")), "3\n");
    assert_eq!(fs::read_dir(mine.join("src")).expect("a directory").count(), 2);
    assert_eq!(read(&mine.join("src/d1/f1")), "mine\n");

    writeln!(open, "more").expect("written");
    open.rewind().expect("to the beginning");
    let mut text = String::new();
    open.read_to_string(&mut text).expect("read");
    assert_eq!(text, "mine\nmore\n");
    assert_eq!(fs::metadata(mine.join("own")).expect("it is there").ino(), number);
    let mut old = String::new();
    match replaced.read_to_string(&mut old) {
        Ok(_) => assert_eq!(old, "before\n", "never the bytes of another file"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::STALE.raw_os_error())),
    }

    assert_eq!(workspace.ok(&["diff", "--name-status", "mine"]), "A\town\nM\tsrc/d1/f1\n");
    let said = workspace.ok(&["rebase", "mine"]);
    assert_eq!(said, "mine is on the present state of main already\n");
    workspace.ok(&["commit", "mine"]);
    assert_eq!(read(&workspace.base().join("own")), "mine\nmore\n");
    assert_eq!(read(&workspace.base().join("readme")), "after\n");
}

#[test]
fn a_conflict_is_told_as_by_a_commit_and_decided_by_the_same_options() {
    let Some(workspace) = Workspace::over(project) else { return };
    workspace.ok(&["create", "--independent", "theirs", "mine"]);
    for branch in ["theirs", "mine"] {
        fs::write(workspace.view(branch).join("readme"), branch).expect("a file");
        fs::write(workspace.view(branch).join("src/d0/f0"), branch).expect("a file");
    }
    workspace.ok(&["commit", "theirs"]);
    let refused = workspace.cli(&["rebase", "mine"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(6), "{said}");
    assert!(said.contains("readme: content:") && said.contains("src/d0/f0: content:"), "{said}");
    assert_eq!(read(&workspace.view("mine").join("readme")), "mine");
    let said = workspace.ok(&["rebase", "mine", "--ours=readme", "--theirs"]);
    assert!(said.contains("ours wins: readme") && said.contains("theirs wins: src/d0/f0"), "{said}");
    assert_eq!(read(&workspace.view("mine").join("readme")), "mine");
    assert_eq!(read(&workspace.view("mine").join("src/d0/f0")), "theirs");
    let json = workspace.ok(&["--json", "rebase", "mine"]);
    assert!(json.contains(r#""moved":false"#) || json.contains(r#""moved": false"#), "{json}");
    workspace.ok(&["commit", "mine"]);
    assert_eq!(read(&workspace.base().join("readme")), "mine");
}
