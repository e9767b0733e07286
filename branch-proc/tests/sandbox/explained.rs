//! Denials in words, and what looking at a group does to it.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use branch_proc::{CaptureOptions, Command, DENIALS_MAX, Denial, Observe, PathPattern, Policy, Preset};

use crate::attempts::tell;
use crate::common::{PATIENCE, Seen, Witness, run, sh, stdout_of};
use crate::ground::Ground;
use crate::table::{expectations, silent};

fn policy(preset: Preset) -> Policy {
    Policy::preset(preset, None).unwrap()
}

fn denied(command: Command) -> Vec<Denial> {
    run(command).outcome.denials
}

/// An attempt that no policy denies: what is told with it, the test program itself has caused.
const HARMLESS: &str = "a pair of sockets";

/// What was denied, whichever process it was.
fn kinds(denials: &[Denial]) -> BTreeSet<(String, String)> {
    let without_numbers = |object: &str| object.chars().filter(|c| !c.is_ascii_digit()).collect();
    denials.iter().map(|denial| (denial.op.clone(), without_numbers(&denial.object))).collect()
}

#[test]
fn each_denial_is_explained_in_words_or_listed_with_the_reason_why_not() {
    let Some(ground) = Ground::new() else { return };
    let mut wrong = Vec::new();
    for (column, preset) in Preset::ALL.into_iter().enumerate() {
        let denials = |name| tell(ground.command().policy(ground.policy(preset)), name).outcome.denials;
        let apart = kinds(&denials(HARMLESS));
        for attempt in expectations().iter().filter(|attempt| !attempt.allowed[column]) {
            let denials = denials(attempt.name);
            let own = |denial: &&Denial| !kinds(std::slice::from_ref(denial)).is_subset(&apart);
            let said = denials.iter().filter(own).any(|denial| {
                let words = &denial.words;
                words.contains(&format!("denied by policy {preset}")) && words.contains(&denial.object)
            });
            if said == attempt.is_silent() {
                let listed = if said { "is told, but listed as silent" } else { "is not told" };
                wrong.push(format!("{preset}: {} {listed}: {denials:?}", attempt.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_listed_as_silent_is_an_attempt_that_some_preset_denies() {
    let attempts = expectations();
    for name in silent() {
        let attempt = attempts.iter().find(|attempt| attempt.name == name);
        assert!(attempt.is_some_and(|attempt| attempt.allowed.contains(&false)), "{name}");
    }
}

#[test]
fn what_is_allowed_is_no_denial() {
    let Some(ground) = Ground::new() else { return };
    let script = "cat file other > new; mkdir d; mv new d/n; ln -s d l; cat l/n; rm -r d; ls . /usr; \
                  mkdir -p dir; cat /nothing/here; echo x > /dev/null; echo y > /dev/stdout; : < /dev/fd/0; \
                  cat /proc/self/status; exit 0";
    assert_eq!(denied(ground.bound(sh(script)).policy(policy(Preset::Edit))), []);
}

#[test]
fn a_denial_names_the_program_and_counts() {
    let Some(ground) = Ground::new() else { return };
    let script = "for i in 1 2 3; do cat $OUTSIDE/file; done; exit 0";
    let command = ground.bound(sh(script)).env("OUTSIDE", ground.outside("")).policy(policy(Preset::Build));
    let denials = denied(command);
    let [denial] = denials.as_slice() else { panic!("{denials:?}") };
    assert_eq!((denial.op.as_str(), denial.count, denial.rule.as_str()), ("read", 3, "fs_read"));
    assert_eq!(denial.object, ground.outside("file").to_str().unwrap());
    let (program, pid) = denial.by.clone().unwrap();
    assert!(program.ends_with("/cat") || program.ends_with("/coreutils"), "{denial:?}");
    assert!(pid > 2);
}

#[test]
fn what_a_denial_advises_helps() {
    let Some(ground) = Ground::new() else { return };
    let script = "cat $OUTSIDE/file && echo x > $OUTSIDE/made && rm $OUTSIDE/made && touch $OUTSIDE/other";
    let command = || ground.bound(sh(script)).env("OUTSIDE", ground.outside(""));
    let mut policy = policy(Preset::Build);
    let mut rounds = 0;
    loop {
        let captured = run(command().policy(policy.clone()));
        if captured.outcome.success() {
            break;
        }
        let denial = &captured.outcome.denials[0];
        let (_, advice) = denial.words.rsplit_once("to allow it, add \"").unwrap();
        let (path, list) = advice.split_once("\" to ").unwrap();
        let pattern = PathPattern::new(path).unwrap();
        policy = match list {
            "fs_read" => policy.read(pattern),
            "fs_write" => policy.write(pattern),
            other => panic!("{other}: {}", denial.words),
        };
        rounds += 1;
        assert!(rounds < 10, "{:?}", captured.outcome.denials);
    }
    assert!(rounds > 1);
}

#[test]
fn denials_are_bounded_and_what_does_not_fit_is_counted() {
    let Some(ground) = Ground::new() else { return };
    let script = "i=0; while [ $i -lt 300 ]; do true > $OUTSIDE/n$i; i=$((i+1)); done; exit 0";
    let command = ground.bound(sh(script)).env("OUTSIDE", ground.outside("")).policy(policy(Preset::Build));
    let captured = run(command);
    assert_eq!(captured.outcome.denials.len(), DENIALS_MAX);
    assert_eq!(captured.outcome.denials_dropped, 300 - DENIALS_MAX as u64);
}

#[test]
fn where_nobody_looks_the_policy_holds_all_the_same() {
    let Some(ground) = Ground::new() else { return };
    let script = "cat $OUTSIDE/file 2>/dev/null || echo no; unshare -U true 2>/dev/null || echo no";
    let command = ground.bound(sh(script)).env("OUTSIDE", ground.outside(""));
    let captured = run(command.policy(policy(Preset::Build)).observe(Observe::Nothing));
    assert_eq!(captured.stdout.bytes, b"no\nno\n");
    assert_eq!(captured.outcome.denials, []);
}

#[test]
fn a_group_that_is_looked_at_is_killed_as_fast_as_any() {
    let Some(ground) = Ground::new() else { return };
    for round in 0..20 {
        let (mut witness, write) = Witness::new();
        let script = "for i in 1 2 3; do (while :; do cat file > /dev/null; done) & done; echo >&9; wait";
        let command = ground.bound(sh(script)).policy(policy(Preset::Build)).fd(write, 9);
        let mut group = command.spawn().unwrap();
        witness.wait_for(1);
        let before = Instant::now();
        group.kill().unwrap();
        assert!(before.elapsed() < Duration::from_secs(2), "round {round}: {:?}", before.elapsed());
        assert_eq!(witness.look(PATIENCE), Seen::AllGone);
    }
}

#[test]
fn many_threads_can_spawn_groups_that_are_looked_at() {
    let Some(ground) = Ground::new() else { return };
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let ground = &ground;
            scope.spawn(move || {
                for round in 0..5 {
                    let code = thread * 10 + round;
                    let command = ground.bound(sh(&format!("cat file > /dev/null; exit {code}")));
                    let captured = run(command.policy(policy(Preset::Edit)));
                    assert_eq!(captured.outcome.shell_code(), code);
                    assert_eq!(captured.outcome.denials, []);
                }
            });
        }
    });
}

#[test]
fn what_a_command_needed_is_learned_and_suffices() {
    let Some(ground) = Ground::new() else { return };
    let script = "cat $OUTSIDE/file > new && mkdir $OUTSIDE/made && echo x > $OUTSIDE/made/y && sh ./tool && ./tool \
                  && ls / > /dev/null";
    let command = || ground.bound(sh(script)).env("OUTSIDE", ground.outside(""));
    let captured = command()
        .observe(Observe::Everything)
        .capture(CaptureOptions { cap: 1 << 20, timeout: None })
        .unwrap();
    assert!(captured.outcome.success(), "{}", String::from_utf8_lossy(&captured.stderr.bytes));
    let env = ["PATH".into(), "OUTSIDE".into()];
    let learned = captured.tried.policy("learned", &[ground.base()], env).unwrap();
    let names: BTreeSet<String> = learned.fs_write.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        BTreeSet::from([ground.outside("").to_str().unwrap().trim_end_matches('/').to_owned()])
    );

    let text = toml::to_string(&learned).unwrap();
    let read: Policy = toml::from_str(&text).unwrap();
    assert_eq!(read, learned);

    fs::remove_dir_all(ground.outside("made")).unwrap();
    let again = run(command().policy(read));
    let errors = String::from_utf8_lossy(&again.stderr.bytes).into_owned();
    assert!(again.outcome.success(), "{errors}\n{text}\n{:?}", again.outcome.denials);
    let other = ground.bound(sh("cat /etc/shells")).policy(learned);
    assert!(!run(other).outcome.success());
    assert_eq!(stdout_of(ground.bound(sh("cat new"))), "something");
}
