//! Exploring with real processes over a fake engine.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code)]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use branch_core::{Explore, ExploreReport, PathBytes, Program, Progress, Verdict, Workspace};

use common::Fake;

struct Scene {
    _temp: tempfile::TempDir,
    base: PathBuf,
    fake: Arc<Fake>,
    workspace: Workspace,
}

fn scene() -> Scene {
    let temp = tempfile::tempdir().unwrap();
    let base = temp.path().join("base");
    fs::create_dir(&base).unwrap();
    fs::write(base.join("answer"), "41\n").unwrap();
    let fake = Arc::new(Fake::new(&base, &temp.path().join("views")));
    let workspace = Workspace::over(fake.clone(), base.clone());
    Scene { _temp: temp, base, fake, workspace }
}

impl Scene {
    fn explore(&self, lines: &[&str]) -> Explore {
        let attempts = lines.iter().map(|line| Program::shell(*line)).collect();
        Explore::new(&self.workspace, attempts).unwrap()
    }

    fn answer(&self) -> String {
        fs::read_to_string(self.base.join("answer")).unwrap()
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        assert_eq!(self.fake.live(), Vec::<String>::new());
    }
}

fn run(explore: Explore) -> ExploreReport {
    explore.run(&mut |_| {}).unwrap()
}

fn verdicts(report: &ExploreReport) -> Vec<&Verdict> {
    report.attempts.iter().map(|attempt| &attempt.verdict).collect()
}

#[test]
fn the_attempt_that_passes_the_check_wins_and_the_hanging_one_is_killed() {
    let scene = scene();
    let begun = Instant::now();
    let explore = scene
        .explore(&["sleep 1000", "echo 43 > answer", "echo 42 > answer", "exit 3"])
        .check(Program::shell("read a < answer && [ $a = 42 ]"));
    let report = run(explore);
    assert!(begun.elapsed() < Duration::from_secs(60), "the hanging attempt held it up");
    assert_eq!(report.winner, Some(2), "{report:?}");
    assert_eq!(scene.answer(), "42\n");
    let verdicts = verdicts(&report);
    assert_eq!(verdicts[0], &Verdict::Lost);
    // These two may have come to their own end before the winner's commit, or not.
    assert!(matches!(verdicts[1], Verdict::CheckFailed { exit_code: 1 } | Verdict::Lost), "{verdicts:?}");
    assert!(matches!(verdicts[3], Verdict::Failed { exit_code: 3 } | Verdict::Lost), "{verdicts:?}");
    scene.nothing_is_left();
}

#[test]
fn of_attempts_that_all_succeed_exactly_one_commits() {
    let scene = scene();
    let report = run(scene.explore(&["echo $BRANCH_ATTEMPT > answer"; 12]));
    let winner = report.winner.expect("one won");
    assert_eq!(scene.answer(), format!("{}\n", winner + 1));
    assert_eq!(verdicts(&report).iter().filter(|verdict| ***verdict == Verdict::Won).count(), 1);
    assert_eq!(
        verdicts(&report).iter().filter(|verdict| ***verdict == Verdict::Lost).count(),
        11,
        "{report:?}"
    );
    scene.nothing_is_left();
}

#[test]
fn time_is_up_for_an_attempt_that_ignores_signals_and_has_daemons() {
    let scene = scene();
    let line = "trap '' TERM INT HUP; setsid sh -c 'trap \"\" TERM; sleep 1000' & sleep 1000";
    let report = run(scene.explore(&[line]).timeout(Duration::from_millis(200)));
    assert_eq!(verdicts(&report), [&Verdict::TimedOut]);
    assert_eq!((report.winner, report.stopped), (None, false));
    assert_eq!(scene.answer(), "41\n");
    scene.nothing_is_left();
}

#[test]
fn the_time_bounds_the_check_too() {
    let scene = scene();
    let checked = |time| {
        let report = run(scene
            .explore(&["true"])
            .check(Program::shell("sleep 1000"))
            .timeout(Duration::from_millis(time)));
        assert_eq!(verdicts(&report), [&Verdict::TimedOut]);
        report.attempts[0].check.is_some()
    };
    // As long as it takes here for the attempt to come to its check.
    assert!((0..10).any(|n| checked(200 << n)));
}

#[test]
fn an_attempt_that_never_stops_writing_runs_out_of_time_and_memory_stays_bounded() {
    let scene = scene();
    let overflows = |time| {
        let report = run(scene.explore(&["yes"]).timeout(Duration::from_millis(time)).output_max(1000));
        assert_eq!(verdicts(&report), [&Verdict::TimedOut]);
        let output = &report.attempts[0].output;
        assert!(output.bytes().len() == 1000 || output.dropped() == 0);
        assert!(output.bytes().len() <= 1000);
        output.dropped() > 64 << 10
    };
    // As long as it takes here to write more than a pipe holds.
    assert!((0..10).any(|n| overflows(300 << n)));
}

#[test]
fn the_output_of_both_streams_is_kept_with_that_of_the_check() {
    let scene = scene();
    let explore = scene.explore(&["echo out; echo err >&2"]).check(Program::shell("echo checked; exit 9"));
    let report = run(explore);
    assert_eq!(verdicts(&report), [&Verdict::CheckFailed { exit_code: 9 }]);
    assert_eq!(report.attempts[0].output.text(), "out\nerr\nchecked\n");
}

#[test]
fn a_program_sees_the_branch_at_the_bases_own_path() {
    let scene = scene();
    let base = scene.base.display().to_string();
    let line = format!(
        "echo $PWD $BRANCH_NAME $BRANCHING_ATTEMPT; echo 42 > {base}/answer; cat {base}/answer; exit 1"
    );
    let report = run(scene.explore(&[&line]).names(vec!["mine".into()]));
    assert_eq!(report.attempts[0].output.text(), format!("{base} mine 1\n42\n"));
    assert_eq!(scene.answer(), "41\n", "only the branch was written");
}

#[test]
fn a_program_that_does_not_exist_is_an_error_of_that_attempt_only() {
    let scene = scene();
    // The other must not win before this one has been tried: it would have lost, then.
    let gate = scene._temp.path().join("gate");
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &gate, fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let waits = format!("read go < {} && echo 42 > answer", gate.display());
    let attempts = vec![Program::new(["/no/such/program"]), Program::shell(&waits)];
    let explore = Explore::new(&scene.workspace, attempts).unwrap();
    let report = explore
        .run(&mut |progress| {
            if let Progress::Finished { attempt: 0, .. } = progress {
                fs::write(&gate, "go\n").unwrap();
            }
        })
        .unwrap();
    assert_eq!(report.winner, Some(1));
    assert!(matches!(verdicts(&report)[0], Verdict::Error { reason } if reason.contains("/no/such/program")));
    scene.nothing_is_left();
}

#[test]
fn the_stopper_ends_everything_without_a_winner() {
    let scene = scene();
    let explore = scene.explore(&["sleep 1000", "sleep 1000"]);
    let stopper = explore.stopper();
    let mut started = 0;
    let report = explore
        .run(&mut |progress| {
            if let Progress::Started { .. } = progress {
                started += 1;
                if started == 2 {
                    stopper.stop();
                }
            }
        })
        .unwrap();
    assert_eq!(verdicts(&report), [&Verdict::Stopped, &Verdict::Stopped]);
    assert!(report.stopped && report.winner.is_none());
    scene.nothing_is_left();
}

#[test]
fn work_that_succeeded_but_conflicts_is_kept() {
    let scene = scene();
    scene.fake.make_commits_conflict("answer");
    let report = run(scene.explore(&["echo 42 > answer"]).names(vec!["kept".into()]));
    assert!(matches!(verdicts(&report)[0], Verdict::NotCommitted { reason, conflicts }
        if reason.contains("conflict") && conflicts[0].path == PathBytes(b"answer".to_vec())));
    assert_eq!(scene.fake.live(), ["kept"]);
    assert_eq!(scene.answer(), "41\n");
}

#[test]
fn progress_tells_every_step_of_a_winner_in_order() {
    let scene = scene();
    let mut steps = Vec::new();
    let explore = scene.explore(&["true"]).names(vec!["one".into()]).check(Program::shell("true"));
    explore.run(&mut |progress| steps.push(progress)).unwrap();
    let [forked, started, checking, committing, finished] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(forked, &Progress::Forked { branches: vec!["one".into()] });
    assert_eq!(started, &Progress::Started { attempt: 0 });
    assert_eq!(checking, &Progress::Checking { attempt: 0 });
    assert_eq!(committing, &Progress::Committing { attempt: 0 });
    assert!(matches!(finished, Progress::Finished { attempt: 0, verdict: Verdict::Won, .. }));
}

#[test]
fn the_report_in_json_has_absent_fields_and_no_null() {
    let scene = scene();
    let report = run(scene.explore(&["exit 7"]));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["attempts"][0]["verdict"], "failed");
    assert_eq!(json["attempts"][0]["exit_code"], 7);
    assert!(json["duration_ms"].is_u64());
    assert!(!json.to_string().contains("null"), "{json}");
    assert!(json.get("winner").is_none() && json.get("commit").is_none());
}

#[test]
fn wrong_numbers_of_attempts_and_names_are_refused_before_anything_is_forked() {
    let scene = scene();
    assert!(Explore::new(&scene.workspace, vec![]).is_err());
    assert!(Explore::new(&scene.workspace, vec![Program::shell("true"); 65]).is_err());
    let mismatched = scene.explore(&["true", "true"]).names(vec!["only-one".into()]);
    assert!(mismatched.run(&mut |_| {}).is_err());
    scene.nothing_is_left();
    assert!(Path::new(&scene.base).exists());
}
