//! The program itself, on a real workspace with a real daemon and a real mount: what it prints, what it
//! leaves, what code it exits with.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use serde_json::Value;

struct Workspace {
    temp: tempfile::TempDir,
    base: PathBuf,
}

impl Workspace {
    fn bare() -> Workspace {
        let temp = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(temp.path()).unwrap().join("base");
        fs::create_dir_all(base.join("src")).unwrap();
        fs::write(base.join("a"), "base\n").unwrap();
        Workspace { temp, base }
    }

    fn new() -> Workspace {
        let workspace = Workspace::bare();
        workspace.ok("init");
        workspace
    }

    fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_branchfs"));
        command.args(args).current_dir(&self.base).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Words split at blanks; must succeed; its standard output.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        let ran = self.run(&line.split_whitespace().collect::<Vec<_>>());
        assert!(ran.status.success(), "{line}: {ran:?}");
        String::from_utf8(ran.stdout).unwrap()
    }

    #[track_caller]
    fn json(&self, line: &str) -> Value {
        let text = self.ok(&format!("--json {line}"));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["version"], 1, "{text}");
        assert_eq!(text.lines().count(), 1);
        value
    }

    /// Must fail with `code`; its standard error, which ends in a hint.
    #[track_caller]
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let ran = self.run(args);
        let stderr = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(code), "{args:?}: {stderr}");
        stderr
    }

    fn view(&self, branch: &str) -> PathBuf {
        PathBuf::from(self.ok(&format!("path {branch}")).trim_end())
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.base.join(path)).unwrap()
    }

    fn daemon(&self) -> rustix::process::Pid {
        let pid = self.json("status")["status"]["pid"].as_i64().unwrap();
        rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
    }

    fn branches(&self) -> Vec<String> {
        let listed = self.json("list");
        let names = listed["branches"].as_array().unwrap().iter();
        names
            .map(|branch| branch["name"].as_str().unwrap().to_owned())
            .filter(|name| name != "main")
            .collect()
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        let stopped = self.run(&["umount"]);
        // Paths that others mount at need not be text.
        let mounts = fs::read("/proc/self/mountinfo").unwrap();
        let clean = !String::from_utf8_lossy(&mounts).contains(self.base.to_str().unwrap());
        if !thread::panicking() {
            assert!(clean, "a mount is left: {stopped:?}");
        }
    }
}

#[test]
fn without_a_workspace_the_hint_says_what_to_type() {
    let workspace = Workspace::bare();
    let said = workspace.fails(3, &["list"]);
    assert!(said.starts_with("branchfs: no branchfs workspace in "), "{said}");
    assert!(said.ends_with("hint: run 'branchfs init' here to make one\n"), "{said}");
    let ran = workspace.run(&["--json", "list"]);
    let error: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(error["error"]["kind"], "no-workspace");
    assert_eq!(error["error"]["exit_code"], 3);
    workspace.ok("init");
}

#[test]
fn a_workspace_is_made_once_and_found_from_below() {
    let workspace = Workspace::new();
    assert!(workspace.fails(1, &["init"]).contains("is a workspace already"));
    let listed = workspace.command(["-C", "src", "list"]).output().unwrap();
    assert_eq!(listed.stdout, b"main\n");
    assert_eq!(workspace.read(".branchfs/.gitignore"), "*\n");
}

#[test]
fn a_store_can_live_elsewhere_and_behind_a_path_longer_than_a_socket_address() {
    let workspace = Workspace::bare();
    let deep = workspace.temp.path().join("d".repeat(150));
    fs::create_dir(&deep).unwrap();
    let store = deep.join("store");
    workspace.ok(&format!("init --store {}", store.display()));
    workspace.ok("create one");
    assert!(workspace.view("one").starts_with(fs::canonicalize(&store).unwrap()));
    assert_eq!(fs::read_to_string(workspace.view("one").join("a")).unwrap(), "base\n");
    workspace.ok("umount");
}

#[test]
fn a_store_inside_the_content_is_refused() {
    let workspace = Workspace::bare();
    assert!(workspace.fails(2, &["init", "--store", "src/store"]).contains("part of the content"));
    workspace.ok("init");
}

#[test]
fn changes_of_a_branch_are_shown_and_committed_and_its_sibling_is_stale() {
    let workspace = Workspace::new();
    workspace.ok("create one two");
    fs::write(workspace.view("one").join("new"), "1\n2\n").unwrap();
    assert_eq!(workspace.ok("diff one --name-status"), "A\tnew\n");
    assert!(workspace.ok("diff one --stat").contains("+2 -0"));
    assert!(!workspace.base.join("new").exists());
    let report = workspace.json("commit one");
    assert_eq!(report["commit"]["stale"], serde_json::json!(["two"]));
    assert_eq!(workspace.read("new"), "1\n2\n");
    let said = workspace.fails(5, &["commit", "two"]);
    assert!(said.starts_with("branchfs: branch 'two' is stale"), "{said}");
    assert_eq!(workspace.json("log")["commits"][0]["branch"], "one");
    assert_eq!(workspace.branches(), Vec::<String>::new());
}

#[test]
fn failures_name_the_branch_and_have_codes_of_their_own() {
    let workspace = Workspace::new();
    assert!(workspace.fails(4, &["diff", "nobody"]).contains("'nobody'"));
    assert!(workspace.fails(2, &["create", ".hidden"]).contains(".hidden"));
    workspace.ok("create one");
    assert!(workspace.fails(1, &["create", "one"]).contains("exists already"));
    workspace.ok("create below -p one");
    assert!(workspace.fails(1, &["abort", "one"]).contains("below"));
    assert_eq!(workspace.ok("abort one --cascade"), "aborted below, one\n");
}

#[test]
fn what_the_base_changed_meanwhile_is_a_conflict_and_the_branch_is_kept() {
    let workspace = Workspace::new();
    let script = "echo branch > a; echo outside > .outside";
    workspace.ok("create one");
    fs::write(workspace.view("one").join("a"), "branch\n").unwrap();
    fs::write(workspace.base.join("a"), "edited outside\n").unwrap();
    let said = workspace.fails(6, &["run", "-b", "one", "--", "sh", "-c", script]);
    assert!(said.contains("  a: "), "the path is named: {said}");
    assert!(said.contains("hint: nothing is lost: the work is in branch 'one'"), "{said}");
    assert_eq!(workspace.read("a"), "edited outside\n");
    assert_eq!(workspace.branches(), ["one"]);
}

#[test]
fn a_conflict_names_path_and_kind_and_what_both_sides_have() {
    let workspace = Workspace::new();
    workspace.ok("create one two --independent");
    for (branch, text) in [("one", "one\n"), ("two", "the other\n")] {
        fs::write(workspace.view(branch).join("a"), text).unwrap();
        fs::write(workspace.view(branch).join("made\there"), text).unwrap();
    }
    workspace.ok("commit one");
    let said = workspace.fails(6, &["commit", "two"]);
    let seconds = |line: &str| line.split(", 20").next().unwrap().to_owned();
    let lines: Vec<String> = said.lines().map(seconds).collect();
    assert_eq!(
        lines,
        [
            "branchfs: 2 conflicting paths",
            "  a: content: both the branch and the base changed it",
            "      base    file, 5 bytes",
            "      ours    file, 10 bytes",
            "      theirs  file, 4 bytes",
            "  \"made\\there\": create/create: both the branch and the base made it",
            "      base    nothing",
            "      ours    file, 10 bytes",
            "      theirs  file, 4 bytes",
            "hint: the branch is untouched: decide with --merge[=GLOB], --ours[=GLOB] or --theirs[=GLOB] (try --dry-run), or abort it",
        ]
    );
    let ran = workspace.run(&["--json", "commit", "two"]);
    assert_eq!(ran.status.code(), Some(6));
    let json: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let [content, made] = &json["error"]["conflicts"].as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!((&content["path"], &content["kind"]), (&"a".into(), &"content".into()));
    let sizes = ["base", "ours", "theirs"].map(|side| content[side]["size"].as_u64());
    assert_eq!(sizes, [Some(5), Some(10), Some(4)]);
    assert_eq!(made["kind"], "create-create");
    assert!(made.get("base").is_none() && made["ours"]["mtime"].is_i64(), "{made}");
    assert_eq!(workspace.branches(), ["two"]);
}

#[test]
fn options_decide_conflicts_path_by_path_and_a_dry_run_says_how() {
    let workspace = Workspace::new();
    workspace.ok("create one two --independent");
    for (branch, text) in [("one", "one\n"), ("two", "the other\n")] {
        for path in ["a", "src/b", "src/c"] {
            fs::write(workspace.view(branch).join(path), text).unwrap();
        }
    }
    workspace.ok("commit one");
    let refused = workspace.run(&["commit", "two", "--dry-run"]);
    assert_eq!(refused.status.code(), Some(6));
    let said = String::from_utf8(refused.stdout).unwrap();
    assert!(
        said.starts_with("two cannot be committed into main: 3 conflicting paths\n  a: content: "),
        "{said}"
    );
    let said = workspace.fails(6, &["commit", "two", "--ours=src"]);
    assert!(
        said.contains("  a: ") && !said.contains("src/b") && said.contains("hint: nothing was changed"),
        "{said}"
    );
    workspace.fails(2, &["commit", "two", "--force", "--theirs"]);
    assert!(workspace.fails(1, &["commit", "two", "--ours=a["]).contains("'a[' is no glob"));
    let choose = ["commit", "two", "--ours=src/*", "--theirs"];
    let planned = workspace.run(&[&choose[..], &["--dry-run"]].concat());
    assert_eq!(
        String::from_utf8(planned.stdout).unwrap(),
        "two would be committed into main: 2 paths\n  theirs wins: a\n  ours wins: src/b\n  ours wins: src/c\n  \
         replace     src/b\n  replace     src/c\n  attributes  src\n  attributes  .\n"
    );
    let json = workspace.json("commit two --ours=src/* --theirs --dry-run");
    assert_eq!(json["plan"]["steps"][0], serde_json::json!({"action": "replace", "path": "src/b"}));
    assert_eq!((workspace.read("src/b"), workspace.branches()), ("one\n".to_owned(), vec!["two".to_owned()]));
    let committed = String::from_utf8(workspace.run(&choose).stdout).unwrap();
    assert!(committed.starts_with("committed two into main as commit 2: 2 paths\n"), "{committed}");
    assert!(committed.contains("  theirs wins: a\n  ours wins: src/b\n"), "{committed}");
    assert_eq!([workspace.read("a"), workspace.read("src/b")], ["one\n", "the other\n"]);
    assert_eq!(workspace.branches(), Vec::<String>::new());
}

/// A dry run of a part told of the whole branch.
#[test]
fn a_dry_run_of_a_part_tells_of_the_part_and_counts_as_the_commit_does() {
    let workspace = Workspace::new();
    workspace.ok("create parent");
    workspace.ok("create -p parent child");
    for branch in ["child", "parent"] {
        let view = workspace.view(branch);
        fs::write(view.join("elsewhere"), branch).unwrap();
        fs::create_dir_all(view.join("new")).unwrap();
        fs::write(view.join("new/file"), branch).unwrap();
        let planned = workspace.ok(&format!("commit {branch} --only new --dry-run"));
        let (count, rest) = planned.split_once('\n').unwrap();
        let count = count.rsplit_once(": ").unwrap().1;
        assert_eq!(count, "2 paths", "the directory and the file in it");
        assert!(rest.contains("new") && !rest.contains("elsewhere"), "{rest}");
        let json = workspace.json(&format!("commit {branch} --only new --dry-run"));
        assert_eq!(json["plan"]["changed"], 2);
        assert_eq!(
            json["plan"]["changes"],
            serde_json::json!([{"path": "new/file", "status": "added", "new_size": branch.len()}])
        );
        let done = workspace.ok(&format!("commit {branch} --only new"));
        assert!(done.lines().next().unwrap().ends_with(count), "{done}");
        workspace.ok(&format!("abort {branch}"));
    }
}

/// A file that both moved had no way out: neither option decides it, nor does moving it to where they did.
#[test]
fn the_hint_says_how_to_commit_where_both_moved_a_file_and_it_works() {
    let workspace = Workspace::new();
    workspace.ok("create one two --independent");
    for branch in ["one", "two"] {
        let view = workspace.view(branch);
        fs::rename(view.join("a"), view.join(branch)).unwrap();
    }
    workspace.ok("commit one");
    let said = workspace.fails(6, &["commit", "two", "--theirs"]);
    assert!(said.contains("move it back to a in the branch and say --theirs=a"), "{said}");
    let view = workspace.view("two");
    fs::rename(view.join("two"), view.join("a")).unwrap();
    fs::copy(view.join("a"), view.join("two")).unwrap();
    workspace.ok("commit two --theirs=a");
    assert_eq!([workspace.read("one"), workspace.read("two")], ["base\n", "base\n"]);
    assert!(!workspace.base.join("a").exists());
}

/// `a` is merged, `src/b` cannot be, `src/c` is no text: both branches changed all three.
#[test]
fn texts_are_merged_when_asked_for_and_with_markers_only_then() {
    let workspace = Workspace::new();
    let write = |dir: &Path, texts: [&[u8]; 3]| {
        for (path, text) in ["a", "src/b", "src/c"].into_iter().zip(texts) {
            fs::write(dir.join(path), text).unwrap();
        }
    };
    write(&workspace.base, [b"1\n2\n3\n", b"1\n2\n3\n", b"\0"]);
    workspace.ok("create one two three --independent");
    write(&workspace.view("one"), [b"one\n2\n3\n", b"1\none\n3\n", b"\0one"]);
    write(&workspace.view("two"), [b"1\n2\ntwo\n", b"1\ntwo\n3\n", b"\0two!"]);
    fs::write(workspace.view("three").join("a"), "1\nthree\n3\n").unwrap();
    workspace.ok("commit one");
    let said = workspace.fails(6, &["commit", "two", "--merge"]);
    assert!(
        said.contains(
            "  src/b: content: both the branch and the base changed it; merge: both changed line 2\n"
        ) && said.contains("  src/c: content: both the branch and the base changed it; merge: binary\n")
            && !said.contains("  a: "),
        "{said}"
    );
    assert_eq!(workspace.read("a"), "one\n2\n3\n");
    workspace.fails(2, &["commit", "two", "--markers"]);
    workspace.fails(2, &["commit", "two", "--merge", "--ours"]);
    let choose = "commit two --merge=a --merge=src/b --markers --theirs";
    let json = workspace.json(&format!("{choose} --dry-run"));
    let resolved = serde_json::json!([
        {"path": "a", "kind": "content", "choice": "merge"},
        {"path": "src/b", "kind": "content", "choice": "merge", "markers": 1},
        {"path": "src/c", "kind": "content", "choice": "theirs"},
    ]);
    assert_eq!((&json["plan"]["resolved"], workspace.read("a")), (&resolved, "one\n2\n3\n".to_owned()));
    let said = String::from_utf8(workspace.run(&choose.split(' ').collect::<Vec<_>>()).stdout).unwrap();
    assert!(
        said.contains("  merged: a\n  merged, with 1 marked conflict: src/b\n  theirs wins: src/c\n"),
        "{said}"
    );
    assert_eq!(workspace.read("a"), "one\n2\ntwo\n");
    let marked = "1\n<<<<<<< two\ntwo\n|||||||\n2\n=======\none\n>>>>>>> main\n3\n";
    assert_eq!(workspace.read("src/b"), marked);
    // A rebase merges as a commit does.
    workspace.fails(6, &["rebase", "three", "--merge"]);
    workspace.ok("undo");
    fs::write(workspace.view("three").join("a"), "1\n2\nthree\n").unwrap();
    let said = String::from_utf8(workspace.run(&["rebase", "three", "--merge"]).stdout).unwrap();
    assert!(said.contains("  merged: a\n"), "{said}");
    assert_eq!(fs::read_to_string(workspace.view("three").join("a")).unwrap(), "one\n2\nthree\n");
}

#[test]
fn an_explore_that_cannot_commit_shows_the_same_conflicts() {
    let workspace = Workspace::new();
    let pipes = ["changed", "edited"].map(|name| workspace.temp.path().join(name));
    for pipe in &pipes {
        assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    }
    let line = format!("echo mine > a; echo > {}; cat {}", pipes[0].display(), pipes[1].display());
    let explore = workspace
        .command(["explore", "--cmd", &line])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    fs::read(&pipes[0]).unwrap();
    fs::write(workspace.base.join("a"), "edited outside\n").unwrap();
    fs::write(&pipes[1], "").unwrap();
    let ran = explore.wait_with_output().unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    assert!(said.contains("  a: content: both the branch and the base changed it\n"), "{said}");
    assert!(said.contains("      theirs  file, 15 bytes"), "{said}");
    assert_eq!(workspace.read("a"), "edited outside\n");
}

#[test]
fn a_run_that_succeeds_commits_and_one_that_fails_leaves_nothing() {
    let workspace = Workspace::new();
    let ran = workspace.run(&["run", "--", "sh", "-c", "pwd; echo made > made"]);
    assert_eq!(String::from_utf8(ran.stdout).unwrap().trim_end(), workspace.base.to_str().unwrap());
    assert_eq!(workspace.read("made"), "made\n");
    workspace.fails(9, &["run", "--", "sh", "-c", "rm a made; exit 9"]);
    assert_eq!(workspace.read("made"), "made\n");
    workspace.fails(143, &["run", "--", "sh", "-c", "kill $$"]);
    workspace.fails(127, &["run", "--", "no-such-program"]);
    workspace.fails(126, &["run", "--", "./a"]);
    workspace.fails(124, &["run", "--timeout", "200ms", "--", "sleep", "1000"]);
    assert_eq!(workspace.branches(), Vec::<String>::new());
}

#[test]
fn a_run_keeps_what_it_is_told_to_and_a_typing_mistake_costs_nothing() {
    let workspace = Workspace::new();
    workspace.fails(1, &["run", "-b", "mine", "--keep", "--", "sh", "-c", "echo x > x; false"]);
    assert_eq!(workspace.branches(), ["mine"]);
    workspace.fails(127, &["run", "-b", "mine", "--", "no-such-program"]);
    assert_eq!(workspace.ok("diff mine --name-status"), "A\tx\n");
    workspace.ok("run -b mine -- cat x");
    assert_eq!(workspace.read("x"), "x\n");
}

#[test]
fn a_run_in_json_has_its_document_alone_on_standard_output() {
    let workspace = Workspace::new();
    let ran = workspace.run(&["run", "--json", "--", "sh", "-c", "echo noise; exit 3"]);
    let document: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(document["state"], "aborted");
    assert_eq!(document["exit_code"], 3);
    assert!(document.get("commit").is_none());
    assert_eq!(ran.stderr, b"noise\n");
    assert_eq!(ran.status.code(), Some(3));
}

/// It was told to make a workspace in the branch.
#[test]
fn a_verb_from_within_a_run_hears_how_its_branch_is_told_to_commit_and_that_works() {
    let workspace = Workspace::new();
    let script = "echo new > ../a; cd ..; $0 list; echo commit > .branchfs_ctl";
    let mut command = workspace.command(["run", "-b", "own", "--keep", "--", "sh", "-c", script]);
    let ran =
        command.arg(env!("CARGO_BIN_EXE_branchfs")).current_dir(workspace.base.join("src")).output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    let control = workspace.base.join(".branchfs_ctl");
    assert!(said.contains(&format!("'echo commit > {}'", control.display())), "{said}");
    assert_eq!(
        workspace.read("a"),
        "new
"
    );
}

#[test]
fn a_run_starts_in_the_directory_it_is_called_from() {
    let workspace = Workspace::new();
    let src = workspace.base.join("src");
    let ran = workspace.command(["run", "--", "sh", "-c", "echo here > here"]).current_dir(&src).status();
    assert!(ran.unwrap().success());
    assert_eq!(workspace.read("src/here"), "here\n");
}

/// A run whose command ignores signals and has a daemon, once it stands; everything in it bears a mark.
fn stubborn_run(workspace: &Workspace) -> Child {
    let script = "trap '' INT TERM HUP; setsid sh -c 'echo ready; sleep 1000; :' & wait";
    let mark = mark(workspace);
    let args = ["run", "-b", "stubborn", "--", "env", &mark, "sh", "-c", script];
    let mut child = workspace.command(args).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    // The two shells; whether the sleep has begun is not known.
    assert!(marked_processes(workspace) >= 2);
    child
}

fn mark(workspace: &Workspace) -> String {
    format!("CLI_TEST_MARK={}", workspace.base.display())
}

fn marked_processes(workspace: &Workspace) -> usize {
    let mark = mark(workspace);
    let bears = |path: PathBuf| {
        let environment = fs::read(path.join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    fs::read_dir("/proc").unwrap().filter(|entry| bears(entry.as_ref().unwrap().path())).count()
}

#[test]
fn an_interrupted_run_leaves_neither_process_nor_branch() {
    let workspace = Workspace::new();
    let mut child = stubborn_run(&workspace);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(marked_processes(&workspace), 0);
    assert_eq!(workspace.branches(), Vec::<String>::new());
}

#[test]
fn aborting_a_branch_from_outside_kills_what_runs_in_it() {
    let workspace = Workspace::new();
    let mut child = stubborn_run(&workspace);
    workspace.ok("abort stubborn");
    assert_eq!(marked_processes(&workspace), 0);
    // The branch has gone under it: there is nothing left to abort, and it says so.
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

/// A name is cut after fifteen bytes, in the middle of a character: whoever was below such a process was not known
/// to be in its group, and killed before its answer.
#[test]
fn a_commit_from_below_a_process_whose_name_is_no_text_is_answered() {
    let workspace = Workspace::new();
    workspace.ok("create a");
    let shell = workspace.temp.path().join("fourteen-bytesü");
    symlink("/bin/sh", &shell).unwrap();
    let mut waiting = Command::new("sh");
    waiting.args(["-c", "read go; \"$0\" -c '\"$0\" commit a; echo told $?' \"$1\"; exit 7"]).arg(&shell);
    waiting.arg(env!("CARGO_BIN_EXE_branchfs")).current_dir(&workspace.base);
    let mut group = waiting.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&group);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let mut client = branch_proto::Client::connect(&workspace.base.join(".branchfs/daemon.sock")).unwrap();
    client.attach("a", pid.as_raw_nonzero().get(), pidfd.as_fd()).unwrap();
    group.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let ended = group.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(said.ends_with("told 0\n"), "{said}");
    assert_eq!(ended.status.code(), Some(7), "{}", ended.status);
}

#[test]
fn a_killed_run_leaves_a_branch_that_can_be_aborted_and_no_process() {
    let workspace = Workspace::new();
    let mut child = stubborn_run(&workspace);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(workspace.branches(), ["stubborn"]);
    workspace.ok("abort stubborn");
    assert_eq!(marked_processes(&workspace), 0);
}

#[test]
fn an_interrupted_explore_leaves_neither_process_nor_branch() {
    let workspace = Workspace::new();
    let line = format!("export {}; trap '' INT TERM; setsid sleep 1000 & sleep 1000", mark(&workspace));
    let args = ["explore", "--cmd", &line, "--cmd", &line];
    let mut child = workspace.command(args).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap()).lines();
    for _ in 0..2 {
        assert!(progress.next().unwrap().unwrap().ends_with("running"));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    for _ in 0..2 {
        assert!(progress.next().unwrap().unwrap().contains("stopped, killed"));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(marked_processes(&workspace), 0);
    assert_eq!(workspace.branches(), Vec::<String>::new());
}

#[test]
fn an_explore_commits_one_and_tells_what_the_others_came_to() {
    let workspace = Workspace::new();
    let report = workspace.run(&[
        "explore",
        "--json",
        "--check",
        "grep -q right a",
        "--cmd",
        "sleep 1000",
        "--cmd",
        "echo wrong > a; sleep 1000",
        "--cmd",
        "sleep 0.2; echo right > a",
        "--cmd",
        "exit 4",
    ]);
    assert_eq!(report.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let explore = &report["explore"];
    assert_eq!(explore["winner"], 2, "{report}");
    let verdicts: Vec<&str> =
        explore["attempts"].as_array().unwrap().iter().map(|a| a["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["lost", "lost", "won", "failed"]);
    assert_eq!(workspace.read("a"), "right\n");
    assert_eq!(workspace.branches(), Vec::<String>::new());
}

#[test]
fn an_explore_without_a_winner_changes_nothing_and_shows_the_output() {
    let workspace = Workspace::new();
    let ran =
        workspace.run(&["explore", "-n", "2", "--", "sh", "-c", "echo try $BRANCH_ATTEMPT; rm a; exit 1"]);
    assert_eq!(ran.status.code(), Some(8));
    let said = String::from_utf8(ran.stdout).unwrap();
    assert!(said.contains("try 1") && said.contains("try 2"), "{said}");
    assert_eq!(workspace.read("a"), "base\n");
}

#[test]
fn a_stopped_daemon_starts_again_with_its_branches() {
    let workspace = Workspace::new();
    workspace.ok("create one");
    fs::write(workspace.view("one").join("kept"), "kept").unwrap();
    let first = workspace.json("status")["status"]["pid"].clone();
    assert_eq!(workspace.json("stop")["pid"], first);
    assert!(workspace.json("stop").get("pid").is_none());
    assert_eq!(workspace.branches(), ["one"]);
    assert_eq!(fs::read_to_string(workspace.view("one").join("kept")).unwrap(), "kept");
    assert_ne!(workspace.json("status")["status"]["pid"], first);
}

#[test]
fn twenty_programs_at_once_start_one_daemon() {
    let workspace = Workspace::new();
    let children: Vec<Child> = (0..20)
        .map(|_| workspace.command(["--json", "status"]).stdout(Stdio::piped()).spawn().unwrap())
        .collect();
    let pids: Vec<Value> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            serde_json::from_slice::<Value>(&output.stdout).unwrap()["status"]["pid"].clone()
        })
        .collect();
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
}

#[test]
fn a_daemon_that_cannot_start_says_why() {
    let workspace = Workspace::new();
    // The store is of a format of the future.
    fs::write(workspace.base.join(".branchfs/format"), "branchfs 99\n").unwrap();
    let said = workspace.fails(7, &["list"]);
    assert!(said.contains("did not start") && said.contains("99"), "{said}");
}

#[test]
fn a_killed_daemon_is_replaced_by_the_next_command() {
    let workspace = Workspace::new();
    workspace.ok("create one");
    let daemon =
        rustix::process::pidfd_open(workspace.daemon(), rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_send_signal(&daemon, rustix::process::Signal::KILL).unwrap();
    let mut watched = [rustix::event::PollFd::new(&daemon, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut watched, None).unwrap();
    let said = workspace.run(&["doctor"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(String::from_utf8(said.stdout).unwrap().contains("FAIL  mount"));
    assert_eq!(workspace.branches(), ["one"]);
}

/// A signal or an unmount stops the daemon. Commands that came while it was on its way out failed: "connection reset", or
/// "the store is open in another process".
#[test]
fn a_command_during_the_end_of_a_daemon_starts_the_next() {
    let workspace = Workspace::new();
    workspace.ok("create one");
    for _ in 0..20 {
        rustix::process::kill_process(workspace.daemon(), rustix::process::Signal::TERM).unwrap();
        assert_eq!(workspace.branches(), ["one"]);
    }
}

#[test]
fn how_file_data_are_served_can_be_chosen() {
    let workspace = Workspace::new();
    for (data, other) in [("opened", "cached"), ("cached", "opened")] {
        workspace.ok(&format!("mount --data {data}"));
        assert!(workspace.ok("status").contains(&format!("data {data}")));
        assert!(workspace.fails(1, &["mount", "--data", other]).contains(&format!("with data {data}")));
        workspace.ok(&format!("mount --data {data}"));
        workspace.ok("umount");
        let status = workspace.command(["status"]).env("BRANCHFS_DATA", other).output().unwrap();
        assert!(String::from_utf8(status.stdout).unwrap().contains(&format!("data {other}")));
        workspace.ok("umount");
    }
    assert!(workspace.fails(2, &["mount", "--data", "guessed"]).contains("guessed"));
}

#[test]
fn the_views_can_be_mounted_elsewhere() {
    let workspace = Workspace::new();
    let mountpoint = fs::canonicalize(workspace.temp.path()).unwrap().join("views");
    fs::create_dir(&mountpoint).unwrap();
    workspace.ok(&format!("mount {}", mountpoint.display()));
    workspace.ok("create one");
    assert_eq!(workspace.view("one"), mountpoint.join("one"));
    assert!(workspace.fails(1, &["mount", "src"]).contains("already"));
    workspace.ok("umount");
    assert_eq!(fs::read_dir(&mountpoint).unwrap().count(), 0);
}

#[test]
fn names_that_upset_terminals_are_quoted_and_json_keeps_their_bytes() {
    let workspace = Workspace::new();
    workspace.ok("create one");
    let view = workspace.view("one");
    fs::write(view.join("esc\x1b[2J"), "").unwrap();
    fs::write(view.join(OsStr::from_bytes(b"byte\xff")), "").unwrap();
    symlink("a", view.join("to a")).unwrap();
    let shown = workspace.ok("diff one --name-status");
    assert_eq!(shown, "A\t\"byte\\377\"\nA\t\"esc\\033[2J\"\nA\tto a\n");
    let path = &workspace.json("diff one")["changes"][0]["path"];
    assert_eq!(*path, serde_json::json!([98, 121, 116, 101, 255]));
}

#[test]
fn the_demo_holds_what_it_claims_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_branchfs"))
        .args(["demo", "--json"])
        .env("TMPDIR", temp.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    for claim in told["claims"].as_array().unwrap() {
        assert_eq!(claim["holds"], true, "{claim}");
    }
    assert!(ran.status.success());
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    assert!(Path::new(temp.path()).exists());
}

/// `git apply` of a patch on standard input, in a directory that is no repository of its own.
fn git_apply(dir: &Path, patch: &[u8]) -> Output {
    use std::io::Write;
    let mut git = Command::new("git");
    git.arg("apply").current_dir(dir).env("GIT_CEILING_DIRECTORIES", dir.parent().unwrap());
    let mut git = git.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    git.stdin.take().unwrap().write_all(patch).unwrap();
    git.wait_with_output().unwrap()
}

#[test]
fn a_diff_is_a_patch_that_git_takes() {
    let workspace = Workspace::new();
    let copy = workspace.temp.path().join("copy");
    fs::create_dir_all(copy.join("src")).unwrap();
    fs::write(copy.join("a"), "base\n").unwrap();
    workspace.ok("create one");
    let view = workspace.view("one");
    fs::write(view.join("a"), "base\nmore\n").unwrap();
    // More than one frame of the protocol could hold of paths, and than a pipe holds of bytes.
    fs::write(view.join("src/bytes"), (0..3_000_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>())
        .unwrap();
    symlink("a", view.join("to a")).unwrap();
    fs::create_dir(view.join("empty")).unwrap();
    let ran = workspace.run(&["diff", "one"]);
    assert!(ran.status.success());
    let expected = "branchfs: git has no words for 1 empty directory (empty): not in the patch\n";
    assert_eq!(String::from_utf8(ran.stderr).unwrap(), expected);
    assert!(ran.stdout.starts_with(b"diff --git a/a b/a\nindex "), "{}", ran.stdout[..200].escape_ascii());
    let applied = git_apply(&copy, &ran.stdout);
    assert!(applied.status.success(), "{applied:?}");
    for path in ["a", "src/bytes", "to a"] {
        assert!(fs::read(copy.join(path)).unwrap() == fs::read(view.join(path)).unwrap(), "{path}");
    }
}

#[test]
fn any_two_of_branches_base_and_commits_are_compared() {
    let workspace = Workspace::new();
    for (branch, content) in [("one", "1\n"), ("two", "2\n")] {
        workspace.ok(&format!("create {branch}"));
        fs::write(workspace.view(branch).join("a"), content).unwrap();
        workspace.ok(&format!("commit {branch}"));
    }
    workspace.ok("create three");
    fs::write(workspace.view("three").join("b"), "3\n").unwrap();
    let changed = |line: &str| {
        let patch = workspace.ok(line);
        patch.lines().filter(|line| line.starts_with(['-', '+'])).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(changed("diff @0 @1"), ["--- a/a", "+++ b/a", "-base", "+1"]);
    assert_eq!(changed("diff @2 @0"), ["--- a/a", "+++ b/a", "-2", "+base"]);
    assert_eq!(changed("diff @2 main"), [""; 0]);
    assert_eq!(changed("diff main three"), ["--- /dev/null", "+++ b/b", "+3"]);
    assert_eq!(workspace.ok("diff @1 three --name-status"), "M\ta\nA\tb\n");
    let told = workspace.json("diff @1 three --stat");
    assert_eq!((&told["old"], &told["new"]), (&"@1".into(), &"three".into()));
    assert_eq!(told["changes"][0]["added"], 1);
    let said = workspace.fails(1, &["diff", "@7", "main"]);
    assert!(said.contains("the base after commit 7 cannot be seen; after commits 0 to 2 it can"), "{said}");
    assert!(workspace.fails(2, &["diff", "@1"]).contains("hint: name two: 'branchfs diff @1 main'"));
    assert!(workspace.fails(2, &["diff", "@x", "main"]).contains("'@x' is no commit"));
    assert!(workspace.fails(4, &["diff", "main", "nobody"]).contains("'nobody'"));
}

/// Output of the program on a terminal, with these variables set; none of those that choose pager or colours otherwise.
fn on_terminal(workspace: &Workspace, line: &str, environment: &[(&str, &str)]) -> (String, Option<i32>) {
    use std::io::Read;
    use std::os::fd::{FromRawFd, OwnedFd};
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: two integers to write to; name, attributes and size may be null.
    let made = unsafe {
        let nothing = std::ptr::null_mut();
        libc::openpty(&mut master, &mut slave, nothing, nothing.cast(), nothing.cast())
    };
    assert_eq!(made, 0);
    // SAFETY: openpty made both for us.
    let (master, slave) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    let mut command = workspace.command(line.split_whitespace());
    for name in ["BRANCHFS_PAGER", "PAGER", "NO_COLOR", "LESS"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm").envs(environment.iter().copied()).stdout(slave);
    let mut program = command.spawn().unwrap();
    drop(command);
    let mut shown = Vec::new();
    let mut buffer = [0; 4096];
    let mut master = fs::File::from(master);
    // The end of a terminal that nobody has open is EIO.
    while let Ok(got @ 1..) = master.read(&mut buffer) {
        shown.extend(&buffer[..got]);
    }
    let code = program.wait().unwrap().code();
    (String::from_utf8(shown).unwrap().replace("\r\n", "\n"), code)
}

#[test]
fn on_a_terminal_a_diff_is_coloured_and_paged() {
    let workspace = Workspace::new();
    workspace.ok("create one");
    fs::write(workspace.view("one").join("a"), "changed\n").unwrap();
    let plain = workspace.ok("diff one");
    let coloured = workspace.ok("diff one --color=always");
    assert!(coloured.contains("\x1b[31m-base\x1b[m\n\x1b[32m+changed\x1b[m\n"), "{coloured:?}");
    let shown = |line: &str, environment: &[(&str, &str)]| on_terminal(&workspace, line, environment);
    assert_eq!(shown("diff one --no-pager", &[]), (coloured.clone(), Some(0)));
    assert_eq!(shown("diff one --no-pager", &[("NO_COLOR", "1")]), (plain.clone(), Some(0)));
    assert_eq!(shown("diff one --color=never", &[("PAGER", "")]), (plain.clone(), Some(0)));
    assert_eq!(shown("diff one", &[("PAGER", "cat")]), (coloured.clone(), Some(0)));
    let numbered = [("PAGER", "false"), ("BRANCHFS_PAGER", "sed s/^/paged:/"), ("NO_COLOR", "1")];
    let paged: String = plain.lines().map(|line| format!("paged:{line}\n")).collect();
    assert_eq!(shown("diff one", &numbered), (paged, Some(0)));
    assert_eq!(shown("diff one --name-status", &numbered), ("paged:M\ta\n".into(), Some(0)));
    // A pager that leaves early is none of our business, one that is not there is.
    assert_eq!(shown("diff one", &[("PAGER", "true")]).1, Some(0));
    assert_eq!(shown("diff one", &[("PAGER", "/no/pager 2>/dev/null")]).1, Some(1));
}

#[test]
fn a_reader_that_leaves_ends_a_diff_without_a_word_and_holds_nobody_up() {
    use std::io::Read;
    let workspace = Workspace::new();
    workspace.ok("create one");
    fs::write(
        workspace.view("one").join("big"),
        (0..4_000_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>(),
    )
    .unwrap();
    let mut diff = workspace.command(["diff", "one"]);
    let mut diff = diff.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    diff.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"diff --git");
    // While it waits for its reader, others are served.
    workspace.ok("create two");
    workspace.ok("abort two");
    drop(diff.stdout.take());
    let ended = diff.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    // One that never reads keeps the daemon from nothing, not even from stopping.
    let mut stuck = workspace.command(["diff", "one"]);
    let mut stuck = stuck.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    stuck.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    workspace.ok("stop");
    stuck.kill().unwrap();
    stuck.wait().unwrap();
}

/// Runs a line with this on its standard input.
fn fed(workspace: &Workspace, line: &str, input: &[u8], environment: &[(&str, &str)]) -> Output {
    use std::io::Write;
    let mut command = workspace.command(line.split_whitespace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut program = command.envs(environment.iter().copied()).spawn().unwrap();
    program.stdin.take().unwrap().write_all(input).unwrap();
    program.wait_with_output().unwrap()
}

#[test]
fn a_patch_is_applied_to_a_branch_or_to_the_base_as_a_whole_or_not_at_all() {
    let workspace = Workspace::new();
    workspace.ok("create one two --independent");
    let one = workspace.view("one");
    fs::write(one.join("a"), "by one\n").unwrap();
    fs::write(one.join("src/bytes"), b"\0\x01").unwrap();
    symlink("a", one.join("link")).unwrap();
    let patch = workspace.run(&["diff", "one"]).stdout;
    let applied = fed(&workspace, "apply two", &patch, &[]);
    assert!(applied.status.success(), "{applied:?}");
    assert_eq!(String::from_utf8(applied.stdout).unwrap(), "applied to two: 3 paths\n");
    assert_eq!(workspace.run(&["diff", "two"]).stdout, patch);
    // Half of it is there already, so none of it is done again.
    let before = workspace.ok("diff two --name-status");
    let refused = fed(&workspace, "apply two -", &patch, &[]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.starts_with("branchfs: git does not apply the patch\n  error: "), "{said}");
    assert!(
        said.ends_with("hint: nothing has changed; is it meant for another branch, or applied already?\n")
    );
    assert_eq!(workspace.ok("diff two --name-status"), before);
    assert_eq!(workspace.branches(), ["one", "two"]);
    let file = workspace.temp.path().join("one.patch");
    fs::write(&file, &patch).unwrap();
    // The way back is a patch as well.
    let back = workspace.run(&["diff", "two", "main"]).stdout;
    assert!(fed(&workspace, "apply two", &back, &[]).status.success());
    assert_eq!(workspace.ok("diff main two"), "");
    let told = workspace.json(&format!("apply main {}", file.display()));
    assert_eq!((&told["applied"]["into"], &told["applied"]["commit"]), (&"main".into(), &1.into()));
    assert_eq!(workspace.read("link"), "by one\n");
    assert!(workspace.fails(4, &["apply", "nobody", file.to_str().unwrap()]).contains("'nobody'"));
    assert!(workspace.fails(1, &["apply", "two", "/no/such"]).contains("cannot read /no/such"));
    // No git: said before anything else is tried.
    let none = fed(&workspace, "apply two", &patch, &[("PATH", "/nowhere")]);
    assert!(String::from_utf8(none.stderr).unwrap().contains("hint: install git"));
    assert_eq!(workspace.branches(), ["one", "two"]);
}

#[test]
fn no_attributes_settings_or_variables_have_a_say_in_what_a_patch_does() {
    let workspace = Workspace::new();
    let git = |args: &[&str]| {
        assert!(Command::new("git").args(args).current_dir(&workspace.base).status().unwrap().success());
    };
    git(&["init", "-q"]);
    git(&["config", "apply.whitespace", "fix"]);
    git(&["config", "filter.shout.smudge", "tr a-z A-Z"]);
    fs::write(workspace.base.join(".gitattributes"), "* text eol=crlf filter=shout\n").unwrap();
    workspace.ok("create one two --independent");
    fs::write(workspace.view("one").join("a"), "blanks  \nand\r\nno more").unwrap();
    let patch = workspace.run(&["diff", "one"]).stdout;
    let odd = [("GIT_DIR", "/nowhere"), ("GIT_WORK_TREE", "/"), ("GIT_INDEX_FILE", "/nowhere")];
    let applied = fed(&workspace, "apply two", &patch, &odd);
    assert!(applied.status.success(), "{applied:?}");
    assert_eq!(fs::read(workspace.view("two").join("a")).unwrap(), b"blanks  \nand\r\nno more");
}
