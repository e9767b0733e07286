//! The machine: kernel, FUSE, namespaces.

use std::env;
use std::fs::OpenOptions;
use std::io::ErrorKind;

use branch_proc::host::{Report, Support};

use super::Finding;

/// Oldest kernel everything works on: clone3 with pidfd and statx mount ids are from 5.8 or earlier.
const KERNEL_MIN: (u32, u32) = (5, 8);

pub(super) fn look() -> Vec<Finding> {
    let mut findings = vec![kernel(), device(), helper()];
    let report = Report::probe();
    let needed = [
        ("user namespaces", report.user_namespaces, rustix::process::geteuid().is_root()),
        ("process groups", report.groups, false),
        ("fresh /proc", report.fresh_proc, true),
        ("own networks", report.networks, true),
        ("policies", report.policies, true),
    ];
    findings.extend(needed.map(|(check, support, dispensable)| match (support, dispensable) {
        (Support::Available, _) => Finding::ok(check, "available"),
        (Support::Missing { why }, true) => Finding::warning(check, why, "works without; see the cause"),
        (Support::Missing { why }, false) => {
            Finding::failed(check, why, "'branchfs run' and 'explore' need this; branches themselves do not")
        }
    }));
    findings
}

fn kernel() -> Finding {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let (major, minor) = KERNEL_MIN;
    match version(&release) {
        Some(found) if found >= KERNEL_MIN => Finding::ok("kernel", release),
        Some(_) => {
            let hint = format!("branchfs is made for Linux {major}.{minor} or newer");
            Finding::warning("kernel", release, hint)
        }
        None => Finding::warning("kernel", release, "its version cannot be read"),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn device() -> Finding {
    const CHECK: &str = "/dev/fuse";
    let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/fuse") else {
        return Finding::ok(CHECK, "can be opened");
    };
    let hint = match error.kind() {
        ErrorKind::NotFound => "load the module (modprobe fuse), or give the container --device /dev/fuse",
        ErrorKind::PermissionDenied => "give this user access, or the container --device /dev/fuse",
        _ => "is the fuse module loaded? (modprobe fuse)",
    };
    Finding::failed(CHECK, error.to_string(), hint)
}

/// Needed by ordinary users, and by root in a container without CAP_SYS_ADMIN.
fn helper() -> Finding {
    const CHECK: &str = "fusermount3";
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|directory| directory.join(CHECK)).find(|file| file.is_file());
    match found {
        Some(file) => Finding::ok(CHECK, file.display().to_string()),
        None if rustix::process::geteuid().is_root() => {
            Finding::ok(CHECK, "not installed; not needed by root with CAP_SYS_ADMIN")
        }
        None => Finding::failed(CHECK, "not found on PATH", "install the package fuse3"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_have_a_version_in_front() {
        assert_eq!(version("6.8.0-45-generic"), Some((6, 8)));
        assert_eq!(version("5.10"), Some((5, 10)));
        assert_eq!(version("weird"), None);
    }
}
