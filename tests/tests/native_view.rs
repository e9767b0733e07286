//! Native views: programs work on a kernel overlayfs, and what is left of it is what the ordinary view would have given.
#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use branchfs_tests::{Rng, Times, Tree, Workspace, rounds, run_ok, seed, skip, tree, tree_without};

/// Overlayfs with all it has can be mounted by root only.
fn as_root(fill: impl Fn(&Path)) -> Option<Workspace> {
    if !rustix::process::geteuid().is_root() {
        skip("not root: overlayfs in a user namespace is another one");
        return None;
    }
    Workspace::over(fill)
}

fn sh(directory: &Path, script: &str) -> String {
    run_ok(Command::new("sh").current_dir(directory).args(["-ec", script]))
}

/// All kinds of objects, with times that are no accident.
fn fill(base: &Path) {
    let write = |path: &str, bytes: &[u8]| fs::write(base.join(path), bytes).unwrap();
    for dir in ["src", "lib/deep/er", "doc", "empty", "full/of/things"] {
        fs::create_dir_all(base.join(dir)).unwrap();
    }
    for n in 1..=5 {
        write(&format!("src/f{n}.c"), format!("int f{n}(void) {{ return {n}; }}\n").as_bytes());
        write(&format!("full/of/things/{n}"), &[n; 100]);
    }
    write("src/main.c", b"int main(void) { return 0; }\n");
    write("Makefile", b"all: app\napp: src/*.c\n\tcc -o app src/*.c\n");
    write("lib/a", b"one\n");
    fs::hard_link(base.join("lib/a"), base.join("lib/b")).unwrap();
    write("lib/deep/x", b"deep\n");
    write("lib/deep/er/y", b"deeper\n");
    symlink("../lib/a", base.join("doc/link")).unwrap();
    for name in ["doc/gone", "keep", "opened", "doc/swap1", "doc/swap2", "linked"] {
        write(name, name.as_bytes());
    }
    write("big", &[7; 300_000]);
    let dated = "mkfifo doc/fifo; setfattr -n user.k -v v lib/deep/x; find . -exec touch -h -d 2020-02-02T02:02:02.5 {} +";
    sh(base, dated);
}

/// Times of this run are now; older ones are somebody's.
fn with_known_times(tree: Tree) -> Tree {
    let known = |line: String| match line.split_once(" at ") {
        Some((before, rest)) => {
            let (time, after) = rest.split_once(' ').unwrap_or((rest, ""));
            let seconds: f64 = time.parse().unwrap();
            if seconds > 1.7e9 { format!("{before} at now {after}") } else { line }
        }
        None => line,
    };
    tree.into_iter().map(|(path, line)| (path, known(line))).collect()
}

/// The host counts links that are preimages, too.
fn with_own_links(tree: Tree) -> Tree {
    let own = |path: &Path, line: String| match line.split_once(" links ") {
        Some((before, links)) => match links.split_once(" of ") {
            Some((_, first)) if Path::new(first) != path => format!("{before} linked to {first}"),
            _ => before.to_owned(),
        },
        None => line,
    };
    tree.into_iter().map(|(path, line)| (path.clone(), own(&path, line))).collect()
}

/// What came of a script on one of the views.
#[derive(Debug, PartialEq, Eq)]
struct Came {
    said: String,
    diff: String,
    base: Tree,
}

/// Runs a script once on each view, over like bases.
fn on_both(fill: impl Fn(&Path), script: &str) -> Option<[Came; 2]> {
    let mut out = Vec::new();
    for view in ["fuse", "native"] {
        let workspace = as_root(&fill)?;
        let args = ["--json", "run", "--view", view, "-b", "w", "--keep", "--", "sh", "-ec", script];
        let ran = workspace.cli(&args);
        let (told, said) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{view}: {said}\n{told}");
        assert!(told.contains(&format!("\"view\":\"{view}\"")), "{told}");
        let diff = workspace.ok(&["diff", "w", "--name-status"]);
        let shown = with_own_links(tree(&workspace.view("w"), Times::Compare));
        workspace.commit("w");
        let base = with_own_links(tree(&workspace.base(), Times::Compare));
        assert_eq!(shown, base, "{view}: the base is what the branch showed");
        assert!(
            fs::read_dir(workspace.store().join("native")).map_or(true, |mut left| left.next().is_none())
        );
        // Git writes down numbers of inodes there.
        let base = tree_without(&workspace.base(), Times::Compare, &[".git/index"]);
        out.push(Came { said: said.into_owned(), diff, base: with_known_times(with_own_links(base)) });
    }
    <[Came; 2]>::try_from(out).ok()
}

fn same_on_both(fill: impl Fn(&Path), script: &str) {
    let Some([fuse, native]) = on_both(fill, script) else { return };
    assert_eq!(fuse, native, "{script}");
    assert!(!fuse.diff.is_empty(), "it did something");
}

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

/// A line of a random program: each says whether it worked, and goes on.
fn random_line(rng: &mut Rng) -> String {
    let paths = [
        "lib",
        "lib/a",
        "lib/b",
        "lib/deep",
        "lib/deep/x",
        "doc",
        "doc/gone",
        "doc/swap1",
        "empty",
        "full",
        "full/of/things",
    ];
    let more = [
        "n1",
        "n2",
        "n1/n3",
        "full/of/things/1",
        "src",
        "src/f1.c",
        "keep",
        "linked",
        "lib/deep/er",
        "n2/a",
        "big",
    ];
    let all: Vec<&str> = paths.into_iter().chain(more).collect();
    let [a, b] = [*rng.pick(&all), *rng.pick(&all)];
    match rng.below(15) {
        0 => format!("mkdir {a}"),
        1 => format!("rm -r {a}"),
        2 | 3 => format!("mv -T {a} {b}"),
        4 => format!("ln {a} {b}"),
        5 => format!("ln -s {a} {b}"),
        6 => format!("echo {} >{a}", rng.below(100)),
        7 | 8 => format!("echo {} >>{a}", rng.below(100)),
        9 => format!("chmod {} {a}", ["700", "755", "640", "600"][rng.below(4) as usize]),
        10 => format!("touch -h -d 200{}-01-01 {a}", rng.below(10)),
        11 => format!("setfattr -n user.r -v {} {a}", rng.below(10)),
        // What a copy into itself comes to depends on the order in which names are listed.
        12 if !b.starts_with(a) => format!("cp -a {a} {b}"),
        13 => format!("rmdir {a}"),
        _ => format!("cat {a}"),
    }
}

#[test]
fn random_programs_do_the_same_on_a_native_view() {
    let seed = seed();
    for round in 0..rounds(8) {
        let mut rng = Rng::new(seed, round);
        let lines: Vec<String> = (0..60).map(|_| random_line(&mut rng)).collect();
        let script = format!(
            "exec 2>&1 >&2; set +e\n{}",
            lines.iter().map(|line| format!("{line} || echo failed\n")).collect::<String>()
        );
        let Some([fuse, native]) = on_both(fill, &format!("{script}\ntrue")) else { return };
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

/// A command on the native view of branch `w` that has done its first half and waits to be let go on.
struct Halfway {
    child: Child,
}

impl Halfway {
    fn new(workspace: &Workspace, first: &str, second: &str) -> Halfway {
        let fifo = workspace.outside().join("go");
        run_ok(Command::new("mkfifo").arg(&fifo));
        let script = format!("{first}; echo ready; read line <'{}'; {second}", fifo.display());
        let mut command =
            workspace.command(&["run", "--view", "native", "-b", "w", "--keep", "--", "sh", "-ec", &script]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Halfway { child }
    }

    fn finish(mut self, workspace: &Workspace) {
        fs::File::options()
            .write(true)
            .open(workspace.outside().join("go"))
            .unwrap()
            .write_all(b"go\n")
            .unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

fn refused(workspace: &Workspace, args: &[&str]) -> String {
    let output = workspace.cli(args);
    assert!(!output.status.success(), "{args:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
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
