//! Every message comes back from its JSON, and the JSON keeps its shape.

use std::fmt::Debug;

use serde::de::DeserializeOwned;

use super::*;

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(message: &T) {
    let text = serde_json::to_string(message).unwrap();
    let back: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(&back, message, "{text}");
}

fn branch(path: &[u8]) -> BranchInfo {
    BranchInfo {
        name: "fix-1".into(),
        index: 3,
        parent: Some("main".into()),
        group: Some(GroupKind::Frozen),
        created: -1,
        changed: u64::MAX,
        bytes: 0,
        content: 1,
        limit: Some(2),
        view: ViewKind::Native,
        groups: 1,
        children: vec!["a".into()],
        checkpoints: vec![Checkpoint { name: "1".into(), created: 5 }],
        path: PathBytes(path.to_vec()),
    }
}

fn report() -> CommitReport {
    CommitReport {
        action: CommitAction::Commit,
        branch: "b".into(),
        into: "main".into(),
        commit: Some(1),
        changed: 2,
        stale: vec!["c".into()],
        warnings: vec![],
        resolved: vec![],
        stays: Some(3),
    }
}

fn rebase_report() -> RebaseReport {
    RebaseReport {
        branch: "b".into(),
        onto: "main".into(),
        moved: true,
        changed: 2,
        resolved: vec![],
        warnings: vec!["w".into()],
    }
}

#[test]
fn every_verb_comes_back_under_its_name() {
    let branch = || "b".to_owned();
    let between =
        || Compared::Between { old: Side::Commit { commit: u64::MAX }, new: Side::Branch { name: branch() } };
    let verbs = [
        Verb::Create {
            names: vec!["a".into(), "b".into()],
            parent: "main".into(),
            group: GroupKind::Exclusive,
            quota: Some(Quota::Bytes(u64::MAX)),
        },
        Verb::Create { names: vec![], parent: String::new(), group: GroupKind::Independent, quota: None },
        Verb::Gc { keep: KeepChange::default(), mode: GcMode::Preview },
        Verb::Gc {
            keep: KeepChange {
                commits: Some(0),
                age: Some(Bound::AtMost(u64::MAX)),
                bytes: Some(Bound::Unlimited),
            },
            mode: GcMode::Save,
        },
        Verb::SetQuota { branch: branch(), quota: Quota::Unlimited },
        Verb::List,
        Verb::Inspect { branch: branch() },
        Verb::Status,
        Verb::Diff { compared: Compared::SinceFork { branch: branch() }, detail: DiffDetail::NameStatus },
        Verb::Diff { compared: between(), detail: DiffDetail::Stat },
        Verb::Patch { compared: between() },
        Verb::Commit { branch: branch(), options: CommitOptions::default() },
        Verb::Show { commit: u64::MAX },
        Verb::PlanCommit {
            branch: branch(),
            options: CommitOptions {
                choices: Choices {
                    ours: vec!["*.rs".into()],
                    merge: vec!["*.md".into()],
                    markers: true,
                    rest: Some(Choice::Theirs),
                    ..Choices::default()
                },
                part: Part { only: vec!["src".into()], except: vec!["*.log".into()] },
                message: "why".into(),
            },
        },
        Verb::Checkpoint { branch: branch(), name: None },
        Verb::Checkpoint { branch: branch(), name: Some("x".into()) },
        Verb::DeleteCheckpoint { branch: branch(), name: "x".into() },
        Verb::Restore { branch: branch(), name: "x".into() },
        Verb::Patch {
            compared: Compared::Between {
                old: Side::Checkpoint { branch: branch(), name: "1".into() },
                new: Side::Branch { name: branch() },
            },
        },
        Verb::Cancel { branch: branch() },
        Verb::Groups { branch: None },
        Verb::Groups { branch: Some(branch()) },
        Verb::ControlGroups { branch: branch(), action: GroupAction::Freeze },
        Verb::Abort { branch: branch(), children: Children::Refuse },
        Verb::Abort { branch: branch(), children: Children::Cascade },
        Verb::Log { limit: u32::MAX },
        Verb::Attach { branch: branch(), pid: 1, on_end: OnEnd::Abort },
        Verb::Attach { branch: branch(), pid: 1, on_end: OnEnd::TakeIn },
        Verb::NativeView { branch: branch(), mounter: Mounter::UserNamespace },
        Verb::TakeIn { branch: branch() },
        Verb::Subscribe,
        Verb::Shutdown,
    ];
    for verb in verbs {
        let request = Request { id: u64::MAX, verb };
        comes_back(&request);
        let json = serde_json::to_value(&request).unwrap();
        assert_eq!(json["verb"], request.verb.name());
    }
}

#[test]
fn every_answer_comes_back() {
    let change = FileChange {
        path: PathBytes(b"\xff\n".to_vec()),
        status: ChangeStatus::Renamed,
        from: Some(PathBytes(b"old".to_vec())),
        added: Some(1),
        removed: None,
        old_size: None,
        new_size: Some(9),
    };
    let status = WorkspaceStatus {
        base: PathBytes(b"/base".to_vec()),
        store: PathBytes(b"/base/.branchfs".to_vec()),
        mountpoint: PathBytes(b"/\xfe".to_vec()),
        pid: 7,
        mode: "fuse, 4 threads".into(),
        data: "opened".into(),
        branches: 2,
        commits: 3,
        journal_bytes: 4,
        content_bytes: 5,
        recovery: vec!["replayed 3 records".into()],
    };
    let entry = LogEntry {
        commit: 1,
        action: CommitAction::Undo { of: 3 },
        branch: "b".into(),
        time: 0,
        changed: 2,
        bytes: 3,
        by: Some(1000),
        message: "why\n".into(),
    };
    let omitted = [
        OmittedBecause::Attributes,
        OmittedBecause::EmptyDirectory,
        OmittedBecause::Special,
        OmittedBecause::Reserved,
    ];
    let omitted = omitted.map(|why| Omitted { why, paths: 2, first: PathBytes(vec![0xff]) });
    let answers = [
        Answer::Branches { branches: vec![branch(b"/mnt/fix-1"), branch(b"/mnt/\xff")] },
        Answer::Branch { branch: BranchInfo { parent: None, group: None, ..branch(b"/") } },
        Answer::Status { status },
        Answer::Diff { changes: vec![change] },
        Answer::Patched { omitted: omitted.to_vec() },
        Answer::Committed { report: report() },
        Answer::Rebased { report: rebase_report() },
        Answer::Checkpoint { name: "1".into() },
        Answer::Restored {
            report: RestoreReport {
                branch: "b".into(),
                checkpoint: "1".into(),
                saved: Some("before-restore".into()),
                warnings: vec![],
            },
        },
        Answer::Aborted { branches: vec!["b".into()] },
        Answer::Log { commits: vec![entry.clone()] },
        Answer::Shown { entry: LogEntry { by: None, message: String::new(), ..entry }, kept: false },
        Answer::Done,
    ];
    for answer in answers {
        comes_back(&Reply { id: 1, outcome: Ok(answer) });
    }
}

#[test]
fn every_failure_comes_back_and_names_its_thing() {
    let name = || "some-branch".to_owned();
    let reason = || "because some-branch".to_owned();
    let link = Version {
        kind: FileKind::Symlink,
        mode: 0o777,
        uid: 0,
        gid: 0,
        size: None,
        mtime: None,
        target: Some(PathBytes(b"\xff".to_vec())),
    };
    let conflict = Conflict {
        path: PathBytes(b"\x80".to_vec()),
        kind: ConflictKind::DeleteModify,
        unmerged: Some("binary".into()),
        reason: "both changed".into(),
        others: vec![PathBytes(b"moved".to_vec())],
        base: None,
        ours: None,
        theirs: Some(link),
    };
    let json = serde_json::to_value(&conflict).expect("plain data");
    let version = serde_json::json!({"kind": "symlink", "mode": 0o777, "uid": 0, "gid": 0, "mtime": null,
        "target": [255]});
    assert_eq!(json["theirs"], version, "null is unknown");
    assert_eq!(json["kind"], "delete-modify");
    assert!(json.get("base").is_none(), "absent is nothing");
    let failures = [
        Failure::NoSuchBranch { name: name() },
        Failure::Exists { name: name() },
        Failure::BadName { name: name(), reason: reason() },
        Failure::NoSuchCheckpoint { branch: name(), name: "x".into() },
        Failure::CheckpointExists { branch: name(), name: "x".into() },
        Failure::Stale { name: name() },
        Failure::HasChildren { name: name(), children: vec!["x".into(), "y".into()] },
        Failure::Busy { name: name(), reason: reason() },
        Failure::NotAllowed { reason: reason() },
        Failure::Limit { reason: reason() },
        Failure::Malformed { reason: reason() },
        Failure::Io { errno: 28, detail: reason() },
    ];
    for failure in failures {
        assert!(failure.to_string().contains("some-branch"), "{failure:?}");
        comes_back(&Reply { id: 1, outcome: Err(failure) });
    }
    // Of the one commit that its connection waits for.
    comes_back(&Reply { id: 1, outcome: Err(Failure::Cancelled) });
    comes_back(&Reply { id: 1, outcome: Err(Failure::Poisoned { errno: 5, detail: "fsync".into() }) });
    comes_back(&Err::<Welcome, _>(Failure::Version { daemon: 1, client: 2 }));
    comes_back(&Failure::Conflicts { conflicts: vec![conflict] });
}

#[test]
fn every_event_comes_back() {
    let events = [
        Event::Subscribed,
        Event::Forked { parent: "main".into(), branches: vec!["b".into()] },
        Event::Progress {
            progress: CommitProgress {
                branch: "b".into(),
                phase: CommitPhase::WritingBack,
                done: 256,
                of: 1000,
                bytes: 1 << 30,
            },
        },
        Event::Committed { report: report() },
        Event::Rebased { report: rebase_report() },
        Event::Ended { branch: "b".into(), reason: EndReason::Aborted },
        Event::Ended { branch: "b".into(), reason: EndReason::Stale },
        Event::GroupGone { branch: "b".into(), pid: 9 },
        Event::Shutdown,
    ];
    for event in &events {
        comes_back(event);
    }
}

#[test]
fn what_does_not_apply_is_absent_and_never_null() {
    let main = BranchInfo { parent: None, group: None, ..branch(b"/mnt/main") };
    let json = serde_json::to_value(&main).unwrap();
    assert!(json.get("parent").is_none() && json.get("group").is_none(), "{json}");
    assert_eq!(json["path"], "/mnt/main");
}

#[test]
fn a_request_reads_as_the_documentation_shows_it() {
    let text = r#"{"id":1,"verb":"create","names":["a"],"parent":"main","group":"exclusive"}"#;
    let request: Request = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&request).unwrap(), text);
}
