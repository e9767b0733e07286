//! What runs in branches, from the command line: shown, frozen, killed, bounded, confined, explained.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Output, Stdio};

use branchfs_tests::Workspace;
use serde_json::Value;

fn workspace() -> Option<Workspace> {
    Workspace::over(|base| fs::write(base.join("file"), "base\n").unwrap())
}

/// A `run` in branch `b` that has said "ready".
fn running(workspace: &Workspace, script: &str) -> Child {
    let line = format!("{script}; echo ready; read line");
    let mut command = workspace.command(&["run", "-b", "b", "--", "sh", "-c", &line]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "ready\n");
    child
}

fn json(workspace: &Workspace, args: &[&str]) -> Value {
    serde_json::from_str(&workspace.ok(&[&["--json"], args].concat())).unwrap()
}

fn groups(workspace: &Workspace) -> Vec<Value> {
    json(workspace, &["ps"])["groups"].as_array().unwrap().clone()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_runs_is_shown_frozen_thawed_and_killed_and_the_branch_lives_on() {
    let Some(workspace) = workspace() else { return };
    assert_eq!(groups(&workspace), Vec::<Value>::new());
    let child = running(&workspace, "setsid sleep 60 & echo change > file");
    let listed = groups(&workspace);
    let [group] = &listed[..] else { panic!("{listed:?}") };
    assert_eq!((&group["branch"], &group["frozen"]), (&"b".into(), &false.into()));
    let processes = group["processes"].as_array().unwrap();
    assert_eq!(processes[0]["command"][0], "sh");
    assert!(processes.len() >= 2, "{processes:?}");
    let table = workspace.ok(&["ps", "b"]);
    assert!(table.starts_with("BRANCH") && table.contains("sh -c setsid sleep"), "{table}");
    let watched = workspace.ok(&["top", "-n", "2", "--delay", "50ms"]);
    assert!(watched.starts_with("1 process group in 1 branch\n"), "{watched}");

    assert_eq!(workspace.ok(&["freeze", "b"]), "froze 1 process group of b\n");
    assert_eq!(groups(&workspace)[0]["frozen"], true);
    assert_eq!(workspace.ok(&["thaw", "b"]), "thawed 1 process group of b\n");
    assert_eq!(groups(&workspace)[0]["frozen"], false);

    assert_eq!(workspace.ok(&["freeze", "b"]), "froze 1 process group of b\n");
    assert_eq!(workspace.ok(&["kill", "b"]), "killed 1 process group of b\n");
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(137), "{}", stderr(&ended));
    assert_eq!(workspace.ok(&["kill", "main"]), "nothing runs in main\n");
}

/// Everybody on this machine who has this in the environment.
fn having(variable: &str) -> Vec<String> {
    let environ = |process: &fs::DirEntry| fs::read(process.path().join("environ")).unwrap_or_default();
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter(|process| environ(process).split(|byte| *byte == 0).any(|it| it == variable.as_bytes()))
        .map(|process| process.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn who_holds_an_open_file_a_map_and_a_root_of_a_branch_is_gone_with_it() {
    let Some(workspace) = workspace() else { return };
    let marker = format!("BRANCHFS_TEST_HOLDER={}", std::process::id());
    // A program that is executed is mapped. Each holder says by a file that it is there: while it executes, and before
    // its children do, the kernel shows no environment of theirs.
    let script = format!(
        "export {marker}; cp /bin/sh mapped; setsid ./mapped -c ': > mapped-runs; sleep 60; :' & \
         setsid sh -c 'cd \"/proc/self/root$PWD\" && exec 7<>file && : > entered && sleep 60; :' & \
         until test -e mapped-runs && test -e entered; do :; done"
    );
    let child = running(&workspace, &script);
    assert!(having(&marker).len() >= 2, "{:?}", having(&marker));
    workspace.ok(&["abort", "b"]);
    assert_eq!(having(&marker), Vec::<String>::new());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(4), "{}", stderr(&ended));
    assert_eq!(fs::read_to_string(workspace.base().join("file")).unwrap(), "base\n");
    assert!(!workspace.base().join("entered").exists());
}

#[test]
fn a_branch_that_is_not_there_has_no_processes_to_kill() {
    let Some(workspace) = workspace() else { return };
    for verb in ["ps", "kill", "freeze", "thaw"] {
        let output = workspace.cli(&[verb, "nobody"]);
        assert_eq!(output.status.code(), Some(4), "{verb}: {}", stderr(&output));
    }
}

#[test]
fn a_command_over_its_memory_is_told_so() {
    let Some(workspace) = workspace() else { return };
    let hungry = "head -c 300000000 /dev/zero | tail -c 300000000 > /dev/null";
    let output = workspace.cli(&["run", "--memory", "64M", "--", "sh", "-c", hungry]);
    if stderr(&output).contains("no control group may be used") {
        println!("SKIPPED: no memory controller for this user");
        return;
    }
    assert_eq!(output.status.code(), Some(137), "{}", stderr(&output));
    assert!(stderr(&output).contains("was used up"), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("its limit is 64 MiB; rerun with --memory 512M, or"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_hint_in_the_environment_is_a_limit_of_memory_and_is_asked_for_again_in_words() {
    let Some(workspace) = workspace() else { return };
    let hungry = "head -c 300000000 /dev/zero | tail -c 300000000 > /dev/null";
    let hinted = |hint: &str, args: &[&str]| {
        workspace.command(args).env("AGENT_RESOURCE_HINT", hint).output().unwrap()
    };
    let output = hinted("memory:64M", &["run", "--", "sh", "-c", hungry]);
    if stderr(&output).contains("no control group may be used") {
        println!("SKIPPED: no memory controller for this user");
        return;
    }
    assert!(stderr(&output).contains("was used up"), "{}", stderr(&output));
    let output = hinted("memory:64M", &["--json", "run", "--", "sh", "-c", hungry]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(137), "{report}");
    let advice = report["advice"].as_str().unwrap();
    assert!(advice.contains("its limit is 64 MiB; rerun with AGENT_RESOURCE_HINT=memory:low"), "{advice}");

    let output = hinted("memory:64M", &["run", "--memory", "2G", "--", "sh", "-c", hungry]);
    assert_eq!(output.status.code(), Some(0), "the command line goes before: {}", stderr(&output));
    let output = hinted("lots", &["run", "--", "true"]);
    assert!(stderr(&output).contains("\"lots\" is no resource hint"), "{}", stderr(&output));

    let output = hinted("memory:64M", &["--json", "explore", "-n", "1", "--", "sh", "-c", hungry]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["advice"][0]["words"].as_str().unwrap().contains("its limit is 64 MiB"), "{report}");
}

#[test]
fn what_attempts_and_their_checks_are_denied_is_told_of_each() {
    let Some(workspace) = workspace() else { return };
    let explore =
        ["explore", "--policy", "edit", "--check", "echo x > /etc/branchfs-check; true", "--cmd", "exit 3"];
    let write = "echo x > /etc/branchfs-attempt; true";
    let output = workspace.cli(&[&["--json"], &explore[..], &["--cmd", write]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let denied = |attempt: usize| -> Vec<String> {
        let denied = report["explore"]["attempts"][attempt]["denied"].as_array().cloned().unwrap_or_default();
        denied.iter().map(|one| one["object"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(denied(0), Vec::<String>::new(), "{report}");
    assert_eq!(denied(1), ["/etc/branchfs-attempt", "/etc/branchfs-check"], "{report}");
    let output = workspace.cli(&[&explore[..], &["--cmd", write]].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.lines().any(|line| line.starts_with("attempt 2: ") && line.contains("/etc/branchfs-check")),
        "{text}"
    );
}

#[test]
fn a_denied_write_is_told_in_words_explained_and_allowed_by_the_policy_that_was_learned() {
    let Some(workspace) = workspace() else { return };
    let outside = workspace.outside().join("outside");
    fs::create_dir(&outside).unwrap();
    // /tmp is open to `edit`: the denied place lies elsewhere.
    let script = "echo change > file; echo x > /etc/branchfs-test; true";
    let output = workspace.cli(&["--json", "run", "--policy", "edit", "--", "sh", "-c", script]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    let words: Vec<&str> =
        report["denied"].as_array().unwrap().iter().map(|d| d["words"].as_str().unwrap()).collect();
    assert!(words.iter().any(|words| words.contains("/etc/branchfs-test")), "{words:?}");
    assert_eq!(fs::read_to_string(workspace.base().join("file")).unwrap(), "change\n");

    let why = workspace.cli(&["why", "create", "/etc/branchfs-test", "--policy", "edit"]);
    assert_eq!(why.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&why.stdout).starts_with("denied: "), "{why:?}");
    assert!(workspace.ok(&["why", "write", "file", "--policy", "edit"]).starts_with("allowed: "));
    assert!(workspace.ok(&["why", "connect", "crates.io", "--policy", "build"]).starts_with("allowed: "));

    let learned = outside.join("learned.toml");
    let place = outside.join("made");
    let script = format!("echo x > {}; cat file > /dev/null", place.display());
    workspace.ok(&["run", "--learn", learned.to_str().unwrap(), "--", "sh", "-c", &script]);
    fs::remove_file(&place).unwrap();
    workspace.ok(&["run", "--policy", learned.to_str().unwrap(), "--", "sh", "-c", &script]);
    assert_eq!(fs::read_to_string(&place).unwrap(), "x\n");
    let output = workspace.cli(&["run", "--policy", learned.to_str().unwrap(), "--", "sh", "-c", "rm file"]);
    assert_ne!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_network_of_its_own_reaches_nobody() {
    let Some(workspace) = workspace() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    workspace.ok(&["run", "--", "bash", "-c", &script]);
    for net in ["none", "loopback", "allow=crates.io"] {
        let output = workspace.cli(&["run", "--net", net, "--", "bash", "-c", &script]);
        assert_eq!(output.status.code(), Some(1), "{net}: {}", stderr(&output));
    }
}

#[test]
fn wrong_options_are_named() {
    let Some(workspace) = workspace() else { return };
    for (args, said) in [
        (vec!["run", "--policy", "biuld", "--", "true"], "neither a preset nor a file"),
        (vec!["run", "--net", "lo", "--", "true"], "no network mode"),
        (vec!["run", "--cpu", "0", "--", "true"], "no number of processors"),
        (vec!["why", "wrte", "/etc", "--policy", "build"], "wrte"),
        (vec!["why", "write", "/etc"], "no policy is named"),
    ] {
        let output = workspace.cli(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(said), "{args:?}: {}", stderr(&output));
    }
    let output =
        workspace.cli(&["run", "--ladder", "subreaper", "--require", "inescapable-kill", "--", "true"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("inescapable kill"), "{}", stderr(&output));
}
