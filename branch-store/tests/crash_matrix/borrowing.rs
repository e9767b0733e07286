//! The scenario of files that borrow: of which only what was written is in the store.

use std::path::Path;

use branch_store::*;

use crate::common::Paths;
use crate::scenarios::{FILES, WHOLE, durable, step};
use crate::world::{Durable, Scenario, World};

const BLOCK: u64 = 4096;

/// Blocks that differ, and some bytes more.
fn large(base: &Path) {
    for name in ["large", "other"] {
        let text: String = (0..3 * 512 + 9).map(|n| format!("{name:.3}{n:04}\n")).collect();
        std::fs::write(base.join(name), text).unwrap();
    }
}

fn write(w: &World, branch: &str, path: &str, bytes: &str, at: u64) -> Result<()> {
    let branch = w.branch(branch)?;
    let file = branch.open(&branch.at(path)?.0, Access::Write)?;
    assert_eq!(file.write_at(bytes.as_bytes(), at)?, bytes.len());
    Ok(())
}

/// Punches a hole.
fn punch(w: &World, branch: &str, path: &str, at: u64, len: u64) -> Result<()> {
    let branch = w.branch(branch)?;
    branch.open(&branch.at(path)?.0, Access::Write)?.allocate(3, at, len)
}

/// Written to here and there, read through forks and marks, cut and extended, committed from below and into the base
/// while a sibling replaces what is borrowed from.
pub fn borrowing() -> Scenario {
    let steps = vec![
        step("fork", |w| {
            w.store().borrow_from(1);
            w.fork("main", &["a", "s"], GroupKind::Independent)
        }),
        step("write to the first block", |w| write(w, "a", "large", "HELLO", 7)),
        step("write over the end of the next", |w| write(w, "a", "large", "ACROSS", 2 * BLOCK - 3)),
        durable("fsync", Durable::File("a", "large"), |w| w.fsync("a", "large")),
        step("write to its end", |w| write(w, "a", "large", "MORE", 12_356)),
        step("write to another", |w| write(w, "s", "other", "SIBLING", BLOCK)),
        step("write to the same in a sibling", |w| write(w, "s", "large", "SIBLING", BLOCK)),
        step("fork below", |w| w.fork("a", &["b"], GroupKind::Independent)),
        step("copy what borrows", |w| write(w, "b", "large", "CHILD", 2 * BLOCK + 9)),
        step("mark", |w| w.mark("b", "one")),
        step("cut", |w| w.cut("b", "large", BLOCK + 10)),
        durable("checkpoint", Durable::Names, |w| w.store().checkpoint()),
        step("write to the other", |w| write(w, "b", "other", "CHILD", 0)),
        durable("fsync the other", Durable::File("b", "other"), |w| w.fsync("b", "other")),
        step("cut the other", |w| w.cut("b", "other", BLOCK + 10)),
        durable("extend", Durable::Names, |w| w.cut("b", "other", 2 * BLOCK)),
        durable("commit the sibling into the base", Durable::Base, |w| w.commit("s")),
        durable("commit from below", Durable::Names, |w| w.commit("b")),
        step("write on", |w| write(w, "a", "other", "AGAIN", 50)),
        durable("punch a hole", Durable::Names, |w| punch(w, "a", "other", 0, BLOCK)),
        durable("sync", Durable::Everything, |w| w.store().sync()),
        step("abort", |w| w.store().abort(&*w.branch("a")?, Children::Refuse).map(drop)),
        step("fork again", |w| w.fork("main", &["c"], GroupKind::Independent)),
        step("write in it", |w| write(w, "c", "large", "AT LAST", 2 * BLOCK)),
        durable("commit into the base", Durable::Base, |w| w.commit("c")),
        step("reclaim", |w| w.store().reclaim()),
    ];
    let parents = &[("a", "main"), ("s", "main"), ("b", "a"), ("c", "main")];
    let (apart, append_max) = (false, WHOLE);
    Scenario { name: "borrowing", files: FILES, prepare: large, parents, steps, apart, append_max }
}
