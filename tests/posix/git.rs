//! git: what it prints and which objects it makes must be those of the plain filesystem, by hash.

use std::fs;
use std::path::Path;

use crate::ground::{Ground, Place};
use crate::tools::version;

/// Everything git knows: each object, each reference, the index.
const KNOWN: &str =
    "git cat-file --batch-all-objects --batch-check; git for-each-ref; git ls-files -s; git status -s";

fn repository(base: &Path) {
    let place = Place::new("the base", base);
    for i in 0..200 {
        let dir = base.join(format!("src/{}", i % 10));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("file-{i}")), format!("line of {i}\n").repeat(i + 1)).unwrap();
    }
    fs::write(base.join("check"), "#!/bin/sh\ntest \"$(cat number)\" -lt 23\n").unwrap();
    fs::write(base.join(".gitignore"), ".branchfs\n").unwrap();
    place.ok(
        "set -e; chmod +x check; git init -q -b trunk; echo 0 >number; git add -A; git commit -qm 'commit 0'
         for i in $(seq 1 40); do echo $i >number; echo $i >>src/3/file-3; git commit -qam \"commit $i\"; done",
    );
}

/// What people and tools do to a history: branch, rewrite, put aside, work beside, merge, move.
const HISTORY: [&str; 10] = [
    "git checkout -q -b topic trunk~10
     for i in 1 2 3 4 5 6 7 8; do echo $i >new-$i; git add .; git commit -qm n$i; done",
    "export GIT_SEQUENCE_EDITOR=\"sed -i -e '2s/^pick/squash/' -e '4s/^pick/drop/' -e '6s/^pick/fixup/'\"
     GIT_EDITOR=true git rebase -q -i topic~8; git log --format='%H %s' topic~5..topic",
    "git rebase -q --onto trunk trunk~10 topic; git log --oneline | head -8; git diff --stat trunk topic",
    "echo stashed >>src/1/file-1; echo untracked >u; git stash -q -u; git stash list; git checkout -q trunk",
    "git stash pop -q; git status -s; git stash -q; git stash drop -q; git clean -fdq",
    "git worktree add -q wt topic; cd wt; echo w >w; git add w; git commit -qm worktree; git log -1 --format=%H",
    "git merge -q --no-edit topic; git worktree remove wt; git worktree prune; git branch -q -d topic",
    "git rm -rq src/5; git mv src/6 moved; git commit -qm moved; git diff -M --stat HEAD~1 | tail -3",
    "git clone -q --no-local . clone; git -C clone fsck --full --strict; git -C clone rev-parse HEAD; rm -rf clone",
    KNOWN,
];

/// What git does with its own files.
const STORAGE: [&str; 3] = [
    "git reflog expire --expire=now --all; git gc -q --prune=now; git repack -adq --depth=50; git count-objects",
    "git pack-refs --all; git commit-graph write 2>&1; git commit-graph verify 2>&1",
    "git multi-pack-index write; git multi-pack-index verify",
];

#[test]
fn git_works_in_a_branch_as_on_the_plain_filesystem() {
    let Some(ground) = Ground::new(&["git"], repository) else { return };
    let same = |script: &str| ground.everywhere(&format!("set -e; {script}"), &[".git", "wt/.git"]);
    assert_eq!(same("git fsck --full --strict; git status --porcelain"), "");
    let found =
        same("git bisect start trunk trunk~40; git bisect run ./check; git bisect log; git bisect reset");
    assert!(found.contains("is the first bad commit") && found.contains("commit 23"), "{found}");
    for script in HISTORY.iter().chain(&STORAGE) {
        same(script);
    }
    let all = format!("git fsck --full --strict --no-progress; {KNOWN}");
    let known = same(&all);
    let lines = known.lines().count();
    println!("posix: {}: {lines} lines of objects and references, equal everywhere", version("git"));
    ground.commit_the_deepest();
    assert_eq!(ground.base().ok(&all), known, "after the commits");
}
