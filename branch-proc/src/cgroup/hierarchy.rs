//! Where the control group hierarchies are mounted and where the caller is in them (`cgroups(7)`).

use std::path::{Path, PathBuf};

/// A controller of cgroup v1 that bounds or counts something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    Memory,
    Pids,
    Cpu,
    Cpuacct,
    Blkio,
}

impl Controller {
    pub(crate) const ALL: [Controller; 5] =
        [Controller::Memory, Controller::Pids, Controller::Cpu, Controller::Cpuacct, Controller::Blkio];

    fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Blkio => "blkio",
        }
    }
}

/// The caller's own directories.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    /// In the hierarchy of cgroup v2, with its mount point: (mount point, own directory).
    pub(crate) unified: Option<(PathBuf, PathBuf)>,
    /// In those of cgroup v1.
    pub(crate) v1: Vec<(Controller, PathBuf)>,
}

/// From the text of `/proc/self/mountinfo` and `/proc/self/cgroup`.
pub(crate) fn own(mountinfo: &str, cgroup: &str) -> Own {
    let mounts: Vec<Mount<'_>> = mountinfo.lines().filter_map(Mount::parse).collect();
    let mut own = Own::default();
    for membership in cgroup.lines().filter_map(Membership::parse) {
        let (kind, named) = match membership.controllers {
            "" => ("cgroup2", None),
            list => ("cgroup", Some(list)),
        };
        let serves = |mount: &&Mount<'_>| {
            mount.kind == kind && named.is_none_or(|list| list.split(',').all(|name| mount.has(name)))
        };
        let Some((mount, directory)) =
            mounts.iter().filter(serves).find_map(|mount| Some((mount, mount.locate(membership.path)?)))
        else {
            continue;
        };
        match named {
            None => own.unified = Some((PathBuf::from(&mount.point), directory)),
            Some(list) => {
                let known = Controller::ALL.into_iter().filter(|c| list.split(',').any(|n| n == c.name()));
                own.v1.extend(known.map(|controller| (controller, directory.clone())));
            }
        }
    }
    own
}

/// One line of `proc_pid_mountinfo(5)`.
struct Mount<'a> {
    root: String,
    point: String,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Mount<'a>> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let mut right = right.split(' ');
        let (root, point) = (unescape(left.next()?), unescape(left.next()?));
        Some(Mount { root, point, kind: right.next()?, options: right.nth(1)? })
    }

    fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|has| has == option)
    }

    /// The directory of a group in this mount, if it shows it: the mount may show a part of the hierarchy.
    fn locate(&self, path: &str) -> Option<PathBuf> {
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        Some(Path::new(&self.point).join(below))
    }
}

/// One line of `/proc/PID/cgroup`.
struct Membership<'a> {
    controllers: &'a str,
    path: &'a str,
}

impl<'a> Membership<'a> {
    fn parse(line: &'a str) -> Option<Membership<'a>> {
        let mut fields = line.splitn(3, ':').skip(1);
        Some(Membership { controllers: fields.next()?, path: fields.next()? })
    }
}

/// Blanks and the like are written in octal.
fn unescape(field: &str) -> String {
    let mut plain = field.to_owned();
    for (code, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        plain = plain.replace(code, character);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 25 0:27 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:28 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
34 31 0:30 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
35 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
";

    #[test]
    fn a_hybrid_host_gives_both_kinds() {
        let own = own(HYBRID, "5:cpu,cpuacct:/a b\n4:memory:/job/1\n1:name=systemd:/x\n0::/unit\n");
        let point = PathBuf::from("/sys/fs/cgroup/unified");
        assert_eq!(own.unified, Some((point.clone(), point.join("unit"))));
        let both = PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/a b");
        assert_eq!(
            own.v1,
            vec![
                (Controller::Cpu, both.clone()),
                (Controller::Cpuacct, both),
                (Controller::Memory, "/sys/fs/cgroup/memory/job/1".into()),
            ]
        );
    }

    #[test]
    fn a_mount_that_shows_a_part_shows_only_what_is_below_it() {
        let line = "9 1 0:5 /docker/abc /sys/fs/cgroup\\040two rw - cgroup2 cgroup rw\n";
        let inside = own(line, "0::/docker/abc/init\n").unified.unwrap();
        assert_eq!(inside.1, PathBuf::from("/sys/fs/cgroup two/init"));
        assert_eq!(own(line, "0::/elsewhere\n").unified, None);
    }

    #[test]
    fn nothing_mounted_and_nonsense_give_nothing() {
        assert_eq!(own("", "0::/\n"), Own::default());
        assert_eq!(own("nonsense\n - \n", "nonsense\n::\n"), Own::default());
    }
}
