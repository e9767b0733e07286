//! The same work on a FUSE view and on a native one.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use branchfs_tests::{Rng, Times, Tree, Workspace, run_ok, skip, tree, tree_without};

/// Overlayfs with all it has can be mounted by root only.
pub(crate) fn as_root(fill: impl Fn(&Path)) -> Option<Workspace> {
    if !rustix::process::geteuid().is_root() {
        skip("not root: overlayfs in a user namespace is another one");
        return None;
    }
    Workspace::over(fill)
}

pub(crate) fn sh(directory: &Path, script: &str) -> String {
    run_ok(Command::new("sh").current_dir(directory).args(["-ec", script]))
}

/// All kinds of objects, with times that are no accident.
pub(crate) fn fill(base: &Path) {
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
pub(crate) struct Came {
    pub(crate) said: String,
    pub(crate) diff: String,
    pub(crate) base: Tree,
}

/// What was done on FUSE views before.
#[derive(Clone, Copy)]
pub(crate) enum Before<'a> {
    /// In a branch that the next one is forked from.
    Above(&'a str),
    /// In the branch itself.
    Here(&'a str),
}

/// Does what was before: the name of the branch that `w` is forked from, and how many there are above it.
fn prepare(workspace: &Workspace, before: &[Before<'_>]) -> (String, usize) {
    let (mut parent, mut depth) = ("main".to_owned(), 0);
    for step in before {
        let (name, script) = match step {
            Before::Above(script) => (format!("b{depth}"), script),
            Before::Here(script) => ("w".to_owned(), script),
        };
        workspace.ok(&["run", "-b", &name, "-p", &parent, "--keep", "--", "sh", "-ec", script]);
        if let Before::Above(_) = step {
            parent = name;
            depth += 1;
        }
    }
    (parent, depth)
}

/// Runs a script once on each view, over like bases, in branch `w`.
pub(crate) fn on_both(fill: impl Fn(&Path), before: &[Before<'_>], script: &str) -> Option<[Came; 2]> {
    let mut out = Vec::new();
    for view in ["fuse", "native"] {
        let workspace = as_root(&fill)?;
        let (parent, depth) = prepare(&workspace, before);
        let args =
            ["--json", "run", "--view", view, "-b", "w", "-p", &parent, "--keep", "--", "sh", "-ec", script];
        let ran = workspace.cli(&args);
        let (told, said) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{view}: {said}\n{told}");
        assert!(told.contains(&format!("\"view\":\"{view}\"")), "{told}");
        let diff = workspace.ok(&["diff", "w", "--name-status"]);
        let shown = with_own_links(tree(&workspace.view("w"), Times::Compare));
        workspace.commit("w");
        for above in (0..depth).rev() {
            workspace.commit(&format!("b{above}"));
        }
        let base = with_own_links(tree(&workspace.base(), Times::Compare));
        assert_eq!(shown, base, "{view}: the base is what the branch showed");
        assert!(left_in(&workspace, "native").is_empty(), "{view}");
        // Git writes down numbers of inodes there.
        let base = tree_without(&workspace.base(), Times::Compare, &[".git/index"]);
        out.push(Came { said: said.into_owned(), diff, base: with_known_times(with_own_links(base)) });
    }
    <[Came; 2]>::try_from(out).ok()
}

/// Names in a directory of the store, if it is there.
pub(crate) fn left_in(workspace: &Workspace, dir: &str) -> Vec<String> {
    let Ok(left) = fs::read_dir(workspace.store().join(dir)) else { return Vec::new() };
    left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

pub(crate) fn same_on_both(fill: impl Fn(&Path), script: &str) {
    same_after(fill, &[], script);
}

pub(crate) fn same_after(fill: impl Fn(&Path), before: &[Before<'_>], script: &str) {
    let Some([fuse, native]) = on_both(fill, before, script) else { return };
    assert_eq!(fuse, native, "{script}");
    assert!(!fuse.diff.is_empty(), "it did something");
}

/// A program that goes on whatever fails, and says so.
pub(crate) fn random_program(rng: &mut Rng, lines: usize) -> String {
    let lines = (0..lines).map(|_| format!("{} || echo failed\n", random_line(rng)));
    format!("exec 2>&1 >&2; set +e\n{}\ntrue", lines.collect::<String>())
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

/// A command on the native view of branch `w` that has done its first half and waits to be let go on.
pub(crate) struct Halfway {
    pub(crate) child: Child,
}

impl Halfway {
    pub(crate) fn new(workspace: &Workspace, first: &str, second: &str) -> Halfway {
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

    pub(crate) fn finish(mut self, workspace: &Workspace) {
        fs::File::options()
            .write(true)
            .open(workspace.outside().join("go"))
            .unwrap()
            .write_all(b"go\n")
            .unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

pub(crate) fn refused(workspace: &Workspace, args: &[&str]) -> String {
    let output = workspace.cli(args);
    assert!(!output.status.success(), "{args:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
