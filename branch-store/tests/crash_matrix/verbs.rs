//! Scenarios of all that a branch does besides: marks and restores, merges, rebases, partial commits, decided conflicts,
//! undo and redo, limits.

use branch_store::*;

use crate::common::Paths;
use crate::scenarios::{FILES, WHOLE, durable, link_two, step};
use crate::world::{Durable, Scenario, World};

/// A branch is marked, goes back and forth, and gives up marks, with checkpoints of the store between.
pub fn marks() -> Scenario {
    let steps = vec![
        step("fork", |w| w.fork("main", &["a"], GroupKind::Exclusive)),
        step("write", |w| w.write("a", "README", "HELLO")),
        step("create", |w| w.create("a", "new")),
        step("write new", |w| w.write("a", "new", "first")),
        durable("fsync", Durable::File("a", "new"), |w| w.fsync("a", "new")),
        step("mark", |w| w.mark("a", "one")),
        step("write in place no more", |w| w.write("a", "new", "SECOND")),
        step("copy up", |w| w.write("a", "cut", "CUT")),
        step("remove", |w| w.branch("a")?.remove("x/1")),
        step("remove its directory", |w| w.branch("a")?.remove_dir("x")),
        step("mark again", |w| w.mark("a", "two")),
        step("write a third", |w| w.write("a", "new", "thirdly")),
        step("restore", |w| w.restore("a", "one")),
        step("write on", |w| w.write("a", "README", "AGAIN")),
        durable("sync", Durable::Everything, |w| w.store().sync()),
        durable("checkpoint", Durable::Names, |w| w.store().checkpoint()),
        step("restore another", |w| w.restore("a", "two")),
        step("restore what was before", |w| w.restore("a", BEFORE_RESTORE)),
        step("give up", |w| w.store().unmark(&*w.branch("a")?, "two")),
        step("reclaim", |w| w.store().reclaim()),
        durable("checkpoint again", Durable::Names, |w| w.store().checkpoint()),
        step("write at last", |w| w.write("a", "new", "at last")),
        durable("commit into the base", Durable::Base, |w| w.commit("a")),
        step("reclaim the rest", |w| w.store().reclaim()),
    ];
    let parents = &[("a", "main")];
    let (apart, append_max) = (false, WHOLE);
    Scenario { name: "marks", files: FILES, prepare: |_| {}, parents, steps, apart, append_max }
}

/// A file of three lines, of which each side has changed another one.
fn by_line(texts: &Texts<'_>) -> std::result::Result<MergedText, String> {
    let base = texts.base.ok_or("made by both")?;
    let lines =
        |text: &[u8]| text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (base, ours, theirs) = (lines(base), lines(texts.ours), lines(texts.theirs));
    let line = |n: usize| if ours[n] == base[n] { theirs[n].clone() } else { ours[n].clone() };
    Ok(MergedText { bytes: (0..base.len()).flat_map(line).collect(), markers: 0 })
}

fn merge(w: &World, name: &str) -> Result<()> {
    w.store().commit_with(&*w.branch(name)?, &|_| Choice::Merge(Merger(by_line))).map(drop)
}

/// Files that several changed, merged: into a parent branch, by a rebase, into the base.
pub fn merges() -> Scenario {
    let steps = vec![
        step("fork", |w| w.fork("main", &["p", "r"], GroupKind::Independent)),
        step("fork below", |w| w.fork("p", &["a", "b"], GroupKind::Independent)),
        step("write in a", |w| w.write("a", "lines", "1A\n")),
        step("write in b", |w| w.write("b", "lines", "1a\n2a\n3B\n")),
        step("write what both write", |w| w.write("a", "same", "SAME")),
        step("and again", |w| w.write("b", "same", "SAME")),
        durable("commit a", Durable::Names, |w| w.commit("a")),
        durable("merge b into the parent", Durable::Names, |w| merge(w, "b")),
        step("write in r", |w| w.write("r", "lines", "1a\n2R\n")),
        durable("commit the parent", Durable::Base, |w| w.commit("p")),
        // A link that the store could not drop would be another name of the file, which is not merged then.
        step("reclaim", |w| w.store().reclaim()),
        step("rebase", |w| w.store().rebase(&*w.branch("r")?, &|_| Choice::Merge(Merger(by_line))).map(drop)),
        step("fork again", |w| w.fork("main", &["s"], GroupKind::Independent)),
        step("write in s", |w| w.write("s", "lines", "1S\n")),
        durable("commit r", Durable::Base, |w| w.commit("r")),
        step("reclaim again", |w| w.store().reclaim()),
        durable("merge s into the base", Durable::Base, |w| merge(w, "s")),
    ];
    let parents = &[("p", "main"), ("r", "main"), ("a", "p"), ("b", "p"), ("s", "main")];
    let files = &[("lines", "1a\n2a\n3a\n"), ("same", "some"), ("other", "other")];
    Scenario { name: "merges", files, prepare: |_| {}, parents, steps, apart: false, append_max: WHOLE }
}

/// What is selected by the paths, and what is below them.
fn part(w: &World, name: &str, paths: &[&str]) -> Result<()> {
    let below = |path: &str, only: &str| {
        path.strip_prefix(only).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let selected = |path: &[u8]| {
        let path = String::from_utf8_lossy(path);
        paths.iter().any(|only| below(&path, only))
    };
    w.store().commit_part(&*w.branch(name)?, &decide, &selected).map(drop)
}

/// Conflicts are decided by their names: what is called after a side is that side's.
fn decide(conflict: &Conflict) -> Choice {
    match String::from_utf8_lossy(&conflict.path).rsplit('/').next() {
        Some("lines") => Choice::Merge(Merger(by_line)),
        Some("theirs") => Choice::Theirs,
        _ => Choice::Ours,
    }
}

fn decided(w: &World, name: &str) -> Result<()> {
    w.store().commit_with(&*w.branch(name)?, &decide).map(drop)
}

fn rebase(w: &World, name: &str) -> Result<()> {
    w.store().rebase(&*w.branch(name)?, &decide).map(drop)
}

const CONTESTED: &[(&str, &str)] =
    &[("lines", "1a\n2a\n3a\n"), ("d/ours", "disputed"), ("d/theirs", "contested"), ("e", "ee"), ("f", "ff")];

/// Branches move onto their parent's present state, a branch and the base, with conflicts decided and files merged.
pub fn rebases() -> Scenario {
    let steps = vec![
        step("fork", |w| w.fork("main", &["p", "r"], GroupKind::Independent)),
        step("write in p", |w| w.write("p", "d/ours", "P's")),
        step("create in p", |w| w.create("p", "new")),
        step("fork below", |w| w.fork("p", &["a", "b"], GroupKind::Independent)),
        step("lines in a", |w| w.write("a", "lines", "1A\n")),
        step("ours in a", |w| w.write("a", "d/ours", "A has it")),
        step("theirs in a", |w| w.write("a", "d/theirs", "A too")),
        step("remove in a", |w| w.branch("a")?.remove("f")),
        step("lines in b", |w| w.write("b", "lines", "1a\n2B\n")),
        step("ours in b", |w| w.write("b", "d/ours", "b, b, b")),
        step("theirs in b", |w| w.write("b", "d/theirs", "B!")),
        step("b's own", |w| w.write("b", "new", "by b")),
        step("brought back by b", |w| w.write("b", "f", "F")),
        durable("commit a", Durable::Names, |w| w.commit("a")),
        step("rebase b", |w| rebase(w, "b")),
        step("write on in b", |w| w.write("b", "lines", "1b\n")),
        durable("fsync", Durable::File("b", "lines"), |w| w.fsync("b", "lines")),
        step("write on in p", |w| w.write("p", "new", "by p, too")),
        step("rebase b again", |w| rebase(w, "b")),
        durable("commit b", Durable::Names, |w| w.commit("b")),
        step("lines in r", |w| w.write("r", "lines", "1a\n2a\n3R\n")),
        step("ours in r", |w| w.write("r", "d/ours", "r, r")),
        step("theirs in r", |w| w.write("r", "d/theirs", "R!!")),
        step("move in r", |w| w.branch("r")?.mv("e", "d/e")),
        durable("commit p", Durable::Base, |w| w.commit("p")),
        step("reclaim", |w| w.store().reclaim()),
        step("rebase r", |w| rebase(w, "r")),
        step("write on in r", |w| w.write("r", "d/theirs", "R again")),
        durable("checkpoint", Durable::Names, |w| w.store().checkpoint()),
        durable("commit r", Durable::Base, |w| w.commit("r")),
    ];
    let parents = &[("p", "main"), ("r", "main"), ("a", "p"), ("b", "p")];
    let (apart, append_max) = (false, WHOLE);
    Scenario { name: "rebases", files: CONTESTED, prepare: |_| {}, parents, steps, apart, append_max }
}

/// Parts of branches are committed into a branch and into the base, and the rest goes on.
pub fn parts() -> Scenario {
    let steps = vec![
        step("fork", |w| w.fork("main", &["p", "s"], GroupKind::Independent)),
        step("fork below", |w| w.fork("p", &["a"], GroupKind::Independent)),
        step("write", |w| w.write("a", "README", "HELLO")),
        step("write another", |w| w.write("a", "cut", "CUT")),
        step("move a directory", |w| w.branch("a")?.mv("src", "sources")),
        step("write in it", |w| w.write("a", "sources/lib.rs", "//changed")),
        step("write through a link", |w| w.write("a", "linked2", "SHARED")),
        step("mkdir", |w| w.branch("a")?.make_dir("dir")),
        step("create in it", |w| w.create("a", "dir/one")),
        step("write that", |w| w.write("a", "dir/one", "first")),
        step("create beside it", |w| w.create("a", "dir/two")),
        step("and write that", |w| w.write("a", "dir/two", "second")),
        step("remove", |w| w.branch("a")?.remove("x/1")),
        durable("part into the parent", Durable::Names, |w| part(w, "a", &["README", "dir/one", "x"])),
        step("write over the part", |w| w.write("a", "README", "HELLO2")),
        step("write over the rest", |w| w.write("a", "cut", "CUT IT")),
        durable("fsync", Durable::File("a", "cut"), |w| w.fsync("a", "cut")),
        durable("another part", Durable::Names, |w| part(w, "a", &["src", "sources"])),
        durable("the rest", Durable::Names, |w| w.commit("a")),
        step("write in s", |w| w.write("s", "README", "OTHER")),
        durable("part into the base", Durable::Base, |w| {
            part(w, "p", &["README", "dir", "linked", "linked2"])
        }),
        step("write in the base's", |w| w.write("p", "README", "more")),
        step("write in what stayed", |w| w.write("p", "sources/lib.rs", "//twice")),
        step("reclaim", |w| w.store().reclaim()),
        durable("a directory into the base", Durable::Base, |w| part(w, "p", &["src", "sources"])),
        durable("a part that is decided", Durable::Base, |w| part(w, "s", &["README"])),
        durable("what is left", Durable::Base, |w| decided(w, "p")),
        step("reclaim again", |w| w.store().reclaim()),
    ];
    let parents = &[("p", "main"), ("s", "main"), ("a", "p")];
    let (apart, append_max) = (false, WHOLE);
    Scenario { name: "parts", files: FILES, prepare: link_two, parents, steps, apart, append_max }
}

/// Commits whose conflicts are decided, path by path, or merged, into a branch and into the base.
pub fn decisions() -> Scenario {
    let steps = vec![
        step("fork", |w| w.fork("main", &["p", "q"], GroupKind::Independent)),
        step("fork below", |w| w.fork("p", &["a", "b"], GroupKind::Independent)),
        step("lines in a", |w| w.write("a", "lines", "1A\n")),
        step("ours in a", |w| w.write("a", "d/ours", "A has it")),
        step("theirs in a", |w| w.branch("a")?.remove("d/theirs")),
        step("move in a", |w| w.branch("a")?.mv("e", "d/e")),
        step("lines in b", |w| w.write("b", "lines", "1a\n2a\n3B\n")),
        step("ours in b", |w| w.branch("b")?.remove("d/ours")),
        step("theirs in b", |w| w.write("b", "d/theirs", "B!")),
        step("b's own", |w| w.write("b", "f", "F")),
        durable("commit a", Durable::Names, |w| w.commit("a")),
        durable("decide b", Durable::Names, |w| decided(w, "b")),
        step("lines in q", |w| w.write("q", "lines", "1a\n2Q\n")),
        step("ours in q", |w| w.write("q", "d/ours", "q has it")),
        step("theirs in q", |w| w.write("q", "d/theirs", "Q!!")),
        step("q's own", |w| w.write("q", "f", "QQQ")),
        durable("commit p", Durable::Base, |w| w.commit("p")),
        step("reclaim", |w| w.store().reclaim()),
        durable("decide q", Durable::Base, |w| decided(w, "q")),
    ];
    let parents = &[("p", "main"), ("q", "main"), ("a", "p"), ("b", "p")];
    let (apart, append_max) = (false, WHOLE);
    Scenario { name: "decisions", files: CONTESTED, prepare: |_| {}, parents, steps, apart, append_max }
}

/// Commits into the base are taken back and brought again, while a sibling keeps its snapshot and commits in the end.
pub fn undos() -> Scenario {
    let steps = vec![
        step("fork", |w| w.fork("main", &["a", "s"], GroupKind::Independent)),
        step("write", |w| w.write("a", "README", "HELLO")),
        step("write a file with two names", |w| w.write("a", "linked", "SHARED")),
        step("move a directory", |w| w.branch("a")?.mv("src", "docs/sources")),
        step("write in it", |w| w.write("a", "docs/sources/lib.rs", "//changed")),
        step("remove", |w| w.branch("a")?.remove("x/1")),
        step("remove its directory", |w| w.branch("a")?.remove_dir("x")),
        step("another in its place", |w| w.branch("a")?.mv("y", "x")),
        step("write in that", |w| w.write("a", "x/2", "TWO")),
        step("create", |w| w.create("a", "new")),
        step("write new", |w| w.write("a", "new", "new file")),
        step("write in the sibling", |w| w.write("s", "cut", "CUT")),
        durable("commit", Durable::Base, |w| w.commit("a")),
        durable("undo", Durable::Base, |w| w.store().undo().map(drop)),
        durable("redo", Durable::Base, |w| w.store().redo().map(drop)),
        step("fork anew", |w| w.fork("main", &["b"], GroupKind::Independent)),
        step("write anew", |w| w.write("b", "new", "NEWER")),
        durable("commit anew", Durable::Base, |w| w.commit("b")),
        durable("undo that", Durable::Base, |w| w.store().undo().map(drop)),
        durable("undo the first again", Durable::Base, |w| w.store().undo().map(drop)),
        step("reclaim", |w| w.store().reclaim()),
        durable("commit the sibling", Durable::Base, |w| w.commit("s")),
    ];
    let parents = &[("a", "main"), ("s", "main"), ("b", "main")];
    let (apart, append_max) = (false, WHOLE);
    Scenario { name: "undos", files: FILES, prepare: link_two, parents, steps, apart, append_max }
}

fn limit(w: &World, name: &str, quota: Quota) -> Result<()> {
    w.store().set_quota(&*w.branch(name)?, quota)
}

/// Limits are set at the fork, inherited, raised, lowered below what is held, and taken away.
pub fn limits() -> Scenario {
    let steps = vec![
        step("fork", |w| {
            let (main, quota) = (w.branch("main")?, Some(Quota::Bytes(64 << 10)));
            w.store().fork_limited(&main, &["a".to_owned()], GroupKind::Exclusive, quota).map(drop)
        }),
        step("write", |w| w.write("a", "README", "HELLO")),
        step("raise", |w| limit(w, "a", Quota::Bytes(128 << 10))),
        step("fork below", |w| w.fork("a", &["b"], GroupKind::Independent)),
        step("write below", |w| w.write("b", "cut", "CUT")),
        step("lower", |w| limit(w, "b", Quota::Bytes(1 << 10))),
        step("write what is there", |w| w.write("b", "cut", "cut!")),
        durable("sync", Durable::Everything, |w| w.store().sync()),
        step("lower the parent", |w| limit(w, "a", Quota::Bytes(0))),
        durable("checkpoint", Durable::Names, |w| w.store().checkpoint()),
        durable("commit below", Durable::Names, |w| w.commit("b")),
        step("take away", |w| limit(w, "a", Quota::Unlimited)),
        step("write again", |w| w.write("a", "x/1", "ONE")),
        durable("commit", Durable::Base, |w| w.commit("a")),
    ];
    let parents = &[("a", "main"), ("b", "a")];
    let (apart, append_max) = (false, WHOLE);
    Scenario { name: "limits", files: FILES, prepare: |_| {}, parents, steps, apart, append_max }
}
