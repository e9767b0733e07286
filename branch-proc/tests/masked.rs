//! A host whose `/proc` is partly masked, as in most containers: the kernel refuses a fresh one.
#![allow(clippy::unwrap_used)]

mod common;

use std::process;

use branch_proc::{Exit, ProcView, Requirement, Step, host};
use common::{Seen, Witness, sh};

/// Set for the copy of this binary that runs on the masked host.
const MASKED: &str = "BRANCH_PROC_TEST_MASKED";

#[test]
fn a_refused_proc_is_reported_and_an_error_when_required() {
    if std::env::var_os(MASKED).is_none() {
        again_on_a_masked_host();
        return;
    }
    let (mut witness, write) = Witness::new();
    let mut group = sh("setsid sleep 60 & echo >&9; exec sleep 60").fd(write, 9).spawn().unwrap();
    assert_eq!(group.level().proc, ProcView::Inherited);
    witness.wait_for(1);
    assert_eq!(group.kill().unwrap().exit, Exit::Signal(libc::SIGKILL));
    assert_eq!(witness.look(std::time::Duration::ZERO), Seen::AllGone);

    let error = sh("").require(Requirement::FreshProc).spawn().unwrap_err();
    assert_eq!((error.step, error.errno, error.thing.as_str()), (Step::MountProc, libc::EPERM, "/proc"));

    let report = host::Report::probe();
    assert!(report.groups.is_available() && report.user_namespaces.is_available());
    match report.fresh_proc {
        host::Support::Missing { why } => assert!(why.contains("masked"), "{why}"),
        host::Support::Available => panic!("a fresh /proc that a spawn does not get"),
    }
}

fn again_on_a_masked_host() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can mask a part of /proc");
        return;
    }
    let (_dir, copy) = common::copy_for_everyone();
    let mask =
        "mount -t tmpfs mask /proc/fs && exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$0\"";
    let output = process::Command::new("unshare")
        .args(["--mount", "sh", "-c", mask])
        .arg(&copy)
        .env(MASKED, "1")
        .current_dir("/")
        .stdin(process::Stdio::piped())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}
