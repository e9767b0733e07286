//! Answers to "may this be done?", with the rule and in words.

use std::net::SocketAddr;
use std::path::Path;

use landlock::AccessFs;
use serde::{Deserialize, Serialize};

use crate::net::Net;

use super::normal;
use super::op::{FILE, List, Op, Rights};
use super::rules::{Rule, Rules};

/// The answer to "may this be done?".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether it may.
    pub allowed: bool,
    /// The rule that allows it, or the part of the policy that would have to.
    pub rule: String,
    /// The whole in a sentence; for a denial also what would allow it.
    pub words: String,
}

impl Rules {
    /// May this be done to this path? `path` is absolute and means what it leads to: symbolic links in it
    /// have been followed (but for the last name where the operation is about the link itself). That
    /// permissions, missing files and the like may still stand in the way is not looked at.
    pub fn explain(&self, op: Op, path: &Path) -> Decision {
        let path = normal(path);
        let granting = self.granting(op, &path);
        match granting.max_by_key(|rule| rule.path.as_os_str().len()) {
            Some(rule) => Decision {
                allowed: true,
                rule: rule.named(),
                words: format!("{} {} is allowed by {}", op.doing(), path.display(), rule.named()),
            },
            None => self.denied(op, &path),
        }
    }

    /// [`Rules::explain`] without the words, for who asks often. `path` has no `.` and `..`.
    pub(crate) fn allows(&self, op: Op, path: &Path) -> bool {
        self.granting(op, path).next().is_some()
    }

    /// May a connection be made to this host (a name or an address) and port?
    pub fn explain_host(&self, host: &str, port: u16) -> Decision {
        let rule = |rule: &dyn std::fmt::Display| format!("net {rule}");
        match self.net.explain(host, port) {
            Ok(listed) => {
                let rule = listed.map_or_else(|| rule(&self.net), |listed| rule(listed));
                let words = format!("connecting to {host} port {port} is allowed by {rule}");
                Decision { allowed: true, rule, words }
            }
            Err(refusal) => Decision { allowed: false, rule: rule(&self.net), words: refusal.to_string() },
        }
    }

    /// As [`Rules::explain_host`], of a program that connects by itself to an address; None for one that is in the
    /// group's own network.
    pub(crate) fn explain_connection(&self, to: SocketAddr) -> Option<Decision> {
        if self.net == Net::Open || to.ip().is_loopback() || to.ip().is_unspecified() {
            return None;
        }
        let host = if to.is_ipv6() { format!("[{}]", to.ip()) } else { to.ip().to_string() };
        let why = match self.explain_host(&host, to.port()) {
            decision if decision.allowed => {
                "allowed hosts are reached through the proxy only, which the variables \
                                             HTTP_PROXY and HTTPS_PROXY name"
                    .to_owned()
            }
            decision => decision.words,
        };
        Some(self.out_of_reach(&format!("connecting to {to}"), &format!("net {}", self.net), &why))
    }

    /// What is said of something outside of the group.
    pub(crate) fn out_of_reach(&self, doing: &str, rule: &str, why: &str) -> Decision {
        let words = format!("{doing} is denied by policy {}: {why}", self.name);
        Decision { allowed: false, rule: rule.to_owned(), words }
    }

    /// May this system call be made? For one that depends on its arguments, what is said is what is denied of it.
    pub fn explain_call(&self, name: &str) -> Decision {
        match self.fences.iter().find(|fence| fence.name == name) {
            Some(fence) => fence.decision(&self.name),
            None => Decision {
                allowed: true,
                rule: "calls".to_owned(),
                words: format!("no rule of policy {} is about {name} as such", self.name),
            },
        }
    }

    /// May `from` be renamed to `to` (with `link`: linked)? Over and above making the new name and removing
    /// the old one, what is moved must not gain rights by it, and stay within one writable directory of the
    /// policy, for each is a mount of its own.
    pub fn explain_move(&self, from: &Path, to: &Path, kind: Moved) -> Decision {
        let (from, to) = (normal(from), normal(to));
        let (make, remove) = kind.operations();
        let steps = [(make, &to)].into_iter().chain(remove.map(|op| (op, &from)));
        for (op, path) in steps {
            let decision = self.explain(op, path);
            if !decision.allowed {
                let words = format!("moving or linking {}: {}", arrow(&from, &to), decision.words);
                return Decision { words, ..decision };
            }
        }
        let made = self.explain(make, &to);
        let (Some(old), Some(new)) = (from.parent(), to.parent()) else { return made };
        if old == new {
            return made;
        }
        let refused = |why: &str| Decision {
            allowed: false,
            rule: List::FsWrite.name().to_owned(),
            words: format!(
                "moving or linking {} is denied by policy {}: {why}",
                arrow(&from, &to),
                self.name
            ),
        };
        if self.writable_root(&from) != self.writable_root(&to) {
            return refused("they are not in the same writable directory of the policy; copy it instead");
        }
        if !self.rights_at(old).contains(AccessFs::Refer) {
            return refused("it may not leave its directory");
        }
        let gained = self.rights_at(new) & !self.rights_at(&from);
        let gained = if kind == Moved::RenamedDir { gained } else { gained & FILE };
        if gained.is_empty() { made } else { refused("it would gain rights there; copy it instead") }
    }

    /// The topmost writable rule over a path: the mount it is on.
    fn writable_root(&self, path: &Path) -> Option<&Path> {
        let over = self.rules.iter().filter(|rule| rule.is_writable() && rule.covers(path));
        over.map(|rule| rule.path.as_path()).min_by_key(|path| path.as_os_str().len())
    }

    /// Everything that may be done at a path.
    fn rights_at(&self, path: &Path) -> Rights {
        self.rules.iter().filter(|rule| rule.covers(path)).fold(Rights::EMPTY, |all, rule| all | rule.rights)
    }

    /// The rules that allow it.
    fn granting<'a>(&'a self, op: Op, path: &'a Path) -> impl Iterator<Item = &'a Rule> {
        let place = op.place(path);
        let gives = move |rule: &Rule| match op.right() {
            Some((right, _)) => rule.rights.contains(right),
            None => rule.is_writable(),
        };
        self.rules.iter().filter(move |rule| gives(rule) && place.is_some_and(|place| rule.covers(place)))
    }

    fn denied(&self, op: Op, path: &Path) -> Decision {
        let list = op.list();
        let covering = self.rules.iter().filter(|rule| rule.covers(path));
        let nearest = covering.max_by_key(|rule| rule.path.as_os_str().len());
        let but = match nearest {
            Some(rule) => format!(" ({} does not allow it)", rule.named()),
            None => String::new(),
        };
        let wanted = op.place(path).unwrap_or(path);
        let in_branch = self.rules.iter().any(|rule| rule.list == List::Branch && rule.covers(wanted));
        let remedy = match (op, list) {
            (Op::CreateChar | Op::CreateBlock, _) => {
                "device nodes need the capability mknod and a rule of fs_write".to_owned()
            }
            (Op::Execute, _) if self.rules.iter().any(|rule| rule.list == List::Spawn) => {
                format!("to allow it, add {path:?} to spawn")
            }
            (Op::Execute, _) if in_branch => "to allow it, set branch to \"write-and-execute\"".to_owned(),
            (_, List::FsWrite) if in_branch => "to allow it, set branch to \"write\"".to_owned(),
            _ => format!("to allow it, add {wanted:?} to {}", list.name()),
        };
        Decision {
            allowed: false,
            rule: list.name().to_owned(),
            words: format!(
                "{} {} is denied by policy {}: no rule of {} covers it{but}; {remedy}",
                op.doing(),
                path.display(),
                self.name,
                list.name()
            ),
        }
    }
}

/// How a move is written down.
pub(crate) fn arrow(from: &Path, to: &Path) -> String {
    format!("{} -> {}", from.display(), to.display())
}

/// What gets a second or another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// `rename(2)` of anything but a directory.
    Renamed,
    /// `rename(2)` of a directory.
    RenamedDir,
    /// `link(2)`.
    Linked,
}

impl Moved {
    pub(crate) fn operations(self) -> (Op, Option<Op>) {
        match self {
            Moved::Renamed => (Op::Create, Some(Op::Remove)),
            Moved::RenamedDir => (Op::CreateDir, Some(Op::RemoveDir)),
            Moved::Linked => (Op::Create, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BranchAccess, Policy};
    use super::*;

    #[test]
    fn a_file_is_made_and_removed_by_the_rule_for_its_directory_only() {
        let policy = Policy::new("test").write("/a/file".parse().unwrap()).write("/b".parse().unwrap());
        let rules = policy.rules([]);
        let allowed = |op, path: &str| rules.explain(op, Path::new(path)).allowed;
        assert!(allowed(Op::Write, "/a/file") && !allowed(Op::Remove, "/a/file"));
        assert!(allowed(Op::Create, "/b/new") && allowed(Op::Remove, "/b/new"));
        assert!(!allowed(Op::RemoveDir, "/b"));
        assert!(!allowed(Op::Remove, "/"));
    }

    #[test]
    fn nothing_is_moved_between_writable_directories_or_to_where_it_gains_rights() {
        let path = |text: &str| text.parse().unwrap();
        let policy = Policy::new("test").write(path("/a")).write(path("/b")).exec(path("/a/bin"));
        let rules = policy.rules([]);
        let moved = |from: &str, to: &str| rules.explain_move(Path::new(from), Path::new(to), Moved::Renamed);
        assert!(moved("/a/x", "/a/y").allowed && moved("/a/x", "/a/d/y").allowed);
        assert!(moved("/a/bin/x", "/a/x").allowed);
        assert!(moved("/a/x", "/b/x").words.contains("copy it instead"));
        assert!(moved("/a/x", "/a/bin/x").words.contains("gain rights"));
        assert!(moved("/c/x", "/a/x").words.contains("removing /c/x is denied"));
    }

    #[test]
    fn calls_and_hosts_are_explained_too() {
        let mut policy = Policy::new("test");
        policy.net = "allow=crates.io".parse().unwrap();
        let rules = policy.rules([]);
        assert_eq!(rules.explain_call("mount").rule, "never");
        assert_eq!(rules.explain_call("ptrace").rule, "ptrace");
        assert!(rules.explain_call("read").allowed);
        assert_eq!(rules.explain_host("crates.io", 443).rule, "net crates.io");
        assert!(!rules.explain_host("example.com", 443).allowed);
    }

    #[test]
    fn what_is_denied_in_the_branch_is_allowed_by_what_the_words_say() {
        let policy = Policy::new("test").branch(BranchAccess::ReadOnly);
        let words =
            |policy: &Policy, op| policy.rules(["/work".into()]).explain(op, Path::new("/work/a")).words;
        assert!(words(&policy, Op::Create).ends_with("set branch to \"write\""));
        let policy = policy.branch(BranchAccess::Write);
        assert!(words(&policy, Op::Create).contains("is allowed by branch /work"));
        assert!(words(&policy, Op::Execute).ends_with("set branch to \"write-and-execute\""));
        let policy = policy.branch(BranchAccess::WriteAndExecute);
        assert!(words(&policy, Op::Execute).contains("is allowed by branch /work"));
    }
}
