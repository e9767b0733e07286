//! Real tools on a real repository in a branch: everything they print and leave must be what they print and
//! leave on the plain filesystem beside it, and the commit must carry all of it into the base.
#![allow(clippy::unwrap_used)] // also in helpers

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use branchfs_tests::{Times, Workspace, clean_environment, run_ok, skip, tree, tree_without};

/// Files of the large repository.
const FILES: usize = 5_000;

/// A branch of a repository, and the same repository on the plain filesystem.
struct Pair {
    workspace: Workspace,
    view: PathBuf,
    plain: PathBuf,
}

impl Pair {
    /// `None`, with a printed reason, where nothing can be mounted or a tool is missing.
    fn new(tools: &[&str], fill: impl Fn(&Path)) -> Option<Pair> {
        let missing = |tool: &&&str| Command::new(tool).arg("--version").output().is_err();
        if let Some(tool) = tools.iter().find(missing) {
            skip(&format!("no {tool}"));
            return None;
        }
        let workspace = Workspace::over(|base| {
            fill(base);
            run_ok(&mut shell(base, "git init -q -b trunk && git add -A && git commit -qm first"));
        })?;
        let plain = workspace.outside().join("plain");
        run_ok(Command::new("cp").arg("-a").arg(workspace.base()).arg(&plain));
        // A copy is a copy of the store as well.
        fs::remove_dir_all(plain.join(".branchfs")).unwrap();
        let view = workspace.branch("b");
        Some(Pair { workspace, view, plain })
    }

    /// Runs a script in both; outputs, exit code and (but for `.git` and `target`, where tools keep inode
    /// numbers, times and absolute paths) what is left must be the same. Gives back the output.
    fn both(&self, script: &str) -> String {
        let [there, here] = [&self.plain, &self.view].map(|dir| {
            let output = shell(dir, script).output().unwrap();
            let (out, err) = (output.stdout, output.stderr);
            let text = format!("{}{}", String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
            (output.status.code(), text)
        });
        assert_eq!(here, there, "branch (left) and plain filesystem differ: {script}");
        let left = [&self.view, &self.plain].map(|dir| tree_without(dir, Times::Ignore, &[".git", "target"]));
        assert_eq!(left[0], left[1], "branch (left) and plain filesystem differ after: {script}");
        here.1
    }

    /// As [`Pair::both`]; it must succeed and print nothing.
    fn quietly(&self, script: &str) {
        let script = format!("set -e; {script}");
        assert_eq!(self.both(&format!("{script}\necho done")), "done\n", "{script}");
    }

    /// Commits; base and view must be the same down to the nanosecond, and git content with the base.
    fn commit(self) {
        let seen = tree(&self.view, Times::Compare);
        self.workspace.commit("b");
        let base = tree(&self.workspace.base(), Times::Compare);
        for (path, line) in &seen {
            assert_eq!(base.get(path), Some(line), "{} differs in the base", path.display());
        }
        let only: Vec<_> = base.keys().filter(|path| !seen.contains_key(*path)).collect();
        assert!(only.is_empty(), "left in the base: {only:?}");
        let mut git = shell(&self.workspace.base(), "git status --porcelain && git fsck --full --strict");
        assert_eq!(run_ok(&mut git), run_ok(&mut shell(&self.plain, "git status --porcelain")));
    }
}

fn shell(dir: &Path, script: &str) -> Command {
    let mut command = Command::new("sh");
    clean_environment(&mut command, Path::new("/nonexistent"));
    command.args(["-c", script]).current_dir(dir);
    command
}

fn large(base: &Path) {
    for i in 0..FILES {
        let dir = base.join(format!("src/part-{:02}", i % 50));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("file-{i}.txt")), format!("line one of {i}\nline two\n")).unwrap();
    }
    fs::write(base.join(".gitignore"), "*.o\n/build/\n").unwrap();
    fs::create_dir(base.join("build")).unwrap();
    fs::write(base.join("build/cache"), "ignored\n").unwrap();
    symlink("src/part-07", base.join("link")).unwrap();
}

#[test]
fn git_works_in_a_branch_of_a_large_repository_as_on_the_plain_filesystem() {
    let Some(pair) = Pair::new(&["git"], large) else { return };
    let status = "git status --porcelain --ignored";
    assert_eq!(pair.both(status), "!! build/\n", "clean, and nothing of ours");
    assert_eq!(pair.both("git ls-files | wc -l").trim(), (FILES + 2).to_string());
    pair.quietly(
        "echo more >>src/part-01/file-1.txt; rm -r src/part-02; mkdir -p new/empty; echo x >new/file
         git mv src/part-03 renamed; chmod +x src/part-04/file-4.txt; ln -sfn src/part-08 link",
    );
    assert!(pair.both(status).contains("?? new/\n"));
    pair.both("git diff --stat | tail -3; git diff src/part-01");
    pair.quietly("git add -A; git commit -qm second");
    assert_eq!(pair.both(status), "!! build/\n");
    pair.quietly("git checkout -q -b topic; echo topic >>src/part-05/file-5.txt; git commit -qam third");
    pair.quietly("git checkout -q trunk; echo trunk >>src/part-06/file-6.txt; git commit -qam fourth");
    pair.quietly("git merge -q --no-edit topic; git tag merged; git branch -q -d topic");
    pair.quietly("echo later >>src/part-09/file-9.txt; git stash -q; git stash pop -q; git reset -q --hard");
    pair.quietly("git checkout -q HEAD~2; git checkout -q trunk; git gc --quiet; git repack -q -a -d");
    assert_eq!(pair.both("git fsck --full --strict; git count-objects"), "0 objects, 0 kilobytes\n");
    pair.both("git log --stat --format='%H %s'; git ls-files -s; git rev-parse HEAD^{tree}");
    assert_eq!(pair.both(status), "!! build/\n");
    pair.both("git clean -fdx; ls -A");
    pair.commit();
}

fn c_project(base: &Path) {
    let count = 12;
    fs::create_dir(base.join("lib")).unwrap();
    let declared: String = (0..count).map(|i| format!("int f{i}(void);\n")).collect();
    fs::write(base.join("lib/all.h"), declared).unwrap();
    for i in 0..count {
        let body = format!("#include \"all.h\"\nint f{i}(void) {{ return {i}; }}\n");
        fs::write(base.join(format!("lib/f{i}.c")), body).unwrap();
    }
    let sum: String = (0..count).map(|i| format!(" + f{i}()")).collect();
    let main = format!(
        "#include <stdio.h>\n#include \"lib/all.h\"\nint main(void) {{ printf(\"%d\\n\", 0{sum}); return 0; }}\n"
    );
    fs::write(base.join("main.c"), main).unwrap();
    let makefile = "OBJECTS := $(patsubst %.c,%.o,$(sort $(wildcard lib/*.c)) main.c)
sum: sum.a main.o
\tcc -o $@ main.o sum.a
sum.a: $(filter-out main.o,$(OBJECTS))
\tar rcD $@ $^
%.o: %.c lib/all.h
\tcc -O1 -c -o $@ $<
clean:
\trm -f $(OBJECTS) sum.a sum
";
    fs::write(base.join("Makefile"), makefile).unwrap();
    fs::write(base.join(".gitignore"), "*.o\n*.a\n/sum\n").unwrap();
}

#[test]
fn make_builds_and_rebuilds_in_a_branch_as_on_the_plain_filesystem() {
    let Some(pair) = Pair::new(&["git", "make", "cc", "ar"], c_project) else { return };
    pair.quietly("make -s -j4");
    assert_eq!(pair.both("./sum"), "66\n");
    assert_eq!(pair.both("make"), "make: 'sum' is up to date.\n", "times are right");
    pair.quietly("sed -i 's/return 3/return 300/' lib/f3.c");
    let rebuilt = pair.both("make; ./sum");
    assert!(rebuilt.contains("lib/f3.o") && !rebuilt.contains("-c -o lib/f4.o"), "{rebuilt}");
    assert!(rebuilt.ends_with("363\n"), "{rebuilt}");
    assert_eq!(pair.both("git status --porcelain"), " M lib/f3.c\n");
    pair.quietly("git commit -qam 'three hundred'; make -s clean; make -s");
    assert_eq!(pair.both("make && ./sum"), "make: 'sum' is up to date.\n363\n");
    let base = pair.workspace.base();
    let times = tree(&pair.view, Times::Compare);
    pair.workspace.commit("b");
    assert_eq!(tree(&base, Times::Compare), times);
    let again = run_ok(&mut shell(&base, "make && ./sum"));
    assert_eq!(again, "make: 'sum' is up to date.\n363\n", "nothing is rebuilt after the commit");
}

fn crate_of_rust(base: &Path) {
    fs::create_dir_all(base.join("src")).unwrap();
    let manifest = "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n";
    fs::write(base.join("Cargo.toml"), manifest).unwrap();
    fs::write(base.join("src/lib.rs"), "pub fn answer() -> u32 { include!(\"number\") }\n").unwrap();
    fs::write(base.join("src/number"), "41").unwrap();
    fs::write(base.join("src/main.rs"), "fn main() { println!(\"{}\", small::answer()); }\n").unwrap();
    fs::write(base.join(".gitignore"), "/target\n").unwrap();
}

#[test]
fn cargo_builds_and_rebuilds_in_a_branch_as_on_the_plain_filesystem() {
    let Some(pair) = Pair::new(&["git", "cargo"], crate_of_rust) else { return };
    let run = "cargo run --offline --quiet";
    assert_eq!(pair.both(run), "41\n");
    pair.quietly("printf 42 >src/number");
    assert_eq!(pair.both(run), "42\n");
    pair.quietly("cargo build --offline --quiet --release");
    pair.both("git status --porcelain; ls -A target");
    let fresh = "cargo build --offline 2>&1 | grep -c Compiling; true";
    assert_eq!(pair.both(fresh), "0\n", "nothing is built again");
    pair.quietly("git add -A; git commit -qm second");
    pair.commit();
}

fn small(base: &Path) {
    fs::create_dir_all(base.join("node_modules/@types/node")).unwrap();
    fs::write(base.join("node_modules/@types/node/index.d.ts"), "declare\n").unwrap();
    fs::write(base.join("f"), "base\n").unwrap();
    fs::write(base.join(".gitignore"), "node_modules/\n").unwrap();
}

/// What an installer of packages does: stage, link, rename into place, remove, and once more.
#[test]
fn scoped_packages_are_installed_in_a_branch_as_on_the_plain_filesystem() {
    let Some(pair) = Pair::new(&["git"], small) else { return };
    for round in 1..=2 {
        pair.quietly(&format!(
            "cd node_modules; mkdir -p .staging/@scope/pkg/bin .bin @scope
             echo 'module.exports = {round}' >.staging/@scope/pkg/index.js
             echo '#!/bin/sh' >.staging/@scope/pkg/bin/tool; chmod 755 .staging/@scope/pkg/bin/tool
             rm -rf @scope/pkg; mv .staging/@scope/pkg @scope/pkg; rm -rf .staging
             ln -sf ../@scope/pkg/bin/tool .bin/tool; cp -r @types/node @types/node-{round}"
        ));
    }
    assert_eq!(
        pair.both("ls -A node_modules; cat node_modules/@scope/pkg/index.js"),
        "\
.bin\n@scope\n@types\nmodule.exports = 2\n"
    );
    pair.quietly("rm -rf node_modules/@types; cp -r node_modules/@scope node_modules/@types");
    assert_eq!(
        pair.both("find node_modules -name '@*' | sort; node_modules/.bin/tool"),
        "\
node_modules/@scope\nnode_modules/@types\n"
    );
    assert_eq!(pair.both("git status --porcelain"), "");
    pair.commit();
}

#[test]
fn editors_save_and_scripts_replace_files_in_a_branch_as_on_the_plain_filesystem() {
    let Some(pair) = Pair::new(&["git"], small) else { return };
    for word in ["once", "twice"] {
        let save = format!("cp -p f f~; echo {word} >.f.swp; sync .f.swp; mv .f.swp f; rm f~; cat f");
        assert_eq!(pair.both(&save), format!("{word}\n"));
        let backup = format!("mv f f~; echo {word} by rename >f; rm f~; cat f; ls -A");
        assert_eq!(pair.both(&backup), format!("{word} by rename\n.git\n.gitignore\nf\nnode_modules\n"));
    }
    assert_eq!(pair.both("rm f; echo x > f; cat f; stat -c '%s %h %A' f"), "x\n2 1 -rw-r--r--\n");
    pair.quietly("rm f; mkdir f; rmdir f; ln -s .gitignore f; rm f; set -C; echo y >f");
    pair.both("sed -i s/y/z/ f; cat f; git diff");
    assert_eq!(
        pair.both("ln f g; echo both >g; cat f; rm f; cat g; mv g f; git status --porcelain"),
        "both\nboth\n M f\n"
    );
    pair.commit();
}

/// sed writes a private file and gives it the old mode as an ACL of three entries, which every filesystem with
/// ACLs turns into the mode. We kept the ACL and left the mode at 0600: `git diff` was clean, the build of
/// another user was not.
#[test]
fn tools_that_set_modes_through_acls_set_them_in_a_branch_as_on_the_plain_filesystem() {
    let Some(pair) = Pair::new(&["git", "sed"], small) else { return };
    let modes = "stat -c '%a %n' f g";
    pair.quietly("chmod 754 f; cp -p f g; sed -i s/base/changed/ f; cat f g >/dev/null");
    assert_eq!(pair.both(modes), "754 f\n754 g\n");
    pair.quietly("tar -cf t.tar f g; chmod 600 f g; tar -xpf t.tar; rm t.tar");
    assert_eq!(pair.both(modes), "754 f\n754 g\n");
    // One that is more than a mode is kept, and its mask is the group's part of the mode.
    pair.quietly("command -v setfacl >/dev/null && setfacl -m u:1234:rwx,g::r f && setfacl -b g || true");
    pair.commit();
}
