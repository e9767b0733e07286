//! What may be seen after a crash: the names of one moment, not before the last durable one, and bytes that were
//! written since, or are as old as the last sync.

use crate::world::{BASE, Durable, Reference, Scenario, Seen, Tree};

/// What came between the last acknowledged operation and the opening of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process died: everything acknowledged is there.
    Process,
    /// The power failed.
    Power,
}

pub struct Model<'a> {
    pub scenario: &'a Scenario,
    pub reference: &'a Reference,
}

impl Model<'_> {
    /// The moment that is seen when `done` steps were acknowledged and the next one was begun.
    pub fn moment(&self, seen: &Seen, done: usize, crash: Crash) -> Result<usize, String> {
        let last = (done + 1).min(self.scenario.steps.len());
        let first = match crash {
            Crash::Process => done,
            Crash::Power => self.durable_before(done, |durable| durable != Durable::Nothing),
        };
        let mut why = format!("neither of the moments {first} to {last}: {}", self.difference(seen, done));
        for at in first..=last {
            let was = &self.reference.worlds[at];
            match crash {
                Crash::Process if was == seen => return Ok(at),
                // Names that are the same after a step as before it do not tell that it was carried out.
                Crash::Power if names(was) == names(seen) => {
                    match self.check_bytes(seen, at, done.max(at), last) {
                        Ok(()) => return Ok(at),
                        Err(bytes) => why = format!("{why}\n{bytes}"),
                    }
                }
                _ => {}
            }
        }
        Err(why)
    }

    /// The step at or before `done` after which something is durable.
    fn durable_before(&self, done: usize, is: impl Fn(Durable) -> bool) -> usize {
        (1..=done).rev().find(|at| is(self.scenario.steps[at - 1].durable)).unwrap_or(0)
    }

    fn check_bytes(&self, seen: &Seen, at: usize, done: usize, last: usize) -> Result<(), String> {
        for (branch, tree) in seen {
            for (path, description) in tree.iter().filter(|(_, what)| what.starts_with("File")) {
                let found = body(description);
                self.check_file(branch, path, found, at, done, last)
                    .map_err(|why| format!("moment {at}: {branch}:{path} is {found:?}: {why}"))?;
            }
        }
        Ok(())
    }

    fn check_file(
        &self,
        branch: &str,
        path: &str,
        found: &str,
        at: usize,
        done: usize,
        last: usize,
    ) -> Result<(), String> {
        let synced = self.durable_before(done, |durable| match durable {
            Durable::Nothing | Durable::Names => false,
            Durable::File(of, file) => (of, file) == (branch, path),
            Durable::Base => branch == "main" || branch == BASE,
            Durable::Everything => true,
        });
        let since = synced..=last.max(at);
        let own: Vec<_> = since.clone().map(|moment| self.body_at(moment, branch, path)).collect();
        if own.contains(&Some(found)) {
            return Ok(());
        }
        if own.windows(2).all(|pair| pair[0] == pair[1]) {
            return Err(format!("not changed since moment {synced}: {:?}", own[0]));
        }
        // A child may have been forked between two syncs of what it shares with its parent.
        let mut others = since.flat_map(|moment| self.reference.worlds[moment].values());
        if others.any(|tree| tree.get(path).is_some_and(|what| body(what) == found)) {
            return Ok(());
        }
        let whole = self.durable_before(done, |durable| durable == Durable::Everything);
        let expected = self.body_at(at, branch, path).unwrap_or_default();
        if self.reference.worlds[whole].values().any(|tree| holds(tree, expected)) {
            return Err(format!("{expected:?} was durable"));
        }
        let new_or_cut = own.iter().any(|version| version.is_none_or(str::is_empty));
        if new_or_cut && found.bytes().all(|byte| byte == 0) {
            return Ok(());
        }
        Err(format!("not of {own:?}"))
    }

    /// As the branch, or while it is not there its parent, has it.
    fn body_at(&self, moment: usize, branch: &str, path: &str) -> Option<&str> {
        let worlds = &self.reference.worlds[moment];
        let mut name = branch;
        while !worlds.contains_key(name) {
            name = self.scenario.parents.iter().find(|(child, _)| *child == name)?.1;
        }
        worlds[name].get(path).map(|what| body(what))
    }

    fn difference(&self, seen: &Seen, done: usize) -> String {
        let expected = &self.reference.worlds[done];
        let mut lines = Vec::new();
        for name in expected.keys().chain(seen.keys().filter(|name| !expected.contains_key(*name))) {
            match (expected.get(name), seen.get(name)) {
                (Some(was), Some(is)) => {
                    let gone = was.iter().filter(|(path, what)| is.get(*path) != Some(what));
                    lines.extend(gone.map(|(path, what)| format!("- {name}:{path} {what:?}")));
                    let new = is.iter().filter(|(path, what)| was.get(*path) != Some(what));
                    lines.extend(new.map(|(path, what)| format!("+ {name}:{path} {what:?}")));
                }
                (Some(_), None) => lines.push(format!("- branch {name}")),
                (None, _) => lines.push(format!("+ branch {name}")),
            }
        }
        format!("against moment {done}:\n{}", lines.join("\n"))
    }
}

fn holds(tree: &Tree, expected: &str) -> bool {
    !expected.is_empty() && tree.values().any(|what| what.starts_with("File") && body(what) == expected)
}

/// The bytes in a description: it begins with kind, mode and links.
fn body(description: &str) -> &str {
    description.splitn(4, ' ').nth(3).unwrap_or_default()
}

/// The same without the bytes of files.
fn names(seen: &Seen) -> Seen {
    let name = |what: &String| match what.strip_suffix(body(what)) {
        Some(rest) if what.starts_with("File") => rest.to_owned(),
        _ => what.clone(),
    };
    let tree = |tree: &Tree| tree.iter().map(|(path, what)| (path.clone(), name(what))).collect();
    seen.iter().map(|(branch, of)| (branch.clone(), tree(of))).collect()
}
