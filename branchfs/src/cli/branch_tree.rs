//! The tree of branches, drawn.

use std::collections::HashMap;
use std::io::{self, Write};

use branch_core::{BranchInfo, ViewKind};

use super::text;

/// Draws `branches`, which come parents before children. A branch whose parent is not among them is a root.
pub(super) fn draw(out: &mut dyn Write, branches: &[BranchInfo]) -> io::Result<()> {
    let known: HashMap<&str, ()> = branches.iter().map(|branch| (branch.name.as_str(), ())).collect();
    let mut children: HashMap<&str, Vec<&BranchInfo>> = HashMap::new();
    let mut rows = Vec::new();
    let mut roots = Vec::new();
    for branch in branches {
        match branch.parent.as_deref().filter(|parent| known.contains_key(parent)) {
            Some(parent) => children.entry(parent).or_default().push(branch),
            None => roots.push(branch),
        }
    }
    // Own stack: branches nest a thousand deep and more.
    let mut stack: Vec<(String, String, &BranchInfo)> =
        roots.into_iter().rev().map(|root| (String::new(), String::new(), root)).collect();
    while let Some((line, indent, branch)) = stack.pop() {
        rows.push((format!("{line}{}", branch.name), branch));
        let below = children.remove(branch.name.as_str()).unwrap_or_default();
        let last = below.len().saturating_sub(1);
        for (i, child) in below.into_iter().enumerate().rev() {
            let (elbow, pipe) = if i == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            stack.push((format!("{indent}{elbow}"), format!("{indent}{pipe}"), child));
        }
    }
    let width = rows.iter().map(|(row, _)| row.chars().count()).max().unwrap_or(0);
    for (row, branch) in rows {
        let line = format!("{row:width$}  {}", facts(branch));
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn facts(branch: &BranchInfo) -> String {
    if branch.parent.is_none() {
        return String::new();
    }
    let limit = branch.limit.map(|limit| format!("  at most {}", text::size(limit))).unwrap_or_default();
    let running = if branch.groups > 0 {
        format!("  {}", text::count(branch.groups.into(), "process group"))
    } else {
        String::new()
    };
    let view = if branch.view == ViewKind::Native { "  native view" } else { "" };
    format!(
        "{:>6} changed  {:>9}  {:>4} old{limit}{running}{view}",
        branch.changed,
        text::size(branch.bytes),
        text::age(branch.created)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use branch_core::{GroupKind, PathBytes};

    fn branch(name: &str, parent: Option<&str>) -> BranchInfo {
        BranchInfo {
            name: name.into(),
            index: 0,
            parent: parent.map(Into::into),
            group: parent.map(|_| GroupKind::Exclusive),
            created: i64::MAX,
            changed: 2,
            bytes: 2048,
            content: 4096,
            limit: (name == "b").then_some(1 << 20),
            view: ViewKind::Fuse,
            groups: u32::from(name == "b"),
            children: vec![],
            checkpoints: vec![],
            path: PathBytes(vec![]),
        }
    }

    fn drawn(branches: &[BranchInfo]) -> String {
        let mut out = Vec::new();
        draw(&mut out, branches).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn children_hang_below_their_parents() {
        let main = Some("main");
        let tree = [
            branch("main", None),
            branch("a", main),
            branch("b", main),
            branch("c", Some("a")),
            branch("d", Some("c")),
        ];
        let expected = "\
main
├─ a             2 changed    2.0 KiB    0s old
│  └─ c          2 changed    2.0 KiB    0s old
│     └─ d       2 changed    2.0 KiB    0s old
└─ b             2 changed    2.0 KiB    0s old  at most 1.0 MiB  1 process group
";
        assert_eq!(drawn(&tree), expected);
    }

    #[test]
    fn a_chain_of_thousands_draws_without_recursion() {
        let mut tree = vec![branch("main", None)];
        for i in 0..3000 {
            let parent = if i == 0 { "main".into() } else { format!("b{}", i - 1) };
            tree.push(branch(&format!("b{i}"), Some(&parent)));
        }
        assert_eq!(drawn(&tree).lines().count(), 3001);
    }
}
